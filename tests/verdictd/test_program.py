# SPDX-License-Identifier: Apache-2.0
"""``verdictd`` as a program, and the command line against it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eaa.agent.client import KbsClient
from eaa.cli._run import run
from eaa.cli.main import cli
from eaa.cli.serve import verdictd
from eaa.rats import AccessDenied, ConfigurationError
from eaa.simulator import ChipMaker, SimulatedAttester, measure
from eaa.simulator.measure import DEFAULT_IMAGE
from eaa.simulator.snp_machine import measure_snp

if TYPE_CHECKING:
    from collections.abc import Iterator


class Program:
    """``verdictd`` as a process of its own."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        command = [sys.executable, "-c", "from eaa.cli.serve import verdictd; verdictd()"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("EAA_", "PYTHON"))
        }
        # The tests start several: compile once, and outside the source tree.
        environment["PYTHONPYCACHEPREFIX"] = str(data.parents[1] / "compiled")
        self.process = subprocess.Popen(
            [*command, "--data", str(data), "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.end(signal.SIGTERM)
        return dict(json.loads(line))

    def end(self, how: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One simulated Verdictd for the tests of the command line."""
    running = Program(tmp_path_factory.mktemp("verdictd") / "data", "--simulator")
    running.ready()
    yield running
    if running.process.poll() is None:
        running.end(signal.SIGTERM)


def _eaa(program: Program, *args: str) -> int:
    return run(cli, "eaa", [*args, "--data", str(program.data)])


def test_program_says_when_it_is_ready_and_ends_cleanly(tmp_path: Path) -> None:
    """One line on standard output, JSON logs on standard error, status 0 after SIGTERM, nothing left running."""
    program = Program(tmp_path / "data", "--simulator")
    ready = program.ready()
    assert ready["event"] == "ready"
    assert ready["pid"] == program.process.pid
    assert Path(ready["ca_file"]).is_file()
    children = Path(f"/proc/{ready['pid']}/task/{ready['pid']}/children").read_text().split()
    status, out, err = program.end(signal.SIGTERM)
    assert (status, out) == (0, "")
    events = [json.loads(line) for line in err.splitlines()]
    assert any("SIMULATED" in each["event"] and each["level"] == "warning" for each in events)
    assert events[-1]["event"] == "stopped"
    time.sleep(0.05)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--simulator", "--production"], "simulated"),
        (["--listen", "nonsense"], "HOST:PORT"),
        (["--key-provider", "0.0.0.0:1"], "others can reach"),
        (["--config", "/nosuch.toml"], "cannot read"),
    ],
)
def test_program_refuses_what_it_cannot_do(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad settings end the program with status 2 and one explained line, without a traceback."""
    status = run(
        verdictd, "verdictd", ["--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0", *options]
    )
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert message in said.err
    assert "Traceback" not in said.err


def test_configuration_file(tmp_path: Path) -> None:
    """The file sets what the command line does not; an unknown key is refused by name."""
    from eaa.cli._verdictd_config import VerdictdConfig

    path = tmp_path / "verdictd.toml"
    path.write_text('listen = "[::1]:9000"\nprofile = "production"\ntoken_seconds = 60\n')
    settings = VerdictdConfig.load(path, {"listen": "127.0.0.1:0"}).settings(tmp_path)
    assert (settings.host, settings.port, settings.production) == ("127.0.0.1", 0, True)
    assert settings.token_lifetime.total_seconds() == 60
    assert VerdictdConfig.load(path, {}).settings(tmp_path).host == "::1"
    assert settings.admin_listen is None
    apart = VerdictdConfig.load(path, {"admin_listen": "[::1]:9443"}).settings(tmp_path)
    assert apart.admin_listen == ("::1", 9443)
    for text in (
        'admin_listen = "9443"',
        "surprise = 1",
        'listen = "x"',
        "token_seconds = 1",
        "profile = ",
        "simulator = 1",
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError):
            VerdictdConfig.load(path, {}).settings(tmp_path)


def test_guest_fetches_what_the_owner_stored(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The owner's command line and the guest's agent, over TLS: the right software gets the secret, other software does not."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x00\xffsecret")
    values = tmp_path / "values.json"
    values.write_text(json.dumps({name: [value] for name, value in measure(DEFAULT_IMAGE).items()}))
    assert _eaa(program, "resource", "put", "kbs:///guest/secrets/db", "--file", str(secret)) == 0
    assert _eaa(program, "reference-value", "import", str(values)) == 0
    ready = json.loads((program.data / "verdictd.json").read_text())

    async def fetch(**settings: Any) -> bytes:
        attester = SimulatedAttester({"vendor": str(program.data), **settings})
        async with KbsClient(ready["url"], attester, ca_file=Path(ready["ca_file"])) as client:
            return await client.get_resource("guest/secrets/db")

    assert asyncio.run(fetch()) == b"\x00\xffsecret"
    with pytest.raises(AccessDenied) as caught:
        asyncio.run(fetch(image="other"))
    assert caught.value.check.startswith("reference.tdx.")
    with pytest.raises(AccessDenied) as caught:
        asyncio.run(fetch(faults="debug"))
    assert caught.value.check == "tdx.td.debug"
    assert "secret" not in capsys.readouterr().out.replace("secrets", "")
    assert _eaa(program, "reference-value", "set", f"measurement={measure_snp(DEFAULT_IMAGE)}") == 0
    assert asyncio.run(fetch(tee="snp")) == b"\x00\xffsecret"
    with pytest.raises(AccessDenied) as caught:
        asyncio.run(fetch(tee="snp", image="other"))
    assert caught.value.check == "reference.snp.measurement"
    with pytest.raises(AccessDenied) as caught:
        asyncio.run(fetch(tee="snp", faults="debug"))
    assert caught.value.check == "snp.policy.debug"


def test_commands_find_the_administration_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The address comes from the command line, the environment or the file; commands with --data ask there."""
    program = Program(tmp_path / "data", "--admin-listen", "127.0.0.1:0")
    ready = program.ready()
    assert ready["admin_url"] != ready["url"]
    assert _eaa(program, "key", "create", "web") == 0
    capsys.readouterr()
    where = ["--credential", ready["credential_file"], "--ca-file", ready["ca_file"]]
    assert run(cli, "eaa", ["key", "list", "--url", ready["url"], *where]) == 2
    assert run(cli, "eaa", ["key", "list", "--url", ready["admin_url"], *where]) == 0
    assert "default/key/web" in capsys.readouterr().out
    assert program.end(signal.SIGTERM)[0] == 0


def test_session_commands(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """List the open sessions, end one by its verdict or its id, end all; what is not open cannot be ended."""
    assert _eaa(program, "session", "revoke", "--all") == 0
    assert _eaa(program, "session", "list") == 0
    assert "No session is open." in capsys.readouterr().out
    for name in ("verdict", "id"):
        _attested(program)
        capsys.readouterr()
        assert _eaa(program, "session", "list", "--json") == 0
        (row,) = json.loads(capsys.readouterr().out)["sessions"]
        assert _eaa(program, "session", "revoke", row[name]) == 0
        assert capsys.readouterr().out == "revoked 1 session\n"
        assert _eaa(program, "session", "revoke", row[name]) == 2
        assert "no such session is open" in capsys.readouterr().err
    _attested(program)
    _attested(program)
    capsys.readouterr()
    assert _eaa(program, "session", "revoke", "--all", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"revoked": 2}
    assert _eaa(program, "session", "revoke") == 2
    assert _eaa(program, "session", "revoke", "x", "--all") == 2


def test_key_commands(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """Make, list and delete keys; the exit status tells scripts what happened."""
    assert _eaa(program, "key", "create", "web", "--json") == 0
    assert json.loads(capsys.readouterr().out)["uri"] == "kbs:///default/key/web"
    assert _eaa(program, "key", "create", "web") == 2
    assert "there is a key" in capsys.readouterr().err
    assert _eaa(program, "key", "list") == 0
    assert "kbs:///default/key/web" in capsys.readouterr().out
    assert _eaa(program, "key", "delete", "web") == 0
    assert _eaa(program, "key", "delete", "web") == 2
    assert _eaa(program, "key", "delete", "a b") == 2


def test_resource_commands(program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Store, list and delete resources."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    assert _eaa(program, "resource", "put", "r/t/one", "--file", str(path)) == 0
    assert _eaa(program, "resource", "list", "--prefix", "r/", "--json") == 0
    listed = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert [each["path"] for each in listed["resources"]] == ["r/t/one"]
    assert _eaa(program, "resource", "delete", "r/t/one") == 0
    assert _eaa(program, "resource", "delete", "r/t/one") == 2
    assert _eaa(program, "resource", "put", "not-a-path", "--file", str(path)) == 2


def test_policy_commands(program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check without a server, set, show, list and delete policies; a bad text changes nothing."""
    good, bad = tmp_path / "good.rego", tmp_path / "bad.rego"
    good.write_text("package policy\n\ndefault allow := false\n")
    bad.write_text("package policy\nallow if {\n")
    assert run(cli, "eaa", ["policy", "check", "resource", str(good)]) == 0
    assert run(cli, "eaa", ["policy", "check", "resource", str(bad)]) == 2
    assert _eaa(program, "policy", "set", "resource", str(bad), "--name", "mine") == 2
    assert _eaa(program, "policy", "show", "resource", "--name", "mine") == 2
    assert _eaa(program, "policy", "set", "resource", str(good), "--name", "mine") == 0
    capsys.readouterr()
    assert _eaa(program, "policy", "show", "resource", "--name", "mine") == 0
    assert capsys.readouterr().out == good.read_text()
    assert _eaa(program, "policy", "list", "--json") == 0
    assert "mine" in {each["name"] for each in json.loads(capsys.readouterr().out)["policies"]}
    assert _eaa(program, "policy", "delete", "resource", "--name", "mine") == 0


def _attested(program: Program, **settings: Any) -> None:
    """Have a guest attest."""
    ready = json.loads((program.data / "verdictd.json").read_text())

    async def attest() -> None:
        attester = SimulatedAttester({"vendor": str(program.data), **settings})
        async with KbsClient(ready["url"], attester, ca_file=Path(ready["ca_file"])) as client:
            with suppress(AccessDenied):
                await client.get_token()

    asyncio.run(attest())


def test_explain_a_verdict_by_its_id(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """The owner finds a refused guest in the list and asks why; the guest's view holds no reference value."""
    value = measure(DEFAULT_IMAGE)["mr_td"]
    assert _eaa(program, "reference-value", "set", f"mr_td={value}") == 0
    _attested(program, faults="stale-tcb", image="explained")
    capsys.readouterr()
    assert _eaa(program, "explain", "--list", "--json") == 0
    latest = json.loads(capsys.readouterr().out)["verdicts"][0]
    assert "dcap.tcb.status" in latest["failed_checks"]
    assert _eaa(program, "explain", "--list") == 0
    assert latest["request_id"][:8] in capsys.readouterr().out
    assert _eaa(program, "explain", latest["id"]) == 0
    text = capsys.readouterr().out
    assert f"verdict {latest['id']}, request {latest['request_id']}" in text
    assert "SGX component 1 (Early Microcode Update, BIOS) is 2, needs 3" in text
    shown = f"{value[:16]}…{value[-8:]}"
    assert shown in text
    assert _eaa(program, "explain", latest["id"], "--view", "guest") == 0
    text = capsys.readouterr().out
    assert "✗ dcap.tcb.status" in text
    assert "✗ reference.tdx.mr_td" in text
    assert shown not in text
    assert _eaa(program, "explain", latest["id"], "--view", "guest", "--json") == 0
    assert value[:16] not in capsys.readouterr().out
    assert _eaa(program, "explain", "00000000-0000-0000-0000-000000000000") == 2


def test_policies_are_tried_on_the_record(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dry run finds what a candidate would take away, and puts nothing into force."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    assert _eaa(program, "resource", "put", "tried/secrets/db", "--file", str(secret)) == 0
    values = tmp_path / "values.json"
    values.write_text(json.dumps({name: [value] for name, value in measure(DEFAULT_IMAGE).items()}))
    assert _eaa(program, "reference-value", "import", str(values)) == 0
    _attested(program)
    capsys.readouterr()
    assert _eaa(program, "policy", "show", "attestation") == 0
    in_force = capsys.readouterr().out
    same, strict, closed = tmp_path / "same.rego", tmp_path / "strict.rego", tmp_path / "closed.rego"
    same.write_text(in_force)
    strict.write_text(in_force.replace("hardware := 2 if {", "hardware := 2 if {\n\tinput.never"))
    closed.write_text("package policy\n\ndefault allow := false\n")
    assert _eaa(program, "policy", "dry-run", "attestation", str(same)) == 0
    assert "0 of" in capsys.readouterr().out
    assert _eaa(program, "policy", "dry-run", "attestation", str(strict), "--limit", "1", "--json") == 1
    (decision,) = json.loads(capsys.readouterr().out)["decisions"]
    assert (decision["before"], decision["after"]) == ("affirming", "contraindicated")
    assert decision["claims"] == {"hardware": [2, 97]}
    args = ("policy", "dry-run", "resource", str(closed), "--limit", "1")
    assert _eaa(program, *args, "--resource", "tried/secrets/db") == 1
    assert "tried/secrets/db: allow → deny" in capsys.readouterr().out
    assert _eaa(program, *args, "--json") == 1
    listed = json.loads(capsys.readouterr().out)["decisions"]
    assert "tried/secrets/db" in {each["path"] for each in listed}
    assert _eaa(program, "policy", "dry-run", "resource", str(secret)) == 2
    assert _eaa(program, "policy", "show", "attestation") == 0
    assert capsys.readouterr().out == in_force


def test_reference_value_commands(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """Set, list and delete values; a name given twice allows both."""
    assert _eaa(program, "reference-value", "set", "x1=AA", "x1=bb", "isv_svn=3") == 0
    capsys.readouterr()
    assert _eaa(program, "reference-value", "list", "--json") == 0
    listed = {each["name"]: each["value"] for each in json.loads(capsys.readouterr().out)["reference_values"]}
    assert (listed["x1"], listed["isv_svn"]) == (["aa", "bb"], ["3"])
    assert _eaa(program, "reference-value", "set", "x1=zz") == 2
    assert _eaa(program, "reference-value", "set", "x1") == 2
    assert _eaa(program, "reference-value", "delete", "x1", "isv_svn") == 0
    assert _eaa(program, "reference-value", "delete", "x1") == 2


def test_administering_by_url(program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A remote owner needs URL, credential and authority; another credential is refused with status 1."""
    ready = json.loads((program.data / "verdictd.json").read_text())
    target = ["--url", ready["url"], "--ca-file", ready["ca_file"]]
    assert run(cli, "eaa", ["key", "list", *target, "--credential", ready["credential_file"], "--json"]) == 0
    from eaa.verdictd.administrator import ensure_administrator

    ensure_administrator(tmp_path / "other.json", tmp_path / "other.pub")
    capsys.readouterr()
    assert (
        run(cli, "eaa", ["key", "list", *target, "--credential", str(tmp_path / "other.json"), "--json"]) == 1
    )
    assert json.loads(capsys.readouterr().out)["error"]["check"] == "admin.token"
    assert run(cli, "eaa", ["key", "list", *target]) == 2
    assert run(cli, "eaa", ["key", "list"]) == 2
    untrusted = ["--url", ready["url"], "--credential", ready["credential_file"]]
    assert run(cli, "eaa", ["key", "list", *untrusted]) == 3
    plain = ["--url", "http://127.0.0.1:1", "--credential", ready["credential_file"]]
    assert run(cli, "eaa", ["key", "list", *plain]) == 2
    assert run(cli, "eaa", ["key", "list", "--data", str(tmp_path)]) == 2


def test_revoked_machine_is_refused_soon(program: Program) -> None:
    """A machine that the chip maker revokes while the server runs is refused as soon as the new CRL is published."""
    ready = json.loads((program.data / "verdictd.json").read_text())

    async def attest() -> None:
        attester = SimulatedAttester({"vendor": str(program.data), "machine": "to-be-revoked"})
        async with KbsClient(ready["url"], attester, ca_file=Path(ready["ca_file"])) as client:
            await client.get_token()

    asyncio.run(attest())
    maker = ChipMaker.load(program.data)
    maker.revoke(maker.machine("to-be-revoked"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            asyncio.run(attest())
        except AccessDenied as denied:
            assert denied.check == "dcap.pck.revocation"  # noqa: PT017 - it has to come, and soon
            return
        time.sleep(0.3)
    pytest.fail("the revocation did not arrive")
