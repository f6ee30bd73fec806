# SPDX-License-Identifier: Apache-2.0
"""PCK certificates by platform: proven, selected, fetched, registered and handed out."""

from __future__ import annotations

import contextlib
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import httpx2
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from eaa.endorser import pck_store
from eaa.endorser.authenticity import Authenticator, anchor_id
from eaa.endorser.doctor import diagnose
from eaa.endorser.pck import (
    PckAnswer,
    PckCertificate,
    PckPlatform,
    RawTcb,
    prove_certificates,
    read_pckcerts,
    select_certificate,
)
from eaa.endorser.pck_serve import Tokens
from eaa.endorser.pcs import PcsSource
from eaa.endorser.refresh import Refresher
from eaa.endorser.serve import create_app
from eaa.endorser.store import Store
from eaa.rats import EndorsementError, InputError
from eaa.simulator import ChipMaker
from eaa.simulator.publication import Publication
from eaa.simulator.releases import releases
from eaa.simulator.timeline import Platform, Publishing, Recovery, Timeline, Trouble
from eaa.simulator.vendor_http import VendorService, VendorTransport
from eaa.tee.dcap.collateral import parse_tcb_info, read_tcb_info

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from eaa.simulator import Machine

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


def answer_for(maker: ChipMaker, machine: Machine, at: datetime = NOW) -> PckAnswer:
    """Return what PCS says of a machine."""
    found = Publication(maker, TIMELINE).pck_certificates(at, "qe_id", machine.qe_id)
    return PckAnswer(
        tuple((each.tcbm, each.certificate) for each in found),
        found[0].issuer_chain,
        machine.fmspc,
        machine.ca,
    )


def platform_of(maker: ChipMaker, machine: Machine, **changes: Any) -> PckPlatform:
    """Return the registration of a machine."""
    raw = RawTcb(machine.identity.sgx_svns, machine.identity.pce_svn)
    fields = {"encrypted_ppid": machine.encrypted_ppid.hex(), "raw_tcb": raw, **changes}
    return PckPlatform(anchor_id(maker.trust_anchor()), machine.qe_id.hex(), "0000", **fields)


@pytest.fixture(scope="module")
def authenticator(maker: ChipMaker) -> Authenticator:
    return Authenticator((maker.trust_anchor(),))


# Proof and selection.


def test_certificates_are_proven_and_read(maker: ChipMaker, authenticator: Authenticator) -> None:
    machine = maker.machine("a")
    answer = answer_for(maker, machine)
    proven = prove_certificates(answer, authenticator, platform_of(maker, machine))
    assert len(proven) == len(answer.certificates) > 2
    assert {(each.fmspc, each.ca) for each in proven} == {(machine.fmspc, "platform")}
    assert [each.tcbm for each in proven] == [tcbm for tcbm, _ in answer.certificates]
    assert machine.identity.ppid.hex() not in repr(proven)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda good, _: good._replace(certificates=()), "0 PCK certificates"),
        (lambda good, _: good._replace(fmspc="00" * 6), "FMSPC"),
        (lambda good, _: good._replace(ca="processor"), "CA"),
        (lambda good, _: good._replace(certificates=(("00" * 18, good.certificates[0][1]),)), "TCBm"),
        (lambda good, _: good._replace(certificates=(("", b"none"),)), "PEM"),
        (lambda good, other: good._replace(issuer_chain=other.issuer_chain, fmspc=""), "not issued by"),
        (lambda good, _: good._replace(issuer_chain=b""), "no root"),
    ],
)
def test_certificates_that_do_not_agree_are_refused(
    maker: ChipMaker, authenticator: Authenticator, change: Any, reason: str
) -> None:
    machine = maker.machine("a")
    wrong = change(answer_for(maker, machine), answer_for(maker, maker.machine("c", ca="processor")))
    with pytest.raises(EndorsementError, match=reason):
        prove_certificates(wrong, authenticator, platform_of(maker, machine))


