# SPDX-License-Identifier: Apache-2.0
"""Collateral from the file system."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eaa.rats import EndorsementError, Endorsements
from eaa.tee.dcap.collateral_files import MAX_FILE, endorsements_from_files, endorsements_from_json
from eaa.tee.snp.collateral_files import endorsements_from_snp_json

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["load_endorsements"]

_SNP: Final = re.compile(rb'"(snp_(vcek|vlek|chain|crl)|vcekCert)"\s*:')
"""A member of an SNP collateral document."""
_MAX_FILES: Final = 1024
_MAX_TOTAL: Final = 64 * 1024 * 1024


def load_endorsements(path: str | PathLike[str], *, ignored: list[str] | None = None) -> Endorsements:
    """Read collateral: a JSON document (Intel's or AMD's), or a folder of PCS responses (its regular files, not its folders).

    Any other file is read as a folder of one would be. The names of files that are no collateral are appended to ``ignored``.

    :raises EndorsementError: when something cannot be read or is malformed; nothing is verified here.
    """
    place = Path(path)
    try:
        if place.is_dir():
            return endorsements_from_files(_read_folder(place), ignored=ignored)
        data = _read_file(place)
    except OSError as error:
        raise EndorsementError(
            f"{place}: {error.strerror}", hint="Name a collateral JSON file, or a folder of PCS responses."
        ) from error
    if data.lstrip().startswith(b"{") and _SNP.search(data):
        return endorsements_from_snp_json(data, place.name)
    if data.lstrip().startswith(b"{") and not data.lstrip()[1:].lstrip().startswith(
        (b'"tcbInfo"', b'"enclaveIdentity"')
    ):
        return endorsements_from_json(data, place.name)
    return endorsements_from_files({place.name: data}, ignored=ignored)


def _read_folder(folder: Path) -> dict[str, bytes]:
    names = sorted(each for each in folder.iterdir() if each.is_file())
    if len(names) > _MAX_FILES:
        raise EndorsementError(f"{folder}: {len(names)} files, at most {_MAX_FILES} are read")
    files: dict[str, bytes] = {}
    total = 0
    for each in names:
        files[each.name] = _read_file(each)
        total += len(files[each.name])
        if total > _MAX_TOTAL:
            raise EndorsementError(f"{folder}: more than {_MAX_TOTAL} bytes")
    return files


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise EndorsementError(f"{path.name}: more than the {MAX_FILE} bytes that are read")
    return data
