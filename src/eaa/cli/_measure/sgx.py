# SPDX-License-Identifier: Apache-2.0
"""``eaa measure sgx``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._measure.options import show
from eaa.cli._options import InputFile, json_option
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["measured_sgx", "sgx"]

_SGXS: Final = InputFile(1 << 30)


@click.command()
@click.option(
    "--sigstruct", type=InputFile(4096), help="SIGSTRUCT of 1808 bytes, such as Gramine's .sig file."
)
@click.option("--sgxs", type=_SGXS, help="Enclave as an SGXS stream.")
@json_option
def sgx(sigstruct: bytes | None, sgxs: bytes | None, *, as_json: bool) -> None:
    """Compute MRENCLAVE and MRSIGNER of an enclave.

    A SIGSTRUCT is verified as the processor does, and says both. An SGXS stream says MRENCLAVE; given both, they must agree.
    """
    values, notes = measured_sgx({"sigstruct": sigstruct, "sgxs": sgxs})
    show(values, notes, None, as_json=as_json)


def measured_sgx(options: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return the registers of the enclave that the options of ``eaa measure sgx`` describe, and what else is to be said."""
    from eaa.tee.sgx.measure import measure_sgxs  # noqa: PLC0415 - --help does not need it
    from eaa.tee.sgx.sigstruct import parse_sigstruct  # noqa: PLC0415

    sigstruct, sgxs = options["sigstruct"], options["sgxs"]
    if sigstruct is None and sgxs is None:
        raise click.UsageError("give --sigstruct, --sgxs or both")
    values: dict[str, str] = {}
    notes: list[str] = []
    if sgxs is not None:
        values["mr_enclave"] = measure_sgxs(sgxs).hex()
        if sigstruct is None:
            notes.append("mr_signer: not known without the SIGSTRUCT")
    if sigstruct is not None:
        signed = parse_sigstruct(sigstruct)
        if values.get("mr_enclave", signed.mr_enclave.hex()) != signed.mr_enclave.hex():
            raise ConfigurationError(
                f"the SIGSTRUCT is for the enclave {signed.mr_enclave.hex()}, the stream measures to {values['mr_enclave']}",
                hint="Sign this very enclave.",
            )
        values |= {"mr_enclave": signed.mr_enclave.hex(), "mr_signer": signed.mr_signer.hex()}
        notes.append(f"the signer gave it isv_prod_id {signed.isv_prod_id} and isv_svn {signed.isv_svn}")
    return values, notes
