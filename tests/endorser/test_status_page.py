# SPDX-License-Identifier: Apache-2.0
"""The status as a page: everything that the doctor says, worst first, and nothing that could run."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any, Final

import httpx2
import pytest

from eaa.endorser.doctor import Diagnosis, Health
from eaa.endorser.needs import Need
from eaa.endorser.serve import create_app
from eaa.endorser.status_page import PAGE_HEADERS, render_status

AT: Final = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOSTILE: Final = '</td><script>alert(1)</script><img src=x onerror="x">&amp;'


def health(kind: str = "tcb_info", scope: str = "tdx/50806f000000", **changes: Any) -> Health:
    """Return an object that is well, but for ``changes``."""
    fields: dict[str, Any] = {
        "state": "ok",
        "vital": True,
        "platforms": 0,
        "issued": AT - 3 * DAY,
        "next_update": AT + 27 * DAY,
        "stored_at": AT - 3 * DAY,
        "source": "https://pcs.example",
        "evaluation_number": 19,
        "next_refresh": AT + 90 * timedelta(minutes=1),
        "failures": 0,
        "error": "",
        "remedy": "",
    }
    slot = changes.pop("slot", "standard")
    return Health(Need(kind, "root", scope, slot), **{**fields, **changes})


class Reader(HTMLParser):
    """Collects a page's tags, and its texts by row of the table."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1] += f"{data}|"


def test_page_says_everything_worst_first() -> None:
    objects = (
        health(),
        health(slot="early", vital=False, evaluation_number=20),
        health("pck_crl", "platform", state="expired", next_update=AT - 36 * HOUR, platforms=12, failures=3,
               error="https://pcs.example answers 503", remedy="Try again later."),
        health("snp_vcek", "Genoa/ab", state="missing", issued=None, next_update=None, next_refresh=None,
               source="", evaluation_number=0, remedy="Import it."),
        health("qe_identity", "QE", state="expiring", error="no", remedy="Ask another."),
    )  # fmt: skip
    page = render_status(Diagnosis(AT, objects, 13))
    reader = Reader(page)
    assert b"Endorser: not healthy" in page
    assert b"5 objects (1 expired, 1 missing, 1 expiring, 2 ok), 1 of them needed by platforms seen" in page
    head, expired, missing, expiring, well, early = reader.rows
    assert "Next refresh" in head
    assert expired.startswith("CRL of PCK certificates|platform, evaluation number 19, for 12 platforms seen")
    for part in ("|expired|", "|3 days ago|", "|36 hours ago|", "|in 90 minutes|", "|2026-11-28 13:30|"):
        assert part in expired
    assert "Failed 3 times: https://pcs.example answers 503|Try again later.|" in expired
    assert missing.count("|none") == 3
    assert missing.endswith("Import it.|")
    assert "Ask another." in expiring
    assert "|ok|" in well
    assert early.startswith("TCB info, early|")
    assert "verifying does without" in early


def test_nothing_that_a_source_said_becomes_markup() -> None:
    objects = [
        health(error=HOSTILE, remedy=HOSTILE, source=HOSTILE, state=state) for state in ("ok", "missing")
    ]
    objects.append(health(HOSTILE, HOSTILE))
    page = render_status(Diagnosis(AT, tuple(objects), 0))
    reader = Reader(page)
    assert not {"script", "img"} & set(reader.tags)
    assert not any(name.startswith("on") or name in {"src", "href", "style"} for name, _ in reader.attributes)
    assert "".join(reader.rows).count(HOSTILE) >= 6


def test_policy_admits_the_style_of_the_page_and_nothing_else() -> None:
    page = render_status(Diagnosis(AT, (), 0)).decode()
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    policy = PAGE_HEADERS["Content-Security-Policy"].split("; ")
    assert policy[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert "unsafe" not in "".join(policy)
    assert "No objects; 0 platforms seen" in page


@pytest.mark.anyio
async def test_browsers_get_the_page_and_programs_json(worlds: Any) -> None:
    world = worlds()
    store, refresher = await world.replica()
    app = create_app(store, world.maker.trust_anchor(), wanted=world.needs)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://e.invalid") as client:
        browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
        for status in (503, 200):
            for path, headers, kind in (
                ("/status", {}, "application/json"),
                ("/status", {"Accept": "application/json"}, "application/json"),
                ("/status", browser, "text/html"),
                ("/status.html", {}, "text/html"),
            ):
                answer = await client.get(path, headers=headers)
                assert (answer.status_code, answer.headers["vary"]) == (status, "Accept")
                assert answer.headers["content-type"].startswith(kind)
                assert ("content-security-policy" in answer.headers) == (kind == "text/html")
            await refresher.step()
