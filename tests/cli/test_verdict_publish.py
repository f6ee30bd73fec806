# SPDX-License-Identifier: Apache-2.0
"""From artefacts to a released secret with one command, through real programs; and one changed byte in any of them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from eaa.cli._admin_client import AdminClient
from eaa.cli._demo.processes import Processes, program
from eaa.cli._demo.sides import Owner
from eaa.cli._verdict_publish import next_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECRET = b"opened by these artefacts alone"
CMDLINE = "console=ttyS0 root=/dev/vda"


@dataclass
class Stage:
    """An owner whose Verdictd runs, and guests that are booted from files."""

    folder: Path
    owner: Owner
    processes: Processes

    def eaa(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [program("eaa"), "verdict", *(str(each) for each in arguments)]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )

    def publish(
        self, files: Mapping[str, Path], *more: str | Path, cmdline: str = CMDLINE
    ) -> subprocess.CompletedProcess[str]:
        inputs = [part for name, file in files.items() for part in (f"--{name}", file)]
        return self.eaa(
            "publish", "--product", "acme/web", *inputs, "--cmdline", cmdline, "--key", self.folder / "release",
            "--data", self.owner.data, *more,
        )  # fmt: skip

    def fetch(self, name: str, files: Mapping[str, Path], cmdline: str = CMDLINE) -> httpx2.Response:
        """Boot a guest from files, and have it ask its agent for the secret."""
        rest = {
            "kbs_url": self.owner.url,
            "kbs_ca_file": str(self.owner.ca_file),
            "attester": "simulator",
            "grpc_listen": f"unix://{self.folder / name}.sock",
            "rest_listen": "127.0.0.1:0",
        }
        guest = {name: str(file) for name, file in files.items()}
        guest |= {"vendor": str(self.owner.data), "tee": "tdx", "cmdline": cmdline}
        lines = [f"{key} = {json.dumps(value)}" for key, value in rest.items()]
        lines += ["[attester_settings]", *(f"{key} = {json.dumps(value)}" for key, value in guest.items())]
        config = self.folder / f"{name}.toml"
        config.write_text("\n".join(lines))
        agent = self.processes.start(name, (program("attestation-agent"), "--config", str(config)))
        try:
            url = agent.ready(60)["rest"]
            return httpx2.get(f"{url}/cdh/resource/default/secrets/web", timeout=60, trust_env=False)
        finally:
            agent.stop()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A Verdictd with one secret and no reference values, in a folder whose path is short enough for sockets."""
    with (
        tempfile.TemporaryDirectory(prefix="eaa-", dir="/tmp") as made,
        Processes(Path(made)) as processes,
    ):
        folder = Path(made)
        owner = Owner.start(processes, folder)
        (folder / "secret").write_bytes(SECRET)
        owner.eaa(
            "resource",
            "put",
            "default/secrets/web",
            "--file",
            str(folder / "secret"),
            "--data",
            str(owner.data),
            "--json",
        )
        yield Stage(folder, owner, processes)


@pytest.fixture
def files(boot_files: Path) -> dict[str, Path]:
    return {
        "firmware": boot_files / "OVMF.fd",
        "kernel": boot_files / "vmlinuz",
        "initrd": boot_files / "initrd.img",
    }


def _flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_one_command_publishes_what_a_guest_is_booted_from(stage: Stage, files: dict[str, Path]) -> None:
    """The guest that is booted from exactly these artefacts gets the secret; with one changed byte the input at fault is named."""
    refused = stage.fetch("before", files)
    assert refused.status_code != 200
    done = stage.publish(files, "--new-key", "--why", "first release")
    assert done.returncode == 0, done.stderr
    assert "acme/web@1 for tdx is active" in done.stdout
    # What is on record knew this guest: the change says that it is admitted now.
    assert "1 of 1 known workloads change" in done.stdout
    released = stage.fetch("exact", files)
    assert (released.status_code, released.content) == (200, SECRET), released.text

    told: dict[str, Any] = {}
    for name, at in (("firmware", 0x3000), ("kernel", -1), ("initrd", 0)):
        original = files[name].read_bytes()
        _flip(files[name], at)
        assert stage.fetch(name, files).status_code != 200
        told[name] = {each.check: each.found for each in stage.owner.why()}
        files[name].write_bytes(original)
    assert stage.fetch("cmdline", files, CMDLINE.replace("vda", "vdb")).status_code != 200
    told["cmdline"] = {each.check: each.found for each in stage.owner.why()}
    assert told["firmware"]["reference.set"].endswith("mr_td: it follows from firmware")
    assert told["kernel"]["reference.set"] == "nearest is acme/web version 1; rtmr_1: kernel differs"
    assert told["initrd"]["reference.set"] == "nearest is acme/web version 1; rtmr_2: initrd differs"
    assert told["cmdline"]["reference.set"] == "nearest is acme/web version 1; rtmr_2: cmdline differs"
    assert told["cmdline"]["reference.tdx.rtmr_2"].endswith(
        "compared with acme/web version 1: cmdline differs"
    )

    _explain(stage)
    _replace(stage, files)


