"""The demo networks measured on scenes they were never trained on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from samrefine_export.demo.model import DemoClassifier
from samrefine_export.demo.pool import HELD_OUT
from samrefine_export.demo.scenes import Scene, make_scene
from samrefine_export.demo.train_sam import decode
from samrefine_export.sam.tiny_vit import PIXEL_MEAN, PIXEL_STD
from samrefine_export.third_party import Sam

_MEAN = np.array(PIXEL_MEAN, np.float32)
_STD = np.array(PIXEL_STD, np.float32)

LEAST_AREA = 0.002
"""A visible region below this share of the image is not measured: under 12 by 12 pixels."""


@dataclass(frozen=True)
class PointIou:
    """Best-of-three IoU, 0 to 1, of one point prompt per region, mean over regions."""

    regions: float
    """Every backdrop, leaf and object."""
    objects: float
    """Class-bearing objects only."""
    predicted_error: float
    """Mean absolute error of the predicted IoU."""
    count: int
    """Regions measured."""


def held_out_scenes(count: int, size: int | tuple[int, int] = 256) -> list[Scene]:
    """Return the first `count` held-out scenes."""
    return [make_scene(HELD_OUT + k, size) for k in range(count)]


def embed(sam: Sam, image: NDArray[np.uint8]) -> torch.Tensor:
    """Return the embedding (1, C, h, w) of an image (H, W, 3) uint8, resized and padded."""
    side = sam.image_encoder.img_size
    scale = side / max(image.shape[:2])
    high, wide = (int(n * scale + 0.5) for n in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, (wide, high), interpolation=method).astype(np.float32)
    padded = np.zeros((side, side, 3), np.float32)
    padded[:high, :wide] = (small - _MEAN) / _STD
    with torch.no_grad():
        return sam.image_encoder(torch.from_numpy(padded.transpose(2, 0, 1))[None])


def prompt_points(
    sam: Sam, embedding: torch.Tensor, points: NDArray[np.float32]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (N, 3, 4h, 4w) and predicted IoU (N, 3) for points (N, 2) in input pixels."""
    coords = torch.from_numpy(points)[:, None]
    with torch.no_grad():
        logits, quality = decode(sam, embedding, (coords, torch.ones(coords.shape[:2])))
    return logits[:, 1:], quality[:, 1:]


def inner_point(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the x, y of the pixel of `mask` (H, W) that is deepest inside it."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = divmod(int(depth.argmax()), mask.shape[1])
    return float(x), float(y)


def point_iou(sam: Sam, scenes: list[Scene], *, seed: int = 0) -> PointIou:
    """Measure the best of three masks for one random point per region, at the image's shape."""
    rng = np.random.default_rng(seed)
    best, bearing, errors = [], [], []
    sam.eval()
    for scene in scenes:
        # Regions that are large enough, and a point inside each
        ids, areas = np.unique(scene.regions, return_counts=True)
        ids = ids[areas >= LEAST_AREA * scene.regions.size]
        truth = scene.regions[None] == ids[:, None, None]
        picks = [divmod(int(rng.choice(np.flatnonzero(t))), t.shape[1])[::-1] for t in truth]
        scale = sam.image_encoder.img_size / max(scene.regions.shape)
        points = (np.array(picks, np.float32) + 0.5) * np.float32(scale) - 0.5
        # Masks of all three outputs against the regions, (N, 3)
        logits, quality = prompt_points(sam, embed(sam, scene.image), points)
        masks = to_image(sam, logits, scene.regions.shape)
        both = (masks & truth[:, None]).sum((2, 3))
        iou = both / np.maximum((masks | truth[:, None]).sum((2, 3)), 1)
        # The best output, and how well the predicted IoU of the top one fits
        best += iou.max(1).tolist()
        bearing += (scene.region_class[ids] > 0).tolist()
        top = quality.argmax(1)
        errors += np.abs(quality.amax(1).numpy() - iou[np.arange(len(ids)), top]).tolist()
    values, objects = np.array(best), np.array(bearing)
    return PointIou(
        float(values.mean()), float(values[objects].mean()), float(np.mean(errors)), len(values)
    )


def to_image(sam: Sam, logits: torch.Tensor, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return masks (N, M, H, W) at an image's `shape` of low-res logits (N, M, 4h, 4w)."""
    side = sam.image_encoder.img_size
    scale = side / max(shape)
    high, wide = (int(n * scale + 0.5) for n in shape)
    # To the encoder's square input, cut off the padding, then to the image
    full = torch.nn.functional.interpolate(logits, (side, side), mode="bilinear")[..., :high, :wide]
    resized = torch.nn.functional.interpolate(full, (shape[0], shape[1]), mode="bilinear")
    return np.asarray((resized > 0).numpy())


def classifier_accuracy(model: DemoClassifier, scenes: list[Scene]) -> float:
    """Return the fraction of (scene, class) pairs whose presence is predicted right, 0 to 1."""
    model.eval()
    right = []
    for scene in scenes:
        with torch.no_grad():
            logits = model(classifier_input(scene.image))[1][0].numpy()
        right.append((logits > 0) == scene.image_labels)
    return float(np.mean(right))


def classifier_input(image: NDArray[np.uint8]) -> torch.Tensor:
    """Return an image (H, W, 3) uint8 as the classifier's input (1, 3, H, W)."""
    values = (image.astype(np.float32) - _MEAN) / _STD
    return torch.from_numpy(values.transpose(2, 0, 1).copy())[None]