def test_certificates_of_another_maker_pce_or_platform_are_refused(
    maker: ChipMaker, authenticator: Authenticator
) -> None:
    a, b = maker.machine("a"), maker.machine("b")
    platform = platform_of(maker, a)
    stranger = ChipMaker.create(NOW)
    with pytest.raises(EndorsementError, match="not pinned"):
        prove_certificates(answer_for(stranger, stranger.machine("a")), authenticator, platform)
    elsewhere = PckPlatform(platform.root, platform.qe_id, "0001")
    with pytest.raises(EndorsementError, match="PCE 0000"):
        prove_certificates(answer_for(maker, a), authenticator, elsewhere)
    mixed = answer_for(maker, a)
    mixed = mixed._replace(certificates=(*mixed.certificates, *answer_for(maker, b).certificates))
    with pytest.raises(EndorsementError, match="several platforms"):
        prove_certificates(mixed, authenticator, platform)
    held = prove_certificates(answer_for(maker, a), authenticator, platform)[0]
    with pytest.raises(EndorsementError, match="than before"):
        prove_certificates(answer_for(maker, b), authenticator, platform, held)


def certificate(components: str, pce_svn: int) -> PckCertificate:
    svns = bytes.fromhex(components).ljust(16, b"\0")
    return PckCertificate(b"", b"", "", "", "", "", f"{components}/{pce_svn}", svns, pce_svn, NOW, NOW)


@pytest.mark.parametrize(
    ("cpu_svn", "pce_svn", "chosen"),
    [
        ("0303", 13, "0303/13"),
        ("ffff", 255, "0303/13"),
        ("0303", 12, "0202/11"),  # the PCE is too old for the highest
        ("0302", 13, "0202/11"),  # one component is too old
        ("02ff", 13, "02ff/5"),  # reached in all, and higher by its components where no level tells
        ("0201", 13, "0101/5"),
        ("0100", 255, None),
    ],
)
def test_highest_certificate_that_is_reached_in_every_component_is_selected(
    cpu_svn: str, pce_svn: int, chosen: str | None
) -> None:
    some = [certificate("0101", 5), certificate("0303", 13), certificate("0202", 11), certificate("02ff", 5)]
    raw = RawTcb(bytes.fromhex(cpu_svn).ljust(16, b"\0"), pce_svn)
    found = select_certificate(some, raw, None)
    assert (found.tcbm if found is not None else None) == chosen


def test_levels_of_tcb_info_decide_what_is_highest(maker: ChipMaker) -> None:
    """A certificate that is higher in a component which no level asks for is still of the lower level."""
    content = maker.collateral("sgx", NOW).of_kind("tcb_info")[0].content
    info = parse_tcb_info(read_tcb_info(content))
    best, worst = info.levels[0], info.levels[-1]
    low = bytearray(worst.sgx_components)
    low[0] = best.sgx_components[0] + 1
    pair = [
        PckCertificate(b"", b"", "", "", "", "", name, bytes(svns), pce_svn, NOW, NOW)
        for name, svns, pce_svn in (
            ("low", low, worst.pce_svn),
            ("high", best.sgx_components, best.pce_svn),
        )
    ]
    raw = RawTcb(b"\xff" * 16, 0xFFFF)
    assert getattr(select_certificate(pair, raw, None), "tcbm", "") == "low"
    assert getattr(select_certificate(pair, raw, info), "tcbm", "") == "high"


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(
        lambda value: json.dumps([{"tcbm": value, "cert": value}]).encode()
    )
)
def test_any_body_gives_certificates_or_an_endorsement_error(body: bytes) -> None:
    with contextlib.suppress(EndorsementError):
        assert isinstance(read_pckcerts(body), tuple)


