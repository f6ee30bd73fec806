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
from urllib.parse import urlsplit

import httpx2

from eaa.rats import (
    ConfigurationError,
    Endorsement,
    EndorsementError,
    Endorsements,
    InputError,
    NotFound,
    UnavailableError,
)
from eaa.tee.dcap.collateral_files import (
    MAX_FILE,
    crl_from_bytes,
    issuer_chain_from_bytes,
    statement_from_pcs,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

__all__ = ["INTEL_PCS", "INTEL_ROOT_CRL", "Wanted", "fetch", "new_client"]

INTEL_PCS: Final = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
"""Where Intel publishes its root's CRL: the one distribution point in every issue of the root's certificate. PCS has no path for it."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_FMSPC: Final = re.compile(r"[0-9a-f]{12}")
_API_PATH: Final = re.compile(r"/(sgx|tdx)/certification/v\d+/?$")
_TCB_INFO_CHAIN: Final = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
_IDENTITY_CHAIN: Final = ("SGX-Enclave-Identity-Issuer-Chain", "SGX-QE-Identity-Issuer-Chain")
_PCK_CRL_CHAIN: Final = ("SGX-PCK-CRL-Issuer-Chain",)


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
    version: Literal["v3", "v4"] = "v4"

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
    def _channel(self) -> dict[str, str]:
        if self.update is not None:
            return {"update": self.update}
        if self.evaluation_number is not None:
            return {"tcbEvaluationDataNumber": str(self.evaluation_number)}
        return {}


def new_client(*, timeout_seconds: float = 15.0, tls: ssl.SSLContext | None = None) -> httpx2.AsyncClient:
    """Return a client with what :func:`fetch` relies on: TLS verified (by ``tls``, or the system's roots), no redirects."""
    return httpx2.AsyncClient(
        verify=tls if tls is not None else True,
        follow_redirects=False,
        timeout=timeout_seconds,
        # A compressed answer could grow without bound while it is unpacked.
        headers={"Accept-Encoding": "identity", "User-Agent": "eaa-endorser"},
    )


async def fetch(
    base_url: str,
    wanted: Wanted,
    client: httpx2.AsyncClient,
    *,
    root_crl_url: str | None = None,
    timeout_seconds: float = 60.0,
) -> Endorsements:
    """Fetch the four pieces of collateral that quotes of one family of platforms need. Nothing is verified here.

    ``base_url`` is the service's root, such as :data:`INTEL_PCS`; a path like ``/sgx/certification/v4`` at its end is cut. The
    root's CRL comes from ``root_crl_url``, by default from :data:`INTEL_ROOT_CRL` for Intel's own service, and from
    ``rootcacrl`` of any other.

    :raises ConfigurationError: when a URL is not https (or http to this machine).
    :raises NotFound: when the service has nothing for this platform.
    :raises UnavailableError: when it cannot be reached in time, or says that it is busy or broken.
    :raises EndorsementError: when an answer is not what it should be, too large, or a redirect.
    """
    base = _API_PATH.sub("", _checked(base_url)).rstrip("/")
    sgx = f"{base}/sgx/certification/{wanted.version}"
    own = f"{base}/{wanted.tee}/certification/{wanted.version}"
    if root_crl_url is None:
        root_crl_url = INTEL_ROOT_CRL if base == INTEL_PCS else f"{sgx}/rootcacrl"
    channel = wanted._channel  # noqa: SLF001 - of this module
    crl_query = {"ca": wanted.ca, "encoding": "der"}
    try:
        async with asyncio.timeout(timeout_seconds), asyncio.TaskGroup() as tasks:
            tcb_info = tasks.create_task(_get(client, f"{own}/tcb", {"fmspc": wanted.fmspc, **channel}))
            identity = tasks.create_task(_get(client, f"{own}/qe/identity", channel))
            pck_crl = tasks.create_task(_get(client, f"{sgx}/pckcrl", crl_query))
            root_crl = tasks.create_task(_get(client, _checked(root_crl_url), {}))
    except TimeoutError as error:
        raise UnavailableError(f"{base} did not answer within {timeout_seconds:g} seconds") from error
    except ExceptionGroup as group:
        # One reason is enough to act on; the rest is mostly the same again.
        raise group.exceptions[0] from group
    return Endorsements(
        (
            tcb_info.result().statement("tcb_info", _TCB_INFO_CHAIN),
            identity.result().statement("qe_identity", _IDENTITY_CHAIN),
            pck_crl.result().crl("pck_crl", _PCK_CRL_CHAIN),
            root_crl.result().crl("root_ca_crl", ()),
        )
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """The body and headers of an answer with status 200."""

    url: str
    body: bytes
    headers: Mapping[str, str]

    def statement(self, kind: str, chain_headers: tuple[str, ...]) -> Endorsement:
        try:
            statement = statement_from_pcs(self.body, self._chain(chain_headers))
        except EndorsementError as error:
            raise EndorsementError(f"{self.url}: {error}") from error
        if statement.kind != kind:
            raise EndorsementError(f"{self.url}: a {statement.kind} where a {kind} was asked for")
        return statement

    def crl(self, kind: str, chain_headers: tuple[str, ...]) -> Endorsement:
        try:
            return Endorsement(kind, crl_from_bytes(self.body), self._chain(chain_headers))
        except EndorsementError as error:
            raise EndorsementError(f"{self.url}: {error}") from error

    def _chain(self, names: tuple[str, ...]) -> bytes:
        if not names:
            return b""
        value = next((self.headers[name] for name in names if name in self.headers), None)
        if value is None:
            raise EndorsementError(f"the answer lacks the header {names[0]}")
        return issuer_chain_from_bytes(value.encode())


async def _get(client: httpx2.AsyncClient, url: str, query: dict[str, str]) -> _Answer:
    request = client.build_request("GET", url, params=query)
    try:
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            _require_success(url, response.status_code)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise EndorsementError(f"{url}: the answer is compressed, which was not asked for")
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_FILE:
                    raise EndorsementError(f"{url}: the answer has more than {MAX_FILE} bytes")
        finally:
            await response.aclose()
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise UnavailableError(
            f"{url} cannot be reached: {type(error).__name__}",
            hint="Check the address, the network and the certificate authority; then try again.",
        ) from error
    return _Answer(url, bytes(body), response.headers)


def _require_success(url: str, status: int) -> None:
    if status == 200:
        return
    if status == 404:
        raise NotFound(f"{url} has nothing for this platform", hint="Check FMSPC, TEE and CA.")
    if status == 429 or status >= 500:
        raise UnavailableError(f"{url} answers {status}", hint="Try again later.")
    if 300 <= status < 400:
        raise EndorsementError(f"{url} redirects, which is not followed", hint="Configure the final address.")
    raise EndorsementError(f"{url} answers {status}", hint="Check that the address is that of a PCS or PCCS.")


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = httpx2.URL(url).host, parts.port
    except (ValueError, httpx2.InvalidURL) as error:
        raise ConfigurationError(f"{url!r} is not a URL") from error
    safe = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    if not host or not safe or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            f"{url!r} is not the plain https URL of a service",
            hint="Give an https URL without credentials or query; http is for this machine only.",
        )
    return url
