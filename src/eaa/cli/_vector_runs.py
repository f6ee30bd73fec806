# SPDX-License-Identifier: Apache-2.0
"""Run one vector of a manifest: from its files to an outcome, without looking at what is expected of it."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from eaa.cli._corim_vectors import corim_vector
from eaa.cli._tpm_vectors import EXCUSED as TPM_EXCUSED
from eaa.cli._tpm_vectors import azure_vector, tpm_vector
from eaa.eventlog import check_event_log, parse_event_log, register_index
from eaa.rats import (
    EaaError,
    Endorsement,
    EndorsementError,
    Endorsements,
    Evidence,
    EvidenceError,
    Result,
    Stage,
)
from eaa.tee.dcap.collateral_files import crl_from_bytes, endorsements_from_json, statement_from_pcs
from eaa.tee.registry import parse_evidence
from eaa.tee.snp.collateral_files import endorsements_from_snp_json
from eaa.tee.snp.evidence import parse_snp_evidence
from eaa.tee.tdx.evidence import parse_tdx_quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from eaa.rats import Appraisal, Check
    from eaa.verifier import Verifier

__all__ = ["run_vector"]

Files = dict[str, bytes]

_WHOLE: Final = ("collateral_assembled", "dcap_qvl_json")
_STATEMENTS: Final = {"tcb_info": "tcb_info_issuer_chain", "qe_identity": "qe_identity_issuer_chain"}
_LISTS: Final = {"root_ca_crl": "", "pck_crl": "pck_crl_issuer_chain"}
_SNP: Final = {"vcek": "snp_vcek", "vlek": "snp_vlek", "cert_chain": "snp_chain", "crl": "snp_crl"}
_EXCUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "root_ca_crl": (
        "dcap.crl.root",
        "dcap.pck.ca-revocation",
        "dcap.tcb-info.revocation",
        "dcap.qe-identity.revocation",
    ),
    "pck_crl": ("dcap.crl.pck", "dcap.pck.revocation"),
    "tcb_info": ("dcap.tcb-info.chain",),
    "qe_identity": ("dcap.qe-identity.chain",),
    "snp_crl": ("snp.crl", "snp.vcek.revocation"),
    **TPM_EXCUSED,
}
"""Kind of endorsement → checks that cannot be made without it. Where a vector has none, they do not count against it."""
_DECISIVE: Final = {"sgx": "tcb_info", "tdx": "tcb_info"}
"""Kind of endorsement without which evidence of a TEE can be parsed, but nothing can be said of it."""
_NAMES: Final = {
    "mr_td": "mrtd", "rtmr_0": "rtmr0", "rtmr_1": "rtmr1", "rtmr_2": "rtmr2", "rtmr_3": "rtmr3",
    "mr_seam": "mrseam", "mrsigner_seam": "mrsignerseam", "mr_config_id": "mrconfigid", "mr_owner": "mrowner",
    "mr_owner_config": "mrownerconfig", "td_attributes": "td_attr", "seam_attributes": "seam_attr",
    "tee_tcb_svn_2": "tee_tcb_svn2", "mr_service_td": "mrservicetd",
    "mr_enclave": "mrenclave", "mr_signer": "mrsigner", "isv_prod_id": "prodid", "isv_svn": "isvsvn",
}  # fmt: skip
"""Our names of measurements → the manifest's, where they differ."""
_NUMBERS: Final = ("prodid", "isvsvn")
_RTMRS: Final = ("rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


def run_vector(vector: Mapping[str, Any], folder: Path, verifier: Verifier) -> dict[str, Any]:
    """Run one vector. ``valid`` speaks of cryptography and collateral alone, with the files that are given."""
    tee = vector.get("tee")
    run = _RUNS.get(tee if isinstance(tee, str) else "")
    if run is None:
        return _outcome(vector, "unsupported")
    try:
        files = {role: _read(folder, entry) for role, entry in vector["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _outcome(vector, "error", error=f"{type(error).__name__}: {error}")
    try:
        return run(vector, files, verifier)
    except EvidenceError as error:
        return _outcome(vector, "invalid", failed_checks=[error.check])
    except EndorsementError as error:
        return _outcome(vector, "invalid", failed_checks=[error.code])
    except KeyError as error:
        return _outcome(vector, "unsupported", error=f"no file has the role {error}")
    except EaaError as error:
        return _outcome(vector, "error", error=f"{type(error).__name__}: {error}")


def _read(folder: Path, entry: Mapping[str, Any]) -> bytes:
    data: bytes = (folder / entry["path"]).read_bytes()
    encoding = entry.get("encoding")
    if encoding == "hex":
        return bytes.fromhex(data.decode("ascii"))
    if encoding in {"base64", "base64url"}:
        return b64decode(data.translate(_URL_SAFE) + b"==")
    return data


def _run_quote(vector: Mapping[str, Any], files: Files, verifier: Verifier) -> dict[str, Any]:
    evidence = parse_evidence(files["quote"], tee=vector["tee"])
    return _verified(vector, evidence, _dcap_endorsements(files), verifier)


def _run_snp(vector: Mapping[str, Any], files: Files, verifier: Verifier) -> dict[str, Any]:
    # A report out of the kernel's TSM interface comes with the host's certificates; the bare report does not.
    evidence = parse_snp_evidence(files.get("tsm_report_json") or files["report"])
    return _verified(vector, evidence, _snp_endorsements(files), verifier)


def _run_azure(vector: Mapping[str, Any], files: Files, verifier: Verifier) -> dict[str, Any]:
    evidence = azure_vector(vector["tee"], files)
    endorsements = Endorsements.merged([_dcap_endorsements(files), _snp_endorsements(files)])
    return _verified(vector, evidence, endorsements, verifier)


def _run_tpm(vector: Mapping[str, Any], files: Files, verifier: Verifier) -> dict[str, Any]:
    evidence, endorsements = tpm_vector(files)
    return _verified(vector, evidence, endorsements, verifier)


def _run_event_log(vector: Mapping[str, Any], files: Files, _: Verifier) -> dict[str, Any]:
    """Replay a log, against the registers of its quote where there is one; else ``valid`` means that its content holds."""
    role = next(each for each in ("event_log", "event_log_json", "event_log_base64") if each in files)
    log = parse_event_log(files[role])
    registers = {}
    if "quote" in files:
        measurements = parse_tdx_quote(files["quote"]).measurements
        registers = {name: bytes.fromhex(measurements[name]) for name in _RTMRS}
    checks = check_event_log(log, registers, "sha384")
    replayed = {
        f"{bank}:{index}": digest.hex()
        for bank in log.algorithms
        for index, digest in log.replay(bank).items()
    }
    if "sha384" in log.algorithms:
        rtmrs, index = log.replay("sha384"), register_index
        replayed |= {
            name: rtmrs.get(index(name), log.initial(index(name), "sha384")).hex() for name in _RTMRS
        }
    bad = any(check.result is Result.FAIL for check in checks)
    return _outcome(
        vector, "invalid" if bad else "valid", measurements=replayed, failed_checks=_failed(checks)
    )


def _run_corim(vector: Mapping[str, Any], files: Files, _: Verifier) -> dict[str, Any]:
    outcome, malformed = corim_vector(files)
    return _outcome(vector, outcome, malformed=malformed)


_RUNS: Final[Mapping[str, Callable[[Mapping[str, Any], Files, Any], dict[str, Any]]]] = {
    "sgx": _run_quote,
    "tdx": _run_quote,
    "snp": _run_snp,
    "az-snp-vtpm": _run_azure,
    "az-tdx-vtpm": _run_azure,
    "tpm2": _run_tpm,
    "eventlog": _run_event_log,
    "corim": _run_corim,
}


def _dcap_endorsements(files: Files) -> Endorsements:
    for role in _WHOLE:
        if role in files:
            return endorsements_from_json(files[role], role)
    items = [
        statement_from_pcs(files[kind], files.get(chain, b""))
        for kind, chain in _STATEMENTS.items()
        if kind in files
    ]
    items += [
        Endorsement(kind, crl_from_bytes(files[kind]), files.get(chain, b""))
        for kind, chain in _LISTS.items()
        if kind in files
    ]
    return Endorsements(tuple(items))


def _snp_endorsements(files: Files) -> Endorsements:
    items = [Endorsement(kind, files[role]) for role, kind in _SNP.items() if role in files]
    if "host_certificates_json" in files:
        azure = endorsements_from_snp_json(files["host_certificates_json"])
        items += [each for each in azure.items if each.kind == "snp_chain"]
    return Endorsements(tuple(items))


def _verified(
    vector: Mapping[str, Any], evidence: Evidence, endorsements: Endorsements, verifier: Verifier
) -> dict[str, Any]:
    at = datetime.fromisoformat(vector["verify_at"]) if vector.get("verify_at") else datetime.now(UTC)
    # The binding is not in question here, so evidence is asked for what it says itself.
    appraisal = verifier.verify(evidence, endorsements, at=at, report_data=evidence.report_data or b"\0")
    claims = appraisal.unverified
    return _outcome(
        vector,
        _judge(appraisal, endorsements),
        tcb_status=claims.tcb_status,
        advisory_ids=list(claims.advisory_ids),
        debug=claims.debug,
        measurements=_measurements(claims.measurements),
        report_data=claims.report_data.hex(),
        failed_checks=_failed(appraisal.checks),
    )


def _judge(appraisal: Appraisal, endorsements: Endorsements) -> str:
    """Say what a manifest calls ``valid``; a list or statement that the vector does not have cannot count against it."""
    checks = [check for check in appraisal.checks if check.rule.stage is Stage.AUTHENTICITY]
    if any(check.result is Result.FAIL for check in checks):
        return "invalid"
    decisive = _DECISIVE.get(appraisal.evidence.tee)
    if decisive is not None and not endorsements.of_kind(decisive):
        return "parsed"
    excused = {rule for kind, rules in _EXCUSED.items() if not endorsements.of_kind(kind) for rule in rules}
    unmade = {check.id for check in checks if check.result is Result.NOT_MADE}
    return "invalid" if unmade - excused else "valid"


def _failed(checks: tuple[Check, ...]) -> list[str]:
    return list(dict.fromkeys(check.id for check in checks if check.result is Result.FAIL))


def _measurements(measurements: Mapping[str, str]) -> dict[str, Any]:
    named = {_NAMES.get(name, name): value for name, value in measurements.items()}
    return {name: int(value) if name in _NUMBERS else value for name, value in named.items()}


def _outcome(vector: Mapping[str, Any], outcome: str, **more: Any) -> dict[str, Any]:
    return {
        "id": vector["id"],
        "outcome": outcome,
        "tcb_status": None,
        "advisory_ids": [],
        "debug": None,
        "measurements": {},
        "report_data": None,
        "failed_checks": [],
        **more,
    }
