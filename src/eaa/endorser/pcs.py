# SPDX-License-Identifier: Apache-2.0
"""A client of Intel's Provisioning Certification Service (PCS), or of a cache that speaks its language (PCCS).

Paths, headers and parameters from Intel's "Provisioning Certification Service API", version 4; version 3, which knows SGX only,
differs in the name of one header. Where to ask comes from whoever configures it, never from what was received: the CRL
distribution points inside certificates are not followed, and neither are redirects.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from eaa.endorser.authenticity import TCB_EVALUATION_NUMBERS
from eaa.endorser.fmspcs import read_fmspcs
from eaa.endorser.history import API_V3, EARLY, STANDARD, number_slot
from eaa.endorser.http import Gate, checked, get, new_client, post
from eaa.endorser.needs import FMSPCS, PCK_CERTIFICATES, QE_OF, Need
from eaa.endorser.pck import PckAnswer, read_pckcerts
from eaa.rats import Endorsement, EndorsementError, Endorsements, InputError, NotFound, UnavailableError
from eaa.tee.dcap.collateral_files import crl_from_bytes, issuer_chain_from_bytes, statement_from_pcs
from eaa.tee.dcap.signed_json import read_signed_object

if TYPE_CHECKING:
    import httpx2

    from eaa.endorser.http import Answer
    from eaa.endorser.pck import PckPlatform

__all__ = ["INTEL_PCS", "INTEL_ROOT_CRL", "PcsSource", "Wanted", "fetch", "new_client"]

INTEL_PCS: Final = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
"""Where Intel publishes its root's CRL: the one distribution point in every issue of the root's certificate. PCS has no path for it."""

_FMSPC: Final = re.compile(r"[0-9a-f]{12}")
_API_PATH: Final = re.compile(r"/(sgx|tdx)/certification/v\d+/?$")
_TCB_INFO_CHAIN: Final = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
_IDENTITY_CHAIN: Final = ("SGX-Enclave-Identity-Issuer-Chain", "SGX-QE-Identity-Issuer-Chain")
_PCK_CRL_CHAIN: Final = ("SGX-PCK-CRL-Issuer-Chain",)
_NUMBERS_CHAIN: Final = ("TCB-Evaluation-Data-Numbers-Issuer-Chain",)
_IDENTITY_PATHS: Final = {"QE": ("sgx", "qe"), "TD_QE": ("tdx", "qe"), "QVE": ("sgx", "qve")}

_OFFERED: Final = frozenset(
    {"tcb_info", "qe_identity", "pck_crl", "root_ca_crl", TCB_EVALUATION_NUMBERS, PCK_CERTIFICATES, FMSPCS}
)

Version = Literal["v3", "v4"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which collateral to fetch: for platforms of one FMSPC (6 bytes in hex) and PCK CA, for one kind of TEE.

    ``update`` asks for Intel's ``early`` or ``standard`` channel, ``evaluation_number`` for one TCB evaluation data number; at most
    one of the two.
    """

    fmspc: str
    tee: Literal["sgx", "tdx"]
    ca: Literal["platform", "processor"]
    update: Literal["early", "standard"] | None = None
    evaluation_number: int | None = None
    version: Version = "v4"

    def __post_init__(self) -> None:
        if not _FMSPC.fullmatch(self.fmspc):
            raise InputError(
                "an FMSPC is 12 lower-case hex digits", hint="`eaa explain` shows a quote's FMSPC."
            )
        if self.update is not None and self.evaluation_number is not None:
            raise InputError("the update channel and the evaluation number exclude each other")
        if self.version == "v3" and self.tee != "sgx":
            raise InputError("version 3 of the API knows SGX only", hint="Use version 4.")

    @property
    def slot(self) -> str:
        """Where the store keeps what is fetched."""
        if self.evaluation_number is not None:
            return number_slot(self.evaluation_number)
        return EARLY if self.update == "early" else STANDARD

    def needs(self) -> tuple[Need, ...]:
        """Return the four pieces, in the order of a set; of which chip maker is open."""
        return (
            Need("tcb_info", "", f"{self.tee}/{self.fmspc}", API_V3 if self.version == "v3" else self.slot),
            Need("qe_identity", "", QE_OF[self.tee], self.slot),
            Need("pck_crl", "", self.ca),
            Need("root_ca_crl", "", ""),
        )


