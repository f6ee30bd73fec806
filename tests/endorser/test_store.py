# SPDX-License-Identifier: Apache-2.0
"""The store: only authentic endorsements enter, nothing goes back in time, and a crash leaves it whole."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from eaa.endorser.files import load_endorsements
from eaa.endorser.store import Outcome, Store
from eaa.rats import ConfigurationError, Endorsement, EndorsementError, Endorsements, UnavailableError
from eaa.simulator import ChipMaker, mint
from eaa.storage.connections import open_connections
from eaa.tee.dcap.collateral_files import endorsements_to_json
from eaa.tee.registry import parse_evidence
from eaa.verifier.verifier import Verifier

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
both = pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)


async def outcomes(store: Store, endorsements: Endorsements, **options: Any) -> set[Outcome]:
    return {put.outcome for put in await store.put(endorsements, **options)}


async def execute(location: str, statement: str) -> None:
    """Do what no program of ours does."""
    connections = await open_connections(
        location if "://" in location else f"sqlite:///{location}/endorser.db"
    )
    await connections.write(lambda connection: connection.execute(text(statement)))
    await connections.close()


@pytest.mark.parametrize(("tee", "ca"), [("tdx", "platform"), ("sgx", "platform"), ("sgx", "processor")])
async def test_evidence_gets_the_collateral_that_verifies_it(
    store: Store, maker: ChipMaker, tee: str, ca: str
) -> None:
    for each_tee, each_ca in (("tdx", "platform"), ("sgx", "platform"), ("sgx", "processor")):
        await store.put(maker.collateral(each_tee, NOW, ca=each_ca))
    case = mint(maker, tee, b"challenge", at=NOW, ca=ca)
    evidence = parse_evidence(case.quote, tee=tee)
    found = store.endorsements_for(evidence)
    assert sorted(item.kind for item in found.items) == ["pck_crl", "qe_identity", "root_ca_crl", "tcb_info"]
    appraisal = Verifier((maker.trust_anchor(),)).verify(evidence, found, at=NOW, report_data=b"challenge")
    assert appraisal.accept().tcb_status == "UpToDate"


async def test_azure_evidence_gets_the_collateral_of_its_hardware(tmp_path: Path, vectors: Path) -> None:
    """A vTPM's quote needs what the TD quote below it needs."""
    folder = vectors / "az-tdx-vtpm" / "az-tdx-cdai-live"
    collateral = load_endorsements(folder / "collateral_assembled.json")
    document = json.loads((folder / "evidence.json").read_bytes())
    evidence = parse_evidence(json.dumps(document.get("evidence", document)).encode(), tee="az-tdx-vtpm")
    async with await Store.open(tmp_path) as store:
        await store.put(collateral)
        found = store.endorsements_for(evidence)
    assert sorted(item.kind for item in found.items) == ["pck_crl", "qe_identity", "root_ca_crl", "tcb_info"]


@both
async def test_what_is_missing_is_left_out(store: Store, maker: ChipMaker) -> None:
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    assert store.endorsements_for(evidence) == Endorsements()
    await store.put(Endorsements(maker.collateral("tdx", NOW).of_kind("pck_crl")))
    assert [item.kind for item in store.endorsements_for(evidence).items] == ["pck_crl"]
    other = parse_evidence(mint(ChipMaker.create(NOW), "tdx", b"", at=NOW).quote, tee="tdx")
    assert store.endorsements_for(other) == Endorsements()


async def test_two_chip_makers_do_not_mix(tmp_path: Path, maker: ChipMaker) -> None:
    other = ChipMaker.create(NOW)
    async with await Store.open(tmp_path, (maker.trust_anchor(), other.trust_anchor())) as store:
        mine, theirs = maker.collateral("tdx", NOW), other.collateral("tdx", NOW)
        assert await outcomes(store, Endorsements.merged([mine, theirs])) == {Outcome.ADDED}
        for each, expected in ((maker, mine), (other, theirs)):
            evidence = parse_evidence(mint(each, "tdx", b"", at=NOW).quote, tee="tdx")
            assert set(store.endorsements_for(evidence).items) == set(expected.items)


