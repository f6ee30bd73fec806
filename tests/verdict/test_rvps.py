# SPDX-License-Identifier: Apache-2.0
"""Clients of Trustee's RVPS: they query what active sets allow, and what they register waits until somebody signs it."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa._keys import new_key, read_private_key
from eaa._proto import reference_pb2, reference_pb2_grpc
from eaa.rats import ConfigurationError, InputError
from eaa.rim.rvps import Message, write_message
from eaa.tee.registry import kinds
from eaa.verdict import rvps
from eaa.verdict.corim import corim_of, signed_corim_of
from eaa.verdict.envelope import countersign, seal
from eaa.verdict.errors import SignatureRefused
from eaa.verdict.rvps_grpc import serve_rvps
from eaa.verdict.service import ReferenceSets
from eaa.verdict.signers import SignerPolicy, Signers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from eaa._keys import PrivateKey
    from eaa.verdict.reference_set import ReferenceSet

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
VALUES = {"mr_td": ["ab" * 48], "rtmr_1": ["01" * 48, "02" * 48]}


def sample(values: Any) -> str:
    return write_message(Message("sample", json.dumps(values).encode())).decode()


def new_signer() -> PrivateKey:
    return read_private_key(new_key()[0])


def signed(envelope: bytes) -> str:
    return json.dumps({"version": "0.1.0", "type": "dsse", "payload": b64encode(envelope).decode()})


@pytest.fixture
async def sets(tmp_path: Path, keys: tuple[PrivateKey, ...]) -> AsyncIterator[ReferenceSets]:
    """An empty database; two keys sign acme's products together, and one signs what was registered."""
    public = {str(n): key.public_key() for n, key in enumerate(keys)}
    policy = SignerPolicy((Signers("acme/*", public, 2), Signers("rvps/*", public, 1)))
    async with await ReferenceSets.open(
        f"sqlite:///{tmp_path / 'verdict.db'}", signers=lambda: policy, clock=lambda: AT
    ) as opened:
        yield opened


async def test_a_registration_counts_once_it_is_signed(
    sets: ReferenceSets, keys: tuple[PrivateKey, ...]
) -> None:
    registered = await rvps.register(sets, sample(VALUES), who="rvps", at=AT)
    assert (registered["product"], registered["version"], registered["tee"]) == (rvps.PRODUCT, 1, "tdx")
    assert registered["state"] == "proposed"
    assert await rvps.query(sets, "rtmr_1", AT) is None
    with pytest.raises(SignatureRefused):
        await sets.change(registered["digest"], "activate", who="owner")
    envelope = countersign(await sets.envelope(registered["digest"]), keys[0])
    await sets.propose(envelope, who="owner")
    await sets.change(registered["digest"], "activate", who="owner")
    assert json.loads(await rvps.query(sets, "rtmr_1", AT) or "") == VALUES["rtmr_1"]
    assert await rvps.query(sets, "rtmr_3", AT) is None


async def test_the_same_registration_twice_is_one(sets: ReferenceSets) -> None:
    first = await rvps.register(sets, sample(VALUES), who="rvps", at=AT)
    later = AT.replace(hour=13)
    assert (await rvps.register(sets, sample(VALUES), who="rvps", at=later))["digest"] == first["digest"]
    other = await rvps.register(sets, sample({"mr_td": "cd" * 48}), who="rvps", at=later)
    assert other["version"] == 2


async def test_a_signed_registration_is_active_at_once(
    sets: ReferenceSets, keys: tuple[PrivateKey, ...], reference_set: ReferenceSet
) -> None:
    statement = replace(reference_set, supersedes=None).to_statement()
    half = await rvps.register(sets, signed(seal(statement, keys[:1])), who="rvps", at=AT)
    assert half["state"] == "proposed"
    whole = await rvps.register(sets, signed(seal(statement, keys[:2])), who="rvps", at=AT)
    assert (whole["state"], whole["digest"]) == ("active", half["digest"])
    with pytest.raises(SignatureRefused):
        await rvps.register(
            sets, signed(seal(replace(reference_set, version=9).to_statement(), [])), who="x", at=AT
        )


