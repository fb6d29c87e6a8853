"""Everything mode: segment-anything in torch against this runtime, on the same weights and image.

    python -m benchmarks.everything [--models mobile_sam,vit_b] [--repeats 3] [--json FILE]

Weights are random and seeded; about a fifth of the masks pass the predicted IoU threshold. Both
sides take turns: stage by stage in one process, and the whole mode in one process per run, which
also measures the peak memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.one_run import run_alone
from benchmarks.setting import KEPT, SEED, alternate, benchmark_image, machine, random_bundle, row
from samrefine_export.sam import MODELS, random_sam
from samrefine_export.third_party import Sam, SamPredictor, amg
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.masks.resample import MaskResampler
from samrefine_runtime.sam.encoder import preprocess
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.grids import whole_image
from samrefine_runtime.sam.point_decoder import Decoded, PreparedImage

PROMPTS = 64
"""Prompts per batch of the reference, by its default; stages are timed on one batch."""

PROMPTS_PER_IMAGE = 32 * 32
"""Prompts of the reference's default grid; figures per image are scaled to it."""


@dataclass
class Contest:
    """A model on both sides, ready to be timed."""

    model: str
    """Name in samrefine_export.sam.MODELS."""
    image: NDArray[np.uint8]
    """(H, W, 3) uint8."""
    threads: int
    """CPU threads of each side."""

    def __post_init__(self) -> None:
        torch.set_num_threads(self.threads)
        self.sam: Sam = random_sam(MODELS[self.model], SEED)
        self.bundle = random_bundle(self.model)
        self.predictor = SamPredictor(self.sam)
        self.predictor.set_image(self.image)
        self.generator = MaskGenerator(
            self.bundle,
            session=SessionOptions(threads=self.threads),
            pred_iou_thresh=0.0,
            stability_score_thresh=0.0,
        )
        self.prepared = self.prepare(self.generator)
        height, width = self.image.shape[:2]
        self.points = np.random.default_rng(SEED).random((PROMPTS, 2)) * [width, height]
        scores = self.decode(self.prepared, -np.inf).scores
        # Random weights predict any IoU: the threshold is set by the fraction that passes
        self.threshold = float(np.quantile(scores, 1 - KEPT))

    def prepare(self, encoder: MaskGenerator) -> PreparedImage:
        """Prepare the image for prompts with the encoder of a generator."""
        return self.generator.decoder.prepare(encoder.encoder.embed(self.image))

    def decode(self, prepared: PreparedImage, threshold: float) -> Decoded:
        """Decode all prompts, batch by batch."""
        step = self.generator.settings.points_per_batch
        parts = [
            self.generator.decoder.decode(prepared, self.points[start : start + step], threshold)
            for start in range(0, PROMPTS, step)
        ]
        return Decoded(
            [low_res for part in parts for low_res in part.parts],
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.owners for part in parts]),
        )

    @torch.no_grad()
    def reference_decode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Run all prompts through the reference's prompt encoder and mask decoder."""
        coords = self.predictor.transform.apply_coords(self.points, self.image.shape[:2])
        points = (torch.as_tensor(coords)[:, None], torch.ones(PROMPTS, 1))
        sparse, dense = self.sam.prompt_encoder(points=points, boxes=None, masks=None)
        low_res, scores = self.sam.mask_decoder(
            image_embeddings=self.predictor.features,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return low_res, scores


def stages(contest: Contest, repeats: int) -> list[dict[str, Any]]:
    """Measure encoder, decoder and mask handling, each by itself."""
    pixels = preprocess(contest.image, contest.bundle.require_sam())
    encode = {
        "reference": lambda: _encode(contest.sam, pixels),
        "runtime": lambda: contest.generator.encoder.encode(pixels),
    }
    all_masks = {
        "reference": contest.reference_decode,
        "runtime": lambda: contest.decode(contest.prepared, -np.inf),
    }
    some_masks = {
        "reference": contest.reference_decode,
        "runtime": lambda: contest.decode(contest.prepared, contest.threshold),
    }
    handling = {
        "reference": _reference_handling(contest),
        "runtime": _runtime_handling(contest),
    }
    embedding = contest.prepared.embedding
    prepare = {"runtime": lambda: contest.generator.decoder.prepare(embedding)}
    per_image = PROMPTS_PER_IMAGE / PROMPTS
    name = contest.model
    return [
        row(f"{name}: encoder", alternate(encode, repeats), 1, "s"),
        {
            "what": f"{name}: what all prompts share, once per image",
            "seconds": median(alternate(prepare, repeats)["runtime"]),
        },
        row(
            f"{name}: decoder, per prompt, all masks kept",
            alternate(all_masks, repeats), 1e3 / PROMPTS, "ms",
        ),
        row(
            f"{name}: decoder, per prompt, {KEPT:.0%} of masks kept",
            alternate(some_masks, repeats), 1e3 / PROMPTS, "ms",
        ),
        row(f"{name}: mask handling, per image", alternate(handling, repeats), per_image, "s"),
    ]  # fmt: skip


@torch.no_grad()
def _encode(sam: Sam, pixels: NDArray[np.float32]) -> object:
    return sam.image_encoder(torch.from_numpy(pixels))


def _reference_handling(contest: Contest) -> Callable[[], object]:
    """Return what the reference does with a batch of low-res masks, up to run lengths."""
    low_res, scores = contest.reference_decode()

    @torch.no_grad()
    def handle() -> object:
        # Upsample to the image
        image_shape = contest.image.shape[:2]
        logits = contest.sam.postprocess_masks(low_res, contest.predictor.input_size, image_shape)
        # Filter by predicted IoU, measure stability, threshold
        logits = logits.flatten(0, 1)[scores.flatten() > contest.threshold]
        amg.calculate_stability_score(logits, 0.0, 1.0)
        masks = logits > 0
        # Boxes and run lengths
        amg.batched_mask_to_box(masks)
        return amg.mask_to_rle_pytorch(masks)

    return handle


def _runtime_handling(contest: Contest) -> Callable[[], object]:
    """Return what the runtime does with the low-res masks that passed, up to run lengths."""
    found = contest.decode(contest.prepared, contest.threshold).logits
    height, width = contest.image.shape[:2]
    input_side = contest.prepared.embedding.input_side

    def handle() -> object:
        box = whole_image((height, width)).box
        resampler = MaskResampler(found.shape[1:], input_side, box, (height, width))
        return [resampler.mask(low_res, 0.0, 1.0) for low_res in found]

    return handle


def end_to_end(contest: Contest, points_per_side: int, repeats: int) -> list[dict[str, Any]]:
    """Measure seconds and peak resident memory from image to records, one process per run."""
    options = {
        "model": contest.model,
        "points_per_side": points_per_side,
        "threshold": contest.threshold,
        "threads": contest.threads,
    }
    sides = ("reference", "runtime")
    runs = [{side: run_alone(side, **options) for side in sides} for _ in range(repeats)]
    seconds, peaks = (
        {side: [run[side][figure] for run in runs] for side in sides}
        for figure in ("seconds", "peak_mb")
    )
    name = f"everything mode, {points_per_side} x {points_per_side} points"
    return [
        row(f"{contest.model}: {name}", seconds, 1, "s"),
        row(f"{contest.model}: peak memory of that", peaks, 1, "MB"),
    ]


def int8_rows(contest: Contest, repeats: int) -> list[dict[str, Any]]:
    """Measure the int8 encoder against the fp32 one: time, and IoU of the masks."""
    bundle = random_bundle(contest.model, "int8")
    session = SessionOptions(threads=contest.threads)
    generator = MaskGenerator(bundle, session=session, pred_iou_thresh=0.0)
    pixels = preprocess(contest.image, contest.bundle.require_sam())
    sides = {
        "fp32": lambda: contest.generator.encoder.encode(pixels),
        "int8": lambda: generator.encoder.encode(pixels),
    }
    speed = row(f"{contest.model}: int8 encoder over fp32", alternate(sides, repeats), 1, "s")
    exact = contest.decode(contest.prepared, -np.inf)
    rough = contest.decode(contest.prepare(generator), -np.inf)
    ious = _ious(exact.logits > 0, rough.logits > 0)
    shift = np.abs(exact.scores - rough.scores)
    return [
        speed,
        {
            "what": f"{contest.model}: int8 masks against fp32",
            "mean_iou": float(ious.mean()),
            "least_iou": float(ious.min()),
            "predicted_iou_shift": float(shift.max()),
        },
    ]


def _ious(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the IoU (N,) of masks (N, h, w) pair by pair; 1 for two empty masks."""
    overlap = (first & second).sum(axis=(1, 2))
    union = (first | second).sum(axis=(1, 2))
    return np.where(union > 0, overlap / np.maximum(union, 1), 1.0)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows as a Markdown table."""
    click.echo("| what | reference | runtime | ratio (range) |")
    click.echo("|---|---|---|---|")
    for entry in rows:
        if "ratio" not in entry:
            figures = ", ".join(f"{k} {v:.4f}" for k, v in entry.items() if k != "what")
            click.echo(f"| {entry['what']} | | | {figures} |")
            continue
        low, high = entry["ratio_range"]
        unit = entry["unit"]
        click.echo(
            f"| {entry['what']} | {entry['reference']:.4g} {unit} | {entry['runtime']:.4g} {unit} "
            f"| {entry['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )


@click.command()
@click.option("--models", default="mobile_sam,vit_b", show_default=True)
@click.option("--points-per-side", default=32, show_default=True)
@click.option("--repeats", default=5, show_default=True, help="Of each stage.")
@click.option("--whole-repeats", default=2, show_default=True, help="Of everything mode.")
@click.option("--threads", default=2, show_default=True)
@click.option("--int8/--no-int8", default=True, show_default=True)
@click.option("--quick", is_flag=True, help="MobileSAM alone, 8 x 8 points, few repeats.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    models: str,
    points_per_side: int,
    repeats: int,
    whole_repeats: int,
    threads: int,
    int8: bool,
    quick: bool,
    json_file: Path | None,
) -> None:
    """Measure both sides and print a table."""
    if quick:
        models, points_per_side, repeats, int8 = "mobile_sam", 8, 3, False
    rows: list[dict[str, Any]] = []
    for model in models.split(","):
        contest = Contest(model, benchmark_image(), threads)
        rows += stages(contest, repeats)
        if int8:
            rows += int8_rows(contest, repeats)
        rows += end_to_end(contest, points_per_side, whole_repeats)
    about = machine(threads)
    print_rows(rows)
    click.echo(json.dumps(about))
    if json_file is not None:
        json_file.write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
