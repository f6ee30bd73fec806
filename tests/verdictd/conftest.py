# SPDX-License-Identifier: Apache-2.0
"""A Verdictd without a network, guests on simulated machines, and its owner."""

from __future__ import annotations

import asyncio
import json
import shutil
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from eaa.kbs import TeeKeyPair, decrypt, report_data
from eaa.kms import load_key_manager
from eaa.rats import UnavailableError
from eaa.simulator import ChipMaker, measure, mint
from eaa.simulator.measure import DEFAULT_IMAGE
from eaa.storage import Database
from eaa.verdictd._challenge import ChallengeSealer
from eaa.verdictd.administrator import Credential, ensure_administrator
from eaa.verdictd.app import create_app
from eaa.verdictd.metrics import Metrics
from eaa.verdictd.services import Services
from eaa.verifier import Verifier
from eaa.verifier.ear import TokenIssuer
from eaa.verifier.policy import PolicyEngine, load_default

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from eaa.rats import Endorsements, Evidence

SECRET = b"\x00the owner's secret\xff"
PATH = "default/secrets/db"


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **delta: float) -> None:
        self.time += timedelta(**delta)


class Collateral:
    """An endorsement source that asks the chip maker, with the faults that a test sets."""

    def __init__(self, maker: ChipMaker, clock: Clock) -> None:
        self.maker = maker
        self.faults: tuple[str, ...] = ()
        self.error: Exception | None = None
        self.observed: list[Evidence] = []
        self._at = clock()

    def endorsements_for(self, evidence: Evidence) -> Endorsements:
        if self.error is not None:
            raise self.error
        return self.maker.collateral(evidence.tee, self._at, faults=self.faults)

    async def observe(self, evidence: Evidence) -> None:
        if self.error is not None:
            raise UnavailableError("no notes can be taken")
        self.observed.append(evidence)


class Kit:
    """One Verdictd, its owner, and as many guests as a test needs."""

    def __init__(
        self, services: Services, credential: Credential, collateral: Collateral, clock: Clock
    ) -> None:
        self.services = services
        self.credential = credential
        self.collateral = collateral
        self.clock = clock
        self.app = create_app(services)
        transport = httpx2.ASGITransport(app=self.app)
        self.client = httpx2.AsyncClient(transport=transport, base_url="https://kbs.test")

    # The owner

    @property
    def admin(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.credential.mint(at=self.clock())}"}

    async def expect_software(self, image: str = DEFAULT_IMAGE) -> None:
        """Set the reference values of an image."""
        values = {name: [value] for name, value in measure(image).items()}
        await self.services.database.put_reference_values(values)

    # Guests

    async def auth(self, tee: str = "tdx") -> tuple[str, str]:
        """Return nonce and cookie."""
        body = {"version": "0.4.0", "tee": tee, "extra-params": ""}
        response = await self.client.post("/kbs/v0/auth", json=body)
        assert response.status_code == 200, response.text
        cookie = response.cookies["kbs-session-id"]
        self.client.cookies.clear()
        return response.json()["nonce"], cookie

    def attestation(
        self,
        nonce: str,
        key: TeeKeyPair,
        *,
        tee: str = "tdx",
        faults: tuple[str, ...] = (),
        image: str = DEFAULT_IMAGE,
        bind_to: bytes | None = None,
        registers: dict[str, bytes] | None = None,
        init_data: Any = None,
    ) -> dict[str, Any]:
        """Return a guest's answer to a challenge."""
        bound = report_data(nonce, key.public) if bind_to is None else bind_to
        at = self.clock()
        minted = mint(
            self.collateral.maker, tee, bound, at=at, faults=faults, image=image, registers=registers
        )
        return {
            "init-data": init_data,
            "runtime-data": {"nonce": nonce, "tee-pubkey": key.public.jwk},
            "tee-evidence": {
                "primary_evidence": {"cc_eventlog": None, "quote": b64encode(minted.quote).decode()},
                "additional_evidence": "",
            },
        }

    async def send_attestation(self, cookie: str, body: Any) -> httpx2.Response:
        """Send an answer; bytes go as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"cookie": f"kbs-session-id={cookie}", "content-type": "application/json"}
        response = await self.client.post("/kbs/v0/attest", content=content, headers=headers)
        self.client.cookies.clear()
        return response

    async def handshake(self, **changes: Any) -> tuple[httpx2.Response, str, TeeKeyPair]:
        """Attest a guest; return the answer, the cookie and the guest's key."""
        key = changes.pop("key", None) or TeeKeyPair.generate()
        nonce, cookie = await self.auth(changes.get("tee", "tdx"))
        response = await self.send_attestation(cookie, self.attestation(nonce, key, **changes))
        return response, cookie, key

    async def fetch(
        self, path: str = PATH, *, cookie: str | None = None, token: str | None = None
    ) -> httpx2.Response:
        """Ask for a resource."""
        headers = {}
        if cookie is not None:
            headers["cookie"] = f"kbs-session-id={cookie}"
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return await self.client.get(f"/kbs/v0/resource/{path}", headers=headers)

    @staticmethod
    def opened(response: httpx2.Response, key: TeeKeyPair) -> bytes:
        """Return what was released to the guest."""
        return decrypt(response.json(), key.private)

    SECRET = SECRET
    PATH = PATH


