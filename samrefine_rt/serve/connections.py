"""Connections whose other end does not do its part: given up after a while, and few enough.

uvicorn waits for ever for the rest of a request's head, and for an answer to be read.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_SECONDS = 10
"""Seconds from the first byte of a request, or from the connection, to the end of its head."""

READ_SECONDS = 60
"""Seconds that an answer may take to be read."""

MOST = 256
"""Connections at once; a further one is closed as it comes."""


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 over one connection, which is cut when its other end is too slow."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the head of a request."""
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
            return
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle what came, and wait for the rest of a head that is not whole."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget_head()
        elif self._head is None:
            self._watch_head()

    def on_response_complete(self) -> None:
        """Wait until what was written is read, beside what uvicorn does."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(READ_SECONDS, self._cut_unread, self.cycle)

    def _watch_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _cut_unread(self, cycle: RequestResponseCycle) -> None:
        """Cut the connection if nothing was asked since the answer, and it is not read yet."""
        if self.cycle is cycle and self.transport.get_write_buffer_size():
            self.transport.abort()
