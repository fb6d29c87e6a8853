"""Whether an engine gives what a bundle promises: its graphs and labels against the CPU's in fp32.

Every graph is run twice: on what the reference gave for the graphs before it, which shows where a
difference arises, and on what the engine itself gave for them, which shows what is left of it in
the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
    as_settings,
)
from samrefine_runtime.backends import RunsOn, SessionOptions
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.compare import difference, is_constant, mask_agreement, score_shift
from samrefine_runtime.diagnosis.feeds import Tensors, by_rank, cam_feed, sam_feeds
from samrefine_runtime.errors import InferenceError, message_of
from samrefine_runtime.image import RgbImage
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.settings import Settings, real, settings_of

LABELS = "labels, end to end"
"""What the row is called that compares the labels of whole images."""

_MASKS, _BITS, _SCORES = "low_res_masks", "mask_bits", "iou_predictions"
"""Names of the outputs that are low-res masks, masks of eight pixels a byte, and predicted IoU."""

_LEAST_AGREEMENT = 0.9
"""Fraction of an image's pixels below which its labels are not those of the reference."""

_BY_PRECISION: Mapping[str, Mapping[str, float]] = {
    "fp32": {},
    "fp16": {"rms": 0.02, "mean_iou": 0.998, "least_iou": 0.93, "score_shift": 0.01},
    "bf16": {"rms": 0.1, "mean_iou": 0.97, "least_iou": 0.4, "score_shift": 0.1},
    "int8": {"rms": 0.1, "mean_iou": 0.97, "least_iou": 0.7, "score_shift": 0.1},
}
"""Tolerances over those of fp32. The masks' are what trained weights lose by rounding, and a
margin: in bf16 0.992 on average and 0.67 at least with the trained demo SAM."""


@dataclass(frozen=True)
class Tolerances(Settings):
    """How far an engine may be from the reference; the defaults are those of fp32."""

    rms: float = real(1e-3, 0, 10, help="Largest rms error of an output, relative to its rms.")
    """Of an output that is no mask; those have the IoU."""
    mean_iou: float = real(0.999, 0, 1, help="Least mean IoU of the low-res masks.")
    """Mean IoU of the low-res masks of a graph with those of the reference, 0 to 1."""
    least_iou: float = real(0.95, 0, 1, help="Least IoU of a single low-res mask.")
    """IoU of the worst mask, 0 to 1."""
    score_shift: float = real(1e-3, 0, 10, help="Largest change of a predicted IoU.")
    """Change of a mask's predicted IoU, which is about 0 to 1."""
    label_agreement: float = real(0.99, 0, 1, help="Least fraction of pixels of the same label.")
    """Fraction of an image's pixels whose label is the reference's, 0 to 1, on average."""

    @classmethod
    def of(cls, precision: str, **given: Any) -> Tolerances:
        """Combine given tolerances with those of a precision, then those of fp32.

        Raises:
            SettingsError: an unknown name, or a value out of range.
        """
        return settings_of(cls, given, _BY_PRECISION.get(precision, {}))


