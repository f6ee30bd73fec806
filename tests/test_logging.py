# SPDX-License-Identifier: Apache-2.0
"""The daemons' logs: JSON lines without anything secret, whoever writes them."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from eaa._logging import REDACTED, configure_logging, describe_fault

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("own_logging")

DAEMONS = ["eaa.verdictd", "eaa.agent.grpc"]
SECRET = "hunter2"


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    assert said.out == ""
    return [json.loads(line) for line in said.err.splitlines()]


def fail() -> None:
    raise RuntimeError(f"cannot open {SECRET}\nwith {SECRET}")


@pytest.mark.parametrize("daemon", DAEMONS)
def test_fields_with_a_secrets_name_are_blanked(daemon: str, capfd: pytest.CaptureFixture[str]) -> None:
    """And fields of bytes; what is no secret stays, and so does what was bound before."""
    configure_logging("info")
    structlog.contextvars.bind_contextvars(request_id="r", session=SECRET)
    structlog.get_logger(daemon).info(
        "released",
        path="a/b/c",
        key_provider="unix:/x",
        tee_pubkey=SECRET,
        Authorization=SECRET,
        kbs_token=SECRET,
        content=SECRET.encode(),
        view=memoryview(SECRET.encode()),
    )
    (line,) = lines(capfd)
    assert {"event", "level", "timestamp"} <= line.keys()
    shown = {
        "event": "released",
        "level": "info",
        "path": "a/b/c",
        "request_id": "r",
        "key_provider": "unix:/x",
    }
    assert shown.items() <= line.items()
    hidden = {"session", "tee_pubkey", "Authorization", "kbs_token", "content", "view"}
    assert {name for name, value in line.items() if value == REDACTED} == hidden


def _by_structlog(daemon: str, _: Exception) -> None:
    structlog.get_logger(daemon).exception("fault")


def _by_a_library(daemon: str, error: Exception) -> None:
    logging.getLogger(daemon).error("fault", exc_info=error)


def _with_the_error_itself(daemon: str, error: Exception) -> None:
    structlog.get_logger(daemon).error("fault", exc_info=error, stack_info=True)


@pytest.mark.parametrize("write", [_by_structlog, _by_a_library, _with_the_error_itself])
@pytest.mark.parametrize("daemon", [*DAEMONS, "uvicorn.error"])
def test_exceptions_are_logged_without_their_text(
    daemon: str, write: Callable[[str, Exception], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """Their kind and where they happened is enough to find the fault."""
    configure_logging("DEBUG")
    try:
        fail()
    except RuntimeError as error:
        write(daemon, error)
    (line,) = lines(capfd)
    assert (line["event"], line["level"], line["fault"]) == ("fault", "error", "RuntimeError")
    assert line["at"][-1].startswith("test_logging.py:")
    assert line["at"][-1].endswith(" fail")
    assert not {"exc_info", "stack_info", "exception"} & line.keys()


def test_a_librarys_own_handler_writes_nothing_beside(capfd: pytest.CaptureFixture[str]) -> None:
    """Such as uvicorn sets up where it is not told otherwise."""
    library = logging.getLogger("uvicorn.error")
    library.addHandler(logging.StreamHandler())
    library.propagate = False
    configure_logging()
    try:
        fail()
    except RuntimeError as error:
        _by_a_library("uvicorn.error", error)
    assert [line["fault"] for line in lines(capfd)] == ["RuntimeError"]


def test_what_asyncio_says_of_a_lost_exception_is_cut_to_its_first_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The rest is the task with its exception."""
    configure_logging()

    async def lose() -> None:
        async def work() -> None:
            fail()

        task = asyncio.create_task(work())
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(lose())
    (line,) = lines(capfd)
    assert line["event"] == "Task exception was never retrieved"
    assert line["fault"] == "RuntimeError"


def test_only_what_was_asked_for_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """The level is a name of either case; libraries say no more than warnings."""
    for level, said in (("warning", ["w"]), ("INFO", ["i", "w"])):
        configure_logging(level)
        log = structlog.get_logger(DAEMONS[0])
        log.debug("d")
        log.info("i")
        log.warning("w")
        logging.getLogger("httpx2").info("GET https://kbs/%s", SECRET)
        assert [line["event"] for line in lines(capfd)] == said


def test_a_fault_is_described_by_its_last_frames() -> None:
    """A deep one by its end."""

    def deep(levels: int) -> None:
        deep(levels - 1) if levels else fail()

    with pytest.raises(RuntimeError) as caught:
        deep(30)
    described = describe_fault(caught.value)
    assert described["fault"] == "RuntimeError"
    assert len(described["at"]) == 8
    assert SECRET not in json.dumps(described)
