# SPDX-License-Identifier: Apache-2.0
"""How attacks are mounted: on the library and on a whole Verdictd at once, each with its twin, which passes.

A test of this folder carries ``@pytest.mark.attack(row, title=…, instance=…, checks=…)``; ``scripts/attacks.py`` makes the table of
docs/attacks.md from these markers. The ``attack`` fixture fails a test that did not see every check it names refuse, or whose
twin was not seen to pass: what the table says is what happened.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from base64 import b64encode, urlsafe_b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from eaa.kbs import TeeKeyPair, decrypt, report_data
from eaa.kms import load_key_manager
from eaa.rats import EaaError, Endorsement, Endorsements, EvidenceError, EvidenceRejected
from eaa.simulator import ChipMaker, measure, mint_quote
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.measure import DEFAULT_IMAGE
from eaa.simulator.pki import sign_raw
from eaa.simulator.snp_faults import combine_snp
from eaa.simulator.snp_machine import measure_snp
from eaa.storage import Database
from eaa.tee.dcap.policy import AcceptancePolicy
from eaa.tee.registry import parse_evidence
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.product import Product
from eaa.tee.snp.report import SIGNED_SIZE, AttestationReport
from eaa.verdictd._challenge import ChallengeSealer
from eaa.verdictd.administrator import Credential, ensure_administrator
from eaa.verdictd.app import create_app
from eaa.verdictd.metrics import Metrics
from eaa.verdictd.services import Services
from eaa.verifier import Verifier
from eaa.verifier.ear import TokenIssuer
from eaa.verifier.policy import PolicyEngine, load_default

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
    from pathlib import Path

    from eaa.rats import Appraisal, Evidence, TrustAnchor

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECRET = sha256(b"the key of the owner's image").digest()
"""A key-encryption key: what every attack is after."""
PATH = "default/key/image"
ASKED = bytes(range(64))


def _same(value: Any) -> Any:
    return value


def spellings(secret: bytes) -> tuple[bytes, ...]:
    """Every form in which bytes usually leak."""
    standard, url = b64encode(secret).rstrip(b"="), urlsafe_b64encode(secret).rstrip(b"=")
    return (secret, secret.hex().encode(), secret.hex().upper().encode(), standard, url)


@dataclass(frozen=True)
class Case:
    """One guest and what its verifier has at hand. ``evidence`` maps the report data that is due to what the guest sends."""

    tee: str
    evidence: Callable[[bytes], bytes]
    endorsements: Endorsements
    verifier: Verifier
    wire: Callable[[bytes], dict[str, Any]] = field(default=lambda raw: {"quote": b64encode(raw).decode()})

    def appraised(self, due: bytes = ASKED) -> Appraisal:
        """What the library says."""
        evidence = parse_evidence(self.evidence(due), tee=self.tee)
        return self.verifier.verify(evidence, self.endorsements, at=AT, report_data=due)


class Dcap:
    """SGX and TDX machines of a chip maker in software, and everything an attacker could change about them."""

    def __init__(self) -> None:
        self.maker = ChipMaker.create(AT - timedelta(days=20))
        self._verifiers: dict[object, Verifier] = {}

    def verifier(self, policy: object = None, anchors: tuple[TrustAnchor, ...] | None = None) -> Verifier:
        """A verifier that trusts the chip maker, one for each policy."""
        key = (policy, anchors)
        if key not in self._verifiers:
            trusted = (self.maker.trust_anchor(),) if anchors is None else anchors
            self._verifiers[key] = Verifier(trusted, policy or AcceptancePolicy())
        return self._verifiers[key]

    def case(
        self,
        tee: str,
        *faults: str,
        asked: Callable[[bytes], bytes] = _same,
        report: Mapping[str, Any] | None = None,
        altered: Callable[[bytes], bytes] = _same,
        endorsed: Callable[[Endorsements], Endorsements] = _same,
        policy: AcceptancePolicy | None = None,
        anchors: tuple[TrustAnchor, ...] | None = None,
        image: str = DEFAULT_IMAGE,
        version: int | None = None,
        **machine: Any,
    ) -> Case:
        """A guest on a genuine machine, with the named faults.

        ``asked`` changes what report data the guest has signed; ``report`` are fields of its report, signed by the hardware as they
        are; ``altered`` changes the bytes of the quote, ``endorsed`` the collateral; ``machine`` are traits of the machine.
        """
        device = self.maker.machine(faults=faults, **machine)

        def evidence(due: bytes) -> bytes:
            quote = mint_quote(device, tee, asked(due), image=image, version=version)
            if report is not None:
                parsed: Any = parse_evidence(quote, tee=tee)
                body = parsed.report._replace(**report).pack()
                envelope = parsed.envelope
                quote = device._quote(tee, envelope.header.version, envelope.body_type, body, body)
            return altered(quote)

        collateral = endorsed(self.maker.collateral(tee, AT, faults=faults))
        return Case(tee, evidence, collateral, self.verifier(policy, anchors))

    def restated(
        self,
        endorsements: Endorsements,
        kind: str,
        edit: Callable[[dict[str, Any]], object],
        *,
        signed: bool = True,
    ) -> Endorsements:
        """The collateral with one statement changed; ``signed``: by the chip maker itself, who signs the change too."""
        member = {"tcb_info": "tcbInfo", "qe_identity": "enclaveIdentity"}[kind]
        items = []
        for item in endorsements.items:
            if item.kind != kind:
                items.append(item)
                continue
            body = json.loads(item.content)
            edit(body[member])
            text = json.dumps(body[member], separators=(",", ":")).encode()
            signature = sign_raw(self.maker._tcb_key, text) if signed else bytes.fromhex(body["signature"])
            content = b'{"%s":%s,"signature":"%s"}' % (member.encode(), text, signature.hex().encode())
            items.append(Endorsement(kind, content, item.issuer_chain))
        return Endorsements(tuple(items))

    def restating(
        self, kind: str, edit: Callable[[dict[str, Any]], object], *, signed: bool = True
    ) -> Callable[[Endorsements], Endorsements]:
        """:meth:`restated`, to be given to :meth:`case`."""
        return lambda given: self.restated(given, kind, edit, signed=signed)


class Snp:
    """SEV-SNP machines of the same chip maker."""

    def __init__(self) -> None:
        self.maker = AmdChipMaker.create(AT - timedelta(days=20))

    def case(
        self,
        *faults: str,
        product: Product = Product.GENOA,
        signer: str = "VCEK",
        report: Mapping[str, Any] | None = None,
        altered: Callable[[bytes], bytes] = _same,
        asked: Callable[[bytes], bytes] = _same,
        policy: SnpPolicy | None = None,
        image: str = DEFAULT_IMAGE,
        name: str = "machine-1",
        **machine: Any,
    ) -> Case:
        """A guest on a genuine machine, with the named faults; ``report`` are fields of its report, signed by the chip as they are."""
        combination = combine_snp(faults)
        combination = replace(combination, machine=replace(combination.machine, **machine))
        maker = self.maker._impostor if combination.machine.impostor else self.maker
        device = maker._machine(name, product, signer, combination)

        def evidence(due: bytes) -> bytes:
            raw = device.report(asked(due), image=image)
            if report is not None:
                changed = AttestationReport.parse(raw)._replace(**report)
                signature = device.key.sign(changed.pack()[:SIGNED_SIZE], ec.ECDSA(SHA384()))
                r, s = (each.to_bytes(72, "little") for each in decode_dss_signature(signature))
                raw = changed._replace(signature_r=r, signature_s=s).pack()
            return altered(raw)

        collateral = self.maker.collateral(device, AT, faults=faults)
        anchors = self.maker.trust_anchors((product, device.certified_product))
        verifier = Verifier(anchors, policy or SnpPolicy())
        return Case("snp", evidence, collateral, verifier, lambda raw: {"outblob": b64encode(raw).decode()})


class Desk:
    """One Verdictd with a key to guard, its owner, and whoever comes."""

    SECRET, PATH, AT = SECRET, PATH, AT

    def __init__(self, services: Services, credential: Credential, folder: Path) -> None:
        self.folder = folder
        self.now = AT
        self.case: Case | None = None
        self.credential = credential
        self.heard: list[httpx2.Response] = []
        self.services = replace(services, verifier=self, endorsements=self, clock=lambda: self.now)  # type: ignore[arg-type] # the case at hand decides
        self.client = self.replica()

    def replica(self, **changes: Any) -> httpx2.AsyncClient:
        """A client of one more application that knows nothing of the first."""
        app = create_app(replace(self.services, **changes))
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app),
            base_url="https://kbs.test",
            event_hooks={"response": [self._hear]},
        )

    async def another_database(self) -> Database:
        """The same database, as another process has it open."""
        return await _open(self.folder)

    async def _hear(self, response: httpx2.Response) -> None:
        await response.aread()
        self.heard.append(response)

    def endorsements_for(self, _: Evidence) -> Endorsements:
        """What the Endorser has."""
        assert self.case is not None
        return self.case.endorsements

    async def observe(self, evidence: Evidence) -> None:
        """Take no notes."""

    def verify(self, evidence: Evidence, endorsements: Endorsements, **due: Any) -> Appraisal:
        """What the verifier of the case says."""
        assert self.case is not None
        return self.case.verifier.verify(evidence, endorsements, **due)

    @property
    def admin(self) -> dict[str, str]:
        """The owner's authority."""
        return {"authorization": f"Bearer {self.credential.mint(at=self.now)}"}

    async def challenge(self, tee: str = "tdx") -> tuple[str, str]:
        """Return nonce and cookie."""
        body = {"version": "0.4.0", "tee": tee, "extra-params": ""}
        response = await self.client.post("/kbs/v0/auth", json=body)
        assert response.status_code == 200, response.text
        self.client.cookies.clear()
        return response.json()["nonce"], response.cookies["kbs-session-id"]

    def answer(
        self, case: Case, nonce: str, key: TeeKeyPair, *, bound: bytes | None = None
    ) -> dict[str, Any]:
        """What a guest sends; ``bound`` is what its hardware signed when that is not what the challenge demands."""
        self.case = case
        raw = case.evidence(report_data(nonce, key.public) if bound is None else bound)
        return {
            "init-data": None,
            "runtime-data": {"nonce": nonce, "tee-pubkey": key.public.jwk},
            "tee-evidence": {"primary_evidence": case.wire(raw), "additional_evidence": ""},
        }

    async def attest(self, cookie: str, answer: Any, **headers: str) -> httpx2.Response:
        """Send an answer to a challenge."""
        headers = {"cookie": f"kbs-session-id={cookie}", "content-type": "application/json"} | headers
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        response = await self.client.post("/kbs/v0/attest", content=content, headers=headers)
        self.client.cookies.clear()
        return response

    async def attested(self, case: Case, **headers: str) -> tuple[httpx2.Response, str, TeeKeyPair]:
        """Run one handshake; return the answer, the cookie and the guest's key."""
        key = TeeKeyPair.generate()
        nonce, cookie = await self.challenge(case.tee)
        return await self.attest(cookie, self.answer(case, nonce, key), **headers), cookie, key

    async def fetch(
        self,
        path: str = PATH,
        *,
        cookie: str | None = None,
        token: str | None = None,
        client: httpx2.AsyncClient | None = None,
    ) -> httpx2.Response:
        """Ask for a resource."""
        headers = {"cookie": f"kbs-session-id={cookie}"} if cookie is not None else {}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return await (client or self.client).get(f"/kbs/v0/resource/{path}", headers=headers)