@pytest.mark.parametrize("kind", ["tcb_info", "qe_identity", "pck_crl", "root_ca_crl"])
async def test_what_another_root_signed_is_refused_and_nothing_is_stored(
    store: Store, maker: ChipMaker, kind: str
) -> None:
    strange = ChipMaker.create(NOW).collateral("tdx", NOW).of_kind(kind)
    with pytest.raises(EndorsementError, match="pinned") as caught:
        await store.put(Endorsements(maker.collateral("tdx", NOW).items + strange))
    assert caught.value.hint
    assert not store.snapshot().stored
    assert await store.history() == []


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("tcb_info", b'"OutOfDate"', b'"UpToDate"'),
        ("qe_identity", b'"isvprodid":2', b'"isvprodid":1'),
        ("tcb_info", b'"signature":"', b'"signature":"x'),
    ],
)
async def test_what_was_altered_is_refused(
    store: Store, maker: ChipMaker, kind: str, old: bytes, new: bytes
) -> None:
    (item,) = maker.collateral("tdx", NOW).of_kind(kind)
    assert old in item.content
    altered = Endorsement(kind, item.content.replace(old, new), item.issuer_chain)
    with pytest.raises(EndorsementError):
        await store.put(Endorsements((altered,)))


async def test_altered_or_misplaced_crls_are_refused(store: Store, maker: ChipMaker) -> None:
    collateral = maker.collateral("tdx", NOW)
    (pck_crl,), (root_crl,) = collateral.of_kind("pck_crl"), collateral.of_kind("root_ca_crl")
    altered = maker.collateral("tdx", NOW, pck_crl="altered").of_kind("pck_crl")[0]
    for wrong in (
        altered,
        Endorsement("pck_crl", root_crl.content, pck_crl.issuer_chain),
        Endorsement("root_ca_crl", pck_crl.content),
        Endorsement("pck_crl", pck_crl.content, collateral.items[0].issuer_chain),
        Endorsement("pck_crl", pck_crl.content),
        Endorsement("root_ca_crl", b"0"),
        Endorsement("vcek", b""),
    ):
        with pytest.raises(EndorsementError):
            await store.put(Endorsements((wrong,)))


@both
async def test_nothing_goes_back_in_time_unless_forced(store: Store, maker: ChipMaker) -> None:
    older, newer = maker.collateral("tdx", NOW), maker.collateral("tdx", NOW + DAY)
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    assert await outcomes(store, older) == {Outcome.ADDED}
    assert await outcomes(store, older) == {Outcome.UNCHANGED}
    assert await outcomes(store, newer) == {Outcome.REPLACED}
    assert await outcomes(store, older) == {Outcome.KEPT_NEWER}
    assert set(store.endorsements_for(evidence).items) == set(newer.items)
    assert await outcomes(store, older, force=True) == {Outcome.REPLACED}
    assert set(store.endorsements_for(evidence).items) == set(older.items)


@both
async def test_lower_evaluation_number_never_replaces_a_higher(store: Store, maker: ChipMaker) -> None:
    await store.put(Endorsements(maker.collateral("tdx", NOW, evaluation=18).of_kind("tcb_info")))
    later = Endorsements(maker.collateral("tdx", NOW + DAY, evaluation=17).of_kind("tcb_info"))
    assert await outcomes(store, later) == {Outcome.KEPT_NEWER}


async def test_expired_collateral_is_kept_for_the_appraisal_to_judge(store: Store, maker: ChipMaker) -> None:
    assert await outcomes(store, maker.collateral("tdx", datetime(2024, 2, 1, tzinfo=UTC))) == {Outcome.ADDED}


