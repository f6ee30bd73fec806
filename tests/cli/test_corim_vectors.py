# SPDX-License-Identifier: Apache-2.0
"""Recorded manifests come out as others found them: read, and with a signature that holds where the key is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from eaa.cli._corim_vectors import corim_vector
from eaa.cli._vector_runs import run_vector
from eaa.cli.vectors import compare_outcomes
from eaa.rats import InputError
from eaa.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

OUTCOMES = {
    "corim-cca-profile": ("parsed", ["cca_platform_invalid_digests"]),
    "corim-cocli-signed": ("parsed", ["signed_bad_signature", "signed_invalid_test"]),
    "corim-signed-corim-with-extensions": ("valid", []),
    "corim-signed-good-corim": ("valid", []),
    "corim-trustee-unsigned": ("parsed", []),
    "corim-unsigned": ("parsed", []),
}


def test_every_recorded_manifest_agrees_with_its_expectation(vectors: Path) -> None:
    listed = json.loads((vectors / "manifest.json").read_bytes())["vectors"]
    chosen = {each["id"]: each for each in listed if each["tee"] == "corim"}
    found = {
        name: run_vector({**each, "expected": None}, vectors, Verifier()) for name, each in chosen.items()
    }
    assert {name: (each["outcome"], each["malformed"]) for name, each in found.items()} == OUTCOMES
    assert not any(compare_outcomes(chosen[name]["expected"], each) for name, each in found.items())


def test_a_signature_that_does_not_hold_is_invalid(vectors: Path) -> None:
    folder = vectors / "corim" / "corim-signed-good-corim"
    signed, key = ((folder / name).read_bytes() for name in ("corim.cbor", "public_key.json"))
    unsigned = (vectors / "corim" / "corim-unsigned" / "corim_1.cbor").read_bytes()
    spoiled = signed[:-1] + bytes([signed[-1] ^ 1])
    for data in (spoiled, unsigned, b""):
        assert corim_vector({"corim": data, "public_key": key})[0] == "invalid"
    assert corim_vector({"corim": signed, "public_key": key}) == ("valid", [])
    assert corim_vector({"a": b"", "b": b""}) == ("invalid", ["a", "b"])
    for wrong in (b"", b"{}", b'{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}'):
        with pytest.raises(InputError):
            corim_vector({"corim": signed, "public_key": wrong})