def test_levels_without_a_certificate_are_passed_over(maker: ChipMaker) -> None:
    (tcbm, pem), *_ = answer_for(maker, maker.machine("a")).certificates
    listed = [{"tcbm": "00", "cert": "Not available"}, {"tcbm": tcbm, "cert": pem.decode()}]
    assert read_pckcerts(json.dumps(listed).encode()) == ((tcbm, pem),)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"qe_id": "00", "pce_id": "00"},
        {"qe_id": "zz", "pce_id": "0000"},
        {"qe_id": "00" * 200, "pce_id": "0000"},
        {"qe_id": "00", "pce_id": "0000", "enc_ppid": "00"},
        {"qe_id": "00", "pce_id": "0000", "platform_manifest": 7},
        {"qe_id": "00", "pce_id": "0000", "cpu_svn": "00" * 16},
        {"qe_id": "00", "pce_id": "0000", "cpu_svn": 1},
    ],
)
def test_registration_is_checked(value: Any) -> None:
    with pytest.raises(InputError):
        PckPlatform.from_json(value, "root")


def test_registration_keeps_what_identifies_a_machine_out_of_its_repr() -> None:
    value = {"qe_id": "AB", "pce_id": "0000", "enc_ppid": "CD" * 384, "platform_manifest": "EF" * 9}
    platform = PckPlatform.from_json(value, "root")
    assert (platform.qe_id, platform.need.scope) == ("ab", "ab/0000")
    assert "cdcd" not in repr(platform)
    assert "efef" not in repr(platform)
    assert PckPlatform.from_json(platform.to_json(), "root") == platform


# Fetching and handing out.


def browser_of(app: Any) -> httpx2.AsyncClient:
    """Return a client of an application in this process."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://endorser.invalid")


class World:
    """Intel's service, which wants a key, and one Endorser."""

    def __init__(self, maker: ChipMaker, store: Store, timeline: Timeline, key: str) -> None:
        self.maker, self.store = maker, store
        self.at = NOW
        store.clock = lambda: self.at
        service = VendorService(maker, timeline, lambda: self.at)
        self.client = httpx2.AsyncClient(transport=VendorTransport(service))
        root = anchor_id(maker.trust_anchor())
        self.source = PcsSource("https://pcs.invalid", self.client, root=root, api_key=key)
        self.refresher = Refresher(store, [self.source])
        self.browser = browser_of(create_app(store, maker.trust_anchor(), tokens=TOKENS))

    async def register(self, machine: Machine, **changes: Any) -> Any:
        body = platform_of(self.maker, machine, **changes).to_json()
        return await self.browser.post(f"{API}/platforms", json=body, headers={"user-token": "register"})

    async def ask(self, machine: Machine, cpu_svn: bytes | None = None, pce_svn: str = "0d00") -> Any:
        svn = (cpu_svn or machine.identity.sgx_svns).hex()
        ids = f"qeid={machine.qe_id.hex().upper()}&encrypted_ppid={machine.encrypted_ppid.hex()}&pceid=0000"
        return await self.browser.get(f"{API}/pckcert?{ids}&cpusvn={svn}&pcesvn={pce_svn}")


@pytest.fixture
async def world(maker: ChipMaker, store: Store) -> AsyncIterator[World]:
    made = World(maker, store, TIMELINE, "hush-hush")
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
        await second.connections.write(pck_store.register, platform_of(maker, machine), NOW)
        app = create_app(world.store, maker.trust_anchor())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
            source = PcsSource("https://endorser.invalid", client, root=anchor_id(maker.trust_anchor()))
            await Refresher(second, [source]).step()
        (found,) = await second.connections.read(pck_store.certificates, machine.qe_id.hex(), "0000")
        assert machine.pck_chain.startswith(found.certificate)


@pytest.mark.parametrize("kind", ["mis-signed", "impostor", "truncated", "not-json", "no-chain", "oversize"])
async def test_bad_answers_are_refused_and_what_is_held_stays(
    maker: ChipMaker, store: Store, kind: Any
) -> None:
    trouble = Trouble(kind, NOW + DAY, NOW + 9 * DAY, paths="*/pckcert*")
    world = World(maker, store, Timeline(machines=(Platform("a"),), troubles=(trouble,)), "")
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
    maker: ChipMaker, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for key, wanted in (("wrong-key", "401"), ("hush-hush", "")):
        world = World(maker, store, TIMELINE, key)
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


# Tokens.


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
        request["json"] = platform_of(world.maker, world.maker.machine("a")).to_json()  # type: ignore[assignment]
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
