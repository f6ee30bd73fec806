# SPDX-License-Identifier: Apache-2.0
"""Machines: platforms of the simulated chip maker that mint true quotes.

A machine is determined by its chip maker's seed and its name alone, so that every process that knows the chip maker has the
same machine. What does not change from quote to quote (keys, PCK chain, the quoting enclave's report) is made once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256, sha384
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError
from eaa.simulator.collateral import QE_MODELS
from eaa.simulator.fields import flipped, padded_report_data
from eaa.simulator.measure import DEFAULT_IMAGE, measure
from eaa.simulator.pki import derive_bytes, derive_key, point, sign_raw
from eaa.tee.dcap.quote import (
    BODY_SGX,
    BODY_TD10,
    BODY_TD15,
    CERT_PCK_CHAIN,
    ECDSA_P256,
    INTEL_QE_VENDOR_ID,
    TEE_SGX,
    TEE_TDX,
    CertificationData,
    Header,
    QuoteSignature,
    pack_envelope,
    pack_signed,
)
from eaa.tee.sgx.evidence import FLAG_DEBUG, FLAG_INIT, EnclaveReport
from eaa.tee.tdx.evidence import ATTR_DEBUG, ATTR_SEPT_VE_DISABLE, TdReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric import ec

    from eaa.simulator.pki import PckIdentity
    from eaa.simulator.traits import MachineTraits, QuoteTraits

__all__ = ["Machine", "qe_signer"]

_FLAG_MODE64: Final = 0x04
_FLAG_PROVISION_KEY: Final = 0x10
_XFRM: Final = 0xE7
_XFAM: Final = 0x602E7
_QE_AUTH_DATA: Final = bytes(range(32))
"""What Intel's quoting enclaves put there, too."""


def qe_signer(tee: str) -> bytes:
    """Return MRSIGNER of the genuine quoting enclave for ``sgx`` or ``tdx``, 32 bytes."""
    return sha256(f"EAA simulated signer of {QE_MODELS[tee].id}".encode()).digest()


@dataclass(frozen=True)
class _QuotingEnclave:
    """The enclave that signs quotes: its key, and its report that the platform's PCK has signed."""

    attestation_key: ec.EllipticCurvePrivateKey = field(repr=False)
    attestation_point: bytes
    report: EnclaveReport
    report_signature: bytes


