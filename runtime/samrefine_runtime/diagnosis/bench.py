"""How fast a bundle runs here: every graph inside whole images, not by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime import backends
from samrefine_runtime.arguments import (
    BundleLike,
    ImageLike,
    Progress,
    as_bundle,
    as_images,
    as_progress,
    as_session,
)
from samrefine_runtime.backends import BACKENDS, RunsOn, Session, SessionOptions
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.diagnosis.gauges import Watch, peak_memory_mb
from samrefine_runtime.errors import BackendUnavailableError
from samrefine_runtime.image import RgbImage
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.settings import GeneratorSettings
from samrefine_runtime.settings import Domain, domains

_MOST_REPEATS = 1_000_000
"""Images that are run at most: days, and far beyond what a median needs."""

_TIMED = "timed"
"""Name of the backend that runs graphs in another one and takes the time."""

_ENCODER_GMACS = {"vit_b": 486.0, "vit_l": 1493.0, "vit_h": 2981.0, "mobile_sam": 38.8}
"""Multiply-adds of published image encoders, 1e9: counted by torch over their matrix products and
convolutions."""

_PROMPT_GMACS, _KEPT_GMACS = 0.20, 0.26
"""Multiply-adds of a prompt up to its predicted IoU, and further ones where a mask of it is kept,
1e9: docs/performance.md."""

_KEPT = 0.2
"""Fraction of prompts of which a mask is kept, in the arithmetic of everything mode."""


@dataclass(frozen=True)
class Stage:
    """Durations of one stage, seconds."""

    name: str
    """A graph, or "image" for all that is done for one image."""
    runs: int
    p50: float
    p90: float

    @classmethod
    def of(cls, name: str, seconds: Sequence[float]) -> Stage:
        """Summarise the durations of a stage that ran at least once."""
        p50, p90 = np.percentile(seconds, [50, 90])
        return cls(name, len(seconds), float(p50), float(p90))


@dataclass(frozen=True)
class Benchmark:
    """What `bench` measured."""

    bundle: str
    """Name of the bundle."""
    what: str
    """What was done for an image: "label" or "masks"."""
    stages: Sequence[Stage]
    """The graphs in the order of their first run, then "image"."""
    images_per_second: float
    peak_memory_mb: float
    """Of this process, loading included."""
    prompts: int
    """Points of the grid that SAM is asked at."""
    gmacs: float | None
    """Multiply-adds of everything mode for an image, 1e9; None for models other than SAM's."""
    gauges: Mapping[str, float]
    """Peak GPU memory in MB, mean power in watts; what the machine tells."""
    runs_on: Mapping[str, RunsOn] = field(default_factory=dict)

    @property
    def gflops(self) -> float | None:
        """Operations per second that everything mode reaches, 1e9; two for a multiply-add."""
        return None if self.gmacs is None else 2 * self.gmacs * self.images_per_second

    def line(self) -> str:
        """Return all in one line, to paste."""
        engines = ", ".join(dict.fromkeys(each.backend for each in self.runs_on.values()))
        parts = [f"{self.bundle}, {self.what}, {self.prompts} prompts, {engines}"]
        parts += [f"{each.name} {1e3 * each.p50:.1f} ms" for each in self.stages]
        parts += [f"{self.images_per_second:.3g} images/s", f"peak {self.peak_memory_mb:.0f} MB"]
        parts += [f"{name} {value:.0f}" for name, value in self.gauges.items()]
        parts += [] if self.gflops is None else [f"{self.gflops:.0f} GFLOP/s"]
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        found = {graph: each.backend for graph, each in self.runs_on.items()}
        whole = {**asdict(self), "gflops": self.gflops, "line": self.line(), "backends": found}
        del whole["runs_on"]
        return whole


