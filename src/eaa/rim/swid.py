# SPDX-License-Identifier: Apache-2.0
"""TCG's Reference Integrity Manifest in a SWID tag (XML), as NVIDIA publishes for its GPUs, and the signature under it.

Names are Trustee's: ``<manufacturer>.<edition>.measurement_<index>``. A manifest counts when its XML signature was made by a certificate that
leads up to a root that was asked for; one without a signature only for who says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError, EndorsementError
from eaa.rim.errors import ManifestError, ManifestRefused
from eaa.tee.x509 import ChainReader

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from eaa.rats import TrustAnchor

__all__ = ["MAX_RIM", "RimTrust", "rim_values", "verify_rim"]

MAX_RIM: Final = 4 << 20
_SWID: Final = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
_RIM: Final = (
    "{https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/}"
)
_HASHES: Final = {
    "{http://www.w3.org/2001/04/xmlenc#sha256}": 64,
    "{http://www.w3.org/2001/04/xmlenc#sha384}": 96,
    "{http://www.w3.org/2001/04/xmldsig-more#sha384}": 96,
    "{http://www.w3.org/2001/04/xmlenc#sha512}": 128,
}
"""Namespace of a hash's attributes, and the hex digits that it has."""
_DSIG: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_METHODS: Final = (
    "ECDSA_SHA256", "ECDSA_SHA384", "ECDSA_SHA512", "RSA_SHA256", "RSA_SHA384", "RSA_SHA512",
    "SHA256_RSA_MGF1", "SHA384_RSA_MGF1", "SHA512_RSA_MGF1",
)  # fmt: skip
_MAX_MEASUREMENTS: Final = 4096
_INDEX: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
_HASH: Final = re.compile(r"Hash([0-9]{1,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class RimTrust:
    """Whose manifests are believed: roots of the makers' certificates, and the time to judge the certificates at."""

    anchors: tuple[TrustAnchor, ...]
    at: datetime


def verify_rim(data: bytes, trust: RimTrust) -> bytes:
    """Return what of the manifest was signed, once a certificate that leads up to one of the roots is found to have signed it.

    Only these bytes may be read on: whatever else stood in the document, nobody has signed.

    :raises ManifestError: when it is no XML that is read here.
    :raises ManifestRefused: when it is unsigned, or signed by nobody who is trusted for it, or badly.
    """
    signxml, etree = _library("signxml"), _library("lxml.etree")
    root = _parse(data)
    signature = root.find(f"{_DSIG}Signature")
    if signature is None:
        raise ManifestRefused(
            "the manifest has no signature of its own",
            check="manifest.unsigned",
            hint="Take the manifest from its maker; --allow-unsigned takes it as it is.",
        )
    signer = _signer(signature, trust)
    expected = signxml.SignatureConfiguration(
        signature_methods=frozenset(signxml.SignatureMethod[name] for name in _METHODS),
        verification_time=trust.at,
    )
    try:
        signed = signxml.XMLVerifier().verify(root, x509_cert=signer, expect_config=expected).signed_xml
    except (signxml.exceptions.SignXMLException, ValueError, TypeError, KeyError, AttributeError):
        signed = None
    if signed is None or signed.tag != root.tag:
        raise ManifestRefused(
            "the manifest's signature does not hold: it, or the manifest, was changed",
            check="manifest.signature",
            hint="Take the manifest again from its maker.",
        )
    return bytes(etree.tostring(signed))


def _signer(signature: Any, trust: RimTrust) -> x509.Certificate:
    """Return the certificate of who claims to have signed, proven up to a root and valid at the time."""
    listed = [each.text or "" for each in signature.iter(f"{_DSIG}X509Certificate")]
    pem = "".join(f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n" for text in listed)
    try:
        chain = ChainReader(trust.anchors, size=len(listed)).read(pem.encode())
    except EndorsementError as error:
        raise ManifestRefused(
            f"the manifest's certificates lead to no root that is trusted for it: {error}",
            check="manifest.chain",
            hint="Give the root certificate of its maker with --certificate.",
        ) from error
    if not chain.window.holds(trust.at):
        raise ManifestRefused(
            f"the manifest's certificates are not valid at this time ({chain.window})",
            check="manifest.expired",
            hint="Take a newer manifest, or judge this one as of a time when it was signed, with --at.",
        )
    return chain.leaf.x509


def rim_values(data: bytes) -> dict[str, list[str]]:
    """Return the measurements that a manifest lists, by name; those of zeros stand for none, and are left out.

    Signatures are not looked at: give it what :func:`verify_rim` returns.

    :raises ManifestError: when it is no manifest of this kind.
    """
    root = _parse(data)
    meta = root.find(f"{_SWID}Meta")
    payload = root.find(f"{_SWID}Payload")
    if root.tag != f"{_SWID}SoftwareIdentity" or meta is None or payload is None:
        raise ManifestError("this is no SWID tag with Meta and Payload", hint="Give the RIM itself, in XML.")
    manufacturer, edition = meta.get(f"{_RIM}PlatformManufacturerStr"), meta.get("edition")
    if not manufacturer or not edition or len(manufacturer) + len(edition) > 200:
        raise ManifestError("the RIM names no manufacturer or no edition")
    prefix = f"{manufacturer.replace(' ', '_')}.{edition}"
    values: dict[str, list[str]] = {}
    for resource in payload.iter(f"{_SWID}Resource"):
        if resource.get("type") != "Measurement":
            continue
        name = f"{prefix}.measurement_{_index(resource)}".replace("-", "_")
        if name in values or len(values) >= _MAX_MEASUREMENTS:
            raise ManifestError(
                f"the RIM has {name[:200]!r} twice, or more than {_MAX_MEASUREMENTS} measurements"
            )
        values[name] = _hashes(resource)
    found = {name: hashes for name, hashes in values.items() if hashes}
    if not found:
        raise ManifestError("the RIM has no measurement")
    return found


def _index(resource: Any) -> str:
    index = resource.get("index")
    if index is None or not _INDEX.fullmatch(index):
        raise ManifestError("a measurement of the RIM has no index")
    return str(index)


def _hashes(resource: Any) -> list[str]:
    """Return the hashes of one measurement, in the order of their numbers."""
    found: dict[int, str] = {}
    for attribute, value in resource.attrib.items():
        namespace, closed, local = str(attribute).rpartition("}")
        match = _HASH.fullmatch(local) if closed else None
        if match is None:
            continue
        digits, text = _HASHES.get(namespace + closed), str(value).lower()
        if digits is None or not re.fullmatch(rf"[0-9a-f]{{{digits}}}", text, re.ASCII):
            raise ManifestError("a measurement of the RIM has a hash that is none")
        if text.strip("0"):
            found[int(match[1])] = text
    return list(dict.fromkeys(found[number] for number in sorted(found)))


def _parse(data: bytes) -> Any:
    """Parse XML without entities, document types, networks or the limits off."""
    if len(data) > MAX_RIM:
        raise ManifestError(f"XML of {len(data)} bytes, at most {MAX_RIM} are read")
    etree = _library("lxml.etree")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=False
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError, LookupError):  # an encoding that is not known is a LookupError
        raise ManifestError("this is no XML that is read here", hint="Give the RIM itself, in XML.") from None
    if root.getroottree().docinfo.doctype or root.getroottree().docinfo.internalDTD is not None:
        raise ManifestError("XML with a document type is not read", hint="A RIM has none.")
    return root


def _library(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise ConfigurationError(
            "signxml is not installed, which reads manifests in XML",
            hint="Install it with: pip install 'eaa[rim]'",
        ) from None
