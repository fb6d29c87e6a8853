"""Label maps: what their values mean, and the PNG files that hold them.

A file is an 8-bit palette PNG whose indices are the classes, as PASCAL VOC has it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.checks import StrPath, as_array, as_path, described
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.image import strips_of
from samrefine_runtime.image_file import open_image, open_image_bytes
from samrefine_runtime.png import PngHeader, read_header

LabelMap = NDArray[np.uint8]
"""(H, W) uint8, the class of each pixel: 0 background, 255 no class."""

IGNORE = 255
"""The value of pixels without a class: VOC's void."""

MAX_CLASS = IGNORE - 1
"""The largest value of a class."""

VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""Classes of PASCAL VOC in the order of its label values, background first."""

_CHANNEL_BITS = 8

_PIECE_PIXELS = 1 << 20
"""Pixels counted at once."""


def _voc_palette() -> NDArray[np.uint8]:
    """Compute VOC's palette (256, 3), as the `VOClabelcolormap` of its development kit.

    Bits 0, 1, 2 of the index are the highest bits of R, G, B; bits 3, 4, 5 the next, and so on.
    """
    index = np.arange(256)[:, None]
    channel = np.arange(3)
    palette = np.zeros((256, 3), np.int64)
    # 3 levels of 3 bits cover the 8 bits of the index
    for level in range(3):
        palette |= ((index >> (3 * level + channel)) & 1) << (_CHANNEL_BITS - 1 - level)
    return palette.astype(np.uint8)


PALETTE = _voc_palette()
"""(256, 3) uint8 RGB, VOC's colour of each class."""


def check_label(label: NDArray[np.uint8], name: str = "label") -> LabelMap:
    """Return `label` if it is (H, W) uint8, else raise LabelError that calls it `name`."""
    if not isinstance(label, np.ndarray) or label.ndim != 2 or label.dtype != np.uint8:
        raise LabelError(f"{name} is {described(label)}, expected (H, W) uint8")
    return label


def write_label(path: StrPath, label: LabelMap, palette: ArrayLike = PALETTE) -> None:
    """Write a label map as an 8-bit palette PNG; equal labels are written as equal bytes.

    Args:
        path: PNG file to write.
        label: (H, W) uint8.
        palette: (K, 3) RGB, 0 to 255, with K <= 256, colours for viewers; values of `label` are
            stored as they are, whatever their colour.

    Raises:
        LabelError: the label is not (H, W) uint8 or is empty.
        SettingsError: the path is none, or the palette has another shape or range.
        OutputError: the file cannot be written.
    """
    expected = "(K, 3) RGB from 0 to 255, K at most 256"
    colours = as_array(palette, "palette", expected, (None, 3), kinds="iu")
    if len(colours) > len(PALETTE) or (colours != colours.astype(np.uint8)).any():
        raise SettingsError(
            f"palette is {len(colours)} colours from {colours.min()} to {colours.max()}, "
            f"expected {expected}"
        )
    write_bytes(as_path(path, "path"), encode_label(label, colours.astype(np.uint8)))


def encode_label(label: LabelMap, palette: NDArray[np.uint8] = PALETTE) -> bytes:
    """Encode a label map (H, W) uint8 to the bytes that `write_label` writes.

    Raises:
        LabelError: the label is not (H, W) uint8 or is empty.
    """
    if check_label(label).size == 0:
        raise LabelError(f"label is {label.shape}, expected at least one pixel")
    # Always 256 colours: Pillow derives the bit depth from their number
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    image = Image.fromarray(label)
    image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def read_label(path: StrPath) -> LabelMap:
    """Read a label map (H, W) uint8 from a PNG file.

    The classes are the indices of palette files and the stored values of grayscale files, never
    their colours. RGB and RGBA files are read by VOC's colours.

    Raises:
        LabelError: no such file, not a PNG, damaged, larger than `inputs.MAX_MEGAPIXELS`, a value
            above 255, a colour that VOC's palette does not have, transparency, or black and white
            only, as in a mask.
        SettingsError: the limit of pixels in the environment is none.
    """
    path = as_path(path, "path", LabelError)
    with open_image(path, LabelError, "label image") as image:
        return _label_in(image, path, path)