async def test_a_corim_of_a_signer_is_active_at_once_and_one_of_another_waits(
    sets: ReferenceSets, keys: tuple[PrivateKey, ...], reference_set: ReferenceSet
) -> None:
    mine = replace(reference_set, product="rvps/web", supersedes=None)
    for key, version, state in ((keys[0], 3, "active"), (new_signer(), 4, "proposed")):
        corim = signed_corim_of(replace(mine, version=version), key)
        message = write_message(Message("corim", corim)).decode()
        assert (await rvps.register(sets, message, who="rvps", at=AT))["state"] == state
    for_two = write_message(Message("corim", signed_corim_of(reference_set, keys[0]))).decode()
    assert (await rvps.register(sets, for_two, who="rvps", at=AT))["state"] == "proposed"


async def test_nobody_takes_a_version_by_registering_first(
    sets: ReferenceSets, keys: tuple[PrivateKey, ...], reference_set: ReferenceSet
) -> None:
    """An unsigned registration of a product's next version gives way to the set that the product's signers sign."""
    mine = replace(reference_set, note="not theirs")
    message = write_message(Message("corim", corim_of(mine))).decode()
    squatting = await rvps.register(sets, message, who="mallory", at=AT)
    assert (squatting["product"], squatting["version"]) == ("acme/web", 3)
    proposed = await sets.propose(seal(reference_set.to_statement(), keys[:2]), who="owner")
    assert [each["digest"] for each in await sets.listed()] == [proposed["digest"]]
    with pytest.raises(Exception, match="another set acme/web@3"):
        await rvps.register(sets, message, who="mallory", at=AT)


async def test_nobody_uses_up_the_versions_of_what_names_no_product(
    sets: ReferenceSets, reference_set: ReferenceSet
) -> None:
    last = replace(reference_set, product=rvps.PRODUCT, version=2**53 - 1)
    message = write_message(Message("corim", corim_of(last))).decode()
    with pytest.raises(InputError, match="names no product"):
        await rvps.register(sets, message, who="mallory", at=AT)
    assert (await rvps.register(sets, sample(VALUES), who="rvps", at=AT))["version"] == 1


async def test_not_too_many_wait(sets: ReferenceSets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rvps, "MAX_WAITING", 2)
    for n in range(2):
        await rvps.register(sets, sample({"mr_td": f"{n:02x}" * 48}), who="rvps", at=AT)
    with pytest.raises(InputError, match="wait for a signature"):
        await rvps.register(sets, sample(VALUES), who="rvps", at=AT)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{}",
        "[]",
        sample({}),
        sample({"nobody's register": "ab"}),
        sample({"mr_td": "no hex"}),
        '{"type":"dsse"}',
        '{"type":"dsse","payload":"e30="}',
        '{"type":"dsse","payload":7}',
        '{"type":"sample","payload":"!"}',
    ],
)
async def test_what_is_no_registration_is_refused(sets: ReferenceSets, message: str) -> None:
    with pytest.raises(InputError):
        await rvps.register(sets, message, who="rvps", at=AT)
    assert await sets.listed() == []


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4))
def test_any_names_are_of_a_tee_or_refused(values: dict[str, str]) -> None:
    named = values or {"x": ""}
    if any(named.keys() & kind.registers.keys() for kind in kinds().values()):
        assert rvps._tee_of(named) in kinds()
    else:
        with pytest.raises(InputError):
            rvps._tee_of(named)


async def test_over_grpc(
    sets: ReferenceSets, keys: tuple[PrivateKey, ...], reference_set: ReferenceSet
) -> None:
    server, address = await serve_rvps(sets, "127.0.0.1:0", clock=lambda: AT)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = reference_pb2_grpc.ReferenceValueProviderServiceStub(channel)
            message = signed(seal(reference_set.to_statement(), keys[:2]))
            await stub.RegisterReferenceValue(reference_pb2.ReferenceValueRegisterRequest(message=message))
            got = await stub.QueryReferenceValue(
                reference_pb2.ReferenceValueQueryRequest(reference_value_id="mr_td")
            )
            assert json.loads(got.reference_value_results) == ["ab" * 48]
            none = await stub.QueryReferenceValue(
                reference_pb2.ReferenceValueQueryRequest(reference_value_id="nothing")
            )
            assert not none.HasField("reference_value_results")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.RegisterReferenceValue(reference_pb2.ReferenceValueRegisterRequest(message="{}"))
            assert refused.value.code() is grpc.StatusCode.ABORTED
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:0", "example.org:1", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"]
)
async def test_it_listens_on_loopback_alone(sets: ReferenceSets, address: str) -> None:
    with pytest.raises(ConfigurationError):
        await serve_rvps(sets, address, clock=lambda: AT)
