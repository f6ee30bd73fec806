# SPDX-License-Identifier: Apache-2.0
"""``eaa eventlog`` and ``eaa diff`` from the outside."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from eaa.cli._run import run
from eaa.cli.diff import diff
from eaa.cli.eventlog import eventlog
from eaa.eventlog import EventType, NewEvent, parse_event_log, write_event_log

if TYPE_CHECKING:
    from pathlib import Path

Events = tuple[NewEvent, ...]


@pytest.fixture
def monday(tmp_path: Path, boot: Events) -> Path:
    """A boot's log."""
    path = tmp_path / "monday.bin"
    path.write_bytes(write_event_log(boot, size=65536))
    return path


@pytest.fixture
def today(tmp_path: Path, boot: Events) -> Path:
    """The log of a boot with another kernel command line."""
    changed = NewEvent(3, EventType.EV_IPL, b"kernel_cmdline: /vmlinuz rw\0", b"/vmlinuz rw")
    path = tmp_path / "today.bin"
    path.write_bytes(write_event_log((*boot[:9], changed, *boot[10:])))
    return path


def eaa_eventlog(*args: object) -> int:
    return run(eventlog, "eaa eventlog", [str(each) for each in args])


def eaa_diff(*args: object) -> int:
    return run(diff, "eaa diff", [str(each) for each in args])


def verdict(path: Path, **changes: Any) -> Path:
    """Write a verdict, as `eaa verify --json` does."""
    document = {
        "accepted": True,
        "tee": "tdx",
        "at": "2026-03-16T12:00:00Z",
        "tcb_status": "UpToDate",
        "failed_checks": [],
        "claims": {"measurements": {"mr_td": "00" * 48, "rtmr_0": "11" * 48, "report_data": "22" * 64}},
        "checks": [],
    }
    path.write_text(json.dumps(document | changes))
    return path


