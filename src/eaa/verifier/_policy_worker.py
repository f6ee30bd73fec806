# SPDX-License-Identifier: Apache-2.0
"""The child process in which policies run. Started as a script; imports nothing of EAA and nothing but the engine.

It reads requests from its standard input and answers on its standard output, each a 4-byte big-endian length and a JSON
object. A request gives ``policy`` (Rego text), ``data`` and ``input`` (JSON texts), ``rules`` (names in ``package policy``),
``calls`` (functions that must be builtins) and ``seconds`` (after which the kernel kills this process, should its parent be gone).
It may also give ``tests`` (Rego text beside the policy) and ``package`` (the package of the rules then). The answer holds
``values`` (the rules that are defined) or ``error`` (text for the policy's author).

The engine is native code that hostile text can crash, stall or bloat: nobody should survive that but the parent.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import struct
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import regopy  # type: ignore[import-untyped]  # the engine ships no annotations

if TYPE_CHECKING:
    from collections.abc import Mapping

# A missing reference value is undefined and not null: no comparison with it, whatever the operator, can hold.
SHIM: Final = "package policy\nimport rego.v1\nquery_reference_value(id) := data.reference[id]\n"

MEMORY_LIMIT: Final = 512 * 1024 * 1024
"""Bytes that evaluations may take beyond what the engine takes when it starts."""
MAX_ANSWER: Final = 1024 * 1024
_BUNDLES: Final = 32
_LENGTH: Final = struct.Struct(">I")
_LANGUAGE: Final = frozenset({"print", "set"})
"""Functions of the language itself, which the engine does not list among its builtins."""
_ERROR: Final = re.compile(rb"\(error(?: \d+:(\w+)\|(\d+)\|\d+)?\s*\(errormsg (\d+):")
_POLICY: Final = "policy"
_TESTS: Final = "tests"


class _Refused(Exception):
    """The engine says no; the text is meant for the policy's author."""


def _explain(report: str, modules: Mapping[str, str]) -> str:
    """Turn the engine's error tree into lines like ``line 3: Invalid boolean operator``."""
    if "bad_alloc" in report:
        raise MemoryError  # the engine goes on after it, in an unknown state
    raw, found = report.encode(), dict[str, None]()
    for match in _ERROR.finditer(raw):
        message = raw[match.end() : match.end() + int(match[3])].decode(errors="replace")
        module = match[1].decode() if match[1] else ""
        if module in modules:
            line = modules[module].encode().count(b"\n", 0, int(match[2])) + 1
            where = "line" if module == _POLICY else f"{module} line"
            message = f"{where} {line}: {message}"
        found[message] = None
    return "; ".join(list(found)[:5]) or "a rule has two values, or the policy fails when it is evaluated"


class Engine:
    """The Rego engine with a few compiled policies at hand."""

    def __init__(self) -> None:
        self._bundles: OrderedDict[bytes, tuple[Any, Any]] = OrderedDict()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the values of the asked rules, or why there are none."""
        modules: dict[str, str] = {name: request[name] for name in (_POLICY, _TESTS) if name in request}
        package = request.get("package", _POLICY)
        try:
            compiled = self._compiled(modules, request["data"], package, tuple(request["rules"]))
            unknown = [name for name in request.get("calls", ()) if not self._known(name)]
            if unknown:
                return {"error": f"unknown function {', '.join(sorted(unknown))}"}
            return {"values": self._evaluated(compiled, request["input"], request["rules"])}
        except regopy.RegoError as error:
            return {"error": _explain(str(error), modules)}
        except json.JSONDecodeError as error:
            # The binding parses its own error text as JSON and fails; the text is in the exception.
            return {"error": _explain(error.doc, modules)}
        except _Refused as error:
            return {"error": str(error)}

    def _known(self, name: str) -> bool:
        return name in _LANGUAGE or regopy.Interpreter().is_builtin(name)

    def _compiled(self, modules: Mapping[str, str], data: str, package: str, rules: tuple[str, ...]) -> Any:
        key = sha256(json.dumps([modules, data, package, rules]).encode()).digest()
        if key in self._bundles:
            self._bundles.move_to_end(key)
            return self._bundles[key][1]
        interpreter = regopy.Interpreter()
        interpreter.add_module("shim", SHIM)
        for name, text in modules.items():
            interpreter.add_module(name, text)
        interpreter.add_data_json(data)
        # Comprehensions keep one undefined rule from making the whole query undefined.
        query = "; ".join(f"x{at} := [v | v := data.{package}.{rule}]" for at, rule in enumerate(rules))
        bundle = interpreter.build(query, [])
        if not bundle.ok():
            raise _Refused("the policy does not compile")
        self._bundles[key] = interpreter, bundle  # the bundle may rest on the interpreter that made it
        if len(self._bundles) > _BUNDLES:
            self._bundles.popitem(last=False)
        return bundle

    def _evaluated(self, bundle: Any, input_json: str, rules: list[str]) -> dict[str, Any]:
        interpreter = regopy.Interpreter()
        interpreter.set_input_term(input_json)
        output = interpreter.query_bundle(bundle)
        if not output.ok():
            raise _Refused(_explain(str(output), {}))
        if len(output.results) != 1 or len(output.results[0].bindings) != len(rules):
            raise _Refused("the policy gives no single result")
        found = [output.results[0].bindings[f"x{at}"] for at in range(len(rules))]
        return {rule: values[0] for rule, values in zip(rules, found, strict=True) if values}


def _encoded(answer: dict[str, Any]) -> bytes:
    try:
        encoded = json.dumps(answer, allow_nan=False).encode()
    except ValueError:
        return b'{"error": "the result has a number out of range"}'
    return encoded if len(encoded) <= MAX_ANSWER else b'{"error": "the result is too large"}'


def _confine() -> None:
    """Take from this process what a policy never needs: memory without end, files, core dumps."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    reserved = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
    for limit, value in (
        # The engine's allocator reserves hundreds of gigabytes of addresses when it is loaded; what counts is what comes on top.
        (resource.RLIMIT_DATA, reserved + MEMORY_LIMIT),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(limit, (value, value))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the parent closes the pipe."""
    engine = Engine()
    answers.write(_LENGTH.pack(2) + b"{}")
    answers.flush()
    while len(head := requests.read(_LENGTH.size)) == _LENGTH.size:
        request = json.loads(requests.read(*_LENGTH.unpack(head)))
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        answer = _encoded(engine.answer(request))
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()


def main() -> None:
    """Run as a child: keep the two pipes, and send whatever the engine prints nowhere."""
    with os.fdopen(os.dup(0), "rb") as requests, os.fdopen(os.dup(1), "wb") as answers:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        regopy.set_default_log_level("None")
        _confine()
        serve(requests, answers)


if __name__ == "__main__":
    main()
