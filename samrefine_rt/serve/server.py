"""Running the application in one process, until it is told to stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from samrefine_rt.serve.connections import ImpatientProtocol
from samrefine_runtime.errors import SettingsError, message_of

_GRACE_SECONDS = 30
"""Time that requests have to end after the signal to stop."""


def bind(host: str, port: int) -> socket.socket:
    """Take a port, so that a wrong one is said before a bundle is loaded.

    Args:
        host: a name or an address.
        port: 0 for any free one.

    Raises:
        SettingsError: there is no such address here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {message_of(error)}") from None
    return taken


def serve(app: ASGIApp, taken: socket.socket, started: Callable[[], None]) -> None:
    """Answer requests on a port until SIGINT or SIGTERM, then end what was begun.

    Args:
        app: the application.
        taken: the port, from `bind`.
        started: called when requests are answered.
    """
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, started)
    # uvicorn raises the signal again when it has stopped: the process ends well instead
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        server.run(sockets=[taken])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Says when it has started."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]):
        super().__init__(config)
        self._say = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._say()
