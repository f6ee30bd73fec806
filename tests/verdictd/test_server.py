# SPDX-License-Identifier: Apache-2.0
"""The whole server on a data directory: first start, restart, profiles, listeners."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from eaa.rats import ConfigurationError, Endorsements
from eaa.simulator import ChipMaker
from eaa.verdictd.administrator import Credential
from eaa.verdictd.bootstrap import DataDirectory, open_services, require_profile
from eaa.verdictd.server import Ready, serve
from eaa.verdictd.settings import Settings
from eaa.verifier import INTEL_ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from eaa.rats import Evidence


class NoEndorsements:
    """Nothing is known about any platform."""

    def endorsements_for(self, evidence: Evidence) -> Endorsements:
        del evidence
        return Endorsements()

    async def observe(self, evidence: Evidence) -> None:
        """Take no notes."""


@asynccontextmanager
async def _running(data: Path, **changes: Any) -> AsyncIterator[Ready]:
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = Settings(data, port=0, **changes)
    task = asyncio.create_task(
        serve(
            settings,
            anchors=(INTEL_ROOT,),
            endorsements=NoEndorsements(),
            announce=ready.set_result,
            stop=stop,
        )
    )
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield ready.result()
    finally:
        stop.set()
        await task


def _bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def _client(ready: Ready, url: str | None = None) -> httpx2.AsyncClient:
    import ssl

    context = ssl.create_default_context(cafile=ready.ca_file)
    return httpx2.AsyncClient(base_url=url or ready.url, verify=context, trust_env=False)


@pytest.mark.anyio
async def test_restart_keeps_what_matters(tmp_path: Path) -> None:
    """Authority, token key, policies, resources and credential survive; the port and the process may change."""
    data = tmp_path / "data"
    seen: list[Any] = []
    for _ in range(2):
        async with _running(data) as ready, _client(ready) as client:
            admin = {"authorization": f"Bearer {Credential.load(Path(ready.credential_file)).mint()}"}
            if not seen:
                await client.put("/eaa/v0/resources/a/b/c", headers=admin, content=b"kept")
                text = "package policy\ndefault allow := false\n"
                await client.put(
                    "/eaa/v0/policies/resource/resource-policy", headers=admin, json={"text": text}
                )
            policies = (await client.get("/eaa/v0/policies", headers=admin)).json()
            resources = (await client.get("/eaa/v0/resources", headers=admin)).json()
            jwks = (await client.get("/.well-known/jwks.json")).json()
            seen.append((policies, resources, jwks, _bytes(ready.ca_file)))
            assert json.loads((data / "verdictd.json").read_text())["url"] == ready.url
        assert not (data / "verdictd.json").exists()
    assert seen[0] == seen[1]
    assert {each["version"] for each in seen[1][0]["policies"]} == {1, 2}
    assert len(seen[1][1]["resources"]) == 1


@pytest.mark.anyio
async def test_administration_may_have_a_listener_of_its_own(tmp_path: Path) -> None:
    """Then guests' listener answers 404 for it, whoever asks, and the other one knows no guests; without, both are one."""
    async with _running(tmp_path / "one") as ready:
        assert ready.admin_url == ready.url
    async with _running(tmp_path / "two", admin_listen=("127.0.0.1", 0)) as ready:
        assert json.loads((tmp_path / "two" / "verdictd.json").read_text())["admin_url"] == ready.admin_url
        headers = {"authorization": f"Bearer {Credential.load(Path(ready.credential_file)).mint()}"}
        challenge = {"version": "0.4.0", "tee": "tdx", "extra-params": ""}
        async with _client(ready) as guests, _client(ready, ready.admin_url) as owner:
            for path in ("/eaa/v0/keys", "/kbs/v0/resource-policy"):
                assert (await guests.get(path, headers=headers)).status_code == 404
                assert (await owner.get(path)).status_code == 401
                assert (await owner.get(path, headers=headers)).status_code == 200
            # The path is known for guests' GET; that there are other methods is nobody's business there.
            put = await guests.post("/kbs/v0/resource/a/b/c", headers=headers, content=b"x")
            assert (put.status_code, "allow" in put.headers) == (404, False)
            assert (
                await owner.post("/kbs/v0/resource/a/b/c", headers=headers, content=b"x")
            ).status_code == 200
            assert (await guests.post("/kbs/v0/auth", json=challenge)).status_code == 200
            assert (await owner.post("/kbs/v0/auth", json=challenge)).status_code == 404
            assert (
                (await guests.get("/healthz")).status_code == (await owner.get("/healthz")).status_code == 200
            )


