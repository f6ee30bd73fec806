# SPDX-License-Identifier: Apache-2.0
"""TDX: the TD report bodies of TDX 1.0 (584 bytes) and 1.5 (648 bytes), and a quote that carries one.

Layout from Intel's "TDX DCAP Quoting Library API", appendix A.3.2 and A.3.3; attribute bits from the "TDX Module ABI
Reference Specification", TD_ATTRIBUTES.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eaa.rats import EvidenceError
from eaa.tee.dcap.quote import BODY_SGX, Quote, parse_envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ATTR_DEBUG",
    "ATTR_KEY_LOCKER",
    "ATTR_LASS",
    "ATTR_MIGRATABLE",
    "ATTR_PERFMON",
    "ATTR_PROTECTION_KEYS",
    "ATTR_SEPT_VE_DISABLE",
    "MEASUREMENTS",
    "TdReport",
    "TdxQuote",
    "parse_tdx_quote",
]

ATTR_DEBUG: Final = 1 << 0
ATTR_LASS: Final = 1 << 27
ATTR_SEPT_VE_DISABLE: Final = 1 << 28
ATTR_MIGRATABLE: Final = 1 << 29
ATTR_PROTECTION_KEYS: Final = 1 << 30
ATTR_KEY_LOCKER: Final = 1 << 31
ATTR_PERFMON: Final = 1 << 63

_TD10: Final = struct.Struct("<16s48s48sQQQ48s48s48s48s48s48s48s48s64s")
_TD15: Final = struct.Struct("<16s48s48sQQQ48s48s48s48s48s48s48s48s64s16s48s")

MEASUREMENTS: Final = (
    "mr_td", "rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3",
    "mr_seam", "mrsigner_seam", "mr_config_id", "mr_owner", "mr_owner_config",
)  # fmt: skip
"""The registers of a TD that a reference value can speak of."""


class TdReport(NamedTuple):
    """The report body of a TD, as signed. The last two fields exist in TDX 1.5 only and are empty in a 1.0 body."""

    tee_tcb_svn: bytes
    mr_seam: bytes
    mrsigner_seam: bytes
    seam_attributes: int
    td_attributes: int
    xfam: int
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr_0: bytes
    rtmr_1: bytes
    rtmr_2: bytes
    rtmr_3: bytes
    report_data: bytes
    tee_tcb_svn_2: bytes = b""
    mr_service_td: bytes = b""

    @classmethod
    def parse(cls, body: bytes) -> TdReport:
        """Read exactly 584 (TDX 1.0) or 648 bytes (TDX 1.5).

        :raises EvidenceError: on any other length.
        """
        if len(body) == _TD10.size:
            return cls._make((*_TD10.unpack(body), b"", b""))
        if len(body) == _TD15.size:
            return cls._make(_TD15.unpack(body))
        raise EvidenceError(
            f"a TD report has {_TD10.size} or {_TD15.size} bytes, not {len(body)}", check="tdx.report.length"
        )

    def pack(self) -> bytes:
        """Return the 584 or, if the 1.5 fields are there, 648 bytes of this report."""
        return _TD15.pack(*self) if self.tee_tcb_svn_2 else _TD10.pack(*self[:15])

    @property
    def debug(self) -> bool:
        """Whether the host may read and change the TD's memory and registers."""
        return bool(self.td_attributes & ATTR_DEBUG)

    def to_claims(self) -> dict[str, Any]:
        """Return every field under Intel's name in snake_case; bytes as lower-case hex, attributes as their 8 bytes."""
        claims: dict[str, Any] = {
            name: value.hex() if isinstance(value, bytes) else struct.pack("<Q", value).hex()
            for name, value in self._asdict().items()
        }
        if not self.tee_tcb_svn_2:
            del claims["tee_tcb_svn_2"], claims["mr_service_td"]
        return claims


@dataclass(frozen=True, slots=True)
class TdxQuote(Quote[TdReport]):
    """A parsed quote of a TD (version 4, or 5 with a TD 1.0 or 1.5 body).

    ``event_log`` is the confidential computing event log that came with it, as it came, or empty: nobody signed it, and it is read only
    once the quote has proven genuine (attack B9).
    """

    event_log: bytes = b""

    @property
    def tee(self) -> str:
        """``tdx``."""
        return "tdx"

    @property
    def measurements(self) -> Mapping[str, str]:
        """The registers named in :data:`MEASUREMENTS`, and what they rest on."""
        return self.report.to_claims()


def parse_tdx_quote(data: bytes) -> TdxQuote:
    """Parse a quote of a TD.

    :raises EvidenceError: when it is malformed or of another TEE.
    """
    envelope = parse_envelope(data)
    if envelope.body_type == BODY_SGX:
        raise EvidenceError(
            "this is an SGX quote, a TDX quote was expected",
            check="dcap.quote.tee-type",
            hint="Verify it with --tee sgx.",
        )
    return TdxQuote(envelope, TdReport.parse(envelope.body))
