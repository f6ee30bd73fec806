# SPDX-License-Identifier: Apache-2.0
"""The real swtpm, driven by the real tpm2-tools: its keys are enrolled, its quotes verified, by our code alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_bytes
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from eaa.rats import Endorsements, EvidenceError, TrustAnchor
from eaa.tee.tpm.credential import StorageKey, make_credential
from eaa.tee.tpm.enrolment import EnrolledAk, begin_enrolment
from eaa.tee.tpm.evidence import bundle_tpm2_tools, parse_tpm_evidence
from eaa.tee.tpm.policy import TpmPolicy
from eaa.tee.tpm.public import load_spki, parse_public
from eaa.tee.tpm.verify import TpmVerifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eaa.rats import Appraisal

pytestmark = pytest.mark.interop

TOOLS = ("swtpm", "swtpm_setup", "swtpm_localca", "tpm2_quote", "tpm2_createak", "tpm2_activatecredential")
PACKAGES = "swtpm swtpm-tools tpm2-tools libtss2-tcti-swtpm0"
DIGEST = bytes(range(1, 49))
POLICY_A = "8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e143e8bb1133824ccb431053871c6db53"
POLICY_C = "d6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165"
"""TCG EK Credential Profile, B.6: what a session must satisfy to use an endorsement key of the high range."""


RSA_EK, ECC_EK = "0x81010001", "0x81010016"
EKS = {RSA_EK: "ek-rsa2048.crt", ECC_EK: "ek-secp384r1.crt"}
SCHEMES = {
    "rsassa": (RSA_EK, ("rsa", "sha256", "rsassa")),
    "rsapss": (RSA_EK, ("rsa", "sha256", "rsapss")),
    "ecdsa": (RSA_EK, ("ecc", "sha256", "ecdsa")),
    "ecdsa384": (ECC_EK, ("ecc384", "sha384", "ecdsa")),
}


@dataclass(frozen=True)
class Machine:
    """A TPM that a folder belongs to. Files are named relative to it."""

    folder: Path
    port: int

    def run(self, *command: str) -> None:
        """Run one of tpm2-tools, and forget its transient objects: there is no resource manager."""
        environment = os.environ | {"TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={self.port}"}
        for each in (command, ("tpm2_flushcontext", "--transient-object")):
            done = subprocess.run(
                each,
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, (each, done.stderr)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    @property
    def anchor(self) -> TrustAnchor:
        """The root of this TPM's maker."""
        root = load_pem_x509_certificate(self.read("ca/swtpm-localca-rootca-cert.pem"))
        return TrustAnchor.from_certificate(root, simulated=True)

    @property
    def issuers(self) -> bytes:
        return self.read("ca/issuercert.pem") + self.read("ca/swtpm-localca-rootca-cert.pem")

    def create_ak(self, name: str, ek: str, scheme: tuple[str, str, str]) -> EnrolledAk:
        """Create an attestation key below an endorsement key."""
        algorithm, hashing, signing = scheme
        self.run(
            "tpm2_createak", "-Q", "-C", ek, "-c", f"{name}.ctx", "-G", algorithm, "-g", hashing, "-s", signing,
            "-u", f"{name}.pub", "-n", f"{name}.name",
        )  # fmt: skip
        area = parse_public(self.read(f"{name}.pub"))
        assert area.name == self.read(f"{name}.name")
        assert area.missing_attributes == []
        return EnrolledAk.of_area(area)

    def activate(self, ak: str, ek: str, credential: bytes, *, high: bool) -> bytes:
        """Run TPM2_ActivateCredential under the policy of the endorsement key's template."""
        self.write("credential", credential)
        self.run(
            "tpm2_startauthsession",
            "-Q",
            "--policy-session",
            "-S",
            "s.ctx",
            "-g",
            "sha384" if high else "sha256",
        )
        self.run("tpm2_policysecret", "-Q", "-S", "s.ctx", "-c", "e")
        if high:
            self.write("a", bytes.fromhex(POLICY_A))
            self.write("c", bytes.fromhex(POLICY_C))
            self.run("tpm2_policyor", "-Q", "-S", "s.ctx", "-l", "sha384:a,c")
        try:
            self.run("tpm2_activatecredential", "-Q", "-c", f"{ak}.ctx", "-C", ek, "-i", "credential", "-o", "answer",
                     "-P", "session:s.ctx")  # fmt: skip
        finally:
            self.run("tpm2_flushcontext", "s.ctx")
        return self.read("answer")

    def quote(self, ak: str, selection: str, extra_data: bytes = DIGEST) -> bytes:
        """Quote, and return the evidence that carries the files as they are."""
        _, hashing, signing = SCHEMES[ak][1]
        self.run(
            "tpm2_quote", "-Q", "-c", f"{ak}.ctx", "-l", selection, "-q", extra_data.hex(), "-g", hashing,
            "--scheme", signing, "-m", "q.msg", "-s", "q.sig", "-o", "q.pcrs",
        )  # fmt: skip
        return bundle_tpm2_tools(
            message=self.read("q.msg"),
            signature=self.read("q.sig"),
            pcrs=self.read("q.pcrs"),
            key=self.read(f"{ak}.pub"),
        )


