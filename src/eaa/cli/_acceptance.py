# SPDX-License-Identifier: Apache-2.0
"""The tables ``[accept.…]`` of ``verdictd``'s configuration: what an owner accepts of each family of TEEs beyond genuineness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eaa.rats import Endorsements

__all__ = ["Acceptance", "enrolments", "tpm_roots"]


def _octets(value: Any) -> Any:
    """Read hex; anything else is left for the model to refuse."""
    return bytes.fromhex(value) if isinstance(value, str) else value


_Hex = Annotated[bytes, BeforeValidator(_octets)]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def given(self) -> dict[str, Any]:
        """Return what the owner set, lists as the sets that policies hold; the rest is the policy's own default."""
        return {
            name: frozenset(value) if isinstance(value, list) else value
            for name, value in self
            if name in self.model_fields_set
        }


class _Dcap(_Table):
    """SGX and TDX. There is no key for debug: no policy accepts a debug TEE."""

    tcb_statuses: list[str] = []
    minimum_tcb_evaluation_number: int = 0
    service_tds: list[_Hex] = []
    allow_migratable: bool = False
    require_sept_ve_disable: bool = True
    platforms: list[_Hex] = []


class _Snp(_Table):
    """SEV-SNP."""

    products: list[str] = []
    chip_ids: list[_Hex] = []
    csp_ids: list[str] = []
    allow_provisional_firmware: bool = True
    vmpls: list[int] = []
    allow_smt: bool = True
    allow_migrate_ma: bool = False
    require_single_socket: bool = False
    require_page_swap_disable: bool = False
    require_alias_check: bool = True
    require_ciphertext_hiding: bool = False
    id_keys: list[_Hex] = []
    author_keys: list[_Hex] = []


class _Tpm(_Table):
    """TPM 2.0, by files.

    ``roots`` are certificates of TPM makers, ``enrolled`` attestation keys that the owner enrolled, ``revocation_lists`` those that
    the certificates behind them name.
    """

    roots: list[str] = []
    enrolled: list[str] = []
    revocation_lists: list[str] = []
    require_safe_clock: bool = False


class _Azure(_Table):
    """Azure's confidential VMs, beside what is accepted of their hardware."""

    require_user_data: bool = False


class Acceptance(_Table):
    """Everything below ``[accept]``."""

    dcap: _Dcap | None = None
    snp: _Snp | None = None
    tpm: _Tpm = Field(default_factory=_Tpm)
    azure: _Azure | None = None
    require_init_data: bool | list[str] = False
    """Accept no guest without bound init-data: of any kind of TEE, or of those that are named."""

    def kinds_with_init_data(self) -> frozenset[str]:
        """Return the kinds of TEE whose guests must be bound to init-data.

        :raises ConfigurationError: when a kind is not known.
        """
        from eaa.tee.registry import kinds  # noqa: PLC0415 - heavy, and most settings need none of it

        known = frozenset(kinds())
        named = self.require_init_data
        if isinstance(named, bool):
            return known if named else frozenset()
        unknown = sorted(set(named) - known)
        if unknown:
            raise ConfigurationError(
                f"no kind of TEE is named {unknown[0][:40]!r}", hint=f"Known are: {', '.join(sorted(known))}."
            )
        return frozenset(named)

    def policies(self) -> tuple[object, ...]:
        """Return the policies that the owner changed something of.

        :raises ConfigurationError: when a value cannot be accepted, or a file cannot be read.
        """
        from eaa.tee.azure.policy import AzurePolicy  # noqa: PLC0415 - heavy, and most settings need none of it
        from eaa.tee.dcap.policy import AcceptancePolicy  # noqa: PLC0415
        from eaa.tee.snp.policy import SnpPolicy  # noqa: PLC0415
        from eaa.tee.snp.product import Product  # noqa: PLC0415
        from eaa.tee.tpm.policy import TpmPolicy  # noqa: PLC0415

        policies: list[object] = []
        if self.dcap is not None:
            policies.append(AcceptancePolicy(**self.dcap.given()))
        if self.snp is not None:
            given = self.snp.given()
            if "products" in given:
                given["products"] = frozenset(_product(name, Product) for name in given["products"])
            policies.append(SnpPolicy(**given))
        if self.tpm.roots or self.tpm.require_safe_clock:
            policies.append(TpmPolicy(tpm_roots(self.tpm.roots), self.tpm.require_safe_clock))
        if self.azure is not None:
            policies.append(AzurePolicy(**self.azure.given()))
        return tuple(policies)

    def enrolments(self) -> Endorsements:
        """Return the owner's word on TPM attestation keys, and the revocation lists that go with it.

        :raises ConfigurationError: when a file cannot be read, or is no revocation list.
        :raises EndorsementError: when it is no enrolment.
        """
        return enrolments(self.tpm.enrolled, self.tpm.revocation_lists)


def tpm_roots(files: Iterable[str | Path]) -> tuple[Any, ...]:
    """Return the certificates of TPM makers and attestation CAs in these files, as trust anchors.

    :raises ConfigurationError: when a file cannot be read or is no certificate.
    """
    return tuple(_anchor(Path(each)) for each in files)


def enrolments(files: Iterable[str | Path], lists: Iterable[str | Path] = ()) -> Endorsements:
    """Return the owner's word on the TPM attestation keys in these files, and the revocation lists in those.

    :raises ConfigurationError: when a file cannot be read, or is no revocation list.
    :raises EndorsementError: when it is no enrolment.
    """
    from eaa.rats import Endorsement, Endorsements  # noqa: PLC0415 - as above
    from eaa.tee.tpm.anchor import REVOCATION_LIST  # noqa: PLC0415
    from eaa.tee.tpm.enrolment import EnrolledAk  # noqa: PLC0415

    known = [EnrolledAk.parse(_read(Path(each))).to_endorsement() for each in files]
    known += [Endorsement(REVOCATION_LIST, _revocation_list(Path(each))) for each in lists]
    return Endorsements(tuple(known))


def _product(name: str, products: Any) -> Any:
    try:
        return products(name.capitalize())
    except ValueError:
        known = ", ".join(each.value for each in products)
        raise ConfigurationError(f"no product is named {name[:40]!r}", hint=f"Known are: {known}.") from None


def _anchor(path: Path) -> Any:
    from cryptography import x509  # noqa: PLC0415 - as above

    from eaa.rats import TrustAnchor  # noqa: PLC0415

    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise ConfigurationError(f"{path.name} is no certificate in PEM") from error
    return TrustAnchor.from_certificate(certificate, simulated=False)


def _revocation_list(path: Path) -> bytes:
    """Return a revocation list as DER."""
    from cryptography import x509  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    data = _read(path)
    load = x509.load_pem_x509_crl if data.lstrip().startswith(b"-----") else x509.load_der_x509_crl
    try:
        return load(data).public_bytes(Encoding.DER)
    except ValueError as error:
        raise ConfigurationError(f"{path.name} is no revocation list in DER or PEM") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
