# SPDX-License-Identifier: Apache-2.0
"""Fuzz the parsers of untrusted bytes, guided by coverage (Atheris, libFuzzer).

Each target is a function of bytes that must return, or raise an ``InputError``; anything else, and more than ten seconds or two
gigabytes for one input, is a finding. Findings and the corpus that was learned stay in ``.cache/fuzz``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atheris  # type: ignore[import-untyped,unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable

# Only the process that fuzzes is instrumented.
_INSTRUMENTED = (
    atheris.instrument_imports(include=["eaa"]) if "--only" in sys.argv else contextlib.nullcontext()
)
with _INSTRUMENTED:
    from eaa.image import KEK_SIZE, AnnotationPacket, ResourceUri, parse_unwrap, parse_wrap, wrap
    from eaa.kbs import (
        MAX_ATTESTATION,
        Attestation,
        ErrorInformation,
        JweResponse,
        Request,
        TeeKeyPair,
        TeePubKey,
        decrypt,
        encrypt,
        parse_json,
    )
    from eaa.rats import InputError
    from eaa.simulator.mint import mint
    from eaa.simulator.vendor import ChipMaker
    from eaa.tee.dcap.collateral import (
        parse_enclave_identity,
        parse_tcb_info,
        read_enclave_identity,
        read_tcb_info,
    )
    from eaa.tee.dcap.collateral_files import (
        crl_from_bytes,
        endorsements_from_files,
        endorsements_from_json,
        endorsements_to_json,
    )
    from eaa.tee.registry import parse_evidence
    from eaa.tee.x509 import read_certificates

FOLDER = Path(__file__).parents[1] / ".cache" / "fuzz"
MAX_LENGTH = 1 << 15
KEY = TeeKeyPair.generate()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


TARGETS: dict[str, Callable[[bytes], Any]] = {
    "tdx-quote": lambda data: parse_evidence(data, tee="tdx"),
    "sgx-quote": lambda data: parse_evidence(data, tee="sgx"),
    "tcb-info": lambda data: parse_tcb_info(read_tcb_info(data)),
    "enclave-identity": lambda data: parse_enclave_identity(read_enclave_identity(data)),
    "certificates": read_certificates,
    "crl": crl_from_bytes,
    "collateral-document": endorsements_from_json,
    "collateral-file": lambda data: endorsements_from_files({"file": data}),
    "kbs-request": Request.from_json,
    "kbs-attestation": lambda data: Attestation.from_json(data, limit=MAX_ATTESTATION),
    "kbs-error": ErrorInformation.from_json,
    "kbs-jwe": lambda data: decrypt(JweResponse.from_json(data).model_dump(), KEY.private),
    "tee-key": lambda data: TeePubKey.from_jwk(parse_json(data, MAX_LENGTH)),
    "key-provider-wrap": parse_wrap,
    "key-provider-unwrap": parse_unwrap,
    "annotation": AnnotationPacket.from_json,
    "resource-uri": lambda data: ResourceUri.parse_key_id(_text(data)),
}


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
        "collateral-document": [json.dumps(endorsements_to_json(collateral)).encode()],
        "collateral-file": [item.content for item in collateral.items],
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
    }


def _key_provider(operation: str, params: dict[str, Any]) -> bytes:
    """Return a key provider message in which inner documents are base64 of JSON, as ocicrypt writes them."""
    coded = {
        name: b64encode(json.dumps(value).encode()).decode() if name in ("optsdata", "annotation") else value
        for name, value in params.items()
    }
    return json.dumps({"op": operation, f"{operation}params": coded}).encode()


def run_one(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; libFuzzer ends the process."""
    target = TARGETS[name]

    def one_input(data: bytes) -> None:
        with contextlib.suppress(InputError):
            target(data)

    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def run_all(names: list[str], seconds: int) -> int:
    """Fuzz each target in a process of its own; return how many have a finding."""
    findings = FOLDER / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    beginnings = seeds()
    failed = []
    for name in names:
        corpus = FOLDER / "corpus" / name
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(beginnings[name]):
            (corpus / f"seed-{number}").write_bytes(seed)
        log = FOLDER / f"{name}.log"
        options = [
            f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", "-timeout=10", "-rss_limit_mb=2048",
            "-print_final_stats=1", f"-artifact_prefix={findings}/{name}-", str(corpus),
        ]  # fmt: skip
        print(f"{name:22}", end="", flush=True)
        with log.open("wb") as output:
            done = subprocess.run(
                [sys.executable, __file__, "--only", name, "--", *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        runs = [
            line.split()[-1]
            for line in log.read_text(errors="replace").splitlines()
            if "number_of_executed" in line
        ]
        print(f"{(runs or ['0'])[0]:>10} inputs  {'ok' if done.returncode == 0 else f'FINDING, see {log}'}")
        if done.returncode != 0:
            failed.append(name)
    return len(failed)


def main() -> int:
    """Run one target in this process, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=30, help="for each target (default: 30)")
    parser.add_argument("--only", choices=sorted(TARGETS), help="run this target in this process")
    parser.add_argument("rest", nargs="*", metavar="LIBFUZZER-OPTION", help="with --only")
    options = parser.parse_args()
    if options.only:
        run_one(options.only, options.rest)
    return 1 if run_all(list(TARGETS), options.seconds) else 0


if __name__ == "__main__":
    sys.exit(main())
