# SPDX-License-Identifier: Apache-2.0
"""Collateral as people keep it: one JSON document, or a folder of responses of Intel's PCS.

The JSON document is the one form that libraries and services around DCAP exchange: the fields of Intel's
``sgx_ql_qve_collateral_t`` by name, CRLs in hex. In a folder each file is recognised by its content; the names only break ties.
Signed JSON text is kept byte for byte. Nothing is verified here, and no file is opened.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from eaa.rats import Endorsement, EndorsementError, Endorsements
from eaa.tee.dcap.collateral import TCB_SIGNING
from eaa.tee.dcap.ecdsa import verifies
from eaa.tee.dcap.pck import PLATFORM_CA, PROCESSOR_CA
from eaa.tee.dcap.signed_json import SignedObject, members_of, read_signed_object
from eaa.tee.x509 import Certificate, read_certificates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MAX_FILE",
    "crl_from_bytes",
    "endorsements_from_files",
    "endorsements_from_json",
    "endorsements_to_files",
    "endorsements_to_json",
    "issuer_chain_from_bytes",
    "statement_from_pcs",
]

MAX_FILE: Final = 4 * 1024 * 1024
"""Largest file that is read, in bytes; Intel's largest CRL has under 100 KiB."""

_KINDS: Final = ("tcb_info", "qe_identity", "pck_crl", "root_ca_crl")
_MEMBERS: Final = {"tcbInfo": "tcb_info", "enclaveIdentity": "qe_identity", "qeIdentity": "qe_identity"}
"""The member of a PCS response that is signed, and the kind of endorsement it makes."""
_MEMBER_OF: Final = {"tcb_info": "tcbInfo", "qe_identity": "enclaveIdentity"}
_FIELDS: Final = frozenset(f"{kind}{part}" for kind in _KINDS for part in ("", "_signature", "_issuer_chain"))

_PEM_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_PEM_CERTIFICATE_ESCAPED: Final = b"-----BEGIN%20CERTIFICATE-----"
_PEM_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]*)-----END X509 CRL-----")
_HEX: Final = re.compile(rb"[0-9A-Fa-f\s]+")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=\s]+")
_DER_SEQUENCE: Final = 0x30


def endorsements_from_json(text: bytes, name: str = "collateral") -> Endorsements:
    """Read the one JSON document: ``tcb_info`` (the signed text), ``tcb_info_signature`` (hex), ``tcb_info_issuer_chain`` (PEM),
    the same three of ``qe_identity``, ``pck_crl`` and ``root_ca_crl`` (DER in hex), ``pck_crl_issuer_chain`` (PEM).

    What is absent, null or empty is not there; other members are passed over. ``name`` is what errors call the document.

    :raises EndorsementError: when it is malformed, has a name twice, or holds no collateral.
    """  # noqa: D205 - the fields are one list
    with _Naming(name):
        return Endorsements(tuple(_from_common(members_of(text))))


def statement_from_pcs(body: bytes, issuer_chain: bytes = b"") -> Endorsement:
    """Read the body of a PCS response: ``{"tcbInfo": …, "signature": …}`` or ``{"enclaveIdentity": …, "signature": …}``.

    :raises EndorsementError: on anything else.
    """
    found = set(members_of(body)) & set(_MEMBERS)
    if len(found) != 1:
        raise EndorsementError(f"one of {sorted(_MEMBERS)} is expected, {sorted(found)} found")
    member = found.pop()
    signed = read_signed_object(body, member)
    return Endorsement(_MEMBERS[member], _body(member, signed.text, signed.signature.hex()), issuer_chain)


def crl_from_bytes(data: bytes) -> bytes:
    """Return the DER of a CRL that is given as DER, PEM, hex or base64.

    :raises EndorsementError: when it is none of these, or not a CRL.
    """
    return _read_crl(data)[0]


def issuer_chain_from_bytes(data: bytes) -> bytes:
    """Return a PEM chain in its plain form; it may be URL-encoded, as in the headers of PCS.

    :raises EndorsementError: when it is not one to four certificates.
    """
    return _read_chain(data).pem


def endorsements_to_json(endorsements: Endorsements) -> dict[str, str]:
    """Return one set as the one JSON document; what is missing in the set is missing in the document.

    :raises EndorsementError: when the set has two of a kind, or an item that has no place in the document.
    """
    fields: dict[str, str] = {}
    for item in endorsements.items:
        if item.kind not in _KINDS or item.kind in fields:
            raise EndorsementError(
                f"a collateral document has one each of {', '.join(_KINDS)}; there is another {item.kind!r}",
                hint="Pick the endorsements of one platform first.",
            )
        if item.kind in _MEMBER_OF:
            signed = _signed(item)
            fields[item.kind] = signed.text.decode()
            fields[f"{item.kind}_signature"] = signed.signature.hex()
        else:
            fields[item.kind] = item.content.hex()
        if item.issuer_chain:
            fields[f"{item.kind}_issuer_chain"] = item.issuer_chain.decode("ascii")
    return fields


