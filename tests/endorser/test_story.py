# SPDX-License-Identifier: Apache-2.0
"""One day at the Endorser, hour by hour: a TCB recovery, a revocation and an outage, told by a verifier that nobody here wrote."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import dcap_qvl  # type: ignore[import-untyped] # it ships no types
import httpx2
import pytest

from eaa.endorser.authenticity import anchor_id
from eaa.endorser.doctor import diagnose
from eaa.endorser.forecast import forecast
from eaa.endorser.http import Budget
from eaa.endorser.kds import KdsSource
from eaa.endorser.needs import Platform, needs_of_chip, needs_of_platform
from eaa.endorser.needs import chip_of as needed_chip
from eaa.endorser.pcs import PcsSource
from eaa.endorser.platforms import Observer, seen_in
from eaa.endorser.refresh import Refresher, RefreshPolicy
from eaa.endorser.store import Store
from eaa.simulator import ChipMaker, to_common_form
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.releases import releases
from eaa.simulator.timeline import Platform as Known
from eaa.simulator.timeline import Recovery, Revocation, Timeline, Trouble
from eaa.simulator.vendor_http import VendorService, VendorTransport
from eaa.tee.registry import parse_evidence
from eaa.tee.snp.evidence import make_evidence
from eaa.tee.snp.product import Product
from eaa.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from eaa.endorser.sources import Source
    from eaa.rats import Endorsements
    from eaa.simulator import Machine

pytestmark = pytest.mark.anyio
MIDNIGHT: Final = datetime(2026, 11, 10, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def clock(hours: float) -> datetime:
    return MIDNIGHT + hours * HOUR


STORY: Final = Timeline(
    machines=tuple(Known(name) for name in ("old", "unlucky", "patched", "chip")),
    recoveries=(Recovery(19, early=MIDNIGHT - 7 * DAY, standard=clock(6), advisories=("INTEL-SA-09999",)),),
    revocations=(Revocation("unlucky", at=clock(10)),),
    troubles=(
        Trouble("refused", clock(9), clock(13), "/sgx/*"),
        Trouble("status", clock(9), clock(13), "/tdx/*"),
        Trouble("status", clock(0), clock(3), "/vcek/*", status=429, retry_after=600),
    ),
)


class Day:
    """The world of the story: both chip makers' services, one Endorser, four machines and the time."""

    def __init__(self, maker: ChipMaker) -> None:
        self.at = MIDNIGHT - 3 * HOUR
        self.maker = maker
        self.amd = AmdChipMaker.create(MIDNIGHT - 30 * DAY)
        self.service = VendorService(maker, STORY, lambda: self.at, amd=self.amd, sleep=asyncio.sleep)
        patched = releases(STORY)[-1].up_to_date()
        self.machines = {
            "old": maker.machine("old"),
            "unlucky": maker.machine("unlucky", **patched),
            "patched": maker.machine("patched", **patched),
        }
        self.chip = make_evidence(self.amd.machine("chip", Product.GENOA).report(b"x"), ())

    async def live(self, until: datetime, refresher: Refresher) -> None:
        """Let the time pass, with everything done when it is due."""
        while (due := await refresher.step()) < until:
            self.at = max(due, self.at + timedelta(seconds=1))
        self.at = until

    def judge(self, machine: Machine, endorsements: Endorsements) -> str:
        """Return what dcap-qvl says of a quote of ``machine`` now."""
        collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(to_common_form(endorsements)))
        try:
            verdict = dcap_qvl.verify_with_root_ca(
                machine.quote_tdx(b"x"), collateral, self.maker.root_der, int(self.at.timestamp())
            )
        except ValueError as error:
            return "Revoked" if "CertRevoked" in str(error) else str(error)
        return str(verdict.status)

    def verdicts(self, store: Store) -> tuple[str, ...]:
        """Return what comes of every machine with what the Endorser has: old, unlucky and patched."""
        found = []
        for machine in self.machines.values():
            evidence = parse_evidence(machine.quote_tdx(b"x"), tee="tdx")
            found.append(self.judge(machine, store.endorsements_for(evidence)))
        return tuple(found)

    async def see(self, store: Store) -> None:
        """Let the Endorser know the machines, as a verifier does that has judged their evidence."""
        observer = Observer(store)
        for machine in self.machines.values():
            assert await observer.observe(parse_evidence(machine.quote_tdx(b"x"), tee="tdx"))

    async def forecast(self, store: Store) -> dict[str, tuple[str, str]]:
        """Return what the Endorser says of every machine: its status now, and under the early TCB info."""
        told = {each.platform: (each.now, each.then) for each in await forecast(store)}
        ids = {}
        for name, machine in self.machines.items():
            seen = seen_in(parse_evidence(machine.quote_tdx(b"x"), tee="tdx"), {})
            assert seen is not None
            ids[name] = seen.id
        assert set(told) == set(ids.values())
        return {name: told[identity] for name, identity in ids.items()}

    @property
    def _platform(self) -> Platform:
        return Platform(anchor_id(self.maker.trust_anchor()), self.maker.fmspcs["platform"].hex(), "platform")

    async def endorser(self, folder: Path, client: httpx2.AsyncClient) -> tuple[Store, Refresher]:
        """Start the Endorser, which is to have what the machines need."""
        root = self.amd.trust_anchor(Product.GENOA)
        store = await Store.open(str(folder), (self.maker.trust_anchor(), root), clock=lambda: self.at)
        chip = needed_chip(self.chip)
        assert chip is not None
        wanted = (*needs_of_platform("tdx", self._platform), *needs_of_chip(chip, (anchor_id(root),)))
        url = "https://vendor.invalid"
        sources: list[Source] = [
            PcsSource(url, client, gate=Budget("pcs", clock=lambda: self.at)),
            KdsSource(url, client, gate=Budget("kds", clock=lambda: self.at)),
        ]
        policy = RefreshPolicy(every=30 * MINUTE, first_retry=MINUTE, last_retry=10 * MINUTE)
        return store, Refresher(store, sources, wanted=wanted, policy=policy, chance=random.Random(1))


