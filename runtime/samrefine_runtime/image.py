"""Images: reading them from files, and what all who take one agree on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from samrefine_runtime.errors import ImageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

RgbImage = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""

ImageShape = tuple[int, int]
"""(H, W), pixels."""


def read_image(path: str | Path) -> RgbImage:
    """An image as (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied; palette, grayscale, CMYK and 16-bit images are converted (16-bit
    by its high byte), an alpha channel is dropped.

    Raises:
        ImageError: no such file, not an image, or truncated.
    """
    if not Path(path).is_file():
        raise ImageError(f"{path}: no such file")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return np.array(_eight_bit(upright, image.format).convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        raise ImageError(f"{path}: not a readable image ({error})") from error


class ReadAhead:
    """Reads images in a known order, the next one in the background while one is in use."""

    def __init__(self, paths: Sequence[Path]):
        """Nothing is read before the first call of `read`."""
        self._following = dict(pairwise(paths))
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._coming: dict[Path, Future[RgbImage]] = {}

    def read(self, path: Path) -> RgbImage:
        """`read_image(path)`, which may be done already. Raises ImageError."""
        coming = self._coming.pop(path, None)
        self._coming.clear()
        following = self._following.get(path)
        image = read_image(path) if coming is None else coming.result()
        if following is not None:
            self._coming[following] = self._pool.submit(read_image, following)
        return image


def _eight_bit(image: Image.Image, kind: str | None) -> Image.Image:
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    values = np.asarray(image).astype(np.float64)
    is_sixteen_bit = ";16" in image.mode or kind == "PNG"  # which Pillow 10 opens as "I"
    scale = 257.0 if is_sixteen_bit or values.max(initial=0) > 255 else 1.0
    return Image.fromarray(np.clip(np.rint(values / scale), 0, 255).astype(np.uint8))


def check_image(image: NDArray[np.uint8]) -> RgbImage:
    """The image itself if it is (H, W, 3) uint8 and not empty, else ImageError."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ImageError(f"image is {image.shape} {image.dtype}, expected (H, W, 3) uint8 RGB")
    return image


def resized_shape(image_shape: ImageShape, long_side: int) -> ImageShape:
    """Return (H, W) after scaling the longer side to `long_side` (`ResizeLongestSide`)."""
    scale = long_side / max(image_shape)
    height, width = (max(1, int(side * scale + 0.5)) for side in image_shape)
    return height, width
