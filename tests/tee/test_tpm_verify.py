# SPDX-License-Identifier: Apache-2.0
"""TPM verification: every rule notices its fault and nothing else, and a key is believed for the owner's word alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from eaa.rats import Endorsement, EndorsementError, Endorsements, EvidenceError, Result, TrustAnchor
from eaa.simulator.tpm import TPM_FAULTS, SoftwareTpm, TpmMaker, ecc_area
from eaa.tee.kind import policy_of
from eaa.tee.tpm.anchor import AK_CERTIFICATE, EK_CERTIFICATE, REVOCATION_LIST
from eaa.tee.tpm.credential import StorageKey, make_credential
from eaa.tee.tpm.enrolment import ENROLLED_AK, EnrolledAk, begin_enrolment
from eaa.tee.tpm.evidence import parse_tpm_evidence
from eaa.tee.tpm.kind import KIND, extended_init_data
from eaa.tee.tpm.policy import TpmPolicy
from eaa.tee.tpm.verify import TpmVerifier, check_extra_data, tpm_verifier

if TYPE_CHECKING:
    from eaa.rats import Appraisal

AT = datetime(2026, 3, 16, 12, tzinfo=UTC)
DIGEST = bytes(range(1, 49))
EXPECTED = DIGEST.ljust(64, b"\0")
EK, AK = "2.23.133.8.1", "2.23.133.8.3"
SECRET = bytes(range(32))
NOTHING = Endorsements()
DEFAULT = TpmPolicy()


@pytest.fixture(scope="module")
def tpm() -> SoftwareTpm:
    made = SoftwareTpm(b"machine")
    for index in range(12):
        made.extend(index, bytes([index]) * 32)
    return made


@pytest.fixture(scope="module")
def maker() -> TpmMaker:
    return TpmMaker(b"maker", AT)


def enrolled(tpm: SoftwareTpm, **more: Any) -> Endorsements:
    return Endorsements((replace(EnrolledAk.of_area(tpm.ak_area), **more).to_endorsement(),))


def judge(evidence: bytes, endorsements: Endorsements = NOTHING, policy: TpmPolicy = DEFAULT) -> Appraisal:
    return TpmVerifier(policy).verify(parse_tpm_evidence(evidence), endorsements, at=AT, report_data=EXPECTED)


def results(appraisal: Appraisal) -> dict[str, Result]:
    return {check.id: check.result for check in appraisal.checks}


@pytest.mark.parametrize("rsa_key", [False, True])
def test_a_quote_of_an_enrolled_key_is_accepted(tpm: SoftwareTpm, *, rsa_key: bool) -> None:
    machine = SoftwareTpm(b"rsa", ak=rsa.generate_private_key(65537, 2048)) if rsa_key else tpm
    appraisal = judge(machine.evidence(DIGEST), enrolled(machine, reset_count=7))
    claims = appraisal.accept()
    assert claims.measurements["pcr04"] == machine.pcrs[4].hex()
    assert claims.report_data == DIGEST
    assert claims.values["reset_count"] == 7
    assert not claims.simulated


PARSED = sorted(name for name, fault in TPM_FAULTS.items() if "tpm.quote.magic" not in fault.checks)


@pytest.mark.parametrize("name", PARSED)
def test_a_fault_breaks_its_own_checks_and_no_other(name: str, tpm: SoftwareTpm) -> None:
    fault = TPM_FAULTS[name]
    appraisal = judge(tpm.evidence(DIGEST, name), enrolled(tpm, reset_count=7))
    assert appraisal.accepted is fault.warns
    fine = {Result.PASS, Result.NOT_APPLICABLE}
    assert {check.id for check in appraisal.checks if check.result not in fine} == set(fault.checks)
    strict = TpmPolicy(require_safe_clock=True)
    assert not judge(tpm.evidence(DIGEST, name), enrolled(tpm, reset_count=7), strict).accepted


@pytest.mark.parametrize("name", sorted(TPM_FAULTS.keys() - set(PARSED)))
def test_what_is_no_quote_is_not_even_parsed(name: str, tpm: SoftwareTpm) -> None:
    with pytest.raises(EvidenceError) as refused:
        judge(tpm.evidence(DIGEST, name), enrolled(tpm))
    assert TPM_FAULTS[name].checks == (refused.value.check,)


def test_evidence_is_not_believed_for_its_own_key(tpm: SoftwareTpm) -> None:
    """Anybody can sign a quote with a key made in software: Trustee's verifier accepts that, this one never does."""
    appraisal = judge(tpm.evidence(DIGEST))
    assert [check.id for check in appraisal.failing] == ["tpm.ak.anchored"]
    assert appraisal.undecided
    stranger = judge(SoftwareTpm(b"forger").evidence(DIGEST), enrolled(tpm))
    assert results(stranger)["tpm.ak.anchored"] is Result.FAIL
    assert "none of the 1 known" in stranger.failing[0].found


