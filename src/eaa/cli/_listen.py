# SPDX-License-Identifier: Apache-2.0
"""The socket of a command that serves."""

from __future__ import annotations

import socket

import click

from eaa.rats import ConfigurationError

__all__ = ["listening_socket"]


def listening_socket(listen: str) -> socket.socket:
    """Return a socket that listens on ``HOST:PORT``; port 0 takes a free one, an IPv6 host may stand in brackets.

    :raises click.UsageError: when ``listen`` is not of that form.
    :raises ConfigurationError: when the system refuses the address.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise click.UsageError(f"--listen is {listen!r}, expected HOST:PORT")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {listen}: {error.strerror or error}") from error
