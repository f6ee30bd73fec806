# SPDX-License-Identifier: Apache-2.0
"""Provenance counts from a trusted builder, for what that builder is trusted with, and for the artifacts it speaks of."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa._keys import key_id, public_pem
from eaa.rats import ConfigurationError
from eaa.verdict.agreement import compare
from eaa.verdict.envelope import Opened, seal
from eaa.verdict.errors import SignatureRefused, StatementError
from eaa.verdict.provenance import (
    BUILD_TYPE,
    BuilderPolicy,
    Dependency,
    Provenance,
    ProvenanceRefused,
    check_provenance,
    open_signed,
    parse_builders,
)
from eaa.verdict.statement import Artifact, Statement

if TYPE_CHECKING:
    from eaa._keys import PrivateKey

TEXT = b"format = 1\n"
ALPHA, BETA = "urn:acme:builder:alpha", "urn:acme:builder:beta"
IDENTITY = "https://ci.example.test/build https://ci.example.test"
INITRD = sha256(b"initrd").hexdigest()
SOUND = Provenance(
    builder=ALPHA,
    build_type=BUILD_TYPE,
    outputs=(Artifact.of("initrd", b"initrd"), Artifact.of("kernel", b"kernel")),
    dependencies=(
        Dependency("", "build-file", (("sha256", sha256(TEXT).hexdigest()),)),
        Dependency(
            "pkg:deb/debian/busybox-static@1?arch=amd64",
            "environment/busybox-static",
            (("sha256", "1" * 64),),
        ),
        Dependency("file:init", "source/init", (("sha256", "2" * 64),)),
    ),
    external={"buildFile": TEXT.decode(), "sha256": sha256(TEXT).hexdigest()},
    internal={},
    started=datetime(2026, 3, 16, 12, tzinfo=UTC),
    finished=datetime(2026, 3, 16, 12, 1, tzinfo=UTC),
    version="1.0",
)


@pytest.fixture
def policy(keys: tuple[PrivateKey, ...]) -> BuilderPolicy:
    """Alpha and Beta, each with a key; Beta also with an identity of sigstore's."""
    pems = {"alpha.pub": public_pem(keys[0].public_key()), "beta.pub": public_pem(keys[1].public_key())}
    return parse_builders(configuration(), pems.__getitem__)


def configuration(beta: str = "beta", sources: str = '["pkg:deb/debian/*", "file:*"]') -> bytes:
    return f"""
[keys]
alpha = "alpha.pub"
beta = "beta.pub"
[builders."{ALPHA}"]
keys = ["alpha"]
build_types = ["{BUILD_TYPE}"]
sources = {sources}
[builders."{BETA}"]
keys = ["{beta}"]
identities = [{{ identity = "https://ci.example.test/build", issuer = "https://ci.example.test" }}]
build_types = ["{BUILD_TYPE}"]
sources = ["pkg:deb/debian/*", "file:*"]
""".encode()


def opened(provenance: Provenance, key: PrivateKey, policy: BuilderPolicy) -> Opened:
    return open_signed(seal(provenance.to_statement(), [key]), policy)


def test_what_a_trusted_builder_signed_holds(policy: BuilderPolicy, keys: tuple[PrivateKey, ...]) -> None:
    """It is read back as it was written, and speaks of the artifact."""
    assert check_provenance(opened(SOUND, keys[0], policy), policy, {"initrd": INITRD}) == SOUND
    assert SOUND.build_file() == TEXT


def test_an_identity_counts_as_a_key_does(policy: BuilderPolicy) -> None:
    """A verified bundle is a statement and who stands behind it; that is all that is asked of one."""
    bundle = Opened(replace(SOUND, builder=BETA).to_statement(), frozenset({IDENTITY}))
    assert check_provenance(bundle, policy, {"initrd": INITRD}).builder == BETA
    forged = Opened(SOUND.to_statement(), frozenset({IDENTITY}))
    with pytest.raises(ProvenanceRefused) as refused:
        check_provenance(forged, policy, {})
    assert refused.value.check == "provenance.signature"


