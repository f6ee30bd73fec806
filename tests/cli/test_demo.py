# SPDX-License-Identifier: Apache-2.0
"""How `eaa demo` reports; the story itself is played in tests/interop and by `make demo`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import pytest
from click.testing import CliRunner

from eaa.cli._demo import containers, story
from eaa.cli._demo.sides import Explanation
from eaa.cli._demo.story import Act, Outcome
from eaa.cli.demo import demo
from eaa.rats import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WHY = Explanation("tdx.td.debug", "bits 7:0 are 00", "bits 7:0 are 01", "Launch the TD without debug.")


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Play another story: its acts, given as (title, outcome or error, essential)."""

    def prepared(*acts: tuple[str, Outcome | Exception, bool], options: tuple[str, ...] = ()) -> Any:
        class Told:
            def __init__(self, folder: Path, tools: object) -> None:
                assert folder.is_dir()

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *failure: object) -> None:
                pass

            def acts(self) -> Iterator[Act]:
                for title, outcome, essential in acts:
                    yield Act(title, "expected", lambda outcome=outcome: performed(outcome), essential)  # type: ignore[misc]

        def performed(outcome: Outcome | Exception) -> Outcome:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(story, "Story", Told)
        monkeypatch.setattr(containers.ContainerTools, "find", classmethod(lambda cls: None))
        return CliRunner().invoke(demo, [*options], standalone_mode=False)

    return prepared


def test_it_succeeds_only_when_every_step_held(tell: Callable[..., Any]) -> None:
    """Exit status 0 for a story that held, 1 for one with a step that did not."""
    assert tell(("a", Outcome("fine", held=True), True)).return_value == 0
    assert (
        tell(("a", Outcome("fine", held=True), True), ("b", Outcome("odd", held=False), False)).return_value
        == 1
    )


def test_a_refusal_is_explained(tell: Callable[..., Any]) -> None:
    """The check, what was expected and found, and the remedy are shown."""
    shown = tell(("a debug guest", Outcome("shut", held=True, explanations=(WHY,)), False)).output
    for part in ("a debug guest", *WHY):
        assert part in shown


def test_nothing_is_built_on_an_essential_step_that_failed(tell: Callable[..., Any]) -> None:
    """The later steps are not played, and the failure says what to do."""
    result = tell(
        ("a", UnavailableError("no answer", hint="Look there."), True), ("b", Outcome("b!", held=True), False)
    )
    assert result.return_value == 1
    assert "no answer Look there." in result.output
    assert "b!" not in result.output


def test_a_refusal_that_fails_leaves_the_others_to_be_seen(tell: Callable[..., Any]) -> None:
    """The denials do not rest on each other: all are played."""
    result = tell(("a", UnavailableError("no answer"), False), ("b", Outcome("b!", held=True), False))
    assert result.return_value == 1
    assert "b!" in result.output


def test_json_holds_every_step(tell: Callable[..., Any]) -> None:
    """--json writes one document and nothing else."""
    result = tell(("a", Outcome("shut", held=True, explanations=(WHY,)), True), options=("--json",))
    step = {
        "step": "a", "expected": "expected", "seen": "shut", "held": True, "explanations": [WHY._asdict()],
    }  # fmt: skip
    assert json.loads(result.stdout) == {"held": True, "steps": [step]}
