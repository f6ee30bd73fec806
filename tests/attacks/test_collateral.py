# SPDX-License-Identifier: Apache-2.0
"""Attacks on what the chip maker states: identities, TCB levels, revocation, time, roots (SGX and TDX)."""

from __future__ import annotations

import socket
from base64 import b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from eaa.rats import Endorsement, Endorsements, Result
from eaa.simulator.traits import svns
from eaa.tee.dcap.policy import ACCEPTABLE_STATUSES, AcceptancePolicy
from eaa.tee.dcap.quote import CertificationData, pack_envelope
from eaa.tee.registry import parse_evidence
from eaa.tee.x509 import split_pem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.attacks.conftest import Attack, Dcap, Snp

pytestmark = pytest.mark.anyio
TEES = ("sgx", "tdx")


def always(value: Any) -> Callable[[Any], Any]:
    """Whatever is given, this is there."""
    return lambda _: value


def without(kind: str) -> Callable[[Endorsements], Endorsements]:
    """Collateral that lacks one kind."""
    return lambda given: Endorsements(tuple(item for item in given.items if item.kind != kind))


def recertified(data: Callable[[bytes], CertificationData], tee: str) -> Callable[[bytes], bytes]:
    """The same genuine quote with other certification data, which nobody signs."""

    def altered(quote: bytes) -> bytes:
        envelope: Any = parse_evidence(quote, tee=tee).envelope  # type: ignore[attr-defined] # a DCAP quote
        part = envelope.signature
        return pack_envelope(envelope.signed, part._replace(certification=data(part.certification.data)))

    return altered


@pytest.mark.attack(
    "A1",
    title="The identity of the quoting enclave is fetched, but nobody verifies who signed it: an attacker states his own enclave to be Intel's",
    instance="CVE-2026-22696, GHSA-796p-j2gh-9m2q (dcap-qvl before 0.3.9)",
    checks=(
        "dcap.qe-identity.signature",
        "dcap.qe-identity.chain",
        "dcap.qe.mrsigner",
        "dcap.qe.product",
        "dcap.qe.attributes",
    ),
)
async def test_a01_qe_identity_is_verified(attack: Attack, dcap: Dcap) -> None:
    """A foreign quoting enclave passes neither with the genuine identity nor with one that was made to fit it."""
    foreign = bytes([0xCC]) * 32

    def made_to_fit(identity: dict[str, Any]) -> None:
        identity["mrsigner"] = foreign.hex()

    for tee in TEES:
        await attack.rejected(dcap.case(tee, "wrong-qe"), "dcap.qe.mrsigner")
        await attack.rejected(
            dcap.case(
                tee,
                qe_signer=foreign,
                endorsed=dcap.restating("qe_identity", made_to_fit, signed=False),
            ),
            "dcap.qe-identity.signature",
        )

        def by_impostor(given: Endorsements, tee: str = tee) -> Endorsements:
            theirs = dcap.maker.collateral(tee, attack.desk.AT, faults=("wrong-root",))
            return Endorsements((*without("qe_identity")(given).items, *theirs.of_kind("qe_identity")))

        await attack.rejected(
            dcap.case(tee, qe_signer=foreign, endorsed=by_impostor), "dcap.qe-identity.chain"
        )
        await attack.rejected(
            dcap.case(
                tee,
                endorsed=dcap.restating("qe_identity", lambda identity: identity.update(isvprodid=77)),
            ),
            "dcap.qe.product",
        )
        await attack.rejected(dcap.case(tee, "debug-qe"), "dcap.qe.attributes")
        await attack.twin(dcap.case(tee))


