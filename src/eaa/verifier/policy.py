# SPDX-License-Identifier: Apache-2.0
"""Rego policies in Trustee's shape, evaluated out of process with a deadline.

An *attestation* policy (``package policy``, rule ``trust_claims``, optionally ``extensions``) turns the claims of a TEE into a
trustworthiness vector; it asks for reference values with ``query_reference_value("rtmr_1")``. A *resource* policy
(``package policy``, rule ``allow``) decides about one request. A reference value that does not exist is *undefined*, so that no
comparison with it holds; Trustee gives ``null``, with which ``>=`` does.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256, sha384
from importlib.resources import files
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self

from eaa.rats import PolicyError, UnavailableError
from eaa.verifier._policy_process import PolicyProcess
from eaa.verifier._rego_scan import MAX_POLICY_SIZE, VOLATILE_BUILTINS, PolicyScan, scan_policy
from eaa.verifier._rego_tests import in_engine_terms
from eaa.verifier.trust import CLAIM_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MAX_POLICY_SIZE",
    "PolicyEngine",
    "PolicyKind",
    "TrustClaims",
    "load_default",
    "policy_digest",
    "queried_reference_values",
]

MAX_INPUT_SIZE: Final = 4 * 1024 * 1024
"""Bytes of JSON that one evaluation reads."""
_RESERVED_DATA: Final = frozenset({"policy", "reference"})
_MAX_WAITING: Final = 256
_MAX_REMEMBERED_SIZE: Final = 16 * 1024


class PolicyKind(StrEnum):
    """What a policy decides; the value is its name on the wire and on the command line."""

    ATTESTATION = "attestation"
    RESOURCE = "resource"

    @property
    def rule(self) -> str:
        """The rule that such a policy must have."""
        return "trust_claims" if self is PolicyKind.ATTESTATION else "allow"


@dataclass(frozen=True, slots=True)
class TrustClaims:
    """What an attestation policy says: all eight claims of AR4SI (0 where it says nothing) and its extensions by name."""

    vector: Mapping[str, int]
    extensions: Mapping[str, Any] = field(default_factory=dict)


def load_default(kind: PolicyKind | str) -> str:
    """Return the policy text that applies until its owner sets another one. It denies whatever nobody vouched for."""
    return (files(__package__) / "policies" / f"{PolicyKind(kind)}_default.rego").read_text(encoding="utf-8")


def policy_digest(text: str) -> str:
    """Return the SHA-384 of a policy's UTF-8 text as hex, the digest Trustee lists."""
    return sha384(text.encode("utf-8", "surrogatepass")).hexdigest()


def queried_reference_values(text: str) -> tuple[str, ...]:
    """Return the names that the policy gives literally to ``query_reference_value``, in their order.

    :raises PolicyError: when the text cannot be read.
    """
    return scan_policy(text).references


