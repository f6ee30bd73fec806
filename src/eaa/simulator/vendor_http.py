# SPDX-License-Identifier: Apache-2.0
"""The chip maker's own service over HTTP: Intel's PCS, with the troubles that a timeline declares.

Paths, parameters, headers and statuses are those of Intel's "Provisioning Certification Service API" (versions 4 and 3);
``rootcacrl`` and the lookup of PCK certificates by ``qeid`` are those of Intel's caching service (PCCS), which clients expect at the
same place. The time comes from a clock that is handed in; each answer is determined by the chip maker, the timeline, that
time and, for budgets and request ids, by the requests before.
"""

from __future__ import annotations

import asyncio
import json
import re
from base64 import encodebytes
from collections import deque
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

import httpx2
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from eaa.simulator.collateral import flat_components
from eaa.simulator.publication import Publication
from eaa.simulator.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from eaa.simulator.publication import PckCertificate, Signed
    from eaa.simulator.timeline import Trouble
    from eaa.simulator.vendor import ChipMaker

    Clock = Callable[[], datetime]
    Sleep = Callable[[float], Awaitable[None]]
    Answer = Callable[["Call"], Response]

__all__ = ["VendorService", "VendorTransport"]

_VERSIONS: Final = ("v3", "v4")
_JSON: Final = "application/json"
_PEM: Final = "application/x-pem-file"
_CRL: Final = "application/pkix-crl"
_IDENTITY_CHAIN: Final = "SGX-Enclave-Identity-Issuer-Chain"
_PLATFORMS: Final = {"platform": "E5", "processor": "client"}
"""What the list of FMSPCs calls the machines of each CA."""
_PORTAL: Final = b"<!doctype html><title>Sign in</title><p>Sign in to use this network.</p>\n"


class Call(NamedTuple):
    """One request: its parameters, the state of the world that answers it, and the time it is answered as of."""

    query: QueryParams
    headers: Any
    publication: Publication
    at: datetime
    wrong_fmspc: bool


