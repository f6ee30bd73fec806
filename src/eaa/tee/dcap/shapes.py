# SPDX-License-Identifier: Apache-2.0
"""The shapes of Intel's signed statements on the wire: which members, of which type, in which range.

From Intel's PCS API documentation, "Get TCB Info" and "Get Quoting Enclave Identity" (v2 to v4 of the API). Members that are not named
here are passed over, and nothing else is: :func:`~eaa.tee.dcap.signed_json.interpret` refuses what does not fit.
"""

from __future__ import annotations

from operator import attrgetter, ge
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Generic, Literal, TypeVar

from msgspec import Meta, Struct, field

from eaa.tee.dcap.signed_json import Dated, Number, Time, read_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = [
    "COMPONENTS",
    "Component",
    "EnclaveLevel",
    "EnclaveStatus",
    "EvaluationNumbers",
    "FlatInfo",
    "IdentityV1",
    "IdentityV2",
    "Kind",
    "Module",
    "ModuleLevel",
    "ModuleStatus",
    "NamedModule",
    "PlatformLevel",
    "PlatformStatus",
    "SgxInfo",
    "SgxTcb",
    "Tcb",
    "TcbLevel",
    "TdxInfo",
    "TdxTcb",
]

COMPONENTS: Final = 16
"""A TCB has exactly 16 component SVNs; any other count is refused, never zipped (attack A6)."""

PlatformStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
]
EnclaveStatus = Literal[
    "UpToDate", "OutOfDate", "ConfigurationNeeded", "OutOfDateConfigurationNeeded", "Revoked"
]
ModuleStatus = Literal["UpToDate", "OutOfDate", "Revoked"]

_Byte = Annotated[int, Meta(ge=0, le=0xFF)]
_Word = Annotated[int, Meta(ge=0, le=0xFFFF)]
_SOME: Final = Meta(min_length=1)
_Tcb = TypeVar("_Tcb")
_Status = TypeVar("_Status")


_MAX_LABEL: Final = 64


def _hex(size: int) -> Meta:
    return Meta(pattern=rf"^[0-9A-Fa-f]{{{2 * size}}}\Z")


_Hex2 = Annotated[str, _hex(2)]
_Hex4 = Annotated[str, _hex(4)]
_Hex6 = Annotated[str, _hex(6)]
_Hex8 = Annotated[str, _hex(8)]
_Hex16 = Annotated[str, _hex(16)]
_Hex32 = Annotated[str, _hex(32)]
_Hex48 = Annotated[str, _hex(48)]


class Component(Struct, frozen=True, gc=False, omit_defaults=True):
    """One component of a TCB; ``category`` and ``type`` are for a reader, and nothing of them is decided upon."""

    svn: _Byte
    category: Any = None
    type: Any = None

    @property
    def label(self) -> str:
        """Return both, shortened."""
        return ", ".join([text for text in (self.type, self.category) if type(text) is str])[:_MAX_LABEL]


_svn = attrgetter("svn")
_Components = Annotated[list[Component], Meta(min_length=COMPONENTS, max_length=COMPONENTS)]


class SgxTcb(Struct, frozen=True):
    """The SVNs of a level since TCB info version 3."""

    sgxtcbcomponents: _Components
    pcesvn: _Word

    @property
    def sgx_components(self) -> tuple[int, ...]:
        """The SVNs in order."""
        return tuple(map(_svn, self.sgxtcbcomponents))

    def reached_by(self, components: Sequence[int]) -> bool:
        """Whether a platform of these SVNs has at least the ones needed, component by component."""
        return all(map(ge, components, map(_svn, self.sgxtcbcomponents)))

    def sgx_label(self, index: int) -> str:
        """Return what a component is, for a reader."""
        return self.sgxtcbcomponents[index].label

    @property
    def tdx_components(self) -> tuple[int, ...] | None:
        """The SVNs of the TDX module's components; None where there are none."""
        return None

    def tdx_label(self, index: int) -> str:  # noqa: ARG002 - there are none
        """Return what one of them is, for a reader."""
        return ""


class TdxTcb(SgxTcb, frozen=True):
    """The same of a platform with TDX."""

    tdxtcbcomponents: _Components

    @property
    def tdx_components(self) -> tuple[int, ...] | None:
        """The SVNs in order."""
        return tuple(map(_svn, self.tdxtcbcomponents))

    def tdx_label(self, index: int) -> str:
        """Return what one of them is, for a reader."""
        return self.tdxtcbcomponents[index].label


