"""Inputs for every graph of a bundle, and what ONNX Runtime gives for them on the CPU.

Graphs are run in the order in which they feed each other, so that each sees what it will see: an
embedding, not noise. Inputs that no graph gives are made from an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.backends import BACKENDS, Session, SessionOptions
from samrefine_runtime.bundle import Bundle, Graph, TensorSpec
from samrefine_runtime.errors import BackendError
from samrefine_runtime.image import RgbImage, resized_shape
from samrefine_runtime.sam.encoder import preprocess

Arrays = dict[str, NDArray[Any]]

_Key = tuple[str, int]
"""Name and number of axes: the decoder and everything mode call tensors of different shapes
`low_res_masks`."""

_POINTS = 2
"""Points of a prompt."""

_CAM_SIDE = 256
"""Longer side, pixels, at which CAM and the last step of the masks see an image."""

_SCENE_SIDE = 480


class Scene(NamedTuple):
    """What the inputs of one sample are made from."""

    bundle: Bundle
    image: RgbImage
    prompts: int
    """Number of prompts."""
    rng: np.random.Generator


class Samples:
    """The inputs and the expected outputs of all graphs, for some images."""

    def __init__(
        self, bundle: Bundle, graphs: Sequence[Graph], images: Sequence[RgbImage], prompts: int
    ):
        """Run all graphs in ONNX Runtime on the CPU.

        Args:
            bundle: to which the graphs belong.
            graphs: all that feed each other.
            images: two or more different ones; see `drawn_scene`.
            prompts: number of prompts for each image.

        Raises:
            BackendError: ONNX Runtime cannot run a graph, or an input of one is unknown.
        """
        self._sessions: dict[str, Session] = {}
        self.order = _in_order(graphs)
        self._inputs: list[dict[str, Arrays]] = []
        self._outputs: list[dict[str, Arrays]] = []
        for index, image in enumerate(images):
            self._run(Scene(bundle, image, prompts, np.random.default_rng(index)))

    def of(self, graph: str) -> Iterator[tuple[Arrays, Arrays]]:
        """Yield the inputs and the expected outputs of a graph, one pair per image."""
        for inputs, outputs in zip(self._inputs, self._outputs, strict=True):
            yield inputs[graph], outputs[graph]

    def with_outputs(self, graph: str, index: int, outputs: Arrays) -> dict[str, Arrays]:
        """Return what all later graphs give where one graph gives other outputs.

        Args:
            graph: name of the graph.
            index: of the image.
            outputs: of the graph.

        Returns:
            The outputs of this graph and of all that depend on it, by graph.
        """
        changed, found = (
            {_key(name, each): each for name, each in outputs.items()},
            {graph: outputs},
        )
        names = [each.name for each in self.order]
        for later in self.order[names.index(graph) + 1 :]:
            feeds = self._inputs[index][later.name]
            new = {n: changed[_key(n, v)] for n, v in feeds.items() if _key(n, v) in changed}
            if new:
                found[later.name] = self._session(later).run({**feeds, **new})
                changed |= {_key(n, each): each for n, each in found[later.name].items()}
        return found

    def _run(self, scene: Scene) -> None:
        known: dict[_Key, NDArray[Any]] = {}
        inputs: dict[str, Arrays] = {}
        outputs: dict[str, Arrays] = {}
        for graph in self.order:
            feeds = {
                tensor.name: known[key] if key in known else _made(graph, tensor, scene)
                for tensor in graph.inputs
                for key in [(tensor.name, len(tensor.shape))]
            }
            inputs[graph.name] = feeds
            outputs[graph.name] = self._session(graph).run(feeds)
            known |= {_key(name, each): each for name, each in outputs[graph.name].items()}
        self._inputs.append(inputs)
        self._outputs.append(outputs)

    def _session(self, graph: Graph) -> Session:
        if graph.name not in self._sessions:
            self._sessions[graph.name] = BACKENDS["cpu"](graph, SessionOptions(backend="cpu"))
        return self._sessions[graph.name]


def drawn_scene(seed: int) -> RgbImage:
    """Draw an image (480, 480, 3) of shapes on a soft ground, for want of real ones."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), np.uint8)
    image = cv2.resize(small, (_SCENE_SIDE, _SCENE_SIDE), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y = (int(each) for each in rng.integers(0, _SCENE_SIDE, 2))
        axes = tuple(int(each) for each in rng.integers(15, 90, 2))
        colour = tuple(int(each) for each in rng.integers(0, 256, 3))
        cv2.ellipse(image, (x, y), axes, int(rng.integers(0, 180)), 0, 360, colour, -1)
    return np.asarray(image, np.uint8)


def _in_order(graphs: Sequence[Graph]) -> list[Graph]:
    """Return graphs such that each comes after those that feed it."""
    left, ordered = list(graphs), []
    while left:
        given = {key for graph in left for key in _keys(graph.outputs)}
        # Without a circle there is one; a circle is run as it comes, and fails there
        ready = [g for g in left if not given & _keys(g.inputs)] or left[:1]
        ordered.append(ready[0])
        left.remove(ready[0])
    return ordered


def _keys(tensors: Sequence[TensorSpec]) -> set[_Key]:
    return {(tensor.name, len(tensor.shape)) for tensor in tensors}


def _key(name: str, value: NDArray[Any]) -> _Key:
    return name, value.ndim


# Inputs that no graph gives


def _made(graph: Graph, tensor: TensorSpec, scene: Scene) -> NDArray[Any]:
    """Make an input of a graph. Raises BackendError for one that is unknown."""
    if tensor.name not in MAKERS:
        raise BackendError(
            f"graph {graph.name!r} takes {tensor}, of which no sample can be made: export it again"
        )
    return MAKERS[tensor.name](tensor, scene).astype(tensor.dtype)


def _image(tensor: TensorSpec, scene: Scene) -> NDArray[Any]:
    """Make the encoder's image, whose shape is fixed, or CAM's: an image and its flip."""
    bundle = scene.bundle
    if all(isinstance(side, int) for side in tensor.shape):
        return preprocess(scene.image, bundle.require_sam())
    cam = bundle.require_cam()
    height, width = resized_shape(scene.image.shape[:2], _CAM_SIDE)
    pixels = np.asarray(Image.fromarray(scene.image).resize((width, height))) / 255
    view = ((pixels - cam.mean) / cam.std).transpose(2, 0, 1)
    return np.stack([view, view[..., ::-1]])


def _point_coords(tensor: TensorSpec, scene: Scene) -> NDArray[Any]:
    """Make points (N, 2) or (N, P, 2) XY inside the image."""
    sam = scene.bundle.require_sam()
    height, width = resized_shape(scene.image.shape[:2], sam.input_side)
    count = (scene.prompts, _POINTS)[: len(tensor.shape) - 1]
    return scene.rng.random((*count, 2)) * [width, height]


def _point_labels(tensor: TensorSpec, scene: Scene) -> NDArray[Any]:
    """Make labels (N, P): the first point inside, the others outside of the object."""
    return np.tile(np.arange(_POINTS) == 0, (scene.prompts, 1))


def _mask_input(tensor: TensorSpec, scene: Scene) -> NDArray[Any]:
    """Make low-res logits (N, 1, h, w), smooth as those of masks are."""
    height, width = scene.bundle.require_sam().low_res_shape
    coarse = scene.rng.normal(0, 5, (scene.prompts, 8, 8)).astype(np.float32)
    return np.stack([cv2.resize(each, (width, height)) for each in coarse])[:, None]


def _interpolation(tensor: TensorSpec, scene: Scene) -> NDArray[Any]:
    """Make a matrix (H, h) or (W, w) that resamples low-res logits linearly."""
    low_res = tensor.shape[1]
    assert isinstance(low_res, int)
    places = np.linspace(0, low_res - 1, _CAM_SIDE)
    return np.stack([np.interp(places, range(low_res), row) for row in np.eye(low_res)], axis=1)


def _thresholds(tensor: TensorSpec, scene: Scene) -> NDArray[Any]:
    """Make the thresholds (3,) of the stability score."""
    return scene.bundle.require_sam().mask_threshold + np.array([1.0, 0.0, -1.0])


MAKERS: Mapping[str, Callable[[TensorSpec, Scene], NDArray[Any]]] = {
    "image": _image,
    "point_coords": _point_coords,
    "point_labels": _point_labels,
    "mask_input": _mask_input,
    "has_mask_input": lambda tensor, scene: np.arange(scene.prompts) % 2,
    # Every other prompt has masks that pass, and of these every other one does
    "prompt": lambda tensor, scene: np.arange(0, scene.prompts, 2),
    "mask": lambda tensor, scene: np.arange(0, 3 * scene.prompts // 2, 2),
    "rows": _interpolation,
    "columns": _interpolation,
    "thresholds": _thresholds,
}
"""By the names that inputs have in every bundle."""
