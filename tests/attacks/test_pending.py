# SPDX-License-Identifier: Apache-2.0
"""Rows of the attack table whose part of EAA is not there yet, by name and with the reason."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any, Final

import pytest

from eaa.rats import EvidenceError
from eaa.tee.registry import kind_of

ROOT = Path(__file__).parents[2]

PENDING: Final = (
    {
        "row": "A30",
        "title": "A GPU is verified without cryptography, is not bound to the CPU's TEE, or runs in developer mode",
        "instance": "Bluethroat findings 4/6; dstack #751, #778",
        "reason": "EAA has no verifier of GPUs; evidence of one gets no challenge, and beside a CPU's it is refused as unsupported",
    },
    {
        "row": "A31",
        "title": "The header of an encrypted disk is changed so that the guest writes in plaintext",
        "instance": "CVE-2025-59054, CVE-2025-58356 (LUKS2, null cipher)",
        "reason": "EAA does not set up disks",
    },
    {
        "row": "B1",
        "title": "Evidence in a certificate is played back, since nothing in it is fresh",
        "instance": "formal analysis of RA-TLS, property G-RA2 (AsiaCCS 2026)",
        "reason": "EAA has no attested TLS yet; in the KBS handshake see B4 and B5",
    },
    {
        "row": "B2",
        "title": "A client is diverted to another instance of the right software",
        "instance": "formal analysis of RA-TLS and TLS-attest, properties G-TLS1, G-TLS2, G-C1, G-C2 (AsiaCCS 2026)",
        "reason": "EAA has no attested TLS yet",
    },
    {
        "row": "B3",
        "title": "Evidence is relayed within the handshake of another connection",
        "instance": "CVE-2026-33697 (Cocos)",
        "reason": "EAA has no attested TLS yet; in the KBS handshake the evidence binds the key that secrets are wrapped to, see B15",
    },
)


@pytest.mark.parametrize("pending", PENDING, ids=lambda pending: f"{pending['row']}")
def test_pending(pending: dict[str, str]) -> None:
    """The row is named, not left out."""
    pytest.skip(f"{pending['row']} is pending: {pending['reason']}")


def test_what_is_pending_is_refused_and_not_waved_through() -> None:
    """There is no verifier for evidence of devices, so that none can be taken for verified."""
    for tee in ("nvidia", "nvidiadpu", "hygondcu"):
        with pytest.raises(EvidenceError) as refused:
            kind_of(tee)
        assert refused.value.check == "evidence.tee"


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    """The program that makes docs/attacks.md."""
    return runpy.run_path(str(ROOT / "scripts" / "attacks.py"), run_name="attacks")


def test_every_row_is_there_once(table: dict[str, Any]) -> None:
    """A1 to A32 and B1 to B15 have one test each, named after the row, or are pending."""
    rows = table["read_rows"]()
    assert [row.name for row in rows] == [*(f"A{n}" for n in range(1, 33)), *(f"B{n}" for n in range(1, 16))]
    for row in rows:
        if not row.reason:
            letter, number = row.name[0].lower(), int(row.name[1:])
            assert re.match(rf"test_{letter}{number:02}_", row.test), row


def test_the_documentation_is_current(table: dict[str, Any]) -> None:
    """`make attacks` would change nothing in docs/attacks.md."""
    assert (ROOT / "docs" / "attacks.md").read_text() == table["render"](table["read_rows"]())
