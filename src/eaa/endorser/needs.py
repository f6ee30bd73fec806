# SPDX-License-Identifier: Apache-2.0
"""Which endorsements a piece of evidence needs, read from it without proof."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from eaa.endorser.authenticity import PCK_CAS, key_id
from eaa.rats import EndorsementError
from eaa.tee.dcap.pck import read_pck_extension
from eaa.tee.x509 import read_certificates

if TYPE_CHECKING:
    from eaa.rats import Evidence

__all__ = ["QE_OF", "Platform", "dcap_keys", "platform_of"]

QE_OF: Final = {"sgx": "QE", "tdx": "TD_QE"}
_PCK_CHAIN: Final = 5  # Intel's certification data type: PCK certificate chain in PEM


class Platform(NamedTuple):
    """What decides which collateral a quote needs: the root's key id, FMSPC in hex, and ``platform`` or ``processor``."""

    root: str
    fmspc: str
    ca: str


def dcap_keys(tee: str, platform: Platform) -> tuple[str, ...]:
    """Return the keys of what quotes of ``tee`` (``sgx``, ``tdx``) from ``platform`` need."""
    return (
        f"tcb_info/{platform.root}/{tee}/{platform.fmspc}",
        f"qe_identity/{platform.root}/{QE_OF.get(tee, tee)}",
        f"pck_crl/{platform.root}/{platform.ca}",
        f"root_ca_crl/{platform.root}",
    )


def platform_of(evidence: Evidence) -> Platform | None:
    """Return the platform that a DCAP quote says it is from, or None."""
    chain = pck_chain(evidence)
    return _platform(chain) if chain else None


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
        extension = read_pck_extension(certificates[0].x509)
    except EndorsementError:
        return None
    names = [str(each.value) for each in certificates[0].x509.issuer if each.value in PCK_CAS]
    root = next((each for each in certificates if each.self_issued), None)
    if root is None or not names:
        return None
    return Platform(key_id(root.spki), extension.fmspc.hex(), PCK_CAS[names[0]])
