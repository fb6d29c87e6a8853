"""What the wire formats share: the engine behind its queue, and answers of computed JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from samrefine_rt.serve.engine import Engine
from samrefine_rt.serve.errors import RequestError
from samrefine_rt.serve.metrics import Metrics
from samrefine_rt.serve.work import Job, Result, Work, WorkQueue
from samrefine_runtime.arguments import Progress

GONE = 499
"""Status for the log where nobody waits for an answer any more, as nginx has it."""


@dataclass(frozen=True)
class Service:
    """An engine that answers requests."""

    engine: Engine
    queue: WorkQueue = field(default_factory=WorkQueue)

    def metrics(self) -> Metrics:
        """Return fresh counters of this service."""
        return Metrics(self.engine, self.queue)

    async def compute(
        self, request: Request, work: Work[Result], *, is_urgent: bool = False
    ) -> Result:
        """Compute something for a request, whose body was read, when it is its turn.

        Work whose client goes away, or whose time is over, is stopped: at once while it waits, and
        between two batches of prompts while it runs.

        Raises:
            RequestError: 503 while the server stops, 504 when the time is over.
        """
        job = self.queue.submit(work, is_urgent=is_urgent)
        done = asyncio.wrap_future(job.result)
        # Nobody may be there to see an error: asyncio would complain
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        gone = asyncio.create_task(_disconnected(request))
        try:
            waited: set[asyncio.Future[Any]] = {done, gone}
            await asyncio.wait(
                waited,
                timeout=self.engine.limits.timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            return _result(job, is_gone=gone.done())
        finally:
            job.stop()
            gone.cancel()

    async def answer(
        self, request: Request, work: Callable[[Progress], Any], *, is_urgent: bool = False
    ) -> Response:
        """Compute a JSON value for a request and answer it; raises as `compute`."""
        # Masks make long texts: not in the thread that answers all connections
        content = await self.compute(
            request,
            lambda step: json.dumps(work(step), allow_nan=False).encode(),
            is_urgent=is_urgent,
        )
        return Response(content, media_type="application/json")


def _result(job: Job[Result], *, is_gone: bool) -> Result:
    """Return the result of a job that is over, or say why there is none."""
    if job.result.done() and not job.result.cancelled():
        return job.result.result()
    if job.result.cancelled():
        raise RequestError(503, "STOPPING", "the server is stopping")
    if is_gone:
        raise RequestError(GONE, "CLIENT_GONE", "the client closed the connection")
    raise RequestError(504, "TOO_LATE", "the answer would come too late (--timeout)")


async def _disconnected(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
