"""SAM's ViT encoder with its relative positions written as plain attention.

The reference adds two position terms to the attention scores, which keeps fused attention kernels
from applying and holds all P x P scores of every head (0.8 GB in ViT-B's global layers). The terms
are products of the query with a table and a one-hot position of the key, so they are extra columns:

    q' = [scale q, q R_h, q R_w]      k' = [k, onehot(row), onehot(column)]

and q' k'^T is the reference's score. At a fixed input size tables and one-hots are constants.
Both are filled up with zeros, which add nothing: fused kernels want widths of multiples of 8.

In shapes below B is the batch (of windows, where a block has windows), h and w the sides of its
map, P = h w its positions, h' and w' the sides filled up, C the channels, H the heads, d the
channels of a head.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samrefine_export.functions import ATTENTION, DOMAIN, HEAD_MULTIPLE
from samrefine_export.sam.neck import use_plain_neck
from samrefine_export.third_party import ImageEncoderViT, ViTAttention, ViTBlock, get_rel_pos


class PlainAttention(nn.Module):
    """`segment_anything`'s Attention over (B, h, w, C), as one fused operator."""

    def __init__(self, attention: ViTAttention, map_shape: tuple[int, int]):
        """Rewrite `attention` for maps of `map_shape` (h, w)."""
        super().__init__()
        self.heads, scale = attention.num_heads, attention.scale
        self.query, self.key, self.value = _projections(attention.qkv, scale)
        self.proj = attention.proj
        height, width = map_shape
        self.rows: Tensor
        self.columns: Tensor
        self.places: Tensor
        # Tables R_h (h, d, h') and R_w (w, d, w'), from the query's place to the key's. The
        # reference multiplies them with the unscaled query, hence the division.
        rows = get_rel_pos(height, height, attention.rel_pos_h) / scale
        columns = get_rel_pos(width, width, attention.rel_pos_w) / scale
        self.register_buffer("rows", _filled_up(rows.transpose(1, 2)))
        self.register_buffer("columns", _filled_up(columns.transpose(1, 2)))
        # One-hot row and column of every position, (P, h' + w')
        row = _filled_up(torch.eye(height)).repeat_interleave(width, dim=0)
        column = _filled_up(torch.eye(width)).repeat(height, 1)
        self.register_buffer("places", torch.cat([row, column], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over maps (B, h, w, C)."""
        batch, height, width, channels = x.shape
        tokens = height * width
        # Queries (B, P, H, d) with the scale, keys (B, P, H, d)
        by_head = (batch, tokens, self.heads, -1)
        q, k = self.query(x).reshape(by_head), self.key(x).reshape(by_head)
        # Append the position columns, (B, P, H, d + h' + w')
        places = self.places.reshape(1, tokens, 1, -1).expand(batch, -1, self.heads, -1)
        q = torch.cat([q, *self._positions(q, height, width)], dim=-1)
        k = torch.cat([k, places], dim=-1)
        # Attend, with the heads side by side in the channels as the operator takes them
        v = self.value(x).reshape(batch, tokens, channels)
        out = _attention(q.flatten(2), k.flatten(2), v, self.heads)
        return self.proj(out.reshape(batch, height, width, channels))

    def _positions(self, q: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Score queries (B, P, H, d) with every row (B, P, H, h') and column (B, P, H, w')."""
        batch, tokens, heads, dim = q.shape
        # All queries of a row meet that row's table, all of a column that column's
        by_row = q.reshape(batch, height, width * heads, dim) @ self.rows
        by_column = q.reshape(batch * height, width, heads, dim) @ self.columns
        shape = (batch, tokens, heads, -1)
        return by_row.reshape(shape), by_column.reshape(shape)


def _filled_up(table: Tensor) -> Tensor:
    """Append zeros to the last axis of a table, up to a multiple of HEAD_MULTIPLE."""
    return F.pad(table, (0, -table.shape[-1] % HEAD_MULTIPLE))


def _projections(qkv: nn.Linear, scale: float) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Return one layer each for queries, keys and values, so that nothing has to be split.

    The queries' layer includes the scale of the scores.
    """
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
    """Return softmax(q k^T) v per head, (B, P, H d), by ONNX Runtime's operator in an export.

    The operator never holds the scores. In shapes a = d + h' + w'.

    Args:
        q: (B, P, H a), scaled.
        k: (B, P, H a).
        v: (B, P, H d).
        heads: H.
    """
    if not torch.onnx.is_in_onnx_export():
        return _attention_in_torch(q, k, v, heads)
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{ATTENTION}",
        (q, k, v),
        attrs={"num_heads": heads, "scale": 1.0},
        dtype=v.dtype,
        shape=v.shape,
        version=1,
    )


def _attention_in_torch(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    # ONNX Runtime's operator runs in its own sessions only, so torch needs an equivalent
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return out.transpose(1, 2).flatten(2)


def with_plain_attention(encoder: ImageEncoderViT) -> ImageEncoderViT:
    """Return a copy of a ViT encoder in which every block uses PlainAttention.

    It shares all weights but those of queries, keys and values, and of the neck, see
    `use_plain_neck`.
    """
    # A shallow copy with its own registry of submodules: replacing one leaves the original alone
    plain = copy.copy(encoder)
    plain._modules = dict(encoder._modules)
    side = encoder.img_size // encoder.patch_embed.proj.kernel_size[0]
    plain.blocks = nn.ModuleList(_plain_block(block, side) for block in encoder.blocks)
    plain.neck = copy.deepcopy(encoder.neck)
    use_plain_neck(plain)
    return plain


def _plain_block(block: ViTBlock, side: int) -> ViTBlock:
    plain = copy.copy(block)
    plain._modules = dict(block._modules)
    # Window size 0 is attention over the whole map
    window = int(block.window_size) or side
    plain.attn = PlainAttention(block.attn, (window, window))
    return plain
