"""All masks of one image, as arrays: run lengths instead of an N x H x W stack."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, NamedTuple, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samrefine_runtime.checks import Shape, StrPath, as_array, as_path, described
from samrefine_runtime.errors import MaskFileError, MaskIndexError, SettingsError
from samrefine_runtime.masks import rle
from samrefine_runtime.registry import Registry
from samrefine_runtime.settings import Domain

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]
"""Forms of `segmentation` in records, named as in SamAutomaticMaskGenerator."""

OUTPUT_MODES: tuple[str, ...] = get_args(OutputMode)

_OUTPUT_MODE = Domain(str, choices=dict.fromkeys(OUTPUT_MODES, ""))

_STRIP_PIXELS = 1 << 22
"""Pixels of a strip: 32 MiB of counts, and few enough strips that cutting runs costs little."""

PER_MASK = ("boxes", "predicted_iou", "stability_score", "point_coords", "crop_boxes")
"""Fields of Masks with one row per mask."""


_LAYOUT: Mapping[str, tuple[type[np.generic], Shape]] = {
    "counts": (np.uint32, (None,)),
    "offsets": (np.int64, (None,)),
    "boxes": (np.int32, (None, 4)),
    "predicted_iou": (np.float32, (None,)),
    "stability_score": (np.float32, (None,)),
    "point_coords": (np.float64, (None, 2)),
    "crop_boxes": (np.int32, (None, 4)),
}
"""Dtype and shape of each array of Masks."""

_ABOVE: Registry[Any] = Registry(
    "use of masks",
    {
        "formats": "samrefine_runtime.formats:MASK_FORMATS",
        "picture": "samrefine_runtime.report.notebook:masks_png",
    },
)
"""What knows masks, not the other way round: found by name when a caller asks masks for it."""


# Two sets of masks are equal if they are the same object: arrays have no single truth to compare by
@dataclass(frozen=True, eq=False, repr=False)
class Masks:
    """N masks over one image of H x W pixels.

    They are indexed as an (N, H, W) bool array along its first axis: `masks[2]` and iteration give
    one mask as (H, W) bool; a slice, (K,) whole numbers or (N,) bool give Masks.

    Arrays are converted to their dtype and checked once, here. Raises SettingsError where one has
    another shape or kind, or a mask's runs do not fill the image.

    Attributes:
        image_shape: (H, W) of the image, pixels.
        counts: (R,) uint32, run lengths of all masks, concatenated (see `rle`).
        offsets: (N + 1,) int64, mask i owns counts[offsets[i]:offsets[i + 1]].
        boxes: (N, 4) int32 XYXY pixels, right and bottom inclusive; zeros for an empty mask.
        predicted_iou: (N,) float32, the model's own estimate of the mask's IoU.
        stability_score: (N,) float32 in [0, 1], see `MaskGenerator`.
        point_coords: (N, 2) float64 XY pixels, the point prompt of each mask.
        crop_boxes: (N, 4) int32 XYXY pixels, the crop in which each mask was found.
    """

    image_shape: tuple[int, int]
    counts: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.int32]
    predicted_iou: NDArray[np.float32]
    stability_score: NDArray[np.float32]
    point_coords: NDArray[np.float64]
    crop_boxes: NDArray[np.int32]

    def __post_init__(self) -> None:
        # Stored as arrays, past the frozen dataclass
        object.__setattr__(self, "image_shape", as_image_shape(self.image_shape))
        for name, (dtype, shape) in _LAYOUT.items():
            object.__setattr__(self, name, _as_column(getattr(self, name), name, dtype, shape))
        self._check_runs()
        for name, values in self.attributes().items():
            if len(values) != len(self):
                raise SettingsError(f"{name} has {len(values)} rows, expected {len(self)}")

    def _check_runs(self) -> None:
        """Raise SettingsError unless the runs of every mask fill the image."""
        bounds = self.offsets
        if len(bounds) == 0 or bounds[0] != 0 or bounds[-1] != len(self.counts):
            raise SettingsError(
                f"offsets is {described(bounds)} over {len(self.counts)} counts, expected N + 1 "
                "positions from 0 to the number of counts"
            )
        if (np.diff(bounds) < 0).any():
            raise SettingsError("offsets has falling positions, expected rising ones")
        # ends (R + 1,): pixels before each run, over all masks
        ends = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        pixels, expected = np.diff(ends[bounds]), self.image_shape[0] * self.image_shape[1]
        wrong = np.flatnonzero(pixels != expected)
        if len(wrong):
            raise SettingsError(
                f"runs of mask {wrong[0]} have {pixels[wrong[0]]} pixels, expected {expected} for "
                f"{self.image_shape} (H, W)"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        return f"Masks({len(self)} masks, image_shape={self.image_shape})"

    def _repr_png_(self) -> bytes:
        """Return the picture that notebooks show: each mask in a colour, small ones on top."""
        return bytes(_ABOVE["picture"](self))

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return (self.dense(index) for index in range(len(self)))

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> NDArray[np.bool_]: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Masks: ...
    def __getitem__(self, index: Any) -> NDArray[np.bool_] | Masks:
        """Return one mask (H, W) bool, or Masks.

        Args:
            index: a whole number for one mask; a slice, (K,) whole numbers, or (N,) bool for
                several. Negative numbers count from the end.

        Raises:
            MaskIndexError: something else, or there is no mask at an index; also an IndexError.
        """
        if isinstance(index, Integral) and not isinstance(index, bool):
            return self.dense(int(index))
        if isinstance(index, slice):
            return self.select(self._positions(index))
        if isinstance(index, tuple):  # NumPy takes one for several axes
            raise MaskIndexError(f"index is {described(index)}, expected one for the masks alone")
        return self.select(index)

    def attributes(self) -> dict[str, Any]:
        """Return the arrays with one row per mask, by field name."""
        return {name: getattr(self, name) for name in PER_MASK}

    @classmethod
    def from_runs(
        cls,
        image_shape: tuple[int, int],
        runs: Sequence[rle.Counts],
        *,
        boxes: NDArray[np.int32] | None = None,
        predicted_iou: NDArray[np.float32] | None = None,
        stability_score: NDArray[np.float32] | None = None,
        point_coords: NDArray[np.float64] | None = None,
        crop_boxes: NDArray[np.int32] | None = None,
    ) -> Masks:
        """Build masks from one run-length code each, and fill in the fields that are None.

        Boxes are computed from the runs, scores are 1, points NaN, crops the whole image.

        Raises:
            SettingsError: as for the class.
        """
        image_shape = as_image_shape(image_shape)
        lengths, counts = _joined(runs)
        n = len(lengths)
        # offsets (N + 1,): where each mask's runs start in counts (R,)
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        ones = np.ones(n, np.float32)
        whole = np.tile(np.array([0, 0, image_shape[1], image_shape[0]], np.int32), (n, 1))
        return cls(
            image_shape=image_shape,
            counts=counts,
            offsets=offsets,
            boxes=_boxes_of_runs(runs, image_shape[0]) if boxes is None else boxes,
            predicted_iou=ones if predicted_iou is None else predicted_iou,
            stability_score=ones if stability_score is None else stability_score,
            point_coords=np.full((n, 2), np.nan) if point_coords is None else point_coords,
            crop_boxes=whole if crop_boxes is None else crop_boxes,
        )

    @classmethod
    def from_dense(cls, image_shape: tuple[int, int], masks: Iterable[NDArray[np.bool_]]) -> Masks:
        """Encode (H, W) bool arrays, taken one at a time.

        Args:
            image_shape: (H, W), pixels.
            masks: an array (N, H, W) bool, or anything that yields arrays (H, W) bool.

        Raises:
            MaskFileError: a mask is not bool or not of `image_shape`.
            SettingsError: `image_shape` is no shape, or `masks` yields nothing.
        """
        shape = as_image_shape(image_shape)
        try:
            iterator = iter(masks)
        except TypeError:
            raise SettingsError(
                f"masks is {described(masks)}, expected arrays (H, W) bool"
            ) from None
        runs = []
        for index, mask in enumerate(iterator):
            expected = f"{shape} (H, W) bool"
            name = f"masks[{index}]"
            array = as_array(mask, name, expected, shape, kinds="b", error=MaskFileError)
            runs.append(rle.encode(array))
        return cls.from_runs(shape, runs)

    @classmethod
    def concatenate(cls, parts: Sequence[Masks]) -> Masks:
        """Join several sets of masks of the same image, in order.

        Raises:
            SettingsError: no set at all, something else than masks, or images of other shapes.
        """
        if not isinstance(parts, (list, tuple)) or not all(isinstance(p, Masks) for p in parts):
            raise SettingsError(f"parts is {described(parts)}, expected a list of Masks")
        shapes = {part.image_shape for part in parts}
        if len(shapes) != 1:
            raise SettingsError(f"parts has image shapes {sorted(shapes)}, expected exactly one")
        # Each part's offsets move by the number of runs before it
        starts = np.cumsum([0] + [len(part.counts) for part in parts])
        shifted = [
            part.offsets[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)
        ]
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("counts", *PER_MASK)
        }
        offsets = np.concatenate([*shifted, starts[-1:]])
        return cls(image_shape=parts[0].image_shape, offsets=offsets, **joined)

    def runs(self, index: int) -> rle.Counts:
        """Return the run lengths (R_i,) uint32 of one mask. Raises MaskIndexError if it is none."""
        index = self._position(index)
        return self.counts[self.offsets[index] : self.offsets[index + 1]]

    def dense(self, index: int) -> NDArray[np.bool_]:
        """Decode one mask to (H, W) bool. Raises MaskIndexError if there is none at `index`."""
        return rle.decode(self.runs(index), self.image_shape)

    def _position(self, index: int) -> int:
        """Return `index` from 0 to N - 1; negative ones count from the end."""
        try:
            return range(len(self))[operator.index(index)]
        except (IndexError, TypeError):
            raise MaskIndexError(
                f"index is {described(index)}, expected a whole number below {len(self)}"
            ) from None

    def _positions(self, index: slice) -> NDArray[np.intp]:
        """Return the positions (K,) that a slice stands for."""
        try:
            return np.arange(len(self))[index]
        except (TypeError, ValueError):
            raise MaskIndexError(
                f"index is {described(index)}, expected a slice of whole numbers"
            ) from None

    def select(self, index: ArrayLike) -> Masks:
        """Return some of the masks.

        Args:
            index: (K,) int, in the order wanted, or (N,) bool; a list will do.

        Raises:
            MaskIndexError: something else, or there is no mask at an index.
        """
        expected = f"(K,) whole numbers below {len(self)}, or ({len(self)},) bool"
        chosen = as_array(index, "index", expected, (None,), kinds="iub", error=MaskIndexError)
        try:
            # An empty list is float64 in NumPy, and no index
            index = np.arange(len(self))[chosen if chosen.size else []]
        except IndexError:
            raise MaskIndexError(f"index is {described(index)}, expected {expected}") from None
        return Masks.from_runs(
            self.image_shape,
            [self.runs(int(i)) for i in index],
            **{name: values[index] for name, values in self.attributes().items()},
        )

    @property
    def areas(self) -> NDArray[np.int64]:
        """Number of pixels in each mask, (N,) int64."""
        starts, ends, owner = self.spans()
        return np.bincount(owner, ends - starts, minlength=len(self)).astype(np.int64)

    def spans(self) -> Spans:
        """Return the runs of ones of all masks."""
        # owner (R,): the mask of each run
        owner = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        # ends (R,): the runs of a mask fill H * W pixels, so those of earlier masks are subtracted
        ends = np.cumsum(self.counts, dtype=np.int64) - owner * (
            self.image_shape[0] * self.image_shape[1]
        )
        # Runs alternate from zeros: the odd ones of each mask are ones
        is_one = (np.arange(len(self.counts)) - self.offsets[owner]) % 2 == 1
        ends = ends[is_one]
        return Spans(ends - self.counts[is_one], ends, owner[is_one])

    def save(self, path: StrPath, format: str = "records") -> None:
        """Write the masks in a mask format of `samrefine masks`, each of which `refine` reads.

        Args:
            path: the file, or the folder where a format has one per image. What it is called
                without suffix is the image's id: `refine --masks` finds it by that.
            format: "records" for a JSON file of SAM's records, "png" for a folder of 0/255 PNG
                files, "coco" for COCO's JSON.

        Raises:
            SettingsError: the path is none, or there is no such format.
            OutputError: the file or folder cannot be written.
        """
        formats: Registry[Any] = _ABOVE["formats"]
        formats.check(format, "format")
        formats[format].save(as_path(path, "path"), self)

    def to_records(self, output_mode: OutputMode = "binary_mask") -> list[dict[str, Any]]:
        """Return one dict per mask, with the keys and value types of SamAutomaticMaskGenerator.

        Args:
            output_mode: form of `segmentation`: (H, W) bool, a dict with a list of run lengths,
                or a dict with COCO's compressed string.

        Raises:
            SettingsError: an unknown output mode.
        """
        _OUTPUT_MODE.check("output_mode", output_mode)
        areas = self.areas
        return [
            {
                "segmentation": self._segmentation(i, output_mode),
                "area": int(areas[i]),
                "bbox": _xywh(self.boxes[i]),
                "predicted_iou": float(self.predicted_iou[i]),
                "point_coords": [self.point_coords[i].tolist()],
                "stability_score": float(self.stability_score[i]),
                "crop_box": _xywh(self.crop_boxes[i]),
            }
            for i in range(len(self))
        ]

    def _segmentation(self, index: int, output_mode: OutputMode) -> Any:
        if output_mode == "binary_mask":
            return self.dense(index)
        counts = self.runs(index)
        if output_mode == "coco_rle":
            return {"size": list(self.image_shape), "counts": rle.to_coco_string(counts)}
        return {"size": list(self.image_shape), "counts": counts.tolist()}


class Spans(NamedTuple):
    """Runs of ones of several masks, as flat column-major pixel positions."""

    starts: NDArray[np.int64]
    """(S,) first positions."""
    ends: NDArray[np.int64]
    """(S,) positions after the last ones."""
    owner: NDArray[np.intp]
    """(S,) the mask of each run."""

    def of(self, chosen: NDArray[np.bool_]) -> Spans:
        """Return the runs of the masks `chosen` (N,) bool."""
        mine = chosen[self.owner]
        return Spans(*(each[mine] for each in self))

    def within(self, strip: slice) -> Spans:
        """Return the parts of runs inside a strip of positions, counted from its start."""
        inside = (self.starts < strip.stop) & (self.ends > strip.start)
        starts, ends, owner = (each[inside] for each in self)
        first = np.maximum(starts, strip.start) - strip.start
        return Spans(first, np.minimum(ends, strip.stop) - strip.start, owner)

    def at(self, positions: NDArray[np.integer[Any]]) -> Spans:
        """Return the runs as indices into ascending positions (P,)."""
        first, last = (np.searchsorted(positions, edge) for edge in (self.starts, self.ends))
        return Spans(first, last, self.owner)

    def cover(self, pixels: int) -> NDArray[np.int64]:
        """Count the masks over each of so many positions, (pixels,) int64."""
        # steps (pixels + 1,): +1 where a run starts, -1 where it ends; their prefix sum is the
        # count. One more position holds the runs that reach the end.
        steps = np.bincount(self.starts, minlength=pixels + 1)
        steps -= np.bincount(self.ends, minlength=pixels + 1)
        return np.cumsum(steps[:-1])


def strips(pixels: int) -> Iterator[slice]:
    """Yield so many positions in strips: a count of 8 bytes per pixel must not be held for all."""
    return (
        slice(start, min(start + _STRIP_PIXELS, pixels))
        for start in range(0, pixels, _STRIP_PIXELS)
    )


def as_image_shape(image_shape: Sequence[int]) -> tuple[int, int]:
    """Return (H, W) as a tuple of two whole numbers. Raises SettingsError."""
    expected = "(H, W), two whole numbers of at least 1"
    shape = as_array(image_shape, "image_shape", expected, (2,), kinds="iu")
    if shape.min() < 1:
        raise SettingsError(f"image_shape is {tuple(shape.tolist())}, expected {expected}")
    return int(shape[0]), int(shape[1])


def _as_column(values: Any, name: str, dtype: type[np.generic], shape: Shape) -> NDArray[Any]:
    """Return one of the arrays of Masks in its dtype. Raises SettingsError."""
    expected = f"{str(shape).replace('None', 'N')} {np.dtype(dtype)}"
    kinds = "iu" if np.issubdtype(dtype, np.integer) else "iuf"
    # NaN stands for a point or a score that is not known
    return as_array(values, name, expected, shape, kinds=kinds, is_finite=False).astype(
        dtype, copy=False
    )


def _joined(runs: Sequence[rle.Counts]) -> tuple[list[int], rle.Counts]:
    """Return the number of runs of each mask, and all runs (R,). Raises SettingsError."""
    expected = "one array (R,) of run lengths for each mask"
    try:
        lengths = [len(counts) for counts in runs]
        joined = np.concatenate(runs) if lengths else np.zeros(0, np.uint32)
    except (TypeError, ValueError):
        raise SettingsError(f"runs is {described(runs)}, expected {expected}") from None
    return lengths, as_array(joined, "runs", expected, (None,), kinds="iu")


def _boxes_of_runs(runs: Sequence[rle.Counts], height: int) -> NDArray[np.int32]:
    """Compute the XYXY boxes (N, 4) of masks; without masks (0, 4)."""
    return np.array([rle.box(counts, height) for counts in runs], np.int32).reshape(-1, 4)


def _xywh(box: NDArray[np.int32]) -> list[int]:
    """Convert XYXY to XYWH as SAM does: right minus left, even where right is inclusive."""
    left, top, right, bottom = box.tolist()
    return [left, top, right - left, bottom - top]
