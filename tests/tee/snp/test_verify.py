# SPDX-License-Identifier: Apache-2.0
"""SNP verification against machines made in software: each fault breaks its checks, and each condition of an owner holds."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from eaa.rats import (
    Appraisal,
    ConfigurationError,
    Endorsement,
    Endorsements,
    EvidenceError,
    EvidenceRejected,
    Result,
    Stage,
)
from eaa.simulator.amd import CSP_ID, AmdChipMaker
from eaa.simulator.snp_faults import SNP_FAULTS
from eaa.simulator.snp_machine import measure_snp
from eaa.simulator.snp_mint import SnpMinted, mint_snp
from eaa.tee.snp.collateral_files import endorsements_from_snp_json, endorsements_to_snp_json
from eaa.tee.snp.evidence import DeliveredCertificate, make_evidence
from eaa.tee.snp.kind import KIND
from eaa.tee.snp.minimum_tcb import BULLETINS, MINIMUM, TcbFloor, open_bulletins
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.product import Product, Tcb
from eaa.tee.snp.report import AttestationReport
from eaa.tee.snp.roots import AMD_ROOTS
from eaa.tee.snp.rules import RULES
from eaa.tee.snp.verify import SnpVerifier

UNREADABLE = {"trailing-bytes"}
"""Faults that are refused while the report is read, before any appraisal."""
CASES = [
    (name, signer)
    for name, fault in SNP_FAULTS.items()
    for signer in ("VCEK", "VLEK")
    if fault.signer in {None, signer} and name not in UNREADABLE
]


def judge(case: SnpMinted, policy: SnpPolicy | None = None, **changes: Any) -> Appraisal:
    verifier = SnpVerifier(case.trust_anchors, policy or SnpPolicy())
    given = {"endorsements": case.endorsements, "at": case.at, "report_data": case.report_data, **changes}
    evidence = given.pop("evidence", None) or case.evidence()
    return verifier.verify(evidence, given.pop("endorsements"), **given)


def failing(appraisal: Appraisal) -> set[str]:
    return {check.id for check in appraisal.failing}


def found(appraisal: Appraisal, name: str) -> tuple[Result, str]:
    return next((check.result, check.found) for check in appraisal.checks if check.id == name)


@pytest.mark.parametrize("product", list(Product))
@pytest.mark.parametrize("signer", ["VCEK", "VLEK"])
def test_without_a_fault_everything_holds(
    amd: AmdChipMaker, at: datetime, product: Product, signer: str
) -> None:
    case = mint_snp(amd, b"challenge", at=at, product=product, signer=signer)
    appraisal = judge(case)
    claims = appraisal.accept()
    assert claims.simulated
    assert claims.values["product"] == product.value
    assert claims.values["signing_key"] == signer
    assert claims.measurements["measurement"] == measure_snp("eaa simulated guest")
    assert case.expected["accepted"]
    warned = {check.id for check in appraisal.checks if check.result is Result.WARN}
    assert warned == ({"snp.platform.family-advisory"} if product is Product.MILAN else set())


def test_every_rule_is_applied_and_listed_once(amd: AmdChipMaker, at: datetime) -> None:
    applied = [check.rule for check in judge(mint_snp(amd, b"challenge", at=at)).checks]
    assert {rule.id for rule in applied} == {rule.id for rule in RULES} | {"binding.report-data"}
    assert len(applied) == len(set(applied))


@pytest.mark.parametrize(("name", "signer"), CASES)
def test_each_fault_breaks_the_checks_it_names(
    amd: AmdChipMaker, at: datetime, name: str, signer: str
) -> None:
    case = mint_snp(amd, b"challenge", at=at, signer=signer, faults=[name])
    expected = case.expected
    appraisal = judge(case)
    assert set(expected["failed_checks"]) <= failing(appraisal)
    assert appraisal.accepted is expected["accepted"]
    assert (not appraisal.failing_at(Stage.AUTHENTICITY)) is expected["valid"]
    assert appraisal.unverified.debug is expected["debug"]
    for warned in expected["warned_checks"]:
        assert found(appraisal, warned)[0] is Result.WARN
    if SNP_FAULTS[name].valid:
        assert [check.id for check in appraisal.failing] == expected["failed_checks"]
    if not appraisal.accepted:
        with pytest.raises(EvidenceRejected):
            appraisal.accept()


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_what_is_no_report_is_refused_before_any_appraisal(
    amd: AmdChipMaker, at: datetime, name: str
) -> None:
    case = mint_snp(amd, b"challenge", at=at, faults=[name])
    with pytest.raises(EvidenceError) as caught:
        judge(case)
    assert [caught.value.check] == case.expected["failed_checks"]


@pytest.mark.parametrize("name", ["below-minimum", "wrong-product", "tcb-mismatch", "debug", "revoked-ask"])
@pytest.mark.parametrize("product", list(Product))
def test_faults_are_the_same_on_every_product(
    amd: AmdChipMaker, at: datetime, name: str, product: Product
) -> None:
    appraisal = judge(mint_snp(amd, b"challenge", at=at, product=product, faults=[name]))
    assert set(SNP_FAULTS[name].checks) <= failing(appraisal)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_older_reports_are_judged_alike(amd: AmdChipMaker, at: datetime, version: int) -> None:
    """Version 2 does not say which product it is of: the certificate does."""
    appraisal = judge(mint_snp(amd, b"challenge", at=at, version=version))
    assert appraisal.accepted
    assert appraisal.unverified.values["product"] == "Genoa"


def test_nobody_trusts_the_simulator_unasked(amd: AmdChipMaker, at: datetime) -> None:
    case = mint_snp(amd, b"challenge", at=at)
    appraisal = SnpVerifier(AMD_ROOTS, SnpPolicy()).verify(
        case.evidence(), case.endorsements, at=at, report_data=case.report_data
    )
    assert {"snp.vcek.chain", "snp.report.signature"} <= failing(appraisal)
    assert "not pinned" in found(appraisal, "snp.vcek.chain")[1]


def test_an_entry_for_the_serial_number_0_revokes_nobody_and_hides_nothing(
    amd: AmdChipMaker, at: datetime
) -> None:
    """Every VCEK and VLEK has the serial number 0, so an entry 0 would revoke all chips or none; the ASK is what counts."""
    assert judge(mint_snp(amd, b"challenge", at=at, faults=["crl-serial-zero"])).accepted
    both = judge(mint_snp(amd, b"challenge", at=at, faults=["crl-serial-zero", "revoked-ask"]))
    assert failing(both) == {"snp.vcek.revocation"}


def test_revoking_the_ask_leaves_vleks_alone(amd: AmdChipMaker, at: datetime) -> None:
    chip = mint_snp(amd, b"challenge", at=at, faults=["revoked-ask"])
    cloud = mint_snp(amd, b"challenge", at=at, signer="VLEK")
    (crl,) = chip.endorsements.of_kind("snp_crl")
    rest = tuple(each for each in cloud.endorsements.items if each.kind != "snp_crl")
    assert judge(cloud, endorsements=Endorsements((*rest, crl))).accepted


def test_a_list_that_came_with_the_evidence_does_not_count(amd: AmdChipMaker, at: datetime) -> None:
    """Whoever sends the evidence could choose an old list that is still valid."""
    case = mint_snp(amd, b"challenge", at=at)
    (crl,) = case.endorsements.of_kind("snp_crl")
    rest = Endorsements(tuple(each for each in case.endorsements.items if each.kind != "snp_crl"))
    evidence = make_evidence(case.report, (DeliveredCertificate("CRL", crl.content),))
    assert failing(judge(case, endorsements=rest, evidence=evidence)) == {"snp.crl", "snp.vcek.revocation"}


def test_the_certificate_that_fits_is_chosen_among_many(amd: AmdChipMaker, at: datetime) -> None:
    """An Endorser holds certificates of many chips and of several TCBs of each."""
    case = mint_snp(amd, b"challenge", at=at)
    older = mint_snp(amd, b"challenge", at=at, faults=["below-minimum"])
    other = mint_snp(amd, b"challenge", at=at, machine="machine-2")
    junk = Endorsements((Endorsement("snp_vcek", b"junk"),))
    endorsements = Endorsements.merged([junk, other.endorsements, older.endorsements, case.endorsements])
    assert judge(case, endorsements=endorsements, evidence=make_evidence(case.report)).accepted


def test_authorities_of_several_products_are_told_apart(amd: AmdChipMaker, at: datetime) -> None:
    cases = [mint_snp(amd, b"challenge", at=at, product=product) for product in Product]
    endorsements = Endorsements.merged(case.endorsements for case in cases)
    assert all(judge(case, endorsements=endorsements).accepted for case in cases)


def test_an_explicit_chain_is_the_only_one_that_counts(amd: AmdChipMaker, at: datetime) -> None:
    """Else a wrong chain could be given and would never be noticed."""
    case = mint_snp(amd, b"challenge", at=at)
    wrong = mint_snp(amd, b"challenge", at=at, product=Product.MILAN)
    items = [each for each in case.endorsements.items if each.kind != "snp_chain"]
    authorities = [amd.authority(Product.GENOA, role).der for role in ("ask", "ark")]
    delivered = (*case.evidence().certificates, *(DeliveredCertificate("ASK", der) for der in authorities))
    evidence = make_evidence(case.report, delivered)
    assert judge(case, endorsements=Endorsements(tuple(items)), evidence=evidence).accepted
    items += wrong.endorsements.of_kind("snp_chain")
    appraisal = judge(case, endorsements=Endorsements(tuple(items)), evidence=evidence)
    assert found(appraisal, "snp.vcek.chain")[0] is Result.FAIL


def test_unreadable_authorities_in_the_evidence_do_no_harm(amd: AmdChipMaker, at: datetime) -> None:
    case = mint_snp(amd, b"challenge", at=at)
    rest = Endorsements(tuple(each for each in case.endorsements.items if each.kind != "snp_chain"))
    junk = DeliveredCertificate("ASK", b"junk")
    ask = DeliveredCertificate("ASK", amd.authority(Product.GENOA, "ask").der)
    evidence = make_evidence(case.report, (junk, ask, *case.evidence().certificates))
    assert judge(case, endorsements=rest, evidence=evidence).accepted


def test_a_signing_leaf_cannot_issue(amd: AmdChipMaker, at: datetime) -> None:
    """An authority without the flags of a CA is refused: here the root's own list signer stands in for one."""
    case = mint_snp(amd, b"challenge", at=at)
    ark = amd.authority(Product.GENOA, "ark")
    items = (Endorsement("snp_vcek", ark.der), *case.endorsements.items[1:])
    appraisal = judge(case, endorsements=Endorsements(items), evidence=make_evidence(case.report))
    assert {"snp.report.signer", "snp.report.signature"} <= failing(appraisal)