def test_a_real_bundle_is_held_against_its_builder() -> None:
    """GitHub's SLSA provenance of a release: its builder is an identity, its source a repository, its artifact a wheel."""
    pytest.importorskip("sigstore", reason="sigstore is not installed")
    data = (Path(__file__).parent / "data" / "pypi-attestations-0.0.19.slsa.sigstore.json").read_bytes()
    repository = "https://github.com/trailofbits/pypi-attestations"
    workflow = f"{repository}/.github/workflows/release.yml@refs/tags/v0.0.19"
    entry = f"""
[builders."{workflow}"]
identities = [{{ identity = "{workflow}", issuer = "https://token.actions.githubusercontent.com" }}]
build_types = ["https://actions.github.io/buildtypes/workflow/v1"]
sources = ["git+{repository}@*"]
"""
    policy = parse_builders(entry.encode(), lambda _: b"")
    wheel = "9bb1add04b1b4e182be6b0b80931593f7a291eb49d69b4fd728a5d4cbcdc4bd3"
    bundle = open_signed(data, policy)
    assert check_provenance(bundle, policy, {"wheel": wheel}).builder == workflow
    for change, check in (
        (("@*", "@refs/heads/*"), "source"),
        (("workflow/v1", "workflow/v2"), "build-type"),
    ):
        other = parse_builders(entry.replace(*change).encode(), lambda _: b"")
        with pytest.raises(ProvenanceRefused) as refused:
            check_provenance(open_signed(data, other), other, {})
        assert refused.value.check == f"provenance.{check}"
    with pytest.raises(SignatureRefused):
        open_signed(data, parse_builders(entry.replace("v0.0.19", "v0.0.18").encode(), lambda _: b""))


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"builder": "urn:acme:builder:gamma"}, "provenance.builder"),
        ({"builder": BETA}, "provenance.signature"),
        ({"build_type": "https://example.test/other"}, "provenance.build-type"),
        (
            {"dependencies": (Dependency("https://example.test/x", "x", (("sha256", "3" * 64),)),)},
            "provenance.source",
        ),
        ({"dependencies": (Dependency("file:init", "source/init", ()),)}, "provenance.source"),
        ({"outputs": (Artifact.of("kernel", b"kernel"),)}, "provenance.subject"),
        ({"outputs": (Artifact.of("initrd", b"other"),)}, "provenance.subject"),
    ],
)
def test_each_failure_has_its_own_reason(
    policy: BuilderPolicy, keys: tuple[PrivateKey, ...], change: dict[str, Any], check: str
) -> None:
    """An unknown builder, another's signature, type, source, a source without digest, another artifact."""
    with pytest.raises(ProvenanceRefused) as refused:
        check_provenance(opened(replace(SOUND, **change), keys[0], policy), policy, {"initrd": INITRD})
    assert refused.value.check == check
    assert refused.value.hint


def test_an_unsigned_or_strangers_provenance_is_refused(
    policy: BuilderPolicy, keys: tuple[PrivateKey, ...]
) -> None:
    """Nobody's signature, and that of a key that nobody configured."""
    for signers in ([], [keys[2]]):
        with pytest.raises(ProvenanceRefused) as refused:
            check_provenance(open_signed(seal(SOUND.to_statement(), signers), policy), policy, {})
        assert refused.value.check == "provenance.signature"


def test_another_statement_is_no_provenance(policy: BuilderPolicy) -> None:
    """Whatever signs it."""
    other = Statement((Artifact.of("x", b"x"),), "urn:other", {})
    with pytest.raises(StatementError, match="urn:other"):
        check_provenance(Opened(other, frozenset()), policy, {})


def test_others_provenance_is_read(policy: BuilderPolicy) -> None:
    """SLSA's own fields are enough; more are not looked at, and there is no build file of ours in it."""
    predicate = {
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": {"ref": "refs/heads/main"}},
            "resolvedDependencies": [
                {"uri": "git+https://example.test/repo@refs/heads/main", "digest": {"gitCommit": "0" * 40}}
            ],
            "more": 1,
        },
        "runDetails": {"builder": {"id": "https://example.test/runner"}, "metadata": {"invocationId": "1"}},
    }
    artifact = Artifact.of("x", b"x")
    found = Provenance.from_statement(Statement((artifact,), "https://slsa.dev/provenance/v1", predicate))
    assert (found.builder, found.dependencies[0].digests) == (
        "https://example.test/runner",
        (("gitCommit", "0" * 40),),
    )
    with pytest.raises(StatementError, match="has a build file"):
        found.build_file()


