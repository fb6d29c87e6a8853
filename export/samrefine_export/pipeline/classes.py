"""Class activation maps inside a graph: which classes are in an image, and the pseudo label."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import onnx

from samrefine_export.pipeline.builder import Graph, Value
from samrefine_export.pipeline.images import enlarged, longest, normalised, resized
from samrefine_runtime.bundle import CamSpec
from samrefine_runtime.cam import CamSettings

_EPSILON = 1e-5
"""As in the runtime's `cam.py`."""

_MAX_BYTE = 255.0


class CamInputs(NamedTuple):
    """What the pseudo label depends on beside the image."""

    image_labels: Value
    """(C,) bool; (0,) to predict the classes."""
    background_score: Value
    presence_threshold: Value


class Classes(NamedTuple):
    """What the classifier makes of an image."""

    present: Value
    """Label values (K,) int64 of the classes in the image, ascending."""
    probabilities: Value
    """(C,) float32."""
    pseudo_label: Value
    """(H, W) uint8."""


class Classifier:
    """Composes the CAM's graph over scales and flips, as the runtime's `CamClassifier` does."""

    def __init__(self, graph: Graph, model: onnx.ModelProto, cam: CamSpec, settings: CamSettings):
        self.graph, self.model, self.cam, self.settings = graph, model, cam, settings

    def label(self, image: Value, height: Value, width: Value, inputs: CamInputs) -> Classes:
        """Find the classes and the pseudo label of an image (3, H, W) uint8."""
        graph = self.graph
        small, sides = self._at_most(image, height, width)
        # Predict the classes at the scale closest to 1
        scales = sorted(self.settings.scales, key=lambda scale: abs(math.log(scale)))
        maps, logits = self._at_scale(small, sides, scales[0])
        probabilities = graph.op("Sigmoid", logits)
        present = self._present(probabilities, inputs)
        # One channel more than wanted: resizing none at all is not defined everywhere
        wanted = graph.join(*self._channels(present), graph.constant([0], "int64"))
        total = self._whole(maps.take(wanted), sides)
        for scale in scales[1:]:
            maps, _ = self._at_scale(small, sides, scale)
            total = total + self._whole(maps.take(wanted), sides)
        total = self._comparable(total)
        return Classes(present, probabilities, self._highest(total, present, height, width, inputs))

    def _comparable(self, total: Value) -> Value:
        """Bring sums of maps (K, h, w) over all views to 0 to 1."""
        if self.settings.normalise:
            return total / (total.reduce("Max", 1, 2, keep=True) + _EPSILON)
        views = len(self.settings.scales) * (1 + self.settings.flip)
        return self.graph.op("Min", total / float(views), 1.0)

    def _at_most(self, image: Value, height: Value, width: Value) -> tuple[Value, list[Value]]:
        """Reduce an image whose longer side exceeds the settings' most; return it and its sides."""
        graph, most = self.graph, self.settings.max_side
        if most is None:
            return image, [height, width]
        longer = longest(graph, height, width)
        factor = graph.constant([most], "float32") / longer.to("float32")
        sides = [
            graph.where(longer > most, self._rounded(side, factor), side)
            for side in (height, width)
        ]
        return resized(graph, image, *sides, cubic=True), sides

    def _rounded(self, side: Value, factor: Value) -> Value:
        """Scale a side (1,) int64, half to even, to at least one pixel."""
        scaled = self.graph.op("Round", side.to("float32") * factor)
        return self.graph.op("Max", scaled.to("int64"), [1])

    def _at_scale(self, image: Value, sides: list[Value], scale: float) -> tuple[Value, Value]:
        """Return maps (C', h, w) after ReLU, and logits (C,), of an image at one scale."""
        graph, cam = self.graph, self.cam
        factor = graph.constant([scale], "float32")
        scaled = [self._rounded(side, factor) for side in sides]
        small = image if scale == 1 else resized(graph, image, *scaled, cubic=True)
        view = normalised(graph, small, cam.mean, cam.std, _MAX_BYTE)
        flips = self.settings.flip
        views = graph.join(view, self._flipped(view)) if flips else view
        outputs = graph.include(self.model, f"cam_{scale}", {"image": views})
        maps = graph.op("Relu", outputs["cam"])
        logits = outputs["logits"].reduce("Mean", 0)
        if not flips:
            return maps.squeeze(0), logits
        # Flip the maps of the flipped view back before adding them
        return (maps.slice(0, 0, 1) + self._flipped(maps.slice(0, 1, 2))).squeeze(0), logits

    def _flipped(self, images: Value) -> Value:
        """Mirror images (B, C, H, W) left to right."""
        graph = self.graph
        last, end = graph.constant([-1], "int64"), graph.constant([np.iinfo(np.int64).min], "int64")
        return graph.op("Slice", images, last, end, graph.constant([3], "int64"), last)

    def _present(self, probabilities: Value, inputs: CamInputs) -> Value:
        """Return the label values (K,) of the classes that are given, or else predicted."""
        graph = self.graph
        predicted = probabilities > inputs.presence_threshold
        if self.settings.always_one_class:
            highest = probabilities.equals(probabilities.reduce("Max", 0, keep=True))
            first = graph.op("ArgMax", highest.to("int32"), dtype="int64", axis=0, keepdims=1)
            is_first = graph.range(probabilities.side(0)).equals(first)
            none = ~(predicted.to("int32").reduce("Max", 0, keep=True) > 0)
            predicted = predicted | (is_first & none)
        [is_present] = graph.either(
            inputs.image_labels.side(0).squeeze(0) > 0,
            lambda: [inputs.image_labels],
            lambda: [predicted],
        )
        return graph.op("NonZero", is_present, dtype="int64").squeeze(0) + 1

    def _channels(self, present: Value) -> list[Value]:
        """Return the channels of the maps to keep: the background's, if any, and the classes'."""
        if self.cam.has_background:
            return [self.graph.constant([0], "int64"), present]
        return [present - 1]

    def _whole(self, maps: Value, sides: list[Value]) -> Value:
        """Enlarge maps (K, h, w) to the image's sides rounded up to whole strides, then crop."""
        stride = self.cam.stride
        whole = [(side + (stride - 1)) / stride * stride for side in sides]
        large = enlarged(self.graph, maps, *whole)
        return large.slice(1, 0, sides[0]).slice(2, 0, sides[1])

    def _highest(
        self, maps: Value, present: Value, height: Value, width: Value, inputs: CamInputs
    ) -> Value:
        """Return at each pixel the class of the highest map above the background, (H, W) uint8."""
        graph = self.graph
        shape = graph.shape_of(height, width)
        first = int(self.cam.has_background)
        best = graph.op("Expand", inputs.background_score, shape)
        if first:
            own = graph.op("Max", maps.slice(0, 0, 1), inputs.background_score)
            best = enlarged(graph, own, height, width).squeeze(0)

        def keep_higher(run: Value, best: Value, label: Value) -> list[Value]:
            one = maps.take((run + first).unsqueeze(0))
            candidate = enlarged(graph, one, height, width).squeeze(0)
            is_higher = candidate > best
            value = present.take(run).to("uint8")
            return [
                graph.where(is_higher, candidate, best),
                graph.where(is_higher, value, label),
            ]

        label = graph.full(shape, 0, "uint8")
        return graph.loop(present.side(0), [best, label], keep_higher)[1]
