# SPDX-License-Identifier: Apache-2.0
"""Signed sets in Verdictd: what they admit, what they refuse and why, and their administration."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from eaa._keys import new_key, read_private_key
from eaa.simulator.measure import DEFAULT_IMAGE, measure
from eaa.verdict.corim import signed_corim_of
from eaa.verdict.envelope import parse_envelope, seal
from eaa.verdict.reference_set import Input, ReferenceSet, RegisterValue
from eaa.verdict.service import ReferenceSets
from eaa.verdict.signer_watch import SignerWatch
from eaa.verdict.signers import SignerPolicy, Signers
from eaa.verdict.statement import Artifact

from .conftest import Kit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx2

pytestmark = pytest.mark.anyio

REGISTERS = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")
KEY = read_private_key(new_key()[0])
BASE = "/eaa/v0/reference-sets"


class Verdict(Kit):
    """A Verdictd with signed sets, and whoever signs them."""

    policies: list[SignerPolicy]
    watch: SignerWatch

    def envelope(self, version: int = 1, image: str = DEFAULT_IMAGE, **changes: Any) -> dict[str, Any]:
        """Return the signed set of what an image measures to."""
        registers = {**measure(image), **changes.pop("registers", {})}
        fields: dict[str, Any] = {
            "product": "acme/web",
            "version": version,
            "tee": "tdx",
            "registers": tuple(
                RegisterValue(name, (registers[name],), (Input("kernel", registers[name]),))
                for name in REGISTERS
            ),
            "artifacts": (Artifact.of("image", image.encode()),),
            "issued_at": self.clock(),
        }
        statement = ReferenceSet(**fields | changes).to_statement()
        sealed: dict[str, Any] = json.loads(seal(statement, [KEY]))
        return sealed

    async def propose(self, *args: Any, **changes: Any) -> httpx2.Response:
        body = {"envelope": self.envelope(*args, **changes), "why": "a test"}
        return await self.client.post(BASE, headers=self.admin, json=body)

    async def do(self, action: str, name: str = "acme/web@1", **body: Any) -> httpx2.Response:
        return await self.client.post(f"{BASE}/{name}/{action}", headers=self.admin, json=body)

    async def activate(self, *args: Any, **changes: Any) -> str:
        proposed = (await self.propose(*args, **changes)).json()
        done = await self.do("activate", proposed["digest"], why="it is good")
        assert done.status_code == 200, done.text
        return str(proposed["digest"])

    async def released(self, **guest: Any) -> bool:
        """Attest a guest and ask for the secret, a moment after the one before."""
        self.clock.forward(milliseconds=1)
        _, cookie, key = await self.handshake(**guest)
        response = await self.fetch(cookie=cookie)
        return response.status_code == 200 and self.opened(response, key) == self.SECRET

    async def last_check(self, check: str) -> dict[str, Any]:
        """Return a check of the newest verdict, as its owner sees it."""
        newest = (await self.services.database.list_verdicts(1))[0]
        found: dict[str, Any] = next(
            each for each in newest.document["appraisal"]["checks"] if each["id"] == check
        )
        return found


@pytest.fixture
async def verdict(kit: Kit, tmp_path: Path) -> AsyncIterator[Verdict]:
    """A Verdictd with no reference values and no sets, and one key that signs acme's products."""
    policies = [SignerPolicy((Signers("acme/*", {"release": KEY.public_key()}, 1),))]
    sets = await ReferenceSets.open(
        f"sqlite:///{tmp_path / 'verdictd.db'}", signers=lambda: policies[0], clock=kit.clock
    )
    try:
        services = replace(kit.services, sets=sets)
        async with (made := Verdict(services, kit.credential, kit.collateral, kit.clock)).client:
            made.policies = policies
            made.watch = SignerWatch(lambda: policies[0], sets.count_change)
            yield made
    finally:
        await sets.close()


async def test_an_active_set_releases_and_no_other_state_does(verdict: Verdict) -> None:
    """From proposed to revoked, without a restart: each change holds at the next request."""
    assert not await verdict.released()
    assert (await verdict.propose()).status_code == 201
    assert not await verdict.released()
    for action, released in (("activate", True), ("retire", False), ("rollback", True), ("revoke", False)):
        done = await verdict.do(action)
        assert done.status_code == 200, done.text
        assert await verdict.released() is released


async def test_a_set_releases_until_its_end(verdict: Verdict) -> None:
    """Nobody changes anything: the end comes by itself."""
    await verdict.activate(expires_at=verdict.clock().replace(hour=13))
    assert await verdict.released()
    verdict.clock.forward(hours=1)
    assert not await verdict.released()
    assert "which expired at" in (await verdict.last_check("reference.set"))["found"]


