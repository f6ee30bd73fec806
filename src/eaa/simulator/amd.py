# SPDX-License-Identifier: Apache-2.0
"""The maker of SEV-SNP chips: a root for each product, what it publishes, and machines that mint true reports.

It is the same chip maker as that of the SGX and TDX platforms: one folder, one secret seed. RSA-4096 keys cannot be derived from a
seed in reasonable time; they are made when first needed and kept in the folder, in ``amd/`` (0600 each).
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from eaa.rats import ConfigurationError, Endorsement, Endorsements, TrustAnchor
from eaa.simulator.amd_pki import Authority, KeyIdentity, derive_p384
from eaa.simulator.fields import flipped
from eaa.simulator.folder import (
    AUTHORITIES,
    SEED_SIZE,
    State,
    home_of,
    moment,
    read_state,
    write_secret,
)
from eaa.simulator.pki import derive_bytes
from eaa.simulator.snp_faults import combine_snp
from eaa.simulator.snp_machine import SnpMachine
from eaa.simulator.snp_traits import TCBS
from eaa.simulator.vendor import ChipMaker
from eaa.tee.snp.product import Product

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eaa.simulator.snp_faults import SnpCombination
    from eaa.simulator.snp_traits import SnpMachineTraits

__all__ = ["CSP_ID", "SIGNERS", "AmdChipMaker"]

SIGNERS: Final = ("VCEK", "VLEK")
CSP_ID: Final = "CN=cloud.chip-maker.invalid"
_YEAR: Final = timedelta(days=365)
_FOLDER: Final = "amd"
_OTHER: Final = {
    Product.MILAN: Product.GENOA,
    Product.GENOA: Product.MILAN,
    Product.TURIN: Product.GENOA,
}


class AmdChipMaker:
    """A maker of SEV-SNP chips in software. Safe to share between threads."""

    def __init__(self, state: State, folder: Path | None = None) -> None:
        """Build the chip maker that ``state`` determines; :meth:`create` and :meth:`load` are the usual ways."""
        self._state = state
        self._folder = folder
        self._begin = state.created - 5 * _YEAR
        self._lock = RLock()
        self._authorities: dict[tuple[Product, str], Authority] = {}

    @classmethod
    def create(cls, now: datetime) -> AmdChipMaker:
        """Found a new chip maker that is not kept.

        :raises ConfigurationError: when ``now`` has no time zone or is outside the years 2000 to 2200.
        """
        return cls._founded(secrets.token_bytes(SEED_SIZE), now)

    @classmethod
    def _founded(cls, seed: bytes, now: datetime) -> AmdChipMaker:
        return cls(State(seed, moment(now), dict.fromkeys(AUTHORITIES, ())))

    @classmethod
    def load(cls, folder: Path | str) -> AmdChipMaker:
        """Load the chip maker of its own folder, or of a Verdictd data folder that has one in ``simulator/``.

        :raises ConfigurationError: when there is none, or its file cannot be used.
        """
        home = home_of(Path(folder))
        return cls(read_state(home), home)

    @classmethod
    def load_or_create(cls, folder: Path | str, now: datetime) -> AmdChipMaker:
        """Load the chip maker of ``folder``, or found it there, together with that of the SGX and TDX platforms.

        :raises ConfigurationError: when the folder holds something else or cannot be written.
        """
        ChipMaker.load_or_create(folder, now)
        return cls.load(folder)

    def root_der(self, product: Product) -> bytes:
        """Return the root certificate (ARK) of a product as DER."""
        return self.authority(product, "ark").der

    def trust_anchor(self, product: Product) -> TrustAnchor:
        """Return what a verifier pins to trust this maker's chips of one product; its verdicts then say ``simulated``."""
        return TrustAnchor.from_certificate(self.authority(product, "ark").certificate, simulated=True)

    def trust_anchors(self, products: Iterable[Product] = tuple(Product)) -> tuple[TrustAnchor, ...]:
        """Return the roots of several products; the first time, each takes a second to make."""
        return tuple(self.trust_anchor(product) for product in products)

    def machine(
        self,
        name: str = "machine-1",
        product: Product = Product.GENOA,
        *,
        signer: str = "VCEK",
        faults: Iterable[str] = (),
    ) -> SnpMachine:
        """Return the machine of that name and product; the same name gives the same chip.

        ``signer`` is ``VCEK``, or ``VLEK`` for a machine whose cloud has loaded one. ``faults`` are applied as far as they are of
        machines and reports.

        :raises ConfigurationError: when a fault is unknown or needs the other kind of key.
        """
        combination = _applicable(combine_snp(faults), signer)
        maker = self._impostor if combination.machine.impostor else self
        return maker._machine(name, product, signer, combination)  # noqa: SLF001 - of this very class

    def collateral(self, machine: SnpMachine, at: datetime, *, faults: Iterable[str] = ()) -> Endorsements:
        """Return what verifies reports of ``machine`` at the time ``at``: its certificate, the chain above it and the CRL.

        :raises ConfigurationError: when a fault is unknown, or ``at`` has no time zone or is outside the years 2000 to 2200.
        """
        traits = combine_snp(faults).collateral
        maker = self._impostor if machine.traits.impostor else self
        at = moment(at)
        product = machine.certified_product
        authority, root = maker.authority(product, _role(machine.signer)), maker.authority(product, "ark")
        chain = b"".join(each.certificate.public_bytes(Encoding.PEM) for each in (authority, root))
        items = [Endorsement("snp_chain", chain)]
        if traits.key:
            # A VLEK that passes itself off as a VCEK is delivered as one.
            kind = "snp_vcek" if machine.named_signer == "VCEK" else "snp_vlek"
            items.insert(0, Endorsement(kind, machine.certificate))
        if traits.crl != "missing":
            issuer = maker.authority(_OTHER[product], "ark") if traits.crl == "of-other-product" else root
            listed = [authority.certificate.serial_number] if traits.revoked_authority else []
            listed += [0] if traits.revoked_zero else []
            crl = issuer.crl(listed, at + traits.begins, at + traits.ends)
            items.append(Endorsement("snp_crl", flipped(crl) if traits.crl == "altered" else crl))
        return Endorsements(tuple(items))

    def revocation_list(self, product: Product, at: datetime) -> Endorsement:
        """Return the list of the product's root, which names nothing, as of ``at``."""
        traits, at = combine_snp(()).collateral, moment(at)
        return Endorsement(
            "snp_crl", self.authority(product, "ark").crl([], at + traits.begins, at + traits.ends)
        )

    def authority(self, product: Product, role: str) -> Authority:
        """Return ``ark``, ``ask`` or ``asvk`` of a product; the first time, this takes a second, for RSA-4096.

        :raises ConfigurationError: when it cannot be read from or written to the folder.
        """
        with self._lock:
            known = self._authorities.get((product, role))
            if known is None:
                known = self._authorities[product, role] = self._found_authority(product, role)
            return known

    def _found_authority(self, product: Product, role: str) -> Authority:
        path = self._folder / _FOLDER / f"{product.value.lower()}-{role}.pem" if self._folder else None
        try:
            if path is None or not path.exists():
                above = None if role == "ark" else self.authority(product, "ark")
                made = Authority.create(product, role, self._begin, self._begin + 25 * _YEAR, above)
                if path is None:
                    return made
                path.parent.mkdir(mode=0o700, exist_ok=True)
                write_secret(path, made.to_pem(), keep=True)
            return Authority.from_pem(path.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"cannot keep an authority in {path}: {error.strerror}") from error

    def _machine(self, name: str, product: Product, signer: str, combination: SnpCombination) -> SnpMachine:
        traits = combination.machine
        seed = derive_bytes(self._state.seed, f"snp machine {product} {name}", 32)
        chip_id = derive_bytes(seed, "chip id", 8 if product is Product.TURIN else 64)
        tcb = TCBS[product]._replace(snp=max(0, TCBS[product].snp - traits.snp_behind))
        # The key follows from chip or cloud and TCB, as on hardware.
        origin, what = (seed, "vcek") if signer == "VCEK" else (self._state.seed, "vlek")
        key = derive_p384(origin, f"{what} {tcb.pack().hex()}")
        certified = _OTHER[product] if traits.other_product else product
        identity = KeyIdentity(
            product=certified,
            tcb=tcb._replace(snp=tcb.snp - traits.certified_behind, fmc=_fmc(certified, tcb.fmc)),
            hardware_id=_certified_id(seed, chip_id, traits) if signer == "VCEK" else None,
            csp_id=CSP_ID if signer == "VLEK" else None,
        )
        # As long ago as the authority, so that past times can be played.
        begin, end = self._begin, self._state.created + (7 if signer == "VCEK" else 1) * _YEAR
        certificate = self.authority(certified, _role(signer)).issue(
            identity, key.public_key(), begin, begin + _YEAR if traits.expired else end
        )
        if traits.altered:
            certificate = _raised(certificate, identity)
        return SnpMachine(
            name=name,
            product=product,
            certified_product=certified,
            signer=signer,
            chip_id=chip_id,
            tcb=tcb,
            certificate=certificate,
            traits=traits,
            report_traits=combination.report,
            key=key,
            seed=seed,
        )

    @cached_property
    def _impostor(self) -> AmdChipMaker:
        """Somebody who uses the same names, but has other keys."""
        return self._founded(derive_bytes(self._state.seed, "snp impostor", SEED_SIZE), self._state.created)


