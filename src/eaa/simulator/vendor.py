# SPDX-License-Identifier: Apache-2.0
"""The chip maker: its root CA and what it publishes.

One secret seed determines every key and, as signatures are deterministic, every byte of every certificate. A chip maker's folder
therefore holds one file that matters, ``vendor.json`` (0600); its root certificate lies beside it for whoever configures trust.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from eaa.rats import ConfigurationError, Endorsement, Endorsements, TrustAnchor
from eaa.simulator.collateral import QE_MODELS, body, qe_identity, tcb_info
from eaa.simulator.faults import combine
from eaa.simulator.folder import (
    AUTHORITIES,
    SEED_SIZE,
    State,
    home_of,
    is_founded,
    moment,
    read_state,
    write_state,
)
from eaa.simulator.machine import Machine, qe_signer
from eaa.simulator.pki import (
    Issuer,
    PckIdentity,
    chain_pem,
    derive_bytes,
    derive_key,
    serial_number,
    sign_raw,
)
from eaa.simulator.traits import MachineTraits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric import ec

    from eaa.simulator.traits import CollateralTraits, QuoteTraits

__all__ = ["ChipMaker"]

_DAY: Final = timedelta(days=1)
_YEAR: Final = timedelta(days=365)
_FIRST: Final = datetime(2018, 5, 21, 10, 45, 10, tzinfo=UTC)
"""When Intel's root begins; certificates here begin then too, so that past times can be played."""
_LAST: Final = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
_PCE_ID: Final = bytes(2)
# FMSPCs that no product of Intel has.
_FMSPC: Final = {"platform": bytes.fromhex("eaa06f000000"), "processor": bytes.fromhex("eaa06e000000")}
_OTHER_FMSPC: Final = bytes.fromhex("eaa0ff000000")
_CA_NAMES: Final = {
    "platform": "Intel SGX PCK Platform CA",
    "processor": "Intel SGX PCK Processor CA",
}

_OTHER_CA: Final = {"platform": "processor", "processor": "platform"}
_OTHER_TEE: Final = {"sgx": "tdx", "tdx": "sgx"}
_ROOT_CRL: Final = "IntelSGXRootCA.der"
_REVOKED: Final = MachineTraits(revoked=True)