class Attack:
    """One row of the table while its test runs."""

    spellings = staticmethod(spellings)

    def __init__(self, row: str, checks: tuple[str, ...], desk: Desk) -> None:
        self.row = row
        self.checks = checks
        self.desk = desk
        self.seen: set[str] = set()
        self.twins = 0

    async def rejected(self, case: Case, *checks: str, **headers: str) -> None:
        """The library and Verdictd reject the evidence on these checks, and nothing leaves."""
        try:
            appraisal = case.appraised()
        except EvidenceError as error:
            failing = {error.check}
        else:
            with pytest.raises(EvidenceRejected):
                appraisal.accept()
            failing = {check.id for check in appraisal.failing}
        assert set(checks) <= failing, f"{self.row}: failing are {sorted(failing)}"
        response, cookie, _ = await self.desk.attested(case, **headers)
        self.denied(response, *checks)
        self.denied(await self.desk.fetch(cookie=cookie))

    async def withheld(self, case: Case, *checks: str) -> None:
        """The hardware is genuine and gets its token; the release is denied on these checks."""
        case.appraised().accept()
        response, cookie, _ = await self.desk.attested(case)
        assert response.status_code == 200, response.text
        self.denied(await self.desk.fetch(cookie=cookie), *checks)
        self.denied(await self.desk.fetch(token=response.json()["token"]), *checks)

    async def twin(self, case: Case) -> None:
        """The same without the attack: accepted, and the secret is released to the guest's key."""
        case.appraised().accept()
        response, cookie, key = await self.desk.attested(case)
        assert response.status_code == 200, response.text
        self.released(await self.desk.fetch(cookie=cookie), key)

    def denied(self, response: httpx2.Response, *checks: str, status: int = 401) -> None:
        """A request is refused by name and holds no secret."""
        assert response.status_code == status, response.text
        seen = response.content + str(response.headers.raw).encode()
        assert not [form for form in spellings(SECRET) if form in seen]
        document = response.json()
        assert "ciphertext" not in document
        if "error" in document:
            named = {document["error"]["code"], document["error"].get("check", "")}
        else:
            named = {each["id"] for each in document.get("checks", ())}
            named |= {check for check in checks if f"check {check}" in document["detail"]}
        assert set(checks) <= named, response.text
        self.seen |= set(checks)

    @contextmanager
    def refused(self, check: str) -> Generator[None]:
        """What is done inside raises an error that names this check or code."""
        with pytest.raises(EaaError) as caught:
            yield
        error = caught.value
        named = {error.code, getattr(error, "check", "")}
        if isinstance(error, EvidenceRejected):
            named = {each.id for each in error.appraisal.failing}
        assert check in named, f"{self.row}: {named}: {error}"
        assert not [form for form in spellings(SECRET) if form in f"{error}{error.hint}".encode()]
        self.seen.add(check)

    def saw(self, check: str) -> None:
        """Something else than an answer or an error has refused; the test has asserted it."""
        self.seen.add(check)

    def released(self, response: httpx2.Response, key: TeeKeyPair, secret: bytes = SECRET) -> None:
        """The twin's request got what it asked for."""
        assert response.status_code == 200, response.text
        assert decrypt(response.json(), key.private) == secret
        self.twins += 1

    def passed(self) -> None:
        """The twin was seen to pass in another way than by a release; the test has asserted it."""
        self.twins += 1


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "attack(row, title, instance, checks, open=''): a row of the attack table; see scripts/attacks.py",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Tell the ``attack`` fixture whether its test got to the end."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


