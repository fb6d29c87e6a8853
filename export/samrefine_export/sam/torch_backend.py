"""segment-anything itself as a backend, so that the runtime's tools can compare with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samrefine_export.errors import ExportError
from samrefine_export.sam.models import MODELS, load_sam, random_sam
from samrefine_export.sam.reference import everything
from samrefine_export.third_party import Sam, SamAutomaticMaskGenerator
from samrefine_export.weights import checkpoint_path
from samrefine_runtime.backends import BACKENDS, Session, SessionOptions
from samrefine_runtime.backends.ort import open_cpu
from samrefine_runtime.bundle import Bundle, Graph, TensorSpec, sha256_of

NAME = "torch"
"""Name of the backend while it is registered."""

_FOREGROUND, _BACKGROUND = 1, 0


def sam_of(bundle: Bundle, checkpoint: Path | None) -> Sam:
    """Return the network that a bundle was exported from, in evaluation mode.

    Args:
        bundle: holds SAM.
        checkpoint: the file it was exported from, or the name of pulled weights; None for the
            bundle's random weights.

    Raises:
        ExportError: the bundle is of no published model, was exported from another checkpoint, or
            has no random weights where no checkpoint is given.
        CheckpointError: the checkpoint is missing, damaged, or of another model.
        BundleError: the bundle holds no SAM.
    """
    bundle.require_sam()
    sam = bundle.manifest["sam"]
    arch, seed = sam.get("arch"), sam.get("random_weights")
    if arch not in MODELS:
        raise ExportError(f"the bundle's SAM is {arch!r}, expected one of {', '.join(MODELS)}")
    if checkpoint is None:
        if seed is None:
            raise ExportError(f"the bundle's {arch} has trained weights: give its checkpoint")
        return random_sam(MODELS[arch], int(seed))
    checkpoint = checkpoint_path(checkpoint)
    network, expected = load_sam(arch, checkpoint), sam.get("checkpoint_sha256")
    if expected not in (None, sha256_of(checkpoint)):
        raise ExportError(
            f"{checkpoint} is not what the bundle was exported from: its sha256 is not {expected}"
        )
    return network


@contextmanager
def torch_backend(sam: Sam) -> Iterator[SessionOptions]:
    """Register a backend that runs `encoder` and `decoder` in torch, as segment-anything does.

    Other graphs have no counterpart in segment-anything: ONNX Runtime runs them.

    Yields:
        Options that choose it.
    """
    functions: Mapping[str, Callable[..., tuple[Tensor, ...]]] = {
        "encoder": lambda image: (sam.image_encoder(image),),
        "decoder": lambda *inputs: _decode(sam, *inputs),
    }

    def opener(graph: Graph, options: SessionOptions) -> Session:
        if graph.name not in functions:
            return open_cpu(graph, options)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        return TorchSession(graph, functions[graph.name])

    BACKENDS.add(NAME, opener)
    try:
        yield SessionOptions(backend=NAME)
    finally:
        BACKENDS.remove(NAME)


class TorchSession:
    """A graph's counterpart in torch."""

    is_on_device = False

    def __init__(self, graph: Graph, function: Callable[..., tuple[Tensor, ...]]):
        """Wrap a function of the graph's inputs, in order, that returns its outputs."""
        self._function = function
        self.inputs: Sequence[TensorSpec] = graph.inputs
        self.outputs: Sequence[TensorSpec] = graph.outputs

    @torch.no_grad()
    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the function; see `Session.run`."""
        values = self._function(*(torch.from_numpy(feeds[each.name]) for each in self.inputs))
        return {each.name: v.numpy() for each, v in zip(self.outputs, values, strict=True)}

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the function; see `Session.run_on_device`."""
        return self.run(feeds)


def _decode(
    sam: Sam,
    image_embeddings: Tensor,
    point_coords: Tensor,
    point_labels: Tensor,
    mask_input: Tensor,
    has_mask_input: Tensor,
) -> tuple[Tensor, Tensor]:
    """Decode prompts one by one, as segment-anything takes them: points, a box, a mask.

    The arguments are the inputs of `decoder.onnx`, in which a box is two points of labels 2 and 3.

    Returns:
        Low-res masks (N, 4, h, w) and predicted IoU (N, 4), the single mask first.
    """
    decoded = []
    for coords, labels, mask, has_mask in zip(
        point_coords, point_labels, mask_input, has_mask_input, strict=True
    ):
        is_point = (labels == _FOREGROUND) | (labels == _BACKGROUND)
        is_corner = labels > _FOREGROUND
        # segment-anything pads points itself where there is no box
        sparse, dense = sam.prompt_encoder(
            points=(coords[is_point][None], labels[is_point][None]) if is_point.any() else None,
            boxes=coords[is_corner].reshape(1, 4) if is_corner.any() else None,
            masks=mask[None] if has_mask else None,
        )
        decoded.append(
            sam.mask_decoder.predict_masks(
                image_embeddings=image_embeddings,
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        )
    masks, scores = zip(*decoded, strict=True)
    return torch.cat(masks), torch.cat(scores)


def everything_in_torch(
    sam: Sam, threads: int | None, points_per_side: int, defaults: Mapping[str, Any]
) -> Callable[[NDArray[np.uint8]], Sequence[Any]]:
    """Return segment-anything's everything mode as a function of an image (H, W, 3) RGB.

    Args:
        sam: in evaluation mode.
        threads: of torch; None for its own choice.
        points_per_side: of the grid of prompts.
        defaults: a bundle's settings; those that segment-anything knows are used.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    known = inspect.signature(SamAutomaticMaskGenerator).parameters
    settings = {name: value for name, value in defaults.items() if name in known}
    settings |= {"points_per_side": points_per_side, "output_mode": "uncompressed_rle"}
    return lambda image: everything(sam, image, **settings)