@pytest.mark.attack(
    "A2",
    title="A revoked status is returned early as a result, before chain and signature were looked at",
    instance="automata-dcap-attestation PR #144 (2026-06)",
    checks=("dcap.tcb.revoked", "dcap.quote.signature", "dcap.qe.report-signature", "dcap.pck.chain"),
)
async def test_a02_revoked_status_does_not_hide_a_bad_signature(attack: Attack, dcap: Dcap) -> None:
    """A revoked quoting enclave or platform, with garbage for signatures: refused for both."""

    def revoked(identity: dict[str, Any]) -> None:
        for level in identity["tcbLevels"]:
            level["tcbStatus"] = "Revoked"

    def with_revoked_qe(given: Endorsements) -> Endorsements:
        return dcap.restated(given, "qe_identity", revoked)

    for tee in TEES:
        for fault, check in (
            ("altered-signature", "dcap.quote.signature"),
            ("altered-qe-report", "dcap.qe.report-signature"),
        ):
            await attack.rejected(dcap.case(tee, fault, endorsed=with_revoked_qe), "dcap.tcb.revoked", check)
            await attack.rejected(dcap.case(tee, "revoked-tcb", fault), "dcap.tcb.revoked", check)
        await attack.rejected(dcap.case(tee, "revoked-tcb", "altered-pck"), "dcap.pck.chain")
        await attack.rejected(dcap.case(tee, endorsed=with_revoked_qe), "dcap.tcb.revoked")
        await attack.twin(dcap.case(tee))


@pytest.mark.attack(
    "A3",
    title="A platform that is revoked for one kind of TEE passes because it is good for the other",
    instance="automata-dcap-attestation PR #155",
    checks=("dcap.tcb.revoked", "dcap.tcb-info.tee"),
)
async def test_a03_the_quotes_own_kind_of_tee_decides(attack: Attack, dcap: Dcap) -> None:
    """TCB info of both kinds is at hand and only one says Revoked: it counts for its own kind, and for no other."""

    def revoked(info: dict[str, Any]) -> None:
        for level in info["tcbLevels"]:
            level["tcbStatus"] = "Revoked"

    good = {tee: dcap.maker.collateral(tee, attack.desk.AT) for tee in TEES}
    for tee, other in (("sgx", "tdx"), ("tdx", "sgx")):
        bad = dcap.restated(good[tee], "tcb_info", revoked)
        for sets in ((bad, good[other]), (good[other], bad)):
            both = Endorsements.merged(sets)
            await attack.rejected(dcap.case(tee, endorsed=always(both)), "dcap.tcb.revoked")
            await attack.twin(dcap.case(other, endorsed=always(both)))
        await attack.rejected(dcap.case(tee, endorsed=always(good[other])), "dcap.tcb-info.tee")


@pytest.mark.attack(
    "A6",
    title="Lists of SVNs of different lengths are zipped, or a TCB is compared as one number: a lower component hides behind a higher one",
    instance="dcap-qvl PR #164; go-sev-guest #51, #59",
    checks=("dcap.tcb-info.format", "dcap.tcb.level", "dcap.tcb.revoked"),
)
async def test_a06_every_component_counts(attack: Attack, dcap: Dcap) -> None:
    """15 or 17 components are refused even if the chip maker signed them; a very high first component makes up for nothing."""

    def cut(info: dict[str, Any]) -> None:
        for level in info["tcbLevels"]:
            del level["tcb"]["sgxtcbcomponents"][-1]

    def longer(info: dict[str, Any]) -> None:
        for level in info["tcbLevels"]:
            level["tcb"]["sgxtcbcomponents"].append({"svn": 0})

    def no_pce(info: dict[str, Any]) -> None:
        del info["tcbLevels"][0]["tcb"]["pcesvn"]

    for tee in TEES:
        for edit in (cut, longer, no_pce):
            await attack.rejected(
                dcap.case(tee, endorsed=dcap.restating("tcb_info", edit)),
                "dcap.tcb-info.format",
            )
        # As one number, either is far above the best level; by component, one is below all and one in a revoked level.
        await attack.rejected(dcap.case(tee, sgx_svns=svns(255, 0, 2, 2, 4, 1, 0, 5)), "dcap.tcb.level")
        await attack.rejected(dcap.case(tee, sgx_svns=svns(255, 1, 2, 2, 4, 1, 0, 5)), "dcap.tcb.revoked")
        await attack.twin(dcap.case(tee, sgx_svns=svns(255, 3, 2, 2, 4, 1, 0, 5)))
    await attack.rejected(dcap.case("tdx", tdx_svns=svns(6, 1, 0, 255)), "dcap.tcb.level")


