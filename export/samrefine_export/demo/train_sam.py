"""Trains the demo SAM on procedural scenes: seeded, resumable, small images first."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from samrefine_export.demo.model import DIM, IMAGE_SIZE, STRIDE, build_demo_sam
from samrefine_export.demo.pool import Shard
from samrefine_export.demo.prompts import Batch, draw_batch
from samrefine_export.demo.run import OnLine, run, save_atomically
from samrefine_export.sam.decoder import UPSCALING
from samrefine_export.third_party import Sam


@dataclass(frozen=True)
class Stage:
    """Some steps at one image size."""

    steps: int
    side: int
    """Side of the square crops, pixels."""
    images: int
    """Crops per step."""
    prompts: int
    """Prompts per crop."""
    fall: tuple[float, float] = (1.0, 1.0)
    """Fractions of the learning rate at the two ends of a half cosine."""
    settle: float = 1.0
    """Fraction of the stage after which batch norms keep the statistics averaged until then."""
    restart: bool = False
    """Start from the weights only: new optimiser, hints and running average, and a warm-up."""


@dataclass(frozen=True)
class SamConfig:
    """Settings that determine a training run."""

    seed: int = 0
    stages: tuple[Stage, ...] = (
        Stage(3000, 96, 8, 6),
        Stage(1000, 128, 8, 8),
        Stage(600, IMAGE_SIZE, 8, 6),
        Stage(1100, IMAGE_SIZE, 8, 6, (1.0, 0.02), 0.7),
        Stage(600, IMAGE_SIZE, 8, 6, (0.4, 0.01), 0.0),
        Stage(2100, IMAGE_SIZE, 8, 6, (0.9, 0.01), 0.7),
        Stage(1000, IMAGE_SIZE, 8, 6, (0.6, 0.01), 0.6),
        Stage(4500, IMAGE_SIZE, 8, 6, (1.0, 0.01), 0.8, restart=True),
    )
    """Small images first, where following a prompt is learnt cheaply; then finer ones."""
    rate: float = 1e-3
    warmup: int = 200

    @property
    def steps(self) -> int:
        """Steps in all."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """Return the stage that `step` is in, and which of its steps that is."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        return self.stages[-1], self.stages[-1].steps

    def rate_at(self, step: int) -> float:
        """Return the learning rate of the stage, after a linear warm-up at start and restarts."""
        stage, within = self.stage_at(step)
        start, end = stage.fall
        share = end + (start - end) * 0.5 * (1 + np.cos(np.pi * within / stage.steps))
        warm = within if stage.restart else step
        return float(self.rate * min(1.0, (warm + 1) / self.warmup) * share)


