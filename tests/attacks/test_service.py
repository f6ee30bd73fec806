# SPDX-License-Identifier: Apache-2.0
"""Attacks on the service: administration, policies, load, profiles, logs."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
from base64 import b64encode, urlsafe_b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from fastapi.routing import APIRoute
from joserfc.jwk import OKPKey

from eaa._logging import configure_logging
from eaa.agent.client import KbsClient
from eaa.kbs import MAX_ATTESTATION, MAX_REQUEST, Attestation, TeeKeyPair
from eaa.rats import EvidenceError
from eaa.storage import Database
from eaa.tee.dcap.quote import CertificationData, pack_envelope
from eaa.tee.registry import parse_evidence
from eaa.tee.tpm.quote import Attest, Clock, PcrSelection, pack_attest, parse_attest
from eaa.tee.tpm.wire import Algorithm
from eaa.verdictd import administrator
from eaa.verdictd.app import PUBLIC_ROUTES, create_app
from eaa.verdictd.server import serve
from eaa.verdictd.settings import Settings
from eaa.verifier import INTEL_ROOT, Verifier
from eaa.verifier.policy import PolicyEngine, load_default

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastapi import FastAPI
    from tests.attacks.conftest import Attack, Case, Dcap

pytestmark = pytest.mark.anyio
AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


def opened(part: str) -> dict[str, Any]:
    return dict(json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))))


@pytest.mark.attack(
    "B6",
    title="The administration answers whoever reaches it",
    instance="CVE-2026-1709 (Keylime)",
    checks=("admin.token", "404 Not Found"),
)
async def test_b06_no_administration_without_credential(attack: Attack, dcap: Dcap) -> None:
    """Every route that is not on the short public list refuses strangers, guests and foreign keys, and does nothing for them.

    With a listener of its own, the guests' one does not even know the administration.
    """
    desk = attack.desk
    app = desk.client._transport.app  # type: ignore[attr-defined] # the ASGI transport's

    def flat(routes: Any) -> Iterator[APIRoute]:
        for route in routes:
            included = getattr(route, "original_router", None)
            if included is None:
                assert isinstance(route, APIRoute)
                yield route
            else:
                yield from flat(included.routes)

    routes = {(method, route.path) for route in flat(app.routes) for method in route.methods or ()}
    private = sorted(routes - PUBLIC_ROUTES)
    assert len(private) >= 20
    response, cookie, _ = await desk.attested(dcap.case("tdx"))
    stranger = OKPKey.generate_key("Ed25519").as_dict(private=True)
    foreign = administrator.Credential(desk.credential.issuer, dict(stranger)).mint(at=desk.now)
    tries: tuple[dict[str, str], ...] = (
        {},
        {"authorization": "Bearer "},
        {"authorization": "Basic YWRtaW46YWRtaW4="},
        {"authorization": f"Bearer {foreign}"},
        {"authorization": f"Bearer {response.json()['token']}"},
        {"cookie": f"kbs-session-id={cookie}"},
    )

    def url(path: str) -> str:
        return re.sub(
            r"\{(\w+)(:path)?\}", lambda m: {"kind": "resource", "path": desk.PATH}.get(m[1], "x"), path
        )

    before = await _everything(desk.services.database)
    apart = _client(create_app(desk.services, guests=False))
    for method, path in private:
        for headers, client in product(tries, (desk.client, apart)):
            refused = await client.request(method, url(path), headers=headers, content=b"{}")
            attack.denied(refused, *(["admin.token"] if path.startswith("/eaa/") else []))
            assert refused.headers["www-authenticate"] == "Bearer"
    guests = _client(create_app(desk.services, administration=False))
    for method, path in private:
        for headers in (*tries, desk.admin):
            unknown = await guests.request(method, url(path), headers=headers, content=b"{}")
            attack.denied(unknown, status=404)
    attack.saw("404 Not Found")
    assert await _everything(desk.services.database) == before
    _, cookie, key = await desk.attested(dcap.case("tdx"))
    attack.released(await desk.fetch(cookie=cookie, client=guests), key)
    for method, path in private:
        for client in (apart, desk.client):
            allowed = await client.request(method, url(path), headers=desk.admin, content=b"{}")
            assert allowed.status_code not in (401, 403, 405), (method, path)
    assert await _everything(desk.services.database) != before
    attack.passed()


def _client(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="https://kbs.test")


async def _everything(database: Database) -> list[Any]:
    return [
        await database.list_resources(),
        await database.list_policies(),
        await database.list_reference_values(),
        await database.get_resource("default/key/image") if await database.list_resources() else None,
    ]


@pytest.mark.attack(
    "B9",
    title="A stranger makes the server work: repeated selections, compressed bombs, lengths that promise gigabytes, before anything is authenticated",
    instance="dstack #1267 (20 KB took 4.66 s), #566, #567",
    checks=(
        "request.too-large",
        "session.cookie",
        "dcap.quote.signature",
        "protocol.violation",
        "dcap.quote.length",
        "dcap.pck.chain",
        "tpm.quote.format",
        "tpm.quote.pcr-selection",
    ),
)
async def test_b09_strangers_cost_little(attack: Attack, dcap: Dcap, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are bounded before reading, evidence is parsed only under our own cookie, policies asked only about genuine evidence."""
    desk, case = attack.desk, dcap.case("tdx")
    _, cookie = await desk.challenge()
    for path, limit in (("auth", MAX_REQUEST), ("attest", MAX_ATTESTATION)):
        headers = {"cookie": f"kbs-session-id={cookie}"}
        sent: list[int] = []

        async def endless(sent: list[int] = sent) -> Any:
            while True:
                sent.append(65536)
                yield b" " * 65536

        response = await desk.client.post(f"/kbs/v0/{path}", content=endless(), headers=headers)
        attack.denied(response, status=413)
        assert sum(sent) <= limit + 2 * 65536
    attack.saw("request.too-large")

    # Ten megabytes in ten kilobytes stay ten kilobytes: nothing is inflated.
    bomb = gzip.compress(bytes(10 << 20))
    response = await desk.attest(cookie, bomb, **{"content-encoding": "gzip"})
    attack.denied(response)
    for hostile in (bomb, b"[" * 100_000, b'{"a":' * 50_000, b"9" * 100_000):
        with attack.refused("protocol.violation"):
            Attestation.from_json(hostile, limit=MAX_ATTESTATION)

    with monkeypatch.context() as patch:
        patch.setattr("eaa.verdictd.attestation.kind_of", lambda _: pytest.fail("evidence was parsed"))
        attack.denied(
            await desk.attest("A" + cookie[1:] + "A", desk.answer(case, "AAAA", TeeKeyPair.generate())),
            "session.cookie",
        )
    with monkeypatch.context() as patch:
        patch.setattr(PolicyEngine, "trust_claims", lambda *_, **__: pytest.fail("a policy was asked"))
        patch.setattr("eaa.tee.tdx.verify.parse_event_log", lambda _: pytest.fail("a log was read"))
        patch.setattr("eaa.tee.tdx.kind.parse_event_log", lambda _: pytest.fail("a log was read"))
        unsigned = dcap.case("tdx", "altered-signature")
        long = {"cc_eventlog": b64encode(bytes(100_000)).decode()}
        await attack.rejected(
            replace(unsigned, wire=lambda raw: unsigned.wire(raw) | long), "dcap.quote.signature"
        )
    _repeated_selections(attack)
    await _work_is_bounded(attack, dcap)
    await attack.twin(case)


