# SPDX-License-Identifier: Apache-2.0
"""Which endorsements a piece of evidence needs, read from it without proof."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from eaa.endorser.authenticity import PCK_CAS, TCB_EVALUATION_NUMBERS, key_id
from eaa.endorser.history import EARLY, STANDARD, VLEK
from eaa.rats import EndorsementError
from eaa.tee.azure.evidence import AzureEvidence
from eaa.tee.dcap.pck import read_pck_extension
from eaa.tee.snp.evidence import SnpEvidence
from eaa.tee.snp.product import Product, Tcb
from eaa.tee.x509 import read_certificates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eaa.rats import Evidence

__all__ = [
    "FMSPCS",
    "PCK_CERTIFICATES",
    "QE_OF",
    "Chip",
    "Need",
    "Platform",
    "chip_of",
    "hardware_of",
    "needs_of_chip",
    "needs_of_platform",
    "pck_chain",
    "platform_of",
]

QE_OF: Final = {"sgx": "QE", "tdx": "TD_QE"}
_PCK_CHAIN: Final = 5  # Intel's certification data type: PCK certificate chain in PEM
PCK_CERTIFICATES: Final = "pck_certificates"
"""All PCK certificates of one registered platform; the scope is the ids of its quoting and provisioning enclaves."""
FMSPCS: Final = "fmspcs"
"""Intel's list of the families of platforms that it knows. It is not signed."""
_VCEK, _VLEK = 0, 1  # who signed the report
_BEFORE_TURIN: Final = (Product.MILAN, Product.GENOA)


class Need(NamedTuple):
    """One object that is to be at hand: kind, root and scope as in :class:`~eaa.endorser.authenticity.Subject`, and its slot."""

    kind: str
    root: str
    scope: str
    slot: str = STANDARD

    @property
    def key(self) -> str:
        """The key of the subject."""
        return "/".join(part for part in (self.kind, self.root, self.scope) if part)

    @property
    def name(self) -> str:
        """The key, and the slot unless it is the standard one: what tells needs apart."""
        return self.key if self.slot == STANDARD else f"{self.key}?{self.slot}"

    @classmethod
    def of_key(cls, key: str, slot: str = STANDARD) -> Need:
        """Return the need for the subject with this key."""
        kind, _, rest = key.partition("/")
        root, _, scope = rest.partition("/")
        return cls(kind, root, scope, slot)


class Platform(NamedTuple):
    """What decides which collateral a quote needs: the root's key id, FMSPC in hex, and ``platform`` or ``processor``."""

    root: str
    fmspc: str
    ca: str


class Chip(NamedTuple):
    """What decides which certificates an SNP report needs: the product lines that it may be of, who signed, the reported TCB."""

    products: tuple[Product, ...]
    key: int
    chip_id: bytes
    tcb: bytes


def needs_of_platform(tee: str, platform: Platform) -> tuple[Need, ...]:
    """Return what is needed to verify quotes of ``tee`` (``sgx``, ``tdx``), and behind it what forecast and doctor need."""
    root = platform.root
    verify = (
        Need("tcb_info", root, f"{tee}/{platform.fmspc}"),
        Need("qe_identity", root, QE_OF[tee]),
        Need("pck_crl", root, platform.ca),
        Need("root_ca_crl", root, ""),
    )
    return (
        *verify,
        *(each._replace(slot=EARLY) for each in verify[:2]),
        Need(TCB_EVALUATION_NUMBERS, root, tee),
        Need(FMSPCS, root, ""),
    )


def hardware_of(evidence: Evidence) -> Evidence:
    """Return the part of the evidence that a chip maker vouches for: all of it, but of Azure's the report below the vTPM."""
    return evidence.hardware if isinstance(evidence, AzureEvidence) else evidence


def platform_of(evidence: Evidence) -> Platform | None:
    """Return the platform that a DCAP quote says it is from, or None."""
    chain = pck_chain(evidence)
    return _platform(chain) if chain else None


def chip_of(evidence: Evidence) -> Chip | None:
    """Return the chip that an SNP report says it is from, or None for other evidence and for reports that no key signed."""
    if not isinstance(evidence, SnpEvidence) or evidence.report.signing_key not in {_VCEK, _VLEK}:
        return None
    report = evidence.report
    products = (report.product,) if report.product is not None else _BEFORE_TURIN
    return Chip(products, report.signing_key, report.chip_id, report.reported_tcb)


def needs_of_chip(chip: Chip, roots: Iterable[str]) -> tuple[Need, ...]:
    """Return what a report of ``chip`` needs, for each root that may be the product's.

    The certificate of a VLEK is asked for by nobody: its need has ``*`` in place of the cloud provider, whom a report does not name.
    """
    needs = []
    for root in roots:
        for product in chip.products:
            hardware = chip.chip_id[:8] if product is Product.TURIN else chip.chip_id
            tcb = Tcb.parse(chip.tcb, product).pack().hex()
            kind, whose = ("snp_vcek", hardware.hex()) if chip.key == _VCEK else ("snp_vlek", "*")
            needs += [
                Need(kind, root, f"{product}/{whose}/{tcb}"),
                Need("snp_chain", root, f"{product}/{kind.removeprefix('snp_')}"),
                Need("snp_crl", root, product.value, STANDARD if chip.key == _VCEK else VLEK),
            ]
    return tuple(needs)


def pck_chain(evidence: Evidence) -> bytes:
    """Return the PEM chain of the PCK certificate that a DCAP quote carries, or nothing."""
    envelope = getattr(evidence, "envelope", None)
    if envelope is None or envelope.signature.certification.kind != _PCK_CHAIN:
        return b""
    return bytes(envelope.signature.certification.data)


@lru_cache(maxsize=4096)
def _platform(pem: bytes) -> Platform | None:
    """Read which platform a PCK chain names, proving nothing; None when it cannot be read."""
    try:
        certificates = read_certificates(pem)
        extension = read_pck_extension(certificates[0])
    except EndorsementError:
        return None
    names = [str(each.value) for each in certificates[0].x509.issuer if each.value in PCK_CAS]
    root = next((each for each in certificates if each.self_issued), None)
    if root is None or not names:
        return None
    return Platform(key_id(root.spki), extension.fmspc.hex(), PCK_CAS[names[0]])
