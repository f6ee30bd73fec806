# SPDX-License-Identifier: Apache-2.0
"""Azure's confidential VMs: hardware, paravisor, vTPM and boot hang together, or the evidence is refused."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import Endorsements, EvidenceError, Result
from eaa.simulator import ChipMaker
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.azure import AzureVm
from eaa.simulator.mint import mint
from eaa.simulator.snp_mint import mint_snp
from eaa.simulator.tpm import SoftwareTpm
from eaa.tee.azure.evidence import azure_snp_from_kbs, azure_tdx_from_kbs, parse_azure_snp, parse_azure_tdx
from eaa.tee.azure.hcl import REPORT_SNP, pack_hcl_report, parse_hcl_report, parse_runtime_data
from eaa.tee.azure.kind import AZ_SNP, AZ_TDX
from eaa.tee.azure.policy import AzurePolicy
from eaa.tee.azure.verify import azure_verifier
from eaa.tee.snp.policy import SnpPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.rats import Appraisal, TrustAnchor
    from eaa.tee.azure.evidence import AzureEvidence

AT = datetime(2026, 3, 16, 12, tzinfo=UTC)
CHALLENGE = bytes(range(1, 49))
EXPECTED = CHALLENGE.ljust(64, b"\0")
FINE = {Result.PASS, Result.NOT_APPLICABLE, Result.WARN}


class Cloud:
    """A VM on each kind of hardware, and everything needed to verify it."""

    def __init__(self) -> None:
        tpm = SoftwareTpm(b"vtpm", ak=rsa.generate_private_key(65537, 2048))
        for index in (0, 4, 8, 11):
            tpm.extend(index, bytes([index]) * 32)
        self.vm = AzureVm(tpm)
        self.amd = AmdChipMaker.create(AT)
        self.intel = ChipMaker.create(AT)
        self.material: dict[str, tuple[tuple[TrustAnchor, ...], Endorsements]] = {}
        """What the last evidence of each kind is to be verified with."""

    def snp(
        self,
        *,
        runtime: bytes | None = None,
        signed: bytes | None = None,
        faults: tuple[str, ...] = (),
        challenge: bytes = CHALLENGE,
        version: int = 2,
        quote_faults: tuple[str, ...] = (),
    ) -> bytes:
        """``faults`` are the hardware's, ``quote_faults`` the vTPM's; ``signed`` is runtime data that the hardware signed instead."""
        runtime = self.vm.runtime_data(CHALLENGE) if runtime is None else runtime
        minted = mint_snp(self.amd, self.vm.report_data(signed or runtime), at=AT, faults=faults)
        self.material["az-snp-vtpm"] = minted.trust_anchors, minted.endorsements
        vcek = minted.machine.certificate
        return self.vm.snp_evidence(
            minted.report, vcek, runtime, challenge, version=version, faults=quote_faults
        )

    def tdx(
        self,
        *,
        runtime: bytes | None = None,
        signed: bytes | None = None,
        faults: tuple[str, ...] = (),
        version: int = 2,
        td_report_data: bytes | None = None,
    ) -> bytes:
        runtime = self.vm.runtime_data(CHALLENGE) if runtime is None else runtime
        minted = mint(self.intel, "tdx", self.vm.report_data(signed or runtime), at=AT, faults=faults)
        self.material["az-tdx-vtpm"] = (minted.trust_anchor,), minted.endorsements
        return self.vm.tdx_evidence(
            minted.quote, runtime, CHALLENGE, version=version, td_report_data=td_report_data
        )

    def judge(self, evidence: AzureEvidence, *policies: object) -> Appraisal:
        anchors, endorsements = self.material[evidence.tee]
        return azure_verifier(anchors, policies).verify(evidence, endorsements, at=AT, report_data=EXPECTED)


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return Cloud()


def wrong(appraisal: Appraisal) -> set[str]:
    return {check.id for check in appraisal.checks if check.result not in FINE}


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_sound_vm_is_accepted_on_either_hardware(cloud: Cloud, version: int) -> None:
    snp = cloud.judge(parse_azure_snp(cloud.snp(version=version))).accept()
    assert (snp.tee, snp.report_data, snp.debug, snp.simulated) == ("az-snp-vtpm", CHALLENGE, False, True)
    assert snp.measurements["pcr11"] == cloud.vm.tpm.pcrs[11].hex()
    assert len(snp.measurements["measurement"]) == 96
    tdx = cloud.judge(parse_azure_tdx(cloud.tdx(version=version))).accept()
    assert (tdx.tee, tdx.tcb_status) == ("az-tdx-vtpm", "UpToDate")
    assert tdx.measurements["pcr04"] == cloud.vm.tpm.pcrs[4].hex()
    assert len(tdx.measurements["mr_td"]) == 96


def test_the_hardwares_checks_are_all_there(cloud: Cloud) -> None:
    ids = {check.id for check in cloud.judge(parse_azure_snp(cloud.snp())).checks}
    assert {
        "snp.vcek.chain",
        "snp.report.signature",
        "snp.policy.debug",
        "az.hcl.binding",
        "tpm.quote.signature",
    } <= ids
    ids = {check.id for check in cloud.judge(parse_azure_tdx(cloud.tdx())).checks}
    assert {
        "dcap.pck.chain",
        "dcap.quote.signature",
        "tdx.td.debug",
        "az.hcl.binding",
        "az.hcl.td-report",
    } <= ids


def test_the_vtpms_key_is_the_one_that_the_hardware_signed_for(cloud: Cloud) -> None:
    """Another VM's hardware report around the runtime data of this one (or of no VM at all)."""
    other = cloud.vm.runtime_data(b"another VM")
    for evidence in (parse_azure_snp(cloud.snp(signed=other)), parse_azure_tdx(cloud.tdx(signed=other))):
        appraisal = cloud.judge(evidence)
        found = wrong(appraisal)
        assert (
            {"az.hcl.binding", "tpm.ak.anchored"}
            <= found
            <= {"az.hcl.binding", "tpm.ak.anchored", "az.hcl.td-report"}
        )