async def test_the_verdict_names_the_set(verdict: Verdict) -> None:
    await verdict.activate(7)
    assert await verdict.released()
    check = await verdict.last_check("reference.set")
    assert (check["result"], check["found"]) == ("pass", "acme/web version 7")


async def test_two_products_are_not_mixed(verdict: Verdict) -> None:
    """One product's kernel under another's firmware: each register is an active one, and the guest is refused; both alone pass."""
    await verdict.activate()
    await verdict.activate(1, "another image", product="acme/db")
    other = measure("another image")
    mixed = {"rtmr_1": bytes.fromhex(other["rtmr_1"])}
    assert not await verdict.released(registers=mixed)
    check = await verdict.last_check("reference.set")
    assert check["result"] == "fail"
    assert "rtmr_1 is that of acme/db version 1" in check["found"]
    assert await verdict.released()
    assert await verdict.released(image="another image")


async def test_the_owner_learns_which_input_differs_and_the_guest_does_not(verdict: Verdict) -> None:
    await verdict.activate()
    response, cookie, _ = await verdict.handshake(registers={"rtmr_1": bytes(48)})
    refused = await verdict.fetch(cookie=cookie)
    assert "reference.set" in refused.text
    assert "it follows from kernel" in (await verdict.last_check("reference.tdx.rtmr_1"))["found"]
    assert "acme/web" not in refused.text + response.text


async def test_own_values_and_sets_count_side_by_side(verdict: Verdict) -> None:
    await verdict.activate()
    await verdict.expect_software("the owner's own")
    assert await verdict.released()
    assert await verdict.released(image="the owner's own")
    assert (await verdict.last_check("reference.set"))["found"] == "the owner's own values"
    assert not await verdict.released(image="nobody's")


async def test_a_change_says_which_known_workloads_it_admits_or_refuses(verdict: Verdict) -> None:
    """The guests that attested before are what a change is tried on: first as a dry run, then in earnest, with one answer."""
    await verdict.activate(1)
    assert await verdict.released()
    assert await verdict.released()
    assert not await verdict.released(image="version two")
    assert (await verdict.propose(2, "version two", supersedes=1)).status_code == 201
    dry = (await verdict.do("activate", "acme/web@2", dry_run=True)).json()
    assert dry["done"] is False
    assert dry["looked_at"] == 2
    told = {(each["before"], each["after"]) for each in dry["changes"]}
    assert told == {("admit", "refuse"), ("refuse", "admit")}
    refused = next(each for each in dry["changes"] if each["after"] == "refuse")
    assert refused["reasons"][0] == "before: acme/web version 1"
    assert await verdict.released(), "a dry run changes nothing"
    done = (await verdict.do("activate", "acme/web@2")).json()
    assert done["done"] is True
    assert {each["verdict"] for each in done["changes"]} >= {each["verdict"] for each in dry["changes"][:1]}
    assert not await verdict.released()
    assert await verdict.released(image="version two")


async def test_a_dry_run_asks_the_policy_too(verdict: Verdict) -> None:
    """What the set admits and the policy does not is no admission."""
    assert not await verdict.released()
    await verdict.propose()
    assert (await verdict.do("activate", dry_run=True)).json()["changes"] != []
    await verdict.services.database.put_policy(
        "attestation", "default_cpu", 'package policy\n\ntrust_claims := {"executables": 33}\n'
    )
    assert (await verdict.do("activate", dry_run=True)).json()["changes"] == []
    await verdict.services.database.delete_policy("attestation", "default_cpu")
    assert (await verdict.do("activate", dry_run=True)).json()["changes"] == []


async def test_refusals_name_the_rule(verdict: Verdict) -> None:
    foreign = verdict.envelope(product="other/web")
    refused = await verdict.client.post(BASE, headers=verdict.admin, json={"envelope": foreign})
    assert (refused.status_code, refused.json()["error"]["check"]) == (403, "signature.product")
    altered = verdict.envelope()
    altered["payload"] = altered["payload"][:-4] + "AAA="
    refused = await verdict.client.post(BASE, headers=verdict.admin, json={"envelope": altered})
    assert refused.status_code in {400, 403}
    await verdict.activate(2)
    await verdict.propose(1)
    refused = await verdict.do("activate", "acme/web@1")
    assert (refused.status_code, refused.json()["error"]["check"]) == (403, "set.downgraded")
    refused = await verdict.do("activate", "acme/web@1", dry_run=True)
    assert refused.status_code == 403, "a dry run refuses alike"
    for name, action, status in (
        ("acme/web@9", "activate", 404),
        ("acme/web@2", "explode", 400),
        ("acme/web@2", "supersede", 400),
    ):
        assert (await verdict.do(action, name)).status_code == status
    assert (await verdict.do("retire", "acme/web@2", workloads=-1)).status_code == 400