def test_a_report_of_another_chip_does_not_pass_with_this_chips_certificate(
    amd: AmdChipMaker, at: datetime
) -> None:
    case, other = (mint_snp(amd, b"challenge", at=at, machine=name) for name in ("machine-1", "machine-2"))
    appraisal = judge(case, endorsements=other.endorsements, evidence=make_evidence(case.report))
    assert {"snp.vcek.chip-id", "snp.report.signature"} <= failing(appraisal)


@pytest.mark.parametrize(
    ("moment", "check"),
    [
        (timedelta(days=20 * 365), "snp.vcek.validity"),
        (timedelta(days=-6 * 365), "snp.vcek.validity"),
        (timedelta(days=400), "snp.crl.dates"),
        (timedelta(days=-2), "snp.crl.dates"),
    ],
)
def test_dates_are_judged_at_the_time_that_is_given(
    amd: AmdChipMaker, at: datetime, moment: timedelta, check: str
) -> None:
    assert check in failing(judge(mint_snp(amd, b"challenge", at=at), at=at + moment))


@pytest.mark.parametrize(
    "wrong", [b"other".ljust(64, b"\0"), b"challenge".ljust(63, b"\0") + b"\1", bytes(64)]
)
def test_all_of_the_report_data_is_compared(amd: AmdChipMaker, at: datetime, wrong: bytes) -> None:
    """Attack A17."""
    assert failing(judge(mint_snp(amd, b"challenge", at=at), report_data=wrong)) == {"binding.report-data"}