@pytest.mark.attack(
    "A7",
    title="The TCB status is computed and then not looked at: a platform with known holes passes",
    instance="dstack findings 2/6; bitrouter #566; dcap-qvl #125",
    checks=("dcap.tcb.status", "dcap.tcb.revoked", "configuration.invalid"),
)
async def test_a07_the_status_is_a_gate(attack: Attack, dcap: Dcap) -> None:
    """Only listed statuses pass, module and quoting enclave count in, and Revoked cannot be listed."""
    for tee in TEES:
        for fault in ("stale-tcb", "sw-hardening", "stale-qe", *(("stale-module",) if tee == "tdx" else ())):
            await attack.rejected(dcap.case(tee, fault), "dcap.tcb.status")
        lenient = AcceptancePolicy(tcb_statuses=ACCEPTABLE_STATUSES)
        await attack.rejected(dcap.case(tee, "revoked-tcb", policy=lenient), "dcap.tcb.revoked")
        await attack.twin(dcap.case(tee))
        # On purpose, a status can be accepted by name; the owner's attestation policy still sees it.
        dcap.case(tee, "stale-tcb", policy=lenient).appraised().accept()
    for statuses in ({"Revoked"}, {"UpToDate", "Revoked"}, {"NoSuchStatus"}):
        with attack.refused("configuration.invalid"):
            AcceptancePolicy(tcb_statuses=frozenset(statuses))


@pytest.mark.attack(
    "A8",
    title="Old collateral, genuinely signed, is played back to make an old platform look current",
    instance="aleph-vm PR #1195 (review, 2026-09)",
    checks=(
        "dcap.tcb-info.dates",
        "dcap.qe-identity.dates",
        "dcap.crl.root-dates",
        "dcap.crl.pck-dates",
        "dcap.tcb.evaluation-number",
        "dcap.tcb.status",
    ),
)
async def test_a08_old_collateral_does_not_come_back(attack: Attack, dcap: Dcap, tmp_path: Path) -> None:
    """Expired and future collateral is refused, an evaluation below the owner's minimum too, and the Endorser never goes back."""
    from eaa.endorser.store import Outcome, Store

    newer = AcceptancePolicy(minimum_tcb_evaluation_number=19)
    for tee in TEES:
        for fault in ("expired-collateral", "future-collateral"):
            await attack.rejected(
                dcap.case(tee, fault),
                "dcap.tcb-info.dates",
                "dcap.qe-identity.dates",
                "dcap.crl.root-dates",
                "dcap.crl.pck-dates",
            )
        await attack.rejected(dcap.case(tee, policy=newer), "dcap.tcb.evaluation-number")

        # The chip maker finds holes, and says so under the next number. Both statements are valid today.
        def found_holes(info: dict[str, Any]) -> None:
            info["tcbEvaluationDataNumber"] += 1
            for level in info["tcbLevels"]:
                level["tcbStatus"] = "OutOfDate"

        old = dcap.maker.collateral(tee, attack.desk.AT)
        new = dcap.restated(old, "tcb_info", found_holes)
        async with await Store.open(tmp_path / tee, (dcap.maker.trust_anchor(),)) as store:
            await store.put(new)
            played_back = {each.subject.kind: each.outcome for each in await store.put(old)}
            assert played_back["tcb_info"] is Outcome.KEPT_NEWER
            evidence = parse_evidence(dcap.case(tee).evidence(bytes(64)), tee=tee)
            kept = store.endorsements_for(evidence)
        assert len(kept.items) == 4
        await attack.rejected(dcap.case(tee, endorsed=always(kept)), "dcap.tcb.status")
        await attack.twin(dcap.case(tee, endorsed=always(old)))


