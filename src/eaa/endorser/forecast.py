# SPDX-License-Identifier: Apache-2.0
"""What becomes of the known platforms when Intel's early TCB info becomes the standard one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eaa.endorser import platforms
from eaa.endorser.needs import QE_OF
from eaa.tee.dcap.collateral import (
    parse_enclave_identity,
    parse_tcb_info,
    read_enclave_identity,
    read_tcb_info,
)
from eaa.tee.dcap.pck import PckExtension
from eaa.tee.dcap.tcb import match_isv_level
from eaa.tee.sgx import verify as sgx
from eaa.tee.tdx import verify as tdx

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eaa.endorser.platforms import Seen
    from eaa.endorser.store import Snapshot, Store, Stored
    from eaa.tee.dcap.collateral import EnclaveIdentity, TcbInfo
    from eaa.tee.dcap.tcb import Rating

__all__ = ["Outlook", "forecast", "outlooks"]

_NO_LEVEL = "below every level"


@dataclass(frozen=True, slots=True)
class Outlook:
    """One platform: its status now and under the early TCB info, what falls short of the highest early level, and why it matters.

    A status is empty where the collateral for it is missing. ``numbers`` are the two evaluation numbers.
    """

    platform: str
    tee: str
    fmspc: str
    numbers: tuple[int, int]
    now: str
    then: str
    short: tuple[str, ...]
    advisories: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether the platform's status will be another one."""
        return self.now != self.then

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "platform": self.platform,
            "tee": self.tee,
            "fmspc": self.fmspc,
            "evaluation_number": self.numbers[0],
            "early_evaluation_number": self.numbers[1],
            "status": self.now,
            "early_status": self.then,
            "changes": self.changes,
            "short": list(self.short),
            "advisories": list(self.advisories),
        }


async def forecast(store: Store) -> list[Outlook]:
    """Rate every SGX and TDX platform that was seen under the standard and the early TCB info that are held.

    :raises UnavailableError: when the database cannot be read now.
    """
    await store.sync()
    return outlooks(store.snapshot(), await store.connections.read(platforms.listed))


def outlooks(snapshot: Snapshot, seen: Iterable[Seen]) -> list[Outlook]:
    """Rate ``seen`` by ``snapshot``; a pure function."""
    return [_outlook(snapshot, each) for each in seen if each.tee in QE_OF]


def _outlook(snapshot: Snapshot, seen: Seen) -> Outlook:
    info_key = f"tcb_info/{seen.root}/{seen.tee}/{seen.scope}"
    identity_key = f"qe_identity/{seen.root}/{QE_OF[seen.tee]}"
    standard, early = snapshot.stored.get(info_key), snapshot.early(info_key)
    now = _rate(seen, standard, snapshot.stored.get(identity_key))
    then = _rate(seen, early, snapshot.early(identity_key))
    added = set(then.advisory_ids if then else ()) - set(now.advisory_ids if now else ())
    return Outlook(
        seen.id,
        seen.tee,
        seen.scope,
        (_number(standard), _number(early)),
        _status(now, standard),
        _status(then, early),
        _short(seen, early, snapshot.early(identity_key)),
        tuple(sorted(added)),
    )


def _rate(seen: Seen, info: Stored | None, identity: Stored | None) -> Rating | None:
    if info is None or identity is None:
        return None
    tcb_info, qe_identity = _tcb_info(info), _identity(identity)
    qe_level = match_isv_level(qe_identity.levels, seen.levels["qe_svn"])
    extension = _extension(seen)
    if seen.tee == "sgx":
        return sgx.rate(extension, tcb_info, qe_level, [])
    return tdx.rate(_module(seen), extension, tcb_info, qe_level, [])


def _tcb_info(stored: Stored) -> TcbInfo:
    return parse_tcb_info(read_tcb_info(stored.endorsement.content))


def _identity(stored: Stored) -> EnclaveIdentity:
    return parse_enclave_identity(read_enclave_identity(stored.endorsement.content))


def _extension(seen: Seen) -> PckExtension:
    """Return as much of a PCK certificate's extension as rating looks at."""
    return PckExtension(
        ppid=b"",
        tcb_components=tuple(seen.levels["components"]),
        pce_svn=seen.levels["pce_svn"],
        cpu_svn=b"",
        pce_id=b"",
        fmspc=bytes.fromhex(seen.scope),
        sgx_type="",
        platform_instance_id=None,
        configuration=(),
    )


def _module(seen: Seen) -> tdx.Module:
    levels = seen.levels
    return tdx.Module(
        bytes.fromhex(levels["tdx_svn"]),
        bytes.fromhex(levels["tdx_svn_now"]),
        bytes.fromhex(levels["seam_signer"]),
        levels["seam_attributes"],
    )


def _short(seen: Seen, info: Stored | None, identity: Stored | None) -> tuple[str, ...]:
    """Name every part of the platform that is below the highest early level."""
    if info is None:
        return ()
    tcb_info, levels = _tcb_info(info), seen.levels
    best = tcb_info.levels[0]
    pairs = [
        (f"SGX component {n}", have, need)
        for n, (have, need) in enumerate(zip(levels["components"], best.tcb.sgx_components, strict=True), 1)
    ]
    pairs.append(("PCE SVN", levels["pce_svn"], best.tcb.pcesvn))
    if seen.tee == "tdx":
        module = _module(seen)
        svn = module.current_svn or module.svn
        rated_apart = 2 if svn[1] > 0 else 0  # the module's own identity rates its SVN and version
        components = list(enumerate(zip(svn, best.tcb.tdx_components or (), strict=False), 1))
        pairs += [(f"TDX component {n}", have, need) for n, (have, need) in components[rated_apart:]]
        name = f"TDX_{svn[1]:02X}"
        of_version = next((each for each in tcb_info.module_identities if each.id.upper() == name), None)
        if rated_apart and of_version is not None and of_version.levels:
            pairs.append((f"TDX module {name}", svn[0], of_version.levels[0].isv_svn))
    if identity is not None:
        pairs.append(("quoting enclave SVN", levels["qe_svn"], _identity(identity).levels[0].isv_svn))
    return tuple(f"{what}: {have}, needs {need}" for what, have, need in pairs if have < need)


def _status(rating: Rating | None, info: Stored | None) -> str:
    if rating is not None:
        return rating.status
    return _NO_LEVEL if info is not None else ""


def _number(stored: Stored | None) -> int:
    return stored.subject.evaluation_number if stored is not None else 0
