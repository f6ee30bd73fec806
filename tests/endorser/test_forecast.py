# SPDX-License-Identifier: Apache-2.0
"""The forecast is what comes true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from eaa.endorser.forecast import forecast
from eaa.endorser.platforms import Observer
from eaa.rats import Endorsements
from eaa.simulator import mint
from eaa.simulator.publication import Publication
from eaa.simulator.releases import releases
from eaa.simulator.timeline import Recovery, Timeline
from eaa.tee.dcap.collateral_files import statement_from_pcs
from eaa.tee.registry import parse_evidence
from eaa.verifier.verifier import Verifier

if TYPE_CHECKING:
    from eaa.endorser.store import Store
    from eaa.simulator import ChipMaker

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def statements(publication: Publication, fmspc: bytes, number: int, at: datetime) -> Endorsements:
    release = publication.release(at, number)
    assert release is not None
    signed = [
        each
        for tee in ("tdx", "sgx")
        for each in (publication.tcb_info(tee, fmspc, release, at), publication.identity(tee, release, at))
    ]
    return Endorsements(tuple(statement_from_pcs(each.body, each.issuer_chain) for each in signed))


async def test_platforms_that_fall_short_are_named_before_they_do(store: Store, maker: ChipMaker) -> None:
    recovery = Recovery(
        19,
        early=NOW,
        standard=NOW + 30 * DAY,
        advisories=("INTEL-SA-09999",),
        pce_svn=14,
        module_svn=8,
        tdx_qe_svn=5,
    )
    timeline = Timeline(recoveries=(recovery,))
    publication = Publication(maker, timeline)
    fmspc = maker.fmspcs["platform"]
    await store.put(maker.collateral("tdx", NOW))
    await store.put(statements(publication, fmspc, 18, NOW))
    observer = Observer(store)
    old = parse_evidence(mint(maker, "tdx", b"x", at=NOW).quote, tee="tdx")
    fresh_machine = maker.machine("machine-2", **releases(timeline)[-1].up_to_date())
    fresh = parse_evidence(fresh_machine.quote_tdx(b"x"), tee="tdx")
    enclave = parse_evidence(mint(maker, "sgx", b"x", at=NOW).quote, tee="sgx")
    for evidence in (old, fresh, enclave):
        assert await observer.observe(evidence)

    without = await forecast(store)
    assert len(without) == 3
    assert not any(each.changes for each in without), "without early TCB info nothing is foretold"

    await store.put(statements(publication, fmspc, 19, NOW), slot="early")
    foretold = {each.platform: each for each in await forecast(store)}
    assert sorted((each.tee, each.now, each.then) for each in foretold.values()) == [
        ("sgx", "UpToDate", "OutOfDate"),
        ("tdx", "UpToDate", "OutOfDate"),
        ("tdx", "UpToDate", "UpToDate"),
    ]
    changing = next(each for each in foretold.values() if each.tee == "tdx" and each.changes)
    assert changing.numbers == (18, 19)
    assert changing.advisories == ("INTEL-SA-09999",)
    assert {each.partition(":")[0] for each in changing.short} == {
        "SGX component 1",
        "SGX component 2",
        "PCE SVN",
        "TDX component 3",
        "TDX module TDX_01",
        "quoting enclave SVN",
    }
    staying = next(each for each in foretold.values() if not each.changes)
    assert staying.short == ()

    # The day comes.
    later = NOW + 31 * DAY
    await store.put(statements(publication, fmspc, 19, later))
    await store.put(Endorsements(maker.collateral("tdx", later).items[2:]))
    verifier = Verifier(store.anchors)
    for evidence in (old, fresh, enclave):
        appraisal = verifier.verify(evidence, store.endorsements_for(evidence), at=later, report_data=b"x")
        seen = {each.platform: each for each in await forecast(store)}
        assert appraisal.unverified.tcb_status in {"UpToDate", "OutOfDate"}
        statuses = {each.now for each in seen.values() if each.tee == evidence.tee}
        assert appraisal.unverified.tcb_status in statuses
    come_true = {each.platform: each.now for each in await forecast(store)}
    assert come_true == {name: each.then for name, each in foretold.items()}