def free_port() -> int:
    """A port whose successor is free as well: swtpm wants two."""
    for _ in range(50):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    pytest.fail("no two free ports side by side")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A fresh TPM with certified endorsement keys; it ends with the tests."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing; apt-get install {PACKAGES}")
    folder = tmp_path_factory.mktemp("swtpm")
    for name in ("ca", "state"):
        (folder / name).mkdir()
    (folder / "localca.conf").write_text(
        f"statedir={folder}/ca\nsigningkey={folder}/ca/signkey.pem\nissuercert={folder}/ca/issuercert.pem\n"
        f"certserial={folder}/ca/certserial\n"
    )
    (folder / "setup.conf").write_text(
        f"create_certs_tool=swtpm_localca\ncreate_certs_tool_config={folder}/localca.conf\n"
        "create_certs_tool_options=/etc/swtpm-localca.options\n"
    )
    subprocess.run(
        ["swtpm_setup", "--tpm2", "--tpmstate", "state", "--create-ek-cert", "--create-platform-cert", "--lock-nvram",
         "--overwrite", "--pcr-banks", "sha1,sha256,sha384", "--config", str(folder / "setup.conf"),
         "--write-ek-cert-files", str(folder)],
        cwd=folder, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    port = free_port()
    process = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}/state",
         "--server", f"type=tcp,port={port},bindaddr=127.0.0.1", "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1",
         "--flags", "not-need-init,startup-clear"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while not listens(port + 1):
            assert process.poll() is None, "swtpm ended"
            assert time.monotonic() < deadline, "swtpm does not listen"
            time.sleep(0.05)
        yield Machine(folder, port)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def keys(machine: Machine) -> dict[str, EnrolledAk]:
    return {name: machine.create_ak(name, ek, scheme) for name, (ek, scheme) in SCHEMES.items()}


def judge(evidence: bytes, *enrolled: EnrolledAk, policy: TpmPolicy | None = None) -> Appraisal:
    return TpmVerifier(policy or TpmPolicy()).verify(
        parse_tpm_evidence(evidence),
        Endorsements(tuple(each.to_endorsement() for each in enrolled)),
        at=datetime.now(UTC),
        report_data=DIGEST.ljust(64, b"\0"),
    )


def failing(appraisal: Appraisal) -> list[str]:
    return [check.id for check in appraisal.failing]


@pytest.mark.parametrize("name", SCHEMES)
def test_credential_activation_enrols_a_real_key(
    name: str, machine: Machine, keys: dict[str, EnrolledAk]
) -> None:
    """The TPM recovers the secret that our code encrypted, for RSA and ECC endorsement keys; the quote is then accepted."""
    ek = SCHEMES[name][0]
    area = keys[name].area
    assert area is not None
    enrolment = begin_enrolment(
        area,
        machine.read(EKS[ek]),
        machine.issuers,
        anchors=(machine.anchor,),
        at=datetime.now(UTC),
        secret=token_bytes(32),
    )
    answer = machine.activate(name, ek, enrolment.credential.to_tools_file(), high=ek == ECC_EK)
    record = enrolment.complete(answer, reset_count=0)
    hashing = SCHEMES[name][1][1]
    evidence = machine.quote(name, f"{hashing}:0,1,2,3,4,5,6,7,8,9,16,23")
    policy = TpmPolicy(anchors=(machine.anchor,))
    claims = judge(evidence, record, policy=policy).accept()
    assert claims.simulated
    assert len(claims.measurements) == 12
    assert failing(judge(evidence, record)) == ["tpm.certificate.chain"]