def bench(
    bundle: BundleLike,
    images: Sequence[ImageLike],
    *,
    session: SessionOptions | Mapping[str, Any] | None = None,
    repeats: int = 5,
    points_per_side: int = 32,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure a bundle on whole images, after one run that does not count.

    A bundle with a classifier labels the images, asking SAM in the whole grid; others find all
    masks.

    Args:
        bundle: holds SAM; a Bundle, its folder, or "demo".
        images: at least one; taken by turns.
        session: how the graphs are run; None for SessionOptions().
        repeats: images that are run and count, 1 to 1,000,000.
        points_per_side: of the grid of prompts, 1 to 256.
        progress: called with (images done, images in all).

    Raises:
        BundleError: the bundle holds no SAM.
        BackendError: the backend cannot run here.
        SettingsError: no images, or an impossible setting.
    """
    bundle, session, step = as_bundle(bundle), as_session(session), as_progress(progress)
    Domain(int, 1, _MOST_REPEATS).check("repeats", repeats)
    grid = replace(domains(GeneratorSettings)["points_per_side"], is_optional=False)
    grid.check("points_per_side", points_per_side)
    pixels = as_images(images)
    times: dict[str, list[float]] = {}
    with _timing(session, times) as (timed, runs_on):
        what, run = _work(bundle, timed, points_per_side)
        run(pixels[0])
        times.clear()
        seconds = []
        with Watch() as watch:
            for done in range(repeats):
                step(done, repeats)
                start = time.perf_counter()
                run(pixels[done % len(pixels)])
                seconds.append(time.perf_counter() - start)
    step(repeats, repeats)
    stages = [Stage.of(name, each) for name, each in times.items()]
    return Benchmark(
        bundle=bundle.name,
        what=what,
        stages=[*stages, Stage.of("image", seconds)],
        images_per_second=len(seconds) / sum(seconds),
        peak_memory_mb=peak_memory_mb(),
        prompts=points_per_side**2,
        gmacs=everything_gmacs(bundle, points_per_side**2),
        gauges={**watch.means(), **_memory(watch)},
        runs_on=runs_on,
    )


def _memory(watch: Watch) -> dict[str, float]:
    """Return readings of which the highest counts, not the mean."""
    return {name: value for name, value in watch.peaks().items() if name.endswith("_mb")}


def _work(
    bundle: Bundle, session: SessionOptions, points_per_side: int
) -> tuple[str, Callable[[RgbImage], object]]:
    """Return what is done for an image, and the function that does it."""
    grid: dict[str, Any] = {"points_per_side": points_per_side, "prompts": "grid"}
    if bundle.cam is None:
        return "masks", MaskGenerator(bundle, session=session, **grid).generate
    return "label", Labeler(bundle, generator=grid, session=session).label


def everything_gmacs(bundle: Bundle, prompts: int) -> float | None:
    """Return the multiply-adds of everything mode, 1e9; None for other architectures."""
    encoder = _ENCODER_GMACS.get((bundle.manifest.get("sam") or {}).get("arch", ""))
    if encoder is None:
        return None
    return encoder + prompts * (_PROMPT_GMACS + _KEPT * _KEPT_GMACS)


@contextmanager
def _timing(
    session: SessionOptions, times: dict[str, list[float]]
) -> Iterator[tuple[SessionOptions, dict[str, RunsOn]]]:
    """Register a backend that runs graphs in the session's and takes the time.

    Args:
        session: how graphs are run.
        times: receives the seconds of each run, by graph.

    Yields:
        Options that choose it, and what it runs each graph on.
    """
    runs_on: dict[str, RunsOn] = {}

    def opener(graph: Graph, options: SessionOptions) -> Session:
        # "auto" comes here where nothing else runs
        if options.backend != _TIMED:
            raise BackendUnavailableError("it takes the time of other backends only")
        opened = backends.open(graph, replace(options, backend=session.backend))
        runs_on[graph.name] = opened.runs_on
        return TimedSession(opened, graph.name, times)

    BACKENDS.add(_TIMED, opener)
    try:
        yield replace(session, backend=_TIMED), runs_on
    finally:
        BACKENDS.remove(_TIMED)


class TimedSession:
    """A session that notes how long its runs take."""

    def __init__(self, session: Session, name: str, times: dict[str, list[float]]):
        self._session, self._name, self._times = session, name, times
        self.inputs, self.outputs = session.inputs, session.outputs
        self.is_on_device = session.is_on_device

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph; see `Session.run`."""
        with self._noting():
            return self._session.run(feeds)

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the graph; see `Session.run_on_device`."""
        with self._noting():
            return self._session.run_on_device(feeds, fetch)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._times.setdefault(self._name, []).append(time.perf_counter() - start)