class FlatTcb(Struct, frozen=True):
    """The same in version 2: a member for each component."""

    sgxtcbcomp01svn: _Byte
    sgxtcbcomp02svn: _Byte
    sgxtcbcomp03svn: _Byte
    sgxtcbcomp04svn: _Byte
    sgxtcbcomp05svn: _Byte
    sgxtcbcomp06svn: _Byte
    sgxtcbcomp07svn: _Byte
    sgxtcbcomp08svn: _Byte
    sgxtcbcomp09svn: _Byte
    sgxtcbcomp10svn: _Byte
    sgxtcbcomp11svn: _Byte
    sgxtcbcomp12svn: _Byte
    sgxtcbcomp13svn: _Byte
    sgxtcbcomp14svn: _Byte
    sgxtcbcomp15svn: _Byte
    sgxtcbcomp16svn: _Byte
    pcesvn: _Word
    tdx_components: ClassVar[None] = None

    @property
    def sgx_components(self) -> tuple[int, ...]:
        """The SVNs in order."""
        return tuple([getattr(self, f"sgxtcbcomp{n:02d}svn") for n in range(1, COMPONENTS + 1)])

    def sgx_label(self, index: int) -> str:  # noqa: ARG002 - version 2 has none
        """Return what a component is, for a reader."""
        return ""

    tdx_label = sgx_label

    def reached_by(self, components: Sequence[int]) -> bool:
        """Whether a platform of these SVNs has at least the ones needed, component by component."""
        return all(map(ge, components, self.sgx_components))


Tcb = FlatTcb | SgxTcb | TdxTcb


class IsvTcb(Struct, frozen=True):
    """The SVN of an enclave or a module."""

    isvsvn: _Word


class _Level(Struct, Generic[_Tcb, _Status], frozen=True, rename="camel", omit_defaults=True):
    tcb: _Tcb
    tcb_date: Time
    tcb_status: _Status
    advisory_ids: tuple[Annotated[str, Meta(max_length=64)], ...] = field(name="advisoryIDs", default=())


class PlatformLevel(
    _Level[_Tcb, PlatformStatus], Generic[_Tcb], frozen=True, rename="camel", omit_defaults=True
):
    """A level of a platform's TCB: the SVNs it needs, and what Intel says of a platform that has them."""

    @property
    def status(self) -> PlatformStatus:
        """Its status."""
        return self.tcb_status

    @property
    def date(self) -> datetime:
        """When it was published."""
        return read_time(self.tcb_date)


EnclaveLevel = _Level[IsvTcb, EnclaveStatus]
"""A level of a quoting enclave."""
ModuleLevel = _Level[IsvTcb, ModuleStatus]
"""A level of a TDX module."""


TcbLevel = PlatformLevel[FlatTcb] | PlatformLevel[SgxTcb] | PlatformLevel[TdxTcb]


class Module(Struct, frozen=True, rename="camel"):
    """Who signs the TDX module that has no version, and its attributes."""

    mrsigner: _Hex48
    attributes: _Hex8
    attributes_mask: _Hex8


class NamedModule(Struct, frozen=True, rename="camel"):
    """The same of the TDX modules of one major version, and their levels."""

    id: str
    mrsigner: _Hex48
    attributes: _Hex8
    attributes_mask: _Hex8
    tcb_levels: list[ModuleLevel]


class _Info(Dated, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    fmspc: _Hex6
    pce_id: _Hex2
    tcb_type: Literal[0]
    tcb_evaluation_data_number: Number


class FlatInfo(_Info, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """TCB info version 2, which is always SGX's."""

    id: str = "SGX"
    pce_id: _Hex2 = "0000"
    tcb_levels: Annotated[list[PlatformLevel[FlatTcb]], _SOME]


class SgxInfo(_Info, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """TCB info version 3 for SGX."""

    tcb_levels: Annotated[list[PlatformLevel[SgxTcb]], _SOME]


class TdxInfo(_Info, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """TCB info version 3 for TDX."""

    tdx_module: Module
    tdx_module_identities: tuple[NamedModule, ...] = ()
    tcb_levels: Annotated[list[PlatformLevel[TdxTcb]], _SOME]


class Kind(Struct, frozen=True):
    """Which kind of statement one is, before it is read as that."""

    version: Any = None
    id: Any = None


class IdentityV1(Dated, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Enclave identity version 1: one required SVN and no levels."""

    id: str = "QE"
    miscselect: _Hex4
    miscselect_mask: _Hex4
    attributes: _Hex16
    attributes_mask: _Hex16
    mrsigner: _Hex32
    isvprodid: _Word
    isvsvn: _Word


class IdentityV2(Dated, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Enclave identity version 2."""

    tcb_evaluation_data_number: Number
    miscselect: _Hex4
    miscselect_mask: _Hex4
    attributes: _Hex16
    attributes_mask: _Hex16
    mrsigner: _Hex32
    isvprodid: _Word
    tcb_levels: Annotated[list[EnclaveLevel], _SOME]


class EvaluationNumber(Struct, frozen=True, rename="camel"):
    """One TCB evaluation that Intel has published."""

    tcb_evaluation_data_number: Number


class EvaluationNumbers(Dated, frozen=True, rename="camel", kw_only=True):
    """Every TCB evaluation that Intel has published for a TEE ("Get TCB Evaluation Data Numbers")."""

    id: Literal["SGX", "TDX"]
    tcb_eval_numbers: list[EvaluationNumber]
