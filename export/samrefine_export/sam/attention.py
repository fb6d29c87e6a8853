"""Attention's building blocks that the decoders share.

In shapes below N is the prompts, T the tokens of each, P the positions of the image, H the heads,
d the channels of a head and C the channels of tokens and image; H d is an attention's inner width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from samrefine_export.third_party import Attention, TwoWayAttentionBlock


def scaled_query(attention: Attention) -> nn.Linear:
    """Return the query projection with the softmax scale 1 / sqrt(d) folded in."""
    scale = 1 / math.sqrt(attention.internal_dim // attention.num_heads)
    linear = nn.Linear(attention.embedding_dim, attention.internal_dim)
    linear.weight = nn.Parameter(attention.q_proj.weight.detach() * scale)
    linear.bias = nn.Parameter(attention.q_proj.bias.detach() * scale)
    return linear


def per_head(weight: Tensor, heads: int) -> Tensor:
    """Split the weight (H d, C) of a projection into its heads (H, d, C)."""
    return weight.unflatten(0, (heads, -1))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split projected tokens (N, T, H d) into heads (N, H, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Join heads (N, H, T, d) to tokens (N, T, H d); undoes `split_heads`."""
    return x.transpose(1, 2).flatten(2)


def softmax_over_tokens(scores: Tensor) -> Tensor:
    """Return the softmax of scores (N, H, T, P) over the T tokens.

    Spelled out, because runtimes transpose the whole tensor to bring an inner axis last.
    """
    weights = torch.exp(scores - scores.amax(dim=2, keepdim=True))
    return weights / weights.sum(dim=2, keepdim=True)


def self_attention(block: TwoWayAttentionBlock, queries: Tensor, query_pe: Tensor) -> Tensor:
    """Let the tokens (N, T, C) of each prompt attend to each other, as the block begins."""
    if block.skip_first_layer_pe:
        # The first layer's queries are query_pe itself; the reference leaves out the residual too.
        queries = block.self_attn(q=queries, k=queries, v=queries)
    else:
        q = queries + query_pe
        queries = queries + block.self_attn(q=q, k=q, v=queries)
    return block.norm1(queries)
