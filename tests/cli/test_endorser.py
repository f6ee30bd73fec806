# SPDX-License-Identifier: Apache-2.0
"""``eaa endorser``: import, list, fetch and serve from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from eaa.cli._run import run
from eaa.cli.endorser import endorser
from eaa.rats import Endorsements
from eaa.simulator import ChipMaker
from eaa.tee.dcap.collateral_files import endorsements_to_files, endorsements_to_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def maker() -> ChipMaker:
    """One chip maker for every test."""
    return ChipMaker.create(NOW)


@pytest.fixture
def root(tmp_path: Path, maker: ChipMaker) -> str:
    """The file of the chip maker's root certificate."""
    (tmp_path / "root.der").write_bytes(maker.root_der)
    return str(tmp_path / "root.der")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(endorser, "eaa endorser", arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def write(path: Path, collateral: Endorsements) -> str:
    path.write_text(json.dumps(endorsements_to_json(collateral)))
    return str(path)


@contextmanager
def served(*arguments: str) -> Iterator[str]:
    """Run ``eaa endorser serve`` as its own process."""
    code = "from eaa.cli.main import main; main()"
    command = [sys.executable, "-c", code, "endorser", "serve", "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ready = json.loads(process.stdout.readline())
            assert ready["event"] == "ready"
            yield ready["url"]
        finally:
            process.terminate()
        assert process.stderr.read() == b""


def test_import_list_serve_fetch(
    tmp_path: Path, maker: ChipMaker, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    folder = tmp_path / "responses"
    folder.mkdir()
    for name, data in endorsements_to_files(maker.collateral("tdx", NOW)).items():
        (folder / name).write_bytes(data)
    (folder / "notes.txt").write_text("mine")
    status, out, err = call(capsys, "import", str(folder), "--store", first, "--root", root)
    assert (status, out.count("added")) == (0, 4)
    assert err == "ignored     notes.txt: no collateral\n"
    status, out, _ = call(capsys, "list", "--store", first)
    assert (status, out.count("current")) == (0, 4)
    fmspc = maker.machine().fmspc
    with served("--store", first, "--root", root) as url:
        with urllib.request.urlopen(f"{url}/tdx/certification/v4/tcb?fmspc={fmspc}") as response:
            assert json.loads(response.read())["tcbInfo"]["fmspc"].lower() == fmspc
        wanted = ("--from", url, "--fmspc", fmspc, "--tee", "tdx", "--root", root)
        status, out, _ = call(capsys, "fetch", *wanted, "--store", second, "--json")
        assert status == 0
        assert [each["outcome"] for each in json.loads(out)["stored"]] == ["added"] * 4
        status, _, err = call(
            capsys, "fetch", "--from", url, "--fmspc", "00" * 6, "--tee", "sgx", "--store", second
        )
        assert (status, "nothing for this platform" in err) == (2, True)
    status, _, err = call(capsys, "fetch", *wanted, "--store", second)
    assert (status, "cannot be reached" in err) == (3, True)
    assert call(capsys, "list", "--store", first, "--json") == call(
        capsys, "list", "--store", second, "--json"
    )


def test_what_no_pinned_root_signed_is_refused_and_the_rest_taken(
    tmp_path: Path, maker: ChipMaker, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "collateral.json", maker.collateral("tdx", NOW))
    store = str(tmp_path / "store")
    status, out, err = call(capsys, "import", path, "--store", store)
    assert (status, out, err.count("refused")) == (1, "", 4)
    other = ChipMaker.create(NOW).collateral("tdx", NOW).of_kind("root_ca_crl")
    mixed = Endorsements((*maker.collateral("tdx", NOW).items[:3], *other))
    path = write(tmp_path / "mixed.json", mixed)
    status, out, _ = call(capsys, "import", path, "--store", store, "--root", root, "--json")
    report: dict[str, Any] = json.loads(out)
    assert (status, len(report["stored"]), len(report["refused"])) == (1, 3, 1)


def test_older_collateral_is_kept_out_unless_forced(
    tmp_path: Path, maker: ChipMaker, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    older = write(tmp_path / "older.json", maker.collateral("tdx", NOW - timedelta(days=90)))
    newer = write(tmp_path / "newer.json", maker.collateral("tdx", NOW))
    options = ("--store", str(tmp_path / "store"), "--root", root)
    assert call(capsys, "import", newer, *options)[0] == 0
    status, out, err = call(capsys, "import", older, *options)
    assert (status, out.count("kept-newer"), "--force" in err) == (0, 4, True)
    status, out, _ = call(capsys, "import", older, *options, "--force")
    assert (status, out.count("replaced")) == (0, 4)
    assert call(capsys, "list", "--store", str(tmp_path / "store"))[1].count("expired") == 3


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("import", "absent", "--store", "s"), "does not exist"),
        (("import", "bad.json", "--store", "s"), "bad.json"),
        (("import", "bad.json", "--store", "s", "--root", "bad.json"), "certificate"),
        (("fetch", "--fmspc", "00", "--tee", "tdx", "--store", "s"), "6 are expected"),
        (
            ("fetch", "--fmspc", "00" * 6, "--tee", "tdx", "--store", "s", "--from", "http://x.invalid"),
            "https",
        ),
        (
            ("fetch", "--fmspc", "00" * 6, "--tee", "tdx", "--store", "s", "--ca-file", "bad.json"),
            "authority",
        ),
        (("serve", "--store", "s", "--listen", "nowhere"), "HOST:PORT"),
        (("serve", "--store", "s", "--listen", "127.0.0.1:99999"), "HOST:PORT"),
        (("serve", "--store", "s", "--tls-key", "bad.json"), "go together"),
        (
            ("serve", "--store", "s", "--tls-key", "bad.json", "--tls-certificate", "bad.json"),
            "cannot be used",
        ),
        (("list", "--store", "bad.json"), "cannot be written"),
        (("list", "--store", "damaged"), "not a usable database"),
    ],
)
def test_bad_input_is_a_clear_error(
    arguments: tuple[str, ...],
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "endorser.db").write_text("{" * 4096)
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (2, "")
    assert shown in err
    assert "internal" not in err


def test_address_in_use_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served("--store", str(tmp_path)) as url:
        status, _, err = call(
            capsys, "serve", "--store", str(tmp_path), "--listen", url.removeprefix("http://")
        )
        assert (status, "cannot listen" in err) == (2, True)


def test_empty_store_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "list", "--store", str(tmp_path)) == (0, "The store is empty.\n", "")


