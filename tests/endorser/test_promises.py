# SPDX-License-Identifier: Apache-2.0
"""What is promised of bad days: processes that are killed, redirects, vendors that stand still, and where the reason is to be seen."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from eaa.endorser import history, pck_store
from eaa.endorser.doctor import diagnose
from eaa.endorser.http import new_client
from eaa.endorser.kds import KdsSource
from eaa.endorser.metrics import Metrics
from eaa.endorser.needs import Need, Platform, needs_of_platform
from eaa.endorser.pck import PckPlatform
from eaa.endorser.pcs import PcsSource
from eaa.endorser.refresh import Refresher
from eaa.endorser.serve import create_app
from eaa.endorser.store import Store
from eaa.rats import EndorsementError
from eaa.simulator import mint
from eaa.simulator.timeline import Platform as Known
from eaa.simulator.timeline import Timeline, Trouble
from eaa.simulator.vendor_http import VendorService
from eaa.tee.registry import parse_evidence
from eaa.verifier.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from eaa.simulator import ChipMaker

    Serving = Callable[[Any], AbstractContextManager[str]]

pytestmark = pytest.mark.anyio
DAY: Final = timedelta(days=1)
LEVELS: Final = 4
"""How many TCB levels the chip maker has certificates for."""
START: Final = datetime(2026, 11, 1, tzinfo=UTC)


class Counted:
    """A chip maker's service that calls ``at_last`` when so many requests have come."""

    def __init__(self, maker: ChipMaker, count: int, at_last: Callable[[], object]) -> None:
        self._service = VendorService(maker, Timeline(machines=(Known("machine-1"),)))
        self._left = count
        self._at_last = at_last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        self._left -= 1
        if self._left == 0:
            self._at_last()
        await self._service(scope, receive, send)


def endorser(location: str, root: Path, url: str, fmspc: str) -> subprocess.Popen[bytes]:
    """Start ``eaa endorser serve`` as its own process."""
    code = "from eaa.cli.main import main; main()"
    options = ("--store", location, "--root", str(root), "--listen", "127.0.0.1:0", "--pcs", url)
    command = [sys.executable, "-c", code, "endorser", "serve", *options, "--want", f"tdx:{fmspc}:platform"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("count", [1, 3, 6, 9])
async def test_kill_in_mid_refresh_leaves_a_whole_store(
    location: str,
    maker: ChipMaker,
    registration: Callable[..., PckPlatform],
    tmp_path: Path,
    serving: Serving,
    count: int,
) -> None:
    (tmp_path / "root.der").write_bytes(maker.root_der)
    anchor, machine = maker.trust_anchor(), maker.machine()
    platform = registration(machine)
    async with await Store.open(location, (anchor,)) as store:
        await store.connections.write(pck_store.register, platform, store.clock())
    reached = threading.Event()
    with serving(Counted(maker, count, reached.set)) as url:
        with endorser(location, tmp_path / "root.der", url, machine.fmspc) as process:
            assert await asyncio.to_thread(reached.wait, 60)
            process.kill()
        await check_and_finish(location, maker, url, platform)


async def check_and_finish(location: str, maker: ChipMaker, url: str, platform: PckPlatform) -> None:
    """Check that nothing is half, and that another process fetches the rest once the dead one's leases have ended."""
    later = datetime.now(UTC) + timedelta(minutes=6)
    async with await Store.open(location, (maker.trust_anchor(),), clock=lambda: later) as store:
        versions = await store.history()
        digests = {part for each in versions for part in (each.content, each.issuer_chain)}
        assert (await store.connections.read(history.contents, digests)).keys() == digests
        names = platform.qe_id, platform.pce_id
        assert len(await store.connections.read(pck_store.certificates, *names)) in {0, LEVELS}, (
            "all, or none"
        )
        needs = needs_of_platform("tdx", Platform(platform.root, maker.machine().fmspc, "platform"))
        async with new_client() as client:
            await Refresher(store, [PcsSource(url, client, root=platform.root)], wanted=needs).step()
        assert len(await store.connections.read(pck_store.certificates, *names)) == LEVELS
        diagnosis = await diagnose(store, needs)
        assert {each.state for each in diagnosis.objects} == {"ok"}
        evidence = parse_evidence(mint(maker, "tdx", b"x", at=later).quote, tee="tdx")
        found = store.endorsements_for(evidence)
        Verifier(store.anchors).verify(evidence, found, at=later, report_data=b"x").accept()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_nowhere(maker: ChipMaker, serving: Serving, status: int) -> None:
    """Not to another host, not to another path: whoever is redirected to is never asked."""
    asked: list[str] = []
    machine = maker.machine()

    def elsewhere(request: Any) -> Response:
        asked.append(request.url.path)
        return Response(b"")

    def redirect(request: Any) -> Response:
        return RedirectResponse(f"{target}{request.url.path}", status_code=status)

    routes = [Route("/{path:path}", elsewhere, methods=["GET", "POST"])]
    platform = PckPlatform(
        "root", "00", "0000", machine.encrypted_ppid.hex(), machine.platform_manifest.hex()
    )
    with (
        serving(Starlette(routes=routes)) as target,
        serving(Starlette(routes=[Route("/{path:path}", redirect, methods=["GET", "POST"])])) as url,
    ):
        async with new_client() as client:
            pcs, kds = PcsSource(url, client), KdsSource(url, client)
            for ask in (
                pcs.fetch(Need("tcb_info", "root", f"tdx/{machine.fmspc}")),
                pcs.fetch(Need("root_ca_crl", "root", "")),
                pcs.fmspcs(),
                pcs.certificates(platform),
                kds.fetch(Need("snp_crl", "root", "Milan")),
            ):
                with pytest.raises(EndorsementError, match="redirects"):
                    await ask
    assert asked == []


async def test_vendor_that_stands_still_is_refused_once_its_word_has_expired(worlds: Any) -> None:
    world = worlds(Timeline(troubles=(Trouble("stalled", START, START + 90 * DAY),)))
    store, refresher = await world.replica()
    world.at = START + 31 * DAY
    await refresher.step()
    states = {each.need.kind: each for each in (await diagnose(store, world.needs)).objects}
    for kind in ("tcb_info", "qe_identity", "pck_crl"):
        assert states[kind].state == "missing"
        assert "has expired on 2026-12-01" in states[kind].error
    assert states["root_ca_crl"].state == "ok", "it lasts a year"


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("mis-signed", "endorsement.malformed"), ("refused", "unavailable"), ("status", "unavailable")],
)
async def test_reason_is_in_metrics_and_doctor(worlds: Any, kind: Any, outcome: str) -> None:
    world = worlds(Timeline(troubles=(Trouble(kind, START, START + DAY),)))
    metrics = Metrics()
    store, refresher = await world.replica(metrics=metrics)
    await refresher.step()
    app = create_app(store, world.maker.trust_anchor(), wanted=world.needs, metrics=metrics)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://e.invalid") as client:
        numbers = (await client.get("/metrics")).text
        told = json.loads((await client.get("/status")).text)
    assert f'eaa_endorser_refreshes_total{{kind="tcb_info",outcome="{outcome}"}}' in numbers
    assert "eaa_endorser_healthy 0.0" in numbers
    (info,) = (each for each in told["objects"] if each["name"] == world.needs[0].name)
    assert (info["failures"], bool(info["error"]), bool(info["remedy"])) == (1, True, True)
