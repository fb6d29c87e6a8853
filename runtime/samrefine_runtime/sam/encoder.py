"""SAM's image encoder: an image to its embedding."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime import backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import Bundle, SamSpec
from samrefine_runtime.checks import described
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.image import RgbImage, check_image, resized_shape


class ImageEmbedding(NamedTuple):
    """What the decoder needs to know of an image."""

    features: NDArray[np.float32]
    """(1, C, h, w)."""
    image_shape: tuple[int, int]
    """(H, W) of the image, pixels."""
    input_side: int
    """Side of the encoder's square input, pixels."""

    def to_input(self, coords: NDArray[np.float64]) -> NDArray[np.float32]:
        """Scale XY pixels (..., 2) of the image to pixels of the input (`apply_coords`)."""
        height, width = resized_shape(self.image_shape, self.input_side)
        scale = np.array([width / self.image_shape[1], height / self.image_shape[0]])
        return np.asarray(coords * scale, np.float32)


class ImageEncoder:
    """Runs `encoder.onnx`."""

    def __init__(self, bundle: Bundle, session: SessionOptions | None = None):
        """Open the graph. Raises BundleError or BackendError."""
        self.sam = bundle.require_sam()
        # It runs once per image: its memory is given back for the decoder's batches
        options = replace(session or SessionOptions(), frees_memory=True)
        self._session = backends.open(bundle.graph("encoder"), options)
        self.runs_on = backends.runs_on(self._session)

    def embed(self, image: RgbImage) -> ImageEmbedding:
        """Encode an image (H, W, 3) uint8 RGB of any size. Raises ImageError, InferenceError."""
        features = self.encode(preprocess(check_image(image), self.sam))
        return ImageEmbedding(features, image.shape[:2], self.sam.input_side)

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the graph on what `preprocess` returns, to features (1, C, h, w)."""
        return self._session.run({"image": pixels})["image_embeddings"]


def as_encoder(encoder: ImageEncoder | None) -> ImageEncoder | None:
    """Return an encoder that a caller shares, or None. Raises SettingsError for anything else."""
    if encoder is None or isinstance(encoder, ImageEncoder):
        return encoder
    raise SettingsError(f"encoder is {described(encoder)}, expected an ImageEncoder or None")


def preprocess(image: RgbImage, sam: SamSpec) -> NDArray[np.float32]:
    """Resize with Pillow's bilinear filter, normalise, and pad with zeros right and below.

    Bit-identical to `SamPredictor.set_image` followed by `Sam.preprocess`.

    Returns:
        (1, 3, input_side, input_side) float32.
    """
    height, width = resized_shape(image.shape[:2], sam.input_side)
    # Pillow's filter is antialiased and rounds to uint8, as the reference's; OpenCV's is not
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized).transpose(2, 0, 1).astype(np.float32)
    mean, std = sam.mean[:, None, None], sam.std[:, None, None]
    padded = np.zeros((1, 3, sam.input_side, sam.input_side), np.float32)
    padded[0, :, :height, :width] = (pixels - mean) / std
    return padded