def test_the_td_report_has_to_be_the_quoted_one(cloud: Cloud) -> None:
    appraisal = cloud.judge(parse_azure_tdx(cloud.tdx(td_report_data=bytes(64))))
    assert {"az.hcl.td-report"} <= wrong(appraisal)


def test_a_report_that_the_guest_asked_for_binds_nothing(cloud: Cloud) -> None:
    """Whoever allows reports from VMPL 1 for plain SNP guests does not thereby let an Azure guest bind a key of its own."""
    evidence = parse_azure_snp(cloud.snp(faults=("vmpl",)))
    allowed = cloud.judge(evidence, SnpPolicy(vmpls=frozenset({0, 1})))
    assert wrong(allowed) == {"az.hcl.paravisor", "tpm.ak.anchored"}
    assert "snp.vmpl" in wrong(cloud.judge(evidence))


@pytest.mark.parametrize("faults", [("debug",), ("altered-report",)])
def test_what_is_wrong_with_the_hardware_is_wrong_with_the_vm(cloud: Cloud, faults: tuple[str, ...]) -> None:
    for evidence, check in (
        (parse_azure_snp(cloud.snp(faults=faults)), {"debug": "snp.policy.debug", "altered-report": "snp.report.signature"}),
        (parse_azure_tdx(cloud.tdx(faults=faults)), {"debug": "tdx.td.debug", "altered-report": "dcap.quote.signature"}),
    ):  # fmt: skip
        found = wrong(cloud.judge(evidence))
        assert check[faults[0]] in found
        assert ("tpm.ak.anchored" in found) is (faults == ("altered-report",))


def test_without_collateral_nothing_is_decided(cloud: Cloud) -> None:
    evidence = parse_azure_tdx(cloud.tdx())
    anchors, _ = cloud.material["az-tdx-vtpm"]
    appraisal = azure_verifier(anchors, ()).verify(evidence, Endorsements(), at=AT, report_data=EXPECTED)
    assert appraisal.undecided


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("foreign-key", {"tpm.quote.signature"}),
        ("altered-quote", {"tpm.quote.signature", "binding.report-data"}),
        ("altered-pcr", {"tpm.quote.pcr-digest"}),
        ("wrong-report-data", {"binding.report-data"}),
        ("no-pcr", {"tpm.quote.pcr-selection"}),
    ],
)
def test_what_is_wrong_with_the_quote_is_named(cloud: Cloud, fault: str, checks: set[str]) -> None:
    assert wrong(cloud.judge(parse_azure_snp(cloud.snp(quote_faults=(fault,))))) == checks


