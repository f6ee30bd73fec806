# SPDX-License-Identifier: Apache-2.0
"""AMD's certificates: asked for as AMD's service is, proven up to AMD's roots, handed on at the same paths."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from eaa.endorser.authenticity import Authenticator, anchor_id
from eaa.endorser.http import new_client
from eaa.endorser.kds import KdsSource, levels_of, tcb_of
from eaa.endorser.needs import chip_of, needs_of_chip
from eaa.endorser.platforms import Observer
from eaa.endorser.serve import create_app
from eaa.endorser.store import Store
from eaa.rats import Endorsement, EndorsementError, Endorsements, EvidenceError, NotFound
from eaa.tee.dcap.roots import INTEL_ROOT
from eaa.tee.registry import parse_evidence
from eaa.tee.snp.certificates import read_endorsement_key
from eaa.tee.snp.product import Product, Tcb
from eaa.tee.snp.roots import AMD_AUTHORITIES, AMD_ROOTS
from eaa.tee.x509 import Certificate, split_pem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from starlette.requests import Request

    Serving = Callable[[Any], AbstractContextManager[str]]

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)
ROOTS = {Product(each.name.partition("ARK-")[2].partition(",")[0]): anchor_id(each) for each in AMD_ROOTS}


def real_certificates(vectors: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the VCEKs of real evidence with their reports."""
    for vector in json.loads((vectors / "manifest.json").read_bytes())["vectors"]:
        files = vector["files"]
        if vector["tee"] != "snp" or not vector["expected"].get("valid"):
            continue
        if "vcek" not in files:
            continue
        data = (vectors / files["vcek"]["path"]).read_bytes()
        report = (vectors / files["report"]["path"]).read_bytes()
        if files["report"].get("encoding") == "hex":
            report = bytes.fromhex(report.decode())
        yield (split_pem(data)[0] if data.lstrip().startswith(b"-----") else data), report


def test_parameters_are_amds() -> None:
    milan, turin = Tcb(None, 3, 0, 20, 209), Tcb(1, 2, 3, 4, 85)
    assert levels_of(milan) == {"blSPL": "03", "teeSPL": "00", "snpSPL": "20", "ucodeSPL": "209"}
    assert list(levels_of(turin)) == ["fmcSPL", "blSPL", "teeSPL", "snpSPL", "ucodeSPL"]
    assert tcb_of(levels_of(milan), "Milan") == milan
    assert tcb_of(levels_of(turin), "Turin") == turin
    assert tcb_of(levels_of(milan), "Turin") is None
    assert tcb_of(levels_of(turin), "Genoa") is None
    for wrong in ("256", "-1", "", "²", "0x3"):
        assert tcb_of({**levels_of(milan), "snpSPL": wrong}, "Milan") is None


def test_authorities_of_amd_are_proven_and_named() -> None:
    authenticator = Authenticator(AMD_ROOTS)
    roots = {each.certificate: Certificate(each.certificate) for each in AMD_ROOTS}
    scopes = set()
    for der in AMD_AUTHORITIES:
        authority = Certificate(der)
        (root,) = (each for each in roots.values() if each.subject == authority.issuer)
        pem = b"".join(each.x509.public_bytes(Encoding.PEM) for each in (authority, root))
        subject = authenticator.authenticate(Endorsement("snp_chain", pem))
        scopes.add(subject.scope)
        assert subject.root == ROOTS[Product(subject.scope.partition("/")[0])]
        with pytest.raises(EndorsementError, match="pinned"):
            Authenticator((INTEL_ROOT,)).authenticate(Endorsement("snp_chain", pem))
    assert scopes == {f"{product}/{key}" for product in Product for key in ("vcek", "vlek")}


def chain_of(der: bytes) -> bytes:
    """Return the chain that AMD's service hands out for this VCEK."""
    key = read_endorsement_key(der)
    authority = next(each for each in map(Certificate, AMD_AUTHORITIES) if key.issued_by(each))
    root = next(
        each for each in (Certificate(a.certificate) for a in AMD_ROOTS) if each.subject == authority.issuer
    )
    return b"".join(each.x509.public_bytes(Encoding.PEM) for each in (authority, root))


async def test_real_vceks_are_fetched_proven_and_handed_on(
    vectors: Path, tmp_path: Path, serving: Serving
) -> None:
    tried = 0
    for n, (der, raw) in enumerate(real_certificates(vectors)):
        try:
            evidence = parse_evidence(raw, tee="snp")
        except EvidenceError:
            continue
        chip = chip_of(evidence)
        if chip is None or len(chip.products) != 1:
            continue
        (product,) = chip.products
        key = read_endorsement_key(der)
        assert key.hardware_id is not None
        path = f"/vcek/v1/{product}/{key.hardware_id.hex()}"
        asked: list[dict[str, str]] = []

        def vcek(request: Request, der: bytes = der, asked: list[dict[str, str]] = asked) -> Response:
            asked.append(dict(request.query_params))
            return Response(der)

        def chain(_: Request, der: bytes = der) -> Response:
            return Response(chain_of(der))

        app = Starlette(routes=[Route(f"/vcek/v1/{product}/cert_chain", chain), Route(path, vcek)])
        async with await Store.open(tmp_path / str(n), AMD_ROOTS) as store:
            observer = Observer(store, snp_roots=ROOTS)
            assert await observer.observe(evidence)
            wanted, _, crl = needs_of_chip(chip, [ROOTS[product]])
            with serving(app) as url:
                async with new_client(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as client:
                    source = KdsSource(url, client)
                    await store.put(Endorsements((await source.fetch(wanted),)), source=url)
                    with pytest.raises(NotFound):
                        await source.fetch(crl)
            assert asked == [levels_of(key.tcb)]
            (found,) = store.endorsements_for(evidence).items
            assert (found.kind, found.content) == ("snp_vcek", der)
            client_of_ours = TestClient(create_app(store, INTEL_ROOT))
            answer = client_of_ours.get(path, params=levels_of(key.tcb))
            assert (answer.status_code, answer.content) == (200, der)
            other = {**levels_of(key.tcb), "ucodeSPL": "01"}
            assert client_of_ours.get(path, params=other).status_code == 404
            assert client_of_ours.get(path).status_code == 400
            assert client_of_ours.get(f"/vcek/v1/Rome/{'00' * 64}", params=other).status_code in {400, 404}
            with pytest.raises(EndorsementError):
                await store.put(Endorsements((Endorsement("snp_vcek", der[:-1] + b"\0"),)))
            with pytest.raises(EndorsementError):
                await store.put(Endorsements((Endorsement("snp_vlek", der),)))
        tried += 1
    if not tried:
        pytest.skip("no real SNP report of version 3 or later with its VCEK is among the vectors")
