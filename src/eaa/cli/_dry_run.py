# SPDX-License-Identifier: Apache-2.0
"""Dry runs of a candidate policy over what a Verdictd has on record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eaa.cli._admin_client import AdminClient
    from eaa.verifier.dry_run import Comparison
    from eaa.verifier.expected_sets import ExpectedSets

__all__ = ["dry_run", "dry_run_lines"]

_SHOWN: Final = 20
"""Lines of changes that a person is shown; JSON has all of them."""


async def dry_run(
    client: AdminClient, kind: str, name: str, candidate: str, *, limit: int, paths: Sequence[str]
) -> list[Comparison]:
    """Compare the candidate with the policy in force on the latest ``limit`` verdicts.

    A resource policy is asked about ``paths``, by default about all that is stored and all that was released.

    :raises PolicyError: when the candidate is no policy of this kind.
    """
    from eaa.verifier.dry_run import compare_attestation, compare_release  # noqa: PLC0415 - --help needs none of it
    from eaa.verifier.policy import PolicyEngine  # noqa: PLC0415

    async with PolicyEngine(processes=1) as engine:
        await engine.validate(candidate, kind)
        current = _in_force(client, kind, name)
        listed = client.get("/eaa/v0/verdicts", limit=limit)["verdicts"]
        records = [client.get(f"/eaa/v0/verdicts/{each['id']}") for each in listed]
        if kind == "attestation":
            values, sets = _reference_values(client), _active_sets(client)
            return [
                await compare_attestation(
                    engine,
                    _document(record),
                    current=current,
                    candidate=candidate,
                    reference_values=values,
                    sets=sets,
                    at=datetime.now(UTC),
                )
                for record in records
            ]
        stored = list(paths) or _stored(client)
        compared: list[Comparison] = []
        for record in records:
            if not record["accepted"]:
                continue  # no session and no token came of it
            asked = stored if paths else sorted({*stored, *(each["path"] for each in record["releases"])})
            compared += await compare_release(
                engine, _document(record), asked, current=current, candidate=candidate
            )
        return compared


def _document(record: dict[str, Any]) -> dict[str, Any]:
    return {"id": record["id"], **record["document"]}


def _in_force(client: AdminClient, kind: str, name: str) -> str | None:
    try:
        return str(client.get(f"/eaa/v0/policies/{kind}/{name}")["text"])
    except NotFound:
        return None


def _reference_values(client: AdminClient) -> dict[str, Any]:
    """Return the reference values that count now."""
    now = datetime.now(UTC)
    listed = client.get("/eaa/v0/reference-values")["reference_values"]
    return {
        each["name"]: each["value"]
        for each in listed
        if each["expires_at"] is None or datetime.fromisoformat(each["expires_at"]) > now
    }


def _active_sets(client: AdminClient) -> ExpectedSets:
    """Return the active sets, whose signatures Verdictd vouches for here."""
    from eaa.verifier.expected_sets import ExpectedSet, ExpectedSets  # noqa: PLC0415

    base = "/eaa/v0/reference-sets"
    listed = client.get(base, state="active")["reference_sets"]
    found = [client.get(f"{base}/{each['digest']}") for each in listed]
    return ExpectedSets(
        ExpectedSet(
            each["product"],
            each["version"],
            each["tee"],
            {register["register"]: register["values"] for register in each["registers"]},
            expires_at=datetime.fromisoformat(each["expires_at"]) if each["expires_at"] else None,
        )
        for each in found
    )


def _stored(client: AdminClient) -> list[str]:
    listed = client.get("/eaa/v0/resources")["resources"] + client.get("/eaa/v0/keys")["keys"]
    return sorted(each["path"] for each in listed)


def dry_run_lines(compared: Sequence[Comparison]) -> Iterator[str]:
    """Yield what would change, then how much of what was looked at that is."""
    changed = [each for each in compared if each.changes]
    unasked = [each for each in compared if not each.before]
    for each in changed[:_SHOWN]:
        about = f"{each.path}: " if each.path else ""
        claims = ", ".join(f"{name} {old} → {new}" for name, (old, new) in each.claims.items())
        yield f"verdict {each.verdict}: {about}{each.before} → {each.after}" + (
            f" ({claims})" if claims else ""
        )
        yield from (f"    {reason}" for reason in each.reasons)
    if len(changed) > _SHOWN:
        yield f"and {len(changed) - _SHOWN} more; --json shows them all"
    for reason in dict.fromkeys(reason for each in unasked for reason in each.reasons):
        count = sum(reason in each.reasons for each in unasked)
        yield f"{count} left out: {reason}"
    asked = len(compared) - len(unasked)
    yield (
        f"{len(changed)} of {asked} decisions would change"
        if asked
        else "there is nothing on record to ask about"
    )