def test_nothing_remembered_outlives_what_it_rests_on(amd: AmdChipMaker, at: datetime) -> None:
    """One verifier, again and again: each change to the material changes the outcome, in both directions."""
    case = mint_snp(amd, b"challenge", at=at)
    verifier = SnpVerifier(case.trust_anchors, SnpPolicy())

    def accepted(one: SnpMinted, endorsements: Endorsements | None = None, when: datetime = at) -> bool:
        given = one.endorsements if endorsements is None else endorsements
        return verifier.verify(one.evidence(), given, at=when, report_data=one.report_data).accepted

    for _ in range(2):
        assert accepted(case)
        assert not accepted(case, Endorsements(case.endorsements.items[:-1]))
        assert not accepted(case, mint_snp(amd, b"challenge", at=at, faults=["revoked-ask"]).endorsements)
        assert not accepted(case, when=at + timedelta(days=400))
        for fault in (
            "debug",
            "vmpl",
            "altered-report",
            "altered-signature",
            "below-minimum",
            "alias-check-missing",
        ):
            assert not accepted(mint_snp(amd, b"challenge", at=at, faults=[fault]))
        assert accepted(mint_snp(amd, b"another challenge", at=at))


POLICIES: list[tuple[str, SnpPolicy, list[str], bool]] = [
    ("snp.platform.smt", SnpPolicy(allow_smt=False), ["smt"], False),
    ("snp.policy.smt", SnpPolicy(allow_smt=False), ["smt"], False),
    ("snp.vmpl", SnpPolicy(vmpls=frozenset({0, 1})), ["vmpl"], True),
    ("snp.vmpl", SnpPolicy(vmpls=frozenset({1})), [], False),
    ("snp.policy.migrate-ma", SnpPolicy(allow_migrate_ma=True), ["migrate-ma"], True),
    ("snp.platform.alias-check", SnpPolicy(require_alias_check=False), ["alias-check-missing"], True),
    ("snp.policy.single-socket", SnpPolicy(require_single_socket=True), [], False),
    ("snp.policy.page-swap", SnpPolicy(require_page_swap_disable=True), [], False),
    ("snp.policy.abi", SnpPolicy(minimum_abi=(1, 51)), [], True),
    ("snp.policy.abi", SnpPolicy(minimum_abi=(1, 52)), [], False),
    ("snp.platform.family-advisory", SnpPolicy(products=frozenset({Product.TURIN})), [], False),
    ("snp.tcb.minimum", SnpPolicy(minimum_tcb={Product.GENOA: TcbFloor(snp=0x1D)}), [], False),
    ("snp.tcb.minimum", SnpPolicy(minimum_tcb={Product.GENOA: TcbFloor(snp=1)}), ["below-minimum"], True),
    ("snp.tcb.minimum", SnpPolicy(minimum_tcb={}), [], False),
    ("snp.tcb.provisional", SnpPolicy(allow_provisional_firmware=False), ["provisional"], False),
    ("snp.platform.chip", SnpPolicy(chip_ids=frozenset({bytes(64)})), [], False),
    ("snp.platform.chip", SnpPolicy(csp_ids=frozenset({"CN=other"})), [], False),
    ("snp.guest.id-key", SnpPolicy(id_keys=frozenset({b"k" * 48})), [], False),
    ("snp.guest.author-key", SnpPolicy(author_keys=frozenset({b"k" * 48})), [], False),
]  # fmt: skip


