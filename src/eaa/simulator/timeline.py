# SPDX-License-Identifier: Apache-2.0
"""What happens to a chip maker and its service, and when: TCB recoveries, revocations, and troubles of the service.

A timeline is declared, in Python or as a file in TOML or JSON whose tables are the classes here. It holds no state and no clock:
the same timeline and the same time always give the same answers.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - read at run time, when a file is checked against the fields
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, ClassVar, Final, Literal, get_args

from eaa.rats import ConfigurationError
from eaa.simulator.folder import moment

__all__ = [
    "MAX_DELAY",
    "MAX_OVERSIZE",
    "Platform",
    "Publishing",
    "Recovery",
    "Revocation",
    "Timeline",
    "Trouble",
    "TroubleKind",
    "read_timeline",
]

TroubleKind = Literal[
    "refused",
    "status",
    "budget",
    "slow",
    "stalled",
    "replayed",
    "mis-signed",
    "impostor",
    "wrong-fmspc",
    "truncated",
    "oversize",
    "not-json",
    "no-chain",
]
MAX_DELAY: Final = 60.0
"""The longest that an answer is held back, in seconds."""
MAX_OVERSIZE: Final = 64 * 1024 * 1024
_STATUSES: Final = frozenset({400, 401, 403, 404, 410, 429, 500, 502, 503, 504})
_SCHEMA: Final = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class Publishing:
    """How the chip maker publishes when nothing happens.

    ``evaluation`` is the TCB evaluation data number from the beginning. Everything is issued anew every ``reissue_hours``, counted
    from 1970-01-01T00:00:00Z, and lasts ``validity_days``, the root's CRL ``root_crl_days``. With a ``subscription_key``, requests
    for PCK certificates need it.
    """

    __pydantic_config__: ClassVar[Any] = _SCHEMA
    evaluation: int = 18
    reissue_hours: int = 24
    validity_days: int = 30
    root_crl_days: int = 365
    subscription_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _require(self.evaluation >= 1, "evaluation is at least 1")
        _require(1 <= self.reissue_hours <= 24 * 366, "reissue_hours is from 1 hour to a year")
        _require(1 <= self.validity_days <= 3660, "validity_days is from 1 to 3660")
        _require(1 <= self.root_crl_days <= 3660, "root_crl_days is from 1 to 3660")


@dataclass(frozen=True, slots=True)
class Platform:
    """A machine that the chip maker knows, so that its PCK certificates can be asked for."""

    __pydantic_config__: ClassVar[Any] = _SCHEMA
    name: str
    ca: Literal["platform", "processor"] = "platform"


@dataclass(frozen=True, slots=True)
class Recovery:
    """A TCB recovery: from ``early`` on in the early channel and by its number, from ``standard`` on for everybody.

    What was current becomes ``OutOfDate`` with ``advisories``, below a new level. The new level needs ``sgx_svns``, ``pce_svn`` and
    ``tdx_svns``; where they are not given, one microcode SVN more than before. ``module_svn``, ``sgx_qe_svn`` and ``tdx_qe_svn`` are
    the ISVSVNs that the TDX module and the quoting enclaves then need, if they change at all.
    """

    __pydantic_config__: ClassVar[Any] = _SCHEMA
    number: int
    early: datetime
    standard: datetime
    advisories: tuple[str, ...] = ()
    sgx_svns: tuple[int, ...] | None = None
    pce_svn: int | None = None
    tdx_svns: tuple[int, ...] | None = None
    module_svn: int | None = None
    sgx_qe_svn: int | None = None
    tdx_qe_svn: int | None = None

    def __post_init__(self) -> None:
        _require(
            moment(self.early) <= moment(self.standard), f"recovery {self.number} is standard before early"
        )
        for svns in (self.sgx_svns, self.tdx_svns):
            _require(
                svns is None or (len(svns) <= 16 and all(0 <= svn <= 255 for svn in svns)),
                f"recovery {self.number}: up to 16 SVNs from 0 to 255",
            )
        for svn in (self.pce_svn, self.module_svn, self.sgx_qe_svn, self.tdx_qe_svn):
            _require(svn is None or 0 <= svn <= 255, f"recovery {self.number}: an SVN is from 0 to 255")


@dataclass(frozen=True, slots=True)
class Revocation:
    """From ``at`` on, the CRL of its CA lists every PCK certificate that ``machine`` has for a known TCB level."""

    __pydantic_config__: ClassVar[Any] = _SCHEMA
    machine: str
    at: datetime
    ca: Literal["platform", "processor"] = "platform"

    def __post_init__(self) -> None:
        moment(self.at)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something is wrong with the service from ``begin`` until just before ``end``, for the paths that match ``paths``.

    ``paths`` is a pattern with ``*`` and ``?``. The kinds:

    ``refused``
        Nobody answers: connections are reset.
    ``status``
        The answer is ``status``, with ``retry_after`` seconds if given.
    ``budget``
        After ``requests`` requests in ``seconds`` seconds, the answer is 429 with what remains of them as ``Retry-After``.
    ``slow``
        The answer comes ``seconds`` seconds late (at most :data:`MAX_DELAY`).
    ``stalled``
        Nothing new is issued: the answers are those of ``begin``, and expire in time.
    ``replayed``
        The answers are those of ``days`` days before: genuine, but older than what was served already.
    ``mis-signed``
        The issuer chain is genuine, but another key has signed.
    ``impostor``
        Signature and chain belong to somebody else of the same names.
    ``wrong-fmspc``
        The TCB info is of another family of platforms.
    ``truncated``
        The second half is missing.
    ``oversize``
        The answer is padded to ``size`` bytes.
    ``not-json``
        A page in HTML with status 200, as captive portals send it.
    ``no-chain``
        The header with the issuer chain is missing.
    """

    __pydantic_config__: ClassVar[Any] = _SCHEMA
    kind: TroubleKind
    begin: datetime
    end: datetime
    paths: str = "*"
    status: int = 503
    retry_after: int | None = None
    requests: int = 10
    seconds: float = 10.0
    days: int = 7
    size: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        _require(self.kind in get_args(TroubleKind), f"{self.kind!r} is no trouble that is known")
        _require(moment(self.begin) < moment(self.end), f"{self.kind} ends before it begins")
        _require(self.status in _STATUSES, f"a status is one of {sorted(_STATUSES)}")
        _require(self.retry_after is None or self.retry_after >= 0, "retry_after is not negative")
        _require(self.requests >= 0, "a budget is not negative")
        _require(0 < self.seconds <= 86400, "seconds are more than 0 and at most a day")
        _require(
            self.kind != "slow" or self.seconds <= MAX_DELAY, f"an answer is at most {MAX_DELAY:g} s slow"
        )
        _require(1 <= self.days <= 3660, "days are from 1 to 3660")
        _require(0 < self.size <= MAX_OVERSIZE, f"size is at most {MAX_OVERSIZE}")

    def applies(self, at: datetime, path: str) -> bool:
        """Tell whether a request for ``path`` meets this trouble at the time ``at``."""
        return self.begin <= at < self.end and fnmatchcase(path, self.paths)


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that happens. An empty one is a chip maker that publishes, and nothing else."""

    __pydantic_config__: ClassVar[Any] = _SCHEMA
    publishing: Publishing = field(default_factory=Publishing)
    machines: tuple[Platform, ...] = (Platform("machine-1"),)
    recoveries: tuple[Recovery, ...] = ()
    revocations: tuple[Revocation, ...] = ()
    troubles: tuple[Trouble, ...] = ()

    def __post_init__(self) -> None:
        numbers = [self.publishing.evaluation, *(each.number for each in self.recoveries)]
        _require(
            all(one < next_ for one, next_ in pairwise(numbers)),
            "recoveries are listed in the order of their numbers, above the first evaluation number",
        )
        for one, next_ in pairwise(self.recoveries):
            _require(
                one.early <= next_.early and one.standard <= next_.standard,
                f"recovery {next_.number} comes before recovery {one.number}",
            )


def read_timeline(text: bytes, name: str = "the timeline") -> Timeline:
    """Read a timeline in TOML, or in JSON if it begins with a brace; ``name`` is what errors call it.

    :raises ConfigurationError: naming the first member that cannot be used.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - slow, and only files need it

    try:
        if not text.lstrip().startswith(b"{"):
            text = json.dumps(tomllib.loads(text.decode()), default=_rfc3339).encode()
        # JSON in both cases: there, lists are the tuples and texts the times of the fields, strictly checked.
        return TypeAdapter(Timeline).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ConfigurationError(
            f"{name}: {where}: {first['msg']}", hint="docs/simulator.md shows a timeline."
        ) from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}", hint=error.hint) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} is neither TOML nor JSON: {error}") from error


def _rfc3339(value: Any) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise ValueError(f"a {type(value).__name__} has no place here")


def _require(holds: object, message: str) -> None:
    if not holds:
        raise ConfigurationError(message)
