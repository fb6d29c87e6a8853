"""Everything mode inside a graph: prompts to masks that pass the filters, without duplicates.

In shapes below S is the masks, h and w the sides of a low-res mask, H and W those of the image.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx

from samrefine_export.pipeline.builder import Graph, Stacked, Value
from samrefine_export.pipeline.counting import column_counts, count, row_counts
from samrefine_export.pipeline.images import fitted_side, longest, normalised, resized
from samrefine_export.sam.finish import PIXELS_PER_BYTE
from samrefine_runtime.bundle import SamSpec

PROMPTS_AT_ONCE = 16
"""Prompts of a run of the loop: they bound the memory."""


class Filters(NamedTuple):
    """Thresholds of the generator, each a number () float32."""

    pred_iou_thresh: Value
    stability_score_thresh: Value
    stability_score_offset: Value
    box_nms_thresh: Value


class FoundMasks(NamedTuple):
    """Masks of an image, best first."""

    low_res: Value
    """(S, h, w) float32 logits."""
    scores: Value
    """(S,) float32 predicted IoU."""
    stability: Value
    """(S,) float32."""
    boxes: Value
    """(S, 4) int32 XYXY pixels, right and bottom inclusive."""


class MaskPart(NamedTuple):
    """A mask inside its window."""

    logits: Value
    """(bottom - top, right - left) float32."""
    top: Value
    """(1,) int64, as the next three."""
    left: Value
    bottom: Value
    right: Value


class Band(NamedTuple):
    """What a low-res mask's rows, or columns, weigh in those of the image."""

    matrix: Value
    """(side, low_side) float32."""
    first: Value
    """(side,) int64, the first that weighs anything."""
    last: Value
    """(side,) int64."""


class Resampling:
    """From low-res logits to logits of the image, by one matrix a side; see `masks.resample`."""

    def __init__(self, graph: Graph, sam: SamSpec, height: Value, width: Value):
        self.graph, self.sam, self.height, self.width = graph, sam, height, width
        longer = longest(graph, height, width)
        low_height, low_width = sam.low_res_shape
        self.rows = self._band(height, longer, low_height)
        self.columns = self._band(width, longer, low_width)

    def _band(self, side: Value, longer: Value, low_side: int) -> Band:
        """Return what enlarges to the encoder's input, cuts padding off, and resizes."""
        graph, full = self.graph, self.sam.input_side
        used = fitted_side(graph, side, longer, full)
        enlarging = self._bilinear(graph.shape_of(low_side), graph.shape_of(full))
        resizing = self._bilinear(used, side)
        matrix = resizing @ enlarging.slice(0, 0, used)
        is_used = (matrix > 0).to("int32")
        ends = [
            graph.op("ArgMax", is_used, dtype="int64", axis=1, keepdims=0, select_last_index=last)
            for last in (0, 1)
        ]
        return Band(matrix, *ends)

    def _bilinear(self, source: Value, target: Value) -> Value:
        """Return the weights (to, from) of bilinear resampling between pixel centres.

        A source pixel weighs 1 less its distance from the target's place, nothing from 1 on.
        """
        graph = self.graph
        scale = source.to("float32") / target.to("float32")
        place = (graph.range(target).to("float32") + 0.5) * scale - 0.5
        last = (source - 1).to("float32")
        place = graph.op("Min", graph.op("Relu", place), last).unsqueeze(1)
        distance = graph.op("Abs", place - graph.range(source).to("float32"))
        return graph.op("Relu", 1 - distance)

    def part(self, low_res: Value, least: Value) -> MaskPart:
        """Resample the window of logits (h, w) in which the image may exceed `least` ()."""
        graph, is_above = self.graph, low_res > least
        top, bottom = self._reach(self.rows, row_counts(graph, is_above) > 0)
        left, right = self._reach(self.columns, column_counts(graph, is_above) > 0)
        rows = self.rows.matrix.slice(0, top, bottom)
        columns = self.columns.matrix.slice(0, left, right).transpose(1, 0)
        return MaskPart(rows @ low_res @ columns, top, left, bottom, right)

    def _reach(self, band: Band, marks: Value) -> tuple[Value, Value]:
        """Return the places of the image that marked places (N,) of a low-res mask change.

        Returns:
            The first and the one after the last, (1,) int64 each.
        """
        start, last = ends(self.graph, marks)
        return ends_of_range(self.graph, (band.last >= start) & (band.first <= last))

    def whole(self, values: Value, part: MaskPart) -> Value:
        """Put values of a window into zeros (H, W)."""
        pads = self.graph.join(
            part.top, part.left, self.height - part.bottom, self.width - part.right
        )
        return self.graph.op("Pad", values, pads)


