"""SAM's image encoder: a photo to its embedding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends.ort import Backend, OrtSession
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.image import RgbImage, check_image, preprocess, resized_size


class ImageEmbedding(NamedTuple):
    """What the decoder needs to know of a photo."""

    features: NDArray[np.float32]
    """(1, C, h, w)"""
    size: tuple[int, int]
    """(H, W) of the photo"""
    input_size: int
    """side of the encoder's square input, pixels"""

    def to_input(self, coords: NDArray[np.float64]) -> NDArray[np.float32]:
        """XY pixels of the photo (..., 2) to pixels of the input (`apply_coords`)."""
        height, width = resized_size(self.size, self.input_size)
        scale = np.array([width / self.size[1], height / self.size[0]])
        return np.asarray(coords * scale, np.float32)


class ImageEncoder:
    """Runs `encoder.onnx`."""

    def __init__(self, bundle: Bundle, *, backend: Backend = "auto", threads: int | None = None):
        self.sam = bundle.require_sam()
        graph = bundle.graph("encoder")
        self._session = OrtSession(graph.path, backend=backend, threads=threads, frees_memory=True)

    def embed(self, image: RgbImage) -> ImageEmbedding:
        """Embedding of a photo (H, W, 3) uint8 RGB of any size. Raises ImageError."""
        pixels = preprocess(check_image(image), self.sam)
        features = self._session.run({"image": pixels})["image_embeddings"]
        return ImageEmbedding(features, image.shape[:2], self.sam.size)
