# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict``, the commands that speak to a Verdictd: what happens to a signed set there, and where a value came from."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from eaa.cli._admin_client import admin_options
from eaa.cli._options import InputFile, echo_json, json_option
from eaa.cli._run import EXIT_REJECTED
from eaa.cli._tables import print_table
from eaa.cli._verdict_explain import explanation, verified_origins
from eaa.rats import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eaa.cli._admin_client import AdminClient

__all__ = ["BASE", "COMMANDS", "effect_lines", "propose_set", "title"]

BASE: Final = "/eaa/v0/reference-sets"
_MAX_ENVELOPE: Final = 8 << 20
_SHOWN: Final = 20
"""Lines of changes that a person is shown; JSON has all of them."""

why_option = click.option("--why", default="", help="The reason, for the record.")


@click.command()
@click.argument("envelope", metavar="SET", type=InputFile(_MAX_ENVELOPE))
@click.option(
    "--provenance",
    type=InputFile(_MAX_ENVELOPE),
    multiple=True,
    help="Provenance that the set names; kept for eaa verdict explain.",
)
@why_option
@admin_options
@json_option
def propose(
    client: AdminClient, envelope: bytes, provenance: Sequence[bytes], why: str, *, as_json: bool
) -> None:
    """Hand SET, signed, to Verdictd. It admits nobody until it is activated.

    SET is what eaa verdict measure writes, or a CoRIM that one of the product's signers has signed (eaa verdict export). Signers need not wait
    for each other: proposed again by another, a set is kept with the signatures of both.

    \b
    Example:
      eaa verdict propose web-3.json --data ./data
    """  # noqa: D301 - click keeps the lines after \b
    proposed = propose_set(client, envelope, why, provenance)
    if as_json:
        echo_json(proposed)
    else:
        click.echo(
            f"{title(proposed)}: signed by {len(proposed['signed_by'])} of {proposed['threshold']} needed"
        )


def propose_set(
    client: AdminClient, envelope: bytes, why: str, provenance: Sequence[bytes] = ()
) -> dict[str, Any]:
    """Propose a signed set and return it as Verdictd keeps it."""
    from eaa.verdict.corim import is_corim  # noqa: PLC0415 - --help does not need it

    document: Any
    if is_corim(envelope):
        document = b64encode(envelope).decode()
    else:
        try:
            document = json.loads(envelope)
        except (ValueError, RecursionError):
            raise InputError("the file is no signed set", hint="Make one: eaa verdict measure") from None
    proofs = [b64encode(each).decode() for each in provenance]
    proposed: dict[str, Any] = client.post(BASE, {"envelope": document, "why": why, "provenance": proofs})
    return proposed


def _change(action: str, words: str, *, example: str) -> click.Command:
    """Return the command that does ``action`` to a set; ``words`` are its help."""

    @click.command(
        action,
        help=words,
        epilog=f"\b\nExamples:\n  eaa verdict {action} {example} --data ./data --dry-run\n"
        f"  eaa verdict {action} {example} --data ./data --why 'a reason'",
    )
    @click.argument("name", metavar="SET")
    @click.option("--dry-run", is_flag=True, help="Only say which known workloads it would admit or refuse.")
    @click.option(
        "--yes", is_flag=True, help="Do it, also where workloads that are admitted now are refused."
    )
    @click.option(
        "--workloads",
        type=click.IntRange(0, 1000),
        default=200,
        show_default=True,
        help="How many of the latest verdicts are looked at for the effect.",
    )
    @why_option
    @admin_options
    @json_option
    def command(
        client: AdminClient, name: str, why: str, workloads: int, *, dry_run: bool, yes: bool, as_json: bool
    ) -> int | None:
        return change_set(
            client, name, action, why, workloads=workloads, dry_run=dry_run, yes=yes, as_json=as_json
        )

    return command


def change_set(
    client: AdminClient,
    name: str,
    action: str,
    why: str,
    *,
    workloads: int = 200,
    dry_run: bool = False,
    yes: bool = False,
    as_json: bool = False,
) -> int | None:
    """Do something to a set, once its effect is known; return the exit status if it was not done.

    What refuses a workload that is admitted now is asked about at a terminal, and needs ``yes`` elsewhere.
    """
    path = f"{BASE}/{quote(name, safe='/@')}/{action}"
    told = client.post(path, {"why": why, "dry_run": True, "workloads": workloads})
    if not as_json:
        for line in effect_lines(told):
            click.echo(line)
    refuses = any(each["after"] == "refuse" for each in told["changes"])
    if dry_run or (refuses and not yes and not _confirmed(as_json=as_json)):
        if as_json:
            echo_json(told)
        elif not dry_run:
            click.echo("nothing was done: --yes does it all the same", err=True)
        return None if dry_run else EXIT_REJECTED
    done = client.post(path, {"why": why, "workloads": 0})
    if as_json:
        echo_json(done | {"looked_at": told["looked_at"], "changes": told["changes"]})
    else:
        click.echo(title(done["set"]))
    return None