def test_an_endorsement_keys_certificate_alone_anchors_nothing(tpm: SoftwareTpm, maker: TpmMaker) -> None:
    certificate = Endorsement(EK_CERTIFICATE, maker.certify(tpm.ek, EK), maker.issuers)
    appraisal = judge(tpm.evidence(DIGEST), Endorsements((certificate,)), TpmPolicy(anchors=(maker.anchor,)))
    assert results(appraisal)["tpm.ak.anchored"] is Result.NOT_MADE
    assert "names none" in appraisal.failing[0].found


def test_a_key_may_be_enrolled_by_name_by_key_or_pinned(tpm: SoftwareTpm) -> None:
    area = tpm.ak_area
    for content, known in ((area.name, True), (area.raw, True), (area.key, False)):
        appraisal = judge(tpm.evidence(DIGEST), Endorsements((Endorsement(ENROLLED_AK, content),)))
        assert appraisal.accepted
        assert results(appraisal)["tpm.ak.attributes"] is (Result.PASS if known else Result.WARN)
    pinned = judge(
        tpm.evidence(DIGEST), policy=TpmPolicy(anchors=(TrustAnchor("lab", area.key, simulated=True),))
    )
    assert pinned.accept().simulated


def test_attributes_are_taken_from_the_enrolment_and_not_from_the_evidence() -> None:
    """A key that signs anything, enrolled as a bare key: the evidence may describe it as it likes."""
    loose = SoftwareTpm(b"loose", attributes=0x00040072)
    named = judge(loose.evidence(DIGEST), enrolled(loose))
    assert [check.id for check in named.failing] == ["tpm.ak.attributes"]
    assert "restricted" in named.failing[0].found

    boasting = SoftwareTpm(b"loose")  # the same keys, described with all the attributes
    assert boasting.ak_area.key == loose.ak_area.key
    by_area = judge(boasting.evidence(DIGEST), enrolled(loose))
    assert results(by_area)["tpm.ak.attributes"] is Result.FAIL
    by_key = judge(boasting.evidence(DIGEST), Endorsements((Endorsement(ENROLLED_AK, loose.ak_area.key),)))
    assert results(by_key)["tpm.ak.attributes"] is Result.WARN
    by_name = judge(boasting.evidence(DIGEST), Endorsements((Endorsement(ENROLLED_AK, loose.ak_area.name),)))
    assert results(by_name)["tpm.ak.anchored"] is Result.FAIL


def test_an_unreadable_record_does_not_hide_a_good_one(tpm: SoftwareTpm) -> None:
    broken = Endorsement(ENROLLED_AK, b'{"version": 2}')
    good = EnrolledAk.of_area(tpm.ak_area).to_endorsement()
    assert judge(tpm.evidence(DIGEST), Endorsements((broken, good))).accepted
    alone = judge(tpm.evidence(DIGEST), Endorsements((broken,)))
    assert "record version 2" in alone.failing[0].found


# Credential activation.