def test_show_says_each_event_in_words(monday: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_eventlog("show", monday) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 13
    assert lines[2].split(maxsplit=3) == ["3", "rtmr_0", "✓", "Secure Boot is on"]
    assert lines[8].split(maxsplit=3)[2] == "·"
    assert "13 events in sha384" in err


def test_show_fails_on_words_that_were_changed(
    tmp_path: Path, boot: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "forged.bin"
    path.write_bytes(write_event_log((*boot, NewEvent(2, EventType.EV_EFI_ACTION, b"said", b"done"))))
    assert eaa_eventlog("show", path) == 1
    assert "✗ said" in capsys.readouterr().out


def test_show_as_json(monday: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_eventlog("show", monday, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["format"], document["registers"], document["algorithms"]) == ("tcg2", "cc", ["sha384"])
    event = document["events"][9]
    assert event["explanation"] == "kernel command line: /vmlinuz ro"
    assert (event["authenticity"], event["covers"]) == ("content", "the text behind its prefix")
    assert event["register"] == "rtmr_2"
    assert len(event["digests"]["sha384"]) == 96


def test_replay_prints_the_registers_of_every_bank(
    tmp_path: Path, boot: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    """Base64 is read as well as bytes."""
    written = write_event_log(boot, ("sha256", "sha384"))
    path = tmp_path / "log.b64"
    path.write_bytes(b64encode(written))
    assert eaa_eventlog("replay", path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    log = parse_event_log(written)
    assert document["banks"] == {
        bank: {f"pcr{index:02d}": value.hex() for index, value in log.replay(bank).items()}
        for bank in ("sha256", "sha384")
    }
    assert eaa_eventlog("replay", path) == 0
    assert f"  pcr01 {log.replay('sha256')[1].hex()}\n" in capsys.readouterr().out


def test_a_file_that_is_no_log_is_malformed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\x7fELF" + bytes(100))
    assert eaa_eventlog("show", path) == 1
    assert "eventlog.format" in capsys.readouterr().err


def test_the_same_boot_does_not_differ(monday: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_diff(monday, monday) == 0
    assert capsys.readouterr().out == "SAME in every register (sha384)\n"


def test_the_event_that_moved_a_register_is_named(
    monday: Path, today: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eaa_diff(monday, today) == 1
    out = capsys.readouterr().out
    assert out.startswith("DIFFERENT: rtmr_2 (sha384)\n")
    assert "rtmr_2 was moved first by event 10 of B\n" in out
    assert "      A: kernel command line: /vmlinuz ro\n      B: kernel command line: /vmlinuz rw\n" in out
    assert out.endswith("same: rtmr_0, rtmr_1, rtmr_3\n")


def test_the_difference_as_json(monday: Path, today: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_diff(monday, today, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["compared"], document["same"], document["moved"]) == ("event logs", False, ["rtmr_2"])


def test_verdicts_are_compared_by_what_they_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Report data differs each time and says nothing."""
    first = verdict(tmp_path / "a")
    measurements = {"mr_td": "00" * 48, "rtmr_0": "11" * 48, "report_data": "33" * 64}
    assert eaa_diff(first, verdict(tmp_path / "b", claims={"measurements": measurements})) == 0
    moved = {"mr_td": "00" * 48, "rtmr_0": "44" * 48}
    second = verdict(
        tmp_path / "b",
        claims={"measurements": moved},
        tcb_status="OutOfDate",
        accepted=False,
        failed_checks=["x.y"],
    )
    capsys.readouterr()
    assert eaa_diff(first, second, "--json") == 1
    assert json.loads(capsys.readouterr().out)["moved"] == [
        "rtmr_0",
        "accepted",
        "tcb_status",
        "failed_checks",
    ]


def test_a_log_is_compared_with_what_attests_to_it(
    tmp_path: Path, boot: Events, monday: Path, today: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the registers that both have count, whichever side the log is on."""
    log = parse_event_log(write_event_log(boot))
    stated = {log.registers.name_of(index): value.hex() for index, value in log.replay("sha384").items()}
    verdict_of_monday = verdict(tmp_path / "v", claims={"measurements": stated | {"mr_td": "55" * 48}})
    assert eaa_diff(monday, verdict_of_monday) == 0
    assert eaa_diff(verdict_of_monday, monday) == 0
    capsys.readouterr()
    assert eaa_diff(verdict_of_monday, today, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    (row,) = (row for row in document["registers"] if not row["same"])
    assert (row["name"], row["a"]) == ("rtmr_2", stated["rtmr_2"])


def test_quotes_are_compared_register_by_register(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quotes = [
        vectors / "tdx" / name / "quote.bin" for name in ("tdx-cdai-live-ccel", "tdx-google-cos113-ccel")
    ]
    assert eaa_diff(*quotes, "--tee", "tdx", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert {"mr_td", "rtmr_0", "rtmr_1", "rtmr_2"} <= set(document["moved"])
    assert "rtmr_3" not in document["moved"]
    assert eaa_diff(quotes[0], vectors / "tdx" / "tdx-cdai-live-ccel" / "event_log.bin", "--tee", "tdx") == 0


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]x", b"\x7fELF" + bytes(100), b'{"checks": []}', b'{"checks": [], "claims": 1}']
)
def test_what_cannot_be_compared_is_bad_usage(
    tmp_path: Path, monday: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 means "they differ", so that nothing else may."""
    path = tmp_path / "x"
    path.write_bytes(content)
    assert eaa_diff(monday, path) == 2
    assert eaa_diff(path, monday, "--tee", "tdx") == 2
    assert eaa_diff(path, monday, "--tee", "nonsense") == 2
    assert "error:" in capsys.readouterr().err


def test_logs_of_different_machines_are_bad_usage(
    tmp_path: Path, monday: Path, boot: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tpm.bin"
    path.write_bytes(write_event_log([*boot, NewEvent(7, EventType.EV_SEPARATOR, bytes(4))]))
    assert eaa_diff(monday, path) == 2
    assert "Compare logs of the same kind" in capsys.readouterr().err
    nothing = verdict(tmp_path / "v", claims={"measurements": {"mr_seam": "00" * 48}})
    assert eaa_diff(monday, nothing) == 2
