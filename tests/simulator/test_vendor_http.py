# SPDX-License-Identifier: Apache-2.0
"""The chip maker's service: Intel's API as Intel documents it, and every event on its day but not the day before."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import dcap_qvl  # type: ignore[import-untyped] # it ships no types
import pytest
from cryptography import x509

from eaa.endorser.authenticity import Authenticator
from eaa.rats import NotFound, UnavailableError
from eaa.simulator.releases import releases
from eaa.simulator.timeline import (
    Platform,
    Publishing,
    Recovery,
    Revocation,
    Timeline,
    Trouble,
)
from eaa.simulator.vendor_http import VendorService
from eaa.tee.dcap.collateral import parse_tcb_info, read_signing_chain, require_signature
from eaa.tee.dcap.signed_json import read_signed_object
from eaa.tee.x509 import ChainReader

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from eaa.simulator import ChipMaker

pytestmark = pytest.mark.anyio
WorldOf = Callable[..., Any]
DAY_0: Final = datetime(2026, 11, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
SECOND: Final = timedelta(seconds=1)
V3, V4, TDX = "/sgx/certification/v3", "/sgx/certification/v4", "/tdx/certification/v4"


def day(number: float) -> datetime:
    return DAY_0 + number * DAY


@pytest.fixture
def world(maker: ChipMaker, world_of: WorldOf) -> Any:
    return world_of(maker)


RECOVERY: Final = Recovery(19, early=day(5), standard=day(12), advisories=("INTEL-SA-09999",))


def fmspc(maker: ChipMaker, ca: str = "platform") -> str:
    return maker.fmspcs[ca].hex()


# The API.


@pytest.mark.parametrize(
    ("path", "member", "header"),
    [
        (f"{V4}/tcb?fmspc=EAA06F000000", "tcbInfo", "TCB-Info-Issuer-Chain"),
        (f"{V4}/tcb?fmspc=eaa06e000000&update=early", "tcbInfo", "TCB-Info-Issuer-Chain"),
        (f"{TDX}/tcb?fmspc=eaa06f000000&update=STANDARD", "tcbInfo", "TCB-Info-Issuer-Chain"),
        (f"{TDX}/tcb?fmspc=eaa06f000000&tcbEvaluationDataNumber=18", "tcbInfo", "TCB-Info-Issuer-Chain"),
        (f"{V3}/tcb?fmspc=eaa06f000000", "tcbInfo", "SGX-TCB-Info-Issuer-Chain"),
        (f"{V4}/qe/identity", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"),
        (f"{V3}/qe/identity", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"),
        (
            f"{TDX}/qe/identity?tcbEvaluationDataNumber=18",
            "enclaveIdentity",
            "SGX-Enclave-Identity-Issuer-Chain",
        ),
        (f"{V4}/qve/identity", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"),
        (
            f"{V4}/tcbevaluationdatanumbers",
            "tcbEvaluationDataNumbers",
            "TCB-Evaluation-Data-Numbers-Issuer-Chain",
        ),
        (
            f"{TDX}/tcbevaluationdatanumbers",
            "tcbEvaluationDataNumbers",
            "TCB-Evaluation-Data-Numbers-Issuer-Chain",
        ),
    ],
)
async def test_statements_come_signed_with_their_chain(
    world: Any, path: str, member: str, header: str
) -> None:
    response = await world.get(path)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert len(bytes.fromhex(response.headers["request-id"])) == 16
    chain = unquote_to_bytes(response.headers[header])
    signed = read_signed_object(response.content, member)
    require_signature(signed, read_signing_chain(chain, ChainReader((world.maker.trust_anchor(),), size=4)))


async def test_version_3_lists_components_one_by_one(world: Any) -> None:
    response = await world.get(f"{V3}/tcb?fmspc={fmspc(world.maker)}")
    tcb_info = parse_tcb_info(read_signed_object(response.content, "tcbInfo"))
    assert (tcb_info.version, tcb_info.id, len(tcb_info.levels)) == (2, "SGX", 4)
    assert bytes(tcb_info.levels[0].tcb.sgx_components) == world.maker.machine().identity.sgx_svns


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{V4}/tcb", 400),
        (f"{V4}/tcb?fmspc=00", 400),
        (f"{V4}/tcb?fmspc=eaa06f000000&update=never", 400),
        (f"{V4}/tcb?fmspc=eaa06f000000&update=early&tcbEvaluationDataNumber=18", 400),
        (f"{V4}/tcb?fmspc=eaa06f000000&tcbEvaluationDataNumber=x", 400),
        (f"{V3}/tcb?fmspc=eaa06f000000&tcbEvaluationDataNumber=18", 400),
        (f"{V4}/tcb?fmspc=00906ed50000", 404),
        (f"{TDX}/tcb?fmspc=eaa06e000000", 404),
        (f"{V4}/tcb?fmspc=eaa06f000000&tcbEvaluationDataNumber=19", 404),
        (f"{V4}/tcb?fmspc=eaa06f000000&tcbEvaluationDataNumber=17", 410),
        (f"{TDX}/qe/identity?tcbEvaluationDataNumber=17", 410),
        (f"{V4}/pckcrl", 400),
        (f"{V4}/pckcrl?ca=root", 400),
        (f"{V4}/pckcrl?ca=platform&encoding=xml", 400),
        (f"{V4}/fmspcs?platform=E9", 400),
        (f"{V4}/pckcert", 400),
        (f"{V4}/nothing", 404),
        ("/tdx/certification/v3/tcb?fmspc=eaa06f000000", 404),
    ],
)
async def test_refuses_as_documented(world: Any, path: str, status: int) -> None:
    assert (await world.get(path)).status_code == status


async def test_crls_come_in_each_encoding(world: Any) -> None:
    der = await world.get(f"{V4}/pckcrl?ca=processor&encoding=der")
    pem = await world.get(f"{V3}/pckcrl?ca=processor")
    assert (der.headers["content-type"], pem.headers["content-type"]) == (
        "application/pkix-crl",
        "application/x-pem-file",
    )
    assert x509.load_pem_x509_crl(pem.content) == x509.load_der_x509_crl(der.content)
    root = await world.get("/IntelSGXRootCA.der")
    assert bytes.fromhex((await world.get(f"{V4}/rootcacrl")).text) == root.content
    crl = x509.load_der_x509_crl(root.content)
    assert crl.next_update_utc == day(365)
    assert crl.is_signature_valid(world.maker.root_certificate.public_key())


async def test_lists_families_and_evaluation_numbers(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, Timeline(recoveries=(RECOVERY,)))
    everything = (await world.get(f"{V4}/fmspcs")).json()
    assert everything == [
        {"fmspc": "EAA06F000000", "platform": "E5"},
        {"fmspc": "EAA06E000000", "platform": "client"},
    ]
    assert (await world.get(f"{V4}/fmspcs?platform=E5")).json() == everything[:1]
    for now, expected in ((day(5) - SECOND, [18]), (day(5), [19, 18])):
        world.at = now
        listed = (await world.get(f"{TDX}/tcbevaluationdatanumbers")).json()["tcbEvaluationDataNumbers"]
        assert [each["tcbEvaluationDataNumber"] for each in listed["tcbEvalNumbers"]] == expected
    assert listed["tcbEvalNumbers"][0]["tcbRecoveryEventDate"] == "2026-11-06T00:00:00Z"


# PCK certificates.


async def test_pck_certificates_are_those_of_the_machine(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(
        maker, Timeline(machines=(Platform("a"), Platform("b", "processor")), recoveries=(RECOVERY,))
    )
    machine = maker.machine("b", ca="processor")
    ppid = f"encrypted_ppid={machine.encrypted_ppid.hex()}&pceid=0000"
    everything = (await world.get(f"{V4}/pckcerts?{ppid}")).json()
    assert [each["tcb"]["sgxtcbcomp01svn"] for each in everything] == [3, 3, 2, 1]
    one = await world.get(f"{V4}/pckcert?{ppid}&cpusvn={machine.identity.sgx_svns.hex()}&pcesvn=0d00")
    assert (
        one.content + unquote_to_bytes(one.headers["SGX-PCK-Certificate-Issuer-Chain"]) == machine.pck_chain
    )
    assert one.headers["SGX-FMSPC"] == machine.fmspc.upper()
    assert one.headers["SGX-PCK-Certificate-CA-Type"] == "processor"
    assert one.headers["SGX-TCBm"] == everything[0]["tcbm"]
    assert unquote_to_bytes(everything[0]["cert"]) == one.content
    # A platform that was patched before it was asked to gets the certificate of the level that is known.
    better = (await world.get(f"{V4}/pckcert?{ppid}&cpusvn={'ff' * 16}&pcesvn=0d00")).content
    assert better == one.content
    world.at = day(5)
    assert (await world.get(f"{V4}/pckcert?{ppid}&cpusvn={'ff' * 16}&pcesvn=0d00")).content != one.content
    assert (await world.get(f"{V4}/pckcert?{ppid}&cpusvn={'00' * 16}&pcesvn=0d00")).status_code == 404


async def test_pck_certificates_are_found_by_qe_id(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, Timeline(machines=(Platform("a"), Platform("b"))))
    machine = maker.machine("b")
    quote = dcap_qvl.parse_quote(machine.quote_tdx(b""))
    query = f"qeid={bytes(quote.header.user_data)[:16].hex()}&encrypted_ppid=&pceid=0000"
    found = await world.get(f"{V4}/pckcert?{query}&cpusvn={machine.identity.sgx_svns.hex()}&pcesvn=0d00")
    assert machine.pck_chain.startswith(found.content)
    assert (await world.get(f"{V4}/pckcerts?qeid={'00' * 16}&pceid=0000")).status_code == 404


async def test_pck_certificates_may_need_a_subscription(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, Timeline(publishing=Publishing(subscription_key="hush")))
    url = f"{V4}/pckcerts?qeid={maker.machine().qe_id.hex()}&pceid=0000"
    assert (await world.get(url)).status_code == 401
    assert (await world.get(url, Ocp_Apim_Subscription_Key="wrong")).status_code == 401
    assert (await world.get(url, Ocp_Apim_Subscription_Key="hush")).status_code == 200
    assert (await world.get(f"{V4}/qe/identity")).status_code == 200
    assert "hush" not in repr(world.timeline)


# Clients.


@pytest.mark.parametrize(("tee", "ca"), [("tdx", "platform"), ("sgx", "platform"), ("sgx", "processor")])
async def test_our_client_gets_authentic_collateral(world: Any, tee: Any, ca: str) -> None:
    authenticator = Authenticator((world.maker.trust_anchor(),))
    subjects = [authenticator.authenticate(each) for each in (await world.fetch(tee, ca)).items]
    assert [each.kind for each in subjects] == ["tcb_info", "qe_identity", "pck_crl", "root_ca_crl"]
    assert subjects[0].scope == f"{tee}/{fmspc(world.maker, ca)}"
    assert {each.issued for each in subjects} == {DAY_0}


async def test_our_client_speaks_version_3(world: Any) -> None:
    collateral = await world.fetch("sgx", version="v3")
    assert len(collateral.items) == 4


@pytest.mark.parametrize("tee", ["tdx", "sgx"])
async def test_independent_client_gets_what_verifies_a_quote(
    maker: ChipMaker, serving: Callable[[Any], AbstractContextManager[str]], tee: str
) -> None:
    machine = maker.machine()
    quote = machine.quote_tdx(b"challenge") if tee == "tdx" else machine.quote_sgx(b"challenge")
    with serving(VendorService(maker, clock=lambda: DAY_0)) as url:
        collateral = await dcap_qvl.get_collateral(url, quote)
    assert dcap_qvl.verify_with_root_ca(quote, collateral, maker.root_der, int(DAY_0.timestamp())).status == (
        "UpToDate"
    )


# The days.


async def test_the_same_time_gives_the_same_bytes(maker: ChipMaker, world_of: WorldOf) -> None:
    timeline = Timeline(recoveries=(RECOVERY,))
    for now in (day(0), day(5.3), day(13)):
        one, other = (world_of(maker, timeline, now) for _ in range(2))
        for path in (f"{TDX}/tcb?fmspc={fmspc(maker)}", f"{V4}/pckcrl?ca=platform", f"{V4}/rootcacrl"):
            first, second = await one.get(path), await other.get(path)
            assert first.content == second.content
            assert first.headers == second.headers


async def test_collateral_is_issued_anew_and_lasts(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, Timeline(publishing=Publishing(reissue_hours=12, validity_days=3)), day(0.4))
    authenticator = Authenticator((maker.trust_anchor(),))
    dates = []
    for now in (day(0.4), day(0.5), day(0.99), day(1)):
        world.at = now
        tcb_info = authenticator.authenticate((await world.fetch()).items[0])
        dates.append(tcb_info.issued)
        assert tcb_info.next_update == tcb_info.issued + 3 * DAY
    assert dates == [day(0), day(0.5), day(0.5), day(1)]


async def test_a_recovery_is_early_then_standard(maker: ChipMaker, world_of: WorldOf) -> None:
    """A machine from before falls behind: early on the day, for everybody when the channel moves, and not a second sooner."""
    world = world_of(maker, Timeline(recoveries=(RECOVERY,)))
    expected = [
        (RECOVERY.early - SECOND, "UpToDate", "UpToDate"),
        (RECOVERY.early, "OutOfDate", "UpToDate"),
        (RECOVERY.standard - SECOND, "OutOfDate", "UpToDate"),
        (RECOVERY.standard, "OutOfDate", "OutOfDate"),
    ]
    for now, early, standard in expected:
        world.at = now
        assert (await world.status(update="early"), await world.status()) == (early, standard), now
    assert await world.status(evaluation_number=18) == "UpToDate"
    assert await world.status(evaluation_number=19) == "OutOfDate"
    world.at = RECOVERY.early - SECOND
    with pytest.raises(NotFound):
        await world.status(evaluation_number=19)


async def test_a_recovery_names_its_advisories_and_svns(maker: ChipMaker, world_of: WorldOf) -> None:
    recovery = Recovery(
        20,
        day(1),
        day(1),
        ("INTEL-SA-1",),
        sgx_svns=(9, 9),
        pce_svn=14,
        tdx_svns=(5, 0, 7),
        module_svn=8,
        tdx_qe_svn=6,
    )
    world = world_of(maker, Timeline(recoveries=(RECOVERY, recovery)[1:]), day(1))
    tcb_info, identity, *_ = (json.loads(each.content) for each in (await world.fetch()).items[:2])
    new, old = tcb_info["tcbInfo"]["tcbLevels"][:2]
    assert (new["tcbStatus"], new["tcb"]["pcesvn"], "advisoryIDs" in new) == ("UpToDate", 14, False)
    assert [each["svn"] for each in new["tcb"]["sgxtcbcomponents"]][:3] == [9, 9, 0]
    assert new["tcb"]["tdxtcbcomponents"][2]["svn"] == 7
    assert (old["tcbStatus"], old["advisoryIDs"]) == ("OutOfDate", ["INTEL-SA-1"])
    module = next(each for each in tcb_info["tcbInfo"]["tdxModuleIdentities"] if each["id"] == "TDX_01")
    assert [each["tcb"]["isvsvn"] for each in module["tcbLevels"]] == [8, 6, 4, 2]
    assert [each["tcb"]["isvsvn"] for each in identity["enclaveIdentity"]["tcbLevels"]] == [6, 4, 2]
    assert identity["enclaveIdentity"]["tcbEvaluationDataNumber"] == 20


@pytest.mark.parametrize("more", [{}, {"module_svn": 9, "tdx_qe_svn": 7, "pce_svn": 15}])
async def test_a_patched_machine_is_up_to_date_again(
    maker: ChipMaker, world_of: WorldOf, more: dict[str, int]
) -> None:
    recovery = Recovery(19, day(1), day(2), **more)  # type: ignore[arg-type] # ints all
    world = world_of(maker, Timeline(recoveries=(recovery,)), day(2))
    patched = maker.machine(**releases(world.timeline)[-1].up_to_date())
    assert (await world.status(), await world.status(patched)) == ("OutOfDate", "UpToDate")


async def test_a_revocation_takes_effect_on_its_day(maker: ChipMaker, world_of: WorldOf) -> None:
    revocation = Revocation("unlucky", at=day(3.5))
    world = world_of(maker, Timeline(revocations=(revocation,), recoveries=(RECOVERY,)))
    unlucky = maker.machine("unlucky")
    # The certificate that it will get for a level of later is revoked with it.
    later = maker.machine("unlucky", **releases(world.timeline)[-1].up_to_date())
    world.at = revocation.at - SECOND
    assert await world.status(unlucky) == "UpToDate"
    before = x509.load_der_x509_crl((await world.fetch()).items[2].content)
    world.at = revocation.at
    for machine in (unlucky, later):
        with pytest.raises(ValueError, match="CertRevoked"):
            await world.status(machine)
    assert await world.status() == "UpToDate"
    after = x509.load_der_x509_crl((await world.fetch()).items[2].content)
    assert (before.last_update_utc, after.last_update_utc) == (day(3), day(3.5))
    numbers = [
        each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for each in (before, after)
    ]
    assert numbers[0] < numbers[1]


async def test_a_machine_of_the_other_ca_is_not_revoked(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, Timeline(revocations=(Revocation("machine-1", day(0), "processor"),)), day(1))
    assert await world.status() == "UpToDate"


async def test_thirty_days(maker: ChipMaker, world_of: WorldOf) -> None:
    """A month in one sight: what an independent verifier says of two machines at noon of each day."""
    timeline = Timeline(
        recoveries=(RECOVERY,),
        revocations=(Revocation("machine-2", day(20)),),
        troubles=(Trouble("status", day(8), day(10)), Trouble("refused", day(10), day(11))),
    )
    world = world_of(maker, timeline)
    seen = []
    for number in range(30):
        world.at = day(number + 0.5)
        today = []
        for name in ("machine-1", "machine-2"):
            try:
                today.append(await world.status(maker.machine(name)))
            except UnavailableError:
                today.append("unavailable")
            except ValueError as error:
                today.append("revoked" if "CertRevoked" in str(error) else str(error))
        seen.append(tuple(today))
    assert seen == [
        *[("UpToDate", "UpToDate")] * 8,
        *[("unavailable", "unavailable")] * 3,
        ("UpToDate", "UpToDate"),
        *[("OutOfDate", "OutOfDate")] * 8,
        *[("OutOfDate", "revoked")] * 10,
    ]
