# SPDX-License-Identifier: Apache-2.0
"""PCK certificates by platform: what a platform is registered with, what proves its certificates, and which one it is to get.

Names and forms are those of Intel's "Provisioning Certification Service API" and of its caching service (PCCS), which tells platforms
apart by the id of the quoting enclave. That id is in no certificate: what is proven is that the certificates are Intel's, and all
of one platform.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from operator import ge
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from eaa.endorser.authenticity import anchor_id
from eaa.endorser.needs import PCK_CERTIFICATES, Need
from eaa.rats import EndorsementError, InputError
from eaa.tee.dcap.tcb import match_level

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa.endorser.authenticity import Authenticator
    from eaa.tee.dcap.collateral import TcbInfo

__all__ = [
    "PckAnswer",
    "PckCertificate",
    "PckPlatform",
    "RawTcb",
    "prove_certificates",
    "read_entry",
    "read_pckcerts",
    "select_certificate",
]

_QE_ID: Final = re.compile(r"(?:[0-9a-f]{2}){1,130}")
_PCE_ID: Final = re.compile(r"[0-9a-f]{4}")
_RAW_TCB: Final = re.compile(r"[0-9a-f]{32}:[0-9a-f]{4}")
_ENCRYPTED_PPID: Final = re.compile(r"(?:[0-9a-f]{768})?")
_MANIFEST: Final = re.compile(r"(?:[0-9a-f]{2}){0,65536}")
_MAX_CERTIFICATES: Final = 256
_PEM: Final = b"-----BEGIN CERTIFICATE-----"
_NOT_AVAILABLE: Final = "Not available"
"""What Intel says in place of a certificate that it does not issue for a TCB level."""


class RawTcb(NamedTuple):
    """What a platform runs: CPUSVN (16 bytes), compared byte by byte with a certificate's components, and PCESVN."""

    cpu_svn: bytes
    pce_svn: int

    @classmethod
    def of(cls, cpu_svn: str, pce_svn: str) -> RawTcb:
        """Read the two from hex, PCESVN being little-endian as in Intel's API.

        :raises InputError: when they are not 16 and 2 bytes.
        """
        if not _RAW_TCB.fullmatch(f"{cpu_svn}:{pce_svn}".lower()):
            raise InputError("a raw TCB is a CPUSVN of 16 bytes and a PCESVN of 2 in hex")
        return cls(bytes.fromhex(cpu_svn), int.from_bytes(bytes.fromhex(pce_svn), "little"))

    @property
    def pce_svn_hex(self) -> str:
        """PCESVN as Intel's API has it."""
        return self.pce_svn.to_bytes(2, "little").hex()


@dataclass(frozen=True, slots=True)
class PckPlatform:
    """A platform whose PCK certificates are kept: ids in lower-case hex, and what Intel asks for before it hands certificates out.

    That is the encrypted PPID, or for platforms of several packages the manifest. The raw TCB is what a PCCS upstream needs. ``root``
    is the id of the root of whoever made the platform.
    """

    root: str
    qe_id: str
    pce_id: str
    encrypted_ppid: str = field(default="", repr=False)
    manifest: str = field(default="", repr=False)
    raw_tcb: RawTcb | None = None

    @classmethod
    def from_json(cls, value: object, root: str) -> PckPlatform:
        """Read a platform as PCK ID Retrieval Tool posts it and platform lists have it.

        :raises InputError: naming the member that cannot be used.
        """
        if not isinstance(value, dict):
            raise InputError("a platform is a JSON object", hint="Give qe_id, pce_id and enc_ppid in hex.")
        texts = {}
        for name, pattern in (
            ("qe_id", _QE_ID),
            ("pce_id", _PCE_ID),
            ("enc_ppid", _ENCRYPTED_PPID),
            ("platform_manifest", _MANIFEST),
        ):
            text = value.get(name) or ""
            if not isinstance(text, str) or not pattern.fullmatch(text.lower()):
                raise InputError(
                    f"a platform's {name} is hex of another length", hint="Register it as the tool does."
                )
            texts[name] = text.lower()
        svns = [value.get(name) or "" for name in ("cpu_svn", "pce_svn")]
        if not all(isinstance(each, str) for each in svns):
            raise InputError("a platform's cpu_svn and pce_svn are hex")
        raw_tcb = RawTcb.of(*svns) if any(svns) else None
        return cls(
            root, texts["qe_id"], texts["pce_id"], texts["enc_ppid"], texts["platform_manifest"], raw_tcb
        )

    def to_json(self) -> dict[str, str]:
        """Return it in the same form."""
        raw = self.raw_tcb
        return {
            "qe_id": self.qe_id,
            "pce_id": self.pce_id,
            "cpu_svn": raw.cpu_svn.hex() if raw else "",
            "pce_svn": raw.pce_svn_hex if raw else "",
            "enc_ppid": self.encrypted_ppid,
            "platform_manifest": self.manifest,
        }

    @property
    def need(self) -> Need:
        """What keeping its certificates is called."""
        return Need(PCK_CERTIFICATES, self.root, f"{self.qe_id}/{self.pce_id}")