@both
async def test_what_one_process_puts_another_finds(location: str, store: Store, maker: ChipMaker) -> None:
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    async with await Store.open(location, store.anchors) as reader:
        assert reader.endorsements_for(evidence) == Endorsements()
        for at in (NOW, NOW + DAY):
            await store.put(maker.collateral("tdx", at))
            await reader.sync()
            found = reader.endorsements_for(evidence)
            assert set(found.items) == set(maker.collateral("tdx", at).items)
            await reader.sync()
            assert reader.endorsements_for(evidence) is found, "what has not changed is not read again"
        following = asyncio.create_task(reader.follow(0.01))
        await store.put(maker.collateral("tdx", NOW + 2 * DAY))
        async with asyncio.timeout(10):
            while reader.endorsements_for(evidence) == found:  # noqa: ASYNC110 - it has no event to wait for
                await asyncio.sleep(0.01)
        following.cancel()


@both
async def test_every_version_stays_and_any_day_can_be_asked_for(
    location: str, store: Store, maker: ChipMaker
) -> None:
    days = [NOW + day * DAY for day in range(4)]
    today = days[0]
    store.clock = lambda: today
    for today in days[:3]:
        await store.put(maker.collateral("tdx", today), source=f"on day {today.day}")
    today = days[3]
    await store.put(maker.collateral("tdx", days[1]), force=True)
    key = next(key for key in store.snapshot().stored if key.startswith("tcb_info"))
    versions = await store.history(key)
    assert [each.stored_at for each in versions] == days
    assert [each.forced for each in versions] == [False, False, False, True]
    assert versions[0].source == "on day 1"
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    for day, issued, held in ((days[0], 0, 0), (days[1], 1, 1), (days[2], 2, 2), (days[3], 2, 1)):
        # The chip maker's word begins a day before it was asked.
        as_issued = await store.snapshot_at(day - timedelta(hours=20))
        assert set(as_issued.endorsements_for(evidence).items) == set(
            maker.collateral("tdx", days[issued]).items
        )
        as_held = await store.snapshot_at(day + timedelta(hours=1), stored=True)
        assert set(as_held.endorsements_for(evidence).items) == set(maker.collateral("tdx", days[held]).items)
    assert not (await store.snapshot_at(NOW - 2 * DAY)).stored
    assert not (await store.snapshot_at(NOW - timedelta(hours=1), stored=True)).stored


@both
async def test_channels_and_evaluation_numbers_are_kept_apart(
    location: str, store: Store, maker: ChipMaker
) -> None:
    def statement(number: int, day: int = 0) -> Endorsements:
        return Endorsements(maker.collateral("tdx", NOW + day * DAY, evaluation=number).of_kind("tcb_info"))

    await store.put(statement(17))
    await store.put(statement(18), slot="early")
    (key,) = store.snapshot().stored

    def numbers() -> list[int | None]:
        snapshot = store.snapshot()
        found = (
            snapshot.stored[key],
            snapshot.early(key),
            snapshot.numbered(key, 17),
            snapshot.numbered(key, 18),
        )
        return [each.subject.evaluation_number if each else None for each in found]

    assert numbers() == [17, 18, 17, 18]
    assert await outcomes(store, statement(17, 1), slot="early") == {Outcome.KEPT_NEWER}
    assert await outcomes(store, statement(16, 1), slot="#16") == {Outcome.ADDED}
    assert store.snapshot().numbered(key, 16) is not None
    await store.put(statement(19))
    assert numbers() == [19, 19, 17, 18], "the early channel is never behind"
    past = await store.snapshot_at(NOW)
    assert past.numbered(key, 17) == store.snapshot().numbered(key, 17)


@both
async def test_changed_object_is_noticed(location: str, store: Store, maker: ChipMaker) -> None:
    await store.put(maker.collateral("tdx", NOW))
    await execute(location, "UPDATE endorser_objects SET content = digest")
    with pytest.raises(ConfigurationError, match="other content"):
        await Store.open(location, store.anchors)
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    assert len(store.endorsements_for(evidence).items) == 4, "who has it in memory goes on"


async def test_damaged_database_is_named_and_kept(location: str, maker: ChipMaker) -> None:
    path = Path(location) / "endorser.db"
    path.parent.mkdir()
    path.write_bytes(b"not a database, but somebody's only copy" * 99)
    with pytest.raises((ConfigurationError, UnavailableError), match=r"damaged|not a usable database"):
        await Store.open(location, (maker.trust_anchor(),))
    assert path.read_bytes().startswith(b"not a database")


