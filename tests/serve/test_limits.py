"""What is above a limit is told to come back, or how large it may be."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from starlette.testclient import TestClient

from samrefine_rt.serve.app import create_app
from samrefine_rt.serve.engine import Engine
from samrefine_rt.serve.service import Service
from samrefine_rt.serve.settings import Limits
from samrefine_runtime.bundle import Bundle
from tests.samples import ONE_THREAD
from tests.serve.clients import HOST, IMAGE, JPEG, serving

PROMPT = {"image": IMAGE, "points": [[200, 150]]}


def test_a_full_queue_says_when_to_come_back() -> None:
    service = Service(Engine(Bundle.load("demo"), Limits(queue=2), session=ONE_THREAD))
    gate = threading.Event()
    service.queue.submit(lambda step: gate.wait(20))
    with TestClient(create_app(service), base_url=HOST) as client, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.post, "/v1/segment", json=PROMPT) for _ in range(2)]
        while len(service.queue) < 2:
            assert not any(each.done() for each in waiting)
        refused = client.post("/v1/segment", json=PROMPT)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        # What is asked of a busy server all the same
        assert client.get("/health").status_code == 200
        gate.set()
        assert [each.result().status_code for each in waiting] == [200, 200]
        assert client.post("/v1/segment", json=PROMPT).status_code == 200


def test_an_answer_that_comes_too_late_is_not_waited_for() -> None:
    service = Service(Engine(Bundle.load("demo"), Limits(timeout=0.2), session=ONE_THREAD))
    gate = threading.Event()
    service.queue.submit(lambda step: gate.wait(20))
    with TestClient(create_app(service), base_url=HOST) as client:
        late = client.post("/v1/segment", json=PROMPT)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "TOO_LATE")
        gate.set()


def test_bodies_have_a_largest_size() -> None:
    with serving(Limits(max_megabytes=1)) as client:
        answer = client.post("/v1/label", json={"image": "A" * 1_000_001})
        assert answer.status_code == 413
        assert "1000000 bytes (--max-megabytes)" in answer.json()["error"]["message"]
        assert client.post("/v1/segment", json=PROMPT).status_code == 200


def test_kept_embeddings_stay_in_their_memory() -> None:
    engine = Engine(Bundle.load("demo"), Limits(cache_mb=0), session=ONE_THREAD)
    image = engine.decode(JPEG)
    first = engine.embeddings.embed(image)
    assert engine.embeddings.embed(image.copy()) is first
    engine.embeddings.embed(image[:, ::-1])
    assert len(engine.embeddings) == 1
    assert engine.embeddings.bytes == first.features.nbytes
    assert engine.embeddings.embed(image) is not first