def _repeated_selections(attack: Attack) -> None:
    """The 20 KB of dstack #1267, and what of it fits a quote: no register is read a second time."""
    once = PcrSelection(Algorithm.SHA256, 0xFFFFFF)
    clock = Clock(0, 0, 0, True)  # noqa: FBT003 - TPMS_CLOCK_INFO.safe
    for selections, check in (
        ((once,) * 5000, "tpm.quote.format"),
        ((once,) * 16, "tpm.quote.pcr-selection"),
        ((once,) * 17, "tpm.quote.pcr-selection"),
    ):
        with attack.refused(check):
            parse_attest(pack_attest(Attest(b"", bytes(64), clock, 0, selections, bytes(32))))
    parse_attest(pack_attest(Attest(b"", bytes(64), clock, 0, (once,), bytes(32))))


async def _work_is_bounded(attack: Attack, dcap: Dcap) -> None:
    """The largest hostile quotes make fewer steps than three honest ones, each met by a verifier that remembers nothing."""
    honest = _steps(dcap, dcap.case("tdx"))
    for altered, check in (
        (lambda quote: quote.ljust(64 << 10, b"\xff"), "dcap.quote.length"),
        (_chain_of(lambda pem: pem[:-1] * 13), "dcap.pck.chain"),
        (_chain_of(lambda pem: pem[:-1] + b"\n" * 40_000), ""),
        (_chain_of(lambda _: b"-----BEGIN CERTIFICATE-----" * 2000), "dcap.pck.chain"),
        (
            _chain_of(
                lambda _: b"-----BEGIN CERTIFICATE-----\n" + b"MIIB" * 10_000 + b"\n-----END CERTIFICATE-----"
            ),
            "dcap.pck.chain",
        ),
    ):
        hostile = dcap.case("tdx", altered=altered)
        assert _steps(dcap, hostile) < 3 * honest
        if check:
            await attack.rejected(hostile, check)


