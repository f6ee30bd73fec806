# SPDX-License-Identifier: Apache-2.0
"""``eaa vectors``: run recorded evidence, and hold the outcomes against what others found."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._options import echo_json, json_option
from eaa.cli._run import EXIT_OK, EXIT_REJECTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rats import Appraisal, Endorsements
    from eaa.verifier import Verifier

__all__ = ["compare_outcomes", "run_vector", "vectors"]

_TEES: Final = ("sgx", "tdx")
_WHOLE: Final = ("collateral_assembled", "dcap_qvl_json")
_LISTS: Final = {"root_ca_crl": "", "pck_crl": "pck_crl_issuer_chain"}
_STATEMENTS: Final = {"tcb_info": "tcb_info_issuer_chain", "qe_identity": "qe_identity_issuer_chain"}
_NAMES: Final = {
    "mr_td": "mrtd", "rtmr_0": "rtmr0", "rtmr_1": "rtmr1", "rtmr_2": "rtmr2", "rtmr_3": "rtmr3",
    "mr_seam": "mrseam", "mrsigner_seam": "mrsignerseam", "mr_config_id": "mrconfigid", "mr_owner": "mrowner",
    "mr_owner_config": "mrownerconfig", "td_attributes": "td_attr", "xfam": "xfam", "seam_attributes": "seam_attr",
    "tee_tcb_svn": "tee_tcb_svn", "tee_tcb_svn_2": "tee_tcb_svn2", "mr_service_td": "mrservicetd",
    "mr_enclave": "mrenclave", "mr_signer": "mrsigner", "isv_prod_id": "prodid", "isv_svn": "isvsvn",
    "attributes": "attributes",
}  # fmt: skip
"""Our names of measurements → the manifest's."""
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_NUMBERS: Final = ("prodid", "isvsvn")


@click.group()
def vectors() -> None:
    """Run recorded evidence and compare the outcomes."""


