# SPDX-License-Identifier: Apache-2.0
"""The default policy on evidence of every kind: affirmed with the right reference values, and with each of them missing or wrong not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from eaa.rats import Endorsements
from eaa.simulator import ChipMaker
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.azure import AzureVm
from eaa.simulator.mint import mint
from eaa.simulator.snp_mint import mint_snp
from eaa.simulator.tpm import SoftwareTpm
from eaa.tee.registry import kind_of, parse_evidence
from eaa.tee.tpm.enrolment import EnrolledAk
from eaa.verifier import Verifier
from eaa.verifier.appraise import appraise
from eaa.verifier.policy import load_default
from eaa.verifier.trust import Tier

if TYPE_CHECKING:
    from eaa.rats import Appraisal
    from eaa.verifier.appraise import Verdict
    from eaa.verifier.policy import PolicyEngine

pytestmark = pytest.mark.anyio

AT = datetime(2026, 3, 16, 12, tzinfo=UTC)
CHALLENGE = bytes(range(1, 49))
KINDS = ("tdx", "snp", "tpm", "az-snp-vtpm", "az-tdx-vtpm")
FAULTY = ("tdx", "snp", "az-snp-vtpm", "az-tdx-vtpm")


@pytest.fixture(scope="module")
def tpm() -> SoftwareTpm:
    made = SoftwareTpm(b"machine", ak=rsa.generate_private_key(65537, 2048))
    for index in (0, 4, 9, 11):
        made.extend(index, bytes([index]) * 32)
    return made


def attested(tpm: SoftwareTpm, tee: str, *faults: str) -> Appraisal:
    """Return the appraisal of evidence of this kind, with faults of the hardware."""
    if tee == "tpm":
        evidence = parse_evidence(tpm.evidence(CHALLENGE), tee=tee)
        endorsements = Endorsements((EnrolledAk.of_area(tpm.ak_area).to_endorsement(),))
        return Verifier(()).verify(evidence, endorsements, at=AT, report_data=CHALLENGE)
    vm = AzureVm(tpm)
    runtime = vm.runtime_data(CHALLENGE)
    due = vm.report_data(runtime) if tee.startswith("az-") else CHALLENGE
    if "snp" in tee:
        amd = mint_snp(AmdChipMaker.create(AT), due, at=AT, faults=faults)
        anchors, endorsements, raw = amd.trust_anchors, amd.endorsements, amd.report
        if tee.startswith("az-"):
            raw = vm.snp_evidence(raw, amd.machine.certificate, runtime, CHALLENGE, version=2)
    else:
        intel = mint(ChipMaker.create(AT), "tdx", due, at=AT, faults=faults)
        anchors, endorsements, raw = (intel.trust_anchor,), intel.endorsements, intel.quote
        if tee.startswith("az-"):
            raw = vm.tdx_evidence(raw, runtime, CHALLENGE, version=2)
    evidence = parse_evidence(raw, tee=tee)
    return Verifier(anchors).verify(evidence, endorsements, at=AT, report_data=CHALLENGE)


async def judged(engine: PolicyEngine, appraisal: Appraisal, values: dict[str, list[str]]) -> Verdict:
    return await appraise(
        appraisal,
        engine=engine,
        policy_text=load_default("attestation"),
        policy_id="default",
        reference_values=values,
        runtime_data=None,
    )


@pytest.mark.parametrize("tee", KINDS)
@pytest.mark.parametrize("loaded", ["pcr11", "pcr09"])
async def test_what_is_expected_is_affirmed_and_nothing_less(
    engine: PolicyEngine, tpm: SoftwareTpm, tee: str, loaded: str
) -> None:
    """Policy and reference values agree on which registers identify the software."""
    appraisal = attested(tpm, tee)
    appraisal.accept()
    registers = appraisal.evidence.measurements
    names = kind_of(tee).required({loaded})
    assert names <= registers.keys()
    values = {name: [registers[name]] for name in names}
    verdict = await judged(engine, appraisal, values)
    assert verdict.accept().tee == tee
    assert verdict.status is Tier.AFFIRMING
    assert verdict.trust_vector["executables"] == 3
    assert verdict.trust_vector["hardware"] == 2
    assert verdict.trust_vector["configuration"] == (0 if tee == "tpm" else 2)
    for name in names:
        missing = {other: value for other, value in values.items() if other != name}
        for wrong in (missing, {**values, name: ["00" * (len(registers[name]) // 2)]}):
            verdict = await judged(engine, appraisal, wrong)
            assert verdict.trust_vector["executables"] == 33, (name, wrong)
            assert verdict.status is not Tier.AFFIRMING
            assert {"policy.trust-vector"} <= {check.id for check in verdict.appraisal.failing}


@pytest.mark.parametrize("tee", FAULTY)
@pytest.mark.parametrize("fault", ["debug", "altered-report"])
async def test_faulty_hardware_is_not_affirmed(
    engine: PolicyEngine, tpm: SoftwareTpm, tee: str, fault: str
) -> None:
    appraisal = attested(tpm, tee, fault)
    registers = appraisal.evidence.measurements
    values = {name: [registers[name]] for name in kind_of(tee).required(())}
    verdict = await judged(engine, appraisal, values)
    assert not verdict.appraisal.accepted
    assert verdict.status is not Tier.AFFIRMING


@pytest.mark.parametrize("tee", ["az-snp-vtpm", "az-tdx-vtpm"])
async def test_another_banks_values_do_not_open_azures_boot(
    engine: PolicyEngine, tpm: SoftwareTpm, tee: str
) -> None:
    """An owner who pins bare TPMs by their SHA-384 bank has not said that any system may boot on Azure."""
    appraisal = attested(tpm, tee)
    registers = appraisal.evidence.measurements
    hardware = {name: [registers[name]] for name in ("measurement", "mr_td") if name in registers}
    verdict = await judged(engine, appraisal, {**hardware, "sha384_pcr04": ["00" * 48]})
    failing = {check.id for check in verdict.appraisal.failing}
    assert {f"reference.{tee}.pcr04", f"reference.{tee}.pcr11", "policy.trust-vector"} <= failing