def _chain_of(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def altered(quote: bytes) -> bytes:
        envelope: Any = parse_evidence(quote, tee="tdx").envelope  # type: ignore[attr-defined] # a DCAP quote
        part = envelope.signature
        chain = CertificationData(5, change(part.certification.data)[:60_000])
        return pack_envelope(envelope.signed, part._replace(certification=chain))

    return altered


def _steps(dcap: Dcap, case: Case) -> int:
    """How many calls one cold verification makes, into Python and out of it."""
    verifier = Verifier((dcap.maker.trust_anchor(),))
    raw, count = case.evidence(bytes(range(64))), 0

    def step(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    earlier = sys.getprofile()
    sys.setprofile(step)
    try:
        evidence = parse_evidence(raw, tee="tdx")
        verifier.verify(evidence, case.endorsements, at=AT, report_data=bytes(range(64)))
    except EvidenceError:
        pass
    finally:
        sys.setprofile(earlier)
    return count


@pytest.mark.attack(
    "B10",
    title="A verifier for development, or a root that anybody can sign with, is reachable in production",
    instance="Trustee's sample verifier; dstack #563, #608",
    checks=("dcap.pck.chain", "configuration.invalid", "evidence.tee"),
)
async def test_b10_simulation_is_not_production(attack: Attack, dcap: Dcap, tmp_path: Path) -> None:
    """The chip maker in software is trusted only where configured, never under the production profile, and each token says so."""
    desk, simulated = attack.desk, dcap.maker.trust_anchor()
    for tee in ("tdx", "sgx"):
        await attack.rejected(dcap.case(tee, anchors=(INTEL_ROOT,)), "dcap.pck.chain")
    for anchors in ((simulated,), (INTEL_ROOT, simulated)):
        with attack.refused("configuration.invalid"):
            await serve(
                Settings(data=tmp_path / "production", port=0, production=True),
                anchors=anchors,
                endorsements=desk,
                announce=lambda _: pytest.fail("it serves"),
                stop=asyncio.Event(),
            )
    for tee in ("sample", "sampledevice"):
        body = {"version": "0.4.0", "tee": tee, "extra-params": ""}
        attack.denied(await desk.client.post("/kbs/v0/auth", json=body), "evidence.tee")
    response, cookie, key = await desk.attested(dcap.case("tdx"))
    stated = opened(response.json()["token"].split(".")[1])["submods"]["cpu0"]["ear.eaa.verdict"]
    assert stated["simulated"] is True
    attack.released(await desk.fetch(cookie=cookie), key)


@pytest.mark.attack(
    "B11",
    title="Secrets are in the log: an administrator's token that is good for ten years, keys, session cookies",
    instance="NVFlare PR #5284",
    checks=("nothing secret is logged", "admin.token"),
)
@pytest.mark.usefixtures("own_logging")
async def test_b11_logs_hold_no_secret(
    attack: Attack, dcap: Dcap, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After everything that guests and owners do, at the level of most detail, no secret is in the log in any spelling."""
    desk, case = attack.desk, dcap.case("tdx")
    configure_logging("DEBUG")
    response, cookie, key = await desk.attested(case)
    token, admin = response.json()["token"], desk.admin["authorization"][7:]
    attack.released(await desk.fetch(cookie=cookie), key)
    await desk.fetch(token=token)
    await desk.attested(dcap.case("tdx", "debug"))
    other = b"another secret of the owner's"
    headers = {"authorization": f"Bearer {admin}"}
    await desk.client.put("/eaa/v0/resources/a/b/c", headers=headers, content=other)
    await desk.client.put("/eaa/v0/resources/no-path", headers=headers, content=other)
    await desk.client.post("/eaa/v0/keys", headers=headers, json={"name": "k"})

    async def fail(*_: Any, **__: Any) -> bytes:
        raise RuntimeError(f"cannot release {desk.SECRET.hex()}")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "release_resource", fail)
        attack.denied(await desk.fetch(cookie=cookie), status=500)
    await _agent_fetches(attack, case)
    made = await desk.services.database.get_resource("default/key/k")
    private = desk.credential.key["d"]
    logged = "".join(capfd.readouterr()).encode()
    assert b"resource released" in logged
    assert b"request failed" in logged
    secrets = [desk.SECRET, other, made, urlsafe_b64decode(private + "=")]
    forms = [form for secret in secrets for form in attack.spellings(secret)]
    forms += [each.encode() for each in (cookie, token, admin, private)]
    forms.append(str(key.private_pem()).splitlines()[1].encode())
    assert not [form for form in forms if form in logged]
    attack.saw("nothing secret is logged")
    # What leaks all the same is worthless soon: no token of an administrator lives longer than five minutes.
    lasting = desk.credential.mint(at=desk.now, lifetime=timedelta(days=3650))
    refused = await desk.client.get("/eaa/v0/keys", headers={"authorization": f"Bearer {lasting}"})
    attack.denied(refused, "admin.token")


async def _agent_fetches(attack: Attack, case: Case) -> None:
    """The guest's daemon, whose log is under the same roof here."""
    desk = attack.desk

    class Hardware:
        tee = "tdx"

        async def collect(self, due: bytes) -> dict[str, Any]:
            return case.wire(case.evidence(due))

    async with KbsClient("http://127.0.0.1:9", Hardware()) as guest:
        await guest._transport._http.aclose()
        app = desk.client._transport.app  # type: ignore[attr-defined] # the ASGI transport's
        guest._transport._http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
        assert await guest.get_resource(desk.PATH) == desk.SECRET


@pytest.mark.attack(
    "B12",
    title="A policy that is undefined, misplaced or broken lets everything through, or a missing reference value compares as null",
    instance="Trustee, refusal of invalid policies (2026-08-18); Trustee #1386",
    checks=(
        "policy.invalid",
        "policy.resource",
        "policy.trust-vector",
        "policy.attestation",
        "reference.tdx.mr_td",
    ),
)
async def test_b12_policies_fail_closed(attack: Attack, dcap: Dcap) -> None:
    """What is no policy is not stored; what fails, is undefined or compares with nothing denies, by name."""
    desk, case = attack.desk, dcap.case("tdx")
    database = desk.services.database
    for text in (
        "",
        "package policy\n",
        "package other\nallow := true\ntrust_claims := {}\n",
        "package policy\nallow if {\n",
        "package policy\nallow := nosuch(1)\ntrust_claims := nosuch(1)\n",
        'package policy\nallow := http.send({"url": "https://x.invalid"})\ntrust_claims := allow\n',
    ):
        for kind, name in (("resource", "resource-policy"), ("attestation", "default_cpu")):
            url = f"/eaa/v0/policies/{kind}/{name}"
            refused = await desk.client.put(url, headers=desk.admin, json={"text": text})
            attack.denied(refused, "policy.invalid", status=400)
    await attack.twin(case)

    # Whatever gets into the database in another way denies at the latest when it is asked.
    good = load_default("resource")
    for text in (
        "package other\nallow := true\n",
        "package policy\nallow if {",
        "package policy\nimport rego.v1\nallow if input.nosuch == 1\n",
        'package policy\nallow := "true"\n',
        "package policy\nallow := 1\n",
        "package policy\nallow := 1 / 0\n",
    ):
        await database.put_policy("resource", "resource-policy", text)
        await attack.withheld(case, "policy.resource")
    await database.delete_policy("resource", "resource-policy")
    await attack.withheld(case, "policy.resource")
    await database.put_policy("resource", "resource-policy", good)
    await _attestation_policies(attack, case)
    await attack.twin(case)


async def _attestation_policies(attack: Attack, case: Case) -> None:
    database = attack.desk.services.database
    claims = "package policy\nimport rego.v1\n"
    for text in (
        claims,
        claims + 'trust_claims := {"hardware": 2} if input.nosuch\n',
        claims + 'trust_claims := {"hardware": "2"}\n',
        claims + "trust_claims := {}\n",
        # As null, the reference value that is not there would be less than every number.
        claims + 'default hardware := 97\nhardware := 2 if 5 >= query_reference_value("nosuch")\n'
        'trust_claims := {"hardware": hardware}\n',
        claims
        + 'default hardware := 97\nhardware := 2 if not input.tdx.nosuch == query_reference_value("nosuch")\n'
        'trust_claims := {"hardware": 97 + (0 * hardware)}\n',
    ):
        await database.put_policy("attestation", "default_cpu", text)
        await attack.withheld(case, "policy.trust-vector")
    await database.delete_policy("attestation", "default_cpu")
    await attack.withheld(case, "policy.attestation")
    # A policy that affirms everything affirms nothing that no reference value names.
    generous = claims + 'trust_claims := {"hardware": 2, "executables": 2, "configuration": 2}\n'
    await database.put_policy("attestation", "default_cpu", generous)
    expected = await database.reference_values(attack.desk.now)
    await database.delete_reference_value("mr_td")
    await attack.withheld(case, "reference.tdx.mr_td")
    await database.put_reference_values({"mr_td": expected["mr_td"]})
    await database.put_policy("attestation", "default_cpu", load_default("attestation"))
