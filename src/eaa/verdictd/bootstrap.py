# SPDX-License-Identifier: Apache-2.0
"""The data directory: what a first start makes in it, and the services that rest on it. Starting again changes nothing."""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eaa._files import write_whole
from eaa.kms import load_key_manager
from eaa.rats import ConfigurationError, NotFound
from eaa.storage import Database
from eaa.verdictd._challenge import ChallengeSealer
from eaa.verdictd._files import make_folder, read_secret
from eaa.verdictd._logging import log
from eaa.verdictd.administrator import ensure_administrator
from eaa.verdictd.metrics import Metrics
from eaa.verdictd.services import ATTESTATION_POLICY, RESOURCE_POLICY, Services, now
from eaa.verifier import Verifier
from eaa.verifier.ear import TokenIssuer
from eaa.verifier.policy import PolicyEngine, load_default

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from eaa.kms import KeyManager
    from eaa.rats import TrustAnchor
    from eaa.storage import PolicyKind
    from eaa.verdictd.services import EndorsementSource, ReferenceSetSource
    from eaa.verdictd.settings import Settings

__all__ = ["DataDirectory", "open_services", "require_profile"]

_DEFAULT_POLICIES: Final[tuple[tuple[PolicyKind, str], ...]] = (
    ("attestation", ATTESTATION_POLICY),
    ("resource", RESOURCE_POLICY),
)


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The names of everything in the data directory."""

    root: Path

    @property
    def database_url(self) -> str:
        """The SQLite database."""
        return f"sqlite:///{self.root / 'verdictd.db'}"

    @property
    def kms_key(self) -> Path:
        """The local key manager's root key."""
        return self.root / "kms" / "root.key"

    @property
    def tls(self) -> Path:
        """The folder of the authority and the server certificate."""
        return self.root / "tls"

    @property
    def signing_key(self) -> Path:
        """The attestation tokens' key."""
        return self.root / "token" / "signing.key"

    @property
    def challenge_key(self) -> Path:
        """The secret that seals challenges, itself sealed."""
        return self.root / "token" / "challenge.key"

    @property
    def credential(self) -> Path:
        """The administrator's credential."""
        return self.root / "admin.json"

    @property
    def administrator(self) -> Path:
        """The administrator's public key."""
        return self.root / "admin.pub.json"

    @property
    def endorsements(self) -> Path:
        """The Endorser's store."""
        return self.root / "endorsements"

    @property
    def simulator(self) -> Path:
        """The chip maker in software."""
        return self.root / "simulator"

    @property
    def signers(self) -> Path:
        """Who may sign which product's reference values, unless the configuration names another file."""
        return self.root / "signers.toml"

    @property
    def key_provider(self) -> Path:
        """The key provider's socket."""
        return self.root / "keyprovider.sock"

    @property
    def ready(self) -> Path:
        """Where the running server can be reached; the command line reads it."""
        return self.root / "verdictd.json"

    @classmethod
    def prepare(cls, root: Path) -> DataDirectory:
        """Make the directory, closed to others, and the folders in it.

        :raises ConfigurationError: when it cannot be used.
        """
        directory = cls(make_folder(root.absolute()))
        for path in (directory.kms_key, directory.signing_key):
            make_folder(path.parent)
        return directory

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process; the kernel lets go of it when the process ends, however it ends.

        :raises ConfigurationError: when another Verdictd has it.
        """
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigurationError(
                    f"another Verdictd runs on {self.root}", hint="Stop it, or choose another data directory."
                ) from None
            yield
        finally:
            os.close(descriptor)


def require_profile(anchors: Sequence[TrustAnchor], *, production: bool) -> None:
    """Say loudly what is trusted that should not be in production, and refuse it there.

    :raises ConfigurationError: when a production profile has a simulated trust anchor, or there is no anchor at all.
    """
    if not anchors:
        raise ConfigurationError("no trust anchor is configured", hint="Nothing could ever be verified.")
    simulated = [anchor.name for anchor in anchors if anchor.simulated]
    if simulated and production:
        raise ConfigurationError(
            f"the production profile refuses simulated trust anchors: {'; '.join(simulated)}",
            hint="Start without --simulator.",
        )
    for name in simulated:
        log.warning(
            "SIMULATED HARDWARE IS TRUSTED: whoever holds this chip maker's files can mint evidence that is accepted",
            anchor=name,
        )


@asynccontextmanager
async def open_services(
    settings: Settings,
    directory: DataDirectory,
    *,
    anchors: Sequence[TrustAnchor],
    endorsements: EndorsementSource,
    clock: Callable[[], datetime] = now,
    sets: ReferenceSetSource | None = None,
) -> AsyncIterator[Services]:
    """Make or load everything that a server needs, and close it at the end.

    :raises ConfigurationError: when something in the data directory cannot be used.
    """
    manager = load_key_manager("local", {"key_file": str(directory.kms_key)})
    administrators = ensure_administrator(directory.credential, directory.administrator)
    metrics = Metrics()
    metrics.trusts_simulated(sum(anchor.simulated for anchor in anchors))
    async with PolicyEngine() as policies:
        database = await Database.open(directory.database_url, sealer=manager)
        try:
            await _install_default_policies(database)
            secret = await _challenge_secret(manager, directory.challenge_key)
            yield Services(
                database=database,
                verifier=Verifier(anchors, *settings.policies),
                endorsements=endorsements,
                policies=policies,
                tokens=TokenIssuer.load_or_create(directory.signing_key, lifetime=settings.token_lifetime),
                challenges=ChallengeSealer(secret, lifetime=settings.challenge_lifetime),
                administrators=administrators,
                metrics=metrics,
                clock=clock,
                require_init_data=settings.require_init_data,
                sets=sets,
            )
        finally:
            await database.close()


async def _install_default_policies(database: Database) -> None:
    """Put the defaults, which deny, in force where there never was a policy. One that its owner deleted stays deleted."""
    for kind, name in _DEFAULT_POLICIES:
        try:
            await database.policy_history(kind, name)
        except NotFound:
            await database.put_policy(kind, name, load_default(kind))
            log.info("default policy in force", kind=kind, name=name)


async def _challenge_secret(manager: KeyManager, path: Path) -> bytes:
    """Return the secret kept at ``path``, sealed under the root key; make it if it is not there.

    :raises ConfigurationError: when the file cannot be read.
    """
    context = b"eaa.verdictd challenge secret"
    kept = _kept(path)
    if kept is not None:
        return await manager.unwrap(kept, context=context)
    secret = secrets.token_bytes(32)
    write_whole(path, await manager.wrap(secret, context=context))
    return secret


def _kept(path: Path) -> bytes | None:
    return read_secret(path) if path.exists() else None
