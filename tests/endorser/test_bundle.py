# SPDX-License-Identifier: Apache-2.0
"""Snapshots for sites without a network: signed as a whole, proven piece by piece."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa._keys import new_key
from eaa.endorser.bundle import open_bundle, read_private_key, read_public_key, seal_bundle
from eaa.endorser.client_tool import is_tool_file, read_tool_file
from eaa.endorser.store import Store
from eaa.rats import ConfigurationError, EndorsementError, Endorsements
from eaa.simulator import ChipMaker
from eaa.tee.dcap.signed_json import read_signed_object

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PRIVATE, PUBLIC = new_key()
MAKER = ChipMaker.create(NOW)


async def test_bundle_carries_a_store_to_another(store: Store, maker: ChipMaker, tmp_path: Path) -> None:
    await store.put(maker.collateral("tdx", NOW))
    early = Endorsements(maker.collateral("tdx", NOW, evaluation=19).of_kind("tcb_info"))
    await store.put(early, slot="early")
    data = seal_bundle(store.snapshot(), read_private_key(PRIVATE), made=NOW, as_of=NOW)
    assert data == seal_bundle(store.snapshot(), read_private_key(PRIVATE), made=NOW, as_of=NOW)
    bundle = open_bundle(data + b"\n", read_public_key(PUBLIC))
    assert (bundle.made, bundle.as_of) == (NOW, NOW)
    async with await Store.open(tmp_path / "other", store.anchors) as other:
        for slot, endorsements in bundle.slots.items():
            await other.put(endorsements, slot=slot, source="bundle")
        ours, theirs = store.snapshot().slots, other.snapshot().slots
        assert {place: each.endorsement for place, each in theirs.items()} == {
            place: each.endorsement for place, each in ours.items()
        }


async def test_slots_of_every_kind_travel(worlds: Any) -> None:
    world = worlds()
    store, _ = await world.replica(wanted=())
    for slot in ("standard", "early", "#18", "v3"):
        await store.put(world.maker.collateral("sgx", NOW), slot=slot)
    sealed = seal_bundle(store.snapshot(), read_private_key(PRIVATE), made=NOW, as_of=NOW)
    found = open_bundle(sealed, read_public_key(PUBLIC)).slots
    assert {slot: len(each.items) for slot, each in found.items()} == {
        "standard": 4,
        "early": 2,
        "#18": 2,
        "v3": 2,
    }


async def test_bundle_of_another_key_or_content_is_refused(store: Store, maker: ChipMaker) -> None:
    await store.put(maker.collateral("tdx", NOW))
    data = seal_bundle(store.snapshot(), read_private_key(PRIVATE), made=NOW, as_of=NOW)
    with pytest.raises(EndorsementError, match="not signed by the key") as caught:
        open_bundle(data, read_public_key(new_key()[1]))
    assert caught.value.hint
    header, payload, signature = data.split(b".")
    for wrong in (
        b".".join((header, payload[:-8] + b"AAAAAAAA", signature)),
        b".".join((header, payload, signature[:-2])),
        b".".join((header + b"A", payload, signature)),
        b"",
        b"..",
        payload,
    ):
        with pytest.raises(EndorsementError):
            open_bundle(wrong, read_public_key(PUBLIC))


@given(data=st.binary(max_size=200))
def test_any_bytes_are_no_bundle_and_no_tool_file(data: bytes) -> None:
    with pytest.raises(EndorsementError):
        open_bundle(data, read_public_key(PUBLIC))
    with pytest.raises(EndorsementError):
        read_tool_file(data)


def test_keys_are_ed25519_in_pem() -> None:
    for wrong in (b"", PUBLIC, b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(ConfigurationError):
            read_private_key(wrong)
    with pytest.raises(ConfigurationError):
        read_public_key(PRIVATE)
    private, public = new_key("p256")
    for read, pem in ((read_private_key, private), (read_public_key, public)):
        with pytest.raises(ConfigurationError, match="not an Ed25519"):
            read(pem)


def tool_file(maker: ChipMaker) -> dict[str, Any]:
    """What Intel's tool writes, with one family of platforms."""
    tdx, sgx = (maker.collateral(tee, NOW) for tee in ("tdx", "sgx"))
    processor = maker.collateral("sgx", NOW, ca="processor")
    early = maker.collateral("tdx", NOW, evaluation=19)

    def statement(of: Endorsements, kind: str) -> Any:
        return json.loads(of.of_kind(kind)[0].content)

    return {
        "platforms": [],
        "collaterals": {
            "version": 4,
            "pck_certs": [],
            "tcbinfos": [
                {
                    "fmspc": maker.machine().fmspc,
                    "sgx_tcbinfo": statement(sgx, "tcb_info"),
                    "tdx_tcbinfo": statement(tdx, "tcb_info"),
                    "tdx_tcbinfo_early": statement(early, "tcb_info"),
                }
            ],
            "pckcacrl": {
                "processorCrl": processor.of_kind("pck_crl")[0].content.hex(),
                "platformCrl": tdx.of_kind("pck_crl")[0].content.hex(),
            },
            "qeidentity": sgx.of_kind("qe_identity")[0].content.decode(),
            "tdqeidentity": tdx.of_kind("qe_identity")[0].content.decode(),
            "certificates": {
                "SGX-PCK-Certificate-Issuer-Chain": {
                    "PROCESSOR": quote(processor.of_kind("pck_crl")[0].issuer_chain),
                    "PLATFORM": quote(tdx.of_kind("pck_crl")[0].issuer_chain),
                },
                "TCB-Info-Issuer-Chain": quote(tdx.items[0].issuer_chain),
                "SGX-Enclave-Identity-Issuer-Chain": quote(tdx.items[0].issuer_chain),
            },
            "rootcacrl": tdx.of_kind("root_ca_crl")[0].content.hex(),
        },
    }


