# SPDX-License-Identifier: Apache-2.0
"""``eaa verify``."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._options import (
    HexBytes,
    InputFile,
    at_option,
    echo_json,
    json_option,
    report_data_option,
    tee_option,
)
from eaa.cli._render import appraisal_lines
from eaa.cli._run import EXIT_OK, EXIT_REJECTED, EXIT_UNDECIDED

if TYPE_CHECKING:
    from datetime import datetime

    from eaa.rats import Appraisal, Check, Endorsements, TrustAnchor

__all__ = ["TEES", "acceptance", "appraise", "read_evidence", "verify"]

TEES: Final = ("sgx", "tdx", "snp", "tpm", "az-snp-vtpm", "az-tdx-vtpm")
_HEX: Final = re.compile(rb"\s*[0-9A-Fa-f\s]+")
_BASE64: Final = re.compile(rb"\s*[A-Za-z0-9+/=\s]+")


def read_evidence(data: bytes) -> bytes:
    """Return the bytes of evidence that is given as it is, in hex or in base64."""
    if _HEX.fullmatch(data):
        text = b"".join(data.split())
        return binascii.unhexlify(text) if len(text) % 2 == 0 else data
    if _BASE64.fullmatch(data):
        try:
            return b64decode(data, validate=False)
        except binascii.Error:
            return data
    return data


def _anchors(root: bytes | None) -> tuple[TrustAnchor, ...]:
    from cryptography import x509  # noqa: PLC0415 - slow, and `--help` does not need it

    from eaa.rats import ConfigurationError, TrustAnchor  # noqa: PLC0415
    from eaa.tee.registry import vendor_roots  # noqa: PLC0415

    if root is None:
        return vendor_roots()
    try:
        load = (
            x509.load_pem_x509_certificate
            if root.lstrip().startswith(b"-----")
            else x509.load_der_x509_certificate
        )
        anchor = TrustAnchor.from_certificate(load(root), simulated=True)
    except ValueError as error:
        raise ConfigurationError(
            "the file given with --root is no certificate", hint="Give one X.509 certificate in PEM or DER."
        ) from error
    known = any(anchor.public_key == each.public_key for each in vendor_roots())
    return vendor_roots() if known else (*vendor_roots(), anchor)


def _endorsements(path: Path | None) -> Endorsements:
    from eaa.endorser.files import load_endorsements  # noqa: PLC0415 - as above
    from eaa.rats import Endorsements  # noqa: PLC0415

    return Endorsements() if path is None else load_endorsements(path)


def appraise(
    evidence: bytes,
    tee: str,
    endorsements: Path | None,
    at: datetime,
    report_data: bytes | None,
    **options: Any,
) -> Appraisal:
    """Verify evidence with the options of :func:`acceptance`; without ``report_data``, for what it says itself."""
    from eaa.cli._acceptance import enrolments, tpm_roots  # noqa: PLC0415 - as above
    from eaa.rats import Endorsements  # noqa: PLC0415
    from eaa.tee.dcap.policy import AcceptancePolicy  # noqa: PLC0415
    from eaa.tee.registry import parse_evidence  # noqa: PLC0415
    from eaa.tee.tpm.policy import TpmPolicy  # noqa: PLC0415
    from eaa.verifier import Verifier  # noqa: PLC0415

    policy = AcceptancePolicy(
        tcb_statuses=frozenset(options["accept_tcb_status"]) | {"UpToDate"},
        minimum_tcb_evaluation_number=options["min_tcb_evaluation_number"],
        service_tds=frozenset(options["allow_service_td"]),
    )
    quote = parse_evidence(read_evidence(evidence), tee=tee.lower())
    verifier = Verifier(_anchors(options["root"]), policy, TpmPolicy(tpm_roots(options["tpm_root"])))
    expected = quote.report_data if report_data is None else report_data
    enrolled = enrolments(options["enrolled"], options["tpm_crl"])
    known = Endorsements.merged((_endorsements(endorsements), enrolled))
    return verifier.verify(quote, known, at=at, report_data=expected)


def _check_init_data(appraisal: Appraisal, text: bytes) -> Check:
    from eaa.kbs.init_data import parse_init_data  # noqa: PLC0415 - as above
    from eaa.rats import InputError  # noqa: PLC0415
    from eaa.tee.binding import check_init_data  # noqa: PLC0415
    from eaa.tee.registry import kind_of  # noqa: PLC0415

    try:
        document = parse_init_data("toml", text.decode())
    except UnicodeDecodeError:
        raise InputError("the init-data is not UTF-8 text") from None
    stated = kind_of(appraisal.evidence.tee).claims(appraisal)
    return check_init_data(stated.init_data, stated.init_data_of(document.digest))


def _status(appraisal: Appraisal) -> int:
    if appraisal.accepted:
        return EXIT_OK
    return EXIT_UNDECIDED if appraisal.undecided else EXIT_REJECTED


def acceptance(command: Any) -> Any:
    """Add the options that say what is accepted beyond genuineness, and which roots are trusted."""
    for option in (
        click.option(
            "--root",
            type=InputFile(64 * 1024),
            help="Also trust this root certificate (PEM or DER), such as a simulator's; the verdict says so.",
        ),
        click.option(
            "--tpm-crl",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            multiple=True,
            help="A revocation list (DER or PEM) that certificates behind a TPM's key name; may be repeated.",
        ),
        click.option(
            "--tpm-root",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            multiple=True,
            help="Let this TPM maker or attestation CA (certificate in PEM) vouch for TPMs' keys; may be repeated.",
        ),
        click.option(
            "--enrolled",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            multiple=True,
            help="Know this attestation key of a TPM: an enrolment's record, or the key in PEM, DER or a TPM's form; may be repeated.",
        ),
        click.option(
            "--allow-service-td",
            type=HexBytes(48, 48),
            multiple=True,
            help="Accept a TD with this MRSERVICETD; may be repeated.",
        ),
        click.option(
            "--min-tcb-evaluation-number",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Refuse collateral of an older TCB evaluation.",
        ),
        click.option(
            "--accept-tcb-status",
            metavar="STATUS",
            multiple=True,
            help="Accept this TCB status besides UpToDate; may be repeated. Revoked is never accepted.",
        ),
    ):
        command = option(command)
    return command


@click.command(
    epilog="Exit status: 0 accepted, 1 rejected or no evidence at all, 2 bad usage or collateral, 3 cannot tell (something is missing)."
)
@click.argument("evidence", type=InputFile(1024 * 1024))
@tee_option(*TEES)
@click.option(
    "--endorsements",
    type=click.Path(exists=True, path_type=Path),
    help="Collateral: one JSON file, or a folder of Intel PCS responses. Without it nothing can be accepted.",
)
@at_option
@report_data_option
@click.option(
    "--init-data",
    type=InputFile(1 << 20),
    help="Require that the evidence carries the digest of this init-data (TOML).",
)
@acceptance
@click.option(
    "--full", is_flag=True, help="Show expected and found of every check, not only of those in the way."
)
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    evidence: bytes,
    tee: str,
    endorsements: Path | None,
    at: datetime,
    report_data: bytes,
    init_data: bytes | None,
    full: bool,  # noqa: FBT001 - click passes options by name
    as_json: bool,  # noqa: FBT001
    **options: Any,
) -> None:
    """Verify that EVIDENCE is genuine, current, bound to this report data, and in an acceptable state.

    EVIDENCE is a file with a quote as the hardware made it (or its hex or base64), or - for standard input. Of TPMs and Azure's VMs it is
    the attester's JSON; whether a TPM's key is to be believed, only you can say, with --enrolled.

    \b
    Examples:
      eaa verify quote.bin --tee tdx --endorsements collateral.json --report-data 6162…
      eaa verify quote.bin --tee sgx --endorsements pcs/ --at 2025-07-19T10:00:34Z --report-data 6162… --json
      eaa verify o/quote.bin --tee tdx --endorsements o/collateral.json --root o/root_ca.der --report-data 6162
      eaa verify evidence.json --tee tpm --enrolled machine-1-ak.json --tpm-root maker.pem --report-data 6162…
    """  # noqa: D301 - click keeps the lines after \b
    appraisal = appraise(evidence, tee, endorsements, at, report_data, **options)
    if init_data is not None:
        appraisal = appraisal.with_checks((_check_init_data(appraisal, init_data),))
    document = appraisal.to_json()
    if as_json:
        echo_json(document)
    else:
        for line in appraisal_lines(document, full=full):
            click.echo(line)
    ctx.exit(_status(appraisal))
