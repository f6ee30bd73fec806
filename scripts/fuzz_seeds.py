# SPDX-License-Identifier: Apache-2.0
"""Sound inputs for the fuzzer to begin with: random bytes would never get past the first field."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from eaa._keys import new_key, read_private_key
from eaa.eventlog import (
    EventType,
    NewEvent,
    aael_data,
    image_data,
    variable_data,
    write_event_log,
)
from eaa.image import KEK_SIZE, ResourceUri, wrap
from eaa.kbs import (
    ErrorInformation,
    TeeKeyPair,
    encrypt,
)
from eaa.rim.cose import sign1
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.azure import AzureVm
from eaa.simulator.mint import mint
from eaa.simulator.snp_mint import mint_snp
from eaa.simulator.tpm import SoftwareTpm
from eaa.simulator.vendor import ChipMaker
from eaa.tee.azure.hcl import REPORT_SNP, pack_hcl_report
from eaa.tee.dcap.collateral_files import (
    endorsements_to_json,
)
from eaa.tee.grub_config import DEBIAN_SCRIPT
from eaa.tee.snp.collateral_files import endorsements_to_snp_json
from eaa.tee.tpm.evidence import parse_key
from eaa.tee.tpm.pcr_file import pack_pcr_file
from eaa.tee.tpm.wire import Algorithm, sized
from eaa.verdict.corim import corim_of, signed_corim_of
from eaa.verdict.envelope import seal
from eaa.verdict.index import Index, Listed
from eaa.verdict.lifecycle import State
from eaa.verdict.provenance import BUILD_TYPE, Provenance
from eaa.verdict.reference_set import ReferenceSet, RegisterValue
from eaa.verdict.statement import Artifact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rats import Endorsements

__all__ = ["KEY", "TPM_KEY", "VERDICT_KEY", "seeds"]

KEY = TeeKeyPair.generate()
TPM = SoftwareTpm(b"fuzz")
_LOGGED = (NewEvent(4, EventType.EV_SEPARATOR, bytes(4)), NewEvent(7, EventType.EV_EFI_ACTION, b"boot"))
VERDICT_KEY = read_private_key(new_key()[0])
TPM_KEY = parse_key(TPM.ak_area.key)


def _pckcerts(endorsements: Any) -> bytes:
    """Return what `pckcerts` answers, with another certificate in it: nothing is proven while it is read."""
    pem = endorsements.of_kind("tcb_info")[0].issuer_chain.decode().partition("-----END CERTIFICATE-----")
    return json.dumps([{"tcbm": "00" * 18, "cert": f"{pem[0]}{pem[1]}\n"}]).encode()


def seeds() -> dict[str, list[bytes]]:
    """Return sound inputs to begin with, where random bytes would never get past the first field."""
    now = datetime.now(UTC)
    maker = ChipMaker.create(now)
    cases = {tee: mint(maker, tee, bytes(64), at=now) for tee in ("tdx", "sgx")}
    collateral = cases["tdx"].endorsements
    by_kind = {item.kind: item for item in collateral.items}
    public = KEY.public.jwk
    wrapped = {"symkey": b64encode(bytes(32)).decode(), "digest": "sha256:00", "cipheroptions": {}}
    evidence = {"primary_evidence": {"quote": ""}, "additional_evidence": ""}
    return {
        "tdx-quote": [cases["tdx"].quote],
        "sgx-quote": [cases["sgx"].quote],
        "tcb-info": [by_kind["tcb_info"].content],
        "enclave-identity": [by_kind["qe_identity"].content],
        "certificates": [by_kind["tcb_info"].issuer_chain],
        "crl": [by_kind["pck_crl"].content],
        "shim": [_shim(by_kind["tcb_info"].issuer_chain)],
        "collateral-document": [json.dumps(endorsements_to_json(collateral)).encode()],
        "collateral-file": [item.content for item in collateral.items],
        "pck-certificates": [_pckcerts(cases["tdx"].endorsements)],
        "pck-registration": [b'{"qe_id":"00","pce_id":"0000","cpu_svn":"","pce_svn":"","enc_ppid":""}'],
        "platform-file": [b'{"platforms":[{"qe_id":"00","pce_id":"0000"}],"collaterals":{"pck_certs":[]}}'],
        "fmspc-list": [b'[{"fmspc":"00A06F000000","platform":"E5"}]'],
        "kbs-request": [b'{"version":"0.4.0","tee":"tdx","extra-params":""}'],
        "kbs-attestation": [
            json.dumps(
                {"runtime-data": {"nonce": "bm9uY2U=", "tee-pubkey": public}, "tee-evidence": evidence}
            ).encode()
        ],
        "kbs-error": [ErrorInformation.of("PolicyDeny", "no").to_json()],
        "kbs-jwe": [json.dumps(encrypt(b"secret", KEY.public)).encode()],
        "tee-key": [json.dumps(public).encode()],
        "key-provider-wrap": [_key_provider("keywrap", {"ec": {"Parameters": {}}, "optsdata": wrapped})],
        "key-provider-unwrap": [_key_provider("keyunwrap", {"dc": None, "annotation": wrapped})],
        "annotation": [wrap(bytes(KEK_SIZE), b"{}", kid=ResourceUri("default", "key", "demo")).to_json()],
        "resource-uri": [b"kbs:///default/key/demo"],
        "verdict-index": [Index(1, (Listed("ab" * 32, State.ACTIVE),)).to_statement().to_bytes()],
        **_snp_and_azure_seeds(maker, now),
        **_tpm_seeds(),
        **_log_seeds(),
        **_build_seeds(),
        **_verdict_seeds(now),
    }


def _snp_and_azure_seeds(maker: ChipMaker, now: datetime) -> dict[str, list[bytes]]:
    amd = AmdChipMaker.create(now)
    tpm = SoftwareTpm(b"fuzz vTPM", ak=rsa.generate_private_key(65537, 2048))
    tpm.boot(_LOGGED)
    vm = AzureVm(tpm)
    runtime = vm.runtime_data(bytes(32))
    case = mint_snp(amd, vm.report_data(runtime), at=now)
    quote = mint(maker, "tdx", vm.report_data(runtime), at=now).quote
    key, versions = case.machine.certificate, (0, 1, 2)
    endorsements: Endorsements = case.endorsements
    return {
        "snp-evidence": [case.report, case.evidence().raw, json.dumps(case.evidence_json()).encode()],
        "snp-collateral": [json.dumps(endorsements_to_snp_json(endorsements)).encode()],
        "az-snp-vtpm": [
            vm.snp_evidence(case.report, key, runtime, bytes(32), version=each) for each in versions
        ],
        "az-tdx-vtpm": [vm.tdx_evidence(quote, runtime, bytes(32), version=each) for each in versions],
        "hcl-report": [pack_hcl_report(case.report, REPORT_SNP, runtime)],
    }


def _tpm_seeds() -> dict[str, list[bytes]]:
    message, signature, values = TPM.quote(bytes(32))
    coded = {"Quote": b64encode(message).decode(), "Signature": b64encode(signature).decode()}
    pcrs = [
        {"Index": index, "Digest": b64encode(value).decode(), "DigestAlg": 5}
        for index, value in values.items()
    ]
    area = TPM.ak_area.raw
    dump = {"AK": {"Public": b64encode(area).decode()}, "Quote": coded, "Log": {"PCRs": pcrs}}
    coco = {
        "ak_public": b64encode(TPM.ak_area.key).decode(),
        "tpm_quote": {
            "message": coded["Quote"],
            "signature": coded["Signature"],
            "pcrs": [values[index].hex() for index in sorted(values)],
        },
    }
    bank = b"\x08\x0b" + _field(2, b"\x08\x00" + _field(2, bytes(32)))
    quote = _field(1, message) + _field(2, signature) + _field(3, bank)
    logged = {**coco, "cc_eventlog": b64encode(write_event_log(_LOGGED, ("sha256",))).decode()}
    return {
        "tpm-evidence": [TPM.evidence(bytes(32)), *(json.dumps(each).encode() for each in (coco, logged))],
        "tpm-go-tpm-tools": [_field(1, area) + _field(2, quote)],
        "tpm-go-attestation": [json.dumps(dump).encode()],
        "tpm-enacttrust": [bytes(16) + sized(message) + signature],
        "tpm-parsec": [
            b"\xa1\x63pat\xa2\x6aattestInfo\x59" + sized(message) + b"\x63sig\x59" + sized(signature)
        ],
        "pcr-file": [pack_pcr_file({Algorithm.SHA256: values})],
    }


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of a protobuf message; the length takes two bytes."""
    return bytes([number << 3 | 2, len(content) & 0x7F | 0x80, len(content) >> 7]) + content