async def test_a_set_is_explained_by_any_of_its_values(verdict: Verdict) -> None:
    digest = await verdict.activate()
    value = measure(DEFAULT_IMAGE)["rtmr_1"]
    found = await verdict.client.get(f"{BASE}/explain", headers=verdict.admin, params={"value": value})
    (told,) = found.json()["reference_sets"]
    assert told["digest"] == digest
    assert told["matched_registers"] == ["rtmr_1"]
    assert [(each["action"], each["why"]) for each in told["history"]] == [
        ("propose", "a test"),
        ("activate", "it is good"),
    ]
    assert told["history"][0]["who"] == "eaa-administrator/admin"
    assert json.loads(b64decode(told["envelope"]))["payload"] == verdict.envelope()["payload"]
    got = await verdict.client.get(f"{BASE}/acme/web@1", headers=verdict.admin)
    assert got.json()["digest"] == digest
    listed = await verdict.client.get(BASE, headers=verdict.admin, params={"state": "active"})
    assert [each["digest"] for each in listed.json()["reference_sets"]] == [digest]
    assert (await verdict.client.get(BASE, headers=verdict.admin, params={"state": "x"})).status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", BASE),
        ("POST", BASE),
        ("GET", f"{BASE}/explain?value=aa"),
        ("GET", f"{BASE}/acme/web@1"),
        ("POST", f"{BASE}/acme/web@1/activate"),
    ],
)
async def test_every_route_is_the_administrators(verdict: Verdict, method: str, path: str) -> None:
    assert (await verdict.client.request(method, path, json={})).status_code == 401


async def test_what_is_not_followed_shows(verdict: Verdict) -> None:
    """A Verdict that cannot be followed is in the list of sources and in the metrics."""
    url = "https://verdict.test"
    sets = verdict.services.sets
    assert isinstance(sets, ReferenceSets)
    await sets.note_failure(url, "it cannot be reached")
    listed = (await verdict.client.get(f"{BASE}/sources", headers=verdict.admin)).json()["sources"]
    assert [(each["url"], each["error"]) for each in listed] == [(url, "it cannot be reached")]
    metrics = (await verdict.client.get("/metrics")).text
    assert 'eaa_verdict_sources{state="failing"} 1.0' in metrics
    assert 'eaa_verdict_sources{state="followed"} 0.0' in metrics
    for action, status in (("resume", 200), ("accept-older", 200), ("explode", 400)):
        body = {"url": url, "action": action}
        done = await verdict.client.post(f"{BASE}/sources", headers=verdict.admin, json=body)
        assert done.status_code == status
    assert (await verdict.client.post(f"{BASE}/sources", json={})).status_code == 401


async def test_trustees_route_shows_signed_values_too(verdict: Verdict) -> None:
    await verdict.activate()
    value = measure(DEFAULT_IMAGE)["mr_td"]
    got = await verdict.client.get("/kbs/v0/reference-value/mr_td", headers=verdict.admin)
    assert got.json() == [value]
    await verdict.services.database.put_reference_values({"mr_td": ["aa" * 48, value]})
    got = await verdict.client.get("/kbs/v0/reference-value/mr_td", headers=verdict.admin)
    assert got.json() == ["aa" * 48, value]


async def test_a_signed_corim_is_proposed_in_base64(verdict: Verdict) -> None:
    found = ReferenceSet.from_statement(parse_envelope(json.dumps(verdict.envelope()).encode()).statement())
    body = {"envelope": b64encode(signed_corim_of(found, KEY)).decode()}
    proposed = await verdict.client.post(BASE, headers=verdict.admin, json=body)
    assert proposed.status_code == 201, proposed.text
    assert (await verdict.do("activate")).status_code == 200
    assert await verdict.released()
    for wrong in ("...", ""):
        answer = await verdict.client.post(BASE, headers=verdict.admin, json={"envelope": wrong})
        assert answer.status_code == 400


async def test_a_signer_that_is_struck_off_takes_its_sets_with_it(verdict: Verdict) -> None:
    """No set was changed, and no restart: the next guest after a look at the signers is refused."""
    await verdict.activate()
    assert await verdict.released()
    verdict.policies[0] = SignerPolicy(())
    await verdict.watch.look()
    assert not await verdict.released()