def activate(tpm: SoftwareTpm, maker: TpmMaker, **options: Any) -> EnrolledAk:
    enrolment = begin_enrolment(
        tpm.ak_area,
        maker.certify(tpm.ek, EK),
        maker.issuers,
        anchors=(maker.anchor,),
        at=AT,
        secret=SECRET,
        **options,
    )
    assert SECRET.hex() not in repr(enrolment)
    return enrolment.complete(tpm.activate(enrolment.credential), reset_count=7)


def test_activation_enrols_the_key_against_its_makers_root(tpm: SoftwareTpm, maker: TpmMaker) -> None:
    record = activate(tpm, maker).to_endorsement()
    policy = TpmPolicy(anchors=(maker.anchor,))
    appraisal = judge(tpm.evidence(DIGEST), Endorsements((record,)), policy)
    assert appraisal.accept().simulated
    assert results(appraisal)["tpm.certificate.chain"] is Result.PASS
    assert results(appraisal)["tpm.clock.reset-count"] is Result.PASS
    unpinned = judge(tpm.evidence(DIGEST), Endorsements((record,)))
    assert [check.id for check in unpinned.failing] == ["tpm.certificate.chain"]


def test_a_credential_serves_one_tpm_and_one_key(tpm: SoftwareTpm, maker: TpmMaker) -> None:
    credential = make_credential(StorageKey.of_area(tpm.ek_area), tpm.ak_area.name, SECRET)
    assert tpm.activate(credential) == SECRET
    for other in (SoftwareTpm(b"other"), SoftwareTpm(b"machine", attributes=0x00040072)):
        with pytest.raises(EvidenceError):
            other.activate(credential)
    enrolment = begin_enrolment(
        tpm.ak_area,
        maker.certify(tpm.ek, EK),
        maker.issuers,
        anchors=(maker.anchor,),
        at=AT,
        secret=SECRET,
    )
    for answer in (b"", SECRET[:-1], bytes(32)):
        with pytest.raises(EvidenceError) as refused:
            enrolment.complete(answer)
        assert refused.value.check == "tpm.ak.anchored"


@pytest.mark.parametrize("secret", [b"", bytes(15), bytes(33)])
def test_a_secret_has_to_fit(secret: bytes, tpm: SoftwareTpm, maker: TpmMaker) -> None:
    with pytest.raises(EndorsementError):
        begin_enrolment(
            tpm.ak_area,
            maker.certify(tpm.ek, EK),
            maker.issuers,
            anchors=(maker.anchor,),
            at=AT,
            secret=secret,
        )


def refusal(tpm: SoftwareTpm, maker: TpmMaker, certificate: bytes, **changed: Any) -> str:
    given: dict[str, Any] = {"anchors": (maker.anchor,), "at": AT, "secret": SECRET} | changed
    issuers = given.pop("issuers", maker.issuers)
    with pytest.raises(EndorsementError) as refused:
        begin_enrolment(tpm.ak_area, certificate, issuers, **given)
    return str(refused.value)


def test_an_endorsement_key_needs_a_sound_certificate(tpm: SoftwareTpm, maker: TpmMaker) -> None:
    sound = maker.certify(tpm.ek, EK)
    other = TpmMaker(b"somebody", AT)
    listed = maker.certify(tpm.ek, EK, distribution_point="http://tpm-maker.invalid/crl")
    assert "not pinned" in refusal(tpm, maker, other.certify(tpm.ek, EK), issuers=other.issuers)
    assert "not issued by" in refusal(tpm, maker, other.certify(tpm.ek, EK))
    assert "endorsement key" in refusal(tpm, maker, maker.certify(tpm.ek, AK))
    assert "more than one" in refusal(tpm, maker, sound + sound)
    assert "not valid now" in refusal(tpm, maker, maker.certify(tpm.ek, EK, ends=timedelta(days=-1)))
    assert "no revocation list" in refusal(tpm, maker, listed)
    lists = {"revocation_lists": (maker.revocation_list([listed]),)}
    assert "revoked since" in refusal(tpm, maker, listed, **lists)
    stale = {"revocation_lists": (maker.revocation_list(ends=timedelta(hours=-1)),)}
    assert "not valid now" in refusal(tpm, maker, listed, **stale)
    foreign = {"revocation_lists": (other.revocation_list(),)}
    assert "no revocation list" in refusal(tpm, maker, listed, **foreign)
    current = (maker.revocation_list(),)
    begin_enrolment(
        tpm.ak_area, listed, maker.issuers, anchors=(maker.anchor,), at=AT, secret=SECRET, revocation_lists=current
    )  # fmt: skip