@dataclass(frozen=True)
class Machine:
    """One platform. ``ca`` is ``platform`` (servers, SGX and TDX) or ``processor`` (clients, SGX only).

    ``quote_traits`` are what every quote of this machine is like unless a call says otherwise.
    """

    name: str
    ca: str
    identity: PckIdentity
    pck_serial: int
    pck_chain: bytes
    traits: MachineTraits
    quote_traits: QuoteTraits
    pck_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    seed: bytes = field(repr=False)

    @property
    def fmspc(self) -> str:
        """Family, model, stepping, platform and SKU: what TCB info is looked up by, lower-case hex."""
        return self.identity.fmspc.hex()

    @property
    def qe_id(self) -> bytes:
        """What the quoting enclaves of this platform call it, 16 bytes."""
        return derive_bytes(self.seed, "qe id", 16)

    @property
    def encrypted_ppid(self) -> bytes:
        """The PPID as a platform sends it to the chip maker, 384 bytes. Nobody here can decrypt it: it is looked up."""
        return derive_bytes(self.seed, f"encrypted ppid {self.ca}", 384)

    @property
    def platform_manifest(self) -> bytes:
        """What a platform of several packages is registered with; looked up as the encrypted PPID is."""
        return derive_bytes(self.seed, f"platform manifest {self.ca}", 1024)

    def quote_sgx(
        self,
        report_data: bytes,
        *,
        mr_enclave: bytes | None = None,
        mr_signer: bytes | None = None,
        config_id: bytes | None = None,
        isv_prod_id: int = 0,
        isv_svn: int = 0,
        version: int = 3,
        debug: bool = False,
    ) -> bytes:
        """Return a quote of an enclave on this machine; registers that are not given are those of the default image.

        :raises ConfigurationError: when the numbers cannot be put into a quote.
        """
        traits = self.quote_traits
        registers = measure(DEFAULT_IMAGE)
        flags = FLAG_INIT | _FLAG_MODE64 | (FLAG_DEBUG if debug or traits.debug else 0)
        report = _enclave_report(
            cpu_svn=self.identity.sgx_svns,
            attributes_flags=flags,
            mr_enclave=_register("mr_enclave", mr_enclave, registers["mr_enclave"], 32),
            mr_signer=_register("mr_signer", mr_signer, registers["mr_signer"], 32),
            isv_prod_id=isv_prod_id,
            isv_svn=isv_svn,
            report_data=padded_report_data(report_data, other=traits.other_report_data),
        )._replace(config_id=_register("config_id", config_id, "", 64))
        if version not in {3, 4, 5}:
            raise ConfigurationError(f"SGX quotes have version 3, 4 or 5, not {version}")
        shown = report._replace(mr_enclave=flipped(report.mr_enclave)) if traits.altered_report else report
        return self._quote("sgx", version, BODY_SGX, report.pack(), shown.pack())

    def quote_tdx(
        self,
        report_data: bytes,
        *,
        mr_td: bytes | None = None,
        rtmrs: Sequence[bytes | None] = (),
        mr_config_id: bytes | None = None,
        mr_owner: bytes | None = None,
        mr_owner_config: bytes | None = None,
        version: int | None = None,
        td15: bool = False,
        debug: bool = False,
    ) -> bytes:
        """Return a quote of a TD on this machine; registers that are not given are those of the default image.

        ``version`` is 4 or 5, by default the lowest that can carry the report; ``td15`` asks for the body of TDX 1.5.

        :raises ConfigurationError: when this cannot be put into a quote.
        """
        if self.ca != "platform":
            raise ConfigurationError(
                "machines of the processor CA have no TDX", hint="Use SGX, or the platform CA."
            )
        traits = self.quote_traits
        td15 = td15 or traits.td15
        version = version or (5 if td15 else 4)
        if version not in {4, 5} or (td15 and version != 5):
            needed = "5, as it has a body of TDX 1.5" if td15 else "4 or 5"
            raise ConfigurationError(
                f"a TDX quote of version {version} was asked for; this one needs {needed}"
            )
        registers = measure(DEFAULT_IMAGE)
        given = dict(enumerate(rtmrs))
        rtmr = [_register(f"rtmr_{n}", given.get(n), registers[f"rtmr_{n}"], 48) for n in range(4)]
        svns_now = self.traits.tdx_svns_now or self.traits.tdx_svns
        report = TdReport(
            tee_tcb_svn=self.traits.tdx_svns,
            mr_seam=sha384(b"EAA simulated TDX module " + self.traits.tdx_svns[:2]).digest(),
            mrsigner_seam=self.traits.seam_signer,
            seam_attributes=0,
            td_attributes=ATTR_SEPT_VE_DISABLE | (ATTR_DEBUG if debug or traits.debug else 0),
            xfam=_XFAM,
            mr_td=_register("mr_td", mr_td, registers["mr_td"], 48),
            mr_config_id=_register("mr_config_id", mr_config_id, "", 48),
            mr_owner=_register("mr_owner", mr_owner, "", 48),
            mr_owner_config=_register("mr_owner_config", mr_owner_config, "", 48),
            rtmr_0=rtmr[0],
            rtmr_1=rtmr[1],
            rtmr_2=rtmr[2],
            rtmr_3=rtmr[3],
            report_data=padded_report_data(report_data, other=traits.other_report_data),
            tee_tcb_svn_2=svns_now if td15 else b"",
            mr_service_td=traits.service_td if td15 else b"",
        )
        shown = report._replace(mr_td=flipped(report.mr_td)) if traits.altered_report else report
        return self._quote("tdx", version, BODY_TD15 if td15 else BODY_TD10, report.pack(), shown.pack())

    def _quote(self, tee: str, version: int, body_type: int, body: bytes, shown: bytes) -> bytes:
        """Sign ``body`` and return the quote that carries ``shown``, which differs only where a fault altered it."""
        traits = self.quote_traits
        enclave = self._sgx_enclave if tee == "sgx" else self._tdx_enclave
        header = Header(
            version=version,
            att_key_type=ECDSA_P256,
            tee_type=TEE_SGX if tee == "sgx" else TEE_TDX,
            qe_svn=enclave.report.isv_svn if version == 3 else 0,
            pce_svn=self.identity.pce_svn if version == 3 else 0,
            qe_vendor_id=traits.vendor_id or INTEL_QE_VENDOR_ID,
            user_data=self.qe_id + bytes(4),
        )
        key, key_point = enclave.attestation_key, enclave.attestation_point
        if traits.foreign_key:
            key = derive_key(self.seed, "foreign attestation key")
            key_point = point(key)
        signature = sign_raw(key, pack_signed(header, body_type, body))
        qe_report = enclave.report
        if traits.altered_qe_report:
            qe_report = qe_report._replace(isv_svn=qe_report.isv_svn + 1)
        signed = QuoteSignature(
            signature=flipped(signature) if traits.altered_signature else signature,
            attestation_key=key_point,
            qe_report=qe_report.pack(),
            qe_report_signature=enclave.report_signature,
            qe_auth_data=_QE_AUTH_DATA,
            # Intel's library counts the C string's final zero.
            certification=CertificationData(CERT_PCK_CHAIN, self.pck_chain + b"\0"),
        )
        return pack_envelope(pack_signed(header, body_type, shown), signed) + traits.trailing

    @cached_property
    def _sgx_enclave(self) -> _QuotingEnclave:
        return self._quoting_enclave("sgx")

    @cached_property
    def _tdx_enclave(self) -> _QuotingEnclave:
        return self._quoting_enclave("tdx")

    def _quoting_enclave(self, tee: str) -> _QuotingEnclave:
        model, traits = QE_MODELS[tee], self.traits
        key = derive_key(self.seed, f"attestation key {tee}")
        key_point = point(key)
        report = _enclave_report(
            cpu_svn=self.identity.sgx_svns,
            attributes_flags=FLAG_INIT
            | _FLAG_MODE64
            | _FLAG_PROVISION_KEY
            | (FLAG_DEBUG if traits.qe_debug else 0),
            mr_enclave=sha256(f"EAA simulated {model.id}".encode()).digest(),
            mr_signer=traits.qe_signer or qe_signer(tee),
            isv_prod_id=model.isv_prod_id,
            isv_svn=model.isv_svn - traits.qe_behind,
            report_data=sha256(key_point + _QE_AUTH_DATA).digest() + bytes(32),
        )
        return _QuotingEnclave(key, key_point, report, sign_raw(self.pck_key, report.pack()))