_PASSED = pytest.StashKey[bool]()


@pytest.fixture
def attack(request: pytest.FixtureRequest, desk: Desk) -> Iterator[Attack]:
    """The row that the test is marked with."""
    marker = request.node.get_closest_marker("attack")
    made = Attack(marker.args[0], tuple(marker.kwargs["checks"]), desk)
    yield made
    if request.node.stash.get(_PASSED, False):
        assert made.seen == set(made.checks), "the marker names other checks than the test saw refuse"
        assert made.twins, "no twin was seen to pass"


@pytest.fixture(scope="session")
def dcap() -> Dcap:
    """SGX and TDX."""
    return Dcap()


@pytest.fixture(scope="session")
def snp() -> Snp:
    """SEV-SNP."""
    return Snp()


@pytest.fixture(scope="session")
def policy_engine() -> Iterator[PolicyEngine]:
    """One child process for all tests."""
    engine = PolicyEngine(processes=1, deadline=20)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="session")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a first start makes, with the key to guard and the reference values of the owner's image."""
    folder = tmp_path_factory.mktemp("attacked")

    async def start() -> None:
        database = await _open(folder)
        await database.put_policy("attestation", "default_cpu", load_default("attestation"))
        await database.put_policy("resource", "resource-policy", load_default("resource"))
        await database.put_resource(PATH, SECRET)
        expected = measure(DEFAULT_IMAGE) | {"measurement": measure_snp(DEFAULT_IMAGE)}
        await database.put_reference_values({name: [value] for name, value in expected.items()})
        await database.close()

    asyncio.run(start())
    TokenIssuer.load_or_create(folder / "signing.key")
    ensure_administrator(folder / "admin.json", folder / "admin.pub.json")
    return folder


async def _open(folder: Path) -> Database:
    manager = load_key_manager("local", {"key_file": str(folder / "root.key")})
    return await Database.open(f"sqlite:///{folder / 'verdictd.db'}", sealer=manager)


@pytest.fixture
async def desk(first_start: Path, tmp_path: Path, policy_engine: PolicyEngine) -> AsyncIterator[Desk]:
    """A Verdictd with default policies that expects the default image and guards :data:`SECRET`."""
    folder = tmp_path / "verdictd"
    shutil.copytree(first_start, folder)
    database = await _open(folder)
    unset: Any = None
    services = Services(
        database=database,
        verifier=unset,
        endorsements=unset,
        policies=policy_engine,
        tokens=TokenIssuer.load_or_create(folder / "signing.key"),
        challenges=ChallengeSealer(bytes(32)),
        administrators=ensure_administrator(folder / "admin.json", folder / "admin.pub.json"),
        metrics=Metrics(),
    )
    made = Desk(services, Credential.load(folder / "admin.json"), folder)
    try:
        async with made.client:
            yield made
    finally:
        await database.close()
