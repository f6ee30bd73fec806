# SPDX-License-Identifier: Apache-2.0
"""Attacks on the evidence itself: its fields, its bytes, its binding, the TEE's state (SGX and TDX)."""

from __future__ import annotations

import struct
from base64 import b64encode
from dataclasses import fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import dcap_qvl  # type: ignore[import-untyped] # it ships no types
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eaa.agent.client import KbsClient
from eaa.agent.config import AgentConfig
from eaa.agent.rest import build_rest
from eaa.endorser.needs import pck_chain
from eaa.kbs import TeeKeyPair, report_data
from eaa.simulator import measure
from eaa.simulator.measure import DEFAULT_IMAGE
from eaa.tee.dcap.pck import read_pck_extension
from eaa.tee.dcap.policy import ACCEPTABLE_STATUSES, AcceptancePolicy
from eaa.tee.dcap.quote import MAX_QUOTE_SIZE
from eaa.tee.dcap.verify import dcap_verifier
from eaa.tee.registry import parse_evidence
from eaa.tee.sgx.evidence import SgxQuote
from eaa.tee.snp.minimum_tcb import TcbFloor
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.product import Product
from eaa.tee.tdx.evidence import ATTR_SEPT_VE_DISABLE, TdxQuote
from eaa.tee.x509 import read_certificates
from eaa.verifier.policy import load_default
from eaa.verifier.reference import check_reference_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.attacks.conftest import Attack, Dcap, Snp

pytestmark = pytest.mark.anyio
TEES = ("sgx", "tdx")


def patched(offset: int, value: bytes) -> Callable[[bytes], bytes]:
    """The quote with ``value`` written over it."""
    return lambda quote: quote[:offset] + value + quote[offset + len(value) :]


@pytest.mark.attack(
    "A4",
    title="The identity of the TDX module is ignored: an unknown, foreign, debuggable or outdated module runs the guest",
    instance="dcap-qvl #124",
    checks=(
        "tdx.module.identity",
        "tdx.module.signer",
        "tdx.module.attributes",
        "tdx.module.tcb",
        "dcap.tcb.status",
    ),
)
async def test_a04_the_tdx_module_is_matched(attack: Attack, dcap: Dcap) -> None:
    """Version, signer, attributes and SVN of the module are each held against what the chip maker lists."""
    for fault, check in (
        ("unknown-module", "tdx.module.identity"),
        ("wrong-seam-signer", "tdx.module.signer"),
        ("old-unknown-module", "tdx.module.tcb"),
        ("stale-module", "dcap.tcb.status"),
        ("relaunch", "dcap.tcb.status"),
    ):
        await attack.rejected(dcap.case("tdx", fault), check)
    await attack.rejected(dcap.case("tdx", report={"seam_attributes": 1}), "tdx.module.attributes")

    # Without the list, no module of a version above zero is known: its absence is no leave to skip it.
    def forget(info: dict[str, Any]) -> None:
        del info["tdxModuleIdentities"]

    await attack.rejected(
        dcap.case("tdx", endorsed=dcap.restating("tcb_info", forget)), "tdx.module.identity"
    )
    await attack.twin(dcap.case("tdx"))


@pytest.mark.attack(
    "A5",
    title="The quote's header is not checked: a quoting enclave of another vendor, another key type or another kind of TEE",
    instance="dcap-qvl #127",
    checks=(
        "dcap.quote.vendor",
        "dcap.quote.att-key-type",
        "dcap.quote.tee-type",
        "dcap.quote.version",
        "dcap.quote.signature",
    ),
)
async def test_a05_the_header_is_consistent(attack: Attack, dcap: Dcap) -> None:
    """Vendor, key type, version and kind of TEE are fixed or must agree, also where the header is signed."""
    for tee in TEES:
        await attack.rejected(dcap.case(tee, "wrong-vendor-id"), "dcap.quote.vendor")
        await attack.rejected(
            dcap.case(tee, altered=patched(12, bytes(16))), "dcap.quote.vendor", "dcap.quote.signature"
        )
        for version in (3, 4, 5):
            if (tee, version) == ("tdx", 3):
                continue
            for offset, number, check in (
                (0, 6, "dcap.quote.version"),
                (2, 3, "dcap.quote.att-key-type"),
                (4, {"sgx": 0x81, "tdx": 0}[tee], "dcap.quote.tee-type" if version != 4 else None),
            ):
                case = dcap.case(tee, version=version, altered=patched(offset, struct.pack("<H", number)))
                # In version 4 the kind of TEE decides which body follows, so that the lengths no longer add up.
                await attack.rejected(case, *([check] if check else []))
            await attack.twin(dcap.case(tee, version=version))