class PolicyEngine:
    """Evaluates policies in a small pool of child processes.

    ``deadline`` is in seconds and counts from when a child begins. ``allow_builtins`` may name members of
    ``VOLATILE_BUILTINS``, which are refused otherwise. Safe to share between tasks and event loops; call :meth:`close` at the end.
    """

    def __init__(
        self,
        *,
        processes: int = 2,
        deadline: float = 2.0,
        remembered: int = 1024,
        allow_builtins: Iterable[str] = (),
    ) -> None:
        if unknown := frozenset(allow_builtins) - VOLATILE_BUILTINS:
            raise PolicyError(f"{', '.join(sorted(unknown))} can never be allowed")
        self._allowed = frozenset(allow_builtins)
        self._deadline = deadline
        self._processes = tuple(PolicyProcess() for _ in range(processes))
        self._idle: SimpleQueue[PolicyProcess] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="policy")
        self._waiting = 0
        self._closed = False
        self._remembered: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
        self._capacity = remembered

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the children ahead of the first question.

        :raises UnavailableError: when one does not come up.
        """
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, process.start) for process in self._processes))

    async def close(self) -> None:
        """End the children; questions that still wait are answered with an error."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for process in self._processes:
            process.stop()
        self._threads.shutdown()
        for process in self._processes:
            process.close()

    async def validate(self, text: str, kind: PolicyKind | str) -> None:
        """Accept a policy's text, or say why not.

        :raises PolicyError: when it does not parse, is not ``package policy``, lacks the rule of its kind, calls what does not exist or
            is not allowed, or fails on empty input.
        """
        kind = PolicyKind(kind)
        scan = self._scan(text)
        if kind.rule not in scan.rules:
            raise PolicyError(
                f"the policy has no rule {kind.rule}", hint=f"A policy of kind {kind} defines {kind.rule}."
            )
        rules = _RULES[kind]
        request = {
            "policy": text,
            "data": '{"reference":{}}',
            "input": "{}",
            "rules": rules,
            "calls": sorted(scan.calls),
        }
        await self._ask(request, once=bool(scan.volatile))

    async def allow(self, text: str, *, data: Mapping[str, Any], input: Any) -> bool:  # noqa: A002 - Rego's own word
        """Ask a resource policy. ``data`` is the request (``plugin``, ``resource-path``, ``query``), ``input`` the token's claims.

        Only a rule ``allow`` that is exactly ``true`` allows; undefined and any other value deny.

        :raises PolicyError: when the policy fails or runs over its deadline, which must be taken as a denial.
        :raises UnavailableError: when no child can be asked.
        """
        if _RESERVED_DATA & data.keys():
            raise PolicyError(f"data may not contain {' or '.join(sorted(_RESERVED_DATA))}")
        values = await self._evaluate(text, {**data, "reference": {}}, input, PolicyKind.RESOURCE)
        return values.get("allow") is True

    async def trust_claims(
        self,
        text: str,
        *,
        input: Any,  # noqa: A002 - Rego's own word
        reference_values: Mapping[str, Any],
    ) -> TrustClaims:
        """Ask an attestation policy about the claims of a TEE (:func:`eaa.verifier.claims.policy_input`).

        :raises PolicyError: when the policy fails, runs over its deadline, or its result is not a trustworthiness vector.
        :raises UnavailableError: when no child can be asked.
        """
        scan = self._scan(text)
        whole = scan.computed_references or scan.reads_data
        names = reference_values.keys() if whole else reference_values.keys() & set(scan.references)
        # Only what the policy can ask for goes to the child: an owner may have very many values.
        reference = {name: reference_values[name] for name in names if reference_values[name] is not None}
        values = await self._evaluate(text, {"reference": reference}, input, PolicyKind.ATTESTATION)
        return TrustClaims(_vector(values.get("trust_claims")), _extensions(values.get("extensions")))

    async def test_rules(self, text: str, tests: str, names: Iterable[str]) -> dict[str, Any]:
        """Return the values of the rules ``names`` of ``tests``, a Rego text of any package that tests a policy's ``text``.

        Undefined rules are left out. ``with input as …`` and ``with data.… as …`` say what the policy sees, reference values being
        ``data.reference``.

        :raises PolicyError: when one of the texts or one of the rules fails.
        :raises UnavailableError: when no child can be asked.
        """
        policy, scan = self._scan(text), self._scan(tests, package=None)
        request = {
            "policy": in_engine_terms(text),
            "tests": in_engine_terms(tests),
            "package": scan.package,
            "data": '{"reference":{}}',
            "input": "{}",
            "rules": list(names),
            "calls": sorted(policy.calls | scan.calls),
        }
        return await self._ask(request, once=bool(policy.volatile | scan.volatile))

    def _scan(self, text: str, package: str | None = "policy") -> PolicyScan:
        scan = scan_policy(text)
        if package is not None and scan.package != package:
            raise PolicyError(f"the package is {scan.package}", hint=f"Begin with `package {package}`.")
        if refused := scan.volatile - self._allowed:
            raise PolicyError(
                f"{', '.join(sorted(refused))} is not allowed",
                hint="A verdict must be the same whenever it is recomputed.",
            )
        return scan

    async def _evaluate(
        self, text: str, data: Mapping[str, Any], given: Any, kind: PolicyKind
    ) -> dict[str, Any]:
        scan = self._scan(text)
        request: dict[str, Any] = {"policy": text, "data": _canonical(data), "input": _canonical(given)}
        # No part contains a NUL, so that joining them is unambiguous.
        key = sha256("\0".join((kind, *request.values())).encode()).digest()
        if not scan.volatile and (values := self._remembered.get(key)) is not None:
            self._remembered.move_to_end(key)
            return values
        values = await self._ask({**request, "rules": _RULES[kind]}, once=bool(scan.volatile))
        if not scan.volatile and len(_canonical(values)) <= _MAX_REMEMBERED_SIZE:
            self._remembered[key] = values
            while len(self._remembered) > self._capacity:
                self._remembered.popitem(last=False)
        return values

    async def _ask(self, request: dict[str, Any], *, once: bool = False) -> dict[str, Any]:
        if self._closed:
            raise UnavailableError(
                "the policy engine is closed", hint="The server is stopping; ask again later."
            )
        if self._waiting >= _MAX_WAITING:
            raise UnavailableError("too many policy evaluations are waiting", hint="Try again in a moment.")
        self._waiting += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._ask_one, request, once
            )
        finally:
            self._waiting -= 1
        if not isinstance(values := answer.get("values"), dict):
            raise PolicyError(
                str(answer.get("error", "the engine gives no answer")), hint="Correct the policy."
            )
        return values

    def _ask_one(self, request: dict[str, Any], once: bool) -> dict[str, Any]:  # noqa: FBT001 - executors pass by position
        process = self._idle.get()
        try:
            return process.ask(request, self._deadline, once=once)
        finally:
            self._idle.put(process)