def test_only_an_attestation_key_is_enrolled(tpm: SoftwareTpm, maker: TpmMaker) -> None:
    loose = ecc_area(tpm.ak, 0x00040072)  # type: ignore[arg-type]
    with pytest.raises(EvidenceError) as refused:
        begin_enrolment(
            loose, maker.certify(tpm.ek, EK), maker.issuers, anchors=(maker.anchor,), at=AT, secret=SECRET
        )
    assert refused.value.check == "tpm.ak.attributes"


# Certificates of attestation keys.


def certified(tpm: SoftwareTpm, maker: TpmMaker, *more: Endorsement, **options: Any) -> Appraisal:
    certificate = Endorsement(AK_CERTIFICATE, maker.certify(tpm.ak, AK, **options), maker.issuers)
    return judge(tpm.evidence(DIGEST), Endorsements((certificate, *more)), TpmPolicy(anchors=(maker.anchor,)))


def test_an_attestation_ca_may_vouch_for_a_key(tpm: SoftwareTpm, maker: TpmMaker) -> None:
    assert certified(tpm, maker).accepted
    listed = {"distribution_point": "http://tpm-maker.invalid/crl"}
    missing = certified(tpm, maker, **listed)
    assert [check.id for check in missing.failing] == ["tpm.certificate.revocation"]
    current = Endorsement(REVOCATION_LIST, maker.revocation_list())
    assert certified(tpm, maker, current, **listed).accepted
    revoked = Endorsement(REVOCATION_LIST, maker.revocation_list([maker.certify(tpm.ak, AK)]))
    assert results(certified(tpm, maker, revoked))["tpm.certificate.revocation"] is Result.FAIL
    stale = Endorsement(REVOCATION_LIST, maker.revocation_list(ends=timedelta(hours=-1)))
    assert [check.id for check in certified(tpm, maker, stale).failing] == ["tpm.certificate.dates"]
    expired = certified(tpm, maker, ends=timedelta(days=-1))
    assert [check.id for check in expired.failing] == ["tpm.certificate.dates"]


def test_a_certificate_of_somebody_else_anchors_nothing(tpm: SoftwareTpm, maker: TpmMaker) -> None:
    other = TpmMaker(b"somebody", AT)
    for certificate, issuers in (
        (other.certify(tpm.ak, AK), other.issuers),
        (other.certify(tpm.ak, AK), maker.issuers),
        (maker.certify(tpm.ak, EK), maker.issuers),
        (maker.certify(SoftwareTpm(b"other").ak, AK), maker.issuers),
    ):
        appraisal = judge(
            tpm.evidence(DIGEST),
            Endorsements((Endorsement(AK_CERTIFICATE, certificate, issuers),)),
            TpmPolicy(anchors=(maker.anchor,)),
        )
        assert results(appraisal)["tpm.ak.anchored"] is Result.FAIL


def test_roots_of_chip_makers_vouch_for_no_tpm(tpm: SoftwareTpm, maker: TpmMaker) -> None:
    """Else a laboratory's TPM CA among the roots could issue certificates of processors, and the other way round."""
    certificate = Endorsement(AK_CERTIFICATE, maker.certify(tpm.ak, AK), maker.issuers)
    appraisal = tpm_verifier((maker.anchor,), ()).verify(
        parse_tpm_evidence(tpm.evidence(DIGEST)), Endorsements((certificate,)), at=AT, report_data=EXPECTED
    )
    assert not appraisal.accepted


# The binding.