def decode_label(content: bytes, *, max_pixels: int | None = None) -> LabelMap:
    """Read a label map (H, W) uint8 from the bytes of a PNG file, as `read_label` does a file.

    Args:
        content: of the file, such as `encode_label` returns.
        max_pixels: pixels that are accepted, if fewer than `inputs.MAX_MEGAPIXELS`.

    Raises as `read_label`.
    """
    what = "label image"
    with open_image_bytes(content, LabelError, what, max_pixels) as image:
        return _label_in(image, content, what)


def _label_in(image: Image.Image, source: Path | bytes, path: str | Path) -> LabelMap:
    """Read a label from an open file or its bytes, which messages call `path`."""
    if image.format != "PNG":
        raise LabelError(f"{path}: a {image.format} image, expected PNG")
    header = read_header(source)
    if image.mode in ("RGB", "RGBA"):
        return _from_colours(image, header, path)
    label = _stored_values(image, header, path)
    if _is_black_and_white(image, label):
        raise LabelError(
            f"{path}: values are 0 and {IGNORE} only, as in a mask, and {IGNORE} is no class; "
            "in a label, the pixels of an object hold the number of its class, 1 or more"
        )
    return label


def _stored_values(image: Image.Image, header: PngHeader, path: str | Path) -> LabelMap:
    """Return the values (H, W) that a palette or grayscale file stores. Raises LabelError."""
    if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
        raise LabelError(
            f"{path}: image mode {image.mode}, expected palette or grayscale without alpha"
        )
    pixels = np.asarray(image)
    if image.mode == "L":
        # Pillow stretches values of 2 and 4 bits, whose largest are 3 and 15, to 0 to 255
        return pixels // np.uint8(IGNORE // ((1 << header.bit_depth) - 1))
    highest = int(pixels.max())
    if highest > IGNORE:
        raise LabelError(f"{path}: values up to {highest}, expected 0 to 255")
    return pixels.astype(np.uint8)


def _is_black_and_white(image: Image.Image, label: LabelMap) -> bool:
    """Return whether a file holds no class, but pixels of no class that look white.

    Where a palette gives them another colour, as VOC's does, they are not meant as a mask.
    """
    # One more than no class is 0, than background 1, in 8 bits
    if label.max() < IGNORE or (label + np.uint8(1)).max() > 1:
        return False
    white = [255, 255, 255]
    return image.mode != "P" or (image.getpalette() or [])[3 * IGNORE :] == white


def count_values(label: LabelMap) -> NDArray[np.int64]:
    """Count the pixels of each value in a label map, (256,) int64."""
    # Piece by piece: NumPy makes 8 bytes of every pixel that it counts
    flat = label.reshape(-1)
    total = np.zeros(IGNORE + 1, np.int64)
    for start in range(0, len(flat), _PIECE_PIXELS):
        total += np.bincount(flat[start : start + _PIECE_PIXELS], minlength=len(total))
    return total


def _from_colours(image: Image.Image, header: PngHeader, path: str | Path) -> LabelMap:
    """Look the colours of an RGB or RGBA image up in VOC's palette. Raises LabelError."""
    if header.bit_depth != _CHANNEL_BITS:
        raise LabelError(f"{path}: colours of {header.bit_depth} bits, expected 8")
    label = np.empty((image.height, image.width), np.uint8)
    for rows, strip in strips_of(image):
        pixels = np.asarray(strip)
        # A colour that does not show may be meant or not
        if (pixels[..., 3:] != 255).any():
            raise LabelError(f"{path}: has transparent pixels, expected a label without alpha")
        label[rows] = _classes_of_colours(pixels[..., :3], path)
    return label


def _classes_of_colours(pixels: NDArray[np.uint8], path: str | Path) -> LabelMap:
    """Look RGB pixels (H, W, 3) up in VOC's palette. Raises LabelError for another colour."""
    # order, known (256,): classes by ascending key of their colour, and those keys
    order = np.argsort(_colour_keys(PALETTE))
    known = _colour_keys(PALETTE)[order]
    keys = _colour_keys(pixels)
    # found (H, W): position of the key; past the last one it is no position, so clip it
    found = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    strange = known[found] != keys
    if strange.any():
        colour = tuple(pixels[strange][0].tolist())
        raise LabelError(f"{path}: colour {colour} is not in the VOC palette")
    return order[found].astype(np.uint8)


def _colour_keys(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pack RGB colours (..., 3) into one integer each, (...)."""
    wide = colours.astype(np.int64)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
