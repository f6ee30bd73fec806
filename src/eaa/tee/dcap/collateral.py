# SPDX-License-Identifier: Apache-2.0
"""Intel's signed statements: TCB info and enclave identities, read strictly.

Shapes from Intel's PCS API documentation, "Get TCB Info" and "Get Quoting Enclave Identity" (v2 to v4 of the API: TCB info
versions 2 and 3, enclave identity versions 1 and 2). What is signed is the inner JSON text, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec

from eaa.rats import EndorsementError
from eaa.tee.dcap.ecdsa import verifies
from eaa.tee.dcap.signed_json import JsonObject, SignedObject, read_signed_object

if TYPE_CHECKING:
    from datetime import datetime

    from eaa.tee.x509 import Chain, ChainReader, Window

__all__ = [
    "COMPONENTS",
    "EnclaveIdentity",
    "IdentityLevel",
    "TcbInfo",
    "TcbLevel",
    "TdxModule",
    "parse_enclave_identity",
    "parse_tcb_info",
    "read_enclave_identity",
    "read_signing_chain",
    "read_tcb_info",
    "require_signature",
]

COMPONENTS: Final = 16
"""A TCB has exactly 16 component SVNs; any other count is refused, never zipped (attack A6)."""
_LABELS: Final = ("type", "category")
TCB_SIGNING: Final = "Intel SGX TCB Signing"

PLATFORM_STATUSES: Final = frozenset(
    {
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
    }
)
ENCLAVE_STATUSES: Final = frozenset(
    {"UpToDate", "OutOfDate", "ConfigurationNeeded", "OutOfDateConfigurationNeeded", "Revoked"}
)
MODULE_STATUSES: Final = frozenset({"UpToDate", "OutOfDate", "Revoked"})


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """One level of a platform's TCB: the SVNs it needs, and what Intel says of a platform that has them."""

    sgx_components: tuple[int, ...]
    pce_svn: int
    tdx_components: tuple[int, ...] | None
    status: str
    date: datetime
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IdentityLevel:
    """One level of an enclave or module: the SVN it needs, and its status."""

    isv_svn: int
    status: str
    date: datetime | None
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TdxModule:
    """Who may have signed a TDX module (48 bytes), and which SEAM attributes it may have (8 bytes each)."""

    id: str
    mr_signer: bytes
    attributes: int
    attributes_mask: int
    levels: tuple[IdentityLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """What Intel says of one family of platforms (FMSPC, 6 bytes) for one kind of TEE (``id`` ``SGX`` or ``TDX``).

    ``sgx_labels`` and ``tdx_labels`` name the 16 components for a reader (``Early Microcode Update, BIOS``), where Intel does.
    """

    id: str
    version: int
    window: Window
    fmspc: bytes
    pce_id: bytes
    evaluation_number: int
    levels: tuple[TcbLevel, ...]
    module: TdxModule | None
    module_identities: tuple[TdxModule, ...]
    sgx_labels: tuple[str, ...] = ()
    tdx_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EnclaveIdentity:
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
    body = JsonObject(signed.value, "tcbInfo")
    version = body.integer("version")
    if version not in {2, 3}:
        raise EndorsementError(f"TCB info version {version}; known are 2 and 3")
    if body.integer("tcbType") != 0:
        raise EndorsementError("TCB info of a type other than 0 is not defined")
    kind = body.text("id") if version == 3 else "SGX"
    if kind not in {"SGX", "TDX"}:
        raise EndorsementError(f"TCB info for {kind!r}; known are SGX and TDX")
    tdx = kind == "TDX"
    given = body.objects("tcbLevels")
    levels = tuple(_tcb_level(each, version, tdx=tdx) for each in given)
    if not levels:
        raise EndorsementError("TCB info without levels")
    newest = given[0].object("tcb")
    identities = body.objects("tdxModuleIdentities") if tdx and "tdxModuleIdentities" in body else []
    return TcbInfo(
        id=kind,
        version=version,
        window=body.window(f"TCB info ({kind})"),
        fmspc=body.hex("fmspc", 6),
        pce_id=body.hex("pceId", 2) if version == 3 or "pceId" in body else b"\0\0",
        evaluation_number=body.integer("tcbEvaluationDataNumber"),
        levels=levels,
        module=_tdx_module(body.object("tdxModule"), "") if tdx else None,
        module_identities=tuple(_tdx_module(each, each.text("id")) for each in identities),
        sgx_labels=newest.labels("sgxtcbcomponents", _LABELS) if version == 3 else (),
        tdx_labels=newest.labels("tdxtcbcomponents", _LABELS) if tdx else (),
    )


def parse_enclave_identity(signed: SignedObject) -> EnclaveIdentity:
    """Interpret an enclave identity version 1 or 2.

    :raises EndorsementError: when a field is missing, of another type, or out of range.
    """
    body = JsonObject(signed.value, "enclaveIdentity")
    version = body.integer("version")
    if version not in {1, 2}:
        raise EndorsementError(f"enclave identity version {version}; known are 1 and 2")
    if version == 2:
        levels = tuple(_identity_level(each, ENCLAVE_STATUSES) for each in body.objects("tcbLevels"))
        evaluation_number = body.integer("tcbEvaluationDataNumber")
        kind = body.text("id")
    else:
        # Version 1 has one required SVN and no levels; below it the enclave is out of date.
        required = body.integer("isvsvn", 0xFFFF)
        levels = (
            IdentityLevel(required, "UpToDate", None, ()),
            IdentityLevel(0, "OutOfDate", None, ()),
        )
        evaluation_number, kind = 0, body.text("id") if "id" in body else "QE"
    if not levels:
        raise EndorsementError("enclave identity without levels")
    return EnclaveIdentity(
        id=kind,
        version=version,
        window=body.window(f"enclave identity ({kind})"),
        evaluation_number=evaluation_number,
        misc_select=int.from_bytes(body.hex("miscselect", 4), "big"),
        misc_select_mask=int.from_bytes(body.hex("miscselectMask", 4), "big"),
        attributes=int.from_bytes(body.hex("attributes", 16), "big"),
        attributes_mask=int.from_bytes(body.hex("attributesMask", 16), "big"),
        mr_signer=body.hex("mrsigner", 32),
        isv_prod_id=body.integer("isvprodid", 0xFFFF),
        levels=levels,
    )


def _tcb_level(level: JsonObject, version: int, *, tdx: bool) -> TcbLevel:
    tcb = level.object("tcb")
    return TcbLevel(
        sgx_components=_components(tcb, "sgxtcbcomponents") if version == 3 else _flat_components(tcb),
        pce_svn=tcb.integer("pcesvn", 0xFFFF),
        tdx_components=_components(tcb, "tdxtcbcomponents") if tdx else None,
        status=level.one_of("tcbStatus", PLATFORM_STATUSES),
        date=level.time("tcbDate"),
        advisory_ids=level.texts("advisoryIDs"),
    )


def _components(tcb: JsonObject, name: str) -> tuple[int, ...]:
    components = tcb.svns(name)
    if len(components) != COMPONENTS:
        raise EndorsementError(f"{name} has {len(components)} entries, exactly {COMPONENTS} are due")
    return components


def _flat_components(tcb: JsonObject) -> tuple[int, ...]:
    return tuple(tcb.integer(f"sgxtcbcomp{n:02d}svn", 0xFF) for n in range(1, COMPONENTS + 1))


def _identity_level(level: JsonObject, statuses: frozenset[str]) -> IdentityLevel:
    return IdentityLevel(
        isv_svn=level.object("tcb").integer("isvsvn", 0xFFFF),
        status=level.one_of("tcbStatus", statuses),
        date=level.time("tcbDate"),
        advisory_ids=level.texts("advisoryIDs"),
    )


def _tdx_module(module: JsonObject, name: str) -> TdxModule:
    levels = module.objects("tcbLevels") if name else []
    return TdxModule(
        id=name,
        mr_signer=module.hex("mrsigner", 48),
        attributes=int.from_bytes(module.hex("attributes", 8), "little"),
        attributes_mask=int.from_bytes(module.hex("attributesMask", 8), "little"),
        levels=tuple(_identity_level(each, MODULE_STATUSES) for each in levels),
    )