def wait_until_healthy(url: str) -> Any:
    """Ask for the status until everything is there; before, it is 503."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{url}/status") as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            last = error.read()
            time.sleep(0.1)
    raise AssertionError(last)


def test_server_refreshes_from_another_and_the_doctor_says_so(
    tmp_path: Path, maker: ChipMaker, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    path = write(tmp_path / "collateral.json", maker.collateral("tdx", NOW))
    assert call(capsys, "import", path, "--store", first, "--root", root)[0] == 0
    want = f"tdx:{maker.machine().fmspc}:platform"
    with (
        served("--store", first, "--root", root) as source,
        served("--store", second, "--root", root, "--pcs", source, "--want", want) as url,
    ):
        status = wait_until_healthy(url)
        assert status["healthy"]
        vital = [each for each in status["objects"] if each["vital"]]
        assert [(each["state"], each["source"]) for each in vital] == [("ok", source)] * 4
        with urllib.request.urlopen(f"{url}/metrics") as response:
            numbers = response.read().decode()
        assert "eaa_endorser_healthy 1.0" in numbers
        assert 'eaa_endorser_refreshes_total{kind="pck_crl",outcome="added"} 1.0' in numbers
    status, out, _ = call(capsys, "doctor", "--store", second)
    assert (status, out.count("\nok ") + out.startswith("ok ")) == (0, 6)
    assert "tcb_evaluation_numbers" not in out
    assert "healthy: 6 objects, 0 platforms seen" in out


def test_doctor_names_what_has_expired(
    tmp_path: Path, maker: ChipMaker, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "old.json", maker.collateral("tdx", NOW - timedelta(days=90)))
    store = str(tmp_path / "store")
    assert call(capsys, "import", path, "--store", store, "--root", root)[0] == 0
    status, out, _ = call(capsys, "doctor", "--store", store, "--json")
    report = json.loads(out)
    assert (status, report["healthy"]) == (1, False)
    assert sorted(each["state"] for each in report["objects"]) == ["expired"] * 3 + ["ok"]
    assert all(each["remedy"] for each in report["objects"] if each["state"] == "expired")
    status, out, _ = call(capsys, "forecast", "--store", store)
    assert (status, out) == (0, "0 of 0 platforms will change\n")


def test_bundle_travels_to_a_site_without_a_network(
    tmp_path: Path, maker: ChipMaker, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (str(tmp_path / name) for name in ("first", "second", "third"))
    key, bundle = str(tmp_path / "key"), str(tmp_path / "bundle.jws")
    for day in (30, 0):
        path = write(tmp_path / "collateral.json", maker.collateral("tdx", NOW - timedelta(days=day)))
        assert call(capsys, "import", path, "--store", first, "--root", root)[0] == 0
    assert call(capsys, "key", key)[0] == 0
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert call(capsys, "key", key)[0] == 2, "a key is never written over"
    assert call(capsys, "export", bundle, "--store", first, "--key", key)[0] == 0
    status, out, _ = call(
        capsys, "import", bundle, "--store", second, "--root", root, "--key", f"{key}.pub", "--json"
    )
    assert (status, {each["outcome"] for each in json.loads(out)["stored"]}) == (0, {"added", "unchanged"})
    assert call(capsys, "list", "--store", second, "--json") == call(
        capsys, "list", "--store", first, "--json"
    )
    past = (NOW - timedelta(days=20)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert call(capsys, "export", bundle, "--store", first, "--key", key, "--at", past)[0] == 0
    assert call(capsys, "import", bundle, "--store", third, "--root", root, "--key", f"{key}.pub")[0] == 0
    _, then, _ = call(capsys, "list", "--store", first, "--at", past, "--json")
    _, carried, _ = call(capsys, "list", "--store", third, "--json")
    issued = [[each["issued"] for each in json.loads(text)] for text in (then, carried)]
    assert issued[0] == issued[1]
    assert all(each < past for each in issued[0])
    status, _, err = call(capsys, "import", bundle, "--store", third, "--root", root)
    assert (status, "--key" in err) == (2, True)
    assert call(capsys, "key", str(tmp_path / "other"))[0] == 0
    status, _, err = call(
        capsys, "import", bundle, "--store", third, "--root", root, "--key", str(tmp_path / "other.pub")
    )
    assert (status, "not signed by the key" in err) == (2, True)


def test_list_of_platforms_is_imported(tmp_path: Path, root: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = [
        {"qe_id": "AB" * 16, "pce_id": "0000", "enc_ppid": "00" * 384},
        {"qe_id": "x", "pce_id": "0000"},
    ]
    (tmp_path / "platform_list.json").write_text(json.dumps(listed))
    store = str(tmp_path / "store")
    arguments = ("import", str(tmp_path / "platform_list.json"), "--store", store, "--root", root)
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (1, f"registered  platform {'ab' * 16}/0000, 0 new PCK certificates\n")
    assert "refused     platform x: a platform's qe_id" in err
    status, out, _ = call(capsys, "doctor", "--store", store)
    assert "missing" in out
    assert "pck_certificates/" in out


def test_key_and_tokens_come_from_files_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("letmein\n")
    monkeypatch.setenv("EAA_PCS_KEY", "unused without --vendors")
    with served("--store", str(tmp_path / "store"), "--user-token-file", str(tmp_path / "token")) as url:
        body = json.dumps({"qe_id": "ab", "pce_id": "0000"}).encode()

        def register(token: str) -> urllib.request.Request:
            path = "/sgx/certification/v4/platforms"
            return urllib.request.Request(url + path, data=body, headers={"user-token": token})

        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(register("wrong"))
        refused.value.close()
        with urllib.request.urlopen(register("letmein")) as response:
            assert response.status == 200


def test_key_of_several_lines_is_refused_without_showing_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("one\ntwo")
    status, out, err = call(
        capsys, "serve", "--store", str(tmp_path / "s"), "--pcs-key-file", str(tmp_path / "key")
    )
    assert (status, "one line" in err) == (2, True)
    assert "two" not in out + err


def test_prune_says_what_would_go_and_then_lets_it_go(
    tmp_path: Path, maker: ChipMaker, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ("--store", str(tmp_path / "store"))
    for days in (90, 60, 0):
        name = write(tmp_path / f"{days}.json", maker.collateral("tdx", NOW - timedelta(days=days)))
        assert call(capsys, "import", name, *store, "--root", root)[0] == 0
    status, _, err = call(capsys, "prune", *store)
    assert (status, "nothing is limited" in err) == (2, True)
    limits = ("--keep-versions", "1")
    for command, word in (
        ((*limits, "--dry-run"), "would remove 6 "),
        (limits, "removed 6 "),
        (limits, "removed 0 "),
    ):
        status, out, _ = call(capsys, "prune", *store, *command)
        assert (status, word in out) == (0, True), out
    status, out, _ = call(capsys, "prune", *store, *limits, "--json")
    assert json.loads(out) == {"dry_run": False, "versions": {}, "certificates": 0, "platforms": 0}
    assert call(capsys, "list", *store)[1].count("current") == 4
