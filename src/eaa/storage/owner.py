# SPDX-License-Identifier: Apache-2.0
"""Rows of policies and reference values, as statements on a connection whose transaction the caller holds.

Every change locks the one row of ``state`` first, so changes come one after the other and each makes the state's version grow.
"""

from __future__ import annotations

import json
from hashlib import sha384
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from eaa.rats import InputError, NotFound
from eaa.storage.records import PolicyInfo, PolicyKind, ReferenceValueInfo
from eaa.storage.schema import policies, policy_versions, reference_values, state
from eaa.storage.sealing import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Row, Select

__all__ = [
    "check_name",
    "check_text",
    "drop_policy",
    "drop_reference_value",
    "encoded_values",
    "policies_in_force",
    "policy_versions_of",
    "reference_values_at",
    "set_policy",
    "set_reference_values",
    "state_version",
]

NAME_LIMIT = 255


def check_name(name: str, what: str) -> None:
    """Accept a name that every database stores and every terminal shows unchanged.

    :raises InputError: for anything else.
    """
    if not 0 < len(name) <= NAME_LIMIT or not name.isprintable():
        raise InputError(
            f"{name[:NAME_LIMIT]!r} cannot name a {what}",
            hint=f"Use 1 to {NAME_LIMIT} printable characters.",
        )


def check_text(text: str) -> None:
    """Accept text that every database stores unchanged.

    :raises InputError: for text with NUL or lone surrogates.
    """
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise InputError("the policy is not Unicode text", hint="Save it as UTF-8.") from error
    if b"\0" in encoded:
        raise InputError("the policy contains a NUL character", hint="Save it as UTF-8 text.")


def lock_state(connection: Connection) -> None:
    """Wait for whoever is changing policies or reference values, and keep others waiting until the transaction ends."""
    connection.execute(select(state.c.version).where(state.c.id == 1).with_for_update())


def grow_state(connection: Connection) -> None:
    """Count one change."""
    connection.execute(update(state).where(state.c.id == 1).values(version=state.c.version + 1))


def state_version(connection: Connection) -> int:
    """Return how many changes were counted."""
    version: int = connection.execute(select(state.c.version).where(state.c.id == 1)).scalar_one()
    return version


# Policies


def _in_force() -> Select[Any]:
    p, v = policies.c, policy_versions.c
    joined = policies.join(
        policy_versions, (p.kind == v.kind) & (p.name == v.name) & (p.version == v.version)
    )
    return select(v.kind, v.name, v.version, v.digest, v.text, v.updated_at).select_from(joined)


def _info(row: Row[Any]) -> PolicyInfo:
    return PolicyInfo(row.kind, row.name, row.version, row.digest, row.text, row.updated_at)


def set_policy(connection: Connection, kind: PolicyKind, name: str, text: str, at: datetime) -> PolicyInfo:
    """Put ``text`` in force, as a new version unless it is in force already."""
    lock_state(connection)
    p, v = policies.c, policy_versions.c
    digest = sha384(text.encode()).hexdigest()
    current = connection.execute(_in_force().where(p.kind == kind, p.name == name)).one_or_none()
    if current is not None and current.digest == digest:
        return _info(current)
    latest = connection.scalar(select(func.max(v.version)).where(v.kind == kind, v.name == name))
    made = PolicyInfo(kind, name, (latest or 0) + 1, digest, text, at)
    connection.execute(
        insert(policy_versions).values(
            kind=kind, name=name, version=made.version, digest=digest, text=text, updated_at=at
        )
    )
    if current is None:
        connection.execute(insert(policies).values(kind=kind, name=name, version=made.version))
    else:
        connection.execute(
            update(policies).where(p.kind == kind, p.name == name).values(version=made.version)
        )
    grow_state(connection)
    return made


def policies_in_force(
    connection: Connection, kind: PolicyKind | None = None, name: str | None = None
) -> list[PolicyInfo]:
    """Return the current versions, in order of kind and name."""
    statement = _in_force()
    if kind is not None:
        statement = statement.where(policies.c.kind == kind)
    if name is not None:
        statement = statement.where(policies.c.name == name)
    found = [_info(row) for row in connection.execute(statement).all()]
    return sorted(found, key=lambda policy: (policy.kind, policy.name))


def policy_versions_of(connection: Connection, kind: PolicyKind, name: str) -> list[PolicyInfo]:
    """Return all versions, newest first."""
    v = policy_versions.c
    statement = select(policy_versions).where(v.kind == kind, v.name == name).order_by(v.version.desc())
    return [_info(row) for row in connection.execute(statement).all()]


def drop_policy(connection: Connection, kind: PolicyKind, name: str) -> None:
    """Take the policy out of force.

    :raises NotFound: when it is not in force.
    """
    lock_state(connection)
    statement = delete(policies).where(policies.c.kind == kind, policies.c.name == name)
    if connection.execute(statement).rowcount == 0:
        raise no_policy(kind, name)
    grow_state(connection)


def no_policy(kind: PolicyKind, name: str) -> NotFound:
    """Return the error that says that there is no such policy."""
    return NotFound(
        f"no {kind} policy {name[:NAME_LIMIT]!r}", hint="`eaa policy list` shows what is in force."
    )


# Reference values


def encoded_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Return name → JSON text.

    :raises InputError: when a name or value cannot be stored.
    """
    for name in values:
        check_name(name, "reference value")
    return {name: json_text(value, f"reference value {name!r}") for name, value in values.items()}


def set_reference_values(
    connection: Connection, values: Mapping[str, str], *, expires_at: datetime | None, at: datetime
) -> None:
    """Set every value, given as JSON text."""
    lock_state(connection)
    connection.execute(
        delete(reference_values).where(reference_values.c.name == bindparam("given")),
        [{"given": name} for name in values],
    )
    connection.execute(
        insert(reference_values),
        [
            {"name": name, "value": text, "expires_at": expires_at, "updated_at": at}
            for name, text in values.items()
        ],
    )
    grow_state(connection)


def reference_values_at(connection: Connection, at: datetime | None) -> list[ReferenceValueInfo]:
    """Return the values that count at ``at``, or all, in order of name."""
    statement = select(reference_values)
    if at is not None:
        expires_at = reference_values.c.expires_at
        statement = statement.where(or_(expires_at.is_(None), expires_at > at))
    rows = connection.execute(statement).all()
    found = [
        ReferenceValueInfo(row.name, json.loads(row.value), row.expires_at, row.updated_at) for row in rows
    ]
    return sorted(found, key=lambda value: value.name)


def drop_reference_value(connection: Connection, name: str) -> None:
    """Delete one value.

    :raises NotFound: when there is none of that name.
    """
    lock_state(connection)
    statement = delete(reference_values).where(reference_values.c.name == name)
    if connection.execute(statement).rowcount == 0:
        raise NotFound(
            f"no reference value {name[:NAME_LIMIT]!r}", hint="`eaa reference-value list` shows what is set."
        )
    grow_state(connection)