@pytest.mark.attack(
    "A11",
    title="A service TD, which may migrate the guest elsewhere, is bound to it and nobody asks which one",
    instance="dcap-qvl, option allow_service_td (2026-05)",
    checks=("tdx.td.service-td", "tdx.td.migratable"),
)
async def test_a11_service_tds_are_listed_or_refused(attack: Attack, dcap: Dcap) -> None:
    """Only a service TD whose measurement the owner lists is accepted."""
    listed, other = bytes([0xAA]) * 48, bytes([0xAB]) * 48
    await attack.rejected(dcap.case("tdx", "service-td"), "tdx.td.service-td")
    policy = AcceptancePolicy(service_tds=frozenset({other}))
    await attack.rejected(dcap.case("tdx", "service-td", policy=policy), "tdx.td.service-td")
    attributes = {"td_attributes": ATTR_SEPT_VE_DISABLE | 1 << 29}
    await attack.rejected(dcap.case("tdx", report=attributes), "tdx.td.migratable")
    await attack.twin(
        dcap.case("tdx", "service-td", policy=AcceptancePolicy(service_tds=frozenset({listed})))
    )
    await attack.twin(dcap.case("tdx"))


@pytest.mark.attack(
    "A13",
    title="Bytes that nobody signed travel with the evidence and come out as verified",
    instance="Microsoft TEE-Attestation-Verification #141 (368 bytes)",
    checks=(
        "dcap.quote.length",
        "dcap.tcb-info.format",
        "dcap.qe-identity.format",
        "dcap.pck.chain",
        "sgx.report.reserved",
        "tdx.td.reserved",
        "snp.report.length",
    ),
)
async def test_a13_every_byte_is_accounted_for(attack: Attack, dcap: Dcap, snp: Snp) -> None:
    """Nothing may follow or hide in the quote, its signature part, its chain or the collateral; reserved fields are zero."""

    def padded_certification(quote: bytes) -> bytes:
        # Four bytes more in the signature part than its pieces need.
        envelope: Any = parse_evidence(quote, tee=tee).envelope  # type: ignore[attr-defined] # a DCAP quote
        at = len(envelope.signed)
        (length,) = struct.unpack_from("<I", quote, at)
        return quote[:at] + struct.pack("<I", length + 4) + quote[at + 4 :] + b"\1\2\3\4"

    def with_comment(quote: bytes) -> bytes:
        return quote.replace(b"-----END CERTIFICATE-----", b"-----END CERTIFICATE-----\nunsigned", 1)

    def followed(kind: str) -> Any:
        def change(given: Any) -> Any:
            items = (
                replace(item, content=item.content + b' {"tcbLevels":[]}') if item.kind == kind else item
                for item in given.items
            )
            return type(given)(tuple(items))

        return change

    for tee in TEES:
        await attack.rejected(dcap.case(tee, "trailing-bytes"), "dcap.quote.length")
        await attack.rejected(
            dcap.case(tee, altered=lambda quote: quote + bytes(367) + b"\1"), "dcap.quote.length"
        )
        await attack.rejected(dcap.case(tee, altered=padded_certification), "dcap.quote.length")
        for kind, check in (("tcb_info", "dcap.tcb-info.format"), ("qe_identity", "dcap.qe-identity.format")):
            await attack.rejected(dcap.case(tee, endorsed=followed(kind)), check)
        # Zeros that fill a buffer are cut; what is returned is the quote alone.
        padded = dcap.case(tee, altered=lambda quote: quote + bytes(368))
        assert padded.appraised().evidence.raw == dcap.case(tee).evidence(bytes(range(64)))
        await attack.twin(padded)
    resized = dcap.case("sgx").evidence(bytes(64))
    assert with_comment(resized) != resized
    await attack.rejected(dcap.case("sgx", altered=_rechained(with_comment)), "dcap.pck.chain")
    await attack.rejected(dcap.case("sgx", report={"reserved_2": b"\1" + bytes(31)}), "sgx.report.reserved")
    attributes = {"td_attributes": ATTR_SEPT_VE_DISABLE | 1 << 40}
    await attack.rejected(dcap.case("tdx", report=attributes), "tdx.td.reserved")
    # The 368 bytes of the real instance: what stands behind an SNP report's signature.
    await attack.rejected(snp.case("trailing-bytes"), "snp.report.length")
    await attack.twin(snp.case())


