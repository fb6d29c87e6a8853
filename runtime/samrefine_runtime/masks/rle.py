"""Run-length codes of binary masks, column-major as in COCO.

A mask is an array of run lengths `counts` (R,) uint32: zeros first (possibly 0 of them), then
ones, and so on. Runs sum to H * W. `to_coco_string` writes pycocotools' compressed form.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import MaskFileError

Counts = NDArray[np.uint32]


def encode(mask: NDArray[np.bool_]) -> Counts:
    """Runs of one mask (H, W) bool. Same runs as segment-anything's `mask_to_rle_pytorch`."""
    flat = np.ascontiguousarray(mask.T).reshape(-1)
    if flat.size == 0:
        return np.zeros(1, np.uint32)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return counts_from_changes(changes, flat.size, bool(flat[0]))


def counts_from_changes(
    changes: NDArray[np.int64], image_shape: int, starts_with_one: bool
) -> Counts:
    """Runs from the ascending flat positions (R,) at which the value changes."""
    ends = np.concatenate(([0] * (1 + starts_with_one), changes, [image_shape]))
    return np.diff(ends).astype(np.uint32)


def decode(counts: Counts, image_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask (H, W) bool of runs; a view in column-major order."""
    height, width = image_shape
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def area(counts: Counts) -> int:
    """Number of pixels set."""
    return int(counts[1::2].sum(dtype=np.int64))


def box(counts: Counts, height: int) -> tuple[int, int, int, int]:
    """XYXY pixels of a mask, right and bottom inclusive; zeros for an empty one."""
    edges = np.cumsum(counts, dtype=np.int64)
    starts, ends = edges[0:-1:2], edges[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends] - 1
    if len(starts) == 0:
        return 0, 0, 0, 0
    crosses = starts // height != ends // height
    top = 0 if crosses.any() else int((starts % height).min())
    bottom = height - 1 if crosses.any() else int((ends % height).max())
    return int(starts[0] // height), top, int(ends[-1] // height), bottom


def check(counts: Iterable[int], image_shape: tuple[int, int]) -> Counts:
    """Runs of a file as an array. Raises MaskFileError unless they fill H * W pixels."""
    runs = np.asarray(list(counts), np.int64)
    expected = image_shape[0] * image_shape[1]
    if (runs < 0).any() or runs.sum() != expected:
        raise MaskFileError(
            f"run lengths sum to {runs.sum()}, expected {expected} for {image_shape}"
        )
    return runs.astype(np.uint32)


def to_coco_string(counts: Counts) -> str:
    """Compressed ASCII form of COCO (pycocotools `rleToString`): 5 bits a character, each count
    after the third as the difference to the count two before."""
    deltas = counts.astype(np.int64)
    deltas[3:] -= counts[1:-2].astype(np.int64)
    return "".join(_encode_number(int(delta)) for delta in deltas)


def _encode_number(number: int) -> str:
    characters = []
    more = True
    while more:
        bits = number & 0x1F
        number >>= 5
        more = number != (-1 if bits & 0x10 else 0)
        characters.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(characters)


def from_coco_string(text: str, image_shape: tuple[int, int]) -> Counts:
    """Inverse of `to_coco_string`. Raises MaskFileError on a damaged string."""
    counts: list[int] = []
    for delta in _decode_numbers(text):
        counts.append(delta + counts[-2] if len(counts) > 2 else delta)
    return check(counts, image_shape)


def _decode_numbers(text: str) -> Iterable[int]:
    number, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise MaskFileError(f"character {character!r} does not belong to a COCO RLE string")
        if shift > 30:
            raise MaskFileError("COCO RLE string holds a number above 32 bits")
        number |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            yield number - (1 << shift) if bits & 0x10 else number
            number, shift = 0, 0
    if shift:
        raise MaskFileError("COCO RLE string ends in the middle of a number")