class _Refused(Exception):
    """The request cannot be answered; ``status`` says why."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.code = code


class VendorService:
    """An ASGI application that answers as the chip maker's services do, at the time that ``clock`` tells.

    ``sleep`` is what slow answers wait with.
    """

    def __init__(
        self,
        maker: ChipMaker,
        timeline: Timeline | None = None,
        clock: Clock = lambda: datetime.now(UTC),
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._timeline = timeline or Timeline()
        self._publication = Publication(maker, self._timeline)
        self._clock = clock
        self._sleep = sleep
        self._count = 0
        self._spent: dict[Trouble, deque[datetime]] = {}
        self._app = Starlette(routes=self._routes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    def refuses(self, path: str = "/") -> bool:
        """Tell whether nobody answers requests for ``path`` now; who accepts connections has to ask."""
        return any(each.kind == "refused" for each in self._troubles(self._clock(), path))

    def _routes(self) -> list[Route]:
        table: list[tuple[str, Answer]] = []
        for version in _VERSIONS:
            sgx = f"/sgx/certification/{version}"
            table += [
                (f"{sgx}/tcb", _tcb_info("sgx", version)),
                (f"{sgx}/qe/identity", _identity("sgx", version)),
                (f"{sgx}/qve/identity", _identity("qve", version)),
                (f"{sgx}/pckcrl", _pck_crl),
                (f"{sgx}/rootcacrl", _root_crl_hex),
                (f"{sgx}/pckcert", self._authorized(_pck_certificate)),
                (f"{sgx}/pckcerts", self._authorized(_pck_certificates)),
            ]
        sgx, tdx = "/sgx/certification/v4", "/tdx/certification/v4"
        table += [
            (f"{tdx}/tcb", _tcb_info("tdx", "v4")),
            (f"{tdx}/qe/identity", _identity("tdx", "v4")),
            (f"{sgx}/tcbevaluationdatanumbers", _evaluation_numbers("sgx")),
            (f"{tdx}/tcbevaluationdatanumbers", _evaluation_numbers("tdx")),
            (f"{sgx}/fmspcs", _fmspcs),
            ("/IntelSGXRootCA.der", _root_crl),
        ]
        return [Route(path, self._endpoint(answer)) for path, answer in table]

    def _authorized(self, answer: Answer) -> Answer:
        key = self._timeline.publishing.subscription_key

        def check(call: Call) -> Response:
            if key and call.headers.get("ocp-apim-subscription-key") != key:
                raise _Refused(401)
            return answer(call)

        return check

    def _endpoint(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            at, path = self._clock().astimezone(UTC), request.url.path
            self._count += 1
            troubles: dict[str, Trouble] = {each.kind: each for each in self._troubles(at, path)}
            if "refused" in troubles:
                raise ConnectionRefusedError(f"{path} is not to be reached at {at.isoformat()}")
            if "slow" in troubles:
                await self._sleep(troubles["slow"].seconds)
            response = self._refusal(troubles, at) or self._answer(answer, request, troubles, at)
            # Intel's are random; these say which request of the service's life it was.
            response.headers["Request-ID"] = sha256(f"{self._count} {path}".encode()).hexdigest()[:32]
            return response

        return respond

    def _troubles(self, at: datetime, path: str) -> list[Trouble]:
        return [each for each in self._timeline.troubles if each.applies(at, path)]

    def _refusal(self, troubles: dict[str, Trouble], at: datetime) -> Response | None:
        if trouble := troubles.get("status"):
            return _empty(trouble.status, retry_after=trouble.retry_after)
        if trouble := troubles.get("budget"):
            window, spent = timedelta(seconds=trouble.seconds), self._spent.setdefault(trouble, deque())
            while spent and spent[0] <= at - window:
                spent.popleft()
            if len(spent) >= trouble.requests:
                wait = (spent[0] + window - at) if spent else window
                return _empty(429, retry_after=max(1, -(-wait // timedelta(seconds=1))))
            spent.append(at)
        return None

    def _answer(
        self, answer: Answer, request: Request, troubles: dict[str, Trouble], at: datetime
    ) -> Response:
        if "not-json" in troubles:
            return Response(_PORTAL, media_type="text/html")
        if trouble := troubles.get("stalled"):
            at = trouble.begin.astimezone(UTC)
        if trouble := troubles.get("replayed"):
            at -= timedelta(days=trouble.days)
        publication = self._publication.impostor if "impostor" in troubles else self._publication
        call = Call(request.query_params, request.headers, publication, at, "wrong-fmspc" in troubles)
        try:
            response = answer(call)
            if "mis-signed" in troubles:
                response.body = answer(call._replace(publication=self._publication.impostor)).body
        except _Refused as refusal:
            return _empty(refusal.status, code=refusal.code)
        if "no-chain" in troubles:
            for name in [name for name in response.headers if name.endswith("-issuer-chain")]:
                del response.headers[name]
        if "truncated" in troubles:
            response.body = response.body[: len(response.body) // 2]
        if trouble := troubles.get("oversize"):
            response.body = bytes(response.body).ljust(trouble.size, b" ")
        response.headers["Content-Length"] = str(len(response.body))
        return response


class VendorTransport(httpx2.AsyncBaseTransport):
    """Lets an HTTP client speak to a service in the same process, without sockets: of any host it asks for."""

    def __init__(self, service: VendorService) -> None:
        self._service = service
        self._asgi = httpx2.ASGITransport(service)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer as the service does, or not at all when it refuses connections.

        :raises httpx2.ConnectError: as a client over sockets would.
        """
        if self._service.refuses(request.url.path):
            raise httpx2.ConnectError("the simulated service refuses connections", request=request)
        return await self._asgi.handle_async_request(request)


def _tcb_info(tee: str, version: str) -> Answer:
    header = "TCB-Info-Issuer-Chain" if version == "v4" else "SGX-TCB-Info-Issuer-Chain"

    def answer(call: Call) -> Response:
        publication = call.publication
        fmspc = _hex(call, "fmspc", 6)
        known = [publication.fmspcs["platform"]] if tee == "tdx" else list(publication.fmspcs.values())
        release = publication.release(call.at, _wanted(call, version))
        if fmspc not in known or release is None:
            raise _Refused(404)
        if call.wrong_fmspc:
            fmspc = publication.other_fmspc
        form = 3 if version == "v4" else 2
        return _signed(publication.tcb_info(tee, fmspc, release, call.at, version=form), header)

    return answer


def _identity(enclave: str, version: str) -> Answer:
    def answer(call: Call) -> Response:
        release = call.publication.release(call.at, _wanted(call, version))
        if release is None:
            raise _Refused(404)
        return _signed(call.publication.identity(enclave, release, call.at), _IDENTITY_CHAIN)

    return answer


def _evaluation_numbers(tee: str) -> Answer:
    def answer(call: Call) -> Response:
        signed = call.publication.evaluation_numbers(tee, call.at)
        return _signed(signed, "TCB-Evaluation-Data-Numbers-Issuer-Chain")

    return answer


