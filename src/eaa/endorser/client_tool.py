# SPDX-License-Identifier: Apache-2.0
"""The file of Intel's PCS Client Tool (``platform_collaterals.json``), which carries collateral to sites without a network.

Members as the tool writes them and Intel's caching service takes them, versions 3 and 4.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eaa.endorser.history import EARLY, STANDARD
from eaa.endorser.pck import read_entry
from eaa.rats import Endorsement, EndorsementError, Endorsements
from eaa.tee.dcap.collateral_files import crl_from_bytes, issuer_chain_from_bytes, statement_from_pcs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_TOOL_FILE",
    "ToolPlatform",
    "ToolPlatforms",
    "is_platform_list",
    "is_tool_file",
    "read_tool_file",
    "read_tool_platforms",
]

MAX_TOOL_FILE: Final = 64 * 1024 * 1024
_TCB_INFO_CHAINS: Final = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
_IDENTITY_CHAIN: Final = "SGX-Enclave-Identity-Issuer-Chain"
_PCK_CHAIN: Final = "SGX-PCK-Certificate-Issuer-Chain"
_IDENTITIES: Final = ("qeidentity", "tdqeidentity", "qveidentity")
_TCB_INFOS: Final = ("tcbinfo", "sgx_tcbinfo", "tdx_tcbinfo")


class ToolPlatform(NamedTuple):
    """One platform of the file, unproven: what it is registered with, and its PCK certificates if there are any."""

    registration: dict[str, Any]
    certificates: tuple[tuple[str, bytes], ...]


class ToolPlatforms(NamedTuple):
    """Every platform of the file, and the issuer chains that its certificates may have, by CA."""

    platforms: tuple[ToolPlatform, ...]
    issuer_chains: dict[str, bytes]


def is_tool_file(data: bytes) -> bool:
    """Whether this looks like the tool's file."""
    return data.lstrip().startswith(b"{") and b'"collaterals"' in data and b'"tcbinfos"' in data


def is_platform_list(data: bytes) -> bool:
    """Whether this looks like a list of platforms."""
    return data.lstrip().startswith(b"[") and b'"qe_id"' in data


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
    if not any(each.items for each in found.values()) and not collaterals.get("pck_certs"):
        raise EndorsementError(f"{name}: no collateral is in it")
    return {slot: each for slot, each in found.items() if each.items}


def read_tool_platforms(data: bytes, name: str = "the file") -> ToolPlatforms:
    """Read the platforms of the tool's file, or of its list of platforms (``platform_list.json``), proving nothing.

    :raises EndorsementError: when it is malformed.
    """
    if len(data) > MAX_TOOL_FILE:
        raise EndorsementError(f"{name}: {len(data)} bytes, at most {MAX_TOOL_FILE} are read")
    try:
        document = json.loads(data)
        listed = document if isinstance(document, list) else document.get("platforms") or []
        collaterals = {} if isinstance(document, list) else document["collaterals"]
        registrations = {_place(each): dict(each) for each in listed}
        certificates = {}
        for each in collaterals.get("pck_certs") or []:
            registrations.setdefault(
                _place(each), {key: value for key, value in each.items() if key != "certs"}
            )
            certificates[_place(each)] = tuple(entry for cert in each["certs"] if (entry := read_entry(cert)))
        chains = {key.lower(): value for key, value in collaterals.get("certificates", {}).items()}
        pck_chains = chains.get(_PCK_CHAIN.lower()) or {}
        return ToolPlatforms(
            tuple(ToolPlatform(value, certificates.get(key, ())) for key, value in registrations.items()),
            {ca.lower(): _chain(text) for ca, text in pck_chains.items() if text},
        )
    except EndorsementError as error:
        raise EndorsementError(f"{name}: {error}", hint=error.hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EndorsementError(
            f"{name} is no file of Intel's PCS Client Tool: {type(error).__name__}",
            hint="Give the platform_collaterals.json or platform_list.json of the tool.",
        ) from error


def _place(platform: dict[str, Any]) -> tuple[str, str]:
    return platform["qe_id"].lower(), platform["pce_id"].lower()


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