def _log_seeds() -> dict[str, list[bytes]]:
    pulled = aael_data(
        "github.com/confidential-containers", "PullImage", '{"image":"a","digest":"sha256:00"}'
    )
    variable = variable_data(bytes(16), "SecureBoot", b"\x01")
    events = [
        NewEvent(1, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable),
        NewEvent(1, EventType.EV_SEPARATOR, bytes(4)),
        NewEvent(
            2,
            EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
            image_data(b"\x7f\xff\x04\x00", 4096),
            b"an image",
        ),
        NewEvent(3, EventType.EV_IPL, b"kernel_cmdline: console=ttyS0\0", b"console=ttyS0"),
        NewEvent(4, EventType.EV_EVENT_TAG, pulled),
    ]
    boot = {
        "imr": 0,
        "event_type": 4,
        "digest": "00" * 48,
        "event": "separator",
        "event_payload": "00000000",
    }
    runtime = {
        "imr": 3,
        "event_type": 0x08000001,
        "digest": "",
        "event": "app-id",
        "event_payload": "00",
    }
    init_data = b'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n"aa.toml" = \'a = 1\'\n"policy.rego" = \'policy_data := {}\'\n'
    return {
        "event-log": [write_event_log(events), write_event_log(events, ("sha1", "sha256", "sha384"))],
        "dstack-log": [json.dumps([boot, runtime]).encode()],
        "aael": [pulled],
        "init-data": [init_data],
    }


