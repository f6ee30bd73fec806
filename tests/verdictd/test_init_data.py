# SPDX-License-Identifier: Apache-2.0
"""Attack A28: a guest's configuration counts only as what the hardware was launched with."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from hashlib import sha256, sha384, sha512
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

TEXT = """version = "0.1.0"
algorithm = "{}"

[data]
"aa.toml" = '''
[token_configs.kbs]
url = "https://kbs.example"
'''
"policy.rego" = '''
package agent_policy

policy_data := {{"containers": [{{"OCI": {{"Annotations": {{"io.kubernetes.cri.image-name": "web:1"}}}}}}]}}
'''
"""
HASHES = {"sha256": sha256, "sha384": sha384, "sha512": sha512}
FIELDS = {"tdx": ("mr_config_id", 48), "sgx": ("config_id", 64)}


def launched(tee: str, text: str, algorithm: str) -> dict[str, bytes]:
    """Return the field as a host sets it that launches with this text."""
    name, size = FIELDS[tee]
    return {name: (HASHES[algorithm](text.encode()).digest() + bytes(64))[:size]}


def sent(text: str) -> dict[str, str]:
    return {"format": "toml", "body": text}


def claims_of(response: Any) -> Any:
    part = response.json()["token"].split(".")[1]
    token = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return token["submods"]["cpu0"]["ear.veraison.annotated-evidence"]


async def check_of(kit: Any, verdict: str) -> dict[str, Any]:
    record = await kit.services.database.verdict(verdict)
    checks = record.document["appraisal"]["checks"]
    return dict(next(check for check in checks if check["id"] == "binding.init-data"))


@pytest.mark.parametrize("algorithm", sorted(HASHES))
@pytest.mark.parametrize("tee", sorted(FIELDS))
async def test_init_data_that_was_launched_is_in_the_token(kit: Any, tee: str, algorithm: str) -> None:
    """A guest that sends what it was launched with is affirmed, and policies see what it says."""
    await kit.expect_software()
    text = TEXT.format(algorithm)
    response, cookie, key = await kit.handshake(
        tee=tee, registers=launched(tee, text, algorithm), init_data=sent(text)
    )
    assert response.status_code == 200, response.text
    evidence = claims_of(response)
    assert evidence["init_data_claims"] == {
        "aa.toml": {"token_configs": {"kbs": {"url": "https://kbs.example"}}},
        "agent_policy_claims": {
            "containers": [{"OCI": {"Annotations": {"io.kubernetes.cri.image-name": "web:1"}}}]
        },
    }
    assert evidence["init_data"] == launched(tee, text, algorithm)[FIELDS[tee][0]].hex()
    assert kit.opened(await kit.fetch(cookie=cookie), key) == kit.SECRET


@pytest.mark.parametrize("tee", sorted(FIELDS))
@pytest.mark.parametrize("launch", ["with another", "with none"])
async def test_init_data_that_was_not_launched_is_refused(kit: Any, tee: str, launch: str) -> None:
    """A guest that shows other init-data than its own gets no token; the answer names the check and both digests."""
    await kit.expect_software()
    text = TEXT.format("sha256")
    registers = launched(tee, text + "# changed", "sha256") if launch == "with another" else None
    response, _, _ = await kit.handshake(tee=tee, registers=registers, init_data=sent(text))
    assert response.status_code == 401
    body = response.json()
    assert [check["id"] for check in body["checks"]] == ["binding.init-data"]
    assert body["checks"][0]["expected"].startswith(sha256(text.encode()).hexdigest())
    check = await check_of(kit, body["verdict"])
    assert check["result"] == "fail"
    assert check["remedy"]


@pytest.mark.parametrize("tee", sorted(FIELDS))
@pytest.mark.parametrize("launch", ["with some", "with none"])
async def test_init_data_that_is_not_sent_is_for_reference_values(kit: Any, tee: str, launch: str) -> None:
    """Without init-data the check does not apply, there are no claims, and a reference value of the field decides."""
    await kit.expect_software()
    text = TEXT.format("sha384")
    own = launched(tee, text, "sha384")
    registers = own if launch == "with some" else None
    response, cookie, _ = await kit.handshake(tee=tee, registers=registers)
    assert claims_of(response)["init_data_claims"] is None
    assert (await kit.fetch(cookie=cookie)).status_code == 200

    name = FIELDS[tee][0]
    await kit.services.database.put_reference_values({name: [own[name].hex()]})
    response, cookie, _ = await kit.handshake(tee=tee, registers=registers)
    released = await kit.fetch(cookie=cookie)
    assert (released.status_code == 200) is (launch == "with some")
    if launch == "with none":
        assert f"check reference.{tee}.{name}" in released.json()["detail"]


async def test_policy_can_ask_for_init_data(kit: Any) -> None:
    """An owner's resource policy decides on the image that the guest's agent may run."""
    policy = """package policy
