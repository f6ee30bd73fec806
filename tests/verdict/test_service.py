# SPDX-License-Identifier: Apache-2.0
"""Signed sets from proposed to active and away: what is refused, what makes room, what is written down, what a crash leaves."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from eaa._keys import key_id
from eaa.rats import ConfigurationError, EaaError, InputError, NotFound
from eaa.storage.connections import open_connections
from eaa.verdict import store
from eaa.verdict.envelope import seal
from eaa.verdict.errors import SignatureRefused
from eaa.verdict.lifecycle import SetRefused
from eaa.verdict.schema import sets
from eaa.verdict.service import ReferenceSets
from eaa.verdict.statement import Statement

from .desk import AT, Desk

if TYPE_CHECKING:
    from eaa._keys import PrivateKey
    from eaa.verdict.reference_set import ReferenceSet
    from eaa.verdict.signers import SignerPolicy

pytestmark = pytest.mark.anyio

CRASH = Path(__file__).with_name("crash.py")


async def test_a_proposal_admits_nobody_until_it_is_activated(desk: Desk) -> None:
    digest = await desk.propose(1)
    assert await desk.admitted() == []
    await desk.do("activate", digest)
    assert await desk.admitted() == [1]
    assert (await desk.sets.listed())[0] | {"signed_by": []} == {
        "digest": digest,
        "product": "acme/web",
        "version": 1,
        "tee": "tdx",
        "state": "active",
        "expires_at": "2027-03-16T12:00:00Z",
        "expired": False,
        "activated_at": "2026-11-23T12:00:00Z",
        "signed_by": [],
        "threshold": 1,
    }


@pytest.mark.parametrize("action", ["retire", "revoke"])
async def test_what_is_retired_or_revoked_admits_nobody(desk: Desk, action: str) -> None:
    digest = await desk.active(1)
    await desk.do(action, digest)
    assert await desk.admitted() == []


async def test_a_revoked_set_never_returns(desk: Desk) -> None:
    digest = await desk.active(1)
    await desk.do("revoke", digest)
    for action in ("activate", "rollback", "retire", "revoke"):
        with pytest.raises(SetRefused, match="never returns") as refused:
            await desk.do(action, digest)
        assert refused.value.check == "set.revoked"
    with pytest.raises(SetRefused, match="never returns"):
        await desk.propose(1)
    assert await desk.states() == {1: "revoked"}
    assert await desk.admitted() == []


async def test_a_replay_or_a_downgrade_is_refused(desk: Desk) -> None:
    first = await desk.active(2)
    await desk.do("retire", first)
    with pytest.raises(SetRefused, match="retired"):
        await desk.do("activate", first)
    older = await desk.propose(1)
    with pytest.raises(SetRefused, match="not newer than version 2") as refused:
        await desk.do("activate", older)
    assert refused.value.check == "set.downgraded"
    await desk.active(3)
    with pytest.raises(SetRefused, match="not newer than version 3"):
        await desk.do("activate", older)
    assert await desk.admitted() == [3]


async def test_two_sets_of_one_version_are_not_told_apart_by_luck(desk: Desk) -> None:
    await desk.propose(1)
    with pytest.raises(SetRefused, match="another set acme/web@1") as refused:
        await desk.propose(1, note="another")
    assert refused.value.check == "set.taken"


async def test_a_set_makes_room_by_what_it_supersedes(desk: Desk) -> None:
    await desk.active(1)
    await desk.active(2)
    assert await desk.admitted() == [1, 2]
    await desk.active(3, supersedes=1)
    assert await desk.states() == {1: "retired", 2: "active", 3: "active"}


async def test_a_set_retires_nothing_of_another_product(desk: Desk) -> None:
    """Not by what it supersedes, and not by a rollback."""
    older = await desk.active(3, product="acme/db")
    await desk.do("retire", older)
    await desk.active(1)
    await desk.active(4, product="acme/db", supersedes=1)
    await desk.active(5)
    await desk.do("rollback", older)
    listed = await desk.sets.listed("acme/web")
    assert [each["state"] for each in listed] == ["active", "active"]


async def test_an_envelope_in_anothers_place_admits_nobody(desk: Desk, url: str) -> None:
    """Whoever can write to the database makes no set of a signed one that is not active."""
    active = await desk.active(2)
    await desk.propose(3)
    connections = await open_connections(url)
    try:
        digest = desk.set(3).digest
        envelope = (await connections.read(store.one, digest)).envelope
        other = update(sets).where(sets.c.digest == active).values(envelope=envelope)
        await connections.write(lambda connection: connection.execute(other))
    finally:
        await connections.close()
    assert await desk.admitted() == []


async def test_a_rollback_is_explicit_and_retires_what_is_newer(desk: Desk) -> None:
    first = await desk.active(1)
    second = await desk.active(2, supersedes=1)
    await desk.do("rollback", first)
    assert await desk.states() == {1: "active", 2: "retired"}
    await desk.do("rollback", second)
    assert await desk.states() == {1: "active", 2: "active"}, "an older one stays beside it"
    await desk.do("revoke", first)
    with pytest.raises(SetRefused):
        await desk.do("rollback", first)


@pytest.mark.parametrize("action", ["activate", "rollback"])
async def test_an_expired_set_cannot_become_active(desk: Desk, action: str) -> None:
    digest = await desk.propose(1) if action == "activate" else await desk.active(1)
    if action == "rollback":
        await desk.do("retire", digest)
    desk.time = datetime(2027, 3, 16, 12, tzinfo=UTC)
    with pytest.raises(SignatureRefused) as refused:
        await desk.do(action, digest)
    assert refused.value.check == "set.expired"
    desk.time -= timedelta(seconds=1)
    await desk.do(action, digest)
    assert await desk.admitted() == [1]


async def test_an_active_set_admits_nobody_from_its_end_on(desk: Desk) -> None:
    await desk.active(1)
    desk.time = datetime(2027, 3, 16, 12, tzinfo=UTC)
    assert await desk.admitted() == []
    assert (await desk.sets.listed())[0]["expired"] is True


async def test_a_set_needs_its_products_signers(desk: Desk) -> None:
    with pytest.raises(SignatureRefused) as refused:
        await desk.propose(1, desk.keys[2])
    assert refused.value.check == "signature.foreign"
    with pytest.raises(SignatureRefused) as refused:
        await desk.sets.propose(seal(desk.set().to_statement(), []), who="mallory")
    assert refused.value.check == "signature.none"
    with pytest.raises(SignatureRefused) as refused:
        await desk.propose(1, product="other/web")
    assert refused.value.check == "signature.product"
    assert await desk.sets.listed() == []


async def test_a_threshold_is_reached_by_proposing_again_with_more_signatures(desk: Desk) -> None:
    desk.policy = desk.policy_of(desk.keys[:2], threshold=2)
    digest = await desk.propose(1, desk.keys[0])
    with pytest.raises(SignatureRefused) as refused:
        await desk.do("activate", digest)
    assert refused.value.check == "signature.threshold"
    assert await desk.propose(1, desk.keys[1]) == digest, "signers need not wait for each other"
    assert await desk.propose(1, desk.keys[0]) == digest, "fewer signatures take nothing away"
    assert len((await desk.sets.get(digest))["signed_by"]) == 2
    await desk.do("activate", digest)
    assert await desk.admitted() == [1]


async def test_a_signer_that_is_struck_off_admits_nobody_any_more(desk: Desk) -> None:
    await desk.active(1)
    assert await desk.admitted() == [1]
    desk.policy = desk.policy_of(desk.keys[1:2])
    assert await desk.admitted() == []


async def test_a_proposal_without_signatures_waits_for_them(desk: Desk) -> None:
    """What comes from where nobody can sign is kept, and signed before it counts."""
    statement = desk.set().to_statement()
    proposed = await desk.sets.propose(seal(statement, []), who="rvps", unsigned=True)
    with pytest.raises(SignatureRefused):
        await desk.do("activate", proposed["digest"])
    await desk.sets.propose(seal(statement, desk.keys[:1]), who="alice")
    await desk.do("activate", proposed["digest"])
    assert await desk.admitted() == [1]


async def test_everything_that_happened_is_written_down(desk: Desk) -> None:
    first = await desk.active(1)
    second = await desk.active(2, supersedes=1)
    await desk.do("revoke", second)
    told = [
        (each["action"], each["state"], each["who"], each["why"])
        for digest in (first, second)
        for each in (await desk.sets.get(digest))["history"]
    ]
    assert told == [
        ("propose", "proposed", "alice", "a release"),
        ("activate", "active", "bob", "because activate"),
        ("supersede", "retired", "bob", "activate acme/web@2"),
        ("propose", "proposed", "alice", "a release"),
        ("activate", "active", "bob", "because activate"),
        ("revoke", "revoked", "bob", "because revoke"),
    ]


async def test_a_preview_changes_nothing_and_refuses_alike(desk: Desk) -> None:
    await desk.active(1)
    digest = await desk.propose(2, supersedes=1)
    version = await desk.sets.state_version()
    after = await desk.sets.preview(digest, "activate")
    assert [each.version for each in after.sets] == [2]
    assert await desk.states() == {1: "active", 2: "proposed"}
    assert await desk.sets.state_version() == version
    assert await desk.admitted() == [1]
    with pytest.raises(SetRefused):
        await desk.sets.preview(digest, "retire")
    with pytest.raises(InputError):
        await desk.sets.preview(digest, "supersede")


async def test_where_a_value_came_from(desk: Desk) -> None:
    digest = await desk.active(1)
    await desk.propose(2)
    (found,) = await desk.sets.explain("01" * 48)
    assert found["digest"] == digest
    assert found["matched_registers"] == ["mr_td", "rtmr_0", "rtmr_1", "rtmr_2"]
    assert found["artifacts"][0]["name"] == "firmware"
    assert found["history"][-1]["who"] == "bob"
    assert len(found["signed_by"]) == 1
    for name in ("acme/web@2", "acme/web@9", "00" * 48, "", "a@b@c", "x" * 64):
        if name == "acme/web@2":
            assert (await desk.sets.explain(name))[0]["version"] == 2
            continue
        with pytest.raises(NotFound):
            await desk.sets.explain(name)
    assert (await desk.sets.explain(digest[:12]))[0]["digest"] == digest


@pytest.mark.parametrize("envelope", [b"", b"{}", b"[]", b'{"payloadType":"x"}', b"\xff" * 100])
async def test_what_is_no_set_is_refused(desk: Desk, envelope: bytes) -> None:
    with pytest.raises(EaaError):
        await desk.sets.propose(envelope, who="mallory")
    assert await desk.sets.listed() == []


async def test_of_two_activations_at_once_one_wins(desk: Desk, url: str) -> None:
    """Two processes activate two versions: afterwards either both are active in order, or the older one was refused."""
    older, newer = await desk.propose(1), await desk.propose(2)
    twin = await ReferenceSets.open(url, signers=lambda: desk.policy, clock=lambda: desk.time)
    try:
        done = await asyncio.gather(
            desk.sets.change(older, "activate", who="a"),
            twin.change(newer, "activate", who="b"),
            return_exceptions=True,
        )
    finally:
        await twin.close()
    assert isinstance(done[1], dict)
    assert isinstance(done[0], dict | SetRefused)
    assert (await desk.states())[2] == "active"


@pytest.mark.parametrize("statement", ["UPDATE verdict_sets", "INSERT INTO verdict_changes", "UPDATE state"])
async def test_a_kill_in_mid_activation_leaves_the_set_before_active(
    tmp_path: Path, keys: tuple[PrivateKey, ...], reference_set: ReferenceSet, statement: str
) -> None:
    """A process that gets SIGKILL between any two statements of an activation has changed nothing."""
    url = f"sqlite:///{tmp_path / 'verdict.db'}"
    desk = Desk(keys, reference_set)
    desk.sets = await ReferenceSets.open(url, signers=lambda: desk.policy, clock=lambda: desk.time)
    try:
        await desk.active(1)
        second = await desk.propose(2, supersedes=1)
    finally:
        await desk.sets.close()
    (tmp_path / "signer.pub").write_bytes(_public(keys[0]))
    command = [sys.executable, str(CRASH), url, str(tmp_path / "signer.pub"), second, statement]
    killed = await asyncio.to_thread(_run, command)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    desk.sets = await ReferenceSets.open(url, signers=lambda: desk.policy, clock=lambda: desk.time)
    try:
        assert await desk.states() == {1: "active", 2: "proposed"}
        assert await desk.admitted() == [1]
        await desk.do("activate", second)
        assert await desk.states() == {1: "retired", 2: "active"}
    finally:
        await desk.sets.close()


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def _public(key: PrivateKey) -> bytes:
    from eaa._keys import public_pem

    return public_pem(key.public_key())


async def test_provenance_is_kept_and_explained(desk: Desk) -> None:
    """What a set names of the builds is kept beside it; what it does not name is nobody's word."""
    built = Statement(
        desk.model.artifacts,
        "https://slsa.dev/provenance/v1",
        {
            "buildDefinition": {
                "buildType": "urn:x:build",
                "resolvedDependencies": [{"uri": "git+https://x/y"}],
            },
            "runDetails": {"builder": {"id": "urn:x:builder"}},
        },
    )
    envelope = seal(built, desk.keys[2:])
    named = desk.set(provenance=(sha256(envelope).hexdigest(),)).to_statement()
    sealed = seal(named, desk.keys[:1])
    with pytest.raises(InputError, match="does not name"):
        await desk.sets.propose(sealed, who="a", provenance=[seal(built, desk.keys[:1])])
    assert await desk.sets.listed() == []
    digest = (await desk.sets.propose(sealed, who="a"))["digest"]
    assert (await desk.sets.get(digest))["provenance"] == [{"digest": sha256(envelope).hexdigest()}]
    for _ in range(2):
        await desk.sets.propose(sealed, who="a", provenance=[envelope])
    (told,) = (await desk.sets.get(digest))["provenance"]
    assert b64decode(told["envelope"]) == envelope
    assert (told["builder"], told["build_type"]) == ("urn:x:builder", "urn:x:build")
    assert told["sources"] == [{"uri": "git+https://x/y"}]
    assert told["signed_by"] == [key_id(desk.keys[2].public_key())]


async def test_while_who_may_sign_cannot_be_read_nobody_counts(desk: Desk, url: str) -> None:
    await desk.active(1)
    broken: list[str] = []

    def signers() -> SignerPolicy:
        if broken:
            raise ConfigurationError("the signers' file cannot be used")
        return desk.policy

    async with await ReferenceSets.open(url, signers=signers, clock=lambda: AT) as sets:
        assert len((await sets.active()).sets) == 1
        broken.append("broken")
        assert (await sets.active()).sets == ()
        with pytest.raises(ConfigurationError):
            await sets.propose(seal(desk.set(2).to_statement(), desk.keys[:1]), who="a")
        (listed,) = await sets.listed()
        assert (listed["signed_by"], listed["threshold"]) == ([], 0)
        # What admits less needs no signature: it can be done at any time.
        assert (await sets.change(listed["digest"], "revoke", who="bob"))["state"] == "revoked"
    with pytest.raises(ConfigurationError):
        await ReferenceSets.open(url, signers=signers)
