# SPDX-License-Identifier: Apache-2.0
"""Where reference values came from, in lines for a person."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["explanation", "verified_origins"]


def explanation(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines about one set, given as Verdictd's answer has it."""
    ended = ", expired" if found["expired"] else ""
    yield f"{found['product']} version {found['version']} for {found['tee']}: {found['state']}{ended}"
    yield f"  set {found['digest']}, issued {found['issued_at']}, valid {_until(found)}"
    if found["note"]:
        yield f"  note: {found['note']}"
    for each in found["registers"]:
        if each["register"] in found.get("matched_registers", [each["register"]]):
            yield from _register(each)
    yield "computed from"
    for each in found["artifacts"]:
        yield from (f"  {each['name']:<12} {name}:{digest}" for name, digest in each["digest"].items())
    yield from _builds(found["provenance"])
    for each in found["built_by"]:
        yield f"  {each['artifact']:<12} built by {each['builder']}, as whoever made the set verified"
    if "origins" in found:
        yield from _origins(found["origins"])
    yield f"signed by {len(found['signed_by'])} of the product's signers, {found['threshold']} must"
    yield from (f"  key {each}" for each in found["signed_by"])
    yield "history"
    for each in found["history"]:
        why = f": {each['why']}" if each["why"] else ""
        yield f"  {each['at']} {each['action']} by {each['who']}{why}"


def verified_origins(found: Mapping[str, Any], builders: Path) -> dict[str, Any]:
    """Return which of the builders in a file made the set's artifacts, as its provenance shows.

    :raises ConfigurationError: when the file cannot be used.
    """
    from eaa.cli._verdict_build import read_builders  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.origins import origins_of  # noqa: PLC0415

    artifacts = {each["name"]: each["digest"].get("sha256", "") for each in found["artifacts"]}
    kept = [b64decode(each["envelope"]) for each in found["provenance"] if "envelope" in each]
    return origins_of(artifacts, kept, read_builders(builders)).to_json()


def _origins(origins: Mapping[str, Any]) -> Iterator[str]:
    yield "built alike, as verified"
    for name, builders in origins["builders"].items():
        yield f"  {name:<12} {', '.join(builders) or 'by no trusted builder'}"
    yield from (f"  not counted: {reason}" for reason in origins["refused"])


def _until(found: Mapping[str, Any]) -> str:
    return f"until {found['expires_at']}" if found["expires_at"] else "without an end"


def _register(each: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"  {each['register']:<12} {value}" for value in each["values"])
    yield from (f"    from {part['name']:<12} {part['digest']}" for part in each["inputs"])


def _builds(provenance: list[dict[str, Any]]) -> Iterator[str]:
    if not provenance:
        yield "no provenance is named: nobody has said how these were built"
        return
    builders = {each["builder"] for each in provenance if each.get("builder")}
    yield f"built, as {len(builders)} builders say" if builders else "built"
    for each in provenance:
        if "predicate_type" not in each:
            yield f"  provenance sha256:{each['digest']}, which is not kept here"
            continue
        names = ", ".join(subject["name"] for subject in each["subject"])
        yield f"  {names} by {each['builder'] or 'a builder without a name'}, keys {', '.join(each['signed_by'])}"
        if each["build_type"]:
            yield f"    as {each['build_type']}"
        for source in each["sources"][:20]:
            if isinstance(source, dict):
                yield f"    from {source.get('uri') or source.get('name')}"
