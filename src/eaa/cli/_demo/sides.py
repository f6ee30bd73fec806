# SPDX-License-Identifier: Apache-2.0
"""The two sides of the story: the owner, who runs Verdictd, and the guests on somebody else's machine."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eaa.cli._admin_client import AdminClient, Target
from eaa.cli._demo.containers import write_key_provider_config
from eaa.cli._demo.processes import program
from eaa.rats import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eaa.cli._demo.processes import Processes

__all__ = ["Explanation", "Machine", "Owner", "boot"]

_DEADLINE: Final = 60.0


class Explanation(NamedTuple):
    """One failing check as a user needs it."""

    check: str
    expected: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whoever owns the image: a running Verdictd, and the commands to administer it."""

    data: Path
    url: str
    ca_file: Path
    key_provider: Path
    """ocicrypt's configuration that names Verdictd's ``WrapKey``."""

    @classmethod
    def start(cls, processes: Processes, folder: Path) -> Owner:
        """Start Verdictd on a new data directory and wait until it is ready.

        :raises UnavailableError: when it does not become ready.
        """
        data = folder / "verdictd"
        command = (program("verdictd"), "--data", str(data), "--listen", "127.0.0.1:0", "--simulator")
        ready = processes.start("verdictd", command).ready()
        provider = write_key_provider_config(folder / "owner-provider.json", ready["key_provider"])
        return cls(data, ready["url"], Path(ready["ca_file"]), provider)

    def eaa(self, *arguments: str) -> Any:
        """Run ``eaa ARGUMENTS`` and return the JSON it answers.

        :raises UnavailableError: when the command fails.
        """
        done = subprocess.run(  # noqa: S603 - our own program, arguments of our own
            (program("eaa"), *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )
        if done.returncode != 0:
            raise UnavailableError(
                f"eaa {' '.join(arguments)} ended with status {done.returncode}",
                hint=(done.stderr or done.stdout).strip(),
            )
        return json.loads(done.stdout)

    def why(self) -> tuple[Explanation, ...]:
        """Return what failed in the verdict that Verdictd recorded last, in the owner's full detail."""
        with AdminClient(Target.of_data_directory(self.data)) as client:
            newest = client.get("/eaa/v0/verdicts", limit=1)["verdicts"][0]["id"]
            document = client.get(f"/eaa/v0/verdicts/{newest}")["document"]
        failed = set(document["failed_checks"])
        return tuple(
            Explanation(check["id"], check["expected"], check["found"], check["remedy"])
            for check in document["appraisal"]["checks"]
            if check["id"] in failed
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """What a guest runs on, and what it runs: settings of the simulator's attester."""

    vendor: Path
    """The chip maker's folder, or the data folder of a Verdictd that has one."""
    image: str
    name: str = "machine-1"
    faults: Sequence[str] = ()


def boot(
    processes: Processes, folder: Path, name: str, machine: Machine, kbs_url: str, ca_file: Path
) -> Path:
    """Start an Attestation Agent on a simulated machine; return ocicrypt's configuration that names its ``UnWrapKey``.

    :raises UnavailableError: when the agent does not become ready.
    """
    settings = {
        "kbs_url": kbs_url,
        "kbs_ca_file": str(ca_file),
        "attester": "simulator",
        "grpc_listen": f"unix://{folder / name}.sock",
        "rest_listen": "127.0.0.1:0",
    }
    hardware = {
        "vendor": str(machine.vendor),
        "tee": "tdx",
        "image": machine.image,
        "machine": machine.name,
        "faults": list(machine.faults),
    }
    config = folder / f"{name}.toml"
    config.write_text(f"{_toml(settings)}\n[attester_settings]\n{_toml(hardware)}")
    ready = processes.start(name, (program("attestation-agent"), "--config", str(config))).ready()
    return write_key_provider_config(folder / f"{name}-provider.json", ready["grpc"])


def _toml(table: Mapping[str, str | Sequence[str]]) -> str:
    # Strings, and lists of them, are the same in JSON and in TOML.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
