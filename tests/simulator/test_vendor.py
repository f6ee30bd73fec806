# SPDX-License-Identifier: Apache-2.0
"""The chip maker: what it keeps, that it stays the same, whom it revokes."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

import eaa
from eaa.rats import ConfigurationError, Endorsements
from eaa.simulator import ChipMaker, mint

if TYPE_CHECKING:
    from pathlib import Path


def pck_crl(endorsements: Endorsements) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(endorsements.of_kind("pck_crl")[0].content)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    "time",
    [
        datetime(1900, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
        datetime(2026, 1, 1),  # noqa: DTZ001 - what is to be refused
    ],
)
def test_impossible_times_are_refused(maker: ChipMaker, time: datetime) -> None:
    with pytest.raises(ConfigurationError, match="does not know the time"):
        ChipMaker.create(time)
    with pytest.raises(ConfigurationError, match="does not know the time"):
        maker.collateral("tdx", time)


def test_a_saved_chip_maker_is_loaded_byte_for_byte(at: datetime, tmp_path: Path) -> None:
    maker = ChipMaker.create(at)
    maker.save(tmp_path / "vendor")
    again = ChipMaker.load(tmp_path / "vendor")
    assert again.root_der == maker.root_der
    assert again.collateral("tdx", at) == maker.collateral("tdx", at)
    assert again.machine("m").quote_tdx(b"x") == maker.machine("m").quote_tdx(b"x")
    assert again.machine("m").quote_sgx(b"x") == maker.machine("m").quote_sgx(b"x")
    assert again.created == maker.created


def test_the_folder_is_its_owners_alone(at: datetime, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "vendor"
    maker = ChipMaker.load_or_create(folder, at)
    assert mode(folder) == 0o700
    assert mode(folder / "vendor.json") == 0o600
    assert (folder / "root_ca.der").read_bytes() == maker.root_der
    assert x509.load_pem_x509_certificate((folder / "root_ca.pem").read_bytes()) == maker.root_certificate
    assert {entry.name for entry in folder.iterdir()} == {"vendor.json", "root_ca.der", "root_ca.pem"}


def test_secrets_are_in_no_repr(at: datetime, tmp_path: Path) -> None:
    maker = ChipMaker.load_or_create(tmp_path, at)
    seed = json.loads((tmp_path / "vendor.json").read_bytes())["seed"]
    machine = maker.machine()
    for shown in (repr(maker), repr(machine), repr(vars(maker)), repr(mint(maker, "tdx", b"", at=at))):
        assert seed not in shown
        assert str(bytes.fromhex(seed)) not in shown
        assert str(machine.seed) not in shown


def test_founding_twice_gives_the_same(at: datetime, tmp_path: Path) -> None:
    first = ChipMaker.load_or_create(tmp_path, at)
    second = ChipMaker.load_or_create(tmp_path, at + timedelta(days=9))
    assert second.root_der == first.root_der


def test_founding_at_once_gives_the_same(at: datetime, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        makers = list(pool.map(lambda _: ChipMaker.load_or_create(tmp_path / "v", at), range(16)))
    assert len({maker.root_der for maker in makers}) == 1
    assert (tmp_path / "v" / "root_ca.der").read_bytes() == makers[0].root_der


def test_two_chip_makers_have_different_keys(at: datetime) -> None:
    first, second = ChipMaker.create(at), ChipMaker.create(at)
    assert first.trust_anchor().public_key != second.trust_anchor().public_key
    assert first.machine().identity.ppid != second.machine().identity.ppid


def test_verdictds_data_folder_will_do(at: datetime, tmp_path: Path) -> None:
    (tmp_path / "verdictd.db").touch()
    with pytest.raises(ConfigurationError, match="no chip maker"):
        ChipMaker.load(tmp_path)
    inner = ChipMaker.load_or_create(tmp_path / "simulator", at)
    assert ChipMaker.load(tmp_path).root_der == inner.root_der
    assert ChipMaker.load_or_create(tmp_path, at).folder == tmp_path / "simulator"


def test_a_strangers_folder_is_left_alone(at: datetime, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"holds letter\.txt"):
        ChipMaker.load_or_create(tmp_path, at)
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]


def test_what_is_no_folder_is_refused(at: datetime, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ConfigurationError):
        ChipMaker.load(path)
    with pytest.raises(ConfigurationError):
        ChipMaker.load_or_create(path, at)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "format": st.just(1) | JSON,
        "seed": st.just("00" * 32) | JSON,
        "created": st.just("2026-01-01T00:00:00Z")
        | st.datetimes(timezones=st.none() | st.just(UTC)).map(datetime.isoformat),
        "revoked": st.fixed_dictionaries(
            {"platform": st.lists(st.integers(-1, 2**161).map(hex)), "processor": st.just([]) | JSON}
        ),
    },
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@given(stored=JSON | FIELDS)
def test_any_file_is_a_chip_maker_or_a_clear_error(scratch: Path, stored: Any) -> None:
    (scratch / "vendor.json").write_text(json.dumps(stored))
    try:
        created = ChipMaker.load(scratch).created
    except ConfigurationError:
        return
    assert created.utcoffset() == timedelta(0)
    assert len(ChipMaker.load(scratch).collateral("sgx", created).items) == 4


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"\xff", b'{"seed": "0badsecret"}'])
def test_a_broken_file_is_refused_without_quoting_it(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "vendor.json").write_bytes(text)
    with pytest.raises(ConfigurationError, match="not a chip maker's file") as caught:
        ChipMaker.load(tmp_path)
    assert "0badsecret" not in str(caught.value) + str(caught.value.__cause__)


def test_the_designated_platform_is_on_every_list(maker: ChipMaker, at: datetime) -> None:
    for ca in ("platform", "processor"):
        serials = {entry.serial_number for entry in pck_crl(maker.collateral("sgx", at, ca=ca))}
        assert maker.machine("any name", ca=ca, revoked=True).pck_serial in serials
        assert maker.machine("any name", ca=ca).pck_serial not in serials


def test_a_machine_can_be_revoked_later(at: datetime, tmp_path: Path) -> None:
    maker = ChipMaker.load_or_create(tmp_path, at)
    machine = maker.machine("unlucky")
    verifier = eaa.Verifier([maker.trust_anchor()])
    evidence = eaa.parse_evidence(machine.quote_tdx(b"x"), tee="tdx")
    before = maker.collateral("tdx", at)
    assert verifier.verify(evidence, before, at=at, report_data=b"x").accepted

    maker.revoke(machine)
    maker.revoke(machine)
    after = ChipMaker.load(tmp_path).collateral("tdx", at)
    appraisal = verifier.verify(evidence, after, at=at, report_data=b"x")
    assert [check.id for check in appraisal.failing] == ["dcap.pck.revocation"]
    assert [entry.serial_number for entry in pck_crl(after)].count(machine.pck_serial) == 1
    assert maker.machine("lucky").pck_serial not in {entry.serial_number for entry in pck_crl(after)}


def test_collateral_follows_the_time_it_is_asked_for(maker: ChipMaker, at: datetime) -> None:
    verifier = eaa.Verifier([maker.trust_anchor()])
    quote = eaa.parse_evidence(maker.machine().quote_sgx(b"x"), tee="sgx")
    for days in (-2500, 0, 2500):
        moment = at + timedelta(days=days)
        collateral = maker.collateral("sgx", moment)
        assert verifier.verify(quote, collateral, at=moment, report_data=b"x").accepted
        late = moment + timedelta(days=29, seconds=1)
        assert not verifier.verify(quote, collateral, at=late, report_data=b"x").accepted


def test_collateral_can_be_changed_trait_by_trait(maker: ChipMaker, at: datetime) -> None:
    collateral = maker.collateral("tdx", at, evaluation=3, ends=timedelta(hours=1))
    stated = json.loads(collateral.of_kind("tcb_info")[0].content)["tcbInfo"]
    assert stated["tcbEvaluationDataNumber"] == 3
    assert stated["nextUpdate"] == "2026-03-16T13:00:00Z"
