# SPDX-License-Identifier: Apache-2.0
"""Intel's signed statements: TCB info and enclave identities, read strictly.

Shapes from Intel's PCS API documentation, "Get TCB Info" and "Get Quoting Enclave Identity" (v2 to v4 of the API: TCB info
versions 2 and 3, enclave identity versions 1 and 2). What is signed is the inner JSON text, byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from cryptography.hazmat.primitives.asymmetric import ec

from eaa.rats import EndorsementError
from eaa.tee.dcap import shapes
from eaa.tee.dcap.ecdsa import verifies
from eaa.tee.dcap.signed_json import SignedObject, glance, interpret, read_signed_object, read_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from eaa.tee.x509 import Chain, ChainReader, Window

__all__ = [
    "EnclaveIdentity",
    "IdentityLevel",
    "TcbInfo",
    "TdxModule",
    "parse_enclave_identity",
    "parse_tcb_info",
    "read_enclave_identity",
    "read_signing_chain",
    "read_tcb_info",
    "require_signature",
]

TCB_SIGNING: Final = "Intel SGX TCB Signing"
PLATFORM_STATUSES: Final = frozenset(get_args(shapes.PlatformStatus))


class IdentityLevel(NamedTuple):
    """One level of an enclave or module: the SVN it needs, and its status."""

    isv_svn: int
    status: str
    date: datetime | None
    advisory_ids: tuple[str, ...]


class TdxModule(NamedTuple):
    """Who may have signed a TDX module (48 bytes), and which SEAM attributes it may have (8 bytes each)."""

    id: str
    mr_signer: bytes
    attributes: int
    attributes_mask: int
    levels: tuple[IdentityLevel, ...]


class TcbInfo(NamedTuple):
    """What Intel says of one family of platforms (FMSPC, 6 bytes) for one kind of TEE (``id`` ``SGX`` or ``TDX``).

    ``newest`` is the first level as it came, which names the 16 components for a reader (``Early Microcode Update, BIOS``), where
    Intel does.
    """

    id: str
    version: int
    window: Window
    fmspc: bytes
    pce_id: bytes
    evaluation_number: int
    levels: Sequence[shapes.TcbLevel]
    module: TdxModule | None
    module_identities: tuple[TdxModule, ...]
    newest: shapes.Tcb


class EnclaveIdentity(NamedTuple):
    """What Intel says of a quoting enclave: who signed it, which attributes it has, its levels. Masked fields are integers."""

    id: str
    version: int
    window: Window
    evaluation_number: int
    misc_select: int
    misc_select_mask: int
    attributes: int
    attributes_mask: int
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[IdentityLevel, ...]


def read_signing_chain(pem: bytes, chains: ChainReader) -> Chain:
    """Read the chain of a signed statement: TCB signing certificate, then root.

    :raises EndorsementError: when it is not such a chain or ends at another root.
    """
    chain = chains.read(pem)
    if len(chain.certificates) != 2 or chain.leaf.name != TCB_SIGNING:
        raise EndorsementError(
            f"statements are signed by {TCB_SIGNING!r} below the root, not by {chain.names}"
        )
    return chain


def require_signature(statement: SignedObject, signer: Chain) -> None:
    """Prove that the signer's leaf signed the statement's text.

    :raises EndorsementError: when it did not.
    """
    key = signer.leaf.public_key
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise EndorsementError("the TCB signing key is not an elliptic curve key")
    if not verifies(key, statement.signature, statement.text):
        raise EndorsementError("the signature does not belong to this text and this signer")


def read_tcb_info(content: bytes) -> SignedObject:
    """Read a PCS body ``{"tcbInfo": {…}, "signature": "…"}`` without interpreting it.

    :raises EndorsementError: when it is something else.
    """
    return read_signed_object(content, "tcbInfo")


def read_enclave_identity(content: bytes) -> SignedObject:
    """Read a PCS body ``{"enclaveIdentity": {…}, "signature": "…"}`` (``qeIdentity`` in version 1) without interpreting it.

    :raises EndorsementError: when it is something else.
    """
    return read_signed_object(content, "enclaveIdentity", "qeIdentity")


def parse_tcb_info(signed: SignedObject) -> TcbInfo:
    """Interpret TCB info version 2 (SGX) or 3 (SGX, TDX).

    :raises EndorsementError: when a field is missing, of another type, or out of range.
    """
    kind = glance(signed, shapes.Kind)
    if kind.version == 2:
        return _tcb_info("SGX", interpret(signed, shapes.FlatInfo))
    if kind.version != 3:
        raise EndorsementError("TCB info of a version that is not known; known are 2 and 3")
    if kind.id == "SGX":
        return _tcb_info("SGX", interpret(signed, shapes.SgxInfo))
    if kind.id == "TDX":
        return _tcb_info("TDX", interpret(signed, shapes.TdxInfo))
    raise EndorsementError("TCB info for a TEE that is not known; known are SGX and TDX")


def _tcb_info(kind: str, info: shapes.FlatInfo | shapes.SgxInfo | shapes.TdxInfo) -> TcbInfo:
    tdx = info if isinstance(info, shapes.TdxInfo) else None
    for level in info.tcb_levels:
        read_time(level.tcb_date)
    return TcbInfo(
        id=kind,
        version=info.version,
        window=info.window(f"TCB info ({kind})"),
        fmspc=bytes.fromhex(info.fmspc),
        pce_id=bytes.fromhex(info.pce_id),
        evaluation_number=info.tcb_evaluation_data_number,
        levels=info.tcb_levels,
        module=None if tdx is None else _tdx_module("", tdx.tdx_module, ()),
        module_identities=tuple(
            _tdx_module(each.id, each, each.tcb_levels) for each in (tdx.tdx_module_identities if tdx else ())
        ),
        newest=info.tcb_levels[0].tcb,
    )


def parse_enclave_identity(signed: SignedObject) -> EnclaveIdentity:
    """Interpret an enclave identity version 1 or 2.

    :raises EndorsementError: when a field is missing, of another type, or out of range.
    """
    version = glance(signed, shapes.Kind).version
    identity: shapes.IdentityV1 | shapes.IdentityV2
    if version == 2:
        identity = interpret(signed, shapes.IdentityV2)
        levels = tuple(map(_identity_level, identity.tcb_levels))
        evaluation_number = identity.tcb_evaluation_data_number
    elif version == 1:
        # Version 1 has one required SVN and no levels; below it the enclave is out of date.
        identity = interpret(signed, shapes.IdentityV1)
        levels = (
            IdentityLevel(identity.isvsvn, "UpToDate", None, ()),
            IdentityLevel(0, "OutOfDate", None, ()),
        )
        evaluation_number = 0
    else:
        raise EndorsementError("enclave identity of a version that is not known; known are 1 and 2")
    return EnclaveIdentity(
        id=identity.id,
        version=identity.version,
        window=identity.window(f"enclave identity ({identity.id})"),
        evaluation_number=evaluation_number,
        misc_select=int(identity.miscselect, 16),
        misc_select_mask=int(identity.miscselect_mask, 16),
        attributes=int(identity.attributes, 16),
        attributes_mask=int(identity.attributes_mask, 16),
        mr_signer=bytes.fromhex(identity.mrsigner),
        isv_prod_id=identity.isvprodid,
        levels=levels,
    )


def _identity_level(level: shapes.EnclaveLevel | shapes.ModuleLevel) -> IdentityLevel:
    return IdentityLevel(level.tcb.isvsvn, level.tcb_status, read_time(level.tcb_date), level.advisory_ids)


def _tdx_module(
    name: str, module: shapes.Module | shapes.NamedModule, levels: Iterable[shapes.ModuleLevel]
) -> TdxModule:
    return TdxModule(
        id=name,
        mr_signer=bytes.fromhex(module.mrsigner),
        attributes=int.from_bytes(bytes.fromhex(module.attributes), "little"),
        attributes_mask=int.from_bytes(bytes.fromhex(module.attributes_mask), "little"),
        levels=tuple(map(_identity_level, levels)),
    )