async def test_file_of_intels_tool_is_taken_in(store: Store, maker: ChipMaker) -> None:
    data = json.dumps(tool_file(maker), indent=4).encode()
    assert is_tool_file(data)
    found = read_tool_file(data)
    assert {slot: len(each.items) for slot, each in found.items()} == {"standard": 7, "early": 1}
    for slot, endorsements in found.items():
        await store.put(endorsements, slot=slot)
    for tee in ("tdx", "sgx"):
        held = [each.endorsement for each in store.snapshot().stored.values()]
        for expected in maker.collateral(tee, NOW).items:
            same = [each for each in held if each.content == expected.content]
            assert same, expected.kind
    (key,) = (key for key in store.snapshot().stored if key.startswith("tcb_info") and "/tdx/" in key)
    found_early = store.snapshot().early(key)
    assert found_early is not None
    assert found_early.subject.evaluation_number == 19
    assert read_signed_object(found_early.endorsement.content, "tcbInfo").value["id"] == "TDX"


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("certificates"),
        lambda c: c.update(tcbinfos=7),
        lambda c: c.update(tcbinfos=[{"sgx_tcbinfo": {"tcbInfo": 1}}]),
        lambda c: c.update(pckcacrl={"processorCrl": "zz"}),
        lambda c: c.update(qeidentity="{"),
        lambda c: c.update(
            certificates={}, tcbinfos=[], pckcacrl={}, rootcacrl="", qeidentity="", tdqeidentity=""
        ),
    ],
)
def test_malformed_tool_file_is_refused_by_name(change: Any) -> None:
    document = tool_file(MAKER)
    change(document["collaterals"])
    with pytest.raises(EndorsementError, match=r"^given"):
        read_tool_file(json.dumps(document).encode(), "given")


async def test_altered_statement_in_a_tool_file_is_refused_by_its_signature(
    store: Store, maker: ChipMaker
) -> None:
    document = tool_file(maker)
    document["collaterals"]["tcbinfos"][0]["tdx_tcbinfo"]["tcbInfo"]["tcbEvaluationDataNumber"] += 1
    found = read_tool_file(json.dumps(document).encode())
    with pytest.raises(EndorsementError, match="signature"):
        await store.put(found["standard"])
    assert not store.snapshot().stored


async def test_as_of_a_day_can_be_exported(store: Store, maker: ChipMaker) -> None:
    for day in range(3):
        await store.put(maker.collateral("tdx", NOW + timedelta(days=day)))
    past = await store.snapshot_at(NOW)
    bundle = open_bundle(
        seal_bundle(past, read_private_key(PRIVATE), made=NOW, as_of=NOW), read_public_key(PUBLIC)
    )
    # Collateral is issued a day before it is asked for.
    assert set(maker.collateral("tdx", NOW + timedelta(days=1)).items) == set(bundle.slots["standard"].items)