class PckAnswer(NamedTuple):
    """What a service has answered, unproven: certificates in PEM, their chain, and what it says beside them (empty: nothing).

    Each certificate comes with the TCBm that the service states.
    """

    certificates: tuple[tuple[str, bytes], ...]
    issuer_chain: bytes
    fmspc: str = ""
    ca: str = ""


@dataclass(frozen=True, slots=True)
class PckCertificate:
    """A proven PCK certificate. ``tcbm`` is its CPUSVN and PCESVN in hex as Intel's header has them; ``ca`` names its CRL."""

    certificate: bytes
    issuer_chain: bytes
    root: str
    ppid: str = field(repr=False)
    fmspc: str
    ca: str
    tcbm: str
    components: bytes
    pce_svn: int
    issued: datetime
    next_update: datetime

    @property
    def platform(self) -> tuple[str, str, str, str]:
        """What all certificates of one platform have in common."""
        return self.root, self.ppid, self.fmspc, self.ca


def prove_certificates(
    answer: PckAnswer, authenticator: Authenticator, platform: PckPlatform, held: PckCertificate | None = None
) -> tuple[PckCertificate, ...]:
    """Prove that an answer's certificates are Intel's, of one platform, fit for ``platform``, and what the answer says they are.

    :param held: a certificate of the platform that was proven before, if there is one.
    :raises EndorsementError: when one of them is not; one bad certificate spoils the answer.
    """
    if not 0 < len(answer.certificates) <= _MAX_CERTIFICATES:
        raise EndorsementError(
            f"{len(answer.certificates)} PCK certificates, expected 1 to {_MAX_CERTIFICATES}"
        )
    proven = []
    for tcbm, pem in answer.certificates:
        identity = authenticator.pck_identity(pem.rstrip() + b"\n" + answer.issuer_chain)
        extension, window = identity.extension, identity.chain.window
        root, pce_id = anchor_id(identity.chain.anchor), extension.pce_id.hex()
        if (root, pce_id) != (platform.root, platform.pce_id):
            raise EndorsementError(
                f"a PCK certificate below root {root} for PCE {pce_id},"
                f" where root {platform.root} and PCE {platform.pce_id} are due"
            )
        found = PckCertificate(
            certificate=pem,
            issuer_chain=answer.issuer_chain,
            root=root,
            ppid=extension.ppid.hex(),
            fmspc=extension.fmspc.hex(),
            ca=identity.ca,
            tcbm=(extension.cpu_svn + extension.pce_svn.to_bytes(2, "little")).hex(),
            components=bytes(extension.tcb_components),
            pce_svn=extension.pce_svn,
            issued=window.start,
            next_update=window.end,
        )
        _require_agreement(found, tcbm.lower(), answer)
        proven.append(found)
    if len({each.platform for each in (*proven, *([held] if held else []))}) != 1:
        raise EndorsementError(
            "the PCK certificates are of several platforms, or of another one than before",
            hint="Ask another source; if the machine's processor was replaced, register it under its new QE id.",
        )
    return tuple(proven)


def _require_agreement(found: PckCertificate, tcbm: str, answer: PckAnswer) -> None:
    """Refuse what is authentic and yet not what the service says it is."""
    for what, said, certified in (
        ("TCBm", tcbm, found.tcbm),
        ("FMSPC", answer.fmspc.lower(), found.fmspc),
        ("CA", answer.ca.lower(), found.ca),
    ):
        if said and said != certified:
            raise EndorsementError(f"the answer says {what} {said[:36]}, its PCK certificate {certified}")


def read_pckcerts(body: bytes) -> tuple[tuple[str, bytes], ...]:
    """Read the body of ``pckcerts``: TCBm and PEM of each certificate that there is. Nothing is verified here.

    :raises EndorsementError: when it is malformed.
    """
    try:
        entries = json.loads(body)
        return tuple(entry for each in entries if (entry := read_entry(each)) is not None)
    except EndorsementError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EndorsementError(f"no list of PCK certificates: {type(error).__name__}") from error


def read_entry(entry: Any) -> tuple[str, bytes] | None:
    """Read one member of such a list, of which PCS Client Tool's file has more; None when Intel issues none for this level.

    :raises EndorsementError: when the certificate is none.
    """
    if entry["cert"] == _NOT_AVAILABLE:
        return None
    pem = unquote_to_bytes(entry["cert"])
    if not pem.startswith(_PEM) or pem.count(_PEM) != 1:
        raise EndorsementError("a PCK certificate is one certificate in PEM")
    return str(entry["tcbm"]), pem


def select_certificate(
    certificates: Iterable[PckCertificate], raw: RawTcb, info: TcbInfo | None
) -> PckCertificate | None:
    """Return the highest certificate whose TCB the platform reaches in every component, or None.

    Highest is by the levels of Intel's TCB info where it is at hand, and within a level by the components.
    """
    reached = (
        each
        for each in certificates
        if all(map(ge, raw.cpu_svn, each.components)) and raw.pce_svn >= each.pce_svn
    )
    return max(reached, key=lambda each: (-_depth(each, info), each.components, each.pce_svn), default=None)


def _depth(certificate: PckCertificate, info: TcbInfo | None) -> int:
    """Return how many levels lie above that of the certificate."""
    if info is None:
        return 0
    level = match_level(info.levels, certificate.components, certificate.pce_svn)
    return len(info.levels) if level is None else info.levels.index(level)
