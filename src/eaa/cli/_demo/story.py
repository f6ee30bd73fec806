# SPDX-License-Identifier: Apache-2.0
"""The story: what is done, in which order, and what has to be seen for each step to hold."""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from eaa.cli._demo.containers import Image, ToolFailed
from eaa.cli._demo.processes import Processes
from eaa.cli._demo.relay import Relay
from eaa.cli._demo.sides import Explanation, Machine, Owner, boot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from eaa.cli._demo.containers import ContainerTools

__all__ = ["Act", "Outcome", "Story"]

_KEY: Final = "kbs:///default/key/demo"
_SOFTWARE: Final = "web server 1.4"
"""What the owner's guest is made of; it decides the guest's measurements."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one act came to."""

    seen: str
    held: bool
    explanations: tuple[Explanation, ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """One step. Where an ``essential`` one does not hold, the later ones have nothing to build on."""

    title: str
    expected: str
    perform: Callable[[], Outcome] = field(repr=False)
    essential: bool = True


@dataclass(frozen=True, slots=True)
class _Denial:
    """A guest for which the image must stay shut, and the check that must say so."""

    name: str
    title: str
    check: str
    image: str = _SOFTWARE
    machine: str = "machine-1"
    faults: tuple[str, ...] = ()
    foreign: bool = False
    """Whether its machine is another chip maker's."""


_DENIALS: Final = (
    _Denial(
        "other-software",
        "a guest with other software (another MRTD)",
        "reference.tdx.mr_td",
        image=f"{_SOFTWARE} with a back door",
    ),
    _Denial("debug", "a debug guest, whose memory its host can read", "tdx.td.debug", faults=("debug",)),
    _Denial("stale", "a platform whose TCB is out of date", "dcap.tcb.status", faults=("stale-tcb",)),
    _Denial("revoked", "a platform that its maker revoked", "dcap.pck.revocation", faults=("revoked-pck",)),
    _Denial("foreign", "a machine of a chip maker that nobody trusts", "dcap.pck.chain", foreign=True),
)
_REPLAYED: Final = "session.nonce"


class Story:
    """One telling, in ``folder``; leaving the block ends every program that it started."""

    def __init__(self, folder: Path, tools: ContainerTools) -> None:
        self._folder = folder
        self._tools = tools
        self._ending = ExitStack()
        self._processes = Processes(folder)
        self._plain = Image(folder / "plain")
        self._encrypted = Image(folder / "encrypted")
        self._owner: Owner
        self._relay: Relay

    def __enter__(self) -> Self:
        self._ending.enter_context(self._processes)
        return self

    def __exit__(self, *failure: object) -> None:
        self._ending.close()

    def acts(self) -> Iterator[Act]:
        """Yield what happens, in order."""
        yield Act("Verdictd starts, on an empty folder", "answers over TLS", self._start)
        yield Act("the owner creates a key", f"{_KEY}", self._create_key)
        yield Act("the owner builds a container image with a secret in it", "2 plain layers", self._build)
        yield Act("skopeo encrypts it through Verdictd", "2 encrypted layers", self._encrypt)
        yield Act("the owner registers what the guest measures to", "mr_td, rtmr_0 … rtmr_3", self._register)
        yield Act("skopeo decrypts it in an attested TDX guest", "2 identical layers", self._decrypt)
        for denial in _DENIALS:
            yield Act(denial.title, f"shut: {denial.check}", partial(self._deny, denial), essential=False)
        yield Act("a recorded answer, sent once more", f"refused: {_REPLAYED}", self._replay, essential=False)

    def _start(self) -> Outcome:
        self._owner = Owner.start(self._processes, self._folder)
        self._relay = self._ending.enter_context(Relay(self._owner.url, self._owner.ca_file))
        return Outcome(f"{self._owner.url}", held=True)

    def _create_key(self) -> Outcome:
        made = self._owner.eaa("key", "create", _KEY, "--data", str(self._owner.data), "--json")
        return Outcome(made["uri"], held=made["uri"] == _KEY)

    def _build(self) -> Outcome:
        self._tools.build_image(self._plain, f"the secret recipe: {secrets.token_hex(16)}\n".encode())
        held = len(self._plain.layers) == 2 and not self._plain.encrypted
        return Outcome(f"{len(self._plain.layers)} plain layers", held)

    def _encrypt(self) -> Outcome:
        self._tools.encrypt(self._plain, self._encrypted, _KEY, self._owner.key_provider)
        held = self._encrypted.encrypted and not self._encrypted.holds_any(self._plain.layers)
        kind = "encrypted" if self._encrypted.encrypted else "PLAIN"
        return Outcome(f"{len(self._encrypted.layers)} {kind} layers", held)

    def _register(self) -> Outcome:
        measured = self._owner.eaa("sim", "measure", "--image", _SOFTWARE)
        document = self._folder / "measured.json"
        document.write_text(json.dumps(measured))
        self._owner.eaa("reference-value", "import", str(document), "--data", str(self._owner.data), "--json")
        return Outcome(
            f"mr_td {measured['mr_td'][0][:8]}…, {len(measured)} registers", held=len(measured) == 5
        )

    def _decrypt(self) -> Outcome:
        # This guest's host reads along: what it records is sent once more at the end.
        machine = Machine(self._owner.data, _SOFTWARE)
        provider = boot(self._processes, self._folder, "guest", machine, self._relay.url, self._owner.ca_file)
        opened = Image(self._folder / "opened")
        self._tools.decrypt(self._encrypted, opened, provider)
        identical = opened.layers == self._plain.layers
        return Outcome(f"{len(opened.layers)} {'identical' if identical else 'OTHER'} layers", identical)

    def _deny(self, denial: _Denial) -> Outcome:
        vendor = self._owner.data
        if denial.foreign:
            vendor = self._folder / "another-chip-maker"
            self._owner.eaa("sim", "init", str(vendor), "--json")
        machine = Machine(vendor, denial.image, denial.machine, denial.faults)
        provider = boot(
            self._processes, self._folder, denial.name, machine, self._owner.url, self._owner.ca_file
        )
        target = Image(self._folder / f"opened-{denial.name}")
        try:
            self._tools.decrypt(self._encrypted, target, provider)
        except ToolFailed as failure:
            told = failure.stderr
        else:
            return Outcome("the image opened", held=False)
        if target.holds_any(self._plain.layers):
            return Outcome("skopeo failed, but a plain layer was written", held=False)
        why = tuple(sorted(self._owner.why(), key=lambda each: each.check != denial.check))
        named = denial.check in told and denial.check in {each.check for each in why}
        return Outcome(f"shut: {denial.check if named else told.strip()}", named, why)

    def _replay(self) -> Outcome:
        answer = self._relay.replay(self._relay.last("/kbs/v0/attest"))
        told = str(answer.json().get("detail", ""))
        named = answer.status_code == 401 and _REPLAYED in told
        why = Explanation(_REPLAYED, "a challenge that nobody has answered before", told)
        return Outcome(
            f"refused: {_REPLAYED}" if named else f"HTTP {answer.status_code}: {told}", named, (why,)
        )
