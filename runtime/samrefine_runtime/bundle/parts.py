"""What a bundle consists of, as the manifest describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import printable

HALVES = ("fp16", "bf16")
"""Precisions that a graph may be written in beside its first, as `<name>.<precision>`."""

LOW_RES_SCALE = 4
"""Low-res mask pixels per embedding position along one side: SAM's mask decoder ends in two
transposed convolutions of stride 2 (`MaskDecoder.output_upscaling`)."""


class TensorSpec(NamedTuple):
    """An input or output of a graph."""

    name: str
    dtype: str
    """NumPy's name, such as "float32"."""
    shape: tuple[int | str, ...]
    """Length of each axis; a text names one whose length may change."""

    def __str__(self) -> str:
        return printable(f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})")

    def fits(self, wanted: TensorSpec, *, may_be_fixed: bool) -> bool:
        """Return whether a tensor has the wanted dtype and shape.

        Args:
            wanted: what is asked for; texts in its shape stand for any length.
            may_be_fixed: whether such an axis may have one length only: outputs may turn out to,
                but inputs of a single length are too few.
        """
        return (
            self.dtype == wanted.dtype
            and len(self.shape) == len(wanted.shape)
            and all(
                have == want or (isinstance(want, str) and (may_be_fixed or isinstance(have, str)))
                for have, want in zip(self.shape, wanted.shape, strict=True)
            )
        )


@dataclass(frozen=True)
class Graph:
    """One ONNX graph of a bundle."""

    name: str
    """Name in the manifest, such as "encoder"."""
    path: Path
    """Absolute path of the .onnx file, without links."""
    files: Mapping[Path, str]
    """Hex sha256 of every file of the graph, itself and its external data, by absolute path."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    variants: Mapping[str, Graph] = field(default_factory=dict)
    """The same graph written in other precisions, by precision; all of a bundle's graphs have the
    same ones, and those that are not written in one stand for themselves."""


@dataclass(frozen=True)
class SamSpec:
    """Properties of a bundle's SAM that the runtime uses."""

    input_side: int
    """Side of the encoder's square input, pixels; an image's longer side is resized to it."""
    mean: NDArray[np.float32]
    """Mean (3,) RGB, subtracted from values 0 to 255."""
    std: NDArray[np.float32]
    """Standard deviation (3,) RGB, by which the difference is divided."""
    embedding: tuple[int, int, int]
    """Shape (channels, height, width) of the image embedding."""
    mask_threshold: float
    """Threshold of the mask: pixels with a higher logit are inside."""

    @property
    def low_res_shape(self) -> tuple[int, int]:
        """Shape (h, w) of the decoder's low-res masks, pixels."""
        _, height, width = self.embedding
        return LOW_RES_SCALE * height, LOW_RES_SCALE * width


@dataclass(frozen=True)
class CamSpec:
    """Properties of a bundle's CAM classifier that the runtime uses."""

    classes: tuple[str, ...]
    """Foreground class names; label value v is classes[v - 1]."""
    mean: NDArray[np.float32]
    """Mean (3,) RGB, subtracted from values 0 to 1."""
    std: NDArray[np.float32]
    """Standard deviation (3,) RGB, by which the difference is divided."""
    stride: int
    """Image pixels per CAM position."""
    has_background: bool
    """Whether the first map is the network's own background."""
