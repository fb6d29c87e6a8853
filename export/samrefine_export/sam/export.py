"""SAM and MobileSAM to a bundle: encoder, decoder and the graphs of everything mode."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, Sam
from torch import Tensor, nn

from samrefine_export.bundle_writer import BundleWriter
from samrefine_export.checkpoints import load_strict, read_checkpoint
from samrefine_export.errors import ExportError
from samrefine_export.graph import export_graph, share_weights
from samrefine_export.precision import PRECISIONS, quantise_int8
from samrefine_export.sam.decoder import PromptDecoder
from samrefine_export.sam.encoder import with_plain_attention
from samrefine_export.sam.everything import EverythingDecoder
from samrefine_export.sam.tiny_vit import build_mobile_sam, fuse_batch_norms
from samrefine_runtime.bundle import sha256_of

MODELS: Mapping[str, Callable[[], Sam]] = {
    "vit_b": sam_model_registry["vit_b"],
    "vit_l": sam_model_registry["vit_l"],
    "vit_h": sam_model_registry["vit_h"],
    "mobile_sam": build_mobile_sam,
}

Progress = Callable[[str], None]
"""told the name of each step as it begins"""


def export_sam(
    model: str,
    checkpoint: str | Path | None,
    out: str | Path,
    *,
    random_weights: int | None = None,
    precision: str = "fp32",
    progress: Progress = lambda step: None,
) -> None:
    """Export a published SAM into a new or an existing bundle.

    Args:
        model: one of MODELS.
        checkpoint: the official .pth or .pt file.
        out: bundle folder.
        random_weights: a seed in the place of a checkpoint, for tests and benchmarks.
        precision: one of PRECISIONS; int8 concerns the encoder's matrix products.
        progress: see Progress.

    Raises:
        ExportError: unknown model, not exactly one of checkpoint and random_weights, or torch
            cannot export.
        CheckpointError: the checkpoint is missing, damaged, or of another model.
    """
    if model not in MODELS:
        raise ExportError(f"model is {model!r}, expected one of {', '.join(MODELS)}")
    if (checkpoint is None) == (random_weights is None):
        raise ExportError("exactly one of a checkpoint and random weights is needed")
    if precision not in PRECISIONS:
        raise ExportError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    progress("loading weights")
    source: dict[str, Any]
    if checkpoint is not None:
        sam = load_sam(model, checkpoint)
        source = {"checkpoint_sha256": sha256_of(Path(checkpoint))}
    else:
        sam = random_sam(MODELS[model], int(random_weights or 0))
        source = {"random_weights": random_weights}
    export_sam_module(sam, out, arch=model, source=source, precision=precision, progress=progress)


def load_sam(model: str, checkpoint: str | Path) -> Sam:
    """A published SAM with the weights of an official checkpoint, in evaluation mode."""
    state = read_checkpoint(checkpoint)
    sam = MODELS[model]()
    load_strict(sam, state, f"{checkpoint} as {model}")
    return sam.eval()


def random_sam(build: Callable[[], Sam], seed: int) -> Sam:
    """A SAM with seeded random weights in which no bias, norm or position table is trivial."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = build().eval()
        for name, value in sam.state_dict().items():
            _perturb(name, value)
    return sam


def _perturb(name: str, value: Tensor) -> None:
    if name.endswith("running_var"):
        value.mul_(1 + 0.5 * torch.rand_like(value))
    elif not value.is_floating_point() or name.startswith("pixel_"):
        return
    elif value.ndim == 1 or "pos" in name or "attention_biases" in name:
        value.add_(0.1 * torch.randn_like(value))


def export_sam_module(
    sam: Sam,
    out: str | Path,
    *,
    arch: str,
    source: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    progress: Progress = lambda step: None,
) -> None:
    """Export any SAM built from segment-anything's prompt encoder and mask decoder.

    Args:
        sam: in evaluation mode; its encoder has `img_size`.
        out: bundle folder.
        arch: name for the manifest.
        source: where the weights are from, kept in the manifest: `checkpoint_sha256`,
            `random_weights` or what else tells.
        defaults: generator settings this model wants, by MaskGenerator keyword.
        precision: one of PRECISIONS.
        progress: see Progress.
    """
    sam = sam.eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder, BundleWriter(out) as bundle:
        paths = {name: Path(folder) / f"{name}.onnx" for name in _GRAPHS}
        for name, export in _GRAPHS.items():
            progress(f"exporting {name}")
            export(sam, paths[name])
        if precision == "int8":
            progress("quantising encoder")
            quantise_int8(paths["encoder"])
        decoders = [path for name, path in paths.items() if name != "encoder"]
        share_weights(decoders, Path(folder) / "decoder.data")
        progress("writing the bundle")
        for name, path in paths.items():
            bundle.add_graph(name, path)
        bundle.set("sam", {"arch": arch, **_image_settings(sam), **source})
        bundle.set("precision", precision)
        if defaults:
            bundle.set("defaults", {**bundle.manifest["defaults"], **defaults})


