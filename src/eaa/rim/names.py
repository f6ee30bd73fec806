# SPDX-License-Identifier: Apache-2.0
"""The reference values of a CoRIM by name, as Trustee's reference value service names them.

A name is what identifies the value, joined by slashes: the class's vendor and model, the measurement's key, name and serial number, and
``digests``, ``raw_bytes`` or ``svn``; registers, of which Trustee knows nothing, are ``registers/NAME``. Where a manifest follows AMD's
profile, its keys are the fields of the attestation report, and the names are our registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from eaa.rim.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eaa.rim.corim import Corim, Measurement, Triple

__all__ = ["named_values"]

_AMD: Final = "1.3.6.1.4.1.3704.3."
"""OIDs of SEV-SNP's environments (draft-deeglaze-amd-sev-snp-corim-profile)."""
_SNP: Final[Mapping[int, str]] = {
    1: "guest_svn",
    3: "family_id",
    4: "image_id",
    641: "measurement",
    642: "host_data",
    643: "id_key_digest",
    644: "author_key_digest",
}
"""Keys of that profile that are about software. The others are of the platform or of one report, which no owner expects."""


def named_values(corim: Corim) -> tuple[dict[str, list[str]], list[str]]:
    """Return the values by name, and in words what of the manifest is not among them.

    Measurements of one element are alternatives, any of which it may have; Trustee takes the last.

    :raises ManifestError: when two elements have one name: they would pass for each other.
    """
    values: dict[str, list[str]] = {}
    owners: dict[str, tuple[bytes, bytes]] = {}
    for element, name, found in _all_values(corim):
        if owners.setdefault(name, element) != element:
            raise ManifestError(
                f"two elements of the manifest are named {name[:200]!r}",
                hint="Give each a key of its own (mkey), or import them as two manifests.",
            )
        listed = values.setdefault(name, [])
        listed += [each for each in found if each not in listed]
    notes = [f"tags that are no CoMID are not read ({corim.unread})"] if corim.unread else []
    for comid in corim.comids:
        if comid.unread:
            notes.append(f"{comid.tag_id}: triples of other kinds are not read ({comid.unread})")
        unread = sum(_unread(triple) for triple in comid.triples)
        if unread:
            notes.append(f"{comid.tag_id}: values of other kinds are not read ({unread})")
    return values, notes


def _all_values(corim: Corim) -> Iterator[tuple[tuple[bytes, bytes], str, list[str]]]:
    for comid in corim.comids:
        for triple in comid.triples:
            for each in triple.measurements:
                element = triple.identity, each.identity
                for name, found in _snp_values(each) if _is_snp(triple) else _values(triple, each):
                    yield element, name, found


def _is_snp(triple: Triple) -> bool:
    return isinstance(triple.class_id, str) and triple.class_id.startswith(_AMD)


def _unread(triple: Triple) -> int:
    if _is_snp(triple):
        return sum(each.key not in _SNP for each in triple.measurements)
    return sum(each.unread for each in triple.measurements)


def _snp_values(measurement: Measurement) -> Iterator[tuple[str, list[str]]]:
    name = _SNP.get(measurement.key) if isinstance(measurement.key, int) else None
    if name is None:
        return
    if measurement.digests:
        yield name, [digest.hex() for _, digest in measurement.digests]
    elif measurement.raw is not None:
        yield name, [measurement.raw.hex()]
    elif measurement.svn is not None:
        yield name, [str(measurement.svn)]


def _values(triple: Triple, measurement: Measurement) -> Iterator[tuple[str, list[str]]]:
    key = measurement.key
    shown = f"claim{key}" if isinstance(key, int) else str(key) if isinstance(key, UUID) else key
    parts = (triple.vendor, triple.model, shown, measurement.name, measurement.serial)
    base = "".join(f"{part}/" for part in parts if part is not None)
    if measurement.digests:
        yield f"{base}digests", [digest.hex() for _, digest in measurement.digests]
    if measurement.raw is not None:
        yield f"{base}raw_bytes", [measurement.raw.hex()]
    if measurement.svn is not None:
        yield f"{base}svn", [str(measurement.svn)]
    if measurement.number is not None:
        yield f"{base}number", [str(measurement.number)]
    for name, digests in measurement.registers:
        yield f"{base}registers/{name}", [digest.hex() for _, digest in digests]
