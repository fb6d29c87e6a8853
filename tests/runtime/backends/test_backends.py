"""Opening graphs: which backend runs them, and what is said of those that do not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samrefine_runtime import backends
from samrefine_runtime.backends import BACKENDS, Session, SessionOptions
from samrefine_runtime.backends.checked import CheckedSession
from samrefine_runtime.backends.ort import OrtSession, open_cpu
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.errors import BackendError, BackendUnavailableError, SettingsError
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.refine import RefineSettings
from tests.samples import ONE_THREAD, synthetic


@pytest.fixture(scope="module")
def bundle(lively_bundle: Path) -> Bundle:
    return Bundle.load(lively_bundle)


@pytest.fixture
def registering() -> Iterator[None]:
    """Remove the backends that a test registers."""
    own = set(BACKENDS)
    yield
    for name in set(BACKENDS) - own:
        BACKENDS.remove(name)


@pytest.fixture
def only() -> Iterator[Callable[..., None]]:
    """A function that makes its keywords the only backends, in their order, for one test."""

    def register(**openers: backends.Opener) -> None:
        for name in list(BACKENDS):
            BACKENDS.remove(name)
        for name, opener in openers.items():
            BACKENDS.add(name, opener)

    before = {name: BACKENDS[name] for name in BACKENDS}
    yield register
    register(**before)


def unavailable(reason: str, *, is_broken: bool) -> backends.Opener:
    def open_nothing(graph: Graph, options: SessionOptions) -> Session:
        raise BackendUnavailableError(reason, is_broken=is_broken)

    return open_nothing


class CountingSession:
    """A session that counts how often it runs."""

    runs = 0

    def __init__(self, session: Session):
        self.session, self.is_on_device = session, session.is_on_device
        self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        CountingSession.runs += 1
        return self.session.run(feeds)

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        CountingSession.runs += 1
        return self.session.run_on_device(feeds, fetch)


def open_counting(graph: Graph, options: SessionOptions) -> Session:
    return CountingSession(open_cpu(graph, options))


def engine(bundle: Bundle, options: SessionOptions) -> type:
    """What runs the classifier, behind the checks of its outputs."""
    opened = backends.open(bundle.graph("cam"), options)
    assert isinstance(opened, CheckedSession)
    return type(opened._session)


def reject(graph: Graph, options: SessionOptions) -> Session:
    raise BackendError("graph is rejected")


def test_a_backend_is_one_entry(bundle: Bundle, registering: None) -> None:
    BACKENDS.add("counting", open_counting)
    assert backends.names()[0] == "auto" and "counting" in backends.names()
    image, present = synthetic((48, 72)), np.array([True, False, True])
    CountingSession.runs = 0
    sessions = (SessionOptions(backend="counting", threads=1), ONE_THREAD)
    counted, plain = (
        Labeler(bundle, refinement=RefineSettings(), session=session).label(image, present)
        for session in sessions
    )
    assert CountingSession.runs >= 4
    assert np.array_equal(counted.label, plain.label)


def test_auto_says_which_backends_do_not_run(
    bundle: Bundle, only: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    only(
        absent=unavailable("not installed", is_broken=False),
        broken=unavailable("does not start", is_broken=True),
        counting=open_counting,
        cpu=open_cpu,
    )
    with caplog.at_level(logging.INFO):
        assert engine(bundle, ONE_THREAD) is CountingSession
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "backend absent is not used: not installed"),
        ("WARNING", "backend broken is not used: does not start"),
        ("INFO", "backend counting runs graph cam in fp32"),
    ]


def test_auto_looks_no_further_than_what_runs(
    bundle: Bundle, only: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    only(cpu=open_cpu, picky=reject)
    with caplog.at_level(logging.INFO):
        assert engine(bundle, ONE_THREAD) is OrtSession
    assert [record.message for record in caplog.records] == ["backend cpu runs graph cam in fp32"]


def test_every_reason_is_told_once_where_nothing_runs(
    bundle: Bundle, only: Callable[..., None]
) -> None:
    only(
        broken=unavailable("does not start", is_broken=True),
        absent=unavailable("not installed", is_broken=False),
        lacking=unavailable("not installed", is_broken=False),
    )
    with pytest.raises(
        BackendError, match=r"^no backend runs here: does not start; not installed$"
    ):
        backends.open(bundle.graph("cam"), ONE_THREAD)


def test_a_session_says_what_runs_it_and_why_nothing_faster_does(
    bundle: Bundle, only: Callable[..., None]
) -> None:
    only(absent=unavailable("not installed", is_broken=False), cpu=open_cpu)
    asked = SessionOptions(backend="cpu", threads=1)
    found, chosen = (backends.open(bundle.graph("cam"), each) for each in (ONE_THREAD, asked))
    assert found.runs_on == ("cpu", {"absent": "not installed"}) and chosen.runs_on == ("cpu", {})
    labeler = Labeler(bundle, session=ONE_THREAD)
    graphs = {name for name, graph in bundle.graphs.items() if graph.name != "decoder"}
    assert set(labeler.runs_on) == graphs - {"everything_finish"}
    assert all(each == found.runs_on for each in labeler.runs_on.values())


def test_a_backend_asked_for_by_name_has_no_substitute(
    bundle: Bundle, only: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    only(broken=unavailable("does not start", is_broken=True), cpu=open_cpu)
    options = SessionOptions(backend="broken", threads=1)
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(BackendUnavailableError, match=r"^does not start$") as caught,
    ):
        backends.open(bundle.graph("cam"), options)
    assert caught.value.is_broken and caplog.records == []


def test_a_rejected_graph_is_not_passed_on(bundle: Bundle, only: Callable[..., None]) -> None:
    only(picky=reject, counting=open_counting)
    with pytest.raises(BackendError, match=r"^graph is rejected$"):
        backends.open(bundle.graph("cam"), ONE_THREAD)


def test_an_unknown_backend_names_those_there_are(bundle: Bundle) -> None:
    with pytest.raises(
        SettingsError, match=r"^backend is 'tpu', expected one of auto, tensorrt, cuda, cpu"
    ):
        backends.open(bundle.graph("cam"), SessionOptions(backend="tpu"))


def test_a_backend_that_was_removed_is_unknown(bundle: Bundle, registering: None) -> None:
    BACKENDS.add("counting", open_counting)
    options = SessionOptions(backend="counting", threads=1)
    assert engine(bundle, options) is CountingSession
    BACKENDS.remove("counting")
    assert backends.names() == ("auto", "tensorrt", "cuda", "cpu", "openvino")
    with pytest.raises(
        SettingsError, match=r"'counting', expected one of auto, tensorrt, cuda, cpu, openvino$"
    ):
        backends.open(bundle.graph("cam"), options)
