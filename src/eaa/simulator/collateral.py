# SPDX-License-Identifier: Apache-2.0
"""TCB info v3 and QE identity v2 as Intel's PCS v4 publishes them, and the common form that collateral is exchanged in.

Fields and their order follow the answers of Intel's "Provisioning Certification Service API", version 4. The advisories are
Intel's real identifiers, so that what is shown to a user looks as it would on hardware.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eaa.simulator.traits import SGX_SVNS, TDX_SVNS, svns

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from eaa.rats import Endorsements

__all__ = [
    "QE_MODELS",
    "TCB_LEVELS",
    "TDX_MODULES",
    "TDX_MODULE_VERSION",
    "IsvLevel",
    "QeModel",
    "TcbLevel",
    "body",
    "qe_identity",
    "tcb_info",
    "to_common_form",
]

SIGNATURE_MEMBER: Final = b',"signature":"'


class TcbLevel(NamedTuple):
    """One level of a TCB info: lowest SVNs, and what Intel says of a platform that has just them."""

    sgx_svns: bytes
    pce_svn: int
    tdx_svns: bytes
    date: str
    status: str
    advisory_ids: tuple[str, ...] = ()


class IsvLevel(NamedTuple):
    """One level of an enclave's or a module's identity."""

    isv_svn: int
    date: str
    status: str
    advisory_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QeModel:
    """The genuine quoting enclave of one kind of TEE; its levels are highest first."""

    id: str
    isv_prod_id: int
    levels: tuple[IsvLevel, ...]

    @property
    def isv_svn(self) -> int:
        """The ISVSVN of the current release."""
        return self.levels[0].isv_svn


_OUT_OF_DATE: Final = (
    "INTEL-SA-01036", "INTEL-SA-01079", "INTEL-SA-01099", "INTEL-SA-01103", "INTEL-SA-01111",
)  # fmt: skip
_MODULE_OUT_OF_DATE: Final = ("INTEL-SA-01036", "INTEL-SA-01099")

# Highest first, as Intel lists them: the first level that a platform reaches in every component is its level.
TCB_LEVELS: Final = (
    TcbLevel(SGX_SVNS, 13, svns(5, 0, 3), "2024-11-13T00:00:00Z", "UpToDate"),
    TcbLevel(
        svns(3, 3, 2, 2, 3, 1, 0, 5), 13, svns(5, 0, 3), "2024-11-13T00:00:00Z", "SWHardeningNeeded",
        ("INTEL-SA-00334", "INTEL-SA-00615"),
    ),
    TcbLevel(svns(2, 2, 2, 2, 3, 1, 0, 5), 13, svns(5, 0, 2), "2024-03-13T00:00:00Z", "OutOfDate", _OUT_OF_DATE),
    TcbLevel(
        svns(1, 1, 2, 2, 2, 1, 0, 5), 5, svns(3, 0, 1), "2018-01-04T00:00:00Z", "Revoked",
        ("INTEL-SA-00837", *_OUT_OF_DATE),
    ),
)  # fmt: skip

TDX_MODULE_VERSION: Final = TDX_SVNS[1]
TDX_MODULES: Final = {
    3: (IsvLevel(3, "2024-11-13T00:00:00Z", "UpToDate"),),
    TDX_MODULE_VERSION: (
        IsvLevel(TDX_SVNS[0], "2024-11-13T00:00:00Z", "UpToDate"),
        IsvLevel(4, "2024-03-13T00:00:00Z", "OutOfDate", _MODULE_OUT_OF_DATE),
        IsvLevel(2, "2023-08-09T00:00:00Z", "OutOfDate", _MODULE_OUT_OF_DATE),
    ),
}

QE_MODELS: Final = {
    "sgx": QeModel(
        "QE",
        1,
        (
            IsvLevel(8, "2024-03-13T00:00:00Z", "UpToDate"),
            IsvLevel(6, "2021-11-10T00:00:00Z", "OutOfDate", ("INTEL-SA-00615",)),
            IsvLevel(5, "2020-11-11T00:00:00Z", "OutOfDate", ("INTEL-SA-00477", "INTEL-SA-00615")),
        ),
    ),
    "tdx": QeModel(
        "TD_QE",
        2,
        (
            IsvLevel(4, "2024-11-13T00:00:00Z", "UpToDate"),
            IsvLevel(2, "2024-03-13T00:00:00Z", "OutOfDate", ("INTEL-SA-00615",)),
        ),
    ),
}

_SGX_CATEGORIES: Final = {
    0: ("BIOS", "Early Microcode Update"),
    1: ("OS/VMM", "SGX Late Microcode Update"),
    2: ("OS/VMM", "TXT SINIT"),
    3: ("BIOS", None),
    4: ("BIOS", None),
    5: ("BIOS", None),
    7: ("OS/VMM", "SEAMLDR ACM"),
}
_TDX_CATEGORIES: Final = {
    0: ("OS/VMM", "TDX Module"),
    1: ("OS/VMM", "TDX Module"),
    2: ("OS/VMM", "TDX Late Microcode Update"),
}


def tcb_info(
    tee: str,
    *,
    fmspc: bytes,
    pce_id: bytes,
    issued: datetime,
    until: datetime,
    evaluation: int,
    components: int,
) -> bytes:
    """Return the text of a TCB info (the inner object, which is what gets signed) for ``sgx`` or ``tdx``."""
    tdx = tee == "tdx"
    statement: dict[str, Any] = {
        "id": "TDX" if tdx else "SGX",
        "version": 3,
        "issueDate": _time(issued),
        "nextUpdate": _time(until),
        "fmspc": fmspc.hex().upper(),
        "pceId": pce_id.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": evaluation,
    }
    if tdx:
        module = {"mrsigner": bytes(48).hex(), "attributes": bytes(8).hex(), "attributesMask": "F" * 16}
        statement["tdxModule"] = module
        statement["tdxModuleIdentities"] = [
            {"id": f"TDX_{version:02}", **module, "tcbLevels": [_isv_level(each) for each in levels]}
            for version, levels in TDX_MODULES.items()
        ]
    statement["tcbLevels"] = [_tcb_level(level, components, tdx=tdx) for level in TCB_LEVELS]
    return _text(statement)


def qe_identity(tee: str, *, signer: bytes, issued: datetime, until: datetime, evaluation: int) -> bytes:
    """Return the text of the QE identity that quotes of ``sgx`` or ``tdx`` need (the inner object)."""
    model = QE_MODELS[tee]
    return _text(
        {
            "id": model.id,
            "version": 2,
            "issueDate": _time(issued),
            "nextUpdate": _time(until),
            "tcbEvaluationDataNumber": evaluation,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": signer.hex().upper(),
            "isvprodid": model.isv_prod_id,
            "tcbLevels": [_isv_level(level) for level in model.levels],
        }
    )


def body(member: str, text: bytes, signature: bytes) -> bytes:
    """Return what PCS answers with: ``{"<member>":<text>,"signature":"<hex>"}``."""
    return b'{"' + member.encode() + b'":' + text + SIGNATURE_MEMBER + signature.hex().encode() + b'"}'


def to_common_form(endorsements: Endorsements) -> dict[str, str]:
    """Return collateral of this chip maker as the common collateral JSON; what is missing in the set has no key."""
    form: dict[str, str] = {}
    for item in endorsements.items:
        if item.kind.endswith("_crl"):
            form[item.kind] = item.content.hex()
        else:
            text, _, signature = item.content.rpartition(SIGNATURE_MEMBER)
            form[item.kind] = text.partition(b":")[2].decode()
            form[f"{item.kind}_signature"] = signature.removesuffix(b'"}').decode()
        if item.issuer_chain:
            form[f"{item.kind}_issuer_chain"] = item.issuer_chain.decode()
    return form


def _tcb_level(level: TcbLevel, components: int, *, tdx: bool) -> dict[str, Any]:
    tcb: dict[str, Any] = {
        "sgxtcbcomponents": _components(level.sgx_svns, _SGX_CATEGORIES)[:components],
        "pcesvn": level.pce_svn,
    }
    if tdx:
        tcb["tdxtcbcomponents"] = _components(level.tdx_svns, _TDX_CATEGORIES)[:components]
    return _dated({"tcb": tcb}, level)


def _isv_level(level: IsvLevel) -> dict[str, Any]:
    return _dated({"tcb": {"isvsvn": level.isv_svn}}, level)


def _dated(entry: dict[str, Any], level: TcbLevel | IsvLevel) -> dict[str, Any]:
    entry |= {"tcbDate": level.date, "tcbStatus": level.status}
    if level.advisory_ids:
        entry["advisoryIDs"] = list(level.advisory_ids)
    return entry


def _components(levels: bytes, categories: Mapping[int, tuple[str, str | None]]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for index, svn in enumerate(levels):
        entry: dict[str, Any] = {"svn": svn}
        if index in categories:
            category, kind = categories[index]
            entry["category"] = category
            if kind:
                entry["type"] = kind
        entries.append(entry)
    return entries


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(statement: Mapping[str, Any]) -> bytes:
    return json.dumps(statement, separators=(",", ":")).encode()
