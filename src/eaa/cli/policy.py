# SPDX-License-Identifier: Apache-2.0
"""``eaa policy``: the Rego policies that appraise claims and decide on releases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._admin_client import admin_options
from eaa.cli._dry_run import dry_run, dry_run_lines
from eaa.cli._options import InputFile, echo_json, json_option
from eaa.cli._policy_tests import find_tests, result_lines, run_files
from eaa.cli._run import EXIT_OK, EXIT_REJECTED
from eaa.cli._tables import print_table
from eaa.rats import PolicyError

if TYPE_CHECKING:
    from eaa.cli._admin_client import AdminClient

__all__ = ["policy"]

_KIND: Final = click.Choice(["attestation", "resource"])
_DEFAULT_NAME: Final = {"attestation": "default_cpu", "resource": "resource-policy"}
_FILE: Final = InputFile(1 << 20)


def _name_option(command: Any) -> Any:
    return click.option(
        "--name", help="Name of the policy; by default the one in force: default_cpu, resource-policy."
    )(command)


@click.group()
def policy() -> None:
    """Set, show, check, test and try policies.

    An attestation policy turns claims into a trustworthiness vector (rule trust_claims); a resource policy decides who may have
    which resource (rule allow). Both are Rego, package policy. A text that does not parse is refused and changes nothing.

    \b
    Examples:
      eaa policy check resource release.rego
      eaa policy test policies/
      eaa policy dry-run resource release.rego --data ./data
      eaa policy set resource release.rego --data ./data
      eaa policy show attestation --data ./data
    """  # noqa: D301 - click keeps the lines after \b


@policy.command("set")
@click.argument("kind", type=_KIND)
@click.argument("text", metavar="FILE", type=_FILE)
@_name_option
@admin_options
@json_option
def set_(client: AdminClient, kind: str, text: bytes, name: str | None, *, as_json: bool) -> None:
    """Put the policy in FILE into force."""
    stored = client.put(f"/eaa/v0/policies/{kind}/{name or _DEFAULT_NAME[kind]}", {"text": _decoded(text)})
    if as_json:
        echo_json(stored)
    else:
        click.echo(
            f"{stored['kind']} policy {stored['name']}: version {stored['version']}, SHA-384 {stored['digest'][:16]}…"
        )


@policy.command()
@click.argument("kind", type=_KIND)
@_name_option
@admin_options
@json_option
def show(client: AdminClient, kind: str, name: str | None, *, as_json: bool) -> None:
    """Show the text of the policy in force."""
    stored = client.get(f"/eaa/v0/policies/{kind}/{name or _DEFAULT_NAME[kind]}")
    if as_json:
        echo_json(stored)
    else:
        click.echo(stored["text"], nl=not stored["text"].endswith("\n"))


@policy.command("list")
@admin_options
@json_option
def list_(client: AdminClient, *, as_json: bool) -> None:
    """List the policies."""
    listed = client.get("/eaa/v0/policies")
    if as_json:
        echo_json(listed)
    else:
        columns = ("kind", "name", "version", "digest", "updated_at")
        print_table(listed["policies"], columns, empty="There is no policy: everything is denied.")


@policy.command()
@click.argument("kind", type=_KIND)
@_name_option
@admin_options
@json_option
def delete(client: AdminClient, kind: str, name: str | None, *, as_json: bool) -> None:
    """Take a policy out of force. What depended on it is denied from then on."""
    chosen = name or _DEFAULT_NAME[kind]
    client.delete(f"/eaa/v0/policies/{kind}/{chosen}")
    if as_json:
        echo_json({"deleted": {"kind": kind, "name": chosen}})
    else:
        click.echo(f"deleted {kind} policy {chosen}; what depended on it is denied now")


@policy.command()
@click.argument("kind", type=_KIND)
@click.argument("text", metavar="FILE", type=_FILE)
@json_option
def check(kind: str, text: bytes, *, as_json: bool) -> None:
    """Check the policy in FILE without a server; nothing is stored."""
    import asyncio  # noqa: PLC0415 - --help needs none of it

    from eaa.verifier.policy import PolicyEngine, policy_digest  # noqa: PLC0415

    decoded = _decoded(text)

    async def validate() -> None:
        async with PolicyEngine(processes=1) as engine:
            await engine.validate(decoded, kind)

    asyncio.run(validate())
    if as_json:
        echo_json({"valid": True, "kind": kind, "digest": policy_digest(decoded)})
    else:
        click.echo(f"a valid {kind} policy, SHA-384 {policy_digest(decoded)[:16]}…")


@policy.command(
    epilog="Exit status: 0 every test passed, 1 a test failed or could not be decided, 2 bad usage, such as no test."
)
@click.argument(
    "paths", metavar="DIR|FILE...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--policy",
    "tested",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The policy under test; by default NAME.rego beside NAME_test.rego, or the only policy there.",
)
@json_option
@click.pass_context
def test(ctx: click.Context, paths: tuple[Path, ...], tested: Path | None, *, as_json: bool) -> None:
    """Run unit tests of policies, in the engine that judges evidence, without a server.

    NAME_test.rego has rules test_... in a package of its own, as for OPA: `with input as` gives the claims, `with data.reference
    as` the reference values, `with data.plugin as` and `with data["resource-path"] as` the request. NAME.case.json has cases:
    objects with input, reference_values, data and expect ({"allow": true}, {"status": "affirming"} or {"trust_claims": {...}}).
    """
    import asyncio  # noqa: PLC0415 - --help needs none of it

    from eaa.verifier.policy import PolicyEngine  # noqa: PLC0415
    from eaa.verifier.policy_test import Outcome  # noqa: PLC0415

    files = find_tests(paths)

    async def run() -> Any:
        async with PolicyEngine(processes=1) as engine:
            return await run_files(engine, files, tested)

    ran = asyncio.run(run())
    bad = any(each.outcome in {Outcome.FAIL, Outcome.ERROR} for file in ran for each in file.results)
    if as_json:
        echo_json({"passed": not bad, "tests": [each for file in ran for each in file.to_json()]})
    else:
        for line in result_lines(ran):
            click.echo(line)
    ctx.exit(EXIT_REJECTED if bad else EXIT_OK)


@policy.command(
    "dry-run",
    epilog="Exit status: 0 nothing would change, 1 something would, 2 bad usage or policy, 3 no answer.",
)
@click.argument("kind", type=_KIND)
@click.argument("text", metavar="FILE", type=_FILE)
@_name_option
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="How many verdicts, newest first.",
)
@click.option(
    "--resource",
    "paths",
    metavar="PATH",
    multiple=True,
    help="Ask about this resource; may be repeated. By default about every one that is stored or was released.",
)
@admin_options
@json_option
@click.pass_context
def dry_run_(
    ctx: click.Context,
    /,
    client: AdminClient,
    kind: str,
    text: bytes,
    name: str | None,
    limit: int,
    paths: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Say what the policy in FILE would decide otherwise than the one in force, on the verdicts on record.

    Nothing is stored. Attestation policies are asked about the evidence as it was, with the reference values of now; resource
    policies about what each accepted verdict may have.
    """
    import asyncio  # noqa: PLC0415 - --help needs none of it

    compared = asyncio.run(
        dry_run(client, kind, name or _DEFAULT_NAME[kind], _decoded(text), limit=limit, paths=paths)
    )
    changes = any(each.changes for each in compared)
    if as_json:
        echo_json({"kind": kind, "changes": changes, "decisions": [each.to_json() for each in compared]})
    else:
        for line in dry_run_lines(compared):
            click.echo(line)
    ctx.exit(EXIT_REJECTED if changes else EXIT_OK)


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise PolicyError("the policy is not UTF-8 text") from None