@pytest.fixture(scope="session")
def chip_maker() -> ChipMaker:
    """One chip maker for all tests; none of them revokes."""
    return ChipMaker.create(datetime(2026, 11, 1, tzinfo=UTC))


@pytest.fixture(scope="session")
def policy_engine() -> Iterator[PolicyEngine]:
    """One child process for all tests, started by the first question."""
    engine = PolicyEngine(processes=1, deadline=5.0)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="session")
def verifier(chip_maker: ChipMaker) -> Verifier:
    """A verifier that trusts the chip maker, and keeps what it has seen."""
    return Verifier((chip_maker.trust_anchor(),))


@pytest.fixture(scope="session")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first start makes, once for all tests: root key, token key, credential, a database with the default policies."""
    folder = tmp_path_factory.mktemp("first-start")

    async def start() -> None:
        database = await _open(folder)
        await database.put_policy("attestation", "default_cpu", load_default("attestation"))
        await database.put_policy("resource", "resource-policy", load_default("resource"))
        await database.put_resource(PATH, SECRET)
        await database.close()

    asyncio.run(start())
    TokenIssuer.load_or_create(folder / "signing.key")
    ensure_administrator(folder / "admin.json", folder / "admin.pub.json")
    return folder


async def _open(folder: Path) -> Database:
    manager = load_key_manager("local", {"key_file": str(folder / "root.key")})
    return await Database.open(f"sqlite:///{folder / 'verdictd.db'}", sealer=manager)


@pytest.fixture
async def kit(
    first_start: Path, tmp_path: Path, chip_maker: ChipMaker, policy_engine: PolicyEngine, verifier: Verifier
) -> AsyncIterator[Kit]:
    """A Verdictd with default policies and one resource, and no reference values."""
    clock = Clock()
    shutil.copytree(first_start, tmp_path, dirs_exist_ok=True)
    database = await _open(tmp_path)
    try:
        collateral = Collateral(chip_maker, clock)
        services = Services(
            database=database,
            verifier=verifier,
            endorsements=collateral,
            policies=policy_engine,
            tokens=TokenIssuer.load_or_create(tmp_path / "signing.key"),
            challenges=ChallengeSealer(bytes(32)),
            administrators=ensure_administrator(tmp_path / "admin.json", tmp_path / "admin.pub.json"),
            metrics=Metrics(),
            clock=clock,
        )
        async with (
            made := Kit(services, Credential.load(tmp_path / "admin.json"), collateral, clock)
        ).client:
            yield made
    finally:
        await database.close()