class ChipMaker:
    """A chip maker in software. Safe to share between threads, except for :meth:`revoke`."""

    def __init__(self, state: State) -> None:
        """Build the chip maker that ``state`` determines; :meth:`create` and :meth:`load` are the usual ways."""
        seed, created = state.seed, state.created
        self._state = state
        self._folder: Path | None = None
        self._begin = min(_FIRST, created - _DAY)
        self._leaf_end = created + 7 * _YEAR
        self._root = self._issue_root(self._begin, max(_LAST, created + 24 * _YEAR))
        self._authorities = {
            ca: self._root.authority(
                name, derive_key(seed, f"{ca} ca"), self._begin, created + 15 * _YEAR, crl=_ROOT_CRL
            )
            for ca, name in _CA_NAMES.items()
        }
        self._tcb_key = derive_key(seed, "tcb signing")
        self._tcb_signer = self._root.leaf(
            "Intel SGX TCB Signing", self._tcb_key.public_key(), self._begin, self._leaf_end, crl=_ROOT_CRL
        )

    @classmethod
    def create(cls, now: datetime) -> ChipMaker:
        """Found a new chip maker; nothing is written until :meth:`save`.

        :raises ConfigurationError: when ``now`` has no time zone or is outside the years 2000 to 2200.
        """
        return cls._founded(secrets.token_bytes(SEED_SIZE), now)

    @classmethod
    def _founded(cls, seed: bytes, now: datetime) -> ChipMaker:
        return cls(State(seed, moment(now), dict.fromkeys(AUTHORITIES, ())))

    @classmethod
    def load(cls, folder: Path | str) -> ChipMaker:
        """Load the chip maker of its own folder, or of a Verdictd data folder that has one in ``simulator/``.

        :raises ConfigurationError: when there is none, or its file cannot be used.
        """
        home = home_of(Path(folder))
        maker = cls(read_state(home))
        maker._folder = home
        return maker

    @classmethod
    def load_or_create(cls, folder: Path | str, now: datetime) -> ChipMaker:
        """Load the chip maker of ``folder``, or found it there; two processes that do so at once get the same one.

        :raises ConfigurationError: when the folder holds something else or cannot be written.
        """
        home = home_of(Path(folder))
        if not is_founded(home):
            cls.create(now).save(home, keep=True)
        return cls.load(home)

    def save(self, folder: Path | str, *, keep: bool = False) -> None:
        """Write ``vendor.json`` (0600) and the root certificate into ``folder`` (0700 if it is made here).

        With ``keep``, a chip maker that is there already stays.

        :raises ConfigurationError: when the folder holds something else or cannot be written.
        """
        write_state(Path(folder), self._state, self._root_files, keep=keep)
        self._folder = Path(folder)

    @property
    def created(self) -> datetime:
        """When it was founded, in UTC."""
        return self._state.created

    @property
    def folder(self) -> Path | None:
        """Where it is kept, once it was saved or loaded."""
        return self._folder

    @property
    def root_certificate(self) -> x509.Certificate:
        """The root CA's certificate."""
        return self._root.certificate

    @property
    def root_der(self) -> bytes:
        """The root CA's certificate as DER."""
        return self._root.certificate.public_bytes(Encoding.DER)

    def trust_anchor(self) -> TrustAnchor:
        """Return what a verifier pins to trust this chip maker; every verdict that rests on it says ``simulated``."""
        return TrustAnchor.from_certificate(self._root.certificate, simulated=True)

    def machine(
        self,
        name: str = "machine-1",
        *,
        ca: str = "platform",
        revoked: bool = False,
        faults: Iterable[str] = (),
        **changes: Any,
    ) -> Machine:
        """Return the machine of that name; the same name gives the same machine.

        ``ca`` is ``platform`` or ``processor``; ``revoked`` asks for the one that every CRL lists. ``faults`` are applied as far
        as they are of machines and quotes, ``changes`` are single :class:`MachineTraits`.
        """
        combination = combine(faults)
        traits = replace(combination.machine, **changes)
        if revoked:
            traits = replace(traits, revoked=True)
        maker = self.impostor if traits.impostor else self
        return maker._machine(name, ca, traits, combination.quote)  # noqa: SLF001 - of this very class

    def revoke(self, machine: Machine) -> None:
        """Put a machine's certificate on the CRLs from now on; kept if this chip maker has a folder.

        :raises ConfigurationError: when the folder cannot be written.
        """
        serials = self._state.revoked[machine.ca]
        if machine.pck_serial not in serials:
            revoked = {**self._state.revoked, machine.ca: (*serials, machine.pck_serial)}
            self._state = replace(self._state, revoked=revoked)
        if self._folder is not None:
            write_state(self._folder, self._state, self._root_files, keep=False)

    def collateral(
        self, tee: str, at: datetime, *, ca: str = "platform", faults: Iterable[str] = (), **changes: Any
    ) -> Endorsements:
        """Return what verifies a quote of this maker's machines for ``sgx`` or ``tdx`` at the time ``at``.

        ``faults`` are applied as far as they are of collateral, ``changes`` are single :class:`CollateralTraits` such as
        ``evaluation`` or, relative to ``at``, ``begins`` and ``ends``. The same arguments give the same bytes.

        :raises ConfigurationError: when a fault is unknown, or ``at`` has no time zone or is outside the years 2000 to 2200.
        """
        traits = replace(combine(faults).collateral, **changes)
        if traits.impostor:
            return self.impostor.collateral(tee, at, ca=ca, **asdict(replace(traits, impostor=False)))
        at = moment(at)
        signed = self._statements(_OTHER_TEE[tee] if traits.other_tee else tee, at, ca, traits)
        crls = self._crls(at, ca, traits)
        return Endorsements((*signed, *crls))

    @property
    def fmspcs(self) -> dict[str, bytes]:
        """The FMSPC of the machines below each CA."""
        return dict(_FMSPC)

    @property
    def other_fmspc(self) -> bytes:
        """An FMSPC that no machine has."""
        return _OTHER_FMSPC

    def sign(self, member: str, text: bytes) -> tuple[bytes, bytes]:
        """Sign the text of a statement as PCS does; return the body, in which it is ``member``, and the issuer chain in PEM."""
        chain = chain_pem(self._tcb_signer, self._root.certificate)
        return body(member, text, sign_raw(self._tcb_key, text)), chain

    def pck_crl(
        self, ca: str, begin: datetime, end: datetime, *, number: int, revoked: Iterable[int] = ()
    ) -> tuple[bytes, bytes]:
        """Issue the CRL of a PCK CA: DER and issuer chain in PEM. It lists ``revoked`` beside what :meth:`revoke` was told."""
        issuer = self._authorities[ca]
        designated = serial_number(self._pck_key("", ca, _REVOKED).public_key())
        serials = dict.fromkeys((designated, *self._state.revoked[ca], *revoked))
        return issuer.crl(serials, begin, end, number=number), chain_pem(
            issuer.certificate, self._root.certificate
        )

    def root_crl(self, begin: datetime, end: datetime, *, number: int) -> bytes:
        """Issue the DER of the root's CRL, which revokes nothing."""
        return self._root.crl((), begin, end, number=number)

    def _statements(
        self, tee: str, at: datetime, ca: str, traits: CollateralTraits
    ) -> tuple[Endorsement, Endorsement]:
        issued, until = at + traits.begins, at + traits.ends
        levels = tcb_info(
            tee,
            fmspc=_OTHER_FMSPC if traits.other_fmspc else _FMSPC[ca],
            pce_id=_PCE_ID,
            issued=issued,
            until=until,
            evaluation=traits.evaluation,
            components=traits.components,
        )
        identity = qe_identity(
            tee, signer=qe_signer(tee), issued=issued, until=until, evaluation=traits.evaluation
        )
        signatures = [sign_raw(self._tcb_key, text) for text in (levels, identity)]
        if traits.altered_tcb_info:
            levels = levels.replace(b'"OutOfDate"', b'"UpToDate"')
        if traits.altered_qe_identity:
            current = f'"isvsvn":{QE_MODELS[tee].isv_svn}'
            identity = identity.replace(current.encode(), b'"isvsvn":1')
        chain = chain_pem(self._tcb_signer, self._shown_root(old=traits.old_root))
        return (
            Endorsement("tcb_info", body("tcbInfo", levels, signatures[0]), chain),
            Endorsement("qe_identity", body("enclaveIdentity", identity, signatures[1]), chain),
        )

    def _crls(self, at: datetime, ca: str, traits: CollateralTraits) -> tuple[Endorsement, ...]:
        begin, end = at + traits.begins, at + traits.ends
        authority = self._authorities[ca].certificate
        revoked_by_root = [
            certificate.serial_number
            for certificate, revoked in (
                (authority, traits.revoked_intermediate),
                (self._tcb_signer, traits.revoked_tcb_signer),
            )
            if revoked
        ]
        # The root's CRL lasts a year, the others a month, as Intel's do.
        root_crl = self._root.crl(revoked_by_root, begin, end if end <= at else begin + _YEAR)
        root_item = Endorsement("root_ca_crl", root_crl)
        if traits.pck_crl == "missing":
            return (root_item,)
        if traits.pck_crl == "stale":
            begin, end = at - 60 * _DAY, at - 30 * _DAY
        issuer = self._authorities[_OTHER_CA[ca] if traits.pck_crl == "of-other-ca" else ca]
        designated = serial_number(self._pck_key("", ca, _REVOKED).public_key())
        crl = issuer.crl([designated, *self._state.revoked[ca]], begin, end)
        if traits.pck_crl == "altered":
            crl = crl.replace(designated.to_bytes(20), (designated ^ 1).to_bytes(20))
        chain = chain_pem(issuer.certificate, self._shown_root(old=traits.old_root))
        return (Endorsement("pck_crl", crl, chain), root_item)

    def _machine(self, name: str, ca: str, traits: MachineTraits, quote: QuoteTraits) -> Machine:
        if ca not in _CA_NAMES:
            raise ConfigurationError(f"no CA {ca!r}; there are: {', '.join(_CA_NAMES)}")
        seed = derive_bytes(self._state.seed, f"machine {name}", 32)
        identity = PckIdentity(
            ppid=derive_bytes(seed, "ppid", 16),
            sgx_svns=traits.sgx_svns,
            pce_svn=traits.pce_svn,
            pce_id=_PCE_ID,
            fmspc=_FMSPC[ca],
            platform_instance_id=derive_bytes(seed, "platform instance id", 16) if ca == "platform" else None,
        )
        key = self._pck_key(name, ca, traits)
        authority = self._authorities[ca]
        certificate = authority.leaf(
            "Intel SGX PCK Certificate",
            key.public_key(),
            self._begin,
            self._begin + _YEAR if traits.expired_pck else self._leaf_end,
            crl=f"sgx/certification/v4/pckcrl?ca={ca}&encoding=der",
            pck=identity,
        )
        if traits.altered_pck:
            other = derive_bytes(seed, "another ppid", 16)
            der = certificate.public_bytes(Encoding.DER).replace(identity.ppid, other)
            certificate = x509.load_der_x509_certificate(der)
        return Machine(
            name=name,
            ca=ca,
            identity=identity,
            pck_serial=certificate.serial_number,
            pck_chain=chain_pem(certificate, authority.certificate, self._shown_root(old=traits.old_root)),
            traits=traits,
            quote_traits=quote,
            pck_key=key,
            seed=seed,
        )

    def _pck_key(self, name: str, ca: str, traits: MachineTraits) -> ec.EllipticCurvePrivateKey:
        """Derive a platform's PCK, which on hardware, too, follows from the platform and its SVNs."""
        if traits.revoked:
            return derive_key(self._state.seed, f"revoked pck {ca}")
        return derive_key(self._state.seed, f"pck {ca} {traits.sgx_svns.hex()} {traits.pce_svn} {name}")

    def _issue_root(self, begin: datetime, end: datetime) -> Issuer:
        return Issuer.root(derive_key(self._state.seed, "root"), begin, end)

    def _shown_root(self, *, old: bool) -> x509.Certificate:
        return self._old_root if old else self._root.certificate

    @cached_property
    def _old_root(self) -> x509.Certificate:
        return self._issue_root(self._begin - _YEAR, self._state.created + 20 * _YEAR).certificate

    @cached_property
    def impostor(self) -> ChipMaker:
        """Somebody who uses the same names, but has other keys."""
        return self._founded(derive_bytes(self._state.seed, "impostor", SEED_SIZE), self._state.created)

    @property
    def _root_files(self) -> dict[str, bytes]:
        return {"root_ca.der": self.root_der, "root_ca.pem": chain_pem(self._root.certificate)}