def ends(graph: Graph, marks: Value) -> tuple[Value, Value]:
    """Return the first and the last marked place of (N,) bool, (1,) int64 each.

    Where nothing is marked they are the last and the first place of all.
    """
    places = graph.range(marks.side(0))
    first = graph.where(marks, places, marks.side(0) - 1).reduce("Min", 0, keep=True)
    return first, graph.where(marks, places, 0).reduce("Max", 0, keep=True)


def ends_of_range(graph: Graph, marks: Value) -> tuple[Value, Value]:
    """Return the bounds of the marked places, the first place alone where nothing is marked."""
    first, last = ends(graph, marks)
    return graph.op("Min", first, last), last + 1


def packed(graph: Graph, mask: Value) -> Value:
    """Pack a mask (H, W) uint8 of zeros and ones into bits (H, ceil(W / 8)), the first highest."""
    width = mask.side(1)
    size = (width + (PIXELS_PER_BYTE - 1)) / PIXELS_PER_BYTE
    missing = graph.shape_of(0, 0, 0, size * PIXELS_PER_BYTE - width)
    filled = graph.op("Pad", mask, missing).to("float32")
    by_byte = filled.reshape(mask.side(0), size, PIXELS_PER_BYTE)
    powers = [[float(1 << bit)] for bit in reversed(range(PIXELS_PER_BYTE))]
    return (by_byte @ graph.constant(powers, "float32")).squeeze(2).to("uint8")


