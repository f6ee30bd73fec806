# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict verify-bundle``: statements in sigstore bundles, verified offline by identity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from eaa.cli._options import InputFile, echo_json, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eaa.verdict.statement import Statement

__all__ = ["COMMANDS"]

_MAX_BUNDLE: Final = 8 << 20
_MAX_ARTIFACT: Final = 2 << 30


@click.command("verify-bundle", epilog="Exit status: 0 it holds, 1 it is refused, 2 bad usage or input.")
@click.argument("data", metavar="BUNDLE", type=InputFile(_MAX_BUNDLE))
@click.option("--identity", required=True, help="Mail address or workflow that must have signed.")
@click.option("--issuer", required=True, help="Who vouches for the identity, such as GitHub's token service.")
@click.option(
    "--artifact",
    "artifacts",
    type=InputFile(_MAX_ARTIFACT),
    multiple=True,
    help="File that the statement must be about.",
)
@click.option(
    "--trusted-root",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Roots to believe, instead of those of sigstore's public instance.",
)
@json_option
def verify_bundle(
    data: bytes,
    identity: str,
    issuer: str,
    artifacts: Sequence[bytes],
    trusted_root: Path | None,
    *,
    as_json: bool,
) -> None:
    """Tell whether the identity signed the statement in a sigstore BUNDLE, without asking a network.

    \b
    Example:
      eaa verdict verify-bundle kernel.sigstore.json --artifact vmlinuz \\
        --identity https://github.com/acme/kernel/.github/workflows/build.yml@refs/tags/v6.12 \\
        --issuer https://token.actions.githubusercontent.com
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.verdict.sigstore import Identity, open_bundle  # noqa: PLC0415 - --help does not need it

    statement, signer = open_bundle(data, [Identity(identity, issuer)], trusted_root)
    for content in artifacts:
        _check_subject(statement, content)
    subjects = [each.to_json() for each in statement.subject]
    if as_json:
        echo_json(
            {
                "holds": True,
                "identity": signer.identity,
                "issuer": signer.issuer,
                "predicate_type": statement.predicate_type,
                "subject": subjects,
            }
        )
        return
    click.echo(
        f"holds: {statement.predicate_type} about {', '.join(each.name for each in statement.subject)}"
    )
    click.echo(f"signed by {signer.identity}, says {signer.issuer}")


def _check_subject(statement: Statement, content: bytes) -> None:
    from eaa.verdict.errors import SignatureRefused  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.statement import Artifact  # noqa: PLC0415

    digest = Artifact.of("artifact", content).sha256
    if digest not in {each.sha256 for each in statement.subject}:
        raise SignatureRefused(
            f"the statement is not about the file with the SHA-256 {digest}",
            check="sigstore.subject",
            hint="Give the file that was built, as it was published.",
        )


COMMANDS: Final = (verify_bundle,)