def _confirmed(*, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        return False
    return click.confirm("Workloads that are admitted now will be refused. Do it?")


def effect_lines(told: dict[str, Any]) -> Iterator[str]:
    """Yield which workloads a change admits or refuses, then how many were looked at."""
    words = {"admit": "will be admitted", "refuse": "will be refused"}
    for each in told["changes"][:_SHOWN]:
        yield f"the workload of verdict {each['verdict']} {words[each['after']]}"
        yield from (f"    {reason}" for reason in each["reasons"])
    if len(told["changes"]) > _SHOWN:
        yield f"and {len(told['changes']) - _SHOWN} more; --json shows them all"
    yield f"{len(told['changes'])} of {told['looked_at']} known workloads change"


def title(found: dict[str, Any]) -> str:
    """Return a set's name and state in words."""
    ended = ", expired" if found["expired"] else ""
    return f"{found['product']}@{found['version']} for {found['tee']} is {found['state']}{ended}"


@click.command("list")
@click.option("--product", help="Only this product's.")
@click.option(
    "--state",
    type=click.Choice(["proposed", "active", "retired", "revoked"]),
    help="Only those in this state.",
)
@admin_options
@json_option
def list_(client: AdminClient, product: str | None, state: str | None, *, as_json: bool) -> None:
    """List the sets that Verdictd keeps.

    \b
    Example:
      eaa verdict list --state active --data ./data
    """  # noqa: D301 - click keeps the lines after \b
    wanted = {"product": product, "state": state}
    listed = client.get(BASE, **{name: value for name, value in wanted.items() if value is not None})
    if as_json:
        echo_json(listed)
        return
    rows = [
        {**each, "state": "expired" if each["expired"] and each["state"] == "active" else each["state"]}
        | {"signed": _signed(each), "digest": each["digest"][:16]}
        for each in listed["reference_sets"]
    ]
    columns = ("product", "version", "tee", "state", "signed", "expires_at", "digest")
    print_table(rows, columns, empty="There is no set of signed reference values.")
    for each in client.get(f"{BASE}/sources")["sources"]:
        if each["held"] or each["error"]:
            click.echo(f"{each['url']} is not followed: {each['held'] or each['error']}")


def _signed(found: dict[str, Any]) -> str:
    return f"{len(found['signed_by'])} of {found['threshold']}" if found["threshold"] else "nobody may sign"


@click.command()
@click.option("--resume", metavar="URL", help="Follow this Verdict again, which is held.")
@click.option(
    "--accept-older",
    metavar="URL",
    help="Let the next index of this Verdict be older than the last one, once: it was restored from a backup.",
)
@admin_options
@json_option
def sources(client: AdminClient, resume: str | None, accept_older: str | None, *, as_json: bool) -> None:
    """Say how it stands with the Verdicts that this Verdictd subscribes to.

    One is held once somebody here retired a set of it, or went back to one: it is followed again with --resume.

    \b
    Example:
      eaa verdict sources --data ./data
    """  # noqa: D301 - click keeps the lines after \b
    for url, action in ((resume, "resume"), (accept_older, "accept-older")):
        if url is not None:
            client.post(f"{BASE}/sources", {"url": url, "action": action})
    found = client.get(f"{BASE}/sources")
    if as_json:
        echo_json(found)
    else:
        columns = ("url", "sequence", "followed_at", "asked_at", "held", "error")
        print_table(found["sources"], columns, empty="No other Verdict was followed yet.")


@click.command()
@click.argument("value", metavar="VALUE")
@click.option(
    "--builders",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file of trusted builders: tells which of them made the artifacts alike.",
)
@admin_options
@json_option
def explain(client: AdminClient, value: str, builders: Path | None, *, as_json: bool) -> None:
    """Say where a reference value came from: VALUE is a register's value in hex, PRODUCT@VERSION, or a set's digest.

    Shown are the sets that have it, what it was computed from, who built and signed that, and who did what with the set, when and why.

    \b
    Examples:
      eaa verdict explain 3f1c…  --data ./data
      eaa verdict explain acme/web@3 --builders builders.toml --data ./data
    """  # noqa: D301 - click keeps the lines after \b
    found = client.get(f"{BASE}/explain", value=value)
    if builders is not None:
        for each in found["reference_sets"]:
            each["origins"] = verified_origins(each, builders)
    if as_json:
        echo_json(found)
        return
    for number, each in enumerate(found["reference_sets"]):
        if number:
            click.echo()
        for line in explanation(each):
            click.echo(line)


_ACTIONS: Final[Sequence[Callable[[], click.Command]]] = (
    lambda: _change(
        "activate",
        "Let SET admit what it describes. It must be signed by enough of its product's signers, and newer than any set of the product "
        "that was active before.",
        example="acme/web@3",
    ),
    lambda: _change(
        "retire", "Let SET admit nobody any more. A rollback can bring it back.", example="acme/web@2"
    ),
    lambda: _change(
        "rollback",
        "Go back to SET, which was active before: it is active again, and newer sets of the product are retired.",
        example="acme/web@2",
    ),
    lambda: _change("revoke", "Let SET admit nobody, and never again.", example="acme/web@2"),
)

COMMANDS: Final = (propose, *(make() for make in _ACTIONS), list_, sources, explain)
