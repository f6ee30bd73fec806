# SPDX-License-Identifier: Apache-2.0
"""Attacks on AMD SEV-SNP: keys, firmware, guest policies, the platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eaa.rats import Result
from eaa.simulator.amd import CSP_ID
from eaa.simulator.snp_traits import TCBS
from eaa.tee.snp.minimum_tcb import MINIMUM
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.product import Product
from eaa.tee.snp.report import HOST_VMPL, KEY_VCEK, KEY_VLEK, POLICY_BITS, POLICY_ONE

if TYPE_CHECKING:
    from tests.attacks.conftest import Attack, Snp

pytestmark = pytest.mark.anyio


@pytest.mark.attack(
    "A15",
    title="A cloud's key (VLEK) passes for the chip's own (VCEK), or nobody looks which key signed",
    instance="snpguest #48; attestation-go #12",
    checks=("snp.report.signer", "snp.report.signature", "snp.vcek.chain"),
)
async def test_a15_the_kind_of_key_is_what_the_report_names(attack: Attack, snp: Snp) -> None:
    """The certificate must be of the kind that the signed report names, under the authority for that kind; no key, no trust."""
    await attack.rejected(
        snp.case("vlek-as-vcek", signer="VLEK"), "snp.report.signer", "snp.report.signature"
    )
    vcek_as_vlek = snp.case(report={"key_info": KEY_VLEK << 2})
    await attack.rejected(vcek_as_vlek, "snp.report.signer", "snp.report.signature")
    for reserved in range(2, 8):
        await attack.rejected(snp.case(report={"key_info": reserved << 2}), "snp.report.signer")
    await attack.rejected(snp.case("unsigned-report"), "snp.report.signer", "snp.report.signature")
    await attack.rejected(snp.case("missing-vcek"), "snp.report.signer", "snp.report.signature")
    await attack.rejected(snp.case("altered-vcek"), "snp.vcek.chain")
    for signer, code in (("VCEK", KEY_VCEK), ("VLEK", KEY_VLEK)):
        case = snp.case(signer=signer)
        assert case.appraised().evidence.report.signing_key == code  # type: ignore[attr-defined] # SNP evidence
        assert case.appraised().accept().values["signing_key"] == signer
        await attack.twin(case)


@pytest.mark.attack(
    "A16",
    title="The TCB is believed as the report states it, not as the key's certificate certifies it",
    instance="TOB-WAPI-8 (WhatsApp Private Processing audit)",
    checks=(
        "snp.vcek.tcb",
        "snp.vcek.chip-id",
        "snp.vcek.product",
        "snp.tcb.relations",
        "snp.tcb.minimum",
        "snp.tcb.provisional",
    ),
)
async def test_a16_what_is_certified_counts(attack: Attack, snp: Snp) -> None:
    """Reported TCB, chip and product equal the certified ones, the versions are in order, and provisional firmware counts for nothing."""
    await attack.rejected(snp.case("tcb-mismatch"), "snp.vcek.tcb")
    await attack.rejected(snp.case("tcb-mismatch", signer="VLEK"), "snp.vcek.tcb")
    raised = TCBS[Product.GENOA]._replace(snp=TCBS[Product.GENOA].snp + 1).pack()
    await attack.rejected(snp.case(report={"reported_tcb": raised}), "snp.vcek.tcb")
    await attack.rejected(snp.case("wrong-chip-id"), "snp.vcek.chip-id")
    await attack.rejected(snp.case(report={"chip_id": bytes([1]) * 64}), "snp.vcek.chip-id")
    await attack.rejected(snp.case("wrong-product"), "snp.vcek.product")
    await attack.rejected(snp.case("unordered-tcb"), "snp.tcb.relations")
    await attack.rejected(snp.case("provisional"), "snp.tcb.minimum")
    strict = SnpPolicy(allow_provisional_firmware=False)
    await attack.rejected(snp.case("provisional", policy=strict), "snp.tcb.provisional")
    await attack.twin(snp.case(policy=strict))
    await attack.twin(snp.case(signer="VLEK"))


@pytest.mark.attack(
    "A19",
    title="The report was not asked for by the guest's most privileged software, but by its user space or by the host",
    instance="attestation-rs #67",
    checks=("snp.vmpl",),
)
async def test_a19_reports_are_of_privilege_level_0(attack: Attack, snp: Snp) -> None:
    """Any level above 0 is refused unless the owner lists it for a paravisor; the host's reports never are the guest's."""
    await attack.rejected(snp.case("vmpl"), "snp.vmpl")
    for level in (1, 2, 3, 4, HOST_VMPL):
        await attack.rejected(snp.case(report={"vmpl": level}), "snp.vmpl")
    every = SnpPolicy(vmpls=frozenset(range(4)))
    await attack.rejected(snp.case(report={"vmpl": HOST_VMPL}, policy=every), "snp.vmpl")
    await attack.twin(snp.case("vmpl", policy=SnpPolicy(vmpls=frozenset({1}))))
    await attack.twin(snp.case())


@pytest.mark.attack(
    "A20",
    title="Nobody looks at the guest's policy and the platform's state: a migration agent, SMT siblings, an old ABI, readable ciphertext, pages that the host swaps out",
    instance="what Contrast's manifest pins",
    checks=(
        "snp.policy.migrate-ma",
        "snp.policy.smt",
        "snp.platform.smt",
        "snp.policy.single-socket",
        "snp.policy.page-swap",
        "snp.policy.abi",
        "snp.platform.ciphertext-hiding",
        "snp.report.reserved",
    ),
)
async def test_a20_guest_policy_and_platform_are_judged(attack: Attack, snp: Snp) -> None:
    """Migration and unknown bits are refused by default, the rest as the owner asks."""
    await attack.rejected(snp.case("migrate-ma"), "snp.policy.migrate-ma")
    await attack.rejected(snp.case("reserved"), "snp.report.reserved")
    await attack.rejected(snp.case(report={"policy": POLICY_ONE | 1 << 40}), "snp.report.reserved")
    no_smt = SnpPolicy(allow_smt=False)
    await attack.rejected(snp.case("smt", policy=no_smt), "snp.policy.smt", "snp.platform.smt")
    one_socket = SnpPolicy(require_single_socket=True)
    await attack.rejected(snp.case(policy=one_socket), "snp.policy.single-socket")
    in_place = SnpPolicy(require_page_swap_disable=True)
    await attack.rejected(snp.case(policy=in_place), "snp.policy.page-swap")
    recent = SnpPolicy(minimum_abi=(1, 52))
    await attack.rejected(snp.case(policy=recent), "snp.policy.abi")
    hidden = SnpPolicy(require_ciphertext_hiding=True)
    await attack.rejected(snp.case(product=Product.MILAN, policy=hidden), "snp.platform.ciphertext-hiding")
    strict = SnpPolicy(
        allow_smt=False,
        require_single_socket=True,
        require_page_swap_disable=True,
        minimum_abi=(1, 51),
        require_ciphertext_hiding=True,
    )
    sound = POLICY_ONE | POLICY_BITS["single_socket"] | POLICY_BITS["page_swap_disabled"] | 1 << 8 | 51
    await attack.twin(snp.case(report={"policy": sound}, policy=strict))
    await attack.twin(snp.case())


@pytest.mark.attack(
    "A21",
    title="Memory modules that lie about their size alias the guest's memory (BadRAM)",
    instance="CVE-2024-21944, AMD-SB-3015",
    checks=("snp.platform.alias-check", "snp.tcb.minimum"),
)
async def test_a21_memory_was_checked_for_aliases(attack: Attack, snp: Snp) -> None:
    """The platform must state, in the signed report, that it looked for aliases, and run firmware that does."""
    for product in (Product.MILAN, Product.GENOA):
        await attack.rejected(snp.case("alias-check-missing", product=product), "snp.platform.alias-check")
        await attack.rejected(snp.case("below-minimum", product=product), "snp.tcb.minimum")
        await attack.twin(snp.case(product=product))


@pytest.mark.attack(
    "A22",
    title="Microcode that AMD never signed is loaded (EntrySign), and the platform attests as ever",
    instance="CVE-2024-56161, AMD-SB-3019; CCF #6812",
    checks=("snp.tcb.minimum",),
)
async def test_a22_firmware_below_the_fix_is_refused(attack: Attack, snp: Snp) -> None:
    """One level below the bulletin's is refused, the bulletin's own passes; committed and launch TCB count like the reported one."""
    fixed = {Product.MILAN: 0x18, Product.GENOA: 0x17}
    for product, level in fixed.items():
        assert MINIMUM[product].snp == level
        behind = TCBS[product].snp - level
        await attack.rejected(snp.case(product=product, snp_behind=behind + 1), "snp.tcb.minimum")
        await attack.twin(snp.case(product=product, snp_behind=behind))
        old = TCBS[product]._replace(snp=level - 1).pack()
        await attack.rejected(snp.case(product=product, report={"launch_tcb": old}), "snp.tcb.minimum")
    # The certificate of a chip whose microcode was forged may say anything newer; its firmware level is what is certified.
    none = SnpPolicy(minimum_tcb={Product.MILAN: MINIMUM[Product.MILAN]})
    await attack.rejected(snp.case(policy=none), "snp.tcb.minimum")


@pytest.mark.attack(
    "A23",
    title="The seed of the chip's keys is read out by software: reports of any firmware version are forged for that chip",
    instance="MilanLaunchy and BadFuse, arXiv 2605.12990 (2026-05), EPYC Milan",
    checks=("snp.platform.family-advisory", "snp.platform.chip"),
)
async def test_a23_what_no_report_can_show_is_said(attack: Attack, snp: Snp) -> None:
    """Every verdict about Milan says so; an owner can refuse the product, or all chips but those whose history he controls."""
    for product, result in ((Product.MILAN, Result.WARN), (Product.GENOA, Result.PASS)):
        checks = {check.id: check for check in snp.case(product=product).appraised().checks}
        assert checks["snp.platform.family-advisory"].result is result
    without_milan = SnpPolicy(products=frozenset({Product.GENOA, Product.TURIN}))
    await attack.rejected(
        snp.case(product=Product.MILAN, policy=without_milan), "snp.platform.family-advisory"
    )
    await attack.twin(snp.case(policy=without_milan))
    mine = snp.maker.machine("mine", Product.MILAN).chip_id
    listed = SnpPolicy(chip_ids=frozenset({mine}))
    await attack.rejected(snp.case(product=Product.MILAN, policy=listed), "snp.platform.chip")
    # To mask the chip id does not help: what is certified counts.
    await attack.rejected(
        snp.case("masked-chip-id", product=Product.MILAN, policy=listed), "snp.platform.chip"
    )
    await attack.twin(snp.case(product=Product.MILAN, policy=listed, name="mine"))
    cloud = SnpPolicy(csp_ids=frozenset({"CN=another"}))
    await attack.rejected(snp.case(signer="VLEK", policy=cloud), "snp.platform.chip")
    await attack.twin(snp.case(signer="VLEK", policy=SnpPolicy(csp_ids=frozenset({CSP_ID}))))