def _build_seeds() -> dict[str, list[bytes]]:
    """Return the smallest firmware image, SIGSTRUCT and kernel that are sound."""
    size = 1 << 14
    metadata = struct.pack("<4sIIIIIQQII", b"TDVF", 48, 1, 1, 0, size, (1 << 32) - size, size, 0, 1)
    tdvf, footer = (
        UUID("e47a6535-984a-4798-865e-4685a7bf8ec2"),
        UUID("96b582de-1fb2-45f7-baea-a366c55a082d"),
    )
    table = struct.pack("<IH", 0x1000, 22) + tdvf.bytes_le
    table += struct.pack("<H", len(table) + 18) + footer.bytes_le
    firmware = bytearray(size)
    firmware[-0x1000 : -0x1000 + len(metadata)] = metadata
    firmware[-32 - len(table) : -32] = table
    kernel = bytearray(0x400)
    kernel[:2], kernel[0x3C:0x40] = b"MZ", struct.pack("<I", 0x80)
    kernel[0x80:0x98] = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0)
    struct.pack_into("<H", kernel, 0x98, 0x20B)
    struct.pack_into("<I", kernel, 0x98 + 60, 0x200)
    struct.pack_into("<II", kernel, 0x98 + 240 + 16, 0x200, 0x200)
    return {
        "tdvf": [bytes(firmware)],
        "sigstruct": [_sigstruct()],
        "pe-image": [bytes(kernel)],
        "fw-cfg": [struct.pack(">IIHxx56s", 1, 20, 0x22, b"etc/acpi/rsdp")],
        "variable-store": [_variable_store()],
        "unified-kernel-image": [_uki(bytes(kernel))],
        "grub-config": [b"# made\nset root=hd0\nlinux /vmlinuz quiet a=b\ninitrd /initrd.img\nboot\n"],
        "grub-image": [_grub()],
        "partition-table": [_disk()],
    }


def _verdict_seeds(now: datetime) -> dict[str, list[bytes]]:
    """Return a set of reference values in each of its forms, and what others write."""
    values = (RegisterValue("mr_enclave", ("ab" * 32,)), RegisterValue("isv_svn", ("3",)))
    found = ReferenceSet("acme/web", 1, "sgx", values, (Artifact.of("enclave", b""),), now)
    comid = (
        b"\xa2\x01\xa1\x00\x61a\x04\xa1\x00\x81\x82\xa1\x00\xa1\x01\x61b\x81\xa1\x01\xa1\x02\x81\x82\x01\x58\x20"
        + bytes(32)
    )
    messages = [
        json.dumps({"type": kind, "payload": b64encode(content).decode()}).encode()
        for kind, content in (("sample", b'{"mr_enclave": "ab"}'), ("corim", corim_of(found)))
    ]
    rim = (
        b'<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"><Meta edition="GPU" '
        b'a:PlatformManufacturerStr="ACME" xmlns:a="https://trustedcomputinggroup.org/resource/'
        b'tcg-reference-integrity-manifest-rim-information-model/"/><Payload><Resource type="Measurement" index="1" '
        b'b:Hash0="%s" xmlns:b="http://www.w3.org/2001/04/xmlenc#sha384"/></Payload></SoftwareIdentity>'
        % (b"ab" * 48)
    )
    return {
        "statement": [found.to_statement().to_bytes()],
        "envelope": [seal(found.to_statement(), [VERDICT_KEY]), seal(found.to_statement(), [])],
        "signers": [b'[keys]\na = "a.pub"\n[products."acme/*"]\nsigners = ["a"]\nthreshold = 1\n'],
        "cose": [sign1(b"payload", VERDICT_KEY, {})],
        "corim": [corim_of(found), signed_corim_of(found, VERDICT_KEY)],
        "comid": [comid],
        "rvps-message": messages,
        "swid-rim": [rim],
        **_recipe_seeds(),
    }


