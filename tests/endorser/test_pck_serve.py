# SPDX-License-Identifier: Apache-2.0
"""PCK certificates by platform: registered, fetched and handed out."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import httpx2
import pytest
from cryptography import x509

from eaa.endorser import pck_store
from eaa.endorser.authenticity import anchor_id
from eaa.endorser.doctor import diagnose
from eaa.endorser.pck_serve import Tokens
from eaa.endorser.pcs import PcsSource
from eaa.endorser.refresh import Refresher
from eaa.endorser.serve import create_app
from eaa.endorser.store import Store
from eaa.simulator.releases import releases
from eaa.simulator.timeline import Platform, Publishing, Recovery, Timeline, Trouble
from eaa.simulator.vendor_http import VendorService, VendorTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from eaa.endorser.pck import PckPlatform
    from eaa.simulator import ChipMaker, Machine

    Registration = Callable[..., PckPlatform]

pytestmark = pytest.mark.anyio
NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
API: Final = "/sgx/certification/v4"
RECOVERY: Final = Recovery(19, early=NOW + DAY, standard=NOW + 30 * DAY)
TIMELINE: Final = Timeline(
    publishing=Publishing(subscription_key="hush-hush"),
    machines=(Platform("a"), Platform("b"), Platform("c", "processor")),
    recoveries=(RECOVERY,),
)
TOKENS: Final = Tokens.of(user="register", admin="administer")
both = pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)


def browser_of(app: Any) -> httpx2.AsyncClient:
    """Return a client of an application in this process."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://endorser.invalid")


class World:
    """Intel's service, which wants a key, and one Endorser."""

    def __init__(
        self, maker: ChipMaker, store: Store, registration: Registration, timeline: Timeline, key: str
    ) -> None:
        self.maker, self.store, self.registration = maker, store, registration
        self.at = NOW
        store.clock = lambda: self.at
        service = VendorService(maker, timeline, lambda: self.at)
        self.client = httpx2.AsyncClient(transport=VendorTransport(service))
        root = anchor_id(maker.trust_anchor())
        self.source = PcsSource("https://pcs.invalid", self.client, root=root, api_key=key)
        self.refresher = Refresher(store, [self.source])
        self.browser = browser_of(create_app(store, maker.trust_anchor(), tokens=TOKENS))

    async def register(self, machine: Machine, **changes: Any) -> Any:
        body = self.registration(machine, **changes).to_json()
        return await self.browser.post(f"{API}/platforms", json=body, headers={"user-token": "register"})

    async def ask(self, machine: Machine, cpu_svn: bytes | None = None, pce_svn: str = "0d00") -> Any:
        svn = (cpu_svn or machine.identity.sgx_svns).hex()
        ids = f"qeid={machine.qe_id.hex().upper()}&encrypted_ppid={machine.encrypted_ppid.hex()}&pceid=0000"
        return await self.browser.get(f"{API}/pckcert?{ids}&cpusvn={svn}&pcesvn={pce_svn}")


@pytest.fixture
async def world(maker: ChipMaker, store: Store, registration: Registration) -> AsyncIterator[World]:
    made = World(maker, store, registration, TIMELINE, "hush-hush")
    yield made
    await made.client.aclose()


@both
@pytest.mark.parametrize(("name", "ca"), [("a", "platform"), ("c", "processor")])
async def test_registered_platform_gets_its_certificate(world: World, name: str, ca: str) -> None:
    machine = world.maker.machine(name, ca=ca)
    assert (await world.ask(machine)).status_code == 404
    assert (await world.register(machine)).status_code == 200
    await world.refresher.step()
    answer = await world.ask(machine)
    assert answer.status_code == 200
    chain = unquote_to_bytes(answer.headers["SGX-PCK-Certificate-Issuer-Chain"])
    assert answer.content + chain == machine.pck_chain, "it is the one that the machine's quotes carry"
    assert answer.headers["SGX-FMSPC"] == machine.fmspc.upper()
    assert answer.headers["SGX-PCK-Certificate-CA-Type"] == ca
    assert answer.headers["SGX-TCBm"] == (machine.identity.sgx_svns.hex() + "0d00").upper()
    assert answer.headers["content-type"] == "application/x-pem-file"
    older = await world.ask(machine, cpu_svn=bytes([1, 1]) + bytes(14), pce_svn="0000")
    assert older.content != answer.content
    assert (await world.ask(machine, pce_svn="zz")).status_code == 400


async def test_certificates_of_a_recovery_come_and_the_old_ones_stay(world: World) -> None:
    machine = world.maker.machine("a")
    patched = releases(TIMELINE)[-1].up_to_date()
    raw = {"cpu_svn": patched["sgx_svns"], "pce_svn": patched["pce_svn"].to_bytes(2, "little").hex()}
    await world.register(machine)
    await world.refresher.step()
    before, old = (await world.ask(machine, **raw)).content, (await world.ask(machine)).content
    assert before == old, "a machine that is patched early gets the highest that there is"
    world.at += 2 * DAY
    await world.refresher.step()
    after = await world.ask(machine, **raw)
    assert after.content != before
    assert (await world.ask(machine)).content == old
    assert (
        x509.load_pem_x509_certificate(after.content).public_key()
        != x509.load_pem_x509_certificate(before).public_key()
    )