def _explain(stage: Stage) -> None:
    """A value tells where it came from."""
    data = ("--data", stage.owner.data)
    found = json.loads(stage.eaa("explain", "acme/web@1", *data, "--json").stdout)["reference_sets"][0]
    kernel = next(each for each in found["registers"] if each["register"] == "rtmr_1")
    assert kernel["inputs"][0]["name"] == "kernel"
    said = stage.eaa("explain", kernel["values"][0], *data)
    assert said.returncode == 0
    assert "acme/web version 1 for tdx: active" in said.stdout
    assert "activate by eaa-administrator/admin: first release" in said.stdout
    assert found["signed_by"][0] in said.stdout
    assert "mr_td" not in said.stdout
    assert stage.eaa("explain", "00" * 48, *data).returncode == 2
    listed = stage.eaa("list", *data)
    assert "acme/web" in listed.stdout


def _replace(stage: Stage, files: dict[str, Path]) -> None:
    """A second version that retires the first refuses a known workload: a script must say that it means it."""
    data = ("--data", stage.owner.data)
    _flip(files["initrd"], 0)
    stopped = stage.publish(files, "--supersedes", "1")
    assert stopped.returncode == 1, stopped.stdout + stopped.stderr
    assert "will be refused" in stopped.stdout
    assert "--yes" in stopped.stderr
    dry = stage.eaa("activate", "acme/web@2", "--dry-run", *data, "--json")
    assert (dry.returncode, json.loads(dry.stdout)["done"]) == (0, False)
    done = stage.eaa("activate", "acme/web@2", "--yes", *data, "--json")
    assert (done.returncode, json.loads(done.stdout)["set"]["state"]) == (0, "active")
    back = stage.eaa("rollback", "acme/web@1", "--yes", "--why", "it does not boot", *data)
    assert back.returncode == 0, back.stderr
    assert "acme/web@1 for tdx is active" in back.stdout
    revoked = stage.eaa("revoke", "acme/web@2", *data)
    assert revoked.returncode == 0, revoked.stderr
    again = stage.eaa("rollback", "acme/web@2", *data)
    assert again.returncode == 1
    assert "never returns" in again.stderr


def test_a_key_is_made_only_when_asked_for_and_trusted_only_when_named(
    stage: Stage, files: dict[str, Path]
) -> None:
    missing = stage.publish(files)
    assert missing.returncode == 2
    assert "--new-key" in missing.stderr
    assert not (stage.folder / "release").exists()
    made = stage.eaa("key", "new", stage.folder / "release")
    assert made.returncode == 0
    refused = stage.publish(files)
    assert refused.returncode == 1
    assert "nobody is configured to sign acme/web" in refused.stderr
    listed = json.loads(stage.eaa("list", "--data", stage.owner.data, "--json").stdout)
    assert listed == {"reference_sets": []}


def test_proposals_of_nobody_use_up_no_version() -> None:
    def listed(version: int, state: str, *signed_by: str) -> dict[str, Any]:
        return {"version": version, "state": state, "signed_by": list(signed_by)}

    sets = [listed(2**53 - 1, "proposed"), listed(3, "retired"), listed(2, "active", "ab")]
    assert next_version(_Listing(sets), "acme/web") == 4
    assert next_version(_Listing([*sets, listed(7, "proposed", "ab")]), "acme/web") == 8
    assert next_version(_Listing([]), "acme/web") == 1


class _Listing(AdminClient):
    """A Verdictd that lists these sets."""

    def __init__(self, sets: list[dict[str, Any]]) -> None:
        self.sets = sets

    def get(self, path: str, **params: str | int) -> Any:
        return {"reference_sets": self.sets}
