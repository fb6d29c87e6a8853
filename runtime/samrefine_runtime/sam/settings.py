"""The parameters of everything mode: those of SamAutomaticMaskGenerator, and our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from samrefine_runtime.arguments import BundleLike, as_bundle
from samrefine_runtime.checks import as_array, described
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.masks.masks import OUTPUT_MODES, OutputMode
from samrefine_runtime.sam.grids import Points, point_grids
from samrefine_runtime.sam.prompts import PROMPT_MODES, PromptMode
from samrefine_runtime.settings import Settings, choice, real, settings_of, whole

# Bundles of strangers set these too. SAM's own values are 32 points per side, batches of 64 and at
# most one layer of crops; the bounds are far above any honest value, and what they allow ends.
_MOST_POINTS = 256
"""Points per side: every sixteenth pixel of an image of 16 megapixels."""

_MOST_PROMPTS = 1_000_000
"""Prompts per image, over all crops: three hours with the smallest model on two cores."""

_LARGEST_BATCH = 1024
"""Prompts at once: 34 GB with SAM's embedding."""

_MOST_MEMORY = 1_000_000
"""MB, thus 1 TB."""

_MOST_LAYERS = 5
"""Layers of crops: 1,365 runs of the encoder, on crops of 300 pixels in an image of 10,000."""

_MOST_PIXELS = 1_000_000_000
"""Pixels of an area: more than any image that is read has."""

_FAR = 10
"""Thresholds of scores, which are 0 to 1 but for errors: beyond any, so that nothing passes."""

_MOST_LOGITS = 1000
"""Logits: SAM's are within 100."""


