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
from samrefine_runtime.image import open_image

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

_BIT_DEPTH_OFFSET = 24
"""Position of the bit depth in a PNG file, bytes: after the signature (8), the length and the type
of the IHDR chunk (4 + 4), the width (4) and the height (4); PNG specification, section 11.2.2."""


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
        LabelError: no such file, not a readable PNG, a value above 255, or a colour
            that VOC's palette does not have.
    """
    path = as_path(path, "path", LabelError)
    if not path.is_file():
        raise LabelError(f"{path}: no such file")
    try:
        with open_image(path) as image:
            image.load()
            kind, mode = image.format, image.mode
            pixels = np.array(image)
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        raise LabelError(f"{path}: not a readable label image ({error})") from error
    if kind != "PNG":
        raise LabelError(f"{path}: a {kind} image, expected PNG")
    if mode in ("RGB", "RGBA"):
        return _classes_of_colours(pixels[..., :3], path)
    return _stored_values(pixels, mode, path)


def _stored_values(pixels: NDArray[np.generic], mode: str, path: str | Path) -> LabelMap:
    """Return the values (H, W) that a file stores, from Pillow's pixels. Raises LabelError."""
    if mode not in ("P", "L", "1") and not mode.startswith("I"):
        raise LabelError(f"{path}: image mode {mode}, expected palette or grayscale")
    if mode == "L":
        return (pixels // _gray_scale(path)).astype(np.uint8)
    highest, lowest = int(pixels.max()), int(pixels.min())
    if highest > IGNORE or lowest < 0:
        raise LabelError(f"{path}: values {lowest} to {highest}, expected 0 to 255")
    return pixels.astype(np.uint8)


def _gray_scale(path: str | Path) -> int:
    """Return the factor by which Pillow stretches the values of 2- and 4-bit grayscale PNG."""
    with Path(path).open("rb") as file:
        bit_depth = file.read(_BIT_DEPTH_OFFSET + 1)[-1]
    # 255 over the largest value of the bit depth: 3 and 15
    return {2: 85, 4: 17}.get(bit_depth, 1)


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
