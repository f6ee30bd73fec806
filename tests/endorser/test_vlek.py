# SPDX-License-Identifier: Apache-2.0
"""Reports that a cloud's VLEK signed: its chain and list come from KDS's paths for VLEKs, the certificate with the evidence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import httpx2
import pytest

from eaa.endorser.authenticity import anchor_id
from eaa.endorser.doctor import diagnose
from eaa.endorser.kds import KdsSource
from eaa.endorser.needs import Need
from eaa.endorser.platforms import Observer
from eaa.endorser.refresh import Refresher
from eaa.endorser.serve import create_app
from eaa.endorser.store import Store
from eaa.rats import Endorsement, Endorsements
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.snp_mint import mint_snp
from eaa.simulator.vendor_http import VendorService, VendorTransport
from eaa.tee.registry import parse_evidence
from eaa.tee.snp.product import Product
from eaa.verifier.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from eaa.simulator import ChipMaker

pytestmark = pytest.mark.anyio
NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def amd() -> AmdChipMaker:
    return AmdChipMaker.create(NOW)


def complete(endorsements: Endorsements) -> Endorsements:
    """Return them with the chain beside each key: only AMD's own authorities are known without."""
    (chain,) = endorsements.of_kind("snp_chain")
    return Endorsements(
        tuple(
            Endorsement(each.kind, each.content, chain.content)
            if each.kind in {"snp_vcek", "snp_vlek"}
            else each
            for each in endorsements.items
        )
    )


async def test_chain_and_list_are_fetched_and_the_certificate_is_imported(
    maker: ChipMaker, amd: AmdChipMaker, tmp_path: Path
) -> None:
    at, asked = NOW, []
    case = mint_snp(amd, b"x", at=NOW, signer="VLEK")
    root = amd.trust_anchor(Product.GENOA)

    async def note(request: httpx2.Request) -> None:
        asked.append(request.url.path)

    service = VendorService(maker, None, lambda: at, amd=amd)
    transport = VendorTransport(service)
    async with (
        await Store.open(tmp_path, (root,), clock=lambda: at) as store,
        httpx2.AsyncClient(transport=transport, event_hooks={"request": [note]}) as client,
    ):
        evidence = parse_evidence(case.report, tee="snp")
        assert await Observer(store, snp_roots={Product.GENOA: anchor_id(root)}).observe(evidence)
        refresher = Refresher(store, [KdsSource("https://kds.invalid", client)])
        await refresher.step()
        assert sorted(asked) == ["/vlek/v1/Genoa/cert_chain", "/vlek/v1/Genoa/crl"]
        health = {each.need.kind: each for each in (await diagnose(store)).objects}
        assert (health["snp_chain"].state, health["snp_crl"].state) == ("ok", "ok")
        assert health["snp_crl"].vital
        assert (health["snp_vlek"].state, health["snp_vlek"].vital) == ("missing", True)
        assert "cloud providers only" in health["snp_vlek"].remedy

        await store.put(Endorsements(complete(case.endorsements).of_kind("snp_vlek")))
        assert (await diagnose(store)).healthy
        found = store.endorsements_for(evidence)
        assert {each.kind for each in found.items} == {"snp_vlek", "snp_chain", "snp_crl"}
        Verifier((root,)).verify(evidence, found, at=at, report_data=case.report_data).accept()

        asked.clear()
        at += timedelta(days=1)
        await refresher.step()
        assert asked == ["/vlek/v1/Genoa/crl"], "the chain lasts for decades, the list may change any day"
        app = create_app(store, maker.trust_anchor())
        own = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=own, base_url="http://e.invalid") as browser:
            assert (await browser.get("/vlek/v1/Genoa/crl")).status_code == 200
            assert (await browser.get("/vcek/v1/Genoa/crl")).status_code == 404, "it was not asked for"
            assert (await browser.get("/vlek/v1/Genoa/cert_chain")).status_code == 200


async def test_list_of_vleks_speaks_of_vleks_and_the_other_of_chips(
    amd: AmdChipMaker, tmp_path: Path
) -> None:
    """AMD publishes two lists of one root: should they differ, a revocation in the one for VLEKs is not missed."""
    root = amd.trust_anchor(Product.GENOA)
    cloud = mint_snp(amd, b"x", at=NOW, signer="VLEK", faults=["revoked-ask"])
    chip = mint_snp(amd, b"x", at=NOW)
    async with await Store.open(tmp_path, (root,), clock=lambda: NOW) as store:
        await store.put(complete(chip.endorsements))
        rest = tuple(each for each in complete(cloud.endorsements).items if each.kind != "snp_crl")
        await store.put(Endorsements(rest))
        verifier = Verifier((root,))
        of_cloud = cloud.evidence()
        judged = verifier.verify(
            of_cloud, store.endorsements_for(of_cloud), at=NOW, report_data=cloud.report_data
        )
        assert judged.accepted, "a list that was imported without saying so serves both"
        await store.put(Endorsements(cloud.endorsements.of_kind("snp_crl")), slot="vlek")
        judged = verifier.verify(
            of_cloud, store.endorsements_for(of_cloud), at=NOW, report_data=cloud.report_data
        )
        assert not judged.accepted
        of_chip = chip.evidence()
        verifier.verify(
            of_chip, store.endorsements_for(of_chip), at=NOW, report_data=chip.report_data
        ).accept()


def test_vlek_certificates_are_asked_for_nowhere() -> None:
    source = KdsSource("https://kds.invalid", httpx2.AsyncClient())
    assert not source.offers(Need("snp_vlek", "root", "Genoa/*/00"))
    assert source.offers(Need("snp_crl", "root", "Genoa", "vlek"))