async def test_manifest_is_asked_with_where_there_is_one(world: World) -> None:
    machine = world.maker.machine("b")
    await world.register(machine, encrypted_ppid="", manifest=machine.platform_manifest.hex(), raw_tcb=None)
    await world.refresher.step()
    assert machine.pck_chain.startswith((await world.ask(machine)).content)


async def test_another_cache_is_asked_for_the_fitting_certificate(
    world: World, maker: ChipMaker, tmp_path: Any
) -> None:
    """A PCCS, and so another Endorser, has no ``pckcerts``: it is asked with the machine's own TCB."""
    machine = maker.machine("a")
    await world.register(machine)
    await world.refresher.step()
    async with await Store.open(tmp_path / "second", (maker.trust_anchor(),), clock=lambda: NOW) as second:
        await second.connections.write(pck_store.register, world.registration(machine), NOW)
        app = create_app(world.store, maker.trust_anchor())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
            source = PcsSource("https://endorser.invalid", client, root=anchor_id(maker.trust_anchor()))
            await Refresher(second, [source]).step()
        (found,) = await second.connections.read(pck_store.certificates, machine.qe_id.hex(), "0000")
        assert machine.pck_chain.startswith(found.certificate)


@pytest.mark.parametrize("kind", ["mis-signed", "impostor", "truncated", "not-json", "no-chain", "oversize"])
async def test_bad_answers_are_refused_and_what_is_held_stays(
    maker: ChipMaker, store: Store, registration: Registration, kind: Any
) -> None:
    trouble = Trouble(kind, NOW + DAY, NOW + 9 * DAY, paths="*/pckcert*")
    world = World(maker, store, registration, Timeline(machines=(Platform("a"),), troubles=(trouble,)), "")
    machine = maker.machine("a")
    await world.register(machine, raw_tcb=None)
    await world.refresher.step()
    good = (await world.ask(machine)).content
    world.at = NOW + 3 * DAY
    await world.refresher.step()
    health = {each.need.kind: each for each in (await diagnose(store)).objects}["pck_certificates"]
    assert (health.state, health.failures, bool(health.error)) == ("ok", 1, True)
    assert (await world.ask(machine)).content == good
    await world.client.aclose()


async def test_key_is_demanded_and_never_shown(
    maker: ChipMaker, store: Store, registration: Registration, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for key, wanted in (("wrong-key", "401"), ("hush-hush", "")):
        world = World(maker, store, registration, TIMELINE, key)
        await world.register(maker.machine("a"))
        await store.connections.write(
            lambda connection: connection.exec_driver_sql("DELETE FROM endorser_refreshes")
        )
        await world.refresher.step()
        (health,) = (each for each in (await diagnose(store)).objects if each.need.kind == "pck_certificates")
        assert (wanted in health.error, bool(health.error)) == (True, bool(wanted))
        assert ("API key" in health.remedy) == bool(wanted)
        shown = caplog.text + repr(world.source) + repr(health) + (await world.browser.get("/status")).text
        assert key not in shown
        await world.client.aclose()


@pytest.mark.parametrize(
    ("method", "path", "opens"),
    [
        ("POST", "platforms", {"user-token": "register"}),
        ("PUT", "platforms", {"admin-token": "administer"}),
        ("GET", "platforms", {"admin-token": "administer"}),
        ("PUT", "platformcollateral", {"admin-token": "administer"}),
    ],
)
async def test_only_who_has_the_token_may(
    world: World, method: str, path: str, opens: dict[str, str]
) -> None:
    request = {"method": method, "url": f"{API}/{path}"}
    if method != "GET":
        request["json"] = world.registration(world.maker.machine("a")).to_json()  # type: ignore[assignment]
    closed = browser_of(create_app(world.store, world.maker.trust_anchor()))
    wrong = [
        {},
        {"user-token": ""},
        {"admin-token": ""},
        {"user-token": "administer"},
        {"admin-token": "register"},
    ]
    if path == "platformcollateral" or method == "GET":
        wrong.append({"user-token": "register"})
    for headers in wrong:
        assert (await world.browser.request(**request, headers=headers)).status_code == 401  # type: ignore[arg-type]
    for headers in (*wrong, opens):
        assert (await closed.request(**request, headers=headers)).status_code == 401  # type: ignore[arg-type]
    assert await world.store.connections.read(pck_store.registered) == []
    assert (await world.browser.request(**request, headers=opens)).status_code != 401  # type: ignore[arg-type]
    assert "register" not in repr(TOKENS)


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"{}", b'{"qe_id":"00"}', b" " * 300_000])
async def test_registration_of_nonsense_is_refused(world: World, body: bytes) -> None:
    answer = await world.browser.post(f"{API}/platforms", content=body, headers={"user-token": "register"})
    assert answer.status_code == 400
    assert await world.store.connections.read(pck_store.registered) == []


async def test_administrator_sees_who_is_registered(world: World) -> None:
    await world.register(world.maker.machine("a"))
    await world.register(world.maker.machine("a"), manifest="ab" * 20)
    answer = await world.browser.get(f"{API}/platforms", headers={"admin-token": "administer"})
    (listed,) = answer.json()
    assert listed["qe_id"] == world.maker.machine("a").qe_id.hex()
    assert listed["platform_manifest"] == "ab" * 20
    assert len(listed["enc_ppid"]) == 768, "what is left empty stays as it was"
