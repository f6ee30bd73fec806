# SPDX-License-Identifier: Apache-2.0
"""Keys and a sound set, made once: every value is frozen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from eaa._keys import new_key, read_private_key
from eaa.verdict.reference_set import Input, ReferenceSet, RegisterValue
from eaa.verdict.statement import Artifact

if TYPE_CHECKING:
    from eaa._keys import PrivateKey


@pytest.fixture(scope="session")
def keys() -> tuple[PrivateKey, ...]:
    """Two Ed25519 keys and one on P-256."""
    return tuple(read_private_key(new_key(kind)[0]) for kind in ("ed25519", "ed25519", "p256"))


@pytest.fixture(scope="session")
def reference_set() -> ReferenceSet:
    """A TD's two registers."""
    return ReferenceSet(
        product="acme/web",
        version=3,
        tee="tdx",
        registers=(
            RegisterValue("mr_td", ("ab" * 48,), (Input("firmware", "ab" * 48),)),
            RegisterValue(
                "rtmr_2", ("cd" * 48, "ef" * 48), (Input("cmdline", "01" * 48), Input("initrd", "02" * 48))
            ),
        ),
        artifacts=(Artifact.of("firmware", b"OVMF"), Artifact.of("kernel", b"Linux")),
        issued_at=datetime(2026, 3, 16, 12, tzinfo=UTC),
        expires_at=datetime(2027, 3, 16, 12, tzinfo=UTC),
        supersedes=2,
        provenance=("12" * 32,),
        note="the spring release",
    )
