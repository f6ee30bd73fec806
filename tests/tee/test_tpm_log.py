# SPDX-License-Identifier: Apache-2.0
"""The event log that comes with a TPM's quote: believed only as far as it replays to PCRs of a genuine quote (attacks A26, B9)."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from eaa.eventlog import EventType, NewEvent, parse_event_log, variable_data, write_event_log
from eaa.eventlog.uefi import GLOBAL_VARIABLE
from eaa.rats import Endorsements, EvidenceError, Result
from eaa.simulator import ChipMaker, mint
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.azure import AzureVm
from eaa.simulator.snp_mint import mint_snp
from eaa.simulator.tpm import SoftwareTpm
from eaa.tee.registry import kind_of
from eaa.tee.tpm.enrolment import EnrolledAk
from eaa.tee.tpm.formats import parse_go_attestation, parse_go_tpm_tools
from eaa.tee.tpm.policy import TpmPolicy
from eaa.tee.tpm.verify import TpmVerifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eaa.rats import Appraisal
    from eaa.tee.kind import EvidenceVerifier
    from eaa.tee.tpm.evidence import TpmEvidence

AT = datetime(2026, 3, 16, 12, tzinfo=UTC)
ASKED = bytes(range(64))
OFF, ON = (variable_data(GLOBAL_VARIABLE, "SecureBoot", value) for value in (b"\0", b"\1"))


def events(secure_boot: bytes = OFF) -> list[NewEvent]:
    """What a machine's firmware and boot loader measure, in short."""
    return [
        NewEvent(0, EventType.EV_S_CRTM_VERSION, b"1.0"),
        NewEvent(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, secure_boot),
        *(NewEvent(index, EventType.EV_SEPARATOR, bytes(4)) for index in range(8)),
        NewEvent(4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, bytes(32), b"the boot loader"),
        NewEvent(8, EventType.EV_IPL, b"grub_cmd: linux /vmlinuz ro\0", b"linux /vmlinuz ro"),
    ]


class Subject:
    """A machine that keeps a log, and whoever verifies its evidence."""

    def __init__(
        self,
        tee: str,
        tpm: SoftwareTpm,
        evidence: Callable[[], bytes],
        endorsements: Endorsements,
        verifier: EvidenceVerifier,
    ) -> None:
        self.tee, self.tpm, self.evidence = tee, tpm, evidence
        self.endorsements, self.verifier = endorsements, verifier

    def judge(self, log: Any = None, *, trusted: bool = True) -> Appraisal:
        """Judge its evidence, with another log instead of its own if one is given; if not ``trusted``, nobody vouches for it."""
        document = json.loads(self.evidence())
        if log is not None:
            document["cc_eventlog"] = b64encode(log).decode() if isinstance(log, bytes) else log
        evidence = kind_of(self.tee).parse(json.dumps(document).encode())
        if trusted:
            return self.verifier.verify(evidence, self.endorsements, at=AT, report_data=ASKED)
        stranger = kind_of(self.tee).verifier((), ())
        return stranger.verify(evidence, Endorsements(), at=AT, report_data=ASKED)


def _tpm() -> Subject:
    tpm = SoftwareTpm(b"logging")
    tpm.boot(events())
    enrolled = Endorsements((EnrolledAk.of_area(tpm.ak_area).to_endorsement(),))
    return Subject("tpm", tpm, lambda: tpm.evidence(ASKED), enrolled, TpmVerifier(TpmPolicy()))


def _azure(tee: str) -> Subject:
    tpm = SoftwareTpm(b"logging vTPM", ak=rsa.generate_private_key(65537, 2048))
    tpm.boot(events())
    vm = AzureVm(tpm)
    runtime = vm.runtime_data(ASKED)
    bound = vm.report_data(runtime)
    kind = kind_of(tee)
    if tee == "az-tdx-vtpm":
        td = mint(ChipMaker.create(AT), "tdx", bound, at=AT)
        verifier = kind.verifier((td.trust_anchor,), ())
        return Subject(tee, tpm, lambda: vm.tdx_evidence(td.quote, runtime, ASKED), td.endorsements, verifier)
    guest = mint_snp(AmdChipMaker.create(AT), bound, at=AT)
    vcek = guest.machine.certificate
    verifier = kind.verifier(guest.trust_anchors, ())
    return Subject(
        tee,
        tpm,
        lambda: vm.snp_evidence(guest.report, vcek, runtime, ASKED, version=2),
        guest.endorsements,
        verifier,
    )


