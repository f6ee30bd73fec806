# SPDX-License-Identifier: Apache-2.0
"""The store: only authentic endorsements enter, nothing goes back in time, and a crash leaves it whole."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from eaa.endorser.store import Outcome, Store
from eaa.rats import ConfigurationError, Endorsement, EndorsementError, Endorsements
from eaa.simulator import ChipMaker, mint
from eaa.tee.dcap.collateral_files import endorsements_to_json
from eaa.tee.registry import parse_evidence
from eaa.verifier.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def outcomes(store: Store, endorsements: Endorsements, *, force: bool = False) -> set[Outcome]:
    return {put.outcome for put in store.put(endorsements, force=force)}


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("tee", "ca"), [("tdx", "platform"), ("sgx", "platform"), ("sgx", "processor")])
def test_evidence_gets_the_collateral_that_verifies_it(
    store: Store, maker: ChipMaker, tee: str, ca: str
) -> None:
    for each_tee, each_ca in (("tdx", "platform"), ("sgx", "platform"), ("sgx", "processor")):
        store.put(maker.collateral(each_tee, NOW, ca=each_ca))
    case = mint(maker, tee, b"challenge", at=NOW, ca=ca)
    evidence = parse_evidence(case.quote, tee=tee)
    found = store.endorsements_for(evidence)
    assert sorted(item.kind for item in found.items) == ["pck_crl", "qe_identity", "root_ca_crl", "tcb_info"]
    appraisal = Verifier((maker.trust_anchor(),)).verify(evidence, found, at=NOW, report_data=b"challenge")
    assert appraisal.accept().tcb_status == "UpToDate"


def test_what_is_missing_is_left_out(store: Store, maker: ChipMaker) -> None:
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    assert store.endorsements_for(evidence) == Endorsements()
    store.put(Endorsements(maker.collateral("tdx", NOW).of_kind("pck_crl")))
    assert [item.kind for item in store.endorsements_for(evidence).items] == ["pck_crl"]
    other = parse_evidence(mint(ChipMaker.create(NOW), "tdx", b"", at=NOW).quote, tee="tdx")
    assert store.endorsements_for(other) == Endorsements()


def test_two_chip_makers_do_not_mix(tmp_path: Path, maker: ChipMaker) -> None:
    other = ChipMaker.create(NOW)
    store = Store(tmp_path, (maker.trust_anchor(), other.trust_anchor()))
    mine, theirs = maker.collateral("tdx", NOW), other.collateral("tdx", NOW)
    assert outcomes(store, Endorsements.merged([mine, theirs])) == {Outcome.ADDED}
    for each, expected in ((maker, mine), (other, theirs)):
        evidence = parse_evidence(mint(each, "tdx", b"", at=NOW).quote, tee="tdx")
        assert set(store.endorsements_for(evidence).items) == set(expected.items)


@pytest.mark.parametrize("kind", ["tcb_info", "qe_identity", "pck_crl", "root_ca_crl"])
def test_what_another_root_signed_is_refused_and_nothing_is_stored(
    store: Store, maker: ChipMaker, kind: str
) -> None:
    strange = ChipMaker.create(NOW).collateral("tdx", NOW).of_kind(kind)
    with pytest.raises(EndorsementError, match="pinned") as caught:
        store.put(Endorsements(maker.collateral("tdx", NOW).items + strange))
    assert caught.value.hint
    assert not store.directory.exists()


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("tcb_info", b'"OutOfDate"', b'"UpToDate"'),
        ("qe_identity", b'"isvprodid":2', b'"isvprodid":1'),
        ("tcb_info", b'"signature":"', b'"signature":"x'),
    ],
)
def test_what_was_altered_is_refused(
    store: Store, maker: ChipMaker, kind: str, old: bytes, new: bytes
) -> None:
    (item,) = maker.collateral("tdx", NOW).of_kind(kind)
    assert old in item.content
    altered = Endorsement(kind, item.content.replace(old, new), item.issuer_chain)
    with pytest.raises(EndorsementError):
        store.put(Endorsements((altered,)))


def test_altered_or_misplaced_crls_are_refused(store: Store, maker: ChipMaker) -> None:
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
            store.put(Endorsements((wrong,)))


def test_nothing_goes_back_in_time_unless_forced(store: Store, maker: ChipMaker) -> None:
    older, newer = maker.collateral("tdx", NOW), maker.collateral("tdx", NOW + DAY)
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    assert outcomes(store, older) == {Outcome.ADDED}
    assert outcomes(store, older) == {Outcome.UNCHANGED}
    assert outcomes(store, newer) == {Outcome.REPLACED}
    assert outcomes(store, older) == {Outcome.KEPT_NEWER}
    assert set(store.endorsements_for(evidence).items) == set(newer.items)
    assert outcomes(store, older, force=True) == {Outcome.REPLACED}
    assert set(store.endorsements_for(evidence).items) == set(older.items)


def test_lower_evaluation_number_never_replaces_a_higher(store: Store, maker: ChipMaker) -> None:
    store.put(Endorsements(maker.collateral("tdx", NOW, evaluation=18).of_kind("tcb_info")))
    later = Endorsements(maker.collateral("tdx", NOW + DAY, evaluation=17).of_kind("tcb_info"))
    assert outcomes(store, later) == {Outcome.KEPT_NEWER}


def test_expired_collateral_is_kept_for_the_appraisal_to_judge(store: Store, maker: ChipMaker) -> None:
    assert outcomes(store, maker.collateral("tdx", datetime(2024, 2, 1, tzinfo=UTC))) == {Outcome.ADDED}


def test_another_store_object_sees_what_was_put(store: Store, maker: ChipMaker) -> None:
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    reader = Store(store.directory, store.anchors)
    assert reader.endorsements_for(evidence) == Endorsements()
    for at in (NOW, NOW + DAY):
        store.put(maker.collateral("tdx", at))
        found = reader.endorsements_for(evidence)
        assert set(found.items) == set(maker.collateral("tdx", at).items)
        assert reader.endorsements_for(evidence) is found, "an unchanged index is not read again"


@pytest.mark.parametrize(
    "index",
    [b"", b"{", b"[]", b'{"format":9,"entries":[]}', b'{"format":1,"entries":[{}]}', b"[" * 100_000],
)
def test_damaged_index_is_named_and_never_overwritten(store: Store, maker: ChipMaker, index: bytes) -> None:
    store.put(maker.collateral("tdx", NOW))
    (store.directory / "index.json").write_bytes(index)
    for act in (store.snapshot, lambda: store.put(maker.collateral("tdx", NOW))):
        with pytest.raises(ConfigurationError, match="damaged"):
            act()
    assert (store.directory / "index.json").read_bytes() == index


def test_changed_object_is_noticed(store: Store, maker: ChipMaker) -> None:
    store.put(maker.collateral("tdx", NOW))
    (path, *_) = (store.directory / "objects").iterdir()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ConfigurationError, match="other content"):
        Store(store.directory, store.anchors).snapshot()
    assert outcomes(store, maker.collateral("tdx", NOW + DAY)) == {Outcome.REPLACED}


def test_index_cannot_name_files_elsewhere(store: Store, maker: ChipMaker) -> None:
    store.put(maker.collateral("tdx", NOW))
    path = store.directory / "index.json"
    index = json.loads(path.read_bytes())
    for entry in index["entries"]:
        entry["content"] = "../index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        store.snapshot()


def test_folder_that_cannot_be_made_is_named(tmp_path: Path, maker: ChipMaker) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(tmp_path / "file" / "store", (maker.trust_anchor(),))
    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        store.put(maker.collateral("tdx", NOW))
    assert caught.value.hint


def test_readers_and_writers_at_once_see_whole_states(store: Store, maker: ChipMaker) -> None:
    evidence = parse_evidence(mint(maker, "tdx", b"", at=NOW).quote, tee="tdx")
    sets = [maker.collateral("tdx", NOW + day * DAY) for day in range(6)]
    whole = {frozenset(each.items) for each in sets}
    store.put(sets[0])
    seen: set[frozenset[Endorsement]] = set()
    failures: list[BaseException] = []
    done = threading.Event()

    def guarded(work: object) -> None:
        try:
            assert callable(work)
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    def read() -> None:
        while not done.is_set():
            seen.add(frozenset(store.endorsements_for(evidence).items))

    def write(directory: Path) -> None:
        writer = Store(directory, store.anchors)
        for each in sets:
            writer.put(each)

    readers = [threading.Thread(target=guarded, args=(read,)) for _ in range(3)]
    writers = [threading.Thread(target=guarded, args=(lambda: write(store.directory),)) for _ in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert seen <= whole
    assert frozenset(store.endorsements_for(evidence).items) == frozenset(sets[-1].items)


KILLED = """
import sys
from datetime import datetime, timedelta
from eaa.endorser.store import Store
from eaa.simulator import ChipMaker
maker = ChipMaker.load(sys.argv[1])
store = Store(sys.argv[2], (maker.trust_anchor(),))
at = datetime.fromisoformat(sys.argv[3])
print("ready", flush=True)
while True:
    at += timedelta(seconds=1)
    store.put(maker.collateral("tdx", at))
