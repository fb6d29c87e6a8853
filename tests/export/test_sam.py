"""Exporting SAM: arguments, checkpoints, precision, what the graphs compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from samrefine_export.checkpoints import read_checkpoint
from samrefine_export.errors import CheckpointError, ExportError
from samrefine_export.graph import export_graph
from samrefine_export.precision import quantise_int8
from samrefine_export.sam import MODELS, export_sam, load_sam, random_sam
from samrefine_export.sam.decoder import PromptDecoder
from samrefine_export.sam.encoder import with_plain_attention
from samrefine_export.sam.everything import EverythingDecoder, LayerTensors, SharedTensors
from tests.samples import cpu_session
from tests.small_sam import build_small_sam, small_sam


def test_random_weights_are_seeded_and_nothing_is_trivial() -> None:
    first, again, other = (random_sam(build_small_sam, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image_encoder.pos_embed"], other["image_encoder.pos_embed"])
    assert all(value.abs().max() > 0 for value in first.values())


def test_an_official_checkpoint_loads_strictly(tmp_path: Path) -> None:
    sam = random_sam(MODELS["mobile_sam"], 3)
    torch.save(sam.state_dict(), tmp_path / "mobile_sam.pt")
    loaded = load_sam("mobile_sam", tmp_path / "mobile_sam.pt").state_dict()
    for name, value in read_checkpoint(tmp_path / "mobile_sam.pt").items():
        assert torch.equal(loaded[name], value)


def test_a_checkpoint_of_another_model_names_keys(tmp_path: Path) -> None:
    torch.save(small_sam().state_dict(), tmp_path / "small.pth")
    with pytest.raises(CheckpointError, match="image_encoder"):
        export_sam("mobile_sam", tmp_path / "small.pth", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("model", "checkpoint", "seed", "words"),
    [
        ("vit_x", None, 0, "expected one of vit_b"),
        ("vit_b", None, None, "exactly one"),
        ("vit_b", "some.pth", 0, "exactly one"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, model: str, checkpoint: str | None, seed: int | None, words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        export_sam(model, checkpoint, tmp_path / "bundle", random_weights=seed)
    assert list(tmp_path.iterdir()) == []


def test_plain_attention_is_the_references() -> None:
    encoder = small_sam(0).image_encoder
    image = torch.randn(1, 3, encoder.img_size, encoder.img_size)
    with torch.no_grad():
        expected, actual = encoder(image), with_plain_attention(encoder)(image)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def masks_above(
    everything: EverythingDecoder, embedding: Tensor, points: Tensor, threshold: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, predicted IoU and prompt of the masks above a threshold, as the runtime does it."""
    *shared, upscaling = everything.image(embedding)
    *views, iou = everything.points(points, *shared)
    keep = iou > threshold
    prompt = keep.any(dim=1).nonzero()[:, 0]
    mask = keep[prompt].flatten().nonzero()[:, 0]
    logits = everything.masks(*views, upscaling, prompt, mask)
    return logits, iou[keep], keep.nonzero()[:, 0]


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
@torch.no_grad()
def test_rewritten_decoders_are_the_plain_decoder(scale: float) -> None:
    sam = small_sam(4)
    prompts, decoder = sam.prompt_encoder, sam.mask_decoder
    torch.manual_seed(0)
    embedding = scale * torch.randn(1, 32, 16, 16)
    points = torch.rand(6, 2) * 256
    sparse, dense = prompts(points=(points[:, None], torch.ones(6, 1)), boxes=None, masks=None)
    masks, scores = decoder.predict_masks(embedding, prompts.get_dense_pe(), sparse, dense)

    coords = torch.stack([points, torch.zeros(6, 2)], dim=1)
    labels = torch.tensor([1.0, -1.0]).expand(6, -1)
    nothing = torch.zeros(6, 1, 64, 64), torch.zeros(6)
    actual = PromptDecoder(prompts, decoder)(embedding, coords, labels, *nothing)
    for mine, theirs in zip(actual, (masks, scores), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))

    threshold = scores[:, 1:].flatten().sort().values[12] + 1e-4
    everything = EverythingDecoder.of(prompts, decoder)
    logits, ious, owners = masks_above(everything, embedding, points, threshold)
    keep = scores[:, 1:] > threshold
    assert torch.equal(owners, keep.nonzero()[:, 0])
    torch.testing.assert_close(ious, scores[:, 1:][keep], rtol=0, atol=1e-4)
    largest = float(masks.abs().max())
    torch.testing.assert_close(logits, masks[:, 1:][keep], rtol=0, atol=1e-4 * largest)


@torch.no_grad()
def test_an_image_that_the_tokens_cancel_gives_finite_masks() -> None:
    sam = small_sam(4)
    sam.prompt_encoder.no_mask_embed.weight.zero_()
    attention = sam.mask_decoder.transformer.layers[0].cross_attn_image_to_token
    attention.v_proj.weight.zero_()
    attention.v_proj.bias.zero_()
    attention.out_proj.bias.mul_(1000)
    embedding = -attention.out_proj.bias.view(1, -1, 1, 1).expand(1, -1, 16, 16)
    everything = EverythingDecoder.of(sam.prompt_encoder, sam.mask_decoder)
    outputs = masks_above(everything, embedding, torch.rand(40, 2) * 256, -torch.inf)
    assert all(torch.isfinite(output).all() for output in outputs)


def test_shared_tensors_keep_their_order_when_flat() -> None:
    numbers = iter(range(100))
    fields = len(LayerTensors._fields)
    layers = tuple(
        LayerTensors(*(torch.tensor(next(numbers)) for _ in range(fields))) for _ in range(2)
    )
    shared = SharedTensors(layers, *(torch.tensor(next(numbers)) for _ in range(2)))
    assert [int(tensor) for tensor in shared.flat()] == list(range(12))
    assert SharedTensors.from_flat(shared.flat()) == shared
    named = dict(zip(SharedTensors.names(2), range(12), strict=True))
    assert (named["layer0_keys"], named["layer1_keys"], named["final_keys"]) == (0, 5, 10)
    assert (named["layer1_variance"], named["final_values"]) == (9, 11)


def test_int8_is_smaller_and_close(small_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes((small_bundle / "encoder.onnx").read_bytes())
    # Three quarters of what linear layers hold can be saved; scales and nodes take a part of it
    graph = onnx.load(path).graph
    matrices = {t.name: len(t.raw_data) for t in graph.initializer if len(t.dims) == 2}
    products = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    layers = sum(matrices.get(name, 0) for name in products)
    before = path.stat().st_size
    quantise_int8(path)
    assert path.stat().st_size < before - 0.65 * layers
    image = {"image": np.random.default_rng(0).standard_normal((1, 3, 256, 256), np.float32)}
    exact = cpu_session(small_bundle / "encoder.onnx").run(image)["image_embeddings"]
    rough = cpu_session(path).run(image)["image_embeddings"]
    assert 0 < np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()


def test_a_module_torch_cannot_export_is_one_clear_error(tmp_path: Path) -> None:
    class Stubborn(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(ExportError, match=r"stubborn\.onnx"):
        export_graph(Stubborn(), {"x": torch.ones(2)}, ["y"], tmp_path / "stubborn.onnx")