@pytest.mark.parametrize(("check", "policy", "faults", "passes"), POLICIES)
def test_the_owners_conditions_decide(
    amd: AmdChipMaker, at: datetime, *, check: str, policy: SnpPolicy, faults: list[str], passes: bool
) -> None:
    appraisal = judge(mint_snp(amd, b"challenge", at=at, faults=faults), policy)
    assert (check not in failing(appraisal)) is passes


def test_no_policy_accepts_debug(amd: AmdChipMaker, at: datetime) -> None:
    """Attack A18: there is no switch."""
    lax = SnpPolicy(
        allow_migrate_ma=True, require_alias_check=False, vmpls=frozenset(range(4)),
        minimum_tcb={product: TcbFloor() for product in Product},
    )  # fmt: skip
    assert failing(judge(mint_snp(amd, b"challenge", at=at, faults=["debug"]), lax)) == {"snp.policy.debug"}


def test_listed_chips_and_clouds_are_accepted_even_masked(amd: AmdChipMaker, at: datetime) -> None:
    """Attack A24: the certified id counts, which masking does not change."""
    for product in Product:
        masked = mint_snp(amd, b"challenge", at=at, product=product, faults=["masked-chip-id"])
        listed = SnpPolicy(chip_ids=frozenset({masked.machine.chip_id}))
        assert judge(masked, listed).accepted
        padded = SnpPolicy(chip_ids=frozenset({masked.machine.chip_id.ljust(64, b"\0")}))
        assert judge(masked, padded).accepted
    cloud = mint_snp(amd, b"challenge", at=at, signer="VLEK")
    assert judge(cloud, SnpPolicy(csp_ids=frozenset({CSP_ID}))).accepted
    assert failing(judge(cloud, SnpPolicy(chip_ids=frozenset({bytes(64)})))) == {"snp.platform.chip"}


