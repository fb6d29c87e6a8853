"""How much is taken in: requests at once, bytes of their bodies, and the time that these take."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samrefine_rt.serve.errors import RequestError
from samrefine_rt.serve.settings import Limits

_PAUSE_SECONDS = 10
"""Longest time between two pieces of a body."""

_BODIES = 4
"""Bodies of the largest size that are held at once, of all requests together."""

_CLOSE = {"Connection": "close"}
"""What is not read to its end cannot be followed by another request."""


class Intake:
    """Counts requests with a body and their bytes, and refuses what is above the limits.

    A client whose body does not come is given up: it would keep a place that others wait for.
    """

    def __init__(self, app: ASGIApp, limits: Limits):
        self.app, self.limits = app, limits
        self.requests = self.bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on with a body that is watched. Raises RequestError."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        if self.requests >= self.limits.queue:
            raise self._busy("as many requests as the queue holds are waiting")
        body = _Body(self, receive, Headers(scope=scope).get("content-length"))
        self.requests += 1
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.requests -= 1
            self.bytes -= body.bytes

    def add(self, count: int) -> None:
        """Count bytes that are held. Raises RequestError."""
        if self.bytes + count > _BODIES * self.limits.max_bytes:
            raise self._busy("the requests that are waiting are too large for another one")
        self.bytes += count

    def _busy(self, message: str) -> RequestError:
        # What waits is done one after the other: come back when about half of it is
        retry = {"Retry-After": str(max(1, self.requests // 2))}
        return RequestError(503, "BUSY", message, {**_CLOSE, **retry})


class _Body:
    """The body of one request."""

    def __init__(self, intake: Intake, receive: Receive, length: str | None):
        self._intake, self._receive = intake, receive
        self._is_whole, self.bytes = False, 0
        self._deadline = asyncio.get_running_loop().time() + intake.limits.timeout
        if length is not None and length.isascii() and length.isdigit():
            # By the header before anything is read; what comes is counted all the same
            self._check(int(length[:20]))

    async def receive(self) -> Message:
        """Return the next piece; after the last one, wait for the end of the connection."""
        if self._is_whole:
            return await self._receive()
        left = self._deadline - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), min(_PAUSE_SECONDS, max(left, 0)))
        except (TimeoutError, asyncio.TimeoutError):
            raise RequestError(
                408, "TOO_SLOW", "the body of the request does not come", _CLOSE
            ) from None
        count = len(message.get("body", b""))
        self._check(self.bytes + count)
        self._intake.add(count)
        self.bytes += count
        self._is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    def _check(self, count: int) -> None:
        most = self._intake.limits.max_bytes
        if count > most:
            what = f"the request has more than {most} bytes (--max-megabytes)"
            raise RequestError(413, "TOO_LARGE", what, _CLOSE)