async def test_a_day(maker: ChipMaker, tmp_path: Path) -> None:
    day = Day(maker)
    async with httpx2.AsyncClient(transport=VendorTransport(day.service)) as client:
        store, refresher = await day.endorser(tmp_path / "store", client)
        async with store:
            await day.live(MIDNIGHT - HOUR, refresher)
            # The evening before, the early channel tells what the next evening will be like, but for the revocation.
            assert day.verdicts(store) == ("UpToDate", "UpToDate", "UpToDate")
            await day.see(store)
            foretold = await day.forecast(store)
            assert foretold == {
                "old": ("UpToDate", "OutOfDate"),
                "unlucky": ("UpToDate", "UpToDate"),
                "patched": ("UpToDate", "UpToDate"),
            }
            (short,) = (each for each in await forecast(store) if each.changes)
            assert short.advisories == ("INTEL-SA-09999",)
            assert short.short

            seen, troubled, snp = [], [], []
            verifier = Verifier(store.anchors)
            for hour in range(24):
                await day.live(clock(hour) + 45 * MINUTE, refresher)
                seen.append(day.verdicts(store))
                rated = {name: now for name, (now, _) in (await day.forecast(store)).items()}
                assert all(
                    verdict in {rated[name], "Revoked"} for name, verdict in zip(rated, seen[-1], strict=True)
                )
                diagnosis = await diagnose(store)
                assert diagnosis.healthy, "nothing that is held ends this day"
                assert {each.state for each in diagnosis.objects} == {"ok"}
                assert diagnosis.platforms == 3
                troubled.append(
                    {each.need.kind.partition("_")[0] for each in diagnosis.objects if each.error}
                )
                found = store.endorsements_for(day.chip)
                judged = verifier.verify(day.chip, found, at=day.at, report_data=b"x".ljust(64, b"\0"))
                snp.append(judged.accepted)

            assert seen == [
                *[("UpToDate", "UpToDate", "UpToDate")] * 6,
                *[("OutOfDate", "UpToDate", "UpToDate")] * 7,  # the outage hides the revocation at ten
                *[("OutOfDate", "Revoked", "UpToDate")] * 11,
            ]
            come_true = {name: now for name, (now, _) in (await day.forecast(store)).items()}
            assert come_true == {name: then for name, (_, then) in foretold.items()}
            assert not any(each.changes for each in await forecast(store)), "what was early is standard"
            intel = {"tcb", "qe", "pck", "root"}
            assert troubled == [*[{"snp"}] * 3, *[set()] * 6, *[intel] * 4, *[set()] * 11]
            assert snp == [True] * 24, "what KDS said the day before is good for a year"

            # And as of the hour before the recovery, everything is still as it was.
            past = await store.snapshot_at(clock(5))
            evidence = parse_evidence(day.machines["old"].quote_tdx(b"x"), tee="tdx")
            assert day.judge(day.machines["old"], past.endorsements_for(evidence)) == "UpToDate"
