"""The ASGI application: routes of all wire formats behind the guard and the limits."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samrefine_rt.serve.apis import APIS
from samrefine_rt.serve.errors import RequestError, body_of, request_error
from samrefine_rt.serve.guard import Guard
from samrefine_rt.serve.limits import Intake
from samrefine_rt.serve.metrics import CONTENT_TYPE, Metrics
from samrefine_rt.serve.service import Service
from samrefine_rt.serve.settings import Access

_log = logging.getLogger(__name__)

_OTHER = "other"
"""What the counters call a path that is none of the routes."""

_SAFE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""Headers of every answer."""


def create_app(
    service: Service, access: Access | None = None, more: Sequence[BaseRoute] = ()
) -> Starlette:
    """Put the application together.

    Args:
        service: what answers; it is closed with the application.
        access: who may ask; None for anybody who reaches the server by localhost or an address.
        more: routes of further rooms on the same server.
    """
    metrics = service.metrics()

    async def show_metrics(request: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    routes = [
        Route("/metrics", show_metrics),
        *(route for name in APIS for route in APIS[name](service)),
        *more,
    ]
    paths = {route.endpoint: route.path for route in routes if isinstance(route, Route)}

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(service.queue.close)

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_error},
        middleware=[
            Middleware(Answers, metrics=metrics, paths=paths),
            Middleware(Guard, access=access or Access()),
            Middleware(Intake, limits=service.engine.limits),
        ],
    )


def _http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: an unknown path or method."""
    assert isinstance(error, HTTPException)
    return _answer(RequestError(error.status_code, "NOT_HERE", error.detail, error.headers))


def _answer(error: RequestError) -> Response:
    return JSONResponse(body_of(error), error.status, error.headers)


class Answers:
    """Sees to it that every request gets an answer, is counted and is logged."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Mapping[Callable[..., object], str]):
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_SAFE]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            # An answer that has begun cannot be replaced: the connection is cut
            if status:
                raise
            known = request_error(error)
            if known.code == "INTERNAL_ERROR":
                _log.exception("a request failed")
            await _answer(known)(scope, receive, watched)
        finally:
            self._record(scope, status, time.perf_counter() - start)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log an answer. Queries and bodies are nobody's business."""
        route = self.paths.get(scope.get("endpoint", None), _OTHER)
        self.metrics.count(route, status, seconds)
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
            "client": (scope.get("client") or ("",))[0],
        }
        _log.info("request", extra={"fields": fields})