@dataclass(frozen=True)
class Comparison:
    """One row of the table: a graph, or the whole pipeline, against the reference."""

    what: str
    """Name of the graph, or LABELS."""
    fed: str = "reference"
    """Whose outputs of the graphs before it the graph was fed: "reference" or "engine"."""
    rms: float | None = None
    """Largest rms error of an output, relative to the output's rms; None where it has none."""
    largest: float | None = None
    """Largest absolute error of any number."""
    mean_iou: float | None = None
    """Mean IoU of the low-res masks; None in a graph that gives none."""
    least_iou: float | None = None
    """IoU of the worst mask."""
    score_shift: float | None = None
    """Largest change of a predicted IoU."""
    label_agreement: float | None = None
    """Mean over images of the fraction of pixels that have the same label."""
    faults: tuple[str, ...] = ()
    """What is wrong, one phrase each."""


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    comparisons: Sequence[Comparison]
    precision: str
    """That decides the tolerances: the session's, or the bundle's where that is not fp32."""
    tolerances: Tolerances
    images: int
    """Images that were run."""
    runs_on: Mapping[str, RunsOn] = field(default_factory=dict)
    """What ran each graph."""
    not_compared: Mapping[str, str] = field(default_factory=dict)
    """Why graphs were left out, by graph."""

    @property
    def is_within(self) -> bool:
        """Whether nothing is wrong."""
        return not any(each.faults for each in self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it; infinite errors are null."""
        return {
            "is_within": self.is_within,
            "precision": self.precision,
            "tolerances": asdict(self.tolerances),
            "images": self.images,
            "backends": {graph: found.backend for graph, found in self.runs_on.items()},
            "comparisons": [_finite(asdict(each)) for each in self.comparisons],
            "not_compared": dict(self.not_compared),
        }


def verify(
    bundle: BundleLike,
    images: Sequence[ImageLike],
    *,
    session: SessionOptions | Mapping[str, Any] | None = None,
    reference: SessionOptions | Mapping[str, Any] | None = None,
    tolerances: Tolerances | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare what an engine makes of a bundle with what ONNX Runtime does on the CPU in fp32.

    Args:
        bundle: a Bundle, its folder, or "demo".
        images: at least one; of a single one the upside-down image is taken too, since outputs
            that do not depend on the image are only seen with two.
        session: the engine; None for SessionOptions().
        reference: what it is compared with; None for the backend "cpu" with as many threads.
        tolerances: or a dict of fields over those of the precision (`Tolerances.of`).
        progress: called with (steps done, steps in all).

    Returns:
        One row for each graph, a second one for each that is fed by other graphs, and one for the
        labels of a bundle that makes some.

    Raises:
        BackendError: the engine or the reference cannot run here, or the reference fails.
        SettingsError: no images, or an impossible setting.
        MemoryError: a graph does not fit into memory.
    """
    bundle, session, step = as_bundle(bundle), as_session(session), as_progress(progress)
    if reference is None:
        reference = SessionOptions(backend="cpu", threads=session.threads)
    reference = as_session(reference, "reference")
    precision = bundle.precision if session.precision == "fp32" else session.precision
    bounds = as_settings(
        Tolerances, tolerances, "tolerances", lambda **given: Tolerances.of(precision, **given)
    )
    pixels = _at_least_two(as_images(images))
    check = _Check(bundle, session, reference, bounds, pixels)
    # Compare graph by graph, each after those that feed it
    total = len(bundle.graphs) + 1
    rows: list[Comparison] = []
    left = list(bundle.graphs.values())
    while ready := [graph for graph in left if not check.missing(graph)]:
        step(len(bundle.graphs) - len(left), total)
        rows += check.graph(ready[0])
        left.remove(ready[0])
    if bundle.sam is not None and bundle.cam is not None:
        step(total - 1, total)
        rows.append(check.labels())
    step(total, total)
    unfed = {each.name: f"no {', '.join(check.missing(each))} to feed it" for each in left}
    return Verification(rows, precision, bounds, len(pixels), check.runs_on, unfed)


def _at_least_two(images: list[RgbImage]) -> list[RgbImage]:
    return images if len(images) > 1 else [images[0], np.ascontiguousarray(images[0][::-1])]


class _Check:
    """Runs graphs in both engines, in order, and keeps what they give for the graphs after them."""

    def __init__(
        self,
        bundle: Bundle,
        session: SessionOptions,
        reference: SessionOptions,
        tolerances: Tolerances,
        images: Sequence[RgbImage],
    ):
        self._bundle, self._images, self._tolerances = bundle, images, tolerances
        self._session, self._reference = session, reference
        given = [sam_feeds(bundle, image) for image in images]
        self._expected: list[Tensors] = [dict(each) for each in given]
        self._actual: list[Tensors] = [dict(each) for each in given]
        self.runs_on: dict[str, RunsOn] = {}

    def graph(self, graph: Graph) -> Iterator[Comparison]:
        """Compare a graph, fed by the reference and, where that differs, by the engine itself."""
        # Run the reference, then the engine on the same feeds and on its own
        fed = [self._feeds(graph, tensors, i) for i, tensors in enumerate(self._expected)]
        opened = backends.open(graph, self._reference)
        expected = [opened.run(each) for each in fed]
        engine = backends.open(graph, self._session)
        self.runs_on[graph.name] = engine.runs_on
        actual, faults = _run(engine, fed)
        yield self._row(graph, "reference", actual, expected, faults)
        if all(self._is_given(tensor.name, len(tensor.shape)) for tensor in graph.inputs):
            own = actual
        else:
            own, faults = self._run_chained(graph, engine)
            yield self._row(graph, "engine", own, expected, faults)
        # Keep the outputs for the graphs after it
        for tensors, outputs in zip(self._expected, expected, strict=True):
            tensors.update(by_rank(outputs))
        for tensors, outputs in zip(self._actual, own, strict=False):
            tensors.update(by_rank(outputs))

    def missing(self, graph: Graph) -> list[str]:
        """Return the inputs of a graph that nothing is known to feed to."""
        if graph.name == "cam":
            return []
        known = self._expected[0]
        return [
            tensor.name for tensor in graph.inputs if (tensor.name, len(tensor.shape)) not in known
        ]

    def labels(self) -> Comparison:
        """Compare the labels of whole images."""
        # Masks of all images count, also where the model is not sure
        refinement = RefineSettings(min_trust=0)
        found: list[float] = []
        try:
            for image in self._images:
                expected, actual = (
                    Labeler(self._bundle, refinement=refinement, session=each).label(image).label
                    for each in (self._reference, self._session)
                )
                found.append(float((expected == actual).mean()))
        except InferenceError as error:
            return Comparison(LABELS, "engine", faults=(message_of(error),))
        agreement = sum(found) / len(found)
        faults = _too_low("label agreement", agreement, self._tolerances.label_agreement)
        faults += [
            f"image {index + 1} has {each:.3f} of its labels"
            for index, each in enumerate(found)
            if each < min(_LEAST_AGREEMENT, self._tolerances.label_agreement)
        ]
        return Comparison(LABELS, "engine", label_agreement=agreement, faults=tuple(faults))

    def _feeds(self, graph: Graph, tensors: Tensors, index: int) -> dict[str, NDArray[Any]]:
        if graph.name == "cam":
            return {"image": cam_feed(self._bundle, self._images[index])}
        return {t.name: tensors[t.name, len(t.shape)] for t in graph.inputs}

    def _is_given(self, name: str, rank: int) -> bool:
        """Return whether an input is no output of a graph before."""
        produced = {
            (t.name, len(t.shape))
            for graph in self._bundle.graphs.values()
            if graph.name in self.runs_on
            for t in graph.outputs
        }
        return (name, rank) not in produced

    def _run_chained(
        self, graph: Graph, engine: backends.Session
    ) -> tuple[list[dict[str, NDArray[Any]]], list[str]]:
        """Run a graph on the engine's own outputs of the graphs before it."""
        if any((t.name, len(t.shape)) not in self._actual[0] for t in graph.inputs):
            return [], ["a graph before it gave nothing"]
        return _run(engine, [self._feeds(graph, t, i) for i, t in enumerate(self._actual)])

    def _row(
        self,
        graph: Graph,
        fed: str,
        actual: Sequence[Mapping[str, NDArray[Any]]],
        expected: Sequence[Mapping[str, NDArray[Any]]],
        faults: Sequence[str],
    ) -> Comparison:
        """Measure the outputs of a graph for all images, and judge them."""
        if faults:
            return Comparison(graph.name, fed, faults=tuple(faults))
        pairs = {
            tensor.name: [
                (a[tensor.name], e[tensor.name]) for a, e in zip(actual, expected, strict=True)
            ]
            for tensor in graph.outputs
        }
        reshaped = {
            f"{name} is {a.shape}, expected {e.shape}": None
            for name, each in pairs.items()
            for a, e in each
            if a.shape != e.shape
        }
        if reshaped:
            return Comparison(graph.name, fed, faults=tuple(reshaped))
        threshold = 0.0 if self._bundle.sam is None else self._bundle.sam.mask_threshold
        row = _measured(graph.name, fed, pairs, threshold)
        constant = [f"{n} does not depend on the image" for n, p in pairs.items() if _is_flat(p)]
        return Comparison(**{**vars(row), "faults": (*constant, *_faults(row, self._tolerances))})


Pairs = Sequence[tuple[NDArray[Any], NDArray[Any]]]
"""Actual and expected values of one output, one pair for each image."""


def _measured(what: str, fed: str, pairs: Mapping[str, Pairs], threshold: float) -> Comparison:
    """Measure outputs by name; masks are those above the threshold."""
    found = [difference(a, e) for each in pairs.values() for a, e in each]
    plain = [
        difference(a, e).rms
        for name, each in pairs.items()
        if name not in (_MASKS, _BITS, _SCORES)
        for a, e in each
        if e.dtype.kind == "f"  # whole numbers are counts and places of masks
    ]
    masks = [mask_agreement(a, e, threshold) for a, e in pairs.get(_MASKS, ())]
    masks += [
        mask_agreement(np.unpackbits(a, axis=-1), np.unpackbits(e, axis=-1), 0)
        for a, e in pairs.get(_BITS, ())
    ]
    shifts = [score_shift(a, e) for a, e in pairs.get(_SCORES, ())]
    return Comparison(
        what,
        fed,
        rms=max(plain, default=None),
        largest=max((each.largest for each in found), default=None),
        mean_iou=sum(each.mean for each in masks) / len(masks) if masks else None,
        least_iou=min((each.least for each in masks), default=None),
        score_shift=max(shifts, default=None),
    )


def _faults(row: Comparison, bounds: Tolerances) -> list[str]:
    """Return what is outside the tolerances."""
    faults = []
    for name, value in (("rms", row.rms), ("score shift", row.score_shift)):
        most = getattr(bounds, name.replace(" ", "_"))
        if value is not None and not value <= most:
            faults.append(f"{name} is {value:.2g}, expected at most {most:g}")
    faults += _too_low("mean IoU", row.mean_iou, bounds.mean_iou)
    return faults + _too_low("least IoU", row.least_iou, bounds.least_iou)


def _too_low(name: str, value: float | None, least: float) -> list[str]:
    if value is None or value >= least:
        return []
    return [f"{name} is {value:.4f}, expected at least {least:g}"]


def _is_flat(pairs: Pairs) -> bool:
    """Return whether an output is the same for all images, while the expected one is not."""
    actual, expected = zip(*pairs, strict=True)
    has_one_shape = len({value.shape for value in expected}) == 1
    return has_one_shape and expected[0].size > 0 and is_constant(actual, expected)


def _run(
    session: backends.Session, feeds: Sequence[Mapping[str, NDArray[Any]]]
) -> tuple[list[dict[str, NDArray[Any]]], list[str]]:
    """Run a graph for every image; a failure, such as NaN in its outputs, is a fault."""
    try:
        return [session.run(each) for each in feeds], []
    except InferenceError as error:
        return [], [message_of(error)]


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
