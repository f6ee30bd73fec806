# SPDX-License-Identifier: Apache-2.0
"""``eaa explain``: why evidence, or a verdict on record, was accepted or refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._admin_client import AdminClient, target_options
from eaa.cli._options import InputFile, at_option, echo_json, json_option
from eaa.cli._render import evidence_lines, verdict_lines
from eaa.cli._tables import print_table
from eaa.cli.verify import TEES, acceptance, appraise

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from eaa.cli._admin_client import Target

__all__ = ["explain"]

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_FILE: Final = InputFile(16 * 1024 * 1024)
_FIELDS: Final = frozenset({"id", "result", "title", "source", "remedy"})
_RESULTS: Final = frozenset({"pass", "fail", "warn", "not-applicable", "not-made"})
_COLUMNS: Final = ("at", "id", "tee", "status", "accepted", "failed_checks", "request_id")


@click.command(
    epilog="Exit status: 0 explained, 1 no evidence at all, 2 bad usage or collateral. What is explained may be a rejection."
)
@click.argument("subject", metavar="EVIDENCE|VERDICT|VERDICT_ID", required=False)
@click.option("--tee", type=click.Choice(TEES, case_sensitive=False), help="Kind of TEE, for evidence.")
@click.option(
    "--endorsements", type=click.Path(exists=True, path_type=Path), help="Collateral to explain it against."
)
@at_option
@acceptance
@click.option(
    "--view",
    type=click.Choice(["owner", "guest"]),
    default="owner",
    show_default=True,
    help="The owner sees everything, a guest nothing of what the owner expects.",
)
@click.option("--brief", is_flag=True, help="Show expected and found only of the checks in the way.")
@click.option("--list", "listing", is_flag=True, help="List the latest verdicts of a Verdictd.")
@target_options
@json_option
def explain(
    subject: str | None,
    view: str,
    brief: bool,  # noqa: FBT001 - click passes options by name
    listing: bool,  # noqa: FBT001
    target: Callable[[], Target],
    as_json: bool,  # noqa: FBT001
    **options: Any,
) -> None:
    """Explain evidence, or a verdict: every check by its question, the reasons against it first, and what to do about each.

    EVIDENCE is a file as for `eaa verify`; VERDICT a file that `eaa verify --json` wrote; VERDICT_ID names a verdict that a
    Verdictd keeps, which is asked for it. Explaining decides nothing: report data is taken from the evidence itself.

    \b
    Examples:
      eaa explain quote.bin --tee tdx --endorsements collateral.json
      eaa explain evidence.json --tee tpm --enrolled machine-1-ak.pem
      eaa explain 0b1d7b5e-6a0c-4a55-8f0e-0e6a3d6f0c11 --data ./data
      eaa explain 0b1d7b5e-6a0c-4a55-8f0e-0e6a3d6f0c11 --data ./data --view guest
      eaa explain --list --data ./data
    """  # noqa: D301 - click keeps the lines after \b
    if listing or subject is None:
        if subject is not None or not listing:
            raise click.UsageError("name evidence, a verdict or a verdict's id, or ask for --list")
        _list(target, as_json=as_json)
        return
    document, is_evidence = _document(subject, target, **options)
    if is_evidence and not as_json:
        for line in evidence_lines(document["claims"]):
            click.echo(line)
        click.echo()
    if view == "guest":
        from eaa.rats.views import redact  # noqa: PLC0415 - --help needs none of it

        document = redact(document)
    if as_json:
        echo_json(document)
        return
    for line in verdict_lines(document, full=not brief):
        click.echo(line)


def _list(target: Callable[[], Target], *, as_json: bool) -> None:
    with AdminClient(target()) as client:
        listed = client.get("/eaa/v0/verdicts")
    if as_json:
        echo_json(listed)
    else:
        print_table(listed["verdicts"], _COLUMNS, empty="There is no verdict yet.")


def _document(
    subject: str,
    target: Callable[[], Target],
    *,
    tee: str | None,
    endorsements: Path | None,
    at: datetime,
    **options: Any,
) -> tuple[dict[str, Any], bool]:
    """Return the verdict to explain, and whether it was made here from evidence."""
    if _ID.fullmatch(subject) and not Path(subject).exists():
        with AdminClient(target()) as client:
            return client.get(f"/eaa/v0/verdicts/{subject.lower()}"), False
    data = _FILE.convert(subject, None, click.get_current_context())
    # With --tee it is evidence, even where that is JSON, which whoever sent it could have made look like a verdict.
    kept = _kept(data) if tee is None else None
    if kept is not None:
        return kept, False
    if tee is None:
        raise click.UsageError("evidence needs --tee; a verdict is JSON with a list of checks")
    return appraise(data, tee, endorsements, at, None, **options).to_json(), True


def _kept(data: bytes) -> dict[str, Any] | None:
    """Return the outermost part of a file that is a verdict, or None when the file is evidence."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if "appraisal" in (document.get("error") or ()):
        document = document["error"]  # what `eaa … --json` says of a rejection
    inner = document
    while isinstance(inner, dict) and "checks" not in inner and "error" not in inner:
        inner = next((inner[name] for name in ("appraisal", "document") if name in inner), None)
    if not isinstance(inner, dict) or not ("error" in inner or _is_appraisal(inner)):
        raise click.UsageError(
            "this JSON is no verdict: it has no list of checks with id, result, title, source and remedy"
        )
    return dict(document)


def _is_appraisal(document: dict[str, Any]) -> bool:
    checks = document["checks"]
    return (
        {"accepted", "tee", "at"} <= document.keys()
        and isinstance(checks, list)
        and all(
            isinstance(each, dict) and each.keys() >= _FIELDS and each["result"] in _RESULTS
            for each in checks
        )
    )