import rego.v1
default allow := false
allow if {
	claims := input.submods.cpu0["ear.veraison.annotated-evidence"].init_data_claims
	images := {c.OCI.Annotations["io.kubernetes.cri.image-name"] | some c in claims.agent_policy_claims.containers}
	images == {"web:1"}
}
"""
    await kit.services.database.put_policy("resource", "resource-policy", policy)
    for image, status in (("web:1", 200), ("web:2", 401)):
        text = TEXT.format("sha256").replace("web:1", image)
        _, cookie, _ = await kit.handshake(registers=launched("tdx", text, "sha256"), init_data=sent(text))
        assert (await kit.fetch(cookie=cookie)).status_code == status
    _, cookie, _ = await kit.handshake()
    assert (await kit.fetch(cookie=cookie)).status_code == 401


@pytest.mark.parametrize(
    "init_data",
    [
        {"format": "json", "body": "{}"},
        {"format": "toml", "body": "version = '0.1.0'"},
        {"format": "toml", "body": TEXT.format("md5")},
        {"format": "toml", "body": TEXT.format("sha256").replace('https://kbs.example"', "")},
        {"format": "toml", "body": TEXT.format("sha256") + "x = '" + "y" * (1 << 20) + "'"},
        {"format": "toml"},
        "version = '0.1.0'",
    ],
)
async def test_malformed_init_data_is_refused(kit: Any, init_data: Any) -> None:
    """What cannot be read is refused before anything is verified."""
    response, _, _ = await kit.handshake(init_data=init_data)
    assert response.status_code == 401
    assert response.json()["type"].endswith("/AttestationError")
    assert await kit.services.database.list_verdicts() == []


async def test_long_init_data_fits_the_token(kit: Any) -> None:
    """As much as the protocol carries goes through attestation, token and release."""
    await kit.expect_software()
    text = TEXT.format("sha384") + f'"notes" = "{"n" * 900_000}"\n'
    response, cookie, key = await kit.handshake(
        registers=launched("tdx", text, "sha384"), init_data=sent(text)
    )
    assert len(claims_of(response)["init_data_claims"]["notes"]) == 900_000
    assert kit.opened(await kit.fetch(cookie=cookie), key) == kit.SECRET


async def test_record_keeps_what_policies_saw_within_bounds(kit: Any) -> None:
    """Of accepted evidence, up to a size: whoever sends much that is refused cannot fill the owner's disk."""
    small, large = TEXT.format("sha384"), TEXT.format("sha384") + f'"notes" = "{"n" * 900_000}"\n'
    for text, launch, kept in ((small, small, True), (large, large, False), (small, large, False)):
        await kit.handshake(registers=launched("tdx", launch, "sha384"), init_data=sent(text))
        kit.clock.forward(seconds=1)
        (record,) = await kit.services.database.list_verdicts(1)
        assert ("annotated_evidence" in record.document) is kept