@pytest.mark.attack(
    "A9",
    title="The evidence, or whoever sends it, chooses where collateral comes from or what time it is",
    instance="Phala disclosure (2026); dstack #615",
    checks=("dcap.crl.pck", "dcap.quote.certification-data", "dcap.tcb-info.dates", "input.malformed"),
)
async def test_a09_no_address_and_no_clock_from_a_stranger(
    attack: Attack, dcap: Dcap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in evidence or request makes a connection or moves the clock: what is missing stays missing."""
    called: list[Any] = []

    def connect(*arguments: Any, **_: Any) -> None:
        called.append(arguments)
        raise OSError("no connection is made here")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, connect)
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, connect)

    for tee in TEES:
        case = dcap.case(tee, "missing-crl")
        assert b"https://chip-maker.invalid/" in split_pem(dcap.maker.machine().pck_chain)[0]
        tempting = replace(
            case,
            wire=lambda raw: {
                "quote": b64encode(raw).decode(),
                "pccs_url": "http://169.254.169.254/sgx/certification/v4/",
                "collateral": {"pck_crl": ""},
            },
        )
        await attack.rejected(tempting, "dcap.crl.pck")
        for kind in (1, 2, 3):
            no_chain = recertified(always(CertificationData(kind, bytes(404))), tee)
            await attack.rejected(dcap.case(tee, altered=no_chain), "dcap.quote.certification-data")
        past = "Mon, 26 Oct 2026 12:00:00 GMT"
        await attack.rejected(
            dcap.case(tee, "expired-collateral"), "dcap.tcb-info.dates", date=past, **{"x-time": past}
        )
        case = dcap.case(tee)
        evidence = parse_evidence(case.evidence(bytes(64)), tee=tee)
        with attack.refused("input.malformed"):
            # No zone, no time: the verifier neither guesses one nor looks at a clock of its own.
            case.verifier.verify(
                evidence, case.endorsements, at=attack.desk.AT.replace(tzinfo=None), report_data=bytes(64)
            )
        await attack.twin(case)
    assert called == []


@pytest.mark.attack(
    "A10",
    title="Nobody looks at the revocation lists, or their absence counts as nothing revoked",
    instance="attestation-go #23; go-tdx-guest defaults; Veraison SNP scheme; Trustee SNP verifier",
    checks=(
        "dcap.crl.pck",
        "dcap.pck.revocation",
        "dcap.crl.pck-dates",
        "dcap.crl.root",
        "dcap.pck.ca-revocation",
        "dcap.tcb-info.revocation",
        "dcap.qe-identity.revocation",
        "snp.crl",
        "snp.crl.dates",
        "snp.vcek.revocation",
    ),
)
async def test_a10_revocation_is_always_looked_up(attack: Attack, dcap: Dcap, snp: Snp) -> None:
    """Missing, stale, altered and foreign lists are refused like revoked certificates at every level of the chain."""
    for tee in TEES:
        for fault in ("missing-crl", "altered-crl", "wrong-crl"):
            await attack.rejected(dcap.case(tee, fault), "dcap.crl.pck", "dcap.pck.revocation")
        await attack.rejected(dcap.case(tee, "stale-crl"), "dcap.crl.pck-dates")
        await attack.rejected(dcap.case(tee, "revoked-pck"), "dcap.pck.revocation")
        await attack.rejected(dcap.case(tee, "revoked-intermediate"), "dcap.pck.ca-revocation")
        await attack.rejected(
            dcap.case(tee, "revoked-tcb-signer"), "dcap.tcb-info.revocation", "dcap.qe-identity.revocation"
        )
        await attack.rejected(
            dcap.case(tee, endorsed=without("root_ca_crl")),
            "dcap.crl.root",
            "dcap.pck.ca-revocation",
            "dcap.tcb-info.revocation",
            "dcap.qe-identity.revocation",
        )
        await attack.twin(dcap.case(tee))
    for fault in ("missing-crl", "altered-crl", "wrong-crl"):
        await attack.rejected(snp.case(fault), "snp.crl", "snp.vcek.revocation")
    await attack.rejected(snp.case("stale-crl"), "snp.crl.dates")
    for signer in ("VCEK", "VLEK"):
        await attack.rejected(snp.case("revoked-ask", signer=signer), "snp.vcek.revocation")
    # Every VCEK has the serial number 0: a list that names it revokes none of them.
    await attack.twin(snp.case("crl-serial-zero"))


@pytest.mark.attack(
    "A12",
    title="The root of trust comes with the evidence, or a root is believed by its name or without its own signature",
    instance="Microsoft TEE-Attestation-Verification #140, #145; cmcp #389",
    checks=("dcap.pck.chain", "dcap.tcb-info.chain", "snp.vcek.chain"),
)
async def test_a12_roots_are_pinned(attack: Attack, dcap: Dcap, snp: Snp) -> None:
    """A whole second world under the same names fails, and so does the true root's key in a certificate it did not sign."""

    def unsigned_root(pem: bytes) -> CertificationData:
        leaf_and_ca, _, _ = pem.rpartition(b"-----BEGIN")
        der = bytearray(dcap.maker.root_der)
        der[-1] ^= 1
        root = b"-----BEGIN CERTIFICATE-----\n" + b64encode(der) + b"\n-----END CERTIFICATE-----\n"
        return CertificationData(5, leaf_and_ca + root)

    def no_root(pem: bytes) -> CertificationData:
        return CertificationData(5, pem.rpartition(b"-----BEGIN")[0])

    for tee in TEES:
        await attack.rejected(dcap.case(tee, "wrong-root"), "dcap.pck.chain", "dcap.tcb-info.chain")
        # The attacker's root, put beside the genuine one into the collateral, pins nothing.
        theirs = dcap.maker.machine(faults=("wrong-root",)).pck_chain

        def with_their_root(given: Endorsements, theirs: bytes = theirs) -> Endorsements:
            return Endorsements((*given.items, Endorsement("root_ca", theirs, theirs)))

        await attack.rejected(dcap.case(tee, "wrong-root", endorsed=with_their_root), "dcap.pck.chain")
        for chain in (unsigned_root, no_root):
            await attack.rejected(dcap.case(tee, altered=recertified(chain, tee)), "dcap.pck.chain")
        # The same key in an earlier certificate of the chip maker is the same root.
        await attack.twin(dcap.case(tee, "old-root-issue"))
        await attack.twin(dcap.case(tee))
    await attack.rejected(snp.case("wrong-root"), "snp.vcek.chain")
    await attack.twin(snp.case())


@pytest.mark.attack(
    "B13",
    title="The vendor changes what its fields mean: advisories beside UpToDate lock good platforms out, their absence lets bad ones in",
    instance="near/mpc #3281 (Intel's notice of 2026-05-14)",
    checks=("dcap.tcb.status",),
)
async def test_b13_status_and_advisories_are_two_things(attack: Attack, dcap: Dcap) -> None:
    """The status alone gates; advisories are shown to the owner, whatever the status is."""

    def with_advisories(info: dict[str, Any]) -> None:
        info["tcbLevels"][0]["advisoryIDs"] = ["INTEL-SA-09999"]

    def without_advisories(info: dict[str, Any]) -> None:
        for level in info["tcbLevels"]:
            level.pop("advisoryIDs", None)

    for tee in TEES:
        silent = dcap.case(tee, "stale-tcb", endorsed=dcap.restating("tcb_info", without_advisories))
        assert silent.appraised().unverified.advisory_ids == ()
        await attack.rejected(silent, "dcap.tcb.status")
        noted = dcap.case(tee, endorsed=dcap.restating("tcb_info", with_advisories))
        claims = noted.appraised().accept()
        assert (claims.tcb_status, claims.advisory_ids) == ("UpToDate", ("INTEL-SA-09999",))
        shown = {check.id: check.result for check in noted.appraised().checks}
        assert shown["dcap.tcb.advisories"] is Result.WARN
        await attack.twin(noted)
        await attack.twin(dcap.case(tee))
