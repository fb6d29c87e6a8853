"""SAM's ViT encoder with its relative positions written as plain attention.

The reference adds two position terms to the attention scores, which keeps fused attention kernels
from applying and holds all P x P scores of every head (0.8 GB in ViT-B's global layers). The terms
are products of the query with a table and a one-hot position of the key, so they are extra columns:

    q' = [scale q, q R_h, q R_w]      k' = [k, onehot(row), onehot(column)]

and q' k'^T is the reference's score. At a fixed input size tables and one-hots are constants.
"""

from __future__ import annotations

import copy

import torch
from segment_anything.modeling.image_encoder import (
    Attention,
    Block,
    ImageEncoderViT,
    get_rel_pos,
)
from torch import Tensor, nn


class PlainAttention(nn.Module):
    """`segment_anything`'s Attention over (B, h, w, C), as one fused operator."""

    def __init__(self, attention: Attention, side: tuple[int, int]):
        super().__init__()
        self.heads, scale = attention.num_heads, attention.scale
        self.query, self.key, self.value = _projections(attention.qkv, scale)
        self.proj = attention.proj
        height, width = side
        self.rows: Tensor
        self.columns: Tensor
        self.places: Tensor
        rows = get_rel_pos(height, height, attention.rel_pos_h) / scale
        columns = get_rel_pos(width, width, attention.rel_pos_w) / scale
        self.register_buffer("rows", rows.transpose(1, 2).contiguous())
        self.register_buffer("columns", columns.transpose(1, 2).contiguous())
        row = torch.eye(height).repeat_interleave(width, dim=0)
        column = torch.eye(width).repeat(height, 1)
        self.register_buffer("places", torch.cat([row, column], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) to the same."""
        batch, height, width, channels = x.shape
        tokens = height * width
        by_head = (batch, tokens, self.heads, -1)
        q, k = self.query(x).reshape(by_head), self.key(x).reshape(by_head)
        places = self.places.reshape(1, tokens, 1, -1).expand(batch, -1, self.heads, -1)
        q = torch.cat([q, *self._positions(q, height, width)], dim=-1)
        k = torch.cat([k, places], dim=-1)
        v = self.value(x).reshape(batch, tokens, channels)
        out = _attention(q.flatten(2), k.flatten(2), v, self.heads)
        return self.proj(out.reshape(batch, height, width, channels))

    def _positions(self, q: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Scores of queries (B, P, H, d) with every row (B, P, H, h) and column (B, P, H, w)."""
        batch, tokens, heads, dim = q.shape
        by_row = q.reshape(batch, height, width * heads, dim) @ self.rows
        by_column = q.reshape(batch * height, width, heads, dim) @ self.columns
        shape = (batch, tokens, heads, -1)
        return by_row.reshape(shape), by_column.reshape(shape)


def _projections(qkv: nn.Linear, scale: float) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """One layer each for queries, keys and values, so that nothing has to be split; the queries'
    has the scale of the scores in it."""
    layers = []
    for factor, weight, bias in zip(
        (scale, 1.0, 1.0), qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True
    ):
        layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
        layer.weight = nn.Parameter(factor * weight.detach(), requires_grad=False)
        layer.bias = nn.Parameter(factor * bias.detach(), requires_grad=False)
        layers.append(layer)
    query, key, value = layers
    return query, key, value


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k^T) v per head of (B, P, H a), (B, P, H a), (B, P, H d), as ONNX Runtime's
    operator, which never holds the scores."""
    if not torch.onnx.is_in_onnx_export():
        return _attention_in_torch(q, k, v, heads)
    return torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (q, k, v),
        attrs={"num_heads": heads, "scale": 1.0},
        dtype=v.dtype,
        shape=v.shape,
        version=1,
    )


def _attention_in_torch(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)
    return out.transpose(1, 2).flatten(2)


def with_plain_attention(encoder: ImageEncoderViT) -> ImageEncoderViT:
    """A copy of a ViT encoder in which every block uses PlainAttention; shares all weights but
    those of queries, keys and values."""
    plain = copy.copy(encoder)
    plain._modules = dict(encoder._modules)
    side = encoder.img_size // encoder.patch_embed.proj.kernel_size[0]
    plain.blocks = nn.ModuleList(_plain_block(block, side) for block in encoder.blocks)
    return plain


def _plain_block(block: Block, side: int) -> Block:
    plain = copy.copy(block)
    plain._modules = dict(block._modules)
    window = int(block.window_size) or side
    plain.attn = PlainAttention(block.attn, (window, window))
    return plain
