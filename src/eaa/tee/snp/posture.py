# SPDX-License-Identifier: Apache-2.0
"""Steps 6 and 7 of SNP verification: what an owner may refuse though it is genuine, of the platform and of the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eaa.tee.snp import rules
from eaa.tee.snp.product import Product
from eaa.tee.snp.report import (
    HOST_VMPL,
    KEY_INFO_AUTHOR,
    PLATFORM_ALIAS_CHECK,
    PLATFORM_CIPHERTEXT_HIDING,
    PLATFORM_SMT,
    POLICY_MIGRATE_MA,
    POLICY_PAGE_SWAP_DISABLE,
    POLICY_SINGLE_SOCKET,
    POLICY_SMT,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eaa.rats import Check, Rule
    from eaa.tee.snp.authority import Signer
    from eaa.tee.snp.policy import SnpPolicy
    from eaa.tee.snp.report import AttestationReport

__all__ = ["check_guest", "check_platform"]

_COUNTED: Final = ("reported", "committed", "launch")
"""The TCB versions that count towards the minimum: never the current one, which may be provisional and rolled back."""


def check_platform(
    platform: AttestationReport, signer: Signer, bulletins: Sequence[str], policy: SnpPolicy
) -> list[Check]:
    """Make step 6. ``bulletins`` are those that the reported TCB does not show to be fixed."""
    product = signer.product
    smt = platform.platform_info & PLATFORM_SMT
    alias_check = platform.platform_info & PLATFORM_ALIAS_CHECK
    return [
        _minimum(platform, product, policy),
        _provisional(platform, product, policy),
        (rules.BULLETINS.warned if bulletins else rules.BULLETINS.passed)(
            "all fixed", "; ".join(bulletins) or "all fixed"
        ),
        _family(product, policy),
        _chip(signer, policy),
        rules.ALIAS_CHECK.holds(
            bool(alias_check) or not policy.require_alias_check,
            "ALIAS_CHECK_COMPLETE=1",
            f"ALIAS_CHECK_COMPLETE={bool(alias_check):d}",
        ),
        _wanted(rules.PLATFORM_SMT, "SMT_EN", found=bool(smt), wanted=False, required=not policy.allow_smt),
        _ciphertext_hiding(platform, product, policy),
    ]


def check_guest(guest: AttestationReport, product: Product | None, policy: SnpPolicy) -> list[Check]:
    """Make step 7."""
    bits = guest.policy
    migrate = bool(bits & POLICY_MIGRATE_MA)
    single = bool(bits & POLICY_SINGLE_SOCKET)
    kept = bool(bits & POLICY_PAGE_SWAP_DISABLE)
    least, abi = policy.minimum_abi, guest.policy_abi
    reserved = guest.reserved_set(product)
    vmpls = ", ".join(str(level) for level in sorted(policy.vmpls))
    return [
        rules.RESERVED.holds(not reserved, "all as specified", "; ".join(reserved) or "all as specified"),
        rules.VMPL.holds(
            guest.vmpl in policy.vmpls,
            f"VMPL {vmpls}",
            "asked for by the host" if guest.vmpl == HOST_VMPL else f"VMPL {guest.vmpl}",
        ),
        rules.DEBUG.holds(not guest.debug, "DEBUG=0", f"DEBUG={guest.debug:d}"),
        rules.MIGRATE_MA.holds(
            not migrate or policy.allow_migrate_ma, "MIGRATE_MA=0", f"MIGRATE_MA={migrate:d}"
        ),
        _wanted(
            rules.POLICY_SMT,
            "SMT",
            found=bool(bits & POLICY_SMT),
            wanted=False,
            required=not policy.allow_smt,
        ),
        rules.SINGLE_SOCKET.holds(
            single or not policy.require_single_socket,
            "SINGLE_SOCKET=1" if policy.require_single_socket else "either",
            f"SINGLE_SOCKET={single:d}",
        ),
        rules.PAGE_SWAP.holds(
            kept or not policy.require_page_swap_disable,
            "PAGE_SWAP_DISABLE=1" if policy.require_page_swap_disable else "either",
            f"PAGE_SWAP_DISABLE={kept:d}",
        ),
        rules.POLICY_ABI.holds(abi >= least, "{}.{} or later".format(*least), "{}.{}".format(*abi)),
        _signed_by(rules.ID_KEY, guest.id_key_digest, policy.id_keys),
        _signed_by(
            rules.AUTHOR_KEY,
            guest.author_key_digest if guest.key_info & KEY_INFO_AUTHOR else b"",
            policy.author_keys,
        ),
    ]


def _minimum(platform: AttestationReport, product: Product | None, policy: SnpPolicy) -> Check:
    if product is None:
        return rules.TCB_MINIMUM.not_made("the product's minimum", "the product is not known")
    floor = policy.minimum_tcb.get(product)
    if floor is None:
        return rules.TCB_MINIMUM.failed(f"a minimum for {product}", "the owner's policy has none")
    versions = {name: platform.tcb(name, product) for name in _COUNTED}
    below = [f"{name}: {tcb}" for name, tcb in versions.items() if not tcb.reaches(floor.tcb)]
    return rules.TCB_MINIMUM.holds(
        not below,
        f"{product}: {floor} or more ({floor.reason})",
        "; ".join(below) or f"reported: {versions['reported']}",
    )


def _provisional(platform: AttestationReport, product: Product | None, policy: SnpPolicy) -> Check:
    current, committed = platform.tcb("current", product), platform.tcb("committed", product)
    running = (platform.current_major, platform.current_minor, platform.current_build)
    rule, expected = rules.PROVISIONAL, "current TCB and firmware are the committed ones"
    if current == committed and running == platform.firmware:
        return rule.passed(expected, f"committed: {committed}")
    found = "current {}: {}; committed {}: {}".format(
        "{}.{}.{}".format(*running), current, "{}.{}.{}".format(*platform.firmware), committed
    )
    return (rule.warned if policy.allow_provisional_firmware else rule.failed)(expected, found)


def _family(product: Product | None, policy: SnpPolicy) -> Check:
    accepted = ", ".join(sorted(policy.products)) or "none"
    if product is None:
        return rules.FAMILY.not_made(accepted, "the product is not known")
    if product not in policy.products:
        return rules.FAMILY.failed(accepted, product.value)
    if product is Product.MILAN:
        return rules.FAMILY.warned(
            "a product whose keys cannot be extracted",
            "Milan: software that once controlled the chip can have read the seed of its VCEKs and then forge reports of any "
            "firmware version, which no report can show",
        )
    return rules.FAMILY.passed(accepted, product.value)


def _chip(signer: Signer, policy: SnpPolicy) -> Check:
    rule = rules.CHIP_ALLOWED
    if not policy.chip_ids and not policy.csp_ids:
        return rule.not_applicable("the owner lists neither chips nor clouds")
    expected = f"one of {len(policy.chip_ids)} chips and {len(policy.csp_ids)} clouds"
    key = signer.certificate
    if key is None:
        return rule.not_made(expected, "the chip is not proven")
    # What is certified counts, not what the report says: a chip may mask its id.
    if key.hardware_id is not None:
        listed = {each.rstrip(b"\0") for each in policy.chip_ids}
        return rule.holds(key.hardware_id.rstrip(b"\0") in listed, expected, key.hardware_id.hex())
    return rule.holds(key.csp_id in policy.csp_ids, expected, str(key.csp_id))


def _ciphertext_hiding(platform: AttestationReport, product: Product | None, policy: SnpPolicy) -> Check:
    hidden = bool(platform.platform_info & PLATFORM_CIPHERTEXT_HIDING)
    if product is Product.MILAN and not policy.require_ciphertext_hiding:
        return rules.CIPHERTEXT_HIDING.not_applicable("Milan has no ciphertext hiding")
    return _wanted(
        rules.CIPHERTEXT_HIDING,
        "CIPHERTEXT_HIDING_DRAM_EN",
        found=hidden,
        wanted=True,
        required=policy.require_ciphertext_hiding,
    )


def _wanted(rule: Rule, bit: str, *, found: bool, wanted: bool, required: bool) -> Check:
    """Check a bit that should be as ``wanted``; unless that is required, another value is a warning."""
    expected, text = f"{bit}={wanted:d}", f"{bit}={found:d}"
    if found is wanted:
        return rule.passed(expected, text)
    return (rule.failed if required else rule.warned)(expected, text)


def _signed_by(rule: Rule, digest: bytes, listed: frozenset[bytes]) -> Check:
    if not listed:
        return rule.not_applicable("the owner lists no keys")
    return rule.holds(digest in listed, f"one of {len(listed)} keys", digest.hex() if any(digest) else "none")