@pytest.mark.anyio
async def test_challenge_survives_a_restart(tmp_path: Path) -> None:
    """A challenge of one process is understood by the next: the secret that seals it is kept, sealed."""
    data = DataDirectory.prepare(tmp_path / "data")
    sealed: list[str] = []
    for _ in range(2):
        async with open_services(
            Settings(tmp_path / "data"), data, anchors=(INTEL_ROOT,), endorsements=NoEndorsements()
        ) as services:
            if not sealed:
                challenge = services.challenges.issue("tdx", at=services.clock())
                sealed.append(services.challenges.seal(challenge))
            assert services.challenges.open(sealed[0]) == challenge
    assert len(data.challenge_key.read_bytes()) > 64


@pytest.mark.anyio
async def test_everything_is_closed_to_others(tmp_path: Path) -> None:
    """The directory is 0700, every secret in it 0600, and no secret shows in the ready line."""
    data = tmp_path / "data"
    async with _running(data) as ready:
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        secret = ["admin.json", "kms/root.key", "tls/ca.key", "tls/server.key", "token/signing.key"]
        for name in [*secret, "token/challenge.key", "verdictd.db", "keyprovider.sock"]:
            assert stat.S_IMODE((data / name).stat().st_mode) == 0o600, name
        assert json.loads(_bytes(ready.credential_file))["key"]["d"] not in ready.to_json()
        assert json.loads(ready.to_json())["event"] == "ready"


@pytest.mark.anyio
async def test_second_server_on_one_directory_is_refused(tmp_path: Path) -> None:
    """Two servers never share a data directory."""
    async with _running(tmp_path / "data"):
        with pytest.raises(ConfigurationError, match="another Verdictd"):
            async with _running(tmp_path / "data"):
                pass


@pytest.mark.anyio
async def test_deleted_policy_is_not_put_back(tmp_path: Path) -> None:
    """Who deletes the policy wants everything denied, also after a restart."""
    data = DataDirectory.prepare(tmp_path / "data")
    for expected in (2, 1):
        async with open_services(
            Settings(tmp_path / "data"), data, anchors=(INTEL_ROOT,), endorsements=NoEndorsements()
        ) as services:
            assert len(await services.database.list_policies()) == expected
            if expected == 2:
                await services.database.delete_policy("resource", "resource-policy")


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["192.0.2.1", "nosuch.invalid"])
async def test_address_that_cannot_be_used_is_explained(tmp_path: Path, host: str) -> None:
    """Nothing serves on an address that is not this machine's."""
    with pytest.raises(ConfigurationError, match="cannot listen"):
        async with _running(tmp_path / "data", host=host):
            pass


def test_production_refuses_simulated_anchors(tmp_path: Path) -> None:
    """A production profile does not start with a chip maker in software."""
    from datetime import UTC, datetime

    anchor = ChipMaker.create(datetime.now(UTC)).trust_anchor()
    require_profile((INTEL_ROOT, anchor), production=False)
    require_profile((INTEL_ROOT,), production=True)
    with pytest.raises(ConfigurationError, match="simulated"):
        require_profile((INTEL_ROOT, anchor), production=True)
    with pytest.raises(ConfigurationError, match="no trust anchor"):
        require_profile((), production=False)
    del tmp_path