@pytest.fixture(scope="module", params=["tpm", "az-snp-vtpm", "az-tdx-vtpm"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """One of each kind of TEE whose evidence has a TPM's quote in it."""
    return _tpm() if request.param == "tpm" else _azure(request.param)


def failing(appraisal: Appraisal) -> set[str]:
    return {check.id for check in appraisal.failing}


def logged(appraisal: Appraisal) -> dict[str, Result]:
    return {check.id: check.result for check in appraisal.checks if check.id.startswith("eventlog.")}


def claim(appraisal: Appraisal) -> Any:
    return kind_of(appraisal.evidence.tee).claims(appraisal).claims.get("uefi_event_logs")


def test_a_log_that_replays_becomes_claims(subject: Subject) -> None:
    appraisal = subject.judge()
    assert appraisal.accepted
    checks = logged(appraisal)
    assert checks.keys() == {
        *(f"eventlog.replay.pcr{n:02}" for n in range(24)),
        "eventlog.unattested",
        "eventlog.content",
    }
    assert set(checks.values()) == {Result.PASS}
    assert [each["type_name"] for each in claim(appraisal)][-1] == "EV_IPL"
    assert len(claim(appraisal)) == len(events())


def test_words_are_held_to_their_digests(subject: Subject) -> None:
    forged = subject.tpm.event_log.replace(OFF, ON)
    assert parse_event_log(forged).replay("sha256") == parse_event_log(subject.tpm.event_log).replay("sha256")
    appraisal = subject.judge(forged)
    assert failing(appraisal) == {"eventlog.content"}
    assert claim(appraisal) is None


def test_the_log_of_another_boot_is_refused_by_register(subject: Subject) -> None:
    appraisal = subject.judge(write_event_log(events(ON), ("sha256",)))
    assert failing(appraisal) == {"eventlog.replay.pcr07"}
    assert claim(appraisal) is None


def test_a_log_without_the_quoted_bank_is_no_log_of_it(subject: Subject) -> None:
    checks = logged(subject.judge(write_event_log(events(), ("sha1",))))
    assert checks["eventlog.replay.pcr04"] is Result.NOT_MADE


def test_a_register_that_the_log_leaves_out_is_warned_of(subject: Subject) -> None:
    """Whoever extends a PCR beside the firmware keeps another log; a register that this one speaks of has to add up."""
    appraisal = subject.judge(write_event_log(events()[:-1], ("sha256",)))
    assert appraisal.accepted
    assert logged(appraisal)["eventlog.replay.pcr08"] is Result.WARN
    cut = [each for each in events() if each.type != EventType.EV_EFI_BOOT_SERVICES_APPLICATION]
    assert failing(subject.judge(write_event_log(cut, ("sha256",)))) == {"eventlog.replay.pcr04"}


@pytest.mark.parametrize("log", [b"not a log", b'{"event_log": []}', bytes(64)])
def test_a_malformed_log_is_refused(subject: Subject, log: bytes) -> None:
    appraisal = subject.judge(log)
    assert failing(appraisal) == {"eventlog.content"}
    assert claim(appraisal) is None


def test_no_log_is_read_before_somebody_vouches_for_the_registers(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eaa.tee.tpm.log.parse_tcg", lambda *_: pytest.fail("the log was read"))
    appraisal = subject.judge(trusted=False)
    assert {"tpm.ak.anchored", "eventlog.content"} <= failing(appraisal)
    assert claim(appraisal) is None


@pytest.mark.parametrize("log", ["", None])
def test_evidence_without_a_log_is_judged_without(subject: Subject, log: str | None) -> None:
    document = json.loads(subject.evidence()) | {"cc_eventlog": log}
    evidence = kind_of(subject.tee).parse(json.dumps(document).encode())
    appraisal = subject.verifier.verify(evidence, subject.endorsements, at=AT, report_data=ASKED)
    assert appraisal.accepted
    assert logged(appraisal) == {"eventlog.content": Result.NOT_APPLICABLE}
    assert not claim(appraisal)


@pytest.mark.parametrize("log", [7, "?", {"a": 1}])
def test_a_log_that_is_no_base64_is_refused(subject: Subject, log: object) -> None:
    with pytest.raises(EvidenceError) as caught:
        subject.judge(log)
    assert caught.value.check == "evidence.cc_eventlog"


def test_both_doors_read_the_log(subject: Subject) -> None:
    if subject.tee == "tpm":
        message, signature, values = subject.tpm.quote(ASKED)
        sent: dict[str, Any] = {
            "ak_public": b64encode(subject.tpm.ak_area.key).decode(),
            "tpm_quote": {
                "message": b64encode(message).decode(),
                "signature": b64encode(signature).decode(),
                "pcrs": [values[index].hex() for index in sorted(values)],
            },
            "cc_eventlog": b64encode(subject.tpm.event_log).decode(),
        }
    else:
        sent = json.loads(subject.evidence())
    evidence = kind_of(subject.tee).from_kbs(sent)
    appraisal = subject.verifier.verify(evidence, subject.endorsements, at=AT, report_data=ASKED)
    assert appraisal.accepted
    assert len(claim(appraisal)) == len(events())


@pytest.mark.parametrize(
    ("name", "role", "parse"),
    [
        ("tpm-google-cos85-nonce9009", "attestation", parse_go_tpm_tools),
        ("tpm-google-windows-gce", "dump", parse_go_attestation),
    ],
)
def test_a_real_machines_log_replays_to_its_quote(
    vectors: Path, name: str, role: str, parse: Callable[[bytes], TpmEvidence]
) -> None:
    listed = json.loads((vectors / "manifest.json").read_bytes())["vectors"]
    vector = next(each for each in listed if each["id"] == name)
    evidence = parse((vectors / vector["files"][role]["path"]).read_bytes())
    enrolled = Endorsements((EnrolledAk(spki=evidence.key.spki).to_endorsement(),))

    def judge(judged: TpmEvidence) -> Appraisal:
        return TpmVerifier(TpmPolicy()).verify(
            judged, enrolled, at=AT, report_data=evidence.report_data.ljust(64, b"\0")
        )

    appraisal = judge(evidence)
    assert len(claim(appraisal)) > 20
    assert logged(appraisal)["eventlog.replay.pcr04"] is Result.PASS
    assert not [each for each in failing(appraisal) if each.startswith("eventlog.")]
    at = evidence.event_log.index(b"\4\0\0\0", 100) + 20
    altered = evidence.event_log[:at] + bytes([evidence.event_log[at] ^ 1]) + evidence.event_log[at + 1 :]
    assert [
        each for each in failing(judge(replace(evidence, event_log=altered))) if each.startswith("eventlog.")
    ]