def test_the_challenge_is_quoted_uncut(cloud: Cloud) -> None:
    """CoCo's attesters for Azure do not cut the report data, as the one for a bare TPM does."""
    assert wrong(cloud.judge(parse_azure_snp(cloud.snp(challenge=CHALLENGE[:32])))) == {"binding.report-data"}


def test_version_2_binds_the_challenge_into_the_runtime_data(cloud: Cloud) -> None:
    stale = cloud.vm.runtime_data(b"an earlier challenge")
    assert wrong(cloud.judge(parse_azure_snp(cloud.snp(runtime=stale)))) == {"az.hcl.user-data"}
    empty = cloud.vm.runtime_data(b"")
    assert wrong(cloud.judge(parse_azure_tdx(cloud.tdx(runtime=empty)))) == {"az.hcl.user-data"}
    old = parse_azure_snp(cloud.snp(runtime=stale, version=1))
    assert cloud.judge(old).accepted
    assert wrong(cloud.judge(old, AzurePolicy(require_user_data=True))) == {"az.hcl.user-data"}


def test_secure_boot_off_is_warned_of(cloud: Cloud) -> None:
    appraisal = cloud.judge(
        parse_azure_snp(cloud.snp(runtime=cloud.vm.runtime_data(CHALLENGE, secure_boot=False)))
    )
    assert appraisal.accepted
    assert next(check for check in appraisal.checks if check.id == "az.vm.secure-boot").result is Result.WARN


def test_the_boot_has_to_be_pinned_beside_the_hardware() -> None:
    """The hardware measures the paravisor only (attack A28), and PCR 11 is the guest's to extend (attack A27)."""
    assert AZ_SNP.required(()) == {"measurement", "pcr04", "pcr11"}
    assert AZ_TDX.required({"pcr09"}) == {"mr_td", "pcr04", "pcr09"}
    for kind in (AZ_SNP, AZ_TDX):
        for expected in ((), {"pcr09"}, {"sha384_pcr04"}, {"sha384_pcr04", "sha384_pcr09"}):
            # What cannot be in the evidence would be required in vain.
            assert kind.required(expected) <= kind.registers.keys()
        assert not any(name.startswith("sha384") for name in kind.registers)


def test_claims_are_trustees(cloud: Cloud) -> None:
    appraisal = cloud.judge(parse_azure_snp(cloud.snp()))
    claims = AZ_SNP.claims(appraisal)
    assert claims.claims["policy_debug_allowed"] == "false"
    assert claims.claims["reported_tcb_snp"].isdecimal()
    assert len(claims.claims["measurement"]) == 64  # base64 of 48 bytes
    assert claims.claims["tpm"]["pcr11"] == cloud.vm.tpm.pcrs[11].hex()
    assert "report_data" not in claims.claims
    assert claims.init_data == cloud.vm.tpm.pcrs[8]
    claims = AZ_TDX.claims(cloud.judge(parse_azure_tdx(cloud.tdx())))
    assert claims.claims["quote"]["header"]["tee_type"] == "81000000"
    assert claims.claims["tcb_status"] == "UpToDate"
    assert claims.claims["tpm"]["pcr04"] == cloud.vm.tpm.pcrs[4].hex()


def test_both_doors_read_the_same(cloud: Cloud) -> None:
    for data, parse, read in (
        (cloud.snp(), parse_azure_snp, azure_snp_from_kbs),
        (cloud.tdx(), parse_azure_tdx, azure_tdx_from_kbs),
    ):
        assert parse(data).quote.message == read(json.loads(data)).quote.message
        assert parse(read(json.loads(data)).raw).measurements == parse(data).measurements


# Bytes that are not what they should be.