def _recipe_seeds() -> dict[str, list[bytes]]:
    """Return the example's build file, who may build it, and a provenance of it."""
    file = (Path(__file__).parents[1] / "examples" / "guest" / "build.toml").read_bytes()
    said = {"buildFile": file.decode(), "sha256": sha256(file).hexdigest()}
    made = (Artifact.of("initrd", b""),)
    provenance = Provenance(
        builder="a", build_type=BUILD_TYPE, outputs=made, dependencies=(), external=said, internal={}
    )
    entry = f'keys = ["a"]\nbuild_types = ["{BUILD_TYPE}"]\nsources = ["file:*"]\n'
    builders = f'[keys]\na = "a.pub"\n[builders.a]\n{entry}'.encode()
    return {
        "build-file": [file],
        "builders": [builders],
        "provenance": [provenance.to_statement().to_bytes()],
    }


def _variable_store() -> bytes:
    volume = UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le
    store = UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
    vendor = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c").bytes_le
    name, content = "PK\0".encode("utf-16-le"), b"keys"
    variable = struct.pack("<HBxIQ16sIII16s", 0x55AA, 0x3F, 7, 0, b"", 0, len(name), len(content), vendor)
    size = 28 + len(variable) + len(name) + len(content)
    head = struct.pack("<16x16sQ4sIHH", volume, 0x1000, b"_FVH", 0, 0x38, 0).ljust(0x38, b"\0")
    return head + struct.pack("<16sIBBHI", store, size, 0x5A, 0xFE, 0, 0) + variable + name + content


def _uki(kernel: bytes) -> bytes:
    magic = b"#### LoaderInfo: systemd-stub 254.1-1 ####"
    return _pe({b".sdmagic": magic, b".linux": kernel, b".cmdline": b"quiet"})


def _pe(parts: Mapping[bytes, bytes]) -> bytes:
    head = bytearray(0x400)
    head[:2], head[0x3C:0x40] = b"MZ", struct.pack("<I", 0x80)
    head[0x80:0x98] = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(parts), 0, 0, 0, 240, 0)
    struct.pack_into("<H", head, 0x98, 0x20B)
    struct.pack_into("<I", head, 0x98 + 60, len(head))
    body = b""
    for index, (name, content) in enumerate(parts.items()):
        fields = name, len(content), 0, len(content), len(head) + len(body)
        struct.pack_into("<8sIIII", head, 0x98 + 240 + 40 * index, *fields)
        body += content
    return bytes(head) + body


def _grub() -> bytes:
    parts = (
        (1, b"\0" + DEBIAN_SCRIPT + b"\0"),
        (2, b"normal (memdisk)/grub.cfg\n\0"),
        (3, b"/EFI/debian\0"),
    )
    body = b"".join(struct.pack("<II", kind, 8 + len(content)) + content for kind, content in parts)
    return _pe({b"mods": b"mimg" + struct.pack("<IQQ", 0, 24, 24 + len(body)) + body})


def _shim(certificate: bytes) -> bytes:
    key = load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    table = struct.pack("<IIII", len(key), 0, 16, 16 + len(key)) + key
    levels = struct.pack("<III", 0, 8, 0) + b"sbat,1,2025021800\n\0"
    image = bytearray(_pe({b"/4": table, b"/17": levels}))
    struct.pack_into("<II", image, 0x80 + 12, len(image), 0)
    return bytes(image) + struct.pack("<I", 28) + b".vendor_cert\0.sbatlevel\0"


def _disk() -> bytes:
    header = b"EFI PART" + bytes(64) + struct.pack("<QIII", 2, 2, 128, 0)
    return bytes(512) + header.ljust(512, b"\0") + bytes(range(1, 129)) + bytes(128)


def _sigstruct() -> bytes:
    key = rsa.generate_private_key(3, 3072)
    headers = (
        bytes.fromhex("06000000e10000000000010000000000"),
        bytes.fromhex("01010000600000006000000001000000"),
    )
    author = struct.pack("<16sII16sI84s", headers[0], 0, 0x20260316, headers[1], 0, b"")
    body = struct.pack(
        "<IIBB2s16s16s16s32s16s16sHH", 1, 0, 0, 0, b"", b"", b"\4", b"\xfd", bytes(32), b"", b"", 1, 1
    )
    modulus = key.public_key().public_numbers().n
    signature = int.from_bytes(key.sign(author + body, padding.PKCS1v15(), hashes.SHA256()))
    q1, rest = divmod(signature * signature, modulus)
    numbers = [each.to_bytes(384, "little") for each in (modulus, signature, q1, rest * signature // modulus)]
    return b"".join((author, numbers[0], struct.pack("<I", 3), numbers[1], body, bytes(12), *numbers[2:]))


def _key_provider(operation: str, params: dict[str, Any]) -> bytes:
    """Return a key provider message in which inner documents are base64 of JSON, as ocicrypt writes them."""
    coded = {
        name: b64encode(json.dumps(value).encode()).decode() if name in ("optsdata", "annotation") else value
        for name, value in params.items()
    }
    return json.dumps({"op": operation, f"{operation}params": coded}).encode()
