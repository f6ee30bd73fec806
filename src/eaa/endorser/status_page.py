# SPDX-License-Identifier: Apache-2.0
"""The diagnosis as a page for people: one table, worst first, no script.

The page is built as a tree of elements and written out by the standard library, which escapes every text: what a source said in an
error cannot become markup. The only style is the one below, and the policy sent with the page admits no other.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from eaa.endorser.authenticity import TCB_EVALUATION_NUMBERS
from eaa.endorser.history import STANDARD
from eaa.endorser.needs import FMSPCS, PCK_CERTIFICATES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa.endorser.doctor import Diagnosis, Health
    from eaa.endorser.needs import Need

__all__ = ["PAGE_HEADERS", "render_status"]

_STYLE: Final = """
:root { color-scheme: light dark; --bg: #fff; --fg: #1a1a1a; --dim: #5a5a5a; --line: #d5d5d5; --bad: #a11212; --warn: #855300; --ok: #1c6b2c; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #16181b; --fg: #e8e8e8; --dim: #a6a6a6; --line: #3a3d42; --bad: #ff8a80; --warn: #f2b84b; --ok: #7ed491; }
}
body { background: var(--bg); color: var(--fg); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; }
p { margin: .25rem 0 1.25rem; }
table { border-collapse: collapse; width: 100%; }
caption { color: var(--dim); padding-bottom: .5rem; text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: .5rem .75rem .5rem 0; text-align: left; vertical-align: top; }
thead th { color: var(--dim); font-size: .875rem; font-weight: 600; }
tbody th { font-weight: 600; width: 32%; overflow-wrap: anywhere; }
small { color: var(--dim); display: block; font-size: .875rem; font-weight: 400; overflow-wrap: anywhere; }
.state { font-weight: 600; white-space: nowrap; }
.ok { color: var(--ok); } .expiring { color: var(--warn); } .expired, .missing { color: var(--bad); }
.time { white-space: nowrap; }
.note { overflow-wrap: anywhere; }
@media (max-width: 48rem) {
  thead { clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; width: 1px; }
  tr, tbody th, td { display: block; width: auto; } tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  tbody th, td { border: 0; padding: .125rem 0; } td[data-of]::before { color: var(--dim); content: attr(data-of) ": "; }
}
"""
_DIGEST: Final = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}
_WORST_FIRST: Final = ("expired", "missing", "expiring", "ok")
_KINDS: Final = {
    "tcb_info": "TCB info",
    "qe_identity": "Enclave identity",
    "pck_crl": "CRL of PCK certificates",
    "root_ca_crl": "CRL of the root",
    TCB_EVALUATION_NUMBERS: "TCB evaluation numbers",
    PCK_CERTIFICATES: "PCK certificates of a platform",
    FMSPCS: "List of FMSPCs",
    "snp_vcek": "VCEK certificate",
    "snp_vlek": "VLEK certificate",
    "snp_chain": "Chain of AMD's authority",
    "snp_crl": "CRL of AMD's root",
}


def render_status(diagnosis: Diagnosis) -> bytes:
    """Return the page in HTML."""
    page = ET.Element("html", lang="en")
    head = ET.SubElement(page, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    ET.SubElement(head, "meta", {"http-equiv": "refresh", "content": "60"})
    healthy = "Healthy" if diagnosis.healthy else "Not healthy"
    _text(head, "title", f"{healthy}: Endorser")
    _text(head, "style", _STYLE)
    main = ET.SubElement(ET.SubElement(page, "body"), "main")
    _text(main, "h1", f"Endorser: {healthy.lower()}", css="ok" if diagnosis.healthy else "missing")
    _text(main, "p", _summary(diagnosis))
    _table(main, diagnosis)
    document: bytes = ET.tostring(page, encoding="utf-8", method="html")
    return b"<!doctype html>\n" + document


def _summary(diagnosis: Diagnosis) -> str:
    counts = [
        f"{number} {state}"
        for state in _WORST_FIRST
        if (number := sum(each.state == state for each in diagnosis.objects))
    ]
    waiting = sum(bool(each.platforms) and each.state in {"missing", "expired"} for each in diagnosis.objects)
    objects = f"{len(diagnosis.objects)} objects ({', '.join(counts)})" if counts else "No objects"
    needed = f", {waiting} of them needed by platforms seen and not usable" if waiting else ""
    return f"{objects}{needed}; {diagnosis.platforms} platforms seen. As of {_moment(diagnosis.at)}."


def _table(parent: ET.Element, diagnosis: Diagnosis) -> None:
    table = ET.SubElement(parent, "table")
    _text(table, "caption", "What is held and what is needed, worst first. Times are UTC.")
    row = ET.SubElement(ET.SubElement(table, "thead"), "tr")
    for title in ("Object", "State", "Issued", "Expires", "Next refresh", "Last error and remedy"):
        _text(row, "th", title, scope="col")
    body = ET.SubElement(table, "tbody")
    for each in _sorted(diagnosis.objects):
        _row(body, each, diagnosis.at)


def _sorted(objects: Iterable[Health]) -> list[Health]:
    return sorted(objects, key=lambda each: (_WORST_FIRST.index(each.state), not each.vital, each.need.name))


def _row(body: ET.Element, health: Health, at: datetime) -> None:
    row = ET.SubElement(body, "tr")
    name = _text(row, "th", _title(health.need), scope="row")
    _text(name, "small", _subject(health))
    state = _text(row, "td", health.state, css=f"state {health.state}", **{"data-of": "State"})
    if not health.vital:
        _text(state, "small", "verifying does without")
    for what, when in (
        ("Issued", health.issued),
        ("Expires", health.next_update),
        ("Next refresh", health.next_refresh),
    ):
        _time(row, what, when, at)
    note = ET.SubElement(row, "td", {"class": "note"})
    if health.error:
        note.text = f"Failed {health.failures} times: {health.error}"
    if health.remedy and (health.error or health.state != "ok"):
        _text(note, "small", health.remedy)


def _time(row: ET.Element, what: str, when: datetime | None, at: datetime) -> None:
    cell = ET.SubElement(row, "td", {"class": "time", "data-of": what})
    if when is None:
        cell.text = "none"
        return
    span = when - at
    cell.text = f"in {_span(span)}" if span > timedelta() else f"{_span(-span)} ago"
    _text(cell, "small", _moment(when))


def _title(need: Need) -> str:
    channel = "" if need.slot == STANDARD else f", {need.slot.replace('#', 'number ')}"
    return f"{_KINDS.get(need.kind, need.kind)}{channel}"


def _subject(health: Health) -> str:
    parts = [health.need.scope.replace("/", " ")] if health.need.scope else []
    if health.evaluation_number:
        parts.append(f"evaluation number {health.evaluation_number}")
    if health.platforms:
        parts.append(f"for {health.platforms} platform{'s' if health.platforms > 1 else ''} seen")
    parts.append(f"from {health.source}" if health.source else f"below root {health.need.root}")
    return ", ".join(parts)


def _span(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    for size, unit in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size * 2 or size == 1:
            number = minutes // size
            return f"{number} {unit}{'' if number == 1 else 's'}"
    raise AssertionError


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"


def _text(parent: ET.Element, tag: str, text: str, *, css: str = "", **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes | ({"class": css} if css else {}))
    element.text = text
    return element
