# SPDX-License-Identifier: Apache-2.0
"""Where reference values came from, as lines for a person."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from eaa._keys import new_key, read_private_key
from eaa.cli._verdict_explain import explanation, verified_origins
from eaa.verdict.envelope import seal
from eaa.verdict.provenance import BUILD_TYPE, Provenance
from eaa.verdict.statement import Artifact

if TYPE_CHECKING:
    from pathlib import Path

INITRD = Artifact.of("initrd.img", b"initrd")


def found(**changes: Any) -> dict[str, Any]:
    return {
        "product": "acme/web",
        "version": 3,
        "tee": "tdx",
        "state": "active",
        "expired": False,
        "digest": "ab" * 32,
        "issued_at": "2026-03-16T12:00:00Z",
        "expires_at": None,
        "note": "",
        "registers": [
            {
                "register": "rtmr_2",
                "values": ["cd" * 48],
                "inputs": [{"name": "initrd", "digest": "ef" * 48}],
            },
            {"register": "mr_td", "values": ["01" * 48], "inputs": []},
        ],
        "artifacts": [{"name": "initrd", "digest": {"sha256": INITRD.sha256}}],
        "provenance": [],
        "signed_by": ["12" * 32],
        "threshold": 1,
        "history": [
            {
                "at": "2026-03-16T12:00:00Z",
                "action": "activate",
                "state": "active",
                "who": "bob",
                "why": "good",
            }
        ],
        "built_by": [],
    } | changes


def test_a_set_in_words() -> None:
    said = "\n".join(explanation(found(note="spring")))
    assert "acme/web version 3 for tdx: active" in said
    assert "valid without an end" in said
    assert "note: spring" in said
    assert f"from initrd       {'ef' * 48}" in said
    assert "no provenance is named" in said
    assert "activate by bob: good" in said
    assert "mr_td" in said
    assert "mr_td" not in "\n".join(explanation(found(matched_registers=["rtmr_2"])))


def test_the_builders_that_are_trusted(tmp_path: Path) -> None:
    pem, public = new_key()
    (tmp_path / "alpha.pub").write_bytes(public)
    builders = tmp_path / "builders.toml"
    builders.write_text(
        '[keys]\nalpha = "alpha.pub"\n[builders."urn:alpha"]\nkeys = ["alpha"]\n'
        f'build_types = ["{BUILD_TYPE}"]\nsources = ["*"]\n'
    )
    said = Provenance(
        builder="urn:alpha",
        build_type=BUILD_TYPE,
        outputs=(INITRD,),
        dependencies=(),
        external={},
        internal={},
    )
    envelope = seal(said.to_statement(), [read_private_key(pem)])
    kept = {
        "digest": sha256(envelope).hexdigest(),
        "subject": [INITRD.to_json()],
        "predicate_type": "https://slsa.dev/provenance/v1",
        "builder": "urn:alpha",
        "build_type": BUILD_TYPE,
        "sources": [{"uri": "pkg:deb/debian/linux"}],
        "signed_by": ["ab"],
        "envelope": b64encode(envelope).decode(),
    }
    elsewhere = {"digest": "99" * 32}
    shown = found(provenance=[kept, elsewhere])
    shown["origins"] = verified_origins(shown, builders)
    assert shown["origins"] == {"builders": {"initrd": ["urn:alpha"]}, "refused": []}
    lines = "\n".join(explanation(shown))
    assert "initrd       urn:alpha" in lines
    assert "from pkg:deb/debian/linux" in lines
    assert f"sha256:{'99' * 32}, which is not kept here" in lines
