# SPDX-License-Identifier: Apache-2.0
"""Attacks on what booted: virtual hardware, event logs, late registers, configuration that nobody measured."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from hashlib import sha384
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from eaa.eventlog import (
    Authenticity,
    EventType,
    NewEvent,
    check_event_log,
    explain,
    parse_event_log,
    variable_data,
    write_event_log,
)
from eaa.eventlog.uefi import GLOBAL_VARIABLE
from eaa.kbs import TeeKeyPair
from eaa.rats import Endorsements
from eaa.simulator import measure
from eaa.simulator.azure import AzureVm
from eaa.simulator.measure import DEFAULT_IMAGE
from eaa.simulator.snp_machine import measure_snp
from eaa.simulator.tpm import SoftwareTpm
from eaa.tee.azure.kind import AZ_SNP, AZ_TDX
from eaa.tee.measured import Input, event_log, inputs_of
from eaa.tee.registry import kinds
from eaa.tee.tdx.acpi import AcpiBlobs
from eaa.tee.tdx.direct_boot import DirectBoot
from eaa.tee.tdx.measure import measure_tdx
from eaa.tee.tpm.enrolment import EnrolledAk
from eaa.tee.tpm.policy import TpmPolicy
from eaa.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.attacks.conftest import Attack, Case, Dcap, Desk, Snp

    from eaa.tee.measured import LaunchMeasurement

pytestmark = pytest.mark.anyio
ALGORITHM = "sha384"


def boot(*, secure_boot: bytes = b"\1") -> list[NewEvent]:
    """What a TD's firmware measures, in short: RTMR 0 (register 1 of the log), 1 and 2."""
    variable = variable_data(GLOBAL_VARIABLE, "SecureBoot", secure_boot)
    return [
        NewEvent(1, EventType.EV_EFI_HANDOFF_TABLES2, b"\x09TdxTable\0" + bytes(8), b"the hand-off"),
        NewEvent(1, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable),
        *(NewEvent(1, EventType.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", b"tables") for _ in range(3)),
        NewEvent(1, EventType.EV_SEPARATOR, bytes(4)),
        NewEvent(2, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, bytes(32), b"the kernel"),
        NewEvent(3, EventType.EV_IPL, b"kernel_cmdline: /vmlinuz ro\0", b"/vmlinuz ro"),
    ]


def registers_of(log: bytes) -> dict[str, bytes]:
    """The RTMRs that this log replays to."""
    replayed = parse_event_log(log).replay(ALGORITHM)
    return {f"rtmr_{index - 1}": value for index, value in replayed.items()}


def with_log(case: Case, log: bytes) -> Case:
    """The guest sends this log beside its quote."""
    sent = b64encode(log).decode()
    return replace(case, wire=lambda raw: {"quote": b64encode(raw).decode(), "cc_eventlog": sent})


def measured(*, secure_boot: bytes = b"\0") -> list[NewEvent]:
    """What the firmware of a machine with a TPM measures, in short."""
    variable = variable_data(GLOBAL_VARIABLE, "SecureBoot", secure_boot)
    return [
        NewEvent(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable),
        *(NewEvent(index, EventType.EV_SEPARATOR, bytes(4)) for index in range(8)),
        NewEvent(4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, bytes(32), b"the unified kernel image"),
    ]


def saying(case: Case, log: bytes) -> Case:
    """The machine sends this log beside its TPM's quote."""
    sent = b64encode(log).decode()
    return replace(
        case, evidence=lambda due: json.dumps(json.loads(case.evidence(due)) | {"cc_eventlog": sent}).encode()
    )


def logging_tpm(case: Case) -> tuple[Case, SoftwareTpm]:
    """A machine whose TPM's key the owner has enrolled, and whose firmware keeps a log, in place of the one of ``case``."""
    tpm = SoftwareTpm(b"logging")
    tpm.boot(measured())

    def evidence(due: bytes) -> bytes:
        message, signature, values = tpm.quote(due)
        quote = {
            "message": b64encode(message).decode(),
            "signature": b64encode(signature).decode(),
            "pcrs": [values[index].hex() for index in sorted(values)],
        }
        return json.dumps({"ak_public": b64encode(tpm.ak_area.key).decode(), "tpm_quote": quote}).encode()

    enrolled = Endorsements((EnrolledAk.of_area(tpm.ak_area).to_endorsement(),))
    machine = replace(case, tee="tpm", evidence=evidence, wire=json.loads)
    return replace(machine, endorsements=enrolled, verifier=Verifier((), TpmPolicy())), tpm


def logging_vm(hardware: Case) -> tuple[Case, SoftwareTpm]:
    """An Azure VM on TDX, whose vTPM's key the hardware vouches for."""
    tpm = SoftwareTpm(b"logging vTPM", ak=generate_private_key(65537, 2048))
    tpm.boot(measured())
    vm = AzureVm(tpm)
    runtime = vm.runtime_data()
    quote = hardware.evidence(vm.report_data(runtime))

    def evidence(due: bytes) -> bytes:
        document = json.loads(vm.tdx_evidence(quote, runtime, due.rstrip(b"\0")))
        del document["cc_eventlog"]
        return json.dumps(document).encode()

    return replace(hardware, tee="az-tdx-vtpm", evidence=evidence, wire=json.loads), tpm


@pytest.mark.attack(
    "A25",
    title="The host gives the guest ACPI tables with code of its own, and the verifier builds its expectation from the digests that the guest reports",
    instance="BadAML (Contrast); dstack #1051; TOB-WAPI-17",
    checks=("reference.tdx.rtmr_0", "policy.trust-vector"),
    open="no hardware has confirmed that a TD is given the tables that the owner's QEMU gives without TDX",
)
async def test_a25_a_log_that_replays_vouches_for_nothing(
    attack: Attack, dcap: Dcap, boot_files: Path
) -> None:
    """Quote and log agree about the host's tables, and that is all they do: RTMR 0 is held against what the owner computed."""

    def booted(tables: bytes) -> LaunchMeasurement:
        firmware, kernel, initrd = (
            (boot_files / name).read_bytes() for name in ("OVMF.fd", "vmlinuz", "initrd.img")
        )
        acpi = AcpiBlobs(b"the loader's commands", b"RSD PTR ", tables)
        return measure_tdx(firmware, boot=DirectBoot(kernel, initrd, "quiet"), memory=2 << 30, acpi=acpi)

    # What the owner's own QEMU says of the declared machine (eaa measure acpi), and what the host made of it.
    honest = booted(b"DSDT of the declared machine")
    evil = booted(b"DSDT of the declared machine" + b"SSDT with an AML method that patches the kernel")
    logs = {"honest": event_log(honest), "evil": event_log(evil)}
    # The words are the same: only the digests tell the two apart.
    assert [explain(event) for event in parse_event_log(logs["evil"]).events] == [
        explain(event) for event in parse_event_log(logs["honest"]).events
    ]
    database = attack.desk.services.database
    await database.put_reference_values({name: [value.hex()] for name, value in honest.registers.items()})
    forged = with_log(dcap.case("tdx", report=evil.registers), logs["evil"])
    logged = {name: value for name, value in evil.registers.items() if name != "mr_td"}
    checks = check_event_log(parse_event_log(logs["evil"]), logged, ALGORITHM)
    assert not any(check.blocks for check in checks)
    differing = [name for name, value in honest.registers.items() if evil.registers[name] != value]
    assert differing == ["rtmr_0"]
    changed = {
        mine[0]
        for mine, theirs in zip(
            inputs_of(honest.events)["rtmr_0"], inputs_of(evil.events)["rtmr_0"], strict=True
        )
        if mine != theirs
    }
    assert changed == {Input.ACPI}
    await attack.withheld(forged, "reference.tdx.rtmr_0", "policy.trust-vector")
    await attack.twin(with_log(dcap.case("tdx", report=honest.registers), logs["honest"]))
    await database.delete_reference_value("rtmr_0")
    await attack.withheld(forged, "reference.tdx.rtmr_0")
    await attack.withheld(dcap.case("tdx", report=honest.registers), "reference.tdx.rtmr_0")


@pytest.mark.attack(
    "A26",
    title="The words of an event log are forged while its digests still replay, and come out as verified",
    instance="dstack finding 6/6",
    checks=(
        "eventlog.content",
        "eventlog.replay.rtmr_0",
        "eventlog.replay.rtmr_1",
        "eventlog.replay.pcr04",
        "eventlog.replay.pcr07",
        "unauthenticated",
    ),
)
async def test_a26_words_are_held_against_digests(attack: Attack, dcap: Dcap) -> None:
    """Where a digest is of the content it is computed again; everything else is marked as nobody's word."""
    genuine = write_event_log(boot(secure_boot=b"\0"))
    registers = registers_of(genuine)
    desk, case = attack.desk, dcap.case("tdx", report=registers)
    await desk.services.database.put_reference_values(
        {name: [value.hex()] for name, value in registers.items()}
    )

    async def refused(log: bytes, check: str) -> None:
        with attack.refused(check):
            logged = check_event_log(parse_event_log(log), registers, ALGORITHM)
            case.appraised().with_checks(logged).accept()
        response, cookie, _ = await desk.attested(with_log(case, log))
        attack.denied(response, check)
        attack.denied(await desk.fetch(cookie=cookie))

    # Secure Boot was off; the log says that it was on, under the digest of the truth.
    off = variable_data(GLOBAL_VARIABLE, "SecureBoot", b"\0")
    on = variable_data(GLOBAL_VARIABLE, "SecureBoot", b"\1")
    forged = genuine.replace(off, on)
    assert parse_event_log(forged).replay(ALGORITHM) == parse_event_log(genuine).replay(ALGORITHM)
    await refused(forged, "eventlog.content")
    # With its digest changed too, the log no longer adds up; nor does one without an event.
    await refused(write_event_log(boot(secure_boot=b"\1")), "eventlog.replay.rtmr_0")
    await refused(write_event_log(boot(secure_boot=b"\0")[:-2]), "eventlog.replay.rtmr_1")
    # The name of a table or an image is covered by no digest, and says so.
    renamed = parse_event_log(genuine.replace(b"ACPI DATA", b"NO TABLES"))
    marks = {event.authenticity for event in renamed.events if event.data == b"NO TABLES"}
    assert marks == {Authenticity.UNAUTHENTICATED}
    attack.saw("unauthenticated")
    await attack.twin(with_log(case, genuine))
    for machine in (logging_tpm(case), logging_vm(case)):
        await _a26_on_a_tpm(attack, *machine)


async def _a26_on_a_tpm(attack: Attack, case: Case, tpm: SoftwareTpm) -> None:
    """The same lies about what the PCRs of a quote are made of."""
    registers = {f"pcr{index:02d}": [tpm.pcrs[index].hex()] for index in (0, 4, 11)}
    await attack.desk.services.database.put_reference_values(registers)
    off, on = (variable_data(GLOBAL_VARIABLE, "SecureBoot", value) for value in (b"\0", b"\1"))
    genuine = write_event_log(measured(), ("sha256",))
    for log, check in (
        (genuine.replace(off, on), "eventlog.content"),
        (write_event_log(measured(secure_boot=b"\1"), ("sha256",)), "eventlog.replay.pcr07"),
        (write_event_log(measured()[:-1], ("sha256",)), "eventlog.replay.pcr04"),
    ):
        await attack.rejected(saying(case, log), check)
    await attack.twin(saying(case, genuine))
    await attack.twin(case)


@pytest.mark.attack(
    "A27",
    title="Only a register that the guest extends itself is pinned: any software brings it to the expected value",
    instance="bitrouter #567",
    checks=(
        "reference.tdx.mr_td",
        "reference.tdx.rtmr_0",
        "reference.tdx.rtmr_1",
        "reference.tdx.rtmr_2",
        "reference.snp.measurement",
    ),
)
async def test_a27_late_registers_pin_nothing_alone(attack: Attack, dcap: Dcap, snp: Snp) -> None:
    """Firmware and boot need a reference value of their own before anything that a guest or host chooses later counts."""
    database = attack.desk.services.database
    good = measure(DEFAULT_IMAGE)
    names = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")
    for name in (*names, "measurement"):
        await database.delete_reference_value(name)
    await database.put_reference_values({"rtmr_3": [good["rtmr_3"]], "host_data": [bytes(32).hex()]})
    other = dcap.case("tdx", image="the attacker's", report={"rtmr_3": bytes.fromhex(good["rtmr_3"])})
    await attack.withheld(other, *(f"reference.tdx.{name}" for name in names))
    await attack.withheld(snp.case(image="the attacker's"), "reference.snp.measurement")
    # The same rule for every kind of TEE: what is late or the host's is never all that is required.
    late = {"rtmr_3", "host_data", "mr_config_id", "pcr08", "pcr11", "pcr23"}
    for kind in (*kinds().values(), AZ_SNP, AZ_TDX):
        assert kind.required(late) - late, kind.name
    await database.put_reference_values({name: [good[name]] for name in names})
    await database.put_reference_values({"measurement": [measure_snp(DEFAULT_IMAGE)]})
    await attack.withheld(other, "reference.tdx.mr_td")
    await attack.twin(dcap.case("tdx"))
    await attack.twin(snp.case())


INIT_DATA = """version = "0.1.0"
algorithm = "sha384"

[data]
"aa.toml" = '''
kbs_url = "https://the-owners.example"
'''
"""


async def _attested_with(desk: Desk, case: Case, text: str) -> tuple[Any, str, TeeKeyPair]:
    """Run a handshake in which the guest says what it was launched with."""
    key = TeeKeyPair.generate()
    nonce, cookie = await desk.challenge(case.tee)
    answer = desk.answer(case, nonce, key) | {"init-data": {"format": "toml", "body": text}}
    return await desk.attest(cookie, answer), cookie, key


@pytest.mark.attack(
    "A28",
    title="Configuration that the host gives at launch or after it is not measured: another key broker, another agent policy, LD_PRELOAD",
    instance="TOB-WAPI-13; dstack #615; attestation-go #28 (Azure)",
    checks=("binding.init-data", "reference.tdx.mr_config_id", "reference.snp.host_data"),
)
async def test_a28_configuration_is_bound_to_the_hardware(attack: Attack, dcap: Dcap, snp: Snp) -> None:
    """Init-data count only if the hardware carries their digest, and an owner who registers that digest accepts no other."""
    desk, database = attack.desk, attack.desk.services.database
    digest = sha384(INIT_DATA.encode()).digest()
    hostile = INIT_DATA.replace("the-owners", "the-hosts")
    other = sha384(hostile.encode()).digest()
    launched: dict[str, Callable[[bytes], Case]] = {
        "tdx": lambda value: dcap.case("tdx", report={"mr_config_id": value}),
        "sgx": lambda value: dcap.case("sgx", report={"config_id": value.ljust(64, b"\0")}),
        "snp": lambda value: snp.case(report={"host_data": value[:32]}),
    }
    for launch in launched.values():
        for case, text in (
            (launch(digest), hostile),
            (launch(bytes(48)), INIT_DATA),
            (launch(other), INIT_DATA),
        ):
            response, cookie, _ = await _attested_with(desk, case, text)
            attack.denied(response, "binding.init-data")
            attack.denied(await desk.fetch(cookie=cookie))
        response, cookie, key = await _attested_with(desk, launch(digest), INIT_DATA)
        attack.released(await desk.fetch(cookie=cookie), key)
    # Whoever sends none at all, or consistent ones of the host's, meets the owner's own value.
    await database.put_reference_values({"mr_config_id": [digest.hex()], "host_data": [digest[:32].hex()]})
    for tee, check in (("tdx", "reference.tdx.mr_config_id"), ("snp", "reference.snp.host_data")):
        for value in (other, bytes(48)):
            await attack.withheld(launched[tee](value), check)
        response, cookie, _ = await _attested_with(desk, launched[tee](other), hostile)
        attack.denied(await desk.fetch(cookie=cookie), check)
        response, cookie, key = await _attested_with(desk, launched[tee](digest), INIT_DATA)
        attack.released(await desk.fetch(cookie=cookie), key)
    # An owner may also demand init-data as such, and whoever sends none, or others than the hardware carries, earns nothing at all.
    for name in ("mr_config_id", "host_data"):
        await database.delete_reference_value(name)
    desk.client = desk.replica(require_init_data=frozenset(launched))
    for launch in launched.values():
        for case in (launch(bytes(48)), launch(digest)):
            response, cookie, _ = await desk.attested(case)
            attack.denied(response, "binding.init-data")
            attack.denied(await desk.fetch(cookie=cookie))
        response, cookie, _ = await _attested_with(desk, launch(digest), hostile)
        attack.denied(response, "binding.init-data")
        response, cookie, key = await _attested_with(desk, launch(digest), INIT_DATA)
        attack.released(await desk.fetch(cookie=cookie), key)
    # On Azure the hardware's measurement covers the paravisor alone: the vTPM's PCRs of the boot are required beside it.
    assert AZ_SNP.required(()) >= {"measurement", "pcr04"}
    assert AZ_TDX.required(()) >= {"mr_td", "pcr04"}
