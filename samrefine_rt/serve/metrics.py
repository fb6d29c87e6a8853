"""Counters of the server, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from samrefine_rt import __version__
from samrefine_rt.serve.engine import Engine
from samrefine_rt.serve.work import WorkQueue

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
"""Upper bounds of the histograms."""


class Metrics:
    """What happened since the server started."""

    def __init__(self, engine: Engine, queue: WorkQueue):
        """Register everything in a registry of its own: a process may have several servers."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        # Not by path as it was sent: strangers would make up as many as they like
        self.requests = Counter(
            "samrefine_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "samrefine_request_seconds",
            "Time from a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        for name, text, value in (
            ("queue_length", "Requests that wait for the model.", lambda: len(queue)),
            ("embeddings", "Image embeddings kept.", lambda: len(engine.embeddings)),
            ("embedding_bytes", "Bytes of them.", lambda: engine.embeddings.bytes),
            ("embedding_hits", "Embeddings found.", lambda: engine.embeddings.hits),
            ("embedding_misses", "Embeddings computed.", lambda: engine.embeddings.misses),
        ):
            Gauge(f"samrefine_{name}", text, registry=self.registry).set_function(value)
        labels = {"version": __version__, "model": engine.name}
        Gauge("samrefine_info", "Always 1.", list(labels), registry=self.registry).labels(
            **labels
        ).set(1)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all of it."""
        return generate_latest(self.registry)