_RULES: Final = {
    PolicyKind.ATTESTATION: ["trust_claims", "extensions"],
    PolicyKind.RESOURCE: ["allow"],
}


def _canonical(value: Any) -> str:
    """Return JSON with sorted keys. Characters stay themselves where JSON lets them: the engine compares strings as written."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise PolicyError(
            "the policy's input is not JSON", hint="Send plain JSON values, not too deeply nested."
        ) from error
    if size > MAX_INPUT_SIZE:
        raise PolicyError(f"the policy's input has {size} bytes, at most {MAX_INPUT_SIZE} are read")
    return text


def _vector(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise PolicyError(
            "trust_claims is not an object",
            hint="Give it a value for every input, such as defaults that deny.",
        )
    if unknown := sorted(value.keys() - set(CLAIM_NAMES)):
        raise PolicyError(
            f"unknown trust claim {unknown[0][:64]!r}", hint=f"Known are: {', '.join(CLAIM_NAMES)}."
        )
    for name, level in value.items():
        if type(level) is not int or not -128 <= level <= 127:
            raise PolicyError(f"trust claim {name} is not an integer from -128 to 127")
    return {name: value.get(name, 0) for name in CLAIM_NAMES}


_OWN_MEMBERS: Final = (
    "ear.status",
    "ear.trustworthiness-vector",
    "ear.appraisal-policy-id",
    "ear.veraison.",
    "ear.eaa.",
)


def _extensions(value: Any) -> dict[str, Any]:
    """Read ``[{name, key, value}]``. A name that would overwrite what the verifier itself says is refused."""
    if value is None:
        return {}
    if not isinstance(value, list):
        raise PolicyError(
            "extensions is not a list", hint="Write a list of objects with name, key and value."
        )
    found: dict[str, Any] = {}
    for each in value:
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or type(each.get("key")) is not int or "value" not in each:
            raise PolicyError("an extension is not an object with name, key (an integer) and value")
        if not name or name.startswith(_OWN_MEMBERS) or name in found:
            raise PolicyError(f"extension {name[:64]!r} is reserved or given twice")
        found[name] = each["value"]
    return found
