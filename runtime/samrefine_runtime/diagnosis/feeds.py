"""What a bundle's graphs take that none of them gives: an image, and prompts all over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import network_input
from samrefine_runtime.engines.samples import MAKERS, Scene
from samrefine_runtime.image import RgbImage
from samrefine_runtime.sam.encoder import preprocess

Tensors = dict[tuple[str, int], NDArray[Any]]
"""Tensors by name and number of axes: prompts of one and of several points share their names."""

_POINTS_PER_SIDE = 4
"""Points of the grid along each side of an image that SAM is asked at."""

_CAM_SIDE = 320
"""Side in pixels to which images are resized for the classifier alone: of one shape, constant
outputs can be told."""


def by_rank(tensors: Mapping[str, NDArray[Any]]) -> Tensors:
    """Return tensors by name and number of axes."""
    return {(name, value.ndim): value for name, value in tensors.items()}


def sam_feeds(bundle: Bundle, image: RgbImage) -> Tensors:
    """Return what the graphs take that no graph gives, for one image."""
    if bundle.sam is None:
        return {}
    sam = bundle.sam
    # points (N, 2): a grid over the encoder's input; as prompts of two points each is padded, but
    # every second one, with the middle, is a box
    steps = (np.arange(_POINTS_PER_SIDE) + 0.5) / _POINTS_PER_SIDE * sam.input_side
    points = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2).astype(np.float32)
    count = len(points)
    prompts = np.stack([points, np.zeros_like(points)], axis=1)
    kinds = np.tile(np.array([1, -1], np.float32), (count, 1))
    middle = np.full_like(points, sam.input_side / 2)
    corners = np.stack([np.minimum(points, middle), np.maximum(points, middle)], axis=1)
    prompts[1::2], kinds[1::2] = corners[1::2], (2, 3)
    low_res = np.zeros((count, 1, *sam.low_res_shape), np.float32)
    values: Mapping[str, NDArray[Any]] = {
        "image": preprocess(image, sam),
        "point_labels": kinds,
        "mask_input": low_res,
        "has_mask_input": np.zeros(count, np.float32),
        "pred_iou_thresh": np.array(-np.inf, np.float32),
    }
    given = by_rank(values) | {("point_coords", 2): points, ("point_coords", 3): prompts}
    # What else there is a rule for, as engines are compared with when they are built
    scene = Scene(bundle, image, count, np.random.default_rng(0))
    made = {
        (tensor.name, len(tensor.shape)): MAKERS[tensor.name](tensor, scene).astype(tensor.dtype)
        for graph in bundle.graphs.values()
        for tensor in graph.inputs
        if tensor.name in MAKERS and (tensor.name, len(tensor.shape)) not in given
    }
    return made | given


def cam_feed(bundle: Bundle, image: RgbImage) -> NDArray[np.float32]:
    """Return an image as the classifier takes it, (1, 3, h, w)."""
    resized = Image.fromarray(image).resize((_CAM_SIDE, _CAM_SIDE), Image.Resampling.BICUBIC)
    return network_input(np.asarray(resized), bundle.require_cam())
