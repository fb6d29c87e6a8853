"""Images: reading them from files, and the checks and types that all modules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.errors import ImageError
from samrefine_runtime.image_file import open_image, open_image_bytes, quiet_pillow

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes of image files, lower case."""

_SIXTEEN_TO_EIGHT_BITS = 65535 / 255
"""Divisor from 16-bit to 8-bit values, 257."""

_ORIENTATION = 0x0112
"""EXIF's tag of the orientation."""

_TURNS: Mapping[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""By EXIF orientation, how an upright image (H, W, ...) is turned into the one that is stored."""

_FIRST_ACROSS = 5
"""The first of the EXIF orientations that exchange height and width."""

_STRIP_PIXELS = 1 << 20
"""Pixels of a strip: a few MiB, which stay in the processor's cache."""

_MOST_AHEAD = 3 * 16_000_000
"""Largest array beside which another image is read ahead: 16 megapixels."""

RgbImage = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""

ImageShape = tuple[int, int]
"""(H, W) of an image, pixels."""


def read_image(path: StrPath) -> RgbImage:
    """Read an image as (H, W, 3) uint8 RGB, upright.

    JPEG, PNG, BMP, TIFF and WebP are read, whatever the file's name, up to `inputs.MAX_MEGAPIXELS`.
    EXIF orientation is applied; palette, grayscale, CMYK and 16-bit images are converted (16-bit
    values are divided by 257 and rounded), an alpha channel is dropped. What could be taken for
    more than one image is refused: several frames or pages, and values of 32 bits, of which no
    file says which are black and white.

    Raises:
        ImageError: no such file, not an image, damaged, too large, or refused.
        SettingsError: the limit of pixels in the environment is none.
    """
    with open_image(as_path(path, "path", ImageError), ImageError) as image:
        return to_rgb(image)


def decode_image(content: bytes, *, max_pixels: int | None = None) -> RgbImage:
    """Read the bytes of an image file as `read_image` does a file.

    Args:
        content: of the file.
        max_pixels: pixels that are accepted, if fewer than `inputs.MAX_MEGAPIXELS`.

    Raises as `read_image`.
    """
    with open_image_bytes(content, ImageError, max_pixels=max_pixels) as image:
        return to_rgb(image)


def image_shape_of(path: StrPath) -> ImageShape:
    """Return (H, W) of an image as `read_image` would read it, from its header alone.

    Raises as `read_image`.
    """
    with open_image(as_path(path, "path", ImageError), ImageError) as image:
        width, height = image.size
        is_turned = _orientation(image) >= _FIRST_ACROSS
    return (width, height) if is_turned else (height, width)


def to_rgb(image: Image.Image) -> RgbImage:
    """Convert a Pillow image as `read_image` does. Raises what Pillow raises, or ValueError."""
    with quiet_pillow:
        image.load()
        bits, orientation = _bits(image), _orientation(image)
        height, width = image.size if orientation >= _FIRST_ACROSS else image.size[::-1]
        upright = np.empty((height, width, 3), np.uint8)
        # A view of it, so that nothing is turned afterwards
        stored = _TURNS[orientation](upright)
        for rows, strip in strips_of(image):
            stored[rows] = _eight_bit(strip) if bits == 16 else strip.convert("RGB")
    return upright


def row_strips(image_shape: ImageShape) -> Iterator[slice]:
    """Yield the rows of an image (H, W) in strips.

    Work that looks at each pixel by itself is done strip by strip: what it needs for a whole large
    image at once is several times the image.
    """
    height, width = image_shape
    step = max(1, _STRIP_PIXELS // max(width, 1))
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def strips_of(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield the rows of each strip of a Pillow image, and the strip."""
    for rows in row_strips((image.height, image.width)):
        yield rows, image.crop((0, rows.start, image.width, rows.stop))


class ReadAhead:
    """Reads images in a known order, the next one in the background while one is in use.

    While a large image is in use, nothing is read ahead.
    """

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
        # Beside a large image there is no room for another: work on it takes far longer anyway
        if following is not None and image.size <= _MOST_AHEAD:
            self._coming[following] = self._pool.submit(read_image, following)
        return image


def _bits(image: Image.Image) -> int:
    """Return 8 or 16, the bits of a channel that Pillow keeps.

    Raises:
        ValueError: values of 32 bits, whose range no file states.
    """
    # Pillow 10 opens 16-bit PNG as "I"
    if ";16" in image.mode or (image.mode, image.format) == ("I", "PNG"):
        return 16
    if image.mode not in ("I", "F"):
        return 8
    lowest, highest = image.getextrema()
    kind = "floats" if image.mode == "F" else "32-bit integers"
    raise ValueError(
        f"values are {kind} from {lowest:.6g} to {highest:.6g}, and no file says which is white; "
        "convert it to 8 or 16 bits"
    )


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Scale a grayscale image of 16 bits to (H, W, 1) uint8."""
    values = np.asarray(image).astype(np.float64)
    return np.rint(values / _SIXTEEN_TO_EIGHT_BITS).astype(np.uint8)[..., None]


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1 where it is damaged, as viewers do."""
    # Pillow turns TIFF files itself when they are loaded, and not all releases then say so
    if image.format == "TIFF":
        return 1
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises many types on damaged EXIF
        return 1
    return orientation if orientation in _TURNS else 1


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