def _image_settings(sam: Sam) -> dict[str, Any]:
    return {
        "image_size": sam.image_encoder.img_size,
        "mean": sam.pixel_mean.flatten().tolist(),
        "std": sam.pixel_std.flatten().tolist(),
        "embedding": [sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size],
        "mask_threshold": float(sam.mask_threshold),
    }


def _export_encoder(sam: Sam, path: Path) -> None:
    side = sam.image_encoder.img_size
    encoder = _inference_encoder(sam.image_encoder)
    image = torch.zeros(1, 3, side, side)
    export_graph(encoder, {"image": image}, ["image_embeddings"], path)


def _inference_encoder(encoder: nn.Module) -> nn.Module:
    """The encoder as it is exported: the same function, fewer and faster operations."""
    if isinstance(encoder, ImageEncoderViT) and encoder.blocks[0].attn.use_rel_pos:
        return with_plain_attention(encoder)
    encoder = copy.deepcopy(encoder)
    fuse_batch_norms(encoder)
    return encoder


def _export_decoder(sam: Sam, path: Path) -> None:
    prompts, points = 3, 2
    height, width = sam.prompt_encoder.mask_input_size
    inputs = {
        "image_embeddings": _embedding(sam),
        "point_coords": torch.rand(prompts, points, 2) * sam.image_encoder.img_size,
        "point_labels": torch.ones(prompts, points),
        "mask_input": torch.zeros(prompts, 1, height, width),
        "has_mask_input": torch.zeros(prompts),
    }
    per_prompt = {name: {0: "prompts"} for name in list(inputs)[1:]}
    per_prompt["point_coords"][1] = per_prompt["point_labels"][1] = "points"
    decoder = PromptDecoder(sam.prompt_encoder, sam.mask_decoder)
    outputs = ["low_res_masks", "iou_predictions"]
    export_graph(decoder, inputs, outputs, path, dynamic=per_prompt)


def _export_everything(sam: Sam, path: Path) -> None:
    inputs = {"image_embeddings": _embedding(sam), **_prompts(sam)}
    decoder = EverythingDecoder(sam.prompt_encoder, sam.mask_decoder)
    export_graph(decoder, inputs, _SURVIVORS, path, dynamic={"point_coords": {0: "prompts"}})


def _export_everything_image(sam: Sam, path: Path) -> None:
    image = EverythingDecoder(sam.prompt_encoder, sam.mask_decoder).image
    export_graph(image, {"image_embeddings": _embedding(sam)}, image.names(), path)


def _export_everything_prompts(sam: Sam, path: Path) -> None:
    decoder = EverythingDecoder(sam.prompt_encoder, sam.mask_decoder)
    shared = dict(zip(decoder.image.names(), decoder.image(_embedding(sam)), strict=True))
    inputs = {**_prompts(sam), **shared}
    dynamic = {"point_coords": {0: "prompts"}}
    export_graph(decoder.prompts, inputs, _SURVIVORS, path, dynamic=dynamic)


_SURVIVORS = ["low_res_masks", "iou_predictions", "point_index"]


def _prompts(sam: Sam) -> dict[str, Tensor]:
    return {
        "point_coords": torch.rand(3, 2) * sam.image_encoder.img_size,
        "pred_iou_thresh": torch.tensor(0.0),
    }


def _embedding(sam: Sam) -> Tensor:
    return torch.zeros(1, sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)


_GRAPHS: Mapping[str, Callable[[Sam, Path], None]] = {
    "encoder": _export_encoder,
    "decoder": _export_decoder,
    "everything": _export_everything,
    "everything_image": _export_everything_image,
    "everything_prompts": _export_everything_prompts,
}