@pytest.mark.parametrize(
    "external",
    [
        {},
        {"buildFile": 1},
        {"buildFile": "other\n", "sha256": sha256(TEXT).hexdigest()},
        {"buildFile": "\ud800"},
    ],
)
def test_a_build_file_is_the_one_that_is_named(external: dict[str, Any]) -> None:
    """Without one, or with another than its digest says, there is nothing to rebuild."""
    with pytest.raises(StatementError):
        replace(SOUND, external=external).build_file()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (configuration() + b"[surprise]\n", "surprise"),
        (configuration(beta="gamma"), "'gamma', which is not in"),
        (configuration(beta="alpha"), "speaks for"),
        (configuration(sources="[]"), "at least 1 item"),
        (configuration().replace(b'keys = ["alpha"]', b"keys = []"), "neither keys nor identities"),
        (b"a =", "cannot be used"),
        (b"\xff", "cannot be used"),
        (b"a = " + b"[" * 100_000, "cannot be used"),
        (b" " * (1 << 21), "more than"),
    ],
)
def test_an_unsound_configuration_is_refused(keys: tuple[PrivateKey, ...], data: bytes, reason: str) -> None:
    """Nothing is guessed, and one key never speaks for two builders."""
    pems = {"alpha.pub": public_pem(keys[0].public_key()), "beta.pub": public_pem(keys[1].public_key())}
    with pytest.raises(ConfigurationError, match=reason):
        parse_builders(data, pems.__getitem__)


def by(builder: str, **outputs: bytes) -> Provenance:
    made = tuple(Artifact.of(name, content) for name, content in outputs.items())
    return replace(SOUND, builder=builder, outputs=made)


def test_builders_that_made_the_same_agree() -> None:
    """At the threshold, and each counted once."""
    agreement = compare([by(ALPHA, initrd=b"1", kernel=b"2"), by(BETA, initrd=b"1", kernel=b"2")], 2)
    assert agreement.require() == {
        "initrd": sha256(b"1").hexdigest(),
        "kernel": sha256(b"2").hexdigest(),
    }
    assert agreement.to_json()["agreed"] is True
    alone = compare([by(ALPHA, initrd=b"1"), by(ALPHA, initrd=b"1")], 2)
    with pytest.raises(ProvenanceRefused, match="1 independent builders") as refused:
        alone.require()
    assert refused.value.check == "provenance.threshold"


@pytest.mark.parametrize("dissent", [{"initrd": b"other", "kernel": b"2"}, {"kernel": b"2"}])
def test_who_disagrees_is_named_and_where(dissent: dict[str, bytes]) -> None:
    """However many agree, one who made something else, or nothing, is heard."""
    gamma = "urn:acme:builder:gamma"
    sound = {"initrd": b"1", "kernel": b"2"}
    agreement = compare([by(ALPHA, **sound), by(BETA, **sound), by(gamma, **dissent)], 2)
    with pytest.raises(ProvenanceRefused, match="disagree on initrd") as refused:
        agreement.require()
    assert refused.value.check == "provenance.agreement"
    assert f"{ALPHA}, {BETA} made {sha256(b'1').hexdigest()}; {gamma} made" in str(refused.value)
    assert agreement.to_json()["agreed"] is False


def test_a_builder_that_contradicts_itself_is_a_disagreement() -> None:
    """Two builds of one builder that differ are not reproducible either."""
    with pytest.raises(ProvenanceRefused, match="disagree"):
        compare([by(ALPHA, initrd=b"1"), by(BETA, initrd=b"1"), by(BETA, initrd=b"2")], 2).require()


def test_builds_of_different_files_are_not_compared() -> None:
    """They may agree by chance, and it would say nothing."""
    other = {"buildFile": "format = 2\n", "sha256": sha256(b"format = 2\n").hexdigest()}
    with pytest.raises(ProvenanceRefused) as refused:
        compare([SOUND, replace(SOUND, builder=BETA, external=other)], 2)
    assert refused.value.check == "provenance.same-build"


def test_keys_are_known_by_what_they_are(policy: BuilderPolicy, keys: tuple[PrivateKey, ...]) -> None:
    """A builder's signers are the ids of its keys and its identities."""
    assert policy.builders[BETA].signers == {key_id(keys[1].public_key()), IDENTITY}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
_FIELDS = st.sampled_from(
    [
        "buildDefinition",
        "buildType",
        "externalParameters",
        "resolvedDependencies",
        "runDetails",
        "builder",
        "id",
    ]
)


@given(st.recursive(_JSON, lambda inner: st.dictionaries(_FIELDS, inner, max_size=4), max_leaves=20))
def test_any_predicate_gives_provenance_or_the_error(predicate: Any) -> None:
    """Reading is total."""
    fields = predicate if isinstance(predicate, dict) else {}
    statement = Statement((Artifact.of("x", b"x"),), "https://slsa.dev/provenance/v1", fields)
    with suppress(StatementError):
        Provenance.from_statement(statement)


@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: configuration() + text.encode(errors="replace"))
)
def test_any_bytes_give_builders_or_the_error(data: bytes) -> None:
    """Reading is total."""

    def read(name: str) -> bytes:
        del name
        return b""

    with suppress(ConfigurationError):
        parse_builders(data, read)
