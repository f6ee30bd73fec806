# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict``: from what was built to signed reference values. One module for each part of the way."""

from __future__ import annotations

import click

from eaa.cli import (
    _verdict_build,
    _verdict_bundle,
    _verdict_files,
    _verdict_formats,
    _verdict_owner,
    _verdict_publish,
    _verdict_serve,
)

__all__ = ["verdict"]


@click.group()
def verdict() -> None:
    """Build, measure and sign: from sources to reference values.

    \b
    Examples:
      eaa verdict key new release
      eaa verdict build build.toml --out dist --key builder
      eaa verdict rebuild dist/provenance.dsse.json --sources . --out again
      eaa verdict measure --product acme/web --version 1 --tee tdx --firmware OVMF.fd --kernel vmlinuz \\
        --initrd initrd.img --cmdline 'console=ttyS0' --key release --out web-1.json
      eaa verdict show web-1.json
      eaa verdict sign web-1.json --key security
      eaa verdict verify web-1.json --signers signers.toml
      eaa verdict export web-1.json --format corim --key release --out web-1.corim
      eaa verdict propose web-1.json --data ./data
      eaa verdict activate acme/web@1 --data ./data --dry-run
      eaa verdict explain acme/web@1 --data ./data
    """  # noqa: D301 - click keeps the lines after \b


for _part in (
    _verdict_build,
    _verdict_files,
    _verdict_bundle,
    _verdict_formats,
    _verdict_owner,
    _verdict_publish,
    _verdict_serve,
):
    for _command in _part.COMMANDS:
        verdict.add_command(_command)
