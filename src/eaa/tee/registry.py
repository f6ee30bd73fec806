# SPDX-License-Identifier: Apache-2.0
"""Which parser reads which TEE's evidence: one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eaa.rats import EvidenceError
from eaa.tee.sgx.evidence import SgxQuote, parse_sgx_quote
from eaa.tee.tdx.evidence import TdxQuote, parse_tdx_quote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PARSERS", "parse_evidence"]

PARSERS: Final[dict[str, Callable[[bytes], SgxQuote | TdxQuote]]] = {
    "sgx": parse_sgx_quote,
    "tdx": parse_tdx_quote,
}


def parse_evidence(data: bytes, *, tee: str) -> SgxQuote | TdxQuote:
    """Parse evidence of the named kind of TEE (``sgx`` or ``tdx``).

    :raises EvidenceError: when the kind is unknown or the bytes are not evidence of that kind.
    """
    parser = PARSERS.get(tee)
    if parser is None:
        raise EvidenceError(
            f"no verifier for TEE {tee!r}",
            check="evidence.tee",
            hint=f"Known are: {', '.join(sorted(PARSERS))}.",
        )
    return parser(data)
