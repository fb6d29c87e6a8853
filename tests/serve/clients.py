"""Clients of a server over the embedded bundle, and the images they send."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from samrefine_rt.demo import IMAGES

pytest.importorskip("starlette", reason="the extra serve is not installed")

from starlette.testclient import TestClient

from samrefine_rt.serve.app import create_app
from samrefine_rt.serve.engine import Engine
from samrefine_rt.serve.service import Service
from samrefine_rt.serve.settings import Access, Limits
from samrefine_runtime.bundle import Bundle
from tests.samples import ONE_THREAD

FILE = sorted(IMAGES.glob("*.jpg"))[0]
JPEG = FILE.read_bytes()
IMAGE = base64.b64encode(JPEG).decode()
HOST = "http://127.0.0.1:8765"


@contextmanager
def serving(limits: Limits | None = None, access: Access | None = None) -> Iterator[TestClient]:
    """A client of a fresh server."""
    engine = Engine(Bundle.load("demo"), limits or Limits(), session=ONE_THREAD)
    with TestClient(create_app(Service(engine), access), base_url=HOST) as client:
        yield client