class PcsSource:
    """One PCS or PCCS. Nothing that it says is verified here.

    ``base_url`` is the service's root, such as :data:`INTEL_PCS`; a path like ``/sgx/certification/v4`` at its end is cut. The
    root's CRL comes from ``root_crl_url``, by default from :data:`INTEL_ROOT_CRL` for Intel's own service, and from
    ``rootcacrl`` of any other. ``root`` is the id of the one root whose word is asked for here, empty for any. ``api_key`` goes with
    requests for PCK certificates, and nowhere else.

    :raises ConfigurationError: when a URL is not https (or http to this machine).
    """

    def __init__(
        self,
        base_url: str,
        client: httpx2.AsyncClient,
        *,
        root: str = "",
        root_crl_url: str | None = None,
        version: Version = "v4",
        gate: Gate | None = None,
        api_key: str = "",
    ) -> None:
        self.name = _API_PATH.sub("", checked(base_url)).rstrip("/")
        self._client = client
        self._root = root
        self._version = version
        self._gate = gate
        self._key_header = {"Ocp-Apim-Subscription-Key": api_key} if api_key else {}
        if root_crl_url is None:
            root_crl_url = INTEL_ROOT_CRL if self.name == INTEL_PCS else f"{self._api('sgx')}/rootcacrl"
        self._root_crl_url = checked(root_crl_url)

    def _api(self, tee: str, version: str = "") -> str:
        return f"{self.name}/{tee}/certification/{version or self._version}"

    def offers(self, need: Need) -> bool:
        """Whether this kind of service can have it."""
        if self._root and need.root != self._root:
            return False
        if self._version == "v3" and (
            need.scope.startswith(("tdx", "TD_QE"))
            or need.kind in {TCB_EVALUATION_NUMBERS, FMSPCS}
            or need.slot.startswith("#")
        ):
            return False
        if need.slot == API_V3 and (need.kind != "tcb_info" or need.scope.startswith("tdx")):
            return False
        return need.kind in _OFFERED

    async def fetch(self, need: Need) -> Endorsement:
        """Ask for one object.

        :raises NotFound: when the service does not have it.
        :raises UnavailableError: when it cannot be reached, or says that it is busy or broken.
        :raises EndorsementError: when the answer is not what it should be, too large, or a redirect.
        """
        if need.kind == "tcb_info":
            tee, _, fmspc = need.scope.partition("/")
            version = API_V3 if need.slot == API_V3 else ""
            answer = await self._get(
                f"{self._api(tee, version)}/tcb", {"fmspc": fmspc, **_channel(need.slot)}
            )
            return _statement(answer, need.kind, _TCB_INFO_CHAIN)
        if need.kind == "qe_identity":
            tee, enclave = _IDENTITY_PATHS[need.scope]
            answer = await self._get(f"{self._api(tee)}/{enclave}/identity", _channel(need.slot))
            return _statement(answer, need.kind, _IDENTITY_CHAIN)
        if need.kind == "pck_crl":
            answer = await self._get(f"{self._api('sgx')}/pckcrl", {"ca": need.scope, "encoding": "der"})
            return _crl(answer, need.kind, _PCK_CRL_CHAIN)
        if need.kind == "root_ca_crl":
            return _crl(await self._get(self._root_crl_url, {}), need.kind, ())
        if need.kind == TCB_EVALUATION_NUMBERS:
            answer = await self._get(f"{self._api(need.scope)}/tcbevaluationdatanumbers", {})
            return _numbers(answer)
        raise NotFound(f"{self.name} has no {need.kind}")

    async def certificates(self, platform: PckPlatform) -> PckAnswer:
        """Ask for the PCK certificates of a platform: all of them at Intel's; at a PCCS, which has no such path, the fitting one.

        :raises NotFound: when the service does not know the platform, or nothing is known that it could be asked with.
        :raises UnavailableError: when it cannot be reached, or says that it is busy or broken.
        :raises EndorsementError: when the answer is not what it should be, too large, or a redirect.
        """
        url = f"{self._api('sgx')}/pckcert"
        try:
            answer = await self._all_certificates(f"{url}s", platform)
            certificates = read_pckcerts(answer.body)
        except NotFound:
            if platform.raw_tcb is None:
                raise
            answer = await self._fitting_certificate(url, platform)
            certificates = ((answer.headers.get("sgx-tcbm", ""), answer.body),)
        except EndorsementError as error:
            raise EndorsementError(f"{url}s: {error}", hint=error.hint) from error
        return PckAnswer(
            certificates,
            _chain(answer, ("SGX-PCK-Certificate-Issuer-Chain",)),
            answer.headers.get("sgx-fmspc", ""),
            answer.headers.get("sgx-pck-certificate-ca-type", ""),
        )

    async def fmspcs(self) -> dict[str, str]:
        """Ask for the families of platforms: FMSPC and kind. The list is not signed; TLS is all that vouches for it.

        :raises NotFound: when the service has no such list.
        :raises UnavailableError: when it cannot be reached, or says that it is busy or broken.
        :raises EndorsementError: when the answer is not what it should be, too large, or a redirect.
        """
        answer = await self._get(f"{self._api('sgx')}/fmspcs", {"platform": "all"})
        try:
            return read_fmspcs(answer.body)
        except EndorsementError as error:
            raise EndorsementError(f"{answer.url}: {error}") from error

    async def _all_certificates(self, url: str, platform: PckPlatform) -> Answer:
        headers = self._key_header
        if platform.manifest:
            body = {"platformManifest": platform.manifest, "pceid": platform.pce_id}
            return await post(self._client, url, body, self._gate, headers=headers)
        if platform.encrypted_ppid:
            query = {"encrypted_ppid": platform.encrypted_ppid, "pceid": platform.pce_id}
            return await get(self._client, url, query, self._gate, headers=headers)
        raise NotFound(
            f"{self.name} cannot be asked without the platform's encrypted PPID or manifest",
            hint="Register the platform again, with enc_ppid or platform_manifest.",
        )

    async def _fitting_certificate(self, url: str, platform: PckPlatform) -> Answer:
        assert platform.raw_tcb is not None
        query = {
            "qeid": platform.qe_id,
            "encrypted_ppid": platform.encrypted_ppid,
            "cpusvn": platform.raw_tcb.cpu_svn.hex(),
            "pcesvn": platform.raw_tcb.pce_svn_hex,
            "pceid": platform.pce_id,
        }
        known = {name: value for name, value in query.items() if value}
        return await get(self._client, url, known, self._gate, headers=self._key_header)

    async def _get(self, url: str, query: dict[str, str]) -> Answer:
        return await get(self._client, url, query, self._gate)


