# SPDX-License-Identifier: Apache-2.0
"""The file of Intel's PCS Client Tool (``platform_collaterals.json``), which carries collateral to sites without a network.

Members as the tool writes them and Intel's caching service takes them, versions 3 and 4. PCK certificates in it are passed over: they
come with the quotes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from eaa.endorser.history import EARLY, STANDARD
from eaa.rats import Endorsement, EndorsementError, Endorsements
from eaa.tee.dcap.collateral_files import crl_from_bytes, issuer_chain_from_bytes, statement_from_pcs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_TOOL_FILE", "is_tool_file", "read_tool_file"]

MAX_TOOL_FILE: Final = 64 * 1024 * 1024
_TCB_INFO_CHAINS: Final = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
_IDENTITY_CHAIN: Final = "SGX-Enclave-Identity-Issuer-Chain"
_PCK_CHAIN: Final = "SGX-PCK-Certificate-Issuer-Chain"
_IDENTITIES: Final = ("qeidentity", "tdqeidentity", "qveidentity")
_TCB_INFOS: Final = ("tcbinfo", "sgx_tcbinfo", "tdx_tcbinfo")


def is_tool_file(data: bytes) -> bool:
    """Whether this looks like the tool's file."""
    return data.lstrip().startswith(b"{") and b'"collaterals"' in data and b'"tcbinfos"' in data


def read_tool_file(data: bytes, name: str = "the file") -> dict[str, Endorsements]:
    """Read the tool's file, proving nothing: the endorsements by release channel, ``standard`` and ``early``.

    :raises EndorsementError: when it is malformed or holds no collateral.
    """
    if len(data) > MAX_TOOL_FILE:
        raise EndorsementError(f"{name}: {len(data)} bytes, at most {MAX_TOOL_FILE} are read")
    try:
        collaterals = json.loads(data)["collaterals"]
        found = {
            slot: Endorsements(tuple(dict.fromkeys(_collaterals(collaterals, suffix))))
            for slot, suffix in ((STANDARD, ""), (EARLY, "_early"))
        }
    except EndorsementError as error:
        raise EndorsementError(f"{name}: {error}", hint=error.hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EndorsementError(
            f"{name} is no file of Intel's PCS Client Tool: {type(error).__name__}",
            hint="Give the platform_collaterals.json that the tool's `fetch` writes.",
        ) from error
    if not any(each.items for each in found.values()):
        raise EndorsementError(f"{name}: no collateral is in it")
    return {slot: each for slot, each in found.items() if each.items}


def _collaterals(collaterals: dict[str, Any], suffix: str) -> Iterator[Endorsement]:
    """Yield what is there for one channel; lists of revocations have none and count as standard."""
    chains = {name.lower(): value for name, value in collaterals["certificates"].items()}
    tcb_info_chain = next((chains[each.lower()] for each in _TCB_INFO_CHAINS if chains.get(each.lower())), "")
    for info in collaterals.get("tcbinfos") or []:
        for name in _TCB_INFOS:
            if value := info.get(f"{name}{suffix}"):
                yield _statement(value, tcb_info_chain)
    for name in _IDENTITIES:
        if value := collaterals.get(f"{name}{suffix}"):
            yield _statement(value, chains.get(_IDENTITY_CHAIN.lower(), ""))
    if suffix:
        return
    pck_chains = chains.get(_PCK_CHAIN.lower()) or {}
    for ca in ("processor", "platform"):
        if crl := (collaterals.get("pckcacrl") or {}).get(f"{ca}Crl"):
            yield Endorsement("pck_crl", crl_from_bytes(crl.encode()), _chain(pck_chains.get(ca.upper(), "")))
    if crl := collaterals.get("rootcacrl"):
        yield Endorsement("root_ca_crl", crl_from_bytes(crl.encode()))


def _statement(value: Any, chain: str) -> Endorsement:
    # The tool has parsed the statements; the chip makers sign JSON without blanks, so that is what is restored. If it is not the
    # signed text, the signature will say so.
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return statement_from_pcs(text.encode(), _chain(chain))


def _chain(text: str) -> bytes:
    return issuer_chain_from_bytes(text.encode()) if text else b""
