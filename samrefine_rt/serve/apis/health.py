"""`GET /health` and `GET /`: whether the server is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from samrefine_rt.serve.service import Service


def routes(service: Service) -> Sequence[Route]:
    """Return the routes."""

    async def health(request: Request) -> Response:
        # Label Studio's names, then those of X-AnyLabeling
        now = datetime.now(timezone.utc).isoformat()
        return JSONResponse(
            {
                "status": "UP",
                "model_class": service.engine.name,
                "models_loaded": 1,
                "timestamp": now,
            }
        )

    async def index(request: Request) -> Response:
        return PlainTextResponse("samrefine is running; /openapi.json describes its API\n")

    return [Route("/health", health), Route("/", index)]