class MaskFinder:
    """Composes the graphs of a SAM's everything mode."""

    def __init__(
        self, graph: Graph, models: dict[str, onnx.ModelProto], sam: SamSpec, filters: Filters
    ):
        self.graph, self.models, self.sam, self.filters = graph, models, sam, filters

    def pixels(self, image: Value, height: Value, width: Value) -> Value:
        """Return the encoder's input of an image (3, H, W) uint8."""
        graph, sam = self.graph, self.sam
        longer = longest(graph, height, width)
        sides = [fitted_side(graph, side, longer, sam.input_side) for side in (height, width)]
        small = resized(graph, image, *sides, cubic=False)
        values = normalised(graph, small, sam.mean, sam.std, 1)
        missing = [graph.constant([sam.input_side], "int64") - side for side in sides]
        pads = graph.shape_of(0, 0, 0, 0, 0, 0, *missing)
        return graph.op("Pad", values, pads)

    def find(self, pixels: Value, points: Value, resampling: Resampling) -> FoundMasks:
        """Find the masks of points (N, 2) in [0, 1]."""
        graph = self.graph
        embedding = graph.include(self.models["encoder"], "encoder", {"image": pixels})
        shared = graph.include(self.models["everything_image"], "image", embedding)
        coords = self._to_input(points, resampling)
        trips = (coords.side(0) + (PROMPTS_AT_ONCE - 1)) / PROMPTS_AT_ONCE
        low_res = graph.full(graph.shape_of(0, *self.sam.low_res_shape), 0, "float32")
        nothing = graph.full(graph.shape_of(0), 0, "float32")
        boxes = graph.full(graph.shape_of(0, 4), 0, "int32")

        def ask(run: Value, *found: Value) -> list[Value]:
            start = (run * PROMPTS_AT_ONCE).unsqueeze(0)
            batch = coords.slice(0, start, start + PROMPTS_AT_ONCE)
            new = self._candidates(batch, shared, resampling)
            return [graph.join(*pair) for pair in zip(found, new, strict=True)]

        found = FoundMasks(*graph.loop(trips, [low_res, nothing, nothing, boxes], ask))
        return self._without_duplicates(found)

    def _to_input(self, points: Value, resampling: Resampling) -> Value:
        """Scale points (N, 2) in [0, 1] to XY pixels of the encoder's input."""
        graph, height, width = self.graph, resampling.height, resampling.width
        longer = longest(graph, height, width)
        sides = [fitted_side(graph, side, longer, self.sam.input_side) for side in (width, height)]
        return (points * graph.join(*sides).to("float64")).to("float32")

    def _candidates(
        self, coords: Value, shared: dict[str, Value], resampling: Resampling
    ) -> list[Value]:
        """Return the fields of FoundMasks for what passes predicted IoU and stability."""
        graph = self.graph
        feeds = {"point_coords": coords, **shared}
        upscaling = feeds.pop("upscaling")
        decoded = graph.include(self.models["everything_tokens"], "tokens", feeds)
        iou = decoded.pop("iou_predictions")
        least = self.filters.pred_iou_thresh
        is_kept = (iou > least) | (least <= 0)

        def none() -> list[Value]:
            return [
                graph.full(graph.shape_of(0, *self.sam.low_res_shape), 0, "float32"),
                *[graph.full(graph.shape_of(0), 0, "float32")] * 2,
                graph.full(graph.shape_of(0, 4), 0, "int32"),
            ]

        def some() -> list[Value]:
            low_res = self._low_res(is_kept, {**decoded, "upscaling": upscaling})
            kept = graph.op("NonZero", is_kept.reshape(-1), dtype="int64").squeeze(0)
            scores = iou.reshape(-1).take(kept)
            stability, boxes = self._measured(low_res, resampling)
            limit = self.filters.stability_score_thresh
            stable = graph.op("NonZero", (stability >= limit) | (limit <= 0), dtype="int64")
            places = stable.squeeze(0)
            return [each.take(places) for each in (low_res, scores, stability, boxes)]

        any_kept = is_kept.to("int32").reduce("Max", 0, 1) > 0
        return graph.either(any_kept, some, none)

    def _low_res(self, is_kept: Value, feeds: dict[str, Value]) -> Value:
        """Upscale the kept masks, (N, M) bool, to (S, h, w); prompts without one are left out."""
        graph = self.graph
        masks_per_prompt = is_kept.side(1)
        has_mask = is_kept.to("int32").reduce("Max", 1)
        prompt = graph.op("NonZero", has_mask, dtype="int64").squeeze(0)
        # A prompt's place among those that have a mask
        place = graph.op("CumSum", has_mask, graph.constant(0, "int64")).to("int64") - 1
        kept = graph.op("NonZero", is_kept, dtype="int64")
        owner, which = (kept.take(graph.constant(axis, "int64")) for axis in (0, 1))
        mask = place.take(owner) * masks_per_prompt + which
        made = graph.include(
            self.models["everything_masks"], "masks", {**feeds, "prompt": prompt, "mask": mask}
        )
        return made["low_res_masks"]

    def _measured(self, low_res: Value, resampling: Resampling) -> tuple[Value, Value]:
        """Return stability scores (S,) and boxes (S, 4) int32 of logits (S, h, w)."""
        graph = self.graph
        threshold = graph.constant(self.sam.mask_threshold, "float32")
        offset = self.filters.stability_score_offset
        low, high = threshold - offset, threshold + offset

        def measure(run: Value) -> list[Value]:
            part = resampling.part(low_res.take(run), low)
            above, below = (count(graph, part.logits > each) for each in (high, low))
            inside = part.logits > threshold
            left, right = ends(graph, column_counts(graph, inside) > 0)
            rows = row_counts(graph, inside) > 0
            top, bottom = ends(graph, rows)
            corners = graph.join(left, top, right, bottom)
            place = graph.join(part.left, part.top, part.left, part.top)
            # The box of nothing is zero
            box = (corners + place) * rows.to("int64").reduce("Max", 0)
            return [above.to("float32") / below.to("float32"), box.to("int32")]

        stability, boxes = graph.loop(
            low_res.side(0), [], measure, stacked=[Stacked("float32"), Stacked("int32", (4,))]
        )
        return stability, boxes

    def _without_duplicates(self, found: FoundMasks) -> FoundMasks:
        """Drop masks whose box overlaps a better one's too much; best first."""
        graph = self.graph
        boxes = found.boxes.to("float32").unsqueeze(0)
        scores = found.scores.unsqueeze(0, 1)
        chosen = graph.op(
            "NonMaxSuppression",
            boxes,
            scores,
            found.scores.side(0),
            self.filters.box_nms_thresh.unsqueeze(0),
            dtype="int64",
        )
        places = chosen.slice(1, 2, 3).squeeze(1)
        return FoundMasks(*(each.take(places) for each in found))