class Hints(nn.Module):
    """Dense tasks on the embedding, used in training only.

    Which positions belong to one region, and how far that region extends. Every position teaches
    the encoder at every step, prompts only at a few, so that it learns several times sooner.
    """

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(DIM, 24)
        self.reach = nn.Linear(DIM, 4)
        self.scale = nn.Parameter(torch.tensor([2.0, 1.0]))

    def forward(self, embedding: Tensor, region_map: Tensor) -> Tensor:
        """Return the loss () of embeddings (B, DIM, h, w) for regions (B, 4h, 4w), -1 unknown."""
        # One position in 4 x 4 mask cells; pairs among about 192 of them
        cells = embedding.flatten(2).transpose(1, 2)
        ids = region_map[:, 2::4, 2::4].flatten(1)
        pick = torch.arange(0, ids.shape[1], max(1, ids.shape[1] // 192) | 1)
        key, known = self.key(cells[:, pick]), ids[:, pick] >= 0
        # Pairs: near keys for positions of one region, those weighing three times as much
        same = (ids[:, pick, None] == ids[:, None, pick]).float()
        logits = self.scale[0] - self.scale[1] * torch.cdist(key, key).square()
        both = (known[:, :, None] & known[:, None, :]).float()
        pairs = F.binary_cross_entropy_with_logits(logits, same, reduction="none")
        balance = both * (1 + 2 * same)
        # Extent of the region from each position
        reach = F.smooth_l1_loss(self.reach(cells), _reach(region_map), reduction="none", beta=0.05)
        seen = (ids >= 0).float()[..., None]
        return (pairs * balance).sum() / balance.sum() + 5 * (reach * seen).mean()


def _reach(region_map: Tensor) -> Tensor:
    """Return (B, h*w, 4) left, up, right, down from positions to their region's ends, 0 to 1."""
    side = region_map.shape[1]
    ids = region_map.clamp(min=0)
    index = torch.arange(side).float()
    result = []
    for axis in (2, 1):
        place = index.view(1, 1, -1) if axis == 2 else index.view(1, -1, 1)
        flat, where = ids.flatten(1), place.expand(ids.shape).flatten(1)
        for reduce, start in (("amin", float(side)), ("amax", -1.0)):
            # Smallest or largest coordinate of every region, then of each position's
            ends = torch.full((ids.shape[0], 256), start).scatter_reduce(1, flat, where, reduce)
            gap = (ends.gather(1, flat) - where).abs().view(ids.shape) / side
            result.append(gap[:, 2::4, 2::4].flatten(1))
    return torch.stack([result[0], result[2], result[1], result[3]], dim=-1)


def decode(
    sam: Sam,
    embedding: Tensor,
    points: tuple[Tensor, Tensor] | None,
    boxes: Tensor | None = None,
    mask_input: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode P prompts on each of B images at once; segment-anything takes one image at a time.

    Args:
        sam: the model.
        embedding: (B, DIM, h, w).
        points: coordinates (B*P, K, 2) and labels (B*P, K).
        boxes: (B*P, 4) XYXY.
        mask_input: (B*P, 1, 4h, 4w) logits.

    Returns:
        Logits (B*P, 4, 4h, 4w) and predicted IoU (B*P, 4).
    """
    # Tokens of the outputs and of the prompts
    prompt, decoder = sam.prompt_encoder, sam.mask_decoder
    sparse, dense = prompt(points, boxes, mask_input)
    count = sparse.shape[0]
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output.expand(count, -1, -1), sparse], dim=1)
    # Transformer; without masks the prompts of an image share its first projections
    place = prompt.get_dense_pe()
    if mask_input is None:
        hidden, source = _attend_shared(decoder.transformer, embedding + dense[:1], place, tokens)
    else:
        source = embedding.repeat_interleave(count // embedding.shape[0], dim=0) + dense
        hidden, source = decoder.transformer(source, place.expand(count, -1, -1, -1), tokens)
    # Upscale, and read masks and IoU as MaskDecoder does
    b, _, c = source.shape
    fine = decoder.output_upscaling(source.transpose(1, 2).reshape(b, c, *embedding.shape[2:]))
    heads = enumerate(decoder.output_hypernetworks_mlps)
    hyper = torch.stack([head(hidden[:, 1 + i]) for i, head in heads], dim=1)
    masks = (hyper @ fine.flatten(2)).view(b, -1, *fine.shape[2:])
    quality = decoder.iou_prediction_head(hidden[:, 0])
    return masks, quality


def _attend_shared(
    transformer: Any, image: Tensor, place: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the transformer, its first layer projecting each image once for all its prompts.

    Args:
        transformer: segment-anything's TwoWayTransformer.
        image: (B, C, h, w).
        place: (1, C, h, w), the position encoding.
        tokens: (B*P, T, C).

    Returns:
        Tokens (B*P, T, C) and image positions (B*P, h*w, C).
    """
    first, *rest = transformer.layers
    images, (count, length, dim) = image.shape[0], tokens.shape
    keys, place = (x.flatten(2).transpose(1, 2) for x in (image, place))
    # Tokens attend to each other, then to the image: prompts of an image side by side as tokens
    queries = first.norm1(first.self_attn(q=tokens, k=tokens, v=tokens))
    asking = (queries + tokens).view(images, -1, dim)
    seen = first.cross_attn_token_to_image(q=asking, k=keys + place, v=keys)
    queries = first.norm2(queries + seen.view(count, length, dim))
    queries = first.norm3(queries + first.mlp(queries))
    # The image attends to the tokens, its queries projected once per image
    back = first.cross_attn_image_to_token
    repeats = count // images
    q = back._separate_heads(back.q_proj(keys + place), back.num_heads).repeat_interleave(
        repeats, 0
    )
    k = back._separate_heads(back.k_proj(queries + tokens), back.num_heads)
    v = back._separate_heads(back.v_proj(queries), back.num_heads)
    mixed = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1) @ v
    taken = back.out_proj(back._recombine_heads(mixed))
    keys = first.norm4(keys.repeat_interleave(repeats, 0) + taken)
    # From here on the images differ from prompt to prompt
    for layer in rest:
        queries, keys = layer(queries, keys, tokens, place)
    last = transformer.final_attn_token_to_image(q=queries + tokens, k=keys + place, v=keys)
    return transformer.norm_final_attn(queries + last), keys


def mask_loss(logits: Tensor, quality: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return SAM's loss (), each target counting for the mask that fits it best.

    Focal loss counts 20, dice 1, and the squared error of the predicted IoU (with the best target)
    1, as in Kirillov et al., "Segment Anything", 2023.

    Args:
        logits: (N, M, h, w).
        quality: predicted IoU (N, M).
        targets: (N, T, h, w), 0 or 1.
        weight: (N, T), of each target.
    """
    x, t = logits.flatten(2), targets.flatten(2)
    p = x.sigmoid()
    # Focal loss (N, M, T), gamma 2, of each mask for each target
    positive = (1 - p).square() * F.softplus(-x)
    negative = p.square() * F.softplus(x)
    size = x.shape[-1]
    focal = ((positive - negative) @ t.transpose(1, 2) + negative.sum(-1, keepdim=True)) / size
    # Dice loss (N, M, T)
    total = t.sum(-1)[:, None]
    dice = 1 - (2 * (p @ t.transpose(1, 2)) + 1) / (p.sum(-1, keepdim=True) + total + 1)
    # Loss of each target's best mask (N, T)
    best = (20 * 0.5 * focal + dice).amin(dim=1)
    with torch.no_grad():
        # IoU of each mask with its best target, which the model is to predict
        hard = (x > 0).float()
        both = hard @ t.transpose(1, 2)
        iou = (both / (hard.sum(-1, keepdim=True) + total - both).clamp(min=1)).amax(dim=2)
    return (best * weight).sum() / weight.sum() + F.mse_loss(quality, iou)


def train_step(sam: Sam, hints: Hints, batch: Batch, rng: np.random.Generator) -> Tensor:
    """Return the loss () of one batch: a point or a box each, at times a corrective point."""
    # Targets: the whole thing, and at half weight its part where that differs
    image = torch.from_numpy(batch.image).contiguous(memory_format=torch.channels_last)
    whole = torch.from_numpy(batch.whole).flatten(0, 1).float()
    part = torch.from_numpy(batch.part).flatten(0, 1).float()
    targets = torch.stack([whole, part], dim=1)
    distinct = (whole != part).flatten(1).any(1).float()
    weight = torch.stack([torch.ones_like(distinct), 0.5 * distinct], dim=1)
    embedding = sam.image_encoder(image)
    loss = 0.5 * hints(embedding, torch.from_numpy(batch.region_map))
    # Boxes: unambiguous, so the single mask only
    if rng.random() < 0.15:
        boxes = torch.from_numpy(_boxes(rng, batch))
        logits, quality = decode(sam, embedding, None, boxes)
        return loss + mask_loss(logits[:, :1], quality[:, :1], targets[:, :1], weight[:, :1])
    # Points: the three alternatives
    points = torch.from_numpy(batch.points).flatten(0, 1)[:, None]
    labels = torch.ones(points.shape[:2])
    logits, quality = decode(sam, embedding, (points, labels))
    loss = loss + mask_loss(logits[:, 1:], quality[:, 1:], targets, weight)
    # A second point in the error of the chosen mask, half the time with that mask as a prompt
    if rng.random() < 0.25:
        chosen = logits[torch.arange(len(logits)), 1 + quality[:, 1:].argmax(1)][:, None].detach()
        extra, signs = _corrections(
            rng, chosen[:, 0].numpy() > 0, batch.whole.reshape(-1, *whole.shape[1:])
        )
        more = torch.cat([points, torch.from_numpy(extra)[:, None]], 1)
        signs_all = torch.cat([labels, torch.from_numpy(signs)[:, None]], 1)
        given = chosen if rng.random() < 0.5 else None
        logits, quality = decode(sam, embedding, (more, signs_all), None, given)
        loss = loss + 0.5 * mask_loss(logits[:, :1], quality[:, :1], targets[:, :1], weight[:, :1])
    return loss


def _boxes(rng: np.random.Generator, batch: Batch) -> NDArray[np.float32]:
    """Return boxes (B*P, 4) around the whole things, edges moved by up to a tenth of the side."""
    masks = batch.whole.reshape(-1, *batch.whole.shape[2:])
    edges = []
    for axis in (1, 2):
        line = np.asarray(masks.any(axis))
        edges += [line.argmax(1) * 2.0, (line.shape[1] - line[:, ::-1].argmax(1)) * 2.0]
    x0, x1, y0, y1 = edges
    boxes = np.stack([x0, y0, x1, y1], 1)
    sides = np.stack([x1 - x0, y1 - y0] * 2, 1)
    moved = boxes + np.clip(rng.normal(0, 0.04, boxes.shape), -0.1, 0.1) * sides
    return np.clip(moved, 0, batch.image.shape[-1]).astype(np.float32)


def _corrections(
    rng: np.random.Generator, guess: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw a point (N, 2) in the error of each mask; its label (N,) is 1 missed, 0 excess."""
    points, signs = [], []
    for g, t in zip(guess, truth, strict=True):
        wrong = np.flatnonzero(g != t)
        at = rng.choice(wrong if len(wrong) else np.flatnonzero(t))
        y, x = divmod(int(at), t.shape[1])
        points.append((2 * x + 0.5, 2 * y + 0.5))
        signs.append(float(t[y, x]))
    return np.array(points, np.float32), np.array(signs, np.float32)


class SamTrainer:
    """Model, running average, optimiser and step of a run; saved and resumed as one file."""

    def __init__(self, config: SamConfig, data: Shard) -> None:
        torch.manual_seed(config.seed)
        self.config, self.data = config, data
        self.sam = build_demo_sam()
        self.sam.image_encoder.to(memory_format=torch.channels_last)
        self.step, self.seconds, self.scenes = 0, 0.0, 0
        self.restart()

    def restart(self) -> None:
        """Reset all state but the weights."""
        self.hints = Hints()
        self.average = copy.deepcopy(self.sam).requires_grad_(False)
        # Norms and biases are not decayed
        named = [*self.sam.named_parameters(), *self.hints.named_parameters()]
        plain = [p for _, p in named if p.ndim < 2]
        decayed = [p for _, p in named if p.ndim >= 2]
        groups = [{"params": decayed, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(
            groups, lr=self.config.rate, betas=(0.9, 0.98), fused=True
        )

    def advance(self) -> float:
        """Take one optimiser step and return its loss: a function of seed, step and weights."""
        # Enter the stage
        started = time.perf_counter()
        stage, within = self.config.stage_at(self.step)
        if stage.restart and within == 0:
            torch.manual_seed(self.config.seed + self.step)
            self.restart()
        for model in (self.sam, self.average):
            resize(model, stage.side)
        # Draw the batch of this step
        rng = np.random.default_rng((self.config.seed, self.step))
        batch = draw_batch(rng, self.data, stage.images, stage.prompts, stage.side)
        # Few images per batch make poor statistics: the end of a stage uses the averaged ones
        self.sam.train(within < stage.settle * stage.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate_at(self.step)
        loss = train_step(self.sam, self.hints, batch, rng)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*self.sam.parameters(), *self.hints.parameters()], 1.0)
        self.optimiser.step()
        self._update_average()
        self.step += 1
        self.scenes += stage.images
        self.seconds += time.perf_counter() - started
        return float(loss.detach())

    def _update_average(self) -> None:
        """Move the running average towards the weights, faster at the start."""
        keep = min(0.999, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.state_dict().values(), self.sam.state_dict().values(), strict=True)
        old, new = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(list(old), list(new), 1 - keep)

    def save(self, path: Path) -> None:
        """Write the whole state, replacing `path` in one go."""
        state = {"sam": self.sam.state_dict(), "hints": self.hints.state_dict(),
                 "average": self.average.state_dict(), "optimiser": self.optimiser.state_dict(),
                 "step": self.step, "seconds": self.seconds, "scenes": self.scenes}  # fmt: skip
        save_atomically(state, path)

    def load(self, path: Path) -> None:
        """Continue from a state that `save` wrote."""
        state = torch.load(path, weights_only=True)
        for name in ("sam", "hints", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds, self.scenes = state["step"], state["seconds"], state["scenes"]


def resize(sam: Sam, side: int) -> None:
    """Set the image side that a demo SAM works at; its weights fit any multiple of 16."""
    cells = side // STRIDE
    sam.image_encoder.img_size = side
    sam.prompt_encoder.image_embedding_size = (cells, cells)
    sam.prompt_encoder.input_image_size = (side, side)
    sam.prompt_encoder.mask_input_size = (UPSCALING * cells, UPSCALING * cells)


def train_sam(
    config: SamConfig,
    data: Shard,
    checkpoint: Path,
    *,
    resume: bool,
    report: OnLine,
    save_every: int = 250,
) -> SamTrainer:
    """Run to `config.steps`, saving to `checkpoint` on the way; `resume` continues from it."""
    trainer = SamTrainer(config, data)
    run(
        trainer,
        config.steps,
        checkpoint,
        name="sam",
        resume=resume,
        report=report,
        save_every=save_every,
    )
    return trainer
