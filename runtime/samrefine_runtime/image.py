"""Images: reading them from files, and the checks and types that all modules share."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.errors import ImageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes of image files, lower case."""

_SIXTEEN_TO_EIGHT_BITS = 65535 / 255
"""Divisor from 16-bit to 8-bit values, 257."""

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""Pillow's names of the formats that are read, whatever a file is called."""

RgbImage = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""

ImageShape = tuple[int, int]
"""(H, W) of an image, pixels."""


def read_image(path: StrPath) -> RgbImage:
    """Read an image as (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied; palette, grayscale, CMYK and 16-bit images are converted (16-bit
    values are divided by 257 and rounded), an alpha channel is dropped.

    Raises:
        ImageError: no such file, not an image, or truncated.
    """
    path = as_path(path, "path", ImageError)
    if not path.is_file():
        raise ImageError(f"{path}: no such file")
    try:
        with open_image(path) as image:
            return to_rgb(image)
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        raise ImageError(f"{path}: not a readable image ({error})") from error


def to_rgb(image: Image.Image) -> RgbImage:
    """Convert a Pillow image as `read_image` does. Raises what Pillow raises."""
    upright = ImageOps.exif_transpose(image)
    return np.array(_eight_bit(upright, image.format).convert("RGB"))


def open_image(path: str | Path) -> Image.Image:
    """Open an image file with Pillow, only if it is of a format that is read here.

    Pillow knows formats that run programs: an EPS file, whatever its name, starts Ghostscript.
    Raises what Pillow raises.
    """
    Image.init()  # registers the formats that this build of Pillow has
    return Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN])


class ReadAhead:
    """Reads images in a known order, the next one in the background while one is in use."""

    def __init__(self, paths: Sequence[Path]):
        """Remember the order of the images; nothing is read before the first call of `read`.

        Args:
            paths: image files in the order in which they will be read.
        """
        self._following = dict(pairwise(paths))
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._coming: dict[Path, Future[RgbImage]] = {}

    def read(self, path: Path) -> RgbImage:
        """Return `read_image(path)`, and start to read the image after it. Raises ImageError."""
        # Forget an image that was read ahead but is not the one wanted: at most one is kept
        coming = self._coming.pop(path, None)
        self._coming.clear()
        following = self._following.get(path)
        image = read_image(path) if coming is None else coming.result()
        if following is not None:
            self._coming[following] = self._pool.submit(read_image, following)
        return image


def _eight_bit(image: Image.Image, kind: str | None) -> Image.Image:
    """Scale an integer or float image to 8 bits; others are returned as they are.

    Args:
        image: an image of any mode.
        kind: Pillow's name of the file's format.
    """
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    values = np.asarray(image).astype(np.float64)
    # Pillow 10 opens 16-bit PNG as "I"; other files of that mode and "F" state no range, so values
    # above 255 decide
    is_sixteen_bit = ";16" in image.mode or kind == "PNG"
    scale = _SIXTEEN_TO_EIGHT_BITS if is_sixteen_bit or values.max(initial=0) > 255 else 1.0
    return Image.fromarray(np.clip(np.rint(values / scale), 0, 255).astype(np.uint8))


def check_image(image: NDArray[np.uint8]) -> RgbImage:
    """Return the image if it is (H, W, 3) uint8 and not empty, else raise ImageError."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ImageError(f"image is {described(image)}, expected (H, W, 3) uint8 RGB")
    return image


def resized_shape(image_shape: ImageShape, long_side: int) -> ImageShape:
    """Return (H, W) after scaling the longer side to `long_side`, as SAM's `ResizeLongestSide`."""
    # Half up as in the reference: round() would take half to even
    scale = long_side / max(image_shape)
    height, width = (max(1, int(side * scale + 0.5)) for side in image_shape)
    return height, width
