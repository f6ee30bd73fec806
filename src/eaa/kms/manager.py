# SPDX-License-Identifier: Apache-2.0
"""What a key management system does for EAA, and how a driver for one is found.

A driver is a class with a class method ``open(settings)`` that an installed distribution names in the entry point group
``eaa.kms``; nothing here has to change for a new one.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final, Protocol, cast, runtime_checkable

from eaa.rats import ConfigurationError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KeyManager", "KeyManagerDriver", "UnsealError", "load_key_manager"]

ENTRY_POINT_GROUP: Final = "eaa.kms"


class UnsealError(InputError):
    """Sealed bytes that do not open: altered, or sealed under another root key or context. Nothing of them was returned."""

    code = "kms.unseal"
    http_status = 500


@runtime_checkable
class KeyManager(Protocol):
    """Seals and opens small secrets under a root key that it never shows."""

    @property
    def name(self) -> str:
        """The driver's name, as in the configuration."""
        ...

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """Return ``plaintext`` encrypted and authenticated; equal inputs give different outputs.

        :param context: what the secret is and where it belongs; not secret, and needed unchanged to open it.
        :raises UnavailableError: when the system behind the driver cannot be reached.
        """
        ...

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        """Return what :meth:`wrap` sealed.

        :raises UnsealError: when it was altered, or sealed under another root key or context.
        :raises UnavailableError: when the system behind the driver cannot be reached.
        """
        ...

    async def generate(self, size: int) -> bytes:
        """Return ``size`` random bytes (1 to 65536) fit to be a key.

        :raises InputError: when the size is out of bounds.
        """
        ...


class KeyManagerDriver(Protocol):
    """What an entry point of the group ``eaa.kms`` loads."""

    def open(self, settings: Mapping[str, str]) -> KeyManager:
        """Return the key manager these settings describe; opening the same twice gives the same root key.

        :raises ConfigurationError: when the settings cannot be used.
        """
        ...


def load_key_manager(name: str, settings: Mapping[str, str]) -> KeyManager:
    """Open the key manager of the named driver (``local``, or what a third party's distribution registers).

    :param settings: the driver's own; for ``local`` see :class:`eaa.kms.LocalKeyManager`.
    :raises ConfigurationError: when there is no such driver, two distributions claim the name, it does not load, or it
        refuses the settings.
    """
    found = tuple(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not found:
        known = sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))
        raise ConfigurationError(
            f"no key manager is called {name!r}",
            hint=f"Known are: {', '.join(known)}. Others come with the package that registers them under {ENTRY_POINT_GROUP!r}.",
        )
    if len({point.value for point in found}) > 1:
        raise ConfigurationError(
            f"key manager {name!r} is registered more than once: {', '.join(sorted(point.value for point in found))}",
            hint="Uninstall all but one of the packages: which one guards the keys must not depend on chance.",
        )
    try:
        driver = cast("KeyManagerDriver", found[0].load())
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"key manager {name!r} does not load: {error}",
            hint="Install what the driver needs, or choose another key manager.",
        ) from error
    return driver.open(settings)
