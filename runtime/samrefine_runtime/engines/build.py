"""Builds the TensorRT engines of a bundle for this machine, and verifies each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from samrefine_runtime.arguments import BundleLike, ImageLike, as_bundle, as_image, as_settings
from samrefine_runtime.backends.tensorrt import open_device
from samrefine_runtime.backends.tensorrt.native import (
    Engine,
    ShapeRange,
    TensorRt,
    build_plan,
    load,
)
from samrefine_runtime.backends.tensorrt.session import Device, TrtSession
from samrefine_runtime.backends.tensorrt.store import EngineStore, Machine, Verdict, digest
from samrefine_runtime.bundle import EMBEDDED, Bundle, Graph
from samrefine_runtime.checks import described
from samrefine_runtime.engines.ladder import AUTO, PRECISIONS, compare, rungs, variants
from samrefine_runtime.engines.profiles import profiles_of
from samrefine_runtime.engines.samples import Samples, drawn_scene
from samrefine_runtime.errors import BackendError, BundleError, SettingsError, message_of
from samrefine_runtime.image import RgbImage
from samrefine_runtime.settings import Settings, choice, whole

_SCENES = 2
"""Scenes that are drawn where no images are given; one would not show a constant output."""

_PROMPTS = 16
"""Prompts of a sample."""

Progress = Callable[[str, int, int], None]
"""Called with what is built, such as "encoder fp16", the steps done and the steps in all."""


@dataclass(frozen=True)
class EngineSettings(Settings):
    """What engines are built for."""

    precision: str = choice(
        AUTO,
        {
            AUTO: "the fastest in the bundle whose outputs are close enough",
            **dict.fromkeys(PRECISIONS, ""),
        },
        help="Precision of the engines.",
    )
    """One of those that the bundle has, or "auto"."""
    most_prompts: int = whole(256, 1, 4096, help="Most prompts at once; each takes memory.")
    """Larger batches are halved until they fit."""
    most_side: int = whole(4096, 512, 16384, help="Longest side of an image, pixels.")
    """Larger images are not taken."""
    workspace_mb: int | None = whole(
        None, 1, 1 << 20, help="Temporary memory of a layer, MB.  [default: half of what is free]"
    )
    """Memory in which kernels are tried out, MB; None for half of what is free."""


def build_engines(
    bundle: BundleLike,
    settings: EngineSettings | Mapping[str, Any] | None = None,
    *,
    images: Sequence[ImageLike] = (),
    progress: Progress | None = None,
) -> list[Verdict]:
    """Build and verify an engine for every graph of a bundle, in `engines/` inside the bundle.

    Engines that are there, built from the same by the same TensorRT on such a GPU, are kept, and so
    is the verdict on those that were not close enough; with other images they are compared anew.
    Sessions take new ones when all are done.

    Args:
        bundle: a Bundle or its folder.
        settings: or a dict of fields; None for EngineSettings().
        images: with which engines are verified, at least two; drawn scenes by default.
        progress: called after every step of a build.

    Returns:
        One verdict per graph and precision that was tried, in order.

    Raises:
        BackendUnavailableError: no GPU, no TensorRT, or one that is too old.
        BackendError: ONNX Runtime, with which engines are compared, cannot run a graph.
        SettingsError: a wrong setting, or the bundle has no graph in the precision.
        ImageError: an image cannot be read.
        BundleError: the bundle is an embedded one.
        RunError: another build is writing into the bundle.
        OutputError: an engine cannot be written.
    """
    bundle = as_bundle(bundle)
    chosen = as_settings(EngineSettings, settings, "settings", EngineSettings)
    if bundle.path in EMBEDDED.values():
        raise BundleError(
            f"the embedded bundle is a part of this package: copy {bundle.path} and build the copy"
        )
    if progress is not None and not callable(progress):
        raise SettingsError(f"progress is {described(progress)}, expected a function or None")
    scenes = _scenes(images)
    # The device before TensorRT, which crashes without one
    device = open_device()
    native = load()
    store = _store(bundle)
    with store.lock():
        builder = _Builder(bundle, chosen, device, native, store, scenes, progress or _nothing)
        return builder.run()


class _Builder:
    """One build of all engines of a bundle."""

    def __init__(
        self,
        bundle: Bundle,
        settings: EngineSettings,
        device: Device,
        native: TensorRt,
        store: EngineStore,
        scenes: Sequence[RgbImage],
        progress: Progress,
    ):
        """Find the precisions to try, and run the samples in ONNX Runtime."""
        self._settings, self._device, self._native = settings, device, native
        self._store, self._progress = store, progress
        self._machine = Machine.of(device.cuda, native)
        self._threshold = 0.0 if bundle.sam is None else bundle.sam.mask_threshold
        capability = device.cuda.compute_capability
        self._rungs = rungs(variants(bundle), settings.precision, capability)
        self._graphs = [bundle.graph(name) for name in self._rungs]
        prompts = min(_PROMPTS, settings.most_prompts)
        self._samples = Samples(bundle, self._graphs, scenes, prompts)
        pixels = [f"{each.shape}".encode() + each.tobytes() for each in scenes]
        self._digest = hashlib.sha256(b"".join(pixels)).hexdigest()

    def run(self) -> list[Verdict]:
        """Build and judge every graph; see `build_engines`."""
        tried: list[Verdict] = []
        passed: dict[str, Verdict] = {}
        for graph in self._graphs:
            for precision, source in self._rungs[graph.name].items():
                tried.append(self._verdict(graph, precision, source))
                if tried[-1].is_passed:
                    passed[graph.name] = tried[-1]
                    break
        usable = _usable(self._graphs, passed)
        self._store.write_list(self._machine, {name: passed[name] for name in usable})
        return tried

    def _verdict(self, graph: Graph, precision: str, source: Graph) -> Verdict:
        """Return the verdict on a graph in a precision, from an earlier build if there is one."""
        start = Verdict(graph.name, digest(graph), digest(source), precision, self._machine)
        limits = {name: getattr(self._settings, name) for name in ("most_prompts", "most_side")}
        try:
            profiles = profiles_of(source, **limits)
            verdict = replace(start, profiles=_as_json(profiles))
            known = self._store.verdict(verdict.folder)
            plan = None if known is None else self._store.plan(known)
            is_compared = known is not None and known.samples == self._digest
            if known is not None and is_compared and (plan or not known.is_passed):
                return known
            if plan is None:
                plan = self._build(source, graph.name, precision, profiles)
            session = TrtSession(graph.name, Engine(self._native, plan), self._device)
            result = compare(graph, session, self._samples, self._threshold)
        except (BackendError, MemoryError) as error:
            # Not stored: with more memory or another release it may work
            return replace(start, reason=message_of(error))
        verdict = replace(
            verdict,
            is_passed=not result.reason,
            reason=result.reason,
            figures=result.figures,
            plan_sha256=hashlib.sha256(plan).hexdigest(),
            samples=self._digest,
        )
        self._store.write(verdict, plan)
        return verdict

    def _build(
        self,
        source: Graph,
        name: str,
        precision: str,
        profiles: Sequence[Mapping[str, ShapeRange]],
    ) -> bytes:
        """Build a plan, and keep what was measured. Raises BackendError."""
        # Blocks that earlier engines left would be missing
        self._device.pool.release()
        free = self._device.cuda.free_bytes() // 2
        megabytes = self._settings.workspace_mb
        plan = build_plan(
            self._native,
            source.path,
            profiles,
            workspace=free if megabytes is None else megabytes * 1_000_000,
            is_tf32=precision == "tf32",
            timing_cache=self._store.timing_cache(self._machine),
            progress=partial(self._progress, f"{name} {precision}"),
        )
        self._store.write_timing_cache(self._machine, plan.timing_cache)
        return plan.content


def _scenes(images: Sequence[ImageLike]) -> list[RgbImage]:
    """Return the images of the caller, and drawn ones where they are too few.

    Raises SettingsError or ImageError.
    """
    if not isinstance(images, (list, tuple)):
        raise SettingsError(f"images is {described(images)}, expected a list of images")
    scenes = [as_image(image) for image in images]
    return scenes + [drawn_scene(seed) for seed in range(_SCENES - len(scenes))]


def _store(bundle: Bundle) -> EngineStore:
    """Return where the engines of a bundle lie. Raises BundleError."""
    folder = bundle.path.resolve()
    for graph in bundle.all_graphs():
        # Sessions know the graph alone, and look beside it
        if graph.path.parent != folder:
            raise BundleError(
                f"graph {graph.name!r} is in a folder below {bundle.path}, expected in it"
            )
    return EngineStore(folder)


def _usable(graphs: Sequence[Graph], passed: Collection[str]) -> list[str]:
    """Return the graphs whose engines can be used.

    Graphs hand arrays to each other on the device: those that do so all have an engine, or none.
    """
    left = [graph for graph in graphs if graph.name in passed]
    without = [graph for graph in graphs if graph.name not in passed]
    while linked := [g for g in left if any(_share(g, other) for other in without)]:
        left = [graph for graph in left if graph not in linked]
        without += linked
    return [graph.name for graph in left]


def _share(one: Graph, other: Graph) -> bool:
    """Return whether one graph takes what the other gives."""
    return any(
        {(t.name, len(t.shape)) for t in giver.outputs}
        & {(t.name, len(t.shape)) for t in taker.inputs}
        for giver, taker in ((one, other), (other, one))
    )


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _nothing(what: str, done: int, total: int) -> None:
    """Show no progress."""
