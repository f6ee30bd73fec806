# SPDX-License-Identifier: Apache-2.0
"""AMD's key distribution service (KDS) in software: what it has published, and how it answers.

Paths and parameters from AMD's "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (57230).
AMD's authorities sign with a random salt: other than Intel's, these bytes are the same only for as long as one process lives.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.responses import Response

from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.amd_pki import KeyIdentity, derive_p384
from eaa.simulator.publication import issued_at
from eaa.simulator.snp_traits import TCBS
from eaa.simulator.vendor_call import Call, Refused
from eaa.tee.snp.certificates import read_endorsement_key
from eaa.tee.snp.product import Product, Tcb

if TYPE_CHECKING:
    from eaa.simulator.snp_machine import SnpMachine
    from eaa.simulator.timeline import Timeline
    from eaa.simulator.vendor_call import Answer

__all__ = ["KeyDistribution", "kds_answers"]

_PEM: Final = "application/x-pem-file"
_DER: Final = "application/octet-stream"
_CRL: Final = "application/pkix-crl"
_ROLES: Final = {"vcek": "ask", "vlek": "asvk"}
_SPL: Final = re.compile("[0-9]{1,3}")


class KeyDistribution:
    """What the maker of SNP chips publishes as ``timeline`` goes on, for the machines that it names, of every product."""

    def __init__(
        self, maker: AmdChipMaker, timeline: Timeline, *, known_to: AmdChipMaker | None = None
    ) -> None:
        """Publish for ``maker``; chips are looked up as those of ``known_to``, by default its own."""
        self._maker = maker
        self._known_to = known_to or maker
        self._timeline = timeline
        # Signatures are salted: what was published once is kept, so that it stays the same.
        self.vcek = lru_cache(256)(self._vcek)
        self._crl = lru_cache(64)(self._issue_crl)

    @cached_property
    def impostor(self) -> KeyDistribution:
        """The same, of somebody who uses the same names but has other keys."""
        other = AmdChipMaker.create(datetime.now(UTC))
        return KeyDistribution(other, self._timeline, known_to=self._known_to)

    def chain(self, product: Product, role: str) -> bytes:
        """Return the certificates of ``ask`` or ``asvk`` and of the root, in PEM."""
        pair = (self._maker.authority(product, role), self._maker.authority(product, "ark"))
        return b"".join(each.certificate.public_bytes(Encoding.PEM) for each in pair)

    def crl(self, product: Product, at: datetime) -> bytes:
        """Return the DER of the CRL of a product's root, which revokes nothing."""
        return self._crl(product, issued_at(at, self._timeline.publishing.reissue_hours))

    def _issue_crl(self, product: Product, begin: datetime) -> bytes:
        end = begin + timedelta(days=self._timeline.publishing.root_crl_days)
        return self._maker.authority(product, "ark").crl((), begin, end)

    def _vcek(self, product: Product, chip_id: bytes, tcb: Tcb) -> bytes | None:
        machine = self._machines(product).get(chip_id)
        # The service certifies what it has released, which is everything up to the current version.
        if machine is None or not TCBS[product].reaches(tcb):
            return None
        # The rule that the chip derives its key by; a machine of this TCB has the same one.
        key = derive_p384(machine.seed, f"vcek {tcb.pack().hex()}").public_key()
        lasting = read_endorsement_key(machine.certificate).window
        return self._maker.authority(product, "ask").issue(
            KeyIdentity(product, tcb, hardware_id=chip_id),
            key,
            lasting.start,
            lasting.end,
        )

    def _machines(self, product: Product) -> dict[bytes, SnpMachine]:
        names = dict.fromkeys(each.name for each in self._timeline.machines)
        machines = (self._known_to.machine(name, product) for name in names)
        return {each.chip_id: each for each in machines}


def kds_answers() -> dict[str, Answer]:
    """Return what answers each path."""
    table: dict[str, Answer] = {}
    for key, role in _ROLES.items():
        base = f"/{key}/v1/{{product}}"
        table |= {f"{base}/cert_chain": _chain(role), f"{base}/crl": _crl}
    # The last one, as a hardware id might be anything.
    return table | {"/vcek/v1/{product}/{hwid}": _vcek}


def _chain(role: str) -> Answer:
    def answer(call: Call) -> Response:
        kds, product = _published(call)
        return Response(kds.chain(product, role), media_type=_PEM)

    return answer


def _crl(call: Call) -> Response:
    kds, product = _published(call)
    return Response(kds.crl(product, call.at), media_type=_CRL)


def _vcek(call: Call) -> Response:
    kds, product = _published(call)
    turin = product is Product.TURIN
    size = 8 if turin else 64
    hwid = call.path["hwid"]
    if not re.fullmatch(f"[0-9A-Fa-f]{{{2 * size}}}", hwid):
        raise Refused(400)
    tcb = Tcb(
        fmc=_spl(call, "fmcSPL") if turin else None,
        bootloader=_spl(call, "blSPL"),
        tee=_spl(call, "teeSPL"),
        snp=_spl(call, "snpSPL"),
        microcode=_spl(call, "ucodeSPL"),
    )
    certificate = kds.vcek(product, bytes.fromhex(hwid), tcb)
    if certificate is None:
        raise Refused(404)
    return Response(certificate, media_type=_DER)


def _published(call: Call) -> tuple[KeyDistribution, Product]:
    product = next((each for each in Product if each.value == call.path["product"]), None)
    if product is None or call.kds is None:
        raise Refused(404)
    return call.kds, product


def _spl(call: Call, name: str) -> int:
    """Return a security patch level; one that is not given is 0."""
    text = call.query.get(name, "0")
    if not _SPL.fullmatch(text) or int(text) > 255:
        raise Refused(400)
    return int(text)
