# SPDX-License-Identifier: Apache-2.0
"""Where reference values came from, in lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["explanation"]


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
    yield f"signed by {len(found['signed_by'])} of the product's signers, {found['threshold']} must"
    yield from (f"  key {each}" for each in found["signed_by"])
    yield "history"
    for each in found["history"]:
        why = f": {each['why']}" if each["why"] else ""
        yield f"  {each['at']} {each['action']} by {each['who']}{why}"


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
