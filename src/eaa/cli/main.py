# SPDX-License-Identifier: Apache-2.0
"""The ``eaa`` command: one table of subcommands, each imported only when it is used."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from eaa.cli._run import MissingCommand, Session, run

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cli", "main"]


class Subcommand(NamedTuple):
    """Where a subcommand lives, and the one line that ``eaa --help`` shows without importing it."""

    target: str
    help: str


SUBCOMMANDS: Final = {
    "verify": Subcommand("eaa.cli.verify:verify", "Verify evidence against collateral and a time."),
    "explain": Subcommand("eaa.cli.explain:explain", "Say why evidence was or would be accepted or refused."),
    "vectors": Subcommand("eaa.cli.vectors:vectors", "Run recorded evidence and compare the outcomes."),
    "eventlog": Subcommand("eaa.cli.eventlog:eventlog", "Show and replay what a boot measured."),
    "diff": Subcommand("eaa.cli.diff:diff", "Tell what two boots, quotes or verdicts have differently."),
    "measure": Subcommand("eaa.cli.measure:measure", "Compute what software will measure to."),
    "verdict": Subcommand("eaa.cli.verdict:verdict", "Make and sign reference values from what was built."),
    "sim": Subcommand("eaa.cli.sim:sim", "Mint evidence with a chip maker in software."),
    "key": Subcommand("eaa.cli.key:key", "Create and list key-encryption keys."),
    "resource": Subcommand("eaa.cli.resource:resource", "Store the secrets that are released."),
    "policy": Subcommand("eaa.cli.policy:policy", "Set the policies that decide on a release."),
    "reference-value": Subcommand(
        "eaa.cli.reference_value:reference_value", "Tell which software is expected."
    ),
    "session": Subcommand("eaa.cli.session:session", "List and end the sessions of attested guests."),
    "endorser": Subcommand("eaa.cli.endorser:endorser", "Import, fetch and serve chip makers' collateral."),
    "serve": Subcommand("eaa.cli.serve:serve", "Run Verdictd or the Attestation Agent."),
    "demo": Subcommand("eaa.cli.demo:demo", "Play the whole story on this machine."),
}


class LazyGroup(click.Group):
    """A group whose members are named in a table and imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the table's names, in the table's order."""
        del ctx
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the named subcommand.

        :raises MissingCommand: when this installation lacks it or something it needs.
        """
        entry = SUBCOMMANDS.get(cmd_name)
        if entry is None:
            return None
        module_name, _, attribute = entry.target.partition(":")
        try:
            command = getattr(importlib.import_module(module_name), attribute)
        except ModuleNotFoundError as error:
            if ctx.resilient_parsing:
                return None
            raise MissingCommand(cmd_name, error.name or module_name) from error
        except AttributeError as error:
            raise MissingCommand(cmd_name, entry.target) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands from the table, importing none of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in SUBCOMMANDS.items()])


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    del param
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415 - slow, and needed only here

        click.echo(f"eaa {version('eaa')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 accepted or done, 1 rejected, 2 bad usage or input, 3 cannot tell.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.option("-v", "--verbose", count=True, help="Log what is done to standard error; twice for more.")
@click.pass_context
def cli(ctx: click.Context, verbose: int) -> None:
    """Remote attestation and key release for confidential containers.

    \b
    Examples:
      eaa verify quote.bin --tee tdx --endorsements collateral.json --report-data 00…
      eaa explain quote.bin --tee tdx
      eaa demo
    """  # noqa: D301 - click keeps the lines after \b
    ctx.ensure_object(Session)
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    if verbose:
        level = logging.DEBUG if verbose > 1 else logging.INFO
        logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def main(args: Sequence[str] | None = None) -> None:
    """Run ``eaa`` and exit with its status; the console script."""
    sys.exit(run(cli, "eaa", args))


if __name__ == "__main__":
    main()