def _enclave_report(
    *,
    cpu_svn: bytes,
    attributes_flags: int,
    mr_enclave: bytes,
    mr_signer: bytes,
    isv_prod_id: int,
    isv_svn: int,
    report_data: bytes,
) -> EnclaveReport:
    for name, number in (("isv_prod_id", isv_prod_id), ("isv_svn", isv_svn)):
        if not 0 <= number <= 0xFFFF:
            raise ConfigurationError(f"{name} is {number}; it must fit into 16 bits")
    return EnclaveReport(
        cpu_svn=cpu_svn,
        misc_select=0,
        reserved_1=bytes(12),
        isv_ext_prod_id=bytes(16),
        attributes_flags=attributes_flags,
        attributes_xfrm=_XFRM,
        mr_enclave=mr_enclave,
        reserved_2=bytes(32),
        mr_signer=mr_signer,
        reserved_3=bytes(32),
        config_id=bytes(64),
        isv_prod_id=isv_prod_id,
        isv_svn=isv_svn,
        config_svn=0,
        reserved_4=bytes(42),
        isv_family_id=bytes(16),
        report_data=report_data,
    )


def _register(name: str, given: bytes | None, default: str, size: int) -> bytes:
    value = bytes.fromhex(default).ljust(size, b"\0") if given is None else given
    if len(value) != size:
        raise ConfigurationError(f"{name} has {size} bytes, not {len(value)}")
    return value
