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
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from eaa.rats import Endorsements

__all__ = [
    "QE_MODELS",
    "QVE_MODEL",
    "TCB_LEVELS",
    "TDX_MODULES",
    "TDX_MODULE_VERSION",
    "IsvLevel",
    "QeModel",
    "TcbLevel",
    "body",
    "evaluation_numbers",
    "flat_components",
    "qe_identity",
    "tcb_info",
    "tcb_info_v2",
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
    """A genuine enclave of the chip maker, such as the quoting enclave of one kind of TEE; its levels are highest first."""

    id: str
    isv_prod_id: int
    levels: tuple[IsvLevel, ...]
    attributes: str = "11000000000000000000000000000000"

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

QVE_MODEL: Final = QeModel(
    "QVE", 2, (IsvLevel(3, "2024-03-13T00:00:00Z", "UpToDate"),), "01000000000000000000000000000000"
)
"""The quote verification enclave, which PCS publishes beside the quoting enclaves."""

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
    components: int = 16,
    levels: Sequence[TcbLevel] = TCB_LEVELS,
    modules: Mapping[int, Sequence[IsvLevel]] = TDX_MODULES,
) -> bytes:
    """Return the text of a TCB info (the inner object, which is what gets signed) for ``sgx`` or ``tdx``.

    ``modules`` are the levels of the TDX module by its major version.
    """
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
            {"id": f"TDX_{version:02}", **module, "tcbLevels": [_isv_level(each) for each in known]}
            for version, known in modules.items()
        ]
    statement["tcbLevels"] = [_tcb_level(level, components, tdx=tdx) for level in levels]
    return _text(statement)


def tcb_info_v2(
    *,
    fmspc: bytes,
    pce_id: bytes,
    issued: datetime,
    until: datetime,
    evaluation: int,
    levels: Sequence[TcbLevel] = TCB_LEVELS,
) -> bytes:
    """Return the text of a TCB info for SGX as version 3 of the API has it, with one member per component."""
    return _text(
        {
            "version": 2,
            "issueDate": _time(issued),
            "nextUpdate": _time(until),
            "fmspc": fmspc.hex().upper(),
            "pceId": pce_id.hex(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": evaluation,
            "tcbLevels": [
                _dated({"tcb": {**flat_components(level.sgx_svns), "pcesvn": level.pce_svn}}, level)
                for level in levels
            ],
        }
    )


def flat_components(sgx_svns: bytes) -> dict[str, int]:
    """Return the components as members ``sgxtcbcomp01svn`` to ``sgxtcbcomp16svn``."""
    return {f"sgxtcbcomp{number:02}svn": svn for number, svn in enumerate(sgx_svns, 1)}


def evaluation_numbers(
    tee: str, *, issued: datetime, until: datetime, numbers: Iterable[tuple[int, datetime, str]]
) -> bytes:
    """Return the text of the TCB evaluation data numbers for ``sgx`` or ``tdx``.

    ``numbers`` are: the number, when its recovery became public, and the date of its highest TCB level.
    """
    return _text(
        {
            "id": tee.upper(),
            "version": 1,
            "issueDate": _time(issued),
            "nextUpdate": _time(until),
            "tcbEvalNumbers": [
                {"tcbEvaluationDataNumber": number, "tcbRecoveryEventDate": _time(event), "tcbDate": date}
                for number, event, date in numbers
            ],
        }
    )


def qe_identity(
    tee: str,
    *,
    signer: bytes,
    issued: datetime,
    until: datetime,
    evaluation: int,
    model: QeModel | None = None,
) -> bytes:
    """Return the text of the identity (the inner object) of the enclave that signs quotes of ``sgx`` or ``tdx``, or of ``model``."""
    model = model or QE_MODELS[tee]
    return _text(
        {
            "id": model.id,
            "version": 2,
            "issueDate": _time(issued),
            "nextUpdate": _time(until),
            "tcbEvaluationDataNumber": evaluation,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": model.attributes,
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