def test_a_credential_for_another_key_is_not_activated(machine: Machine, keys: dict[str, EnrolledAk]) -> None:
    """The TPM itself refuses: the credential names the key that it is for."""
    machine.run("tpm2_readpublic", "-Q", "-c", RSA_EK, "-o", "ek.pub")
    ek = StorageKey.of_area(parse_public(machine.read("ek.pub")))
    certified = machine.read(EKS[RSA_EK])
    from cryptography.x509 import load_der_x509_certificate

    key = (
        load_der_x509_certificate(certified)
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    assert ek == StorageKey.of_key(load_spki(key))
    secret = token_bytes(32)
    right = make_credential(ek, keys["rsassa"].name, secret).to_tools_file()
    assert machine.activate("rsassa", RSA_EK, right, high=False) == secret
    wrong = make_credential(ek, keys["rsapss"].name, secret).to_tools_file()
    with pytest.raises(AssertionError, match="integrity check failed"):
        machine.activate("rsassa", RSA_EK, wrong, high=False)


def test_what_differs_is_refused_on_its_check(machine: Machine, keys: dict[str, EnrolledAk]) -> None:
    sound = machine.quote("ecdsa", "sha256:0,4,16")
    assert judge(sound, keys["ecdsa"]).accepted
    assert failing(judge(sound)) == ["tpm.ak.anchored"]
    assert failing(judge(sound, keys["rsassa"])) == ["tpm.ak.anchored"]
    replayed = machine.quote("ecdsa", "sha256:0,4,16", token_bytes(32))
    assert failing(judge(replayed, keys["ecdsa"])) == ["binding.report-data"]
    assert judge(machine.quote("ecdsa", "sha256:0,4,16", DIGEST[:32]), keys["ecdsa"]).accepted

    old_values = machine.read("q.pcrs")
    machine.run("tpm2_pcrextend", "-Q", f"16:sha256={'ab' * 32}")
    extended = machine.quote("ecdsa", "sha256:0,4,16")
    before, after = (parse_tpm_evidence(each).measurements["pcr16"] for each in (sound, extended))
    assert before != after
    mixed = bundle_tpm2_tools(
        message=machine.read("q.msg"),
        signature=machine.read("q.sig"),
        pcrs=old_values,
        key=machine.read("ecdsa.pub"),
    )
    assert failing(judge(mixed, keys["ecdsa"])) == ["tpm.quote.pcr-digest"]
    relabelled = bundle_tpm2_tools(
        message=machine.read("q.msg"),
        signature=machine.read("q.sig"),
        pcrs=machine.read("q.pcrs"),
        key=machine.read("ecdsa384.pub"),
    )
    assert failing(judge(relabelled, keys["ecdsa384"])) == ["tpm.quote.signature"]


def test_several_banks_are_quoted_at_once(machine: Machine, keys: dict[str, EnrolledAk]) -> None:
    appraisal = judge(machine.quote("rsassa", "sha256:0,1,7+sha384:0,1,2,3,4,5,6,7,8,9,10"), keys["rsassa"])
    claims = appraisal.accept()
    assert sum(name.startswith("sha384_") for name in claims.measurements) == 11
    weak = judge(machine.quote("rsassa", "sha1:0+sha256:0"), keys["rsassa"])
    assert failing(weak) == ["tpm.quote.hash"]


def test_a_signature_of_data_is_no_quote(machine: Machine, keys: dict[str, EnrolledAk]) -> None:
    """TPM2_Certify signs with the same restricted key, and the parser tells it from a quote by its type."""
    machine.quote("rsassa", "sha256:0")
    machine.run(
        "tpm2_certify", "-c", "rsassa.ctx", "-C", "rsassa.ctx", "-g", "sha256", "-o", "c.msg", "-s", "c.sig"
    )  # fmt: skip
    evidence = bundle_tpm2_tools(
        message=machine.read("c.msg"),
        signature=machine.read("c.sig"),
        pcrs=machine.read("q.pcrs"),
        key=machine.read("rsassa.pub"),
    )
    with pytest.raises(EvidenceError) as refused:
        parse_tpm_evidence(evidence)
    assert refused.value.check == "tpm.quote.magic"
