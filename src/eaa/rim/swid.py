# SPDX-License-Identifier: Apache-2.0
"""TCG's Reference Integrity Manifest in a SWID tag (XML), as NVIDIA publishes for its GPUs, and the signature under it.

Names are Trustee's: ``<manufacturer>.<edition>.measurement_<index>``. A manifest counts when its XML signature was made by a certificate that
was asked for; one without a signature only for who says so.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError
from eaa.rim.errors import ManifestError, ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.x509 import Certificate

__all__ = ["MAX_RIM", "rim_values", "verify_rim"]

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
_SIGNATURE: Final = "{http://www.w3.org/2000/09/xmldsig#}Signature"
_METHODS: Final = (
    "ECDSA_SHA256", "ECDSA_SHA384", "ECDSA_SHA512", "RSA_SHA256", "RSA_SHA384", "RSA_SHA512",
    "SHA256_RSA_MGF1", "SHA384_RSA_MGF1", "SHA512_RSA_MGF1",
)  # fmt: skip
_MAX_MEASUREMENTS: Final = 4096
_INDEX: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
_HASH: Final = re.compile(r"Hash([0-9]{1,4})", re.ASCII)


def verify_rim(data: bytes, signers: Iterable[Certificate]) -> bytes:
    """Return what of the manifest was signed, once one of the certificates is found to have signed it.

    Only these bytes may be read on: whatever else stood in the document, nobody has signed.

    :raises ManifestError: when it is no XML that is read here.
    :raises ManifestRefused: when it is unsigned, or signed by none of them or badly.
    """
    signxml, etree = _library("signxml"), _library("lxml.etree")
    root = _parse(data)
    if root.find(_SIGNATURE) is None:
        raise ManifestRefused(
            "the manifest has no signature of its own",
            check="manifest.unsigned",
            hint="Take the manifest from its maker; --allow-unsigned takes it as it is.",
        )
    expected = signxml.SignatureConfiguration(
        signature_methods=frozenset(signxml.SignatureMethod[name] for name in _METHODS)
    )
    for certificate in signers:
        try:
            verified = signxml.XMLVerifier().verify(root, x509_cert=certificate, expect_config=expected)
            signed = verified.signed_xml
        except (signxml.exceptions.SignXMLException, ValueError, TypeError):
            continue
        if signed is not None and signed.tag == root.tag:
            return bytes(etree.tostring(signed))
    raise ManifestRefused(
        "no certificate that is trusted for it signed the manifest as it is",
        check="manifest.signature",
        hint="Give the certificate of its maker's signing key with --certificate.",
    )


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
