# SPDX-License-Identifier: Apache-2.0
"""Attester drivers: what asks one kind of hardware for evidence.

A driver is a class that takes its settings as one mapping, satisfies :class:`Attester`, and is registered under the entry
point group ``eaa.attesters``; a third party ships its own the same way. A driver is always chosen by name: guessing the
hardware would let the host choose it.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ENTRY_POINTS", "Attester", "load_attester"]

ENTRY_POINTS: Final = "eaa.attesters"


@runtime_checkable
class Attester(Protocol):
    """The hardware of this machine, as a source of evidence."""

    @property
    def tee(self) -> str:
        """The TEE's name on the wire: ``tdx``, ``sgx``, …."""
        ...

    async def collect(self, report_data: bytes) -> dict[str, Any]:
        """Return evidence over 64 bytes of ``report_data``, as the JSON object that the TEE's verifier reads.

        :raises EaaError: when the hardware gives none.
        """
        ...


def load_attester(name: str, settings: Mapping[str, Any]) -> Attester:
    """Return the driver registered as ``name``, made with its settings.

    :raises ConfigurationError: when there is no such driver, it cannot be loaded, or it refuses its settings.
    """
    found = entry_points(group=ENTRY_POINTS)
    if name not in found.names:
        known = ", ".join(sorted(found.names)) or "none"
        raise ConfigurationError(f"no attester driver {name!r} is installed", hint=f"Installed are: {known}.")
    try:
        driver = found[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"the attester driver {name!r} cannot be loaded: {type(error).__name__}",
            hint="Install the package that provides it completely.",
        ) from error
    attester = driver(dict(settings))
    if not isinstance(attester, Attester):
        raise ConfigurationError(
            f"{name!r} is not an attester driver", hint="It needs `tee` and `collect(report_data)`."
        )
    return attester
