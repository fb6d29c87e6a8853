"""MobileSAM's encoder: checkpoint keys, windows, batch norms merged into convolutions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samrefine_export.sam.tiny_vit import (
    ConvNorm,
    TinyViT,
    TinyViTSizes,
    WindowAttention,
    WindowGrid,
    build_mobile_sam,
    fuse_batch_norms,
)

Module = TypeVar("Module", bound=torch.nn.Module)

KEYS = Path(__file__).parent / "data" / "mobile_sam_keys.json"
# 96 pixels are maps of 12 x 12 and 6 x 6 tokens: padded, exact and larger windows all occur.
SMALL = TinyViTSizes(
    img_size=96,
    dims=(8, 16, 24, 32),
    depths=(1, 1, 2, 1),
    heads=(1, 2, 3, 4),
    windows=(5, 5, 6, 7),
    out_channels=16,
)


def randomised(module: Module, seed: int = 0) -> Module:
    """Return `module` in eval mode with no parameter or running statistic at its neutral start.

    Weights are large enough for the image to reach the output.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        noise = torch.rand(tensor.shape, generator=generator)
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.copy_(0.5 + noise)
        elif tensor.ndim == 1 or name.endswith("attention_biases"):
            tensor.copy_(noise - 0.5)
        elif tensor.ndim > 1:
            tensor.mul_(3.0)
    return module.eval()


def noise(batch: int, side: int) -> torch.Tensor:
    """Return images (B,3,side,side) of float32 noise, the same every time."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def encoder() -> TinyViT:
    return randomised(TinyViT(SMALL))


def test_state_dict_has_exactly_the_keys_and_shapes_of_the_official_checkpoint() -> None:
    expected = json.loads(KEYS.read_text())
    state = build_mobile_sam().state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == expected


def test_small_model_encodes_and_decodes() -> None:
    sam = randomised(build_mobile_sam(SMALL))
    embedding = sam.image_encoder(noise(2, 96))
    assert embedding.shape == (2, 16, 6, 6)
    sparse, dense = sam.prompt_encoder(
        points=(torch.tensor([[[30.0, 40.0]]]), torch.ones(1, 1)), boxes=None, masks=None
    )
    masks, scores = sam.mask_decoder(
        image_embeddings=embedding[:1],
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    assert masks.shape == (1, 3, 24, 24)
    assert scores.shape == (1, 3)
    assert sam.image_encoder.img_size == 96


def test_output_is_deterministic_and_does_not_depend_on_the_batch(encoder: TinyViT) -> None:
    images = noise(2, 96)
    both = encoder(images)
    assert torch.equal(both, encoder(images))
    torch.testing.assert_close(both[1:], encoder(images[1:]), rtol=1e-5, atol=1e-5)
    assert (both[0] - both[1]).abs().max() > 0.1


def test_weights_loaded_after_eval_change_the_attention_bias(encoder: TinyViT) -> None:
    fresh = TinyViT(SMALL).eval()
    fresh(noise(1, 96))
    fresh.load_state_dict(encoder.state_dict())
    assert torch.equal(fresh(noise(1, 96)), encoder(noise(1, 96)))


def test_fused_encoder_equals_the_original(encoder: TinyViT) -> None:
    expected = encoder(noise(1, 96))
    fuse_batch_norms(encoder)
    kept = [m for m in encoder.modules() if isinstance(m, (ConvNorm, torch.nn.BatchNorm2d))]
    assert not kept
    difference = (encoder(noise(1, 96)) - expected).abs().max()
    assert difference <= 1e-5 * expected.abs().max()


def test_fusing_in_training_mode_is_refused(encoder: TinyViT) -> None:
    with pytest.raises(ValueError, match=r"eval\(\)"):
        fuse_batch_norms(encoder.train())


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    window=st.integers(1, 9),
    channels=st.integers(1, 3),
    batch=st.integers(1, 3),
)
def test_joining_undoes_splitting(
    height: int, width: int, window: int, channels: int, batch: int
) -> None:
    grid = WindowGrid(height, width, window, channels)
    x = 1.0 + torch.arange(batch * height * width * channels).reshape(
        batch, height, width, channels
    )
    windows = grid.split(x)
    assert windows.shape == (batch * grid.rows * grid.columns, window * window, channels)
    assert torch.count_nonzero(windows) == x.numel()
    assert torch.equal(grid.join(windows), x)


def test_a_window_holds_neighbours_row_by_row() -> None:
    x = torch.arange(16).reshape(1, 4, 4, 1)
    windows = WindowGrid(4, 4, 2, 1).split(x)[..., 0].tolist()
    assert windows == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_attention_equals_a_head_by_head_computation() -> None:
    attention = randomised(WindowAttention(dim=8, heads=2, window=3))
    x = torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(2))
    place = [(token // 3, token % 3) for token in range(9)]
    bias = torch.tensor([[3 * abs(a - c) + abs(b - d) for c, d in place] for a, b in place])
    per_head = attention.qkv(attention.norm(x)).chunk(2, dim=-1)
    mixed = []
    for head, (query, key, value) in enumerate(part.chunk(3, dim=-1) for part in per_head):
        scores = query @ key.transpose(1, 2) / 4**0.5 + attention.attention_biases[head][bias]
        mixed.append(scores.softmax(-1) @ value)
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(mixed, dim=-1)))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"img_size": 1000}, "multiple of 16"), ({"heads": (2, 4, 6, 10)}, "6 heads")],
)
def test_impossible_sizes_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TinyViTSizes(**sizes)