def endorsements_to_files(endorsements: Endorsements) -> dict[str, bytes]:
    """Return a set as the files of a folder that :func:`endorsements_from_files` reads back: name → content."""
    files: dict[str, bytes] = {}
    for kind in _KINDS:
        for count, item in enumerate(endorsements.of_kind(kind)):
            stem = kind if count == 0 else f"{kind}-{count + 1}"
            files[f"{stem}.json" if kind in _MEMBER_OF else f"{stem}.der"] = item.content
            if item.issuer_chain:
                files[f"{stem}_issuer_chain.pem"] = item.issuer_chain
    return files


def endorsements_from_files(files: Mapping[str, bytes], *, ignored: list[str] | None = None) -> Endorsements:
    """Read a folder, given as name → content: bodies of PCS responses, CRLs (DER, PEM, hex, base64), PEM issuer chains, and
    documents as :func:`endorsements_from_json` reads them.

    A chain goes to what it can certify: a TCB signing certificate's to the statements it signed, a PCK CA's to that CA's CRL.
    Files that are no collateral are passed over; their names are appended to ``ignored``.

    :raises EndorsementError: naming the file, when collateral is malformed; or when there is none at all.
    """  # noqa: D205 - the forms are one list
    folder = _Folder()
    for name in sorted(files):
        with _Naming(name):
            if not folder.add(name, files[name]) and ignored is not None:
                ignored.append(name)
    return folder.assemble()


@dataclass(frozen=True, slots=True)
class _Chain:
    """A PEM chain in its plain form, and its first certificate."""

    pem: bytes
    leaf: Certificate


class _Folder:
    """Collects the files of a folder; chains find their objects only when all are there."""

    def __init__(self) -> None:
        self._complete: list[Endorsement] = []
        self._statements: list[tuple[str, Endorsement]] = []
        self._crls: list[tuple[str, bytes, x509.CertificateRevocationList]] = []
        self._chains: dict[str, _Chain] = {}

    def add(self, name: str, data: bytes) -> bool:
        """Take one file in; return whether it is collateral.

        :raises EndorsementError: when it is collateral, but malformed.
        """
        if len(data) > MAX_FILE:
            raise EndorsementError(f"{len(data)} bytes, at most {MAX_FILE} are read")
        start = data.lstrip()
        if start.startswith(b"{"):
            return self._add_json(name, data)
        if start.startswith((_PEM_CERTIFICATE, _PEM_CERTIFICATE_ESCAPED)):
            self._chains[name] = _read_chain(data)
            return True
        return self._add_crl(name, data)

    def _add_json(self, name: str, data: bytes) -> bool:
        try:
            members = members_of(data)
        except EndorsementError:
            if name.lower().endswith(".json"):
                raise
            return False
        if members.keys() & _MEMBERS.keys():
            self._statements.append((name, statement_from_pcs(data)))
            return True
        if not members.keys() & set(_KINDS):
            return False
        self._complete.extend(_from_common(members))
        return True

    def _add_crl(self, name: str, data: bytes) -> bool:
        try:
            der, crl = _read_crl(data)
        except EndorsementError:
            if "crl" in name.lower() and not name.lower().endswith(".pem"):
                raise
            if _PEM_CRL.search(data):
                raise
            return False
        if _crl_kind(crl) is None:
            return False
        self._crls.append((name, der, crl))
        return True

    def assemble(self) -> Endorsements:
        items = [
            Endorsement(each.kind, each.content, self._signer(name, each)) for name, each in self._statements
        ]
        for name, der, crl in self._crls:
            kind = _crl_kind(crl)
            assert kind is not None
            chain = self._issuer(name, crl) if kind == "pck_crl" else b""
            items.append(Endorsement(kind, der, chain))
        items = [*self._complete, *items]
        if not items:
            raise EndorsementError(
                "no collateral is among the files",
                hint="Give a collateral document, or a folder with responses of Intel's PCS.",
            )
        items.sort(key=lambda each: _KINDS.index(each.kind))
        return Endorsements.merged([Endorsements(tuple(items))])

    def _signer(self, name: str, statement: Endorsement) -> bytes:
        signed = _signed(statement)
        issued = _issue_date(signed.value)

        def fitness(candidate: tuple[str, _Chain]) -> tuple[bool, bool, bool]:
            chain_name, chain = candidate
            key = chain.leaf.public_key
            return (
                isinstance(key, ec.EllipticCurvePublicKey) and verifies(key, signed.signature, signed.text),
                issued is not None and chain.leaf.window.holds(issued),
                _same_stem(name, chain_name),
            )

        return _best((each for each in self._chains.items() if each[1].leaf.name == TCB_SIGNING), fitness)

    def _issuer(self, name: str, crl: x509.CertificateRevocationList) -> bytes:
        def fitness(candidate: tuple[str, _Chain]) -> tuple[bool, bool]:
            chain_name, chain = candidate
            return crl.is_signature_valid(chain.leaf.public_key), _same_stem(name, chain_name)

        return _best(
            (each for each in self._chains.items() if each[1].leaf.x509.subject == crl.issuer), fitness
        )


