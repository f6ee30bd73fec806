# SPDX-License-Identifier: Apache-2.0
"""AMD's key distribution service in software: its certificates verify the machines' reports, and no others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from cryptography import x509

from eaa.rats import Endorsement, Endorsements
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.snp_traits import TCBS
from eaa.simulator.timeline import Platform, Timeline, Trouble
from eaa.simulator.vendor_http import VendorService, VendorTransport
from eaa.tee.snp.certificates import read_endorsement_key
from eaa.tee.snp.evidence import make_evidence
from eaa.tee.snp.product import Product, Tcb
from eaa.verifier import Verifier

if TYPE_CHECKING:
    from eaa.simulator import ChipMaker

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PRODUCTS = (Product.GENOA, Product.TURIN)


@pytest.fixture(scope="module")
def amd() -> AmdChipMaker:
    return AmdChipMaker.create(NOW)


class Kds:
    """The service, its time, and a client."""

    def __init__(self, maker: ChipMaker, amd: AmdChipMaker | None, *troubles: Trouble) -> None:
        self.at = NOW
        timeline = Timeline(machines=(Platform("a"), Platform("b")), troubles=troubles)
        self.service = VendorService(maker, timeline, lambda: self.at, amd=amd)

    async def get(self, path: str, **query: Any) -> httpx2.Response:
        async with httpx2.AsyncClient(
            transport=VendorTransport(self.service), base_url="https://kds.invalid"
        ) as client:
            return await client.get(path, params=query)


def query_of(tcb: Tcb) -> dict[str, str]:
    """Write a TCB as clients of KDS do: two digits each."""
    parts = {
        "fmcSPL": tcb.fmc,
        "blSPL": tcb.bootloader,
        "teeSPL": tcb.tee,
        "snpSPL": tcb.snp,
        "ucodeSPL": tcb.microcode,
    }
    return {name: f"{level:02}" for name, level in parts.items() if level is not None}


@pytest.mark.parametrize("product", PRODUCTS)
async def test_what_it_serves_verifies_a_report(
    maker: ChipMaker, amd: AmdChipMaker, product: Product
) -> None:
    kds, machine = Kds(maker, amd), amd.machine("b", product)
    base = f"/vcek/v1/{product}"
    vcek = await kds.get(f"{base}/{machine.chip_id.hex()}", **query_of(machine.tcb))
    chain, crl = await kds.get(f"{base}/cert_chain"), await kds.get(f"{base}/crl")
    assert {each.status_code for each in (vcek, chain, crl)} == {200}
    endorsements = Endorsements(
        (
            Endorsement("snp_vcek", vcek.content),
            Endorsement("snp_chain", chain.content),
            Endorsement("snp_crl", crl.content),
        )
    )
    evidence = make_evidence(machine.report(b"challenge"), ())
    report_data = b"challenge".ljust(64, b"\0")
    verifier = Verifier((amd.trust_anchor(product),))
    accepted = verifier.verify(evidence, endorsements, at=NOW, report_data=report_data).accept()
    assert accepted.values["product"] == product.value
    # The CRL lasts a year from the day, and is looked at.
    later = verifier.verify(evidence, endorsements, at=NOW + 366 * DAY, report_data=report_data)
    assert "snp.crl.dates" in {check.id for check in later.failing}


async def test_a_vcek_is_that_of_its_tcb(maker: ChipMaker, amd: AmdChipMaker) -> None:
    kds = Kds(maker, amd)
    behind = amd.machine("a", Product.GENOA, faults=["below-minimum"])
    path = f"/vcek/v1/Genoa/{behind.chip_id.hex()}"
    old, now = [
        read_endorsement_key((await kds.get(path, **query_of(tcb))).content).public_key
        for tcb in (behind.tcb, TCBS[Product.GENOA])
    ]
    assert behind.tcb != TCBS[Product.GENOA]
    assert (old == behind.key.public_key(), now == behind.key.public_key()) == (True, False)
    ahead = TCBS[Product.GENOA]._replace(snp=0xFF)
    assert (await kds.get(path, **query_of(ahead))).status_code == 404


async def test_vlek_has_a_chain_of_its_own(maker: ChipMaker, amd: AmdChipMaker) -> None:
    kds = Kds(maker, amd)
    chips, clouds = [
        x509.load_pem_x509_certificates((await kds.get(f"/{key}/v1/Genoa/cert_chain")).content)
        for key in ("vcek", "vlek")
    ]
    assert chips[1] == clouds[1] == amd.authority(Product.GENOA, "ark").certificate
    assert chips[0] != clouds[0]
    for each in (chips[0], clouds[0]):
        each.verify_directly_issued_by(chips[1])
    assert (await kds.get("/vlek/v1/Genoa/crl")).content == (await kds.get("/vcek/v1/Genoa/crl")).content


async def test_crls_are_issued_anew_each_day_and_stay_the_same_in_between(
    maker: ChipMaker, amd: AmdChipMaker
) -> None:
    kds = Kds(maker, amd)
    seen = []
    for after in (0 * DAY, 0.5 * DAY, DAY):
        kds.at = NOW + after
        seen.append((await kds.get("/vcek/v1/Genoa/crl")).content)
    assert (seen[0] == seen[1], seen[1] == seen[2]) == (True, False)
    assert x509.load_der_x509_crl(seen[2]).last_update_utc == NOW + DAY


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/vcek/v1/Rome/cert_chain", {}, 404),
        ("/vcek/v1/genoa/crl", {}, 404),
        ("/vcek/v1/Genoa/00", {}, 400),
        (f"/vcek/v1/Turin/{'00' * 64}", {}, 400),
        (f"/vcek/v1/Genoa/{'00' * 64}", {"blSPL": "x"}, 400),
        (f"/vcek/v1/Genoa/{'00' * 64}", {"blSPL": "256"}, 400),
        (f"/vcek/v1/Genoa/{'00' * 64}", {"blSPL": "01"}, 404),
        (f"/vlek/v1/Genoa/{'00' * 64}", {}, 404),
    ],
)
async def test_refuses(
    maker: ChipMaker, amd: AmdChipMaker, path: str, query: dict[str, str], status: int
) -> None:
    assert (await Kds(maker, amd).get(path, **query)).status_code == status


async def test_without_a_maker_of_chips_it_knows_nothing(maker: ChipMaker) -> None:
    assert (await Kds(maker, None).get("/vcek/v1/Genoa/crl")).status_code == 404


async def test_a_budget_is_of_its_paths(maker: ChipMaker, amd: AmdChipMaker) -> None:
    kds = Kds(maker, amd, Trouble("budget", NOW, NOW + DAY, "/vcek/*", requests=1, seconds=10))
    assert (await kds.get("/vcek/v1/Genoa/crl")).status_code == 200
    refused = await kds.get("/vcek/v1/Genoa/cert_chain")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert (await kds.get("/sgx/certification/v4/qe/identity")).status_code == 200
    kds.at += timedelta(seconds=10)
    assert (await kds.get("/vcek/v1/Genoa/cert_chain")).status_code == 200


async def test_an_impostor_has_other_keys(maker: ChipMaker, amd: AmdChipMaker) -> None:
    kds = Kds(maker, amd, Trouble("impostor", NOW, NOW + DAY))
    machine = amd.machine("a", Product.GENOA)
    chain = x509.load_pem_x509_certificates((await kds.get("/vcek/v1/Genoa/cert_chain")).content)
    assert chain[1].subject == amd.authority(Product.GENOA, "ark").certificate.subject
    assert chain[1].public_key() != amd.authority(Product.GENOA, "ark").certificate.public_key()
    vcek = await kds.get(f"/vcek/v1/Genoa/{machine.chip_id.hex()}", **query_of(machine.tcb))
    assert vcek.status_code == 200