def _rechained(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """An SGX quote whose certificate chain was changed, with all lengths corrected."""
    from eaa.tee.dcap.quote import CertificationData, pack_envelope

    def altered(quote: bytes) -> bytes:
        envelope: Any = parse_evidence(quote, tee="sgx").envelope  # type: ignore[attr-defined] # a DCAP quote
        part = envelope.signature
        chain = CertificationData(5, change(part.certification.data))
        return pack_envelope(envelope.signed, part._replace(certification=chain))

    return altered


@pytest.mark.attack(
    "A14",
    title="A wrong offset: the measurement is read from the report data, which the guest fills in itself",
    instance="agentrust cmcp PR #527",
    checks=("reference.tdx.mr_td", "reference.tdx.rtmr_1", "reference.sgx.mr_enclave"),
)
async def test_a14_measurements_are_where_they_are(attack: Attack, dcap: Dcap) -> None:
    """Other software whose report data imitates the expected measurement stays other software."""
    good, parsers = measure(DEFAULT_IMAGE), {"tdx": ("mr_td", "rtmr_1"), "sgx": ("mr_enclave",)}
    for tee, names in parsers.items():
        evil = dcap.case(tee, image="the attacker's")
        await attack.withheld(evil, *(f"reference.{tee}.{name}" for name in names))
        expected = {name: [value] for name, value in good.items()}
        for shift in range(17):
            imitation = (bytes(shift) + bytes.fromhex(good[names[0]]))[:64].ljust(64, b"\0")
            checks = {
                check.id: check for check in check_reference_values(evil.appraised(imitation), expected)
            }
            assert checks[f"reference.{tee}.{names[0]}"].blocks
        await attack.twin(dcap.case(tee))
        _same_whatever_is_signed(dcap, tee)


def _same_whatever_is_signed(dcap: Dcap, tee: str) -> None:
    case = dcap.case(tee)
    registers = dict(parse_evidence(case.evidence(bytes(64)), tee=tee).measurements)
    registers.pop("report_data", None)

    @settings(max_examples=25, deadline=None, database=None)
    @given(due=st.binary(min_size=64, max_size=64))
    def invariant(due: bytes) -> None:
        quote = case.evidence(due)
        evidence = parse_evidence(quote, tee=tee)
        assert {name: evidence.measurements[name] for name in registers} == registers
        assert evidence.report_data == due
        # Somebody else's parser finds the same at the same place.
        report = dcap_qvl.Quote.parse(quote).report
        assert bytes(report.report_data) == due
        theirs = report.mr_td if tee == "tdx" else report.mr_enclave
        assert bytes(theirs).hex() == registers["mr_td" if tee == "tdx" else "mr_enclave"]

    invariant()


@pytest.mark.attack(
    "A17",
    title="The report data is not compared, compared in part, or an empty expectation skips the comparison",
    instance="GHSA-4px3-wj2x-xx47 and GHSA-4r6g-mp48-j2rw (Cocos); cmcp #371",
    checks=("binding.report-data", "input.malformed"),
)
async def test_a17_all_64_bytes_are_compared(attack: Attack, dcap: Dcap, snp: Snp) -> None:
    """Another challenge, other padding, a prefix: refused. An expectation is required, and may not be empty."""
    changes: tuple[Callable[[bytes], bytes], ...] = (
        lambda due: due[:-1] + b"\1",
        lambda due: due[:48] + b"\xff" * 16,
        lambda due: bytes((due[0] ^ 1,)) + due[1:],
        lambda due: due[:32],
        lambda _: bytes(64),
    )
    for tee in TEES:
        for change in changes:
            await attack.rejected(dcap.case(tee, asked=change), "binding.report-data")
            await attack.rejected(snp.case(asked=change), "binding.report-data")
        await attack.rejected(dcap.case(tee, "wrong-report-data"), "binding.report-data")
        case = dcap.case(tee)
        evidence = parse_evidence(case.evidence(bytes(64)), tee=tee)
        with attack.refused("input.malformed"):
            case.verifier.verify(evidence, case.endorsements, at=attack.desk.AT, report_data=b"")
        with pytest.raises(TypeError):
            case.verifier.verify(evidence, case.endorsements, at=attack.desk.AT)  # type: ignore[call-arg] # that is the point
        await attack.twin(case)


@pytest.mark.attack(
    "A18",
    title="A TEE in debug mode, whose memory the host reads, is accepted",
    instance="tinfoil-python PR #122; attestation-rs #67",
    checks=("tdx.td.debug", "sgx.enclave.debug", "dcap.qe.attributes", "snp.policy.debug"),
)
async def test_a18_no_policy_accepts_debug(attack: Attack, dcap: Dcap, snp: Snp) -> None:
    """Whatever the owner allows, debug is refused: no field of the policy speaks of it, and no combination lets it pass."""
    checks = {"tdx": "tdx.td.debug", "sgx": "sgx.enclave.debug"}
    debugged = {tee: dcap.case(tee, "debug") for tee in checks}
    chains = (pck_chain(parse_evidence(each.evidence(bytes(64)), tee=tee)) for tee, each in debugged.items())
    ppids = frozenset(read_pck_extension(read_certificates(chain)[0]).ppid for chain in chains)
    choices: dict[str, tuple[Any, ...]] = {
        "tcb_statuses": (frozenset({"UpToDate"}), ACCEPTABLE_STATUSES),
        "minimum_tcb_evaluation_number": (0, 18),
        "service_tds": (frozenset(), frozenset({bytes(48)})),
        "allow_migratable": (False, True),
        "require_sept_ve_disable": (True, False),
        "platforms": (frozenset(), ppids),
    }
    # A new field must be given its choices here.
    assert {each.name for each in fields(AcceptancePolicy)} == set(choices)
    assert not [name for name in choices if "debug" in name]
    for values in product(*choices.values()):
        policy = AcceptancePolicy(**dict(zip(choices, values, strict=True)))
        verifier = dcap_verifier((dcap.maker.trust_anchor(),), (policy,))
        for tee, check in checks.items():
            quote = parse_evidence(debugged[tee].evidence(bytes(64)), tee=tee)
            assert isinstance(quote, SgxQuote | TdxQuote)
            appraisal = verifier.verify(
                quote, debugged[tee].endorsements, at=attack.desk.AT, report_data=bytes(64)
            )
            assert [each.id for each in appraisal.failing] == [check]
    for tee, check in checks.items():
        await attack.rejected(dcap.case(tee, "debug"), check)
        await attack.rejected(dcap.case(tee, "debug-qe"), "dcap.qe.attributes")
        await attack.twin(dcap.case(tee))
    for bit in range(8):
        attributes = {"td_attributes": ATTR_SEPT_VE_DISABLE | 1 << bit}
        await attack.rejected(dcap.case("tdx", report=attributes), "tdx.td.debug")
    lenient = SnpPolicy(
        vmpls=frozenset(range(4)),
        minimum_tcb={product: TcbFloor() for product in Product},
        allow_migrate_ma=True,
        require_alias_check=False,
    )
    assert not [each.name for each in fields(SnpPolicy) if "debug" in each.name]
    await attack.rejected(snp.case("debug", policy=lenient), "snp.policy.debug")
    await attack.twin(snp.case(policy=lenient))


@pytest.mark.attack(
    "A24",
    title="Whoever holds the machine reads its memory bus and forges evidence of that very machine",
    instance="TEE.fail, WireTap, Battering RAM (2025)",
    checks=("policy.trust-vector", "snp.platform.chip"),
    open="Intel's Platform Ownership Endorsement and proofs of a machine's place are not read",
)
async def test_a24_platforms_can_be_listed(attack: Attack, dcap: Dcap, snp: Snp) -> None:
    """Evidence names its machine, and an owner's policy can accept listed machines only."""
    policy = load_default("attestation").replace(
        "\tintel_td(input.tdx)\n",
        '\tintel_td(input.tdx)\n\tinput.tdx.platform_instance_id in listed(query_reference_value("platforms"))\n',
    )
    chips = SnpPolicy(chip_ids=frozenset({snp.maker.machine("mine").chip_id}))
    await attack.rejected(snp.case(policy=chips), "snp.platform.chip")
    await attack.twin(snp.case(policy=chips, name="mine"))

    mine = dcap.maker.machine("machine-1").identity.platform_instance_id
    assert mine is not None
    database = attack.desk.services.database
    await database.put_policy("attestation", "default_cpu", policy)
    elsewhere = dcap.case("tdx", name="the attacker's laboratory")
    # Nothing listed, nothing accepted.
    await attack.withheld(dcap.case("tdx"), "policy.trust-vector")
    await database.put_reference_values({"platforms": [mine.hex()]})
    claims = elsewhere.appraised().accept()
    assert claims.values["platform_instance_id"] != mine.hex()
    assert claims.values["ppid"]
    await attack.withheld(elsewhere, "policy.trust-vector")
    await attack.twin(dcap.case("tdx"))


@pytest.mark.attack(
    "A29",
    title="An evidence factory: any process of a guest gets evidence over its own bytes and answers challenges with it from elsewhere",
    instance="T. Feldman-Fitzthum, FOSDEM 2023",
    checks=("404 Attestation Feature Not Enabled", "403 Forbidden"),
    open="where processes need evidence of their own (rest_feature attestation or all), the bytes they choose are not tagged",
)
async def test_a29_the_agent_signs_nothing_for_strangers(attack: Attack, dcap: Dcap) -> None:
    """An agent that serves resources gives no process evidence or the attested key, and no peer from outside anything."""
    case = dcap.case("tdx")
    asked: list[bytes] = []

    class Hardware:
        tee = "tdx"

        async def collect(self, due: bytes) -> dict[str, Any]:
            asked.append(due)
            return case.wire(case.evidence(due))

    desk = attack.desk
    desk.case = case
    nonce, cookie = await desk.challenge()
    stolen = TeeKeyPair.generate()
    factory = {"runtime_data": b64encode(report_data(nonce, stolen.public)).decode(), "encoding": "base64"}
    async with KbsClient("http://127.0.0.1:9", Hardware()) as kbs:
        for feature, peer, route, refusal in (
            ("resource", "127.0.0.1", "/aa/evidence", "404 Attestation Feature Not Enabled"),
            ("resource", "127.0.0.1", "/aa/token", "404 Attestation Feature Not Enabled"),
            ("all", "10.0.0.7", "/aa/evidence", "403 Forbidden"),
        ):
            transport = httpx2.ASGITransport(
                build_rest(kbs, Hardware(), feature=feature), client=(peer, 4711)
            )
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8006") as process:
                answer = await process.get(route, params=factory | {"token_type": "kbs"})
                assert f"{answer.status_code} {answer.text}" == refusal
                attack.saw(refusal)
    assert asked == []
    attack.denied(await desk.fetch(cookie=cookie))
    assert AgentConfig(kbs_url="https://kbs", attester="simulator").rest_feature == "resource"
    # The same guest, asked by its own agent for its own key.
    await attack.twin(case)


@pytest.mark.attack(
    "A32",
    title="The host says how long the quote is: memory of the guest leaks into it, or the verifier reads and allocates too much",
    instance="Linux tdx-guest, commit c3fd16c3b98e",
    checks=("dcap.quote.length", "snp.evidence.length"),
    open="the attester's half comes with the driver for TDX hardware",
)
async def test_a32_the_length_is_bounded(attack: Attack, dcap: Dcap, snp: Snp) -> None:
    """A quote above 64 KiB is refused unread, and no length inside can point beyond what is there."""
    await attack.rejected(
        snp.case(altered=lambda raw: raw.ljust(64 * 1024 + 1, b"\0")), "snp.evidence.length"
    )
    await attack.twin(snp.case(altered=lambda raw: raw.ljust(64 * 1024, b"\0")))
    for tee in TEES:
        envelope: Any = dcap.case(tee).appraised().evidence
        at = len(envelope.envelope.signed)
        for altered in (
            lambda quote: quote.ljust(MAX_QUOTE_SIZE + 1, b"\0"),
            lambda quote: quote + b"guest memory" * 5000,
            lambda quote: quote[:-1],
            lambda quote: quote[:100],
            lambda _: b"",
            patched(at, b"\xff\xff\xff\xff"),
            patched(at, b"\0\0\0\0"),
        ):
            await attack.rejected(dcap.case(tee, altered=altered), "dcap.quote.length")
        await attack.twin(dcap.case(tee, altered=lambda quote: quote.ljust(MAX_QUOTE_SIZE, b"\0")))