async def test_folder_that_cannot_be_made_is_named(tmp_path: Path, maker: ChipMaker) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        await Store.open(tmp_path / "file" / "store", (maker.trust_anchor(),))
    assert caught.value.hint


@both
async def test_writers_at_once_leave_the_newest(location: str, store: Store, maker: ChipMaker) -> None:
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    sets = [maker.collateral("tdx", NOW + day * DAY) for day in range(6)]
    whole: set[frozenset[Endorsement]] = {frozenset(each.items) for each in sets} | {frozenset()}
    seen = set()

    async def write() -> None:
        async with await Store.open(location, store.anchors) as writer:
            for each in sets:
                await writer.put(each)
                await store.sync()
                seen.add(frozenset(store.endorsements_for(evidence).items))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(write())
    assert seen <= whole
    assert frozenset(store.endorsements_for(evidence).items) == frozenset(sets[-1].items)
    assert len({each.content for each in await store.history()}) == len(
        {e for each in sets for e in each.items}
    )


KILLED = """
import asyncio, sys
from datetime import datetime, timedelta
from eaa.endorser.store import Store
from eaa.simulator import ChipMaker

async def main():
    maker = ChipMaker.load(sys.argv[1])
    store = await Store.open(sys.argv[2], (maker.trust_anchor(),))
    at = datetime.fromisoformat(sys.argv[3])
    print("ready", flush=True)
    while True:
        at += timedelta(seconds=1)
        await store.put(maker.collateral("tdx", at))

asyncio.run(main())
"""


@both
async def test_kill_in_mid_import_leaves_a_whole_store(location: str, tmp_path: Path) -> None:
    maker = ChipMaker.load_or_create(tmp_path / "maker", NOW)
    anchors = (maker.trust_anchor(),)
    async with await Store.open(location, anchors) as store:
        await store.put(maker.collateral("tdx", NOW))
    for wait in (0.0, 0.013, 0.031):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "maker"), location, NOW.isoformat()]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        await asyncio.sleep(wait)
        process.kill()
        await process.wait()
        async with await Store.open(location, anchors) as store:
            stored = store.snapshot().stored
            assert len(stored) == 4
            assert len({each.subject.issued for each in stored.values()}) == 1, "all of a set, or none"
            history = await store.history()
            assert len(history) % 4 == 0
    async with await Store.open(location, anchors) as store:
        assert await outcomes(store, maker.collateral("tdx", NOW + DAY)) == {Outcome.REPLACED}


async def test_real_collateral_of_intel_is_found_for_real_quotes(tmp_path: Path, vectors: Path) -> None:
    manifest = json.loads((vectors / "manifest.json").read_bytes())
    from eaa.endorser.files import load_endorsements

    tried = 0
    for vector in manifest["vectors"]:
        role = next(
            (each for each in ("collateral_assembled", "dcap_qvl_json") if each in vector["files"]), None
        )
        if vector["tee"] not in {"sgx", "tdx"} or role is None or not vector["expected"].get("valid"):
            continue
        collateral = load_endorsements(vectors / vector["files"][role]["path"])
        quote = (vectors / vector["files"]["quote"]["path"]).read_bytes()
        if vector["files"]["quote"]["encoding"] == "hex":
            quote = bytes.fromhex(quote.decode())
        async with await Store.open(tmp_path / vector["id"]) as store:
            await store.put(collateral)
            found = store.endorsements_for(parse_evidence(quote, tee=vector["tee"]))
        assert endorsements_to_json(found) == endorsements_to_json(collateral), vector["id"]
        tried += 1
    assert tried >= 20


async def test_database_is_not_for_others(location: str, store: Store, maker: ChipMaker) -> None:
    await store.put(maker.collateral("tdx", NOW))
    for path in Path(location).iterdir():  # noqa: ASYNC240 - a test may wait
        assert not path.stat().st_mode & 0o077, path