@pytest.mark.parametrize(
    ("found", "truncated", "accepted"),
    [
        (DIGEST, False, True),
        (EXPECTED, False, True),
        (DIGEST + b"\0", False, True),
        (DIGEST[:32], True, True),
        (DIGEST[:32], False, False),
        (DIGEST[:31], True, False),
        (DIGEST[:33], True, False),
        (DIGEST[:47], False, False),
        (DIGEST[:47] + b"\xff", True, False),
        (b"", True, False),
        (EXPECTED + b"\0", True, False),
    ],
)
def test_extra_data_is_the_report_data_cut_or_padded(
    found: bytes, *, truncated: bool, accepted: bool
) -> None:
    check = check_extra_data(found, EXPECTED, truncated=truncated)
    assert (check.id, check.result is Result.PASS) == ("binding.report-data", accepted)


def test_an_empty_nonce_answers_not_even_an_empty_challenge() -> None:
    assert check_extra_data(b"", bytes(64), truncated=True).result is Result.FAIL


# The kind.


def test_a_boot_is_pinned_from_the_firmware_on() -> None:
    assert KIND.required(()) == {"pcr00", "pcr04", "pcr11"}
    assert KIND.required({"pcr04", "pcr09", "pcr11"}) == {"pcr00", "pcr04", "pcr09"}
    assert KIND.required({"sha384_pcr04"}) == {"sha384_pcr00", "sha384_pcr04", "sha384_pcr11"}
    assert KIND.required({"sha384_pcr04", "pcr04"}) == {"pcr00", "pcr04", "pcr11"}
    assert all(name in KIND.registers for name in ("pcr00", "pcr23", "sha384_pcr04"))


def test_claims_are_trustees(tpm: SoftwareTpm) -> None:
    claims = KIND.claims(judge(tpm.evidence(DIGEST), enrolled(tpm)))
    assert claims.claims["pcr11"] == tpm.pcrs[11].hex()
    assert claims.claims["ak_public"].startswith("MFkw")
    assert set(claims.claims) == {f"pcr{index:02}" for index in range(24)} | {"ak_public"}
    assert claims.init_data == tpm.pcrs[8]


def test_init_data_is_extended_once() -> None:
    digest = bytes.fromhex("8505e4e25e50a27c5dc8147af88efbece627fbea55291911eff832d9ee127781")
    expected = "bddaccb9c52249e97a31baea61b7d91be8221a16e703d92148d04fb8e9c1dfdd"
    assert extended_init_data(digest).hex() == expected


def test_a_policy_is_found_among_others() -> None:
    mine = TpmPolicy(require_safe_clock=True)
    assert policy_of(TpmPolicy, ("another", mine)) is mine


def test_a_new_enrolment_is_seen_at_once(tpm: SoftwareTpm) -> None:
    """What is remembered is keyed by content: a withdrawn enrolment is withdrawn in the same verifier."""
    verifier = TpmVerifier(TpmPolicy())
    evidence = parse_tpm_evidence(tpm.evidence(DIGEST))
    for endorsements, accepted in ((Endorsements(), False), (enrolled(tpm), True), (Endorsements(), False)):
        appraisal = verifier.verify(evidence, endorsements, at=AT, report_data=EXPECTED)
        assert appraisal.accepted is accepted


@pytest.mark.parametrize(
    "record",
    [
        {"version": 1},
        {"version": 1, "name": "00"},
        {"version": 1, "name": 5},
        {"version": 1, "public_key": "!"},
        {"version": 1, "public_key": "MA==", "reset_count": -1},
        {"version": 1, "public_area": "AAA="},
        [],
    ],
)
def test_a_malformed_record_is_refused(record: object) -> None:
    with pytest.raises(EndorsementError):
        EnrolledAk.parse(json.dumps(record).encode())


def test_a_record_does_not_contradict_itself(tpm: SoftwareTpm) -> None:
    record = json.loads(EnrolledAk.of_area(tpm.ak_area).to_endorsement().content)
    other = EnrolledAk.of_area(SoftwareTpm(b"other").ak_area)
    EnrolledAk.parse(json.dumps(record).encode())
    with pytest.raises(EndorsementError):
        EnrolledAk.parse(json.dumps(record | {"name": other.name.hex()}).encode())