async def fetch(
    base_url: str,
    wanted: Wanted,
    client: httpx2.AsyncClient,
    *,
    root_crl_url: str | None = None,
    timeout_seconds: float = 60.0,
) -> Endorsements:
    """Fetch the four pieces of collateral that quotes of one family of platforms need. Nothing is verified here.

    See :class:`PcsSource` for the URLs.

    :raises ConfigurationError: when a URL is not https (or http to this machine).
    :raises NotFound: when the service has nothing for this platform.
    :raises UnavailableError: when it cannot be reached in time, or says that it is busy or broken.
    :raises EndorsementError: when an answer is not what it should be, too large, or a redirect.
    """
    source = PcsSource(base_url, client, root_crl_url=root_crl_url, version=wanted.version)
    try:
        async with asyncio.timeout(timeout_seconds):
            found = await asyncio.gather(*map(source.fetch, wanted.needs()), return_exceptions=True)
    except TimeoutError as error:
        raise UnavailableError(f"{source.name} did not answer within {timeout_seconds:g} seconds") from error
    # One reason is enough to act on; the rest is mostly the same again.
    items = []
    for each in found:
        if isinstance(each, BaseException):
            raise each
        items.append(each)
    return Endorsements(tuple(items))


def _channel(slot: str) -> dict[str, str]:
    if slot.startswith("#"):
        return {"tcbEvaluationDataNumber": slot[1:]}
    return {"update": "early"} if slot == EARLY else {}  # the standard channel is what everybody answers with


def _statement(answer: Answer, kind: str, chain_headers: tuple[str, ...]) -> Endorsement:
    chain = _chain(answer, chain_headers)
    try:
        statement = statement_from_pcs(answer.body, chain)
    except EndorsementError as error:
        raise EndorsementError(f"{answer.url}: {error}") from error
    if statement.kind != kind:
        raise EndorsementError(f"{answer.url}: a {statement.kind} where a {kind} was asked for")
    return statement


def _crl(answer: Answer, kind: str, chain_headers: tuple[str, ...]) -> Endorsement:
    chain = _chain(answer, chain_headers)
    try:
        return Endorsement(kind, crl_from_bytes(answer.body), chain)
    except EndorsementError as error:
        raise EndorsementError(f"{answer.url}: {error}") from error


def _numbers(answer: Answer) -> Endorsement:
    chain = _chain(answer, _NUMBERS_CHAIN)
    member = "tcbEvaluationDataNumbers"
    try:
        signed = read_signed_object(answer.body, member)
    except EndorsementError as error:
        raise EndorsementError(f"{answer.url}: {error}") from error
    body = b'{"%s":%s,"signature":"%s"}' % (member.encode(), signed.text, signed.signature.hex().encode())
    return Endorsement(TCB_EVALUATION_NUMBERS, body, chain)


def _chain(answer: Answer, names: tuple[str, ...]) -> bytes:
    if not names:
        return b""
    value = answer.header(*names)
    try:
        return issuer_chain_from_bytes(value.encode())
    except EndorsementError as error:
        raise EndorsementError(f"{answer.url}: {error}") from error