def _best(candidates: Iterable[tuple[str, _Chain]], fitness: Any) -> bytes:
    """Return the PEM of the fittest chain, the first of equals, or nothing."""
    best = max(candidates, key=fitness, default=None)
    return best[1].pem if best is not None else b""


def _same_stem(name: str, chain_name: str) -> bool:
    return chain_name.startswith(name.rpartition(".")[0])


def _from_common(members: Mapping[str, tuple[Any, bytes]]) -> list[Endorsement]:
    fields: dict[str, str] = {}
    for name, (value, _) in members.items():
        if name not in _FIELDS or value is None or value == "":
            continue
        if not isinstance(value, str):
            raise EndorsementError(f"{name} is a {type(value).__name__}, expected a string")
        fields[name] = value
    items = []
    for kind in _KINDS:
        if kind not in fields:
            continue
        try:
            chain_text = fields.get(f"{kind}_issuer_chain", "").encode("ascii")
            content_text = fields[kind].encode()
        except UnicodeEncodeError as error:
            raise EndorsementError(f"{kind} has characters that cannot be in it") from error
        chain = _read_chain(chain_text).pem if chain_text else b""
        if kind not in _MEMBER_OF:
            items.append(Endorsement(kind, crl_from_bytes(content_text), chain))
            continue
        signature = fields.get(f"{kind}_signature")
        if signature is None:
            raise EndorsementError(f"{kind} is there without {kind}_signature")
        member = _MEMBER_OF[kind]
        body = _body(member, content_text, json.dumps(signature)[1:-1])
        signed = read_signed_object(body, member)
        if signed.text != content_text.strip(b" \t\r\n"):
            raise EndorsementError(f"{kind} is more than one JSON object")
        members_of(signed.text)  # refused here already, while a name can be put to it
        items.append(Endorsement(kind, _body(member, signed.text, signed.signature.hex()), chain))
    if not items:
        raise EndorsementError(
            "no collateral is in it",
            hint=f"A collateral document has members such as {', '.join(_KINDS)}.",
        )
    return items


def _body(member: str, text: bytes, signature: str) -> bytes:
    """Return the body of a PCS response, in the one form in which it is kept."""
    return b'{"%s":%s,"signature":"%s"}' % (member.encode(), text, signature.encode())


def _signed(item: Endorsement) -> SignedObject:
    names = [member for member, kind in _MEMBERS.items() if kind == item.kind]
    return read_signed_object(item.content, *names)


def _read_chain(data: bytes) -> _Chain:
    if data.lstrip().startswith(_PEM_CERTIFICATE_ESCAPED):
        data = unquote_to_bytes(data)
    certificates = _leaf_first(read_certificates(data))
    pem = b"".join(each.x509.public_bytes(Encoding.PEM) for each in certificates)
    return _Chain(pem, certificates[0])


def _leaf_first(certificates: list[Certificate]) -> list[Certificate]:
    """Turn a chain around that was kept root first, as Intel's own samples are."""
    upside_down = certificates[0].self_issued and not certificates[-1].self_issued
    return certificates[::-1] if upside_down else certificates


def _read_crl(data: bytes) -> tuple[bytes, x509.CertificateRevocationList]:
    if len(data) > MAX_FILE:
        raise EndorsementError(f"a CRL of {len(data)} bytes, at most {MAX_FILE} are read")
    der = _undress(data)
    if not der or der[0] != _DER_SEQUENCE:
        raise EndorsementError("not a CRL in DER, PEM, hex or base64")
    try:
        crl = x509.load_der_x509_crl(der)
        _ = crl.issuer, crl.last_update_utc, crl.next_update_utc, crl.signature, crl.extensions
    except Exception as error:  # pyca documents no complete list for hostile CRLs
        raise EndorsementError(f"the CRL cannot be read: {type(error).__name__}") from error
    return der, crl


def _undress(data: bytes) -> bytes:
    """Take PEM, hex or base64 off, whichever it is."""
    pem = _PEM_CRL.search(data)
    text = pem.group(1) if pem else data
    try:
        if _HEX.fullmatch(text) and not pem:
            return bytes.fromhex(text.decode("ascii"))
        if _BASE64.fullmatch(text):
            return base64.b64decode(b"".join(text.split()), validate=True)
    except (ValueError, binascii.Error):
        return b""
    return data


def _crl_kind(crl: x509.CertificateRevocationList) -> str | None:
    names = crl.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    name = str(names[0].value) if names else ""
    if name in {PLATFORM_CA, PROCESSOR_CA}:
        return "pck_crl"
    return "root_ca_crl" if "Root CA" in name else None


def _issue_date(value: Mapping[str, Any]) -> datetime | None:
    try:
        issued = datetime.fromisoformat(value["issueDate"])
    except (KeyError, TypeError, ValueError):
        return None
    return issued if issued.tzinfo is not None else None


class _Naming:
    """Puts a file's name before what is wrong in it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EndorsementError):
            hint = error.hint or "Get the file again from where it is published."
            raise EndorsementError(f"{self._name}: {error}", hint=hint) from error
