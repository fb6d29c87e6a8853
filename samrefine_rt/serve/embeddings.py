"""Image embeddings that are kept, by what the image shows: further prompts need no encoder."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from samrefine_runtime.image import RgbImage
from samrefine_runtime.sam.encoder import ImageEmbedding, ImageEncoder


class CachedEncoder(ImageEncoder):
    """An image encoder that remembers the embeddings it was asked for last.

    The same pixels have the same embedding, whatever they were called and whoever sent them.
    """

    def __init__(self, encoder: ImageEncoder, max_bytes: int):
        """Take over an open encoder.

        Args:
            encoder: whose graph is run.
            max_bytes: of all embeddings that are kept; the last one is kept whatever its size.
        """
        self.sam, self.runs_on, self._session = encoder.sam, encoder.runs_on, encoder._session
        self.max_bytes = max_bytes
        self.bytes = self.hits = self.misses = 0
        self._kept: OrderedDict[bytes, ImageEmbedding] = OrderedDict()

    def __len__(self) -> int:
        """Count the embeddings that are kept."""
        return len(self._kept)

    def embed(self, image: RgbImage) -> ImageEmbedding:
        """Return the embedding of an image (H, W, 3) uint8 RGB. Raises as `ImageEncoder.embed`."""
        key = _digest(image)
        found = self._kept.get(key)
        if found is not None:
            self.hits += 1
            self._kept.move_to_end(key)
            return found
        self.misses += 1
        made = super().embed(image)
        self._keep(key, made)
        return made

    def _keep(self, key: bytes, embedding: ImageEmbedding) -> None:
        """Keep an embedding, and forget those that were not used for longest."""
        self._kept[key] = embedding
        self.bytes += embedding.features.nbytes
        while self.bytes > self.max_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= oldest.features.nbytes


def _digest(image: RgbImage) -> bytes:
    """Return the sha256 of an image's shape and pixels."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()
