# SPDX-License-Identifier: Apache-2.0
"""How the command line administers a running Verdictd: its address, its authority, short-lived tokens, its answers as errors."""

from __future__ import annotations

import functools
import json
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import click

from eaa.rats import AccessDenied, ConfigurationError, EaaError, InputError, NotFound, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from eaa.verdictd.administrator import Credential

__all__ = ["AdminClient", "Target", "admin_options", "target_options"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_TIMEOUT: Final = 30.0
_MAX_ANSWER: Final = 16 << 20
_READY_FILE: Final = "verdictd.json"


@dataclass(frozen=True, slots=True)
class Target:
    """Which Verdictd to administer, and with what. ``authority`` is the CA file to trust; None means the system's.

    ``data`` is its data directory, if it is on this machine; ``simulated`` tells that it trusts a chip maker in software.
    """

    url: str
    credential: Path
    authority: Path | None = None
    data: Path | None = None
    simulated: bool = False

    @classmethod
    def of_data_directory(cls, folder: Path) -> Target:
        """Return the Verdictd that runs on this data directory.

        :raises ConfigurationError: when none was started on it.
        """
        try:
            ready = json.loads((folder / _READY_FILE).read_bytes())
            return cls(
                str(ready["admin_url"]),
                Path(ready["credential_file"]),
                Path(ready["ca_file"]),
                folder,
                ready.get("simulated") is True,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"no Verdictd was started on {folder}",
                hint=f"Start one with: verdictd --data {folder}; or name one by --url and --credential.",
            ) from error


class AdminClient:
    """A synchronous client of Verdictd's administration. Each answer that is no success becomes an :class:`EaaError`."""

    def __init__(self, target: Target) -> None:
        # Imported here: --help needs none of it.
        import httpx2  # noqa: PLC0415

        from eaa.verdictd.administrator import Credential  # noqa: PLC0415

        address = urlsplit(target.url)
        if address.scheme != "https" or not address.hostname:
            raise ConfigurationError(
                f"{target.url} is no https URL", hint="Verdictd is administered over TLS only."
            )
        self._credential: Credential = Credential.load(target.credential)
        self._url = target.url
        try:
            context = ssl.create_default_context(cafile=target.authority)
        except OSError as error:
            raise ConfigurationError(f"cannot read the CA file {target.authority}") from error
        self._client = httpx2.Client(base_url=target.url, verify=context, timeout=_TIMEOUT, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **params: str | int) -> Any:
        """Return the JSON at ``path``."""
        return self._request("GET", path, params=params)

    def put(self, path: str, document: Any) -> Any:
        """Send a JSON document to ``path`` and return the answer."""
        return self._request("PUT", path, json=document)

    def put_bytes(self, path: str, content: bytes) -> Any:
        """Send bytes to ``path`` and return the answer."""
        headers = {"content-type": "application/octet-stream"}
        return self._request("PUT", path, content=content, headers=headers)

    def post(self, path: str, document: Any) -> Any:
        """Send a JSON document to ``path`` and return the answer."""
        return self._request("POST", path, json=document)

    def delete(self, path: str) -> None:
        """Delete what is at ``path``."""
        self._request("DELETE", path)

    def _request(self, method: str, path: str, **kwargs: Any) -> Any:
        import httpx2  # noqa: PLC0415

        headers = {"authorization": f"Bearer {self._credential.mint()}", **kwargs.pop("headers", {})}
        try:
            with self._client.stream(method, path, headers=headers, **kwargs) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _MAX_ANSWER:
                        raise UnavailableError(f"{self._url} sends more than {_MAX_ANSWER} bytes")
        except httpx2.TransportError as error:
            raise UnavailableError(
                f"cannot reach Verdictd at {self._url}: {_reason(error)}",
                hint="See that it runs, and that the CA file is the one it made.",
            ) from error
        except (httpx2.InvalidURL, httpx2.HTTPError) as error:
            raise ConfigurationError(f"{self._url} cannot be used: {type(error).__name__}") from error
        if response.is_success:
            return json.loads(body) if body else None
        raise _error(response.status_code, bytes(body))


def admin_options(command: _Command) -> _Command:
    """Add the options of :func:`target_options`; the command gets an open :class:`AdminClient` first."""

    @functools.wraps(command)
    def with_client(*args: Any, target: Callable[[], Target], **kwargs: Any) -> Any:
        with AdminClient(target()) as client:
            return command(client, *args, **kwargs)

    decorated: Any = target_options(with_client)
    result: _Command = decorated
    return result


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--data`` or ``--url``, ``--credential``, ``--ca-file``.

    The command gets ``target``, to be called once it needs a Verdictd; that fails as bad usage when none was named.
    """

    @functools.wraps(command)
    def with_target(
        *args: Any,
        data: Path | None,
        url: str | None,
        credential: Path | None,
        ca_file: Path | None,
        **kwargs: Any,
    ) -> Any:
        return command(*args, target=lambda: _target(data, url, credential, ca_file), **kwargs)

    decorated: Any = with_target
    path: Any = click.Path(path_type=Path)
    for option in (
        click.option("--ca-file", type=path, help="CA to trust; by default the system's."),
        click.option("--credential", type=path, help="The administrator's credential file, with --url."),
        click.option("--url", metavar="URL", help="Address of a Verdictd elsewhere."),
        click.option(
            "--data",
            type=path,
            envvar="EAA_DATA",
            show_envvar=True,
            help="Data directory of a Verdictd on this machine.",
        ),
    ):
        decorated = option(decorated)
    result: Callable[..., Any] = decorated
    return result


def _target(data: Path | None, url: str | None, credential: Path | None, ca_file: Path | None) -> Target:
    if url is not None:
        if credential is None:
            raise click.UsageError("--url needs --credential")
        return Target(url, credential, ca_file)
    if data is None:
        raise click.UsageError("name a Verdictd by --data DIR, or by --url URL and --credential FILE")
    if credential is not None or ca_file is not None:
        found = Target.of_data_directory(data)
        return replace(found, credential=credential or found.credential, authority=ca_file or found.authority)
    return Target.of_data_directory(data)


def _error(status: int, body: bytes) -> EaaError:
    """Turn a refusal into the error that gives the right exit status."""
    try:
        document = json.loads(body)["error"]
        message, hint = str(document["message"]), str(document.get("hint", ""))
        check, request_id = str(document.get("check", "")), str(document.get("request_id", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return UnavailableError(
            f"HTTP {status} without an explanation", hint="Is this the address of a Verdictd?"
        )
    if status in (401, 403):
        return AccessDenied(message, check=check or "admin.token", hint=hint)
    if status == 404:
        return NotFound(message, hint=hint)
    if status < 500:
        return InputError(message, hint=hint)
    return UnavailableError(f"{message} (request {request_id})", hint=hint or "Verdictd's log says more.")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