"""


def test_kill_in_mid_import_leaves_a_whole_store(tmp_path: Path) -> None:
    maker = ChipMaker.load_or_create(tmp_path / "maker", NOW)
    store = Store(tmp_path / "store", (maker.trust_anchor(),))
    store.put(maker.collateral("tdx", NOW))
    for wait in (0.0, 0.013, 0.031, 0.047):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "maker"), str(store.directory), NOW.isoformat()],
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        stored = Store(store.directory, store.anchors).snapshot().stored
        assert len(stored) == 4
        assert len({each.subject.issued for each in stored.values()}) == 1, "all of a set, or none"
    (store.directory / ".new-left-behind").write_bytes(b"half")
    assert outcomes(store, maker.collateral("tdx", NOW + DAY)) == {Outcome.REPLACED}
    assert not [name for name in files(store.directory) if ".new-" in name]


def test_real_collateral_of_intel_is_found_for_real_quotes(tmp_path: Path, vectors: Path) -> None:
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
        store = Store(tmp_path / vector["id"])
        store.put(collateral)
        found = store.endorsements_for(parse_evidence(quote, tee=vector["tee"]))
        assert endorsements_to_json(found) == endorsements_to_json(collateral), vector["id"]
        tried += 1
    assert tried >= 20


def test_lock_and_index_are_no_secrets_but_not_for_others_to_write(store: Store, maker: ChipMaker) -> None:
    store.put(maker.collateral("tdx", NOW))
    for name in files(store.directory):
        assert not (store.directory / name).stat().st_mode & 0o022, name