def _role(signer: str) -> str:
    return "ask" if signer == "VCEK" else "asvk"


def _applicable(combination: SnpCombination, signer: str) -> SnpCombination:
    if signer not in SIGNERS:
        raise ConfigurationError(f"no key {signer!r} signs reports; there are: {', '.join(SIGNERS)}")
    for fault in combination.faults:
        if fault.signer not in {None, signer}:
            raise ConfigurationError(f"the fault {fault.name} exists for reports of a {fault.signer} only")
    return combination


def _fmc(product: Product, level: int | None) -> int | None:
    return (level or 0) if product is Product.TURIN else None


def _certified_id(seed: bytes, chip_id: bytes, traits: SnpMachineTraits) -> bytes:
    return chip_id if traits.certified_chip else derive_bytes(seed, "another chip id", len(chip_id))


def _raised(certificate: bytes, identity: KeyIdentity) -> bytes:
    """Return ``certificate`` with the SNP level in it raised by one."""
    snp = next(each for each in identity.extensions() if each.oid.dotted_string.endswith(".3.3")).value
    higher = replace(identity, tcb=identity.tcb._replace(snp=identity.tcb.snp + 1))
    raised = next(each for each in higher.extensions() if each.oid.dotted_string.endswith(".3.3")).value
    oid = bytes.fromhex("2b060104019c78010303")
    at = certificate.index(oid) + len(oid) + 2
    return certificate[:at] + raised + certificate[at + len(snp) :]
