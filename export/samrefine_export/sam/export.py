"""SAM and MobileSAM to a bundle: encoder, decoder and the graphs of everything mode."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samrefine_export.bundle_writer import BundleWriter
from samrefine_export.checkpoints import SEED
from samrefine_export.errors import CheckpointError, ExportError
from samrefine_export.graph import export_graph, share_weights
from samrefine_export.precision import Precisions, quantise_int8
from samrefine_export.sam.decoder import PromptDecoder
from samrefine_export.sam.encoder import with_plain_attention
from samrefine_export.sam.everything import EverythingDecoder, SharedTensors
from samrefine_export.sam.finish import PIXELS_PER_BYTE, MaskFinish
from samrefine_export.sam.models import MODELS, load_sam, random_sam
from samrefine_export.sam.neck import use_plain_neck
from samrefine_export.sam.tiny_vit import fuse_batch_norms
from samrefine_export.third_party import ImageEncoderViT, Sam
from samrefine_export.weights import checkpoint_path
from samrefine_runtime.bundle import sha256_of
from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.errors import SettingsError

OnStep = Callable[[str], None]
"""Called with the name of each step as it begins."""


def export_sam(
    model: str,
    checkpoint: StrPath | None,
    out: StrPath,
    *,
    random_weights: int | None = None,
    precision: str | Sequence[str] = "fp32",
    progress: OnStep = lambda step: None,
) -> None:
    """Export a published SAM into a new or an existing bundle.

    Args:
        model: one of MODELS.
        checkpoint: the official .pth or .pt file, or the name of pulled weights.
        out: bundle folder.
        random_weights: a seed instead of a checkpoint, for tests and benchmarks.
        precision: one or more of PRECISIONS; int8 concerns the encoder's matrix products, fp16
            and bf16 write further graphs beside those in fp32 or int8.
        progress: see OnStep.

    Raises:
        ExportError: unknown model, not exactly one of checkpoint and random_weights, or torch
            cannot export.
        CheckpointError: the checkpoint is missing, damaged, or of another model.
        SettingsError: an argument of another type.
    """
    _check_arguments(model, checkpoint, random_weights)
    Precisions.of(precision)
    _check_target(out, progress)
    progress("loading weights")
    source: dict[str, Any]
    if checkpoint is not None:
        path = checkpoint_path(checkpoint)
        sam = load_sam(model, path)
        source = {"checkpoint_sha256": sha256_of(path)}
    else:
        sam = random_sam(MODELS[model], int(random_weights or 0))
        source = {"random_weights": random_weights}
    export_sam_module(sam, out, arch=model, source=source, precision=precision, progress=progress)


def _check_arguments(model: str, checkpoint: StrPath | None, random_weights: int | None) -> None:
    if not isinstance(model, str) or model not in MODELS:
        raise ExportError(f"model is {described(model)}, expected one of {', '.join(MODELS)}")
    if checkpoint is not None:
        as_path(checkpoint, "checkpoint", CheckpointError)
    SEED.check("random_weights", random_weights)
    if (checkpoint is None) == (random_weights is None):
        raise ExportError("exactly one of a checkpoint and random weights is needed")


def _check_target(out: StrPath, progress: OnStep) -> None:
    as_path(out, "out")
    if not callable(progress):
        raise SettingsError(
            f"progress is {described(progress)}, expected a function of the name of a step"
        )


def export_sam_module(
    sam: Sam,
    out: StrPath,
    *,
    arch: str,
    source: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    precision: str | Sequence[str] = "fp32",
    progress: OnStep = lambda step: None,
) -> None:
    """Export any SAM built from segment-anything's prompt encoder and mask decoder.

    Args:
        sam: in evaluation mode; its encoder has `img_size`.
        out: bundle folder.
        arch: name for the manifest.
        source: where the weights are from, kept in the manifest: `checkpoint_sha256`,
            `random_weights` or another record.
        defaults: generator settings for this model, by MaskGenerator keyword.
        precision: see `export_sam`.
        progress: see OnStep.

    Raises:
        ExportError: torch cannot export a graph, or the encoder cannot be quantised.
        BundleError: `out` holds something other than a sound bundle.
        SettingsError: an argument of another type.
    """
    if not isinstance(sam, Sam):
        raise SettingsError(f"sam is {described(sam)}, expected segment-anything's Sam")
    _check_target(out, progress)
    precisions = Precisions.of(precision)
    sam = sam.eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder, BundleWriter(Path(out)) as bundle:
        paths = _write_graphs(sam_graphs(sam), Path(folder), precisions.halves, progress)
        if precisions.own == "int8":
            progress("quantising encoder")
            quantise_int8(paths["encoder"])
        # Move them into the bundle and describe them
        progress("writing the bundle")
        for name, path in paths.items():
            bundle.add_graph(name, path)
        bundle.set("sam", {"arch": arch, **_image_settings(sam), **source})
        bundle.set("precision", precisions.own)
        if defaults:
            bundle.set("defaults", {**bundle.manifest["defaults"], **defaults})


@dataclass(frozen=True)
class TracedGraph:
    """One ONNX graph of a bundle: a module and how it is traced."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    """Example inputs by name, in the order of `forward`."""
    outputs: Sequence[str]
    """Names of the outputs, in order."""
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Axes that may change, by input name: {axis: name}."""
    is_exact: bool = False
    """Whether it counts: such a graph is never written in half precision."""