@dataclass(frozen=True)
class GeneratorSettings(Settings):
    """Parameters of everything mode; SAM's under its own names."""

    prompts: PromptMode = choice(
        "grid",
        {mode: plan.help for mode, plan in PROMPT_MODES.items()},
        help="Points of the grid that SAM is asked about.",
    )
    """Which points of the grid become prompts; all but "grid" differ from the reference."""
    points_per_side: int | None = whole(
        32, 1, _MOST_POINTS, is_optional=True, help="Point prompts along one side."
    )
    """Points of the grid along one side; None where point_grids is given."""
    points_per_batch: int = whole(
        4,
        1,
        _LARGEST_BATCH,
        help="Prompts decoded at once; bounds memory.",
        changes_result=False,
    )
    """Prompts decoded at once; small batches stay in cache. Does not change the result."""
    memory_mb: int | None = whole(
        None,
        1,
        _MOST_MEMORY,
        flag="--memory",
        help="MB for a batch of prompts, instead of --points-per-batch.",
        changes_result=False,
    )
    """Memory that a batch of prompts may take, in MB, instead of points_per_batch."""
    pred_iou_thresh: float = real(0.88, -_FAR, _FAR, help="Minimum predicted IoU of a mask.")
    """Masks whose predicted IoU is not above it are dropped; not applied at 0."""
    stability_score_thresh: float = real(
        0.95, -_FAR, _FAR, help="Minimum stability score of a mask."
    )
    """Masks of a lower stability score are dropped; not applied at 0."""
    stability_score_offset: float = real(
        1.0, 0, _MOST_LOGITS, help="Logits by which the threshold moves to measure stability."
    )
    """How far, in logits, the threshold is moved up and down to measure stability."""
    box_nms_thresh: float = real(0.7, -_FAR, _FAR, help="Box IoU above which masks are duplicates.")
    """Box IoU above which the mask of lower predicted IoU is a duplicate."""
    crop_n_layers: int = whole(
        0, 0, _MOST_LAYERS, help="Layers of image crops beside the whole image."
    )
    """Layers of crops to look at beside the whole image; layer i has 4^i crops."""
    crop_nms_thresh: float = real(
        0.7, -_FAR, _FAR, help="Box IoU above which masks of different crops are duplicates."
    )
    """Box IoU above which masks of different crops are duplicates."""
    crop_overlap_ratio: float = real(
        512 / 1500, 0, 1, help="Overlap of crops, as a fraction of the shorter side."
    )
    """Overlap of the first layer's crops, as a fraction of the image's shorter side."""
    crop_n_points_downscale_factor: int = whole(
        1, 1, _MOST_POINTS, help="Factor by which the grid is thinned per crop layer."
    )
    """The grid of layer n has points_per_side / factor^n points per side."""
    point_grids: Sequence[ArrayLike] | None = None
    """Custom points (N, 2) XY in [0, 1] for each crop layer, instead of points_per_side."""
    min_mask_region_area: int = whole(
        0, 0, _MOST_PIXELS, help="Fill holes and drop islands below this area, pixels."
    )
    """Pixels; smaller holes are filled and smaller islands removed."""
    output_mode: OutputMode = choice("binary_mask", OUTPUT_MODES, changes_result=False)
    """The form of `segmentation` in the records."""

    def __post_init__(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise SettingsError("exactly one of points_per_side and point_grids is needed")
        super().__post_init__()
        if self.point_grids is not None:
            # Stored as arrays, past the frozen dataclass
            object.__setattr__(self, "point_grids", _as_grids(self.point_grids))
        if self.point_grids is not None and len(self.point_grids) <= self.crop_n_layers:
            raise SettingsError(
                f"point_grids has {len(self.point_grids)} grids, expected one per crop layer "
                f"({self.crop_n_layers + 1})"
            )
        for layer, grid in enumerate(self.grids()):
            if len(grid) == 0:
                raise SettingsError(
                    f"the grid of crop layer {layer} is {grid.shape}, expected points (N, 2)"
                )
        self._check_prompts()

    def _check_prompts(self) -> None:
        """Raise SettingsError for more prompts per image than anybody can wait for."""
        # Layer n has 4^n crops, each with a grid
        grids = self.grids()[: self.crop_n_layers + 1]
        prompts = sum(4**layer * len(grid) for layer, grid in enumerate(grids))
        if prompts > _MOST_PROMPTS:
            raise SettingsError(
                f"crop_n_layers is {self.crop_n_layers}, which makes {prompts} prompts per image "
                f"of these grids, expected at most {_MOST_PROMPTS}"
            )

    def grids(self) -> Sequence[Points]:
        """Return the points (N, 2) XY in [0, 1] of each crop layer."""
        if self.point_grids is not None:
            return [np.asarray(grid, np.float64) for grid in self.point_grids]
        return point_grids(
            int(self.points_per_side or 0), self.crop_n_layers, self.crop_n_points_downscale_factor
        )

    @classmethod
    def of(cls, bundle: BundleLike, **given: Any) -> GeneratorSettings:
        """Combine given settings with the bundle's defaults, then SAM's.

        Raises:
            SettingsError: an unknown name, or a value out of range.
        """
        defaults = dict(as_bundle(bundle).defaults)
        if given.get("point_grids") is not None:
            # Grids given by the caller replace the bundle's points_per_side.
            defaults["points_per_side"] = None
        return settings_of(cls, given, defaults)


def _as_grids(given: Sequence[ArrayLike]) -> list[Points]:
    """Return custom grids as arrays (N, 2). Raises SettingsError unless they are in [0, 1]."""
    expected = "points (N, 2) XY in [0, 1]"
    try:
        grids = list(given)
    except TypeError:
        raise SettingsError(
            f"point_grids is {described(given)}, expected a list of {expected}"
        ) from None
    names = [f"point_grids[{layer}]" for layer in range(len(grids))]
    arrays = [
        as_array(grid, name, expected, (None, 2)) for name, grid in zip(names, grids, strict=True)
    ]
    for name, grid in zip(names, arrays, strict=True):
        if grid.min(initial=0) < 0 or grid.max(initial=1) > 1:
            raise SettingsError(
                f"{name} has values from {grid.min()} to {grid.max()}, expected {expected}"
            )
    return arrays
