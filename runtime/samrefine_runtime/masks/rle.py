"""Run-length codes of binary masks, column-major as in COCO.

A mask is an array of run lengths `counts` (R,) uint32: zeros first (possibly 0 of them), then
ones, and so on. Runs sum to H * W. `to_coco_string` writes pycocotools' compressed form.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import MaskFileError

Counts = NDArray[np.uint32]
"""(R,) uint32, run lengths of one mask, starting with zeros."""

# COCO's string (`rleToString` in pycocotools' maskApi.c) writes a number as characters of 6 bits,
# lowest bits first: 5 bits of the number and a bit that says whether more follow
_DATA_BITS = 5
_DATA = 0x1F
_SIGN = 0x10
"""Highest data bit of the last character: set in a negative number."""
_MORE = 0x20
"""Continuation bit."""
_FIRST_CHARACTER = ord("0")
"""Character of value 0; value 63 is "o"."""
_CHARACTERS = 64
_LAST_SHIFT = 30
"""Position of the highest data bits of a number of 32 bits, in steps of 5."""


def encode(mask: NDArray[np.bool_]) -> Counts:
    """Encode one mask (H, W) bool, with the runs of segment-anything's `mask_to_rle_pytorch`."""
    # flat (W * H,): column-major
    flat = np.ascontiguousarray(mask.T).reshape(-1)
    if flat.size == 0:
        return np.zeros(1, np.uint32)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return counts_from_changes(changes, flat.size, bool(flat[0]))


def counts_from_changes(changes: NDArray[np.int64], pixels: int, starts_with_one: bool) -> Counts:
    """Compute run lengths from the flat positions at which the value changes.

    Args:
        changes: (R,) ascending flat positions, each the first pixel of a run.
        pixels: number of pixels of the image, H * W.
        starts_with_one: whether pixel 0 is set; the first run then has length 0.
    """
    ends = np.concatenate(([0] * (1 + starts_with_one), changes, [pixels]))
    return np.diff(ends).astype(np.uint32)


def decode(counts: Counts, image_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode runs to a mask (H, W) bool, a view in column-major order."""
    height, width = image_shape
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def area(counts: Counts) -> int:
    """Count the pixels of a mask."""
    return int(counts[1::2].sum(dtype=np.int64))


def box(counts: Counts, height: int) -> tuple[int, int, int, int]:
    """Compute the XYXY pixels of a mask, right and bottom inclusive; zeros for an empty one."""
    # starts, ends (S,): flat positions of the runs of ones, ends inclusive, empty runs left out
    edges = np.cumsum(counts, dtype=np.int64)
    starts, ends = edges[0:-1:2], edges[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends] - 1
    if len(starts) == 0:
        return 0, 0, 0, 0
    # A run that goes on in the next column touches the bottom of one and the top of the other
    crosses = starts // height != ends // height
    top = 0 if crosses.any() else int((starts % height).min())
    bottom = height - 1 if crosses.any() else int((ends % height).max())
    return int(starts[0] // height), top, int(ends[-1] // height), bottom


def check(counts: Sequence[int], image_shape: tuple[int, int]) -> Counts:
    """Check the run lengths of a file and return them as an array.

    Args:
        counts: whole numbers of any size.
        image_shape: (H, W) of fewer than 2^31 pixels.

    Raises:
        MaskFileError: one is negative or above H * W, or they do not fill H * W pixels.
    """
    expected = image_shape[0] * image_shape[1]
    # Each by itself first: a sum of 64 bits could wrap around to the right one
    if not all(0 <= count <= expected for count in counts):
        raise MaskFileError(f"a run length is out of range, 0 to {expected} for {image_shape}")
    if sum(counts) != expected:
        raise MaskFileError(
            f"run lengths sum to {sum(counts)}, expected {expected} for {image_shape}"
        )
    return np.array(counts, np.uint32)


def to_coco_string(counts: Counts) -> str:
    """Compress runs to COCO's ASCII string (pycocotools `rleToString`).

    A character holds 5 bits; each count after the third is stored as the difference to the
    count two before.
    """
    deltas = counts.astype(np.int64)
    deltas[3:] -= counts[1:-2].astype(np.int64)
    return "".join(_encode_number(int(delta)) for delta in deltas)


def _encode_number(number: int) -> str:
    """Write a signed number as characters of 5 bits, the lowest first."""
    characters = []
    more = True
    while more:
        bits = number & _DATA
        number >>= _DATA_BITS
        # Done when the rest is what the reader extends from the sign bit: all ones or all zeros
        more = number != (-1 if bits & _SIGN else 0)
        characters.append(chr((bits | _MORE if more else bits) + _FIRST_CHARACTER))
    return "".join(characters)


def from_coco_string(text: str, image_shape: tuple[int, int]) -> Counts:
    """Decompress a string of `to_coco_string` to runs.

    Raises:
        MaskFileError: the string is damaged, or its runs do not fill H * W pixels.
    """
    counts: list[int] = []
    for delta in _decode_numbers(text):
        counts.append(delta + counts[-2] if len(counts) > 2 else delta)
    return check(counts, image_shape)


def _decode_numbers(text: str) -> Iterable[int]:
    """Read the signed numbers of a COCO string. Raises MaskFileError if it is damaged."""
    number, shift = 0, 0
    for character in text:
        bits = ord(character) - _FIRST_CHARACTER
        if not 0 <= bits < _CHARACTERS:
            raise MaskFileError(f"character {character!r} does not belong to a COCO RLE string")
        # Without a limit, a long damaged string builds a number of its own length
        if shift > _LAST_SHIFT:
            raise MaskFileError("COCO RLE string holds a number above 32 bits")
        number |= (bits & _DATA) << shift
        shift += _DATA_BITS
        if not bits & _MORE:
            # Extend the sign of the last character
            yield number - (1 << shift) if bits & _SIGN else number
            number, shift = 0, 0
    if shift:
        raise MaskFileError("COCO RLE string ends in the middle of a number")