def hcl(cloud: Cloud) -> bytes:
    text = json.loads(cloud.snp())["hcl_report"]
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_every_byte_of_the_hcl_report_is_accounted_for(cloud: Cloud) -> None:
    report = hcl(cloud)
    runtime = parse_hcl_report(report).runtime
    end = 1236 + len(runtime.json)
    for at in (0, 8, 12, 16, 31, 1216, 1220, 1224, 1228, 1232, end, len(report) - 1):
        altered = bytearray(report)
        altered[at] ^= 0x40
        with pytest.raises(EvidenceError) as refused:
            parse_hcl_report(bytes(altered))
        assert refused.value.check == "az.hcl.format", at
    for cut in (0, 31, 1215, 1236, end - 1):
        with pytest.raises(EvidenceError):
            parse_hcl_report(report[:cut])


@pytest.mark.parametrize(
    "change",
    [
        {"keys": []},
        {"keys": None},
        {"keys": [{"kid": "HCLAkPub", "kty": "EC"}]},
        {"keys": [{"kid": "HCLAkPub", "kty": "RSA", "e": "AQAB", "n": "!"}]},
        {"keys": [{"kid": "HCLAkPub", "kty": "RSA", "e": "AQAB", "n": "AA"}]},
        {"user-data": "zz"},
        {"user-data": "00" * 65},
        {"vm-configuration": []},
    ],
)
def test_runtime_data_has_to_make_sense(cloud: Cloud, change: dict[str, Any]) -> None:
    document = json.loads(cloud.vm.runtime_data()) | change
    with pytest.raises(EvidenceError):
        parse_hcl_report(pack_hcl_report(bytes(1184), REPORT_SNP, json.dumps(document).encode()))


def test_two_attestation_keys_are_one_too_many(cloud: Cloud) -> None:
    document = json.loads(cloud.vm.runtime_data())
    document["keys"] *= 2
    with pytest.raises(EvidenceError, match="exactly one"):
        parse_hcl_report(pack_hcl_report(bytes(1184), REPORT_SNP, json.dumps(document).encode()))


def test_evidence_of_the_other_hardware_is_refused(cloud: Cloud) -> None:
    snp, tdx = json.loads(cloud.snp()), json.loads(cloud.tdx())
    for document, read in (
        (snp | {"hcl_report": tdx["hcl_report"]}, azure_snp_from_kbs),
        (tdx | {"hcl_report": snp["hcl_report"]}, azure_tdx_from_kbs),
    ):
        with pytest.raises(EvidenceError, match="another kind of hardware"):
            read(document)


@pytest.mark.parametrize("version", [-1, 0, 3, True, "1", None])
def test_an_unknown_version_is_refused(cloud: Cloud, version: object) -> None:
    with pytest.raises(EvidenceError, match="version"):
        azure_snp_from_kbs(json.loads(cloud.snp()) | {"version": version})


def test_a_version_keeps_to_its_own_way_of_writing(cloud: Cloud) -> None:
    """Else one reader would see bytes where another sees none."""
    old, new = json.loads(cloud.snp(version=0)), json.loads(cloud.snp(version=1))
    with pytest.raises(EvidenceError):
        azure_snp_from_kbs(old | {"report": new["hcl_report"]})
    with pytest.raises(EvidenceError):
        azure_snp_from_kbs(new | {"hcl_report": old["report"]})
    with pytest.raises(EvidenceError):
        azure_snp_from_kbs(new | {"hcl_report": new["hcl_report"].replace("-", "+").replace("_", "/") + "+"})


def test_any_bytes_give_a_value_or_an_error(cloud: Cloud) -> None:
    report = hcl(cloud)
    targets: list[tuple[Callable[[bytes], object], bytes]] = [
        (parse_hcl_report, report),
        (parse_runtime_data, report[1216:]),
        (parse_azure_snp, cloud.snp()),
        (parse_azure_tdx, cloud.tdx(version=0)),
    ]
    for parse, seed in targets:
        parse(seed)

        @given(st.integers(0, len(seed)), st.integers(0, 16), st.binary(max_size=16), st.just((parse, seed)))
        def check(
            at: int, length: int, piece: bytes, target: tuple[Callable[[bytes], object], bytes]
        ) -> None:
            parse, seed = target
            with suppress(EvidenceError):
                parse(seed[:at] + piece + seed[at + length :])

        check()