@vectors.command(epilog="Exit status: 0 every vector was run, 2 the manifest cannot be read.")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--json",
    "out",
    metavar="OUT",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write the outcomes as JSON.",
)
def run(manifest: Path, out: str | None) -> None:
    """Run every vector of MANIFEST, without reading what is expected of it.

    \b
    Example:
      eaa vectors run vectors/manifest.json --json outcomes.json
      eaa vectors compare vectors/manifest.json outcomes.json
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.verifier import Verifier  # noqa: PLC0415 - slow, and `--help` does not need it

    verifier = Verifier()
    outcomes = [run_vector(vector, manifest.parent, verifier) for vector in _vectors(manifest)]
    if out is None:
        for outcome in outcomes:
            failed = ", ".join(outcome["failed_checks"])
            click.echo(
                f"{outcome['outcome']:<12}{outcome['id']:<36}{outcome['tcb_status'] or '':<20}{failed}"
            )
    else:
        with click.open_file(out, "w", encoding="utf-8", atomic=out != "-") as file:
            json.dump(outcomes, file, indent=1)
            file.write("\n")
    counts = Counter(outcome["outcome"] for outcome in outcomes)
    click.echo(", ".join(f"{count} {name}" for name, count in sorted(counts.items())), err=True)


@vectors.command(epilog="Exit status: 0 all agree, 1 some differ, 2 bad usage or input.")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def compare(ctx: click.Context, manifest: Path, out: Path, as_json: bool) -> None:  # noqa: FBT001 - click passes by name
    """Hold the outcomes in OUT against what MANIFEST expects."""
    outcomes = {each["id"]: each for each in _read_json(out, list)}
    agreed, unsupported = 0, 0
    differences: dict[str, list[str]] = {}
    for vector in _vectors(manifest):
        outcome = outcomes.get(vector["id"])
        found = compare_outcomes(vector.get("expected", {}), outcome) if outcome else ["was not run"]
        if found:
            differences[vector["id"]] = found
        elif outcome and outcome["outcome"] == "unsupported":
            unsupported += 1
        else:
            agreed += 1
    if as_json:
        echo_json({"agreed": agreed, "unsupported": unsupported, "differences": differences})
    else:
        for name, found in differences.items():
            click.echo(f"{name}: {'; '.join(found)}")
        click.echo(
            f"{agreed} agree, {len(differences)} differ, {unsupported} of a kind that is not verified yet"
        )
    ctx.exit(EXIT_REJECTED if differences else EXIT_OK)


def _vectors(manifest: Path) -> list[dict[str, Any]]:
    listed = _read_json(manifest, dict).get("vectors")
    if not isinstance(listed, list) or not all(isinstance(each, dict) and "id" in each for each in listed):
        raise click.UsageError(f"{manifest}: no list of vectors with ids")
    return listed


def _read_json(path: Path, kind: type[Any]) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, kind):
        raise click.UsageError(f"{path}: a JSON {kind.__name__} is expected")
    return value


def run_vector(vector: Mapping[str, Any], folder: Path, verifier: Verifier) -> dict[str, Any]:
    """Run one vector of a manifest. ``valid`` speaks of cryptography and collateral alone, with the files that are given."""
    from eaa.rats import EaaError, EndorsementError, EvidenceError  # noqa: PLC0415 - as above
    from eaa.tee.registry import parse_evidence  # noqa: PLC0415

    tee = vector.get("tee")
    if tee not in _TEES or "quote" not in vector.get("files", {}):
        return _outcome(vector, "unsupported")
    try:
        files = {role: _read(folder, entry) for role, entry in vector["files"].items()}
        endorsements = _endorsements(files)
        quote = parse_evidence(files["quote"], tee=tee)
    except EvidenceError as error:
        return _outcome(vector, "invalid", failed_checks=[error.check])
    except EndorsementError as error:
        return _outcome(vector, "invalid", failed_checks=[error.code])
    except (EaaError, OSError, ValueError, KeyError) as error:
        return _outcome(vector, "error", error=f"{type(error).__name__}: {error}")
    at = datetime.fromisoformat(vector["verify_at"]) if "verify_at" in vector else datetime.now(UTC)
    appraisal = verifier.verify(quote, endorsements, at=at, report_data=quote.report_data)
    return _outcome(vector, _judge(appraisal, endorsements), appraisal)


def _judge(appraisal: Appraisal, endorsements: Endorsements) -> str:
    """Say what a manifest calls ``valid``; a list or statement that the vector does not have cannot count against it."""
    from eaa.rats import Result, Stage  # noqa: PLC0415 - as above

    checks = [check for check in appraisal.checks if check.rule.stage is Stage.AUTHENTICITY]
    if any(check.result is Result.FAIL for check in checks):
        return "invalid"
    if not endorsements.of_kind("tcb_info") or not endorsements.of_kind("qe_identity"):
        return "parsed"
    excused = {
        rule
        for kind, rules in {
            "root_ca_crl": (
                "dcap.crl.root",
                "dcap.pck.ca-revocation",
                "dcap.tcb-info.revocation",
                "dcap.qe-identity.revocation",
            ),
            "pck_crl": ("dcap.crl.pck", "dcap.pck.revocation"),
        }.items()
        if not endorsements.of_kind(kind)
        for rule in rules
    }
    unmade = {check.id for check in checks if check.result is Result.NOT_MADE}
    return "invalid" if unmade - excused else "valid"


def _read(folder: Path, entry: Mapping[str, Any]) -> bytes:
    data: bytes = (folder / entry["path"]).read_bytes()
    encoding = entry.get("encoding")
    if encoding == "hex":
        return bytes.fromhex(data.decode("ascii"))
    if encoding in {"base64", "base64url"}:
        return b64decode(data.translate(_URL_SAFE) + b"==")
    return data


def _endorsements(files: Mapping[str, bytes]) -> Endorsements:
    from eaa.rats import Endorsement, Endorsements  # noqa: PLC0415 - as above
    from eaa.tee.dcap.collateral_files import crl_from_bytes, endorsements_from_json, statement_from_pcs  # noqa: PLC0415

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


def _outcome(
    vector: Mapping[str, Any], outcome: str, appraisal: Appraisal | None = None, **more: Any
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": vector["id"],
        "outcome": outcome,
        "tcb_status": None,
        "advisory_ids": [],
        "debug": None,
        "measurements": {},
        "report_data": None,
        "failed_checks": [],
    }
    if appraisal is not None:
        from eaa.rats import Result  # noqa: PLC0415 - as above

        claims = appraisal.unverified
        failed = dict.fromkeys(check.id for check in appraisal.checks if check.result is Result.FAIL)
        document |= {
            "tcb_status": claims.tcb_status,
            "advisory_ids": list(claims.advisory_ids),
            "debug": claims.debug,
            "measurements": {
                _NAMES[name]: int(value) if _NAMES[name] in _NUMBERS else value
                for name, value in claims.measurements.items()
                if name in _NAMES
            },
            "report_data": claims.report_data.hex(),
            "failed_checks": list(failed),
        }
    return document | more


def compare_outcomes(expected: Mapping[str, Any], outcome: Mapping[str, Any]) -> list[str]:
    """Return every difference between what a manifest expects and what was found, in words; empty when they agree."""
    if outcome["outcome"] == "unsupported":
        return []
    differences = []
    valid, found = expected.get("valid"), outcome["outcome"]
    if valid is not None and found != ("valid" if valid else "invalid"):
        differences.append(f"expected {'valid' if valid else 'invalid'}, found {found}")
    if expected.get("signature_ok") and valid is None and found not in {"valid", "parsed"}:
        differences.append(f"expected good signatures, found {found}")
    differences.extend(
        f"{name}: expected {expected[name]}, found {outcome[name]}"
        for name in ("tcb_status", "debug", "report_data")
        if expected.get(name) is not None and outcome[name] is not None and expected[name] != outcome[name]
    )
    if expected.get("tcb_status") is not None and outcome["tcb_status"] is None:
        differences.append(f"tcb_status: expected {expected['tcb_status']}, found none")
    advisories = expected.get("advisory_ids")
    if advisories is not None and sorted(advisories) != sorted(outcome["advisory_ids"]):
        differences.append(f"advisory_ids: expected {sorted(advisories)}, found {outcome['advisory_ids']}")
    differences.extend(
        f"{name}: expected {value}, found {outcome['measurements'].get(name)}"
        for name, value in expected.get("measurements", {}).items()
        if outcome["measurements"].get(name) != value
    )
    return differences