@torch.no_grad()
def sam_graphs(sam: Sam) -> dict[str, TracedGraph]:
    """Return the graphs of a SAM by name, in the order they are exported."""
    prompts, decoder = sam.prompt_encoder, sam.mask_decoder
    side = sam.image_encoder.img_size
    embedding = {
        "image_embeddings": torch.zeros(1, prompts.embed_dim, *prompts.image_embedding_size)
    }
    return {
        "encoder": TracedGraph(
            _inference_encoder(sam.image_encoder),
            {"image": torch.zeros(1, 3, side, side)},
            ["image_embeddings"],
        ),
        "decoder": TracedGraph(
            PromptDecoder(prompts, decoder),
            {**embedding, **_example_prompts(sam)},
            ["low_res_masks", "iou_predictions"],
            _ANY_PROMPTS,
        ),
        **_everything_graphs(sam, embedding),
    }


def _everything_graphs(sam: Sam, embedding: Mapping[str, Tensor]) -> dict[str, TracedGraph]:
    """Return the graphs of everything mode, in the order they are run."""
    image, points, masks = EverythingDecoder.of(sam.prompt_encoder, sam.mask_decoder)
    # Each graph is traced with what the one before gives, for three points
    names = [*SharedTensors.names(len(points.layers)), "upscaling"]
    shared = dict(zip(names, image(*embedding.values()), strict=True))
    upscaling = {"upscaling": shared.pop("upscaling")}
    coords = {"point_coords": torch.rand(3, 2) * sam.image_encoder.img_size}
    prompts = points(*coords.values(), *shared.values())._asdict()
    views = {name: prompts[name] for name in prompts if name != "iou_predictions"}
    chosen = {"prompt": torch.tensor([0, 2]), "mask": torch.tensor([1, 3, 4])}
    return {
        "everything_image": TracedGraph(image, embedding, names),
        "everything_tokens": TracedGraph(
            points, {**coords, **shared}, list(prompts), {"point_coords": {0: "prompts"}}
        ),
        "everything_masks": TracedGraph(
            masks,
            {**views, **upscaling, **chosen},
            ["low_res_masks"],
            {**{name: {0: "prompts"} for name in views}, **_CHOSEN},
        ),
        "everything_finish": _finish_graph(*sam.prompt_encoder.mask_input_size),
    }


_CHOSEN = {"prompt": {0: "chosen_prompts"}, "mask": {0: "chosen_masks"}}


def _finish_graph(height: int, width: int) -> TracedGraph:
    """Return the graph that finishes low-res masks (S, height, width) of any image."""
    return TracedGraph(
        MaskFinish(),
        {
            "low_res_masks": torch.zeros(2, height, width),
            "rows": torch.zeros(3, height),
            "columns": torch.zeros(5 * PIXELS_PER_BYTE, width),
            "thresholds": torch.tensor([1.0, 0.0, -1.0]),
        },
        ["pixel_counts", "boxes", "mask_bits"],
        {"low_res_masks": {0: "masks"}, "rows": {0: "height"}, "columns": {0: "width"}},
        is_exact=True,
    )


_ANY_PROMPTS = {
    "point_coords": {0: "prompts", 1: "points"},
    "point_labels": {0: "prompts", 1: "points"},
    "mask_input": {0: "prompts"},
    "has_mask_input": {0: "prompts"},
}


def _example_prompts(sam: Sam) -> dict[str, Tensor]:
    """Return inputs of `PromptDecoder`: two points for each of three prompts."""
    # Sizes of one would be taken for constants of the graph.
    prompts, points = 3, 2
    return {
        "point_coords": torch.rand(prompts, points, 2) * sam.image_encoder.img_size,
        "point_labels": torch.ones(prompts, points),
        "mask_input": torch.zeros(prompts, 1, *sam.prompt_encoder.mask_input_size),
        "has_mask_input": torch.zeros(prompts),
    }


def _inference_encoder(encoder: nn.Module) -> nn.Module:
    """Return the encoder as it is exported: the same function, fewer and faster operations."""
    if isinstance(encoder, ImageEncoderViT) and encoder.blocks[0].attn.use_rel_pos:
        return with_plain_attention(encoder)
    encoder = copy.deepcopy(encoder)
    fuse_batch_norms(encoder)
    use_plain_neck(encoder)
    return encoder


def _write_graphs(
    graphs: Mapping[str, TracedGraph], folder: Path, halves: Sequence[str], progress: OnStep
) -> dict[str, Path]:
    """Write every graph as `<name>.onnx`, and in half precisions; return the files by graph name.

    The decoders repeat each other's weights, so those of one precision share them in a file.
    """
    paths: dict[str, Path] = {}
    for name, graph in graphs.items():
        progress(f"exporting {name}")
        paths[name] = folder / f"{name}.onnx"
        written = export_graph(
            graph.module,
            graph.inputs,
            graph.outputs,
            paths[name],
            dynamic=graph.dynamic,
            halves=() if graph.is_exact else halves,
        )
        paths |= {f"{name}.{half}": path for half, path in written.items()}
    for suffix in ["", *(f".{half}" for half in halves)]:
        decoders = [paths.get(f"{name}{suffix}") for name in graphs if name != "encoder"]
        share_weights([path for path in decoders if path], folder / f"decoder{suffix}.data")
    return paths


def _image_settings(sam: Sam) -> dict[str, Any]:
    return {
        "image_size": sam.image_encoder.img_size,
        "mean": sam.pixel_mean.flatten().tolist(),
        "std": sam.pixel_std.flatten().tolist(),
        "embedding": [sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size],
        "mask_threshold": float(sam.mask_threshold),
    }
