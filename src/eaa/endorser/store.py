# SPDX-License-Identifier: Apache-2.0
"""The Endorser's store: authentic endorsements in a folder, found by what they are about.

Contents lie in ``objects/`` under their SHA-256 and are never changed; ``index.json`` names the current one of each subject and is
replaced in one step. A process that dies in the middle leaves the old index, whose objects are all there.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

from eaa.endorser.authenticity import PCK_CAS, Authenticator, Subject, key_id
from eaa.rats import ConfigurationError, Endorsement, EndorsementError, Endorsements
from eaa.tee.dcap.pck import read_pck_extension
from eaa.tee.x509 import read_certificates
from eaa.verifier.verifier import INTEL_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from eaa.rats import Evidence, TrustAnchor

__all__ = ["Outcome", "Platform", "Put", "Snapshot", "Store", "Stored"]

_FORMAT: Final = 1
_INDEX: Final = "index.json"
_MAX_INDEX: Final = 16 * 1024 * 1024
_QE_OF: Final = {"sgx": "QE", "tdx": "TD_QE"}
_PCK_CHAIN: Final = 5  # Intel's certification data type: PCK certificate chain in PEM


class Outcome(StrEnum):
    """What became of an endorsement that was put into the store."""

    ADDED = "added"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    KEPT_NEWER = "kept-newer"


class Put(NamedTuple):
    """One endorsement that was put into the store."""

    subject: Subject
    outcome: Outcome


class Stored(NamedTuple):
    """One endorsement in the store, and what it is about."""

    subject: Subject
    endorsement: Endorsement


class Platform(NamedTuple):
    """What decides which collateral a quote needs: the root's key id, FMSPC in hex, and ``platform`` or ``processor``."""

    root: str
    fmspc: str
    ca: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store at one moment: what it holds by key. Never changes."""

    stored: Mapping[str, Stored]

    def find(self, kind: str, root: str, scope: str = "") -> Endorsement | None:
        """Return the endorsement of one kind about ``scope`` (see :class:`Subject`), or None."""
        found = self.stored.get("/".join(part for part in (kind, root, scope) if part))
        return found.endorsement if found is not None else None

    def collateral(self, tee: str, platform: Platform) -> Endorsements:
        """Return what is there for quotes of ``tee`` (``sgx``, ``tdx``) from ``platform``: at most one of each kind."""
        found = (
            self.find("tcb_info", platform.root, f"{tee}/{platform.fmspc}"),
            self.find("qe_identity", platform.root, _QE_OF.get(tee, tee)),
            self.find("pck_crl", platform.root, platform.ca),
            self.find("root_ca_crl", platform.root),
        )
        return Endorsements(tuple(each for each in found if each is not None))


class _State(NamedTuple):
    """A snapshot, the index file it was read from, and the sets already made from it."""

    version: tuple[int, int, int]
    snapshot: Snapshot
    collateral: Callable[[str, Platform], Endorsements]


class Store:
    """Endorsements in a folder, safe to share between threads; several processes may use one folder.

    Whatever enters is proven first to be issued below one of ``anchors``. Reading costs one ``stat`` of the index, unless the index
    has changed.
    """

    def __init__(
        self, directory: str | os.PathLike[str], anchors: Sequence[TrustAnchor] = (INTEL_ROOT,)
    ) -> None:
        self._directory = Path(directory)
        self._anchors = tuple(anchors)
        self._authenticator = Authenticator(self._anchors)
        self._lock = threading.Lock()
        self._state: _State | None = None

    @property
    def directory(self) -> Path:
        """The folder."""
        return self._directory

    @property
    def anchors(self) -> tuple[TrustAnchor, ...]:
        """The roots below which endorsements are taken in."""
        return self._anchors

    def put(self, endorsements: Endorsements, *, force: bool = False) -> tuple[Put, ...]:
        """Take endorsements in, all or none, and return what became of each.

        An older issue date or a lower TCB evaluation data number never replaces what is there, unless ``force``.

        :raises EndorsementError: when one of them is not authentic; nothing is stored then.
        :raises ConfigurationError: when the folder cannot be written.
        """
        proven = [(each, self._authenticator.authenticate(each)) for each in endorsements.items]
        try:
            with self._lock, self._exclusive():
                return self._put(proven, force=force)
        except OSError as error:
            raise ConfigurationError(
                f"the store {self._directory} cannot be written: {error.strerror}",
                hint="Check the folder's owner, mode and free space.",
            ) from error

    def _put(self, proven: list[tuple[Endorsement, Subject]], *, force: bool) -> tuple[Put, ...]:
        entries = dict(_read_index(self._directory))
        puts = []
        for endorsement, subject in proven:
            entry = _Entry.of(endorsement, subject)
            outcome = _outcome(entries.get(subject.key), entry, force=force)
            if outcome in {Outcome.ADDED, Outcome.REPLACED}:
                for content in (endorsement.content, endorsement.issuer_chain):
                    self._keep(content)
                entries[subject.key] = entry
            puts.append(Put(subject, outcome))
        if any(each.outcome in {Outcome.ADDED, Outcome.REPLACED} for each in puts):
            index = {"format": _FORMAT, "entries": [each.to_json() for each in entries.values()]}
            _write(self._directory / _INDEX, json.dumps(index, indent=1).encode())
        return tuple(puts)

    def _keep(self, content: bytes) -> None:
        path = self._directory / "objects" / sha256(content).hexdigest()
        if not path.exists() or path.stat().st_size != len(content):
            _write(path, content)

    def snapshot(self) -> Snapshot:
        """Return what the store holds now.

        :raises ConfigurationError: when the folder is damaged.
        """
        return self._current().snapshot

    def endorsements_for(self, evidence: Evidence) -> Endorsements:
        """Return the collateral that ``evidence`` needs, as far as it is there; the appraisal tells what is missing.

        Which platform the evidence is from is read from it without proof: a lie gets collateral that does not fit.

        :raises ConfigurationError: when the folder is damaged.
        """
        chain = _pck_chain(evidence)
        platform = _platform(chain) if chain else None
        if platform is None:
            return Endorsements()
        return self._current().collateral(evidence.tee, platform)

    def _current(self) -> _State:
        version = _version(self._directory)
        state = self._state
        if state is not None and state.version == version:
            return state
        with self._lock:
            # Another thread may have been faster, and the index may have changed since.
            version = _version(self._directory)
            if self._state is None or self._state.version != version:
                snapshot = _load(self._directory)
                self._state = _State(version, snapshot, lru_cache(maxsize=1024)(snapshot.collateral))
            return self._state

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other processes from writing; the kernel lets go if this one dies."""
        (self._directory / "objects").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in [*self._directory.glob(".new-*"), *(self._directory / "objects").glob(".new-*")]:
                left.unlink()
            yield
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of the index."""

    subject: Subject
    content: str
    issuer_chain: str

    @classmethod
    def of(cls, endorsement: Endorsement, subject: Subject) -> _Entry:
        digests = (sha256(part).hexdigest() for part in (endorsement.content, endorsement.issuer_chain))
        return cls(subject, *digests)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.subject.kind,
            "root": self.subject.root,
            "scope": self.subject.scope,
            "issued": self.subject.issued.isoformat(),
            "next_update": self.subject.next_update.isoformat(),
            "evaluation_number": self.subject.evaluation_number,
            "content": self.content,
            "issuer_chain": self.issuer_chain,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> _Entry:
        subject = Subject(
            str(value["kind"]),
            str(value["root"]),
            str(value["scope"]),
            datetime.fromisoformat(value["issued"]),
            datetime.fromisoformat(value["next_update"]),
            int(value["evaluation_number"]),
        )
        return cls(subject, str(value["content"]), str(value["issuer_chain"]))


def _outcome(old: _Entry | None, new: _Entry, *, force: bool) -> Outcome:
    if old is None:
        return Outcome.ADDED
    if (old.content, old.issuer_chain) == (new.content, new.issuer_chain):
        return Outcome.UNCHANGED
    older = (
        new.subject.issued < old.subject.issued
        or new.subject.evaluation_number < old.subject.evaluation_number
    )
    return Outcome.KEPT_NEWER if older and not force else Outcome.REPLACED


def _version(directory: Path) -> tuple[int, int, int]:
    try:
        status = (directory / _INDEX).stat()
    except FileNotFoundError:
        return (0, 0, 0)
    except OSError as error:
        raise _damaged(directory, error.strerror or "unreadable") from error
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _read_index(directory: Path) -> dict[str, _Entry]:
    try:
        with (directory / _INDEX).open("rb") as file:
            index = json.loads(file.read(_MAX_INDEX))
        known = index["format"] == _FORMAT
        entries = [_Entry.from_json(each) for each in index["entries"]] if known else []
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(directory, f"{_INDEX} cannot be read ({type(error).__name__})") from error
    if not known:
        raise _damaged(directory, f"{_INDEX} is not of format {_FORMAT}")
    return {entry.subject.key: entry for entry in entries}


def _load(directory: Path) -> Snapshot:
    stored = {}
    for key, entry in _read_index(directory).items():
        content, chain = (_object(directory, digest) for digest in (entry.content, entry.issuer_chain))
        stored[key] = Stored(entry.subject, Endorsement(entry.subject.kind, content, chain))
    return Snapshot(stored)


def _object(directory: Path, digest: str) -> bytes:
    try:
        data = (directory / "objects" / Path(digest).name).read_bytes()
    except (OSError, ValueError) as error:
        raise _damaged(directory, f"object {digest} cannot be read") from error
    if sha256(data).hexdigest() != digest:
        raise _damaged(directory, f"object {digest} has other content")
    return data


def _damaged(directory: Path, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"the store {directory} is damaged: {what}", hint="Import the collateral into an empty folder again."
    )


def _write(path: Path, data: bytes) -> None:
    """Put a file in place in one step that survives a crash: content first, then the name."""
    new = path.with_name(f".new-{uuid4().hex}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _pck_chain(evidence: Evidence) -> bytes:
    """Return the PEM chain of the PCK certificate that a DCAP quote carries, or nothing."""
    envelope = getattr(evidence, "envelope", None)
    if envelope is None or envelope.signature.certification.kind != _PCK_CHAIN:
        return b""
    return bytes(envelope.signature.certification.data)


@lru_cache(maxsize=1024)
def _platform(pem: bytes) -> Platform | None:
    """Read which platform a PCK chain names, proving nothing; None when it cannot be read."""
    try:
        certificates = read_certificates(pem)
        extension = read_pck_extension(certificates[0].x509)
    except EndorsementError:
        return None
    names = [str(each.value) for each in certificates[0].x509.issuer if each.value in PCK_CAS]
    root = next((each for each in certificates if each.self_issued), None)
    if root is None or not names:
        return None
    return Platform(key_id(root.spki), extension.fmspc.hex(), PCK_CAS[names[0]])
