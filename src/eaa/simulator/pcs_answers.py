# SPDX-License-Identifier: Apache-2.0
"""How Intel's services answer: paths, parameters, headers and statuses of the "Provisioning Certification Service API".

Versions 4 and 3. ``rootcacrl`` and the lookup of PCK certificates by ``qeid`` are those of Intel's caching service (PCCS), which
clients expect at the same place.
"""

from __future__ import annotations

import json
import re
from base64 import encodebytes
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.responses import Response

from eaa.simulator.collateral import flat_components
from eaa.simulator.vendor_call import Call, Refused

if TYPE_CHECKING:
    from eaa.simulator.publication import PckCertificate, Signed
    from eaa.simulator.vendor_call import Answer

__all__ = ["POSTED", "pcs_answers"]

_VERSIONS: Final = ("v3", "v4")
_JSON: Final = "application/json"
_PEM: Final = "application/x-pem-file"
_CRL: Final = "application/pkix-crl"
_IDENTITY_CHAIN: Final = "SGX-Enclave-Identity-Issuer-Chain"
POSTED: Final = re.compile(r"/sgx/certification/v\d/pckcerts?")
"""The paths that also take their parameters in a JSON body, by POST."""
_PLATFORMS: Final = {"platform": "E5", "processor": "client"}
"""What the list of FMSPCs calls the machines of each CA."""


def pcs_answers(subscription_key: str) -> dict[str, Answer]:
    """Return what answers each path; PCK certificates need ``subscription_key``, unless it is empty."""

    def authorized(answer: Answer) -> Answer:
        def check(call: Call) -> Response:
            if subscription_key and call.headers.get("ocp-apim-subscription-key") != subscription_key:
                raise Refused(401)
            return answer(call)

        return check

    table: dict[str, Answer] = {}
    for version in _VERSIONS:
        sgx = f"/sgx/certification/{version}"
        table |= {
            f"{sgx}/tcb": _tcb_info("sgx", version),
            f"{sgx}/qe/identity": _identity("sgx", version),
            f"{sgx}/qve/identity": _identity("qve", version),
            f"{sgx}/pckcrl": _pck_crl,
            f"{sgx}/rootcacrl": _root_crl_hex,
            f"{sgx}/pckcert": authorized(_pck_certificate),
            f"{sgx}/pckcerts": authorized(_pck_certificates),
        }
    sgx, tdx = "/sgx/certification/v4", "/tdx/certification/v4"
    return table | {
        f"{tdx}/tcb": _tcb_info("tdx", "v4"),
        f"{tdx}/qe/identity": _identity("tdx", "v4"),
        f"{sgx}/tcbevaluationdatanumbers": _evaluation_numbers("sgx"),
        f"{tdx}/tcbevaluationdatanumbers": _evaluation_numbers("tdx"),
        f"{sgx}/fmspcs": _fmspcs,
        "/IntelSGXRootCA.der": _root_crl,
    }


def _tcb_info(tee: str, version: str) -> Answer:
    header = "TCB-Info-Issuer-Chain" if version == "v4" else "SGX-TCB-Info-Issuer-Chain"

    def answer(call: Call) -> Response:
        publication = call.publication
        fmspc = call.hex("fmspc", 6)
        known = [publication.fmspcs["platform"]] if tee == "tdx" else list(publication.fmspcs.values())
        release = publication.release(call.at, _wanted(call, version))
        if fmspc not in known or release is None:
            raise Refused(404)
        if call.wrong_fmspc:
            fmspc = publication.other_fmspc
        form = 3 if version == "v4" else 2
        return _signed(publication.tcb_info(tee, fmspc, release, call.at, version=form), header)

    return answer


def _identity(enclave: str, version: str) -> Answer:
    def answer(call: Call) -> Response:
        release = call.publication.release(call.at, _wanted(call, version))
        if release is None:
            raise Refused(404)
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
        raise Refused(400)
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
        raise Refused(400)
    listed = [
        {"fmspc": fmspc.hex().upper(), "platform": _PLATFORMS[ca]}
        for ca, fmspc in call.publication.fmspcs.items()
        if wanted in {"all", _PLATFORMS[ca]}
    ]
    return Response(json.dumps(listed, separators=(",", ":")), media_type=_JSON)


def _pck_certificate(call: Call) -> Response:
    cpu_svn, pce_svn = call.hex("cpusvn", 16), int.from_bytes(call.hex("pcesvn", 2), "little")
    for each in _platform(call):
        # The best level that the platform reaches; CPUSVN has its components in the clear here.
        reached = all(have >= need for have, need in zip(cpu_svn, each.level.sgx_svns, strict=True))
        if reached and pce_svn >= each.level.pce_svn:
            headers = {**_platform_headers(each), "SGX-TCBm": each.tcbm.upper()}
            return Response(each.certificate, headers=headers, media_type=_PEM)
    raise Refused(404)


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
    if call.hex("pceid", 2) != bytes(2):
        raise Refused(404)
    # PCS asks for the manifest (by POST) or the encrypted PPID; PCCS is content with the id of the quoting enclave.
    find = call.publication.pck_certificates
    if "platformManifest" in call.query:
        found = find(call.at, "platform_manifest", call.hex("platformManifest", 1024))
    elif call.query.get("encrypted_ppid") or "qeid" not in call.query:
        found = find(call.at, "encrypted_ppid", call.hex("encrypted_ppid", 384))
    else:
        found = find(call.at, "qe_id", call.hex("qeid", 16))
    if not found:
        raise Refused(404)
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
            raise Refused(400, "InvalidRequestSyntax")
        if call.publication.is_gone(int(number)):
            raise Refused(410)
        return int(number)
    if update is not None and update.lower() not in {"early", "standard"}:
        raise Refused(400, "InvalidRequestSyntax")
    return (update or "standard").lower()


def _signed(signed: Signed, header: str) -> Response:
    return Response(signed.body, headers={header: quote(signed.issuer_chain, safe="")}, media_type=_JSON)
