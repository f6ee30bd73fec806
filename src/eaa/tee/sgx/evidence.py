# SPDX-License-Identifier: Apache-2.0
"""SGX: the 384-byte enclave report body, and a quote that carries one.

Layout from Intel's Software Developer's Manual, volume 3D, "REPORT" (table 39-21).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eaa.rats import EvidenceError
from eaa.tee.dcap.quote import BODY_SGX, Quote, parse_envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FLAG_DEBUG", "FLAG_INIT", "EnclaveReport", "SgxQuote", "parse_sgx_quote"]

FLAG_INIT: Final = 0x01
FLAG_DEBUG: Final = 0x02

_LAYOUT: Final = struct.Struct("<16sI12s16sQQ32s32s32s32s64sHHH42s16s64s")


class EnclaveReport(NamedTuple):
    """The report body of an enclave, as signed. Byte fields are raw; ``attributes_*`` and SVNs are integers."""

    cpu_svn: bytes
    misc_select: int
    reserved_1: bytes
    isv_ext_prod_id: bytes
    attributes_flags: int
    attributes_xfrm: int
    mr_enclave: bytes
    reserved_2: bytes
    mr_signer: bytes
    reserved_3: bytes
    config_id: bytes
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    reserved_4: bytes
    isv_family_id: bytes
    report_data: bytes

    @classmethod
    def parse(cls, body: bytes) -> EnclaveReport:
        """Read exactly 384 bytes.

        :raises EvidenceError: when there are more or fewer.
        """
        if len(body) != _LAYOUT.size:
            raise EvidenceError(
                f"an enclave report has {_LAYOUT.size} bytes, not {len(body)}", check="sgx.report.length"
            )
        return cls._make(_LAYOUT.unpack(body))

    def pack(self) -> bytes:
        """Return the 384 bytes of this report."""
        return _LAYOUT.pack(*self)

    @property
    def debug(self) -> bool:
        """Whether the enclave was launched in debug mode."""
        return bool(self.attributes_flags & FLAG_DEBUG)

    @property
    def attributes(self) -> bytes:
        """ATTRIBUTES as the 16 bytes of the report: flags then XFRM, little-endian."""
        return struct.pack("<QQ", self.attributes_flags, self.attributes_xfrm)

    def to_claims(self) -> dict[str, Any]:
        """Return every field under Intel's name in snake_case; bytes as lower-case hex."""
        return {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in self._asdict().items()
            if not name.startswith("reserved")
        }


@dataclass(frozen=True, slots=True)
class SgxQuote(Quote[EnclaveReport]):
    """A parsed quote of an SGX enclave (version 3, or 4 and 5 with an SGX body)."""

    @property
    def tee(self) -> str:
        """``sgx``."""
        return "sgx"

    @property
    def measurements(self) -> Mapping[str, str]:
        """``mr_enclave`` and ``mr_signer`` with the signer's product id and SVN, and what the enclave was configured with at launch."""
        report = self.report
        return {
            "mr_enclave": report.mr_enclave.hex(),
            "mr_signer": report.mr_signer.hex(),
            "isv_prod_id": str(report.isv_prod_id),
            "isv_svn": str(report.isv_svn),
            "config_id": report.config_id.hex(),
            "attributes": report.attributes.hex(),
        }


def parse_sgx_quote(data: bytes) -> SgxQuote:
    """Parse a quote of an SGX enclave.

    :raises EvidenceError: when it is malformed or of another TEE.
    """
    envelope = parse_envelope(data)
    if envelope.body_type != BODY_SGX:
        raise EvidenceError(
            "this is a TDX quote, an SGX quote was expected",
            check="dcap.quote.tee-type",
            hint="Verify it with --tee tdx.",
        )
    return SgxQuote(envelope, EnclaveReport.parse(envelope.body))
