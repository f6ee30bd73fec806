# SPDX-License-Identifier: Apache-2.0
"""An Azure confidential VM in software: a paravisor with a vTPM on a simulated SEV-SNP or TDX machine.

The paravisor's runtime data names the vTPM's key; its hash is the report data that the hardware is asked to sign. So evidence is made in
two steps: :meth:`AzureVm.runtime_data`, then, with the hardware's answer, :meth:`AzureVm.snp_evidence` or :meth:`AzureVm.tdx_evidence`.
"""

from __future__ import annotations

import json
from base64 import b64encode, encodebytes, urlsafe_b64encode
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa

from eaa.rats import ConfigurationError
from eaa.simulator.tpm import TPM_FAULTS, QuoteTraits
from eaa.tee.azure.hcl import REPORT_SNP, REPORT_TDX, pack_hcl_report
from eaa.tee.members import EVENT_LOG
from eaa.tee.tpm.quote import parse_signature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eaa.simulator.tpm import SoftwareTpm

__all__ = ["AzureVm"]

_TD_REPORT_DATA: Final = 128


@dataclass(frozen=True, slots=True)
class AzureVm:
    """A VM whose vTPM has an RSA attestation key, as Azure's have."""

    tpm: SoftwareTpm

    def runtime_data(self, user_data: bytes = b"", *, secure_boot: bool = True) -> bytes:
        """Return the JSON in which the paravisor describes the VM.

        :raises ConfigurationError: when the vTPM's attestation key is not RSA.
        """
        key = self.tpm.ak
        if not isinstance(key, rsa.RSAPublicKey):
            raise ConfigurationError(
                "a vTPM on Azure has an RSA attestation key", hint="Give the software TPM an RSA key."
            )
        numbers = key.public_numbers()
        document = {
            "keys": [
                {
                    "kid": "HCLAkPub",
                    "key_ops": ["sign"],
                    "kty": "RSA",
                    "e": _base64(numbers.e.to_bytes(3)),
                    "n": _base64(numbers.n.to_bytes(256)),
                }
            ],
            "vm-configuration": {"console-enabled": True, "secure-boot": secure_boot, "tpm-enabled": True},
            "user-data": user_data.ljust(64, b"\0").hex().upper(),
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @staticmethod
    def report_data(runtime_data: bytes) -> bytes:
        """Return what the paravisor has the hardware sign: the hash of its runtime data, padded to 64 bytes."""
        return sha256(runtime_data).digest().ljust(64, b"\0")

    def snp_evidence(
        self,
        report: bytes,
        vcek: bytes,
        runtime_data: bytes,
        challenge: bytes,
        *,
        version: int = 1,
        faults: Iterable[str] = (),
    ) -> bytes:
        """Return ``az-snp-vtpm`` evidence around an attestation report and its VCEK (DER); ``faults`` are of the vTPM's quote."""
        hcl = pack_hcl_report(report, REPORT_SNP, runtime_data)
        quote = self._quote(challenge, version, faults)
        if version == 0:
            return self._dump({"quote": quote, "report": list(hcl), "vcek": _pem(vcek)})
        return self._dump(
            {"version": version, "tpm_quote": quote, "hcl_report": _base64(hcl), "vcek": _base64(vcek)}
        )

    def tdx_evidence(
        self,
        quote: bytes,
        runtime_data: bytes,
        challenge: bytes,
        *,
        version: int = 1,
        faults: Iterable[str] = (),
        td_report_data: bytes | None = None,
    ) -> bytes:
        """Return ``az-tdx-vtpm`` evidence around a TD quote, with a TDREPORT of the same (or the given) report data."""
        stated = self.report_data(runtime_data) if td_report_data is None else td_report_data
        hcl = pack_hcl_report((bytes(_TD_REPORT_DATA) + stated).ljust(1024, b"\0"), REPORT_TDX, runtime_data)
        parts: dict[str, Any] = {"tpm_quote": self._quote(challenge, version, faults)}
        if version == 0:
            return self._dump({**parts, "hcl_report": list(hcl), "td_quote": list(quote)})
        return self._dump(
            {"version": version, **parts, "hcl_report": _base64(hcl), "td_quote": _base64(quote)}
        )

    def _quote(self, challenge: bytes, version: int, faults: Iterable[str]) -> dict[str, Any]:
        traits = QuoteTraits()
        for name in faults:
            traits = replace(traits, **TPM_FAULTS[name].traits)
        message, signature, values = self.tpm.quote(challenge, traits)
        parts = {"message": message, "signature": parse_signature(signature).value}
        pcrs = [values[index] for index in sorted(values)]
        if version == 0:
            return {name: list(value) for name, value in parts.items()} | {
                "pcrs": [list(value) for value in pcrs]
            }
        return {name: value.hex() for name, value in parts.items()} | {
            "pcrs": [value.hex() for value in pcrs]
        }

    def _dump(self, document: dict[str, Any]) -> bytes:
        if self.tpm.event_log:
            document[EVENT_LOG] = b64encode(self.tpm.event_log).decode()
        return json.dumps(document, separators=(",", ":")).encode()


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{encodebytes(der).decode()}-----END CERTIFICATE-----\n"
