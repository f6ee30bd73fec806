# SPDX-License-Identifier: Apache-2.0
"""A client of AMD's Key Distribution Service (KDS), or of a cache that speaks its language.

Paths and parameters from AMD's "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (57230),
chapter 4. Levels are decimal; Turin adds ``fmcSPL`` and has hardware ids of 8 bytes. Certificates of VLEKs are handed to cloud
providers only, so they are imported and not fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from eaa.endorser.history import VLEK
from eaa.endorser.http import Gate, checked, get
from eaa.rats import Endorsement, EndorsementError, NotFound
from eaa.tee.dcap.collateral_files import crl_from_bytes
from eaa.tee.snp.product import Product, Tcb, product_of_name
from eaa.tee.x509 import read_certificates

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

    from eaa.endorser.http import Answer
    from eaa.endorser.needs import Need

__all__ = ["AMD_KDS", "KdsSource", "levels_of", "tcb_of"]

AMD_KDS: Final = "https://kdsintf.amd.com"
_LEVELS: Final = {
    "fmcSPL": "fmc",
    "blSPL": "bootloader",
    "teeSPL": "tee",
    "snpSPL": "snp",
    "ucodeSPL": "microcode",
}


def levels_of(tcb: Tcb) -> dict[str, str]:
    """Return the parameters that name a TCB, in AMD's order."""
    levels = {name: getattr(tcb, field) for name, field in _LEVELS.items()}
    return {name: f"{level:02d}" for name, level in levels.items() if level is not None}


def tcb_of(query: Mapping[str, str], product: str) -> Tcb | None:
    """Return the TCB that the parameters name, or None when one is missing, out of range, or not of the product."""
    turin = product_of_name(product) is Product.TURIN
    levels: dict[str, int | None] = {"fmc": None}
    for name, field in _LEVELS.items():
        text = query.get(name, "")
        if name == "fmcSPL" and not turin:
            if text:
                return None
            continue
        if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 0xFF):
            return None
        levels[field] = int(text)
    return Tcb(**levels)  # type: ignore[arg-type] # only fmc may be None, and is for the lines before Turin


class KdsSource:
    """One KDS. Nothing that it says is verified here. ``roots`` limits whose word is asked for here, by the roots' ids.

    :raises ConfigurationError: when the URL is not https (or http to this machine).
    """

    def __init__(
        self,
        base_url: str,
        client: httpx2.AsyncClient,
        *,
        roots: frozenset[str] = frozenset(),
        gate: Gate | None = None,
    ) -> None:
        self.name = checked(base_url).rstrip("/")
        self._client = client
        self._roots = roots
        self._gate = gate
        self._chains: dict[tuple[str, str], bytes] = {}

    def offers(self, need: Need) -> bool:
        """Whether this kind of service can have it."""
        return need.kind in {"snp_vcek", "snp_chain", "snp_crl"} and (
            not self._roots or need.root in self._roots
        )

    async def fetch(self, need: Need) -> Endorsement:
        """Ask for one object.

        :raises NotFound: when the service does not have it.
        :raises UnavailableError: when it cannot be reached, or says that it is busy or broken.
        :raises EndorsementError: when the answer is not what it should be, too large, or a redirect.
        """
        product, *rest = need.scope.split("/")
        if need.kind == "snp_crl":
            key = "vlek" if need.slot == VLEK else "vcek"
            answer = await self._get(f"{self.name}/{key}/v1/{product}/crl", {})
            return Endorsement("snp_crl", _der_crl(answer))
        if need.kind == "snp_chain":
            return Endorsement("snp_chain", await self._chain(product, rest[0], fresh=True))
        if need.kind == "snp_vcek":
            hardware, tcb = rest
            levels = levels_of(Tcb.parse(bytes.fromhex(tcb), product_of_name(product)))
            answer = await self._get(f"{self.name}/vcek/v1/{product}/{hardware}", levels)
            return Endorsement("snp_vcek", answer.body, await self._chain(product, "vcek"))
        raise NotFound(f"{self.name} has no {need.kind}")

    async def _chain(self, product: str, key: str, *, fresh: bool = False) -> bytes:
        """Return the chain of an authority. It lasts for decades, so only who wants it for itself asks again."""
        place = (product, key)
        if fresh or place not in self._chains:
            answer = await self._get(f"{self.name}/{key}/v1/{product}/cert_chain", {})
            try:
                certificates = read_certificates(answer.body)
            except EndorsementError as error:
                raise EndorsementError(f"{answer.url}: {error}") from error
            self._chains[place] = b"".join(each.x509.public_bytes(Encoding.PEM) for each in certificates)
        return self._chains[place]

    async def _get(self, url: str, query: dict[str, str]) -> Answer:
        return await get(self._client, url, query, self._gate)


def _der_crl(answer: Answer) -> bytes:
    try:
        return crl_from_bytes(answer.body)
    except EndorsementError as error:
        raise EndorsementError(f"{answer.url}: {error}") from error
