# SPDX-License-Identifier: Apache-2.0
"""Who built what a set was computed from: only trusted builders count, each for what they made alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from eaa._keys import key_id
from eaa.verdict.envelope import seal
from eaa.verdict.errors import StatementError
from eaa.verdict.origins import origins_of, sealed_provenance
from eaa.verdict.provenance import BUILD_TYPE, Builder, BuilderPolicy, Provenance
from eaa.verdict.statement import Artifact

if TYPE_CHECKING:
    from eaa._keys import PrivateKey

KERNEL, INITRD = Artifact.of("vmlinuz", b"kernel"), Artifact.of("initrd.img", b"initrd")
ARTIFACTS = {"kernel": KERNEL.sha256 or "", "initrd": INITRD.sha256 or ""}


def _provenance(key: PrivateKey, builder: str, *outputs: Artifact) -> bytes:
    said = Provenance(
        builder=builder, build_type=BUILD_TYPE, outputs=outputs, dependencies=(), external={}, internal={}
    )
    return seal(said.to_statement(), [key])


def _policy(**keys: PrivateKey) -> BuilderPolicy:
    builders = {
        name: Builder(name, frozenset({key_id(key.public_key())}), frozenset({BUILD_TYPE}), ("*",))
        for name, key in keys.items()
    }
    return BuilderPolicy(tuple(key.public_key() for key in keys.values()), (), builders)


def test_builders_that_made_the_same_are_named(keys: tuple[PrivateKey, ...]) -> None:
    provenance = [
        _provenance(keys[0], "alpha", KERNEL, INITRD),
        _provenance(keys[1], "beta", INITRD, Artifact.of("vmlinuz", b"another kernel")),
        _provenance(keys[0], "alpha", INITRD),
    ]
    found = origins_of(ARTIFACTS, provenance, _policy(alpha=keys[0], beta=keys[1]))
    assert found.builders == {"kernel": ("alpha",), "initrd": ("alpha", "beta")}
    assert found.refused == ()
    assert found.to_json()["builders"]["initrd"] == ["alpha", "beta"]


def test_a_builder_is_believed_under_its_own_key_alone(keys: tuple[PrivateKey, ...]) -> None:
    provenance = [_provenance(keys[2], "alpha", INITRD), _provenance(keys[1], "gamma", INITRD), b"{}"]
    found = origins_of(ARTIFACTS, provenance, _policy(alpha=keys[0], beta=keys[1]))
    assert found.builders == {"kernel": (), "initrd": ()}
    assert len(found.refused) == 3
    assert "alpha" in found.refused[0]
    assert "gamma" in found.refused[1]


def test_the_envelope_in_a_bundle_is_read(keys: tuple[PrivateKey, ...]) -> None:
    envelope = _provenance(keys[0], "alpha", KERNEL)
    bundle = json.dumps({"verificationMaterial": {}, "dsseEnvelope": json.loads(envelope)}).encode()
    assert sealed_provenance(bundle).statement() == sealed_provenance(envelope).statement()
    for broken in (b"", b"[]", b'{"dsseEnvelope": 1}'):
        with pytest.raises(StatementError):
            sealed_provenance(broken)
