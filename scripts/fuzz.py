# SPDX-License-Identifier: Apache-2.0
"""Fuzz the parsers of untrusted bytes, guided by coverage (Atheris, libFuzzer).

Each target is a function of bytes that must return, or raise an ``InputError``; anything else, and more than ten seconds or two
gigabytes for one input, is a finding. Findings and the corpus that was learned stay in ``.cache/fuzz``.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atheris  # type: ignore[import-untyped,unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable

# Only the process that fuzzes is instrumented.
sys.path.insert(0, str(Path(__file__).parent))
_INSTRUMENTED = (
    atheris.instrument_imports(include=["eaa"]) if "--only" in sys.argv else contextlib.nullcontext()
)
with _INSTRUMENTED:
    from fuzz_seeds import KEY, TPM_KEY, VERDICT_KEY, seeds

    from eaa._keys import public_pem
    from eaa.endorser.client_tool import read_tool_platforms
    from eaa.endorser.fmspcs import read_fmspcs
    from eaa.endorser.pck import PckPlatform, read_pckcerts
    from eaa.eventlog import (
        check_event_log,
        explain,
        parse_aael,
        parse_event_log,
        to_trustee,
    )
    from eaa.image import AnnotationPacket, ResourceUri, parse_unwrap, parse_wrap
    from eaa.kbs import (
        MAX_ATTESTATION,
        Attestation,
        ErrorInformation,
        JweResponse,
        Request,
        TeePubKey,
        decrypt,
        parse_init_data,
        parse_json,
    )
    from eaa.rats import InputError
    from eaa.rim.corim import parse_comid, unwrap_corim
    from eaa.rim.cose import parse_sign1
    from eaa.rim.names import named_values
    from eaa.rim.rvps import parse_message, values_in
    from eaa.rim.swid import rim_values
    from eaa.tee.azure.hcl import parse_hcl_report
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
    )
    from eaa.tee.efi_boot import UkiBoot, partition_table
    from eaa.tee.fw_cfg import parse_directory
    from eaa.tee.grub_config import bootstrap_commands, parse_grub_config
    from eaa.tee.pe import authenticode_digest
    from eaa.tee.registry import parse_evidence
    from eaa.tee.sgx.sigstruct import parse_sigstruct
    from eaa.tee.shim import parse_shim
    from eaa.tee.snp.collateral_files import endorsements_from_snp_json
    from eaa.tee.tdx.tdvf import parse_tdvf
    from eaa.tee.tpm.formats import (
        parse_enacttrust,
        parse_go_attestation,
        parse_go_tpm_tools,
        parse_parsec,
    )
    from eaa.tee.tpm.measure import measure_tpm
    from eaa.tee.tpm.pcr_file import parse_pcr_file
    from eaa.tee.uefi import SecureBoot
    from eaa.tee.variables import secure_boot_of
    from eaa.tee.x509 import read_certificates
    from eaa.verdict.build_file import parse_build_file
    from eaa.verdict.corim import set_of_corim
    from eaa.verdict.envelope import parse_envelope
    from eaa.verdict.index import Index
    from eaa.verdict.presented import parse_presented
    from eaa.verdict.provenance import Provenance, parse_builders
    from eaa.verdict.reference_set import ReferenceSet
    from eaa.verdict.signers import parse_signers
    from eaa.verdict.statement import parse_statement

FOLDER = Path(__file__).parents[1] / ".cache" / "fuzz"
MAX_LENGTH = 1 << 15


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _event_log(data: bytes) -> None:
    """Do all that is done with a log: read it, replay it, hold it to registers, put it in words."""
    log = parse_event_log(data)
    algorithm = log.algorithms[0]
    check_event_log(log, {log.registers.name_of(1): bytes(48)}, algorithm)
    to_trustee(log)
    for event in log.events:
        explain(event)


def _aael(data: bytes) -> None:
    entry = parse_aael(data)
    if entry is not None:
        entry.words()


def _corim(data: bytes) -> None:
    corim, _ = unwrap_corim(data)
    named_values(corim)
    if set_of_corim(corim) is not None:
        _ = parse_presented(data).ends_at


TARGETS: dict[str, Callable[[bytes], Any]] = {
    "tdx-quote": lambda data: parse_evidence(data, tee="tdx"),
    "sgx-quote": lambda data: parse_evidence(data, tee="sgx"),
    "snp-evidence": lambda data: parse_evidence(data, tee="snp"),
    "snp-collateral": endorsements_from_snp_json,
    "tpm-evidence": lambda data: parse_evidence(data, tee="tpm"),
    "tpm-go-tpm-tools": parse_go_tpm_tools,
    "tpm-go-attestation": parse_go_attestation,
    "tpm-enacttrust": lambda data: parse_enacttrust(data, TPM_KEY),
    "tpm-parsec": lambda data: parse_parsec(data, TPM_KEY),
    "pcr-file": parse_pcr_file,
    "az-snp-vtpm": lambda data: parse_evidence(data, tee="az-snp-vtpm"),
    "az-tdx-vtpm": lambda data: parse_evidence(data, tee="az-tdx-vtpm"),
    "hcl-report": parse_hcl_report,
    "event-log": _event_log,
    "dstack-log": _event_log,
    "aael": _aael,
    "init-data": lambda data: parse_init_data("toml", _text(data)).claims(),
    "tdvf": parse_tdvf,
    "fw-cfg": parse_directory,
    "variable-store": secure_boot_of,
    "unified-kernel-image": lambda data: measure_tpm(UkiBoot(data), secure_boot=SecureBoot(b"\1")),
    "grub-config": parse_grub_config,
    "grub-image": lambda data: bootstrap_commands(data, "hd0,gpt1"),
    "shim": parse_shim,
    "partition-table": partition_table,
    "sigstruct": parse_sigstruct,
    "pe-image": authenticode_digest,
    "tcb-info": lambda data: parse_tcb_info(read_tcb_info(data)),
    "enclave-identity": lambda data: parse_enclave_identity(read_enclave_identity(data)),
    "certificates": read_certificates,
    "crl": crl_from_bytes,
    "collateral-document": endorsements_from_json,
    "collateral-file": lambda data: endorsements_from_files({"file": data}),
    "pck-certificates": read_pckcerts,
    "pck-registration": lambda data: PckPlatform.from_json(parse_json(data, MAX_LENGTH), "root"),
    "platform-file": read_tool_platforms,
    "fmspc-list": read_fmspcs,
    "kbs-request": Request.from_json,
    "kbs-attestation": lambda data: Attestation.from_json(data, limit=MAX_ATTESTATION),
    "kbs-error": ErrorInformation.from_json,
    "kbs-jwe": lambda data: decrypt(JweResponse.from_json(data).model_dump(), KEY.private),
    "tee-key": lambda data: TeePubKey.from_jwk(parse_json(data, MAX_LENGTH)),
    "key-provider-wrap": parse_wrap,
    "key-provider-unwrap": parse_unwrap,
    "annotation": AnnotationPacket.from_json,
    "resource-uri": lambda data: ResourceUri.parse_key_id(_text(data)),
    "verdict-index": lambda data: Index.from_statement(parse_statement(data)),
    "statement": lambda data: ReferenceSet.from_statement(parse_statement(data)),
    "envelope": lambda data: parse_envelope(data).signers([VERDICT_KEY.public_key()]),
    "signers": lambda data: parse_signers(data, lambda _: public_pem(VERDICT_KEY.public_key())),
    "cose": lambda data: parse_sign1(data).signed_by(VERDICT_KEY.public_key()),
    "corim": _corim,
    "comid": parse_comid,
    "rvps-message": lambda data: values_in(parse_message(data)),
    "swid-rim": rim_values,
    "build-file": parse_build_file,
    "builders": lambda data: parse_builders(data, lambda _: public_pem(VERDICT_KEY.public_key())),
    "provenance": lambda data: Provenance.from_statement(parse_statement(data)).build_file(),
}


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
