# SPDX-License-Identifier: Apache-2.0
"""The statements on the tables of registered platforms and their PCK certificates.

Each function runs in a transaction that :mod:`eaa.storage.connections` has begun.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, insert, select, update

from eaa.endorser import history
from eaa.endorser.pck import PckCertificate, PckPlatform, RawTcb
from eaa.endorser.schema import objects, pck_certificates, pck_platforms, state
from eaa.rats import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row

    from eaa.endorser.needs import Need

__all__ = ["Held", "certificates", "find", "held", "needs", "put", "register", "registered"]

MAX_REGISTERED = 100_000
"""Most platforms that can be registered."""


class Held(NamedTuple):
    """What is there for one platform: how many certificates, when the last one was issued, and when the first one ends."""

    certificates: int
    issued: datetime
    next_update: datetime
    stored_at: datetime


def register(connection: Connection, platform: PckPlatform, at: datetime) -> bool:
    """Register a platform, or learn what is new about one; return whether anything was new.

    What is left empty stays as it was.

    :raises InputError: when there are too many.
    """
    connection.execute(select(state.c.version).with_for_update())
    known = find(connection, platform.qe_id, platform.pce_id)
    values = {name: value for name, value in _values(platform).items() if value}
    if known is not None:
        if values.items() <= _values(known).items():
            return False
        connection.execute(update(pck_platforms).where(_is(platform.qe_id, platform.pce_id)).values(values))
        return True
    if connection.scalars(select(func.count()).select_from(pck_platforms)).one() >= MAX_REGISTERED:
        raise InputError(
            f"{MAX_REGISTERED} platforms are registered, which is the most",
            hint="Keep further ones in another store.",
        )
    connection.execute(insert(pck_platforms).values({**_values(platform), "registered_at": at}))
    return True


def find(connection: Connection, qe_id: str, pce_id: str) -> PckPlatform | None:
    """Return one registered platform."""
    row = connection.execute(select(pck_platforms).where(_is(qe_id, pce_id))).one_or_none()
    return _platform(row) if row is not None else None


def registered(connection: Connection) -> list[PckPlatform]:
    """Return every registered platform."""
    order = (pck_platforms.c.qe_id, pck_platforms.c.pce_id)
    return [_platform(row) for row in connection.execute(select(pck_platforms).order_by(*order))]


def needs(connection: Connection) -> list[Need]:
    """Return what keeping their certificates is called, of all of them; without what is long about a platform."""
    c = pck_platforms.c
    rows = connection.execute(select(c.root, c.qe_id, c.pce_id).order_by(c.qe_id, c.pce_id))
    return [PckPlatform(*row).need for row in rows]


def put(
    connection: Connection,
    platform: PckPlatform,
    found: Iterable[PckCertificate],
    *,
    source: str,
    at: datetime,
) -> int:
    """Take proven certificates in, and return how many of them are new."""
    connection.execute(select(state.c.version).with_for_update())
    known = {
        (each.tcbm, each.certificate) for each in certificates(connection, platform.qe_id, platform.pce_id)
    }
    new = [each for each in found if (each.tcbm, each.certificate) not in known]
    for each in new:
        content, chain = (sha256(part).digest() for part in (each.certificate, each.issuer_chain))
        history.keep(connection, {content: each.certificate, chain: each.issuer_chain})
        connection.execute(
            insert(pck_certificates).values(
                qe_id=platform.qe_id,
                pce_id=platform.pce_id,
                root=each.root,
                ppid=each.ppid,
                fmspc=each.fmspc,
                ca=each.ca,
                tcbm=each.tcbm,
                components=each.components,
                pce_svn=each.pce_svn,
                issued=each.issued,
                next_update=each.next_update,
                content=content,
                issuer_chain=chain,
                stored_at=at,
                source=source,
            )
        )
    return len(new)


def certificates(connection: Connection, qe_id: str, pce_id: str) -> list[PckCertificate]:
    """Return a platform's certificates, of those with the same TCBm the last one."""
    c = pck_certificates.c
    content, chain = objects.alias(), objects.alias()
    statement = (
        select(pck_certificates, content.c.content.label("pem"), chain.c.content.label("chain_pem"))
        .join(content, content.c.digest == c.content)
        .join(chain, chain.c.digest == c.issuer_chain)
        .where((c.qe_id == qe_id) & (c.pce_id == pce_id))
        .order_by(c.id)
    )
    last = {row.tcbm: _certificate(row) for row in connection.execute(statement)}
    return list(last.values())


def held(connection: Connection) -> dict[str, Held]:
    """Return what there is, by the name of the need that it meets."""
    c = pck_certificates.c
    statement = select(
        c.root,
        c.qe_id,
        c.pce_id,
        func.count(c.tcbm.distinct()).label("certificates"),
        func.max(c.issued, type_=c.issued.type).label("issued"),
        func.min(c.next_update, type_=c.issued.type).label("next_update"),
        func.max(c.stored_at, type_=c.issued.type).label("stored_at"),
    ).group_by(c.root, c.qe_id, c.pce_id)
    return {
        PckPlatform(row.root, row.qe_id, row.pce_id).need.name: Held(
            row.certificates, row.issued, row.next_update, row.stored_at
        )
        for row in connection.execute(statement)
    }


def _is(qe_id: str, pce_id: str) -> ColumnElement[bool]:
    return (pck_platforms.c.qe_id == qe_id) & (pck_platforms.c.pce_id == pce_id)


def _values(platform: PckPlatform) -> dict[str, str]:
    raw = platform.raw_tcb
    return {
        "root": platform.root,
        "qe_id": platform.qe_id,
        "pce_id": platform.pce_id,
        "encrypted_ppid": platform.encrypted_ppid,
        "manifest": platform.manifest,
        "cpu_svn": raw.cpu_svn.hex() if raw else "",
        "pce_svn": raw.pce_svn_hex if raw else "",
    }


def _platform(row: Row[Any]) -> PckPlatform:
    raw = RawTcb.of(row.cpu_svn, row.pce_svn) if row.cpu_svn else None
    return PckPlatform(row.root, row.qe_id, row.pce_id, row.encrypted_ppid, row.manifest, raw)


def _certificate(row: Row[Any]) -> PckCertificate:
    return PckCertificate(
        certificate=row.pem,
        issuer_chain=row.chain_pem,
        root=row.root,
        ppid=row.ppid,
        fmspc=row.fmspc,
        ca=row.ca,
        tcbm=row.tcbm,
        components=row.components,
        pce_svn=row.pce_svn,
        issued=row.issued,
        next_update=row.next_update,
    )