def test_ciphertext_hiding_can_be_required(amd: AmdChipMaker, at: datetime) -> None:
    policy = SnpPolicy(require_ciphertext_hiding=True)
    assert judge(mint_snp(amd, b"challenge", at=at), policy).accepted
    milan = mint_snp(amd, b"challenge", at=at, product=Product.MILAN)
    assert failing(judge(milan, policy)) == {"snp.platform.ciphertext-hiding"}


def test_policies_that_make_no_sense_are_refused() -> None:
    for wrong in (
        {"vmpls": frozenset({4})},
        {"chip_ids": frozenset({b"1"})},
        {"id_keys": frozenset({b"1"})},
        {"author_keys": frozenset({b"1"})},
    ):
        with pytest.raises(ConfigurationError):
            SnpPolicy(**wrong)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"reserved_0": 1}, "reserved_0"),
        ({"reserved_1": b"\1" + bytes(20)}, "reserved_1"),
        ({"reserved_4": b"\1" + bytes(151)}, "reserved_4"),
        ({"policy": 1 << 26 | 1 << 17}, "policy 0x4000000"),
        ({"policy": 0}, "bit 17"),
        ({"key_info": 1 << 5}, "key_info"),
        ({"platform_info": 1 << 8}, "platform_info"),
        ({"current_tcb": b"\0\0\1\0\0\0\0\0"}, "current_tcb"),
        ({"version": 3}, "mitigation vectors"),
        ({"version": 2, "launch_mit_vector": 0, "current_mit_vector": 0}, "cpuid"),
    ],
)
def test_every_reserved_bit_is_seen(
    amd: AmdChipMaker, at: datetime, change: dict[str, Any], text: str
) -> None:
    report = AttestationReport.parse(mint_snp(amd, b"challenge", at=at).report)
    (said,) = report._replace(**change).reserved_set(Product.GENOA)
    assert text in said


def test_the_shipped_minimum_is_that_of_amds_bulletin() -> None:
    """Attack A22, with the levels that AMD-SB-3019 gives for attestation."""
    assert MINIMUM[Product.MILAN].snp == 0x18
    assert MINIMUM[Product.GENOA].snp == 0x17
    assert set(MINIMUM) == set(Product)
    for product, floor in MINIMUM.items():
        assert str(floor) == f"snp {floor.snp}"
        assert any(
            each.id in floor.reason and each.date in floor.reason
            for each in BULLETINS
            if each.product is product
        )