def _pck_crl(call: Call) -> Response:
    ca = call.query.get("ca", "").lower()
    encoding = call.query.get("encoding", "pem").lower()
    if ca not in call.publication.fmspcs or encoding not in {"pem", "der"}:
        raise _Refused(400)
    crl = call.publication.pck_crl(ca, call.at)
    headers = {"SGX-PCK-CRL-Issuer-Chain": quote(crl.issuer_chain, safe="")}
    if encoding == "der":
        return Response(crl.body, headers=headers, media_type=_CRL)
    pem = b"-----BEGIN X509 CRL-----\n" + encodebytes(crl.body) + b"-----END X509 CRL-----\n"
    return Response(pem, headers=headers, media_type=_PEM)


def _root_crl(call: Call) -> Response:
    return Response(call.publication.root_crl(call.at).body, media_type=_CRL)


def _root_crl_hex(call: Call) -> Response:
    return Response(call.publication.root_crl(call.at).body.hex(), media_type=_CRL)


def _fmspcs(call: Call) -> Response:
    wanted = call.query.get("platform", "all")
    if wanted not in {"all", "client", "E3", "E5"}:
        raise _Refused(400)
    listed = [
        {"fmspc": fmspc.hex().upper(), "platform": _PLATFORMS[ca]}
        for ca, fmspc in call.publication.fmspcs.items()
        if wanted in {"all", _PLATFORMS[ca]}
    ]
    return Response(json.dumps(listed, separators=(",", ":")), media_type=_JSON)


def _pck_certificate(call: Call) -> Response:
    cpu_svn, pce_svn = _hex(call, "cpusvn", 16), int.from_bytes(_hex(call, "pcesvn", 2), "little")
    for each in _platform(call):
        # The best level that the platform reaches; CPUSVN has its components in the clear here.
        reached = all(have >= need for have, need in zip(cpu_svn, each.level.sgx_svns, strict=True))
        if reached and pce_svn >= each.level.pce_svn:
            headers = {**_platform_headers(each), "SGX-TCBm": each.tcbm.upper()}
            return Response(each.certificate, headers=headers, media_type=_PEM)
    raise _Refused(404)


def _pck_certificates(call: Call) -> Response:
    certificates = _platform(call)
    listed = [
        {
            "tcb": {**flat_components(each.level.sgx_svns), "pcesvn": each.level.pce_svn},
            "tcbm": each.tcbm.upper(),
            "cert": quote(each.certificate, safe=""),
        }
        for each in certificates
    ]
    text = json.dumps(listed, separators=(",", ":"))
    return Response(text, headers=_platform_headers(certificates[0]), media_type=_JSON)


def _platform(call: Call) -> tuple[PckCertificate, ...]:
    """Return the certificates of the platform that is asked for, which are never none."""
    if _hex(call, "pceid", 2) != bytes(2):
        raise _Refused(404)
    # PCS asks for the encrypted PPID; PCCS is content with the id of the quoting enclave.
    if call.query.get("encrypted_ppid") or "qeid" not in call.query:
        found = call.publication.pck_certificates(call.at, encrypted_ppid=_hex(call, "encrypted_ppid", 384))
    else:
        found = call.publication.pck_certificates(call.at, qe_id=_hex(call, "qeid", 16))
    if not found:
        raise _Refused(404)
    return found


def _platform_headers(pck: PckCertificate) -> dict[str, str]:
    return {
        "SGX-PCK-Certificate-Issuer-Chain": quote(pck.issuer_chain, safe=""),
        "SGX-FMSPC": pck.machine.fmspc.upper(),
        "SGX-PCK-Certificate-CA-Type": pck.machine.ca,
    }


def _wanted(call: Call, version: str) -> Any:
    """Return the channel or the evaluation number that is asked for; they exclude each other."""
    update = call.query.get("update")
    number = call.query.get("tcbEvaluationDataNumber")
    if number is not None:
        if update is not None or version == "v3" or not re.fullmatch("[0-9]{1,9}", number):
            raise _Refused(400, "InvalidRequestSyntax")
        if call.publication.is_gone(int(number)):
            raise _Refused(410)
        return int(number)
    if update is not None and update.lower() not in {"early", "standard"}:
        raise _Refused(400, "InvalidRequestSyntax")
    return (update or "standard").lower()


def _hex(call: Call, name: str, size: int) -> bytes:
    text = call.query.get(name, "")
    if not re.fullmatch(f"[0-9A-Fa-f]{{{2 * size}}}", text):
        raise _Refused(400, "InvalidRequestSyntax")
    return bytes.fromhex(text)


def _signed(signed: Signed, header: str) -> Response:
    return Response(signed.body, headers={header: quote(signed.issuer_chain, safe="")}, media_type=_JSON)


def _empty(status: int, *, retry_after: int | None = None, code: str = "") -> Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if code:
        headers["Error-Code"] = code
    return Response(status_code=status, headers=headers)