def test_bulletins_differ_between_parts_of_one_product() -> None:
    siena = Tcb(None, 10, 0, 0x17, 0x19)
    assert "AMD-SB-3019" not in {each.id for each in open_bulletins(Product.GENOA, siena, 0xA0, 2)}
    assert "AMD-SB-3019" in {each.id for each in open_bulletins(Product.GENOA, siena, 0x11, 1)}
    assert "AMD-SB-3019" in {
        each.id for each in open_bulletins(Product.GENOA, siena._replace(microcode=0x18), 0xA0, 2)
    }


def test_open_bulletins_are_named_in_the_claims(amd: AmdChipMaker, at: datetime) -> None:
    appraisal = judge(mint_snp(amd, b"challenge", at=at, faults=["below-minimum"]))
    assert "AMD-SB-3019" in appraisal.unverified.advisory_ids
    assert "EntrySign" in found(appraisal, "snp.tcb.bulletins")[1]


def test_claims_have_trustees_names_and_types(amd: AmdChipMaker, at: datetime) -> None:
    registers = {"host_data": b"h" * 32}
    case = mint_snp(amd, b"challenge", at=at, product=Product.TURIN, registers=registers, faults=["smt"])
    claims = KIND.claims(judge(case))
    assert claims.init_data == b"h" * 32
    expected = {
        "measurement": measure_snp("eaa simulated guest"),
        "chip_id": case.machine.chip_id.ljust(64, b"\0").hex(),
        "report_data": case.report_data.hex(),
        "policy_abi_major": 1,
        "policy_abi_minor": 51,
        "policy_smt_allowed": True,
        "policy_migrate_ma": False,
        "policy_debug_allowed": False,
        "policy_single_socket": False,
        "platform_smt_enabled": True,
        "platform_tsme_enabled": False,
        "reported_tcb_fmc": 1,
        "reported_tcb_bootloader": 1,
        "reported_tcb_tee": 1,
        "reported_tcb_snp": 4,
        "reported_tcb_microcode": 0x51,
        "product": "Turin",
    }
    assert {name: claims.claims[name] for name in expected} == expected
    assert all(type(claims.claims[name]) is type(value) for name, value in expected.items())


def test_the_kind_reads_every_form(amd: AmdChipMaker, at: datetime) -> None:
    case = mint_snp(amd, b"challenge", at=at)
    evidence = case.evidence()
    assert KIND.parse(evidence.raw) == KIND.from_kbs(case.evidence_json()) == evidence
    assert KIND.required({}) == {"measurement"}
    assert set(KIND.registers) == set(evidence.measurements)
    strict = KIND.verifier(case.trust_anchors, [SnpPolicy(vmpls=frozenset({1}))])
    appraisal = strict.verify(evidence, case.endorsements, at=at, report_data=case.report_data)
    assert failing(appraisal) == {"snp.vmpl"}


def test_collateral_is_read_as_it_is_written(amd: AmdChipMaker, at: datetime) -> None:
    import json

    for signer in ("VCEK", "VLEK"):
        case = mint_snp(amd, b"challenge", at=at, signer=signer)
        both = Endorsements.merged(
            [case.endorsements, mint_snp(amd, b"", at=at, machine="machine-2").endorsements]
        )
        for endorsements in (case.endorsements, both):
            text = json.dumps(endorsements_to_snp_json(endorsements)).encode()
            again = endorsements_from_snp_json(text)
            assert set(again.items) == set(endorsements.items)
        assert judge(case, endorsements=again).accepted


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"snp_vcek": 5}', b'{"snp_vcek": "zz"}', b'{"snp_vcek": "3000"}', b'{"snp_chain": "x"}', b'{"snp_crl": "00"}', b'{"vcekCert": 1}', b'{"vcekCert": "", "certificateChain": ""}', b'{"snp_crl": null}'],
)  # fmt: skip
def test_what_is_no_collateral_is_refused(text: bytes) -> None:
    from eaa.rats import EndorsementError

    with pytest.raises(EndorsementError):
        endorsements_from_snp_json(text)
