"""SAM's prompt encoder and mask decoder, rewritten so that prompts pay little for the image.

The same function as segment-anything's `PromptEncoder` and `MaskDecoder` up to rounding, in another
order of operations:

* A prompt has T = 7 tokens, the image P = 4096 positions. Where the reference projects all P
  positions for every prompt, the projections are moved to the tokens: scores are
  (q W_k) X^T and values (softmax X) W_v.
* The position encoding is constant, so its projections are constants of the graph.
* Both transposed convolutions have kernel and stride 2: they are matrix products per position, and
  only the final mask logits are shuffled into place.

`everything.py` goes further where all prompts see the same image.
"""

from __future__ import annotations

import math

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F


class TokenToImage(nn.Module):
    """Cross attention of tokens to the image, projections absorbed into the tokens.

    `forward(queries (N, T, C), keys (N, P, C)) -> (N, T, C)` equals
    `Attention(q=queries, k=keys + pe, v=keys)`; the key bias cancels in the softmax.
    """

    def __init__(self, attention: Attention, position: Tensor):
        super().__init__()
        self.heads = attention.num_heads
        self.q_proj = scaled_query(attention)
        self.out_proj = attention.out_proj
        key = per_head(attention.k_proj.weight, self.heads)
        self.key: Tensor
        self.value: Tensor
        self.value_bias: Tensor
        self.position: Tensor
        self.register_buffer("key", key)
        self.register_buffer(
            "value", per_head(attention.v_proj.weight, self.heads).transpose(-1, -2)
        )
        self.register_buffer("value_bias", attention.v_proj.bias.view(self.heads, 1, -1))
        self.register_buffer("position", (position @ key.transpose(-1, -2)).transpose(-1, -2))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(N, T, C) queries and (N, P, C) image features to (N, T, C)."""
        q = split_heads(self.q_proj(queries), self.heads)
        folded = (q @ self.key).flatten(1, 2)
        scores = folded @ keys.transpose(-1, -2) + (q @ self.position).flatten(1, 2)
        seen = torch.softmax(scores, dim=-1) @ keys
        seen = seen.unflatten(1, (self.heads, -1))
        return self.out_proj(join_heads(seen @ self.value + self.value_bias))


class ImageToToken(nn.Module):
    """Cross attention of the image to tokens, projections absorbed into the tokens.

    `forward(keys (N, P, C), tokens (N, T, C), values (N, T, C)) -> (N, P, C)` equals
    `Attention(q=keys + pe, k=tokens, v=values)`.
    """

    def __init__(self, attention: Attention, position: Tensor):
        super().__init__()
        self.heads = attention.num_heads
        self.q_proj = scaled_query(attention)
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj
        self.query: Tensor
        self.out: Tensor
        self.bias: Tensor
        self.position: Tensor
        self.register_buffer("query", per_head(self.q_proj.weight, self.heads))
        self.register_buffer(
            "out", per_head(attention.out_proj.weight.transpose(-1, -2), self.heads)
        )
        # The weights of a head sum to one, so an H-th of the bias in each head's output adds it.
        self.register_buffer("bias", attention.out_proj.bias / self.heads)
        projected = self.q_proj(position).unflatten(-1, (self.heads, -1))
        self.register_buffer("position", projected.permute(1, 2, 0).contiguous())

    def scores(self, keys: Tensor, k: Tensor) -> Tensor:
        """Scores (N, H, T, P) of per-head token keys (N, H, T, d)."""
        folded = (k @ self.query).flatten(1, 2)
        return (folded @ keys.transpose(-1, -2)).unflatten(1, (self.heads, -1)) + k @ self.position

    def forward(self, keys: Tensor, tokens: Tensor, values: Tensor) -> Tensor:
        """What the image takes from the tokens, (N, P, C)."""
        k = split_heads(self.k_proj(tokens), self.heads)
        v = split_heads(self.v_proj(values), self.heads)
        weights = softmax_over_tokens(self.scores(keys, k)).flatten(1, 2)
        return weights.transpose(-1, -2) @ (v @ self.out + self.bias).flatten(1, 2)


def self_attention(block: TwoWayAttentionBlock, queries: Tensor, query_pe: Tensor) -> Tensor:
    """The tokens (N, T, C) of each prompt among themselves."""
    if block.skip_first_layer_pe:
        queries = block.self_attn(q=queries, k=queries, v=queries)
    else:
        q = queries + query_pe
        queries = queries + block.self_attn(q=q, k=q, v=queries)
    return block.norm1(queries)


class Layer(nn.Module):
    """One `TwoWayAttentionBlock`."""

    def __init__(self, block: TwoWayAttentionBlock, position: Tensor):
        super().__init__()
        self.block = block
        self.token_to_image = TokenToImage(block.cross_attn_token_to_image, position)
        self.image_to_token = ImageToToken(block.cross_attn_image_to_token, position)

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, C) queries and (N, P, C) keys to the same shapes."""
        block = self.block
        queries = self_attention(block, queries, query_pe)
        queries = block.norm2(queries + self.token_to_image(queries + query_pe, keys))
        queries = block.norm3(queries + block.mlp(queries))
        keys = block.norm4(keys + self.image_to_token(keys, queries + query_pe, queries))
        return queries, keys


class PromptTokens(nn.Module):
    """Points and boxes to the tokens of the transformer."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder):
        super().__init__()
        self.input_size = prompts.input_image_size
        self.gaussian: Tensor
        self.kinds: Tensor
        self.output_tokens: Tensor
        self.register_buffer("gaussian", prompts.pe_layer.positional_encoding_gaussian_matrix)
        kinds = [prompts.not_a_point_embed, *prompts.point_embeddings]
        self.register_buffer("kinds", torch.cat([kind.weight for kind in kinds]))
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        self.register_buffer("output_tokens", output_tokens)

    def forward(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Points (N, K, 2) XY in input pixels and labels (N, K) to (N, T, C): the tokens of the
        predicted IoU and of each mask, then those of the points.

        Labels are -1 padding, 0 background, 1 foreground, 2 and 3 box corners.
        """
        height, width = self.input_size
        unit = (coords + 0.5) / torch.tensor([width, height], dtype=coords.dtype)
        angle = 2 * math.pi * ((2 * unit - 1) @ self.gaussian)
        encoding = torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)
        known = torch.arange(-1, len(self.kinds) - 1, dtype=labels.dtype)
        kind = (labels.unsqueeze(-1) == known).to(encoding.dtype)
        points = encoding * (labels.unsqueeze(-1) != -1).to(encoding.dtype) + kind @ self.kinds
        return torch.cat([self.output_tokens.expand(points.shape[0], -1, -1), points], dim=1)


class TokenHeads(nn.Module):
    """What is read from the tokens after the last attention."""

    def __init__(self, decoder: MaskDecoder, masks: range):
        """`masks` are those to make, 0 the single one."""
        super().__init__()
        self.decoder, self.masks = decoder, masks

    def read_out(self, tokens: Tensor) -> Tensor:
        """Those (N, 1 + M, C) of all tokens (N, T, C) that are read: IoU and masks to make."""
        first, last = 1 + self.masks.start, 1 + self.masks.stop
        return torch.cat([tokens[:, :1], tokens[:, first:last]], dim=1)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (N, 1 + M, C) to the weights (N, M, C / 8) of the upscaled features for each
        mask and predicted IoU (N, M)."""
        queries = self.decoder.transformer.norm_final_attn(queries)
        mlps = [self.decoder.output_hypernetworks_mlps[i] for i in self.masks]
        weights = torch.stack([mlp(queries[:, 1 + i]) for i, mlp in enumerate(mlps)], dim=1)
        iou = self.decoder.iou_prediction_head(queries[:, 0])
        return weights, iou[:, self.masks.start : self.masks.stop]


class PromptTransformer(nn.Module):
    """The two-way transformer for images that differ from prompt to prompt."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder, heads: TokenHeads):
        super().__init__()
        position = prompts.get_dense_pe()[0].flatten(1).transpose(-1, -2).contiguous()
        self.heads = heads
        self.layers = nn.ModuleList(Layer(block, position) for block in decoder.transformer.layers)
        self.final = TokenToImage(decoder.transformer.final_attn_token_to_image, position)

    def forward(self, image: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image features (N, P, C) and tokens (N, T, C) to the tokens to read (N, 1 + M, C) and
        the image features as each prompt leaves them (N, P, C)."""
        queries, keys = tokens, image
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens)
        queries, query_pe = self.heads.read_out(queries), self.heads.read_out(tokens)
        return queries + self.final(queries + query_pe, keys), keys


class MaskUpscaling(nn.Module):
    """`output_upscaling` and the product with the mask tokens, as matrix products per position."""

    def __init__(self, decoder: MaskDecoder, side: tuple[int, int]):
        super().__init__()
        first, norm, _, second, _ = decoder.output_upscaling
        self.side = side
        self.norm, self.act = norm, decoder.output_upscaling[2]
        self.first = _as_linear(first)
        self.second = _as_linear(second)

    def forward(self, keys: Tensor, masks: Tensor) -> Tensor:
        """Image features (K, P, C), mask weights (K, M, C / 8) to logits (K, M, 4 h, 4 w)."""
        # Rows in two dimensions: there a product takes its bias along, and is not fused with GELU
        # into an operator that is three times slower than the two.
        return self.shuffle(self.after_first(self.first(keys.flatten(0, 1)), masks))

    def after_first(self, x: Tensor, masks: Tensor) -> Tensor:
        """Features of the first convolution (K P, C), mask weights (K, M, C / 8) to logits
        (K, M, 16 P), 4 x 4 pixels a position."""
        channels = self.second.in_features
        x = x.reshape(-1, channels)
        x = F.layer_norm(x, (channels,), self.norm.weight, self.norm.bias, self.norm.eps)
        x = self.act(self.second(self.act(x)))
        x = x.reshape(masks.shape[0], -1, masks.shape[2])
        return masks @ x.transpose(-1, -2)

    def shuffle(self, logits: Tensor) -> Tensor:
        """Logits (..., 16 P), 4 x 4 pixels a position, to (..., 4 h, 4 w)."""
        height, width = self.side
        pixels = logits.reshape(-1, height, width, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
        return pixels.reshape(*logits.shape[:-1], 4 * height, 4 * width)


class PromptDecoder(nn.Module):
    """`decoder.onnx`: any prompts, all masks."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder):
        super().__init__()
        self.tokens = PromptTokens(prompts, decoder)
        self.heads = TokenHeads(decoder, range(decoder.num_mask_tokens))
        self.transformer = PromptTransformer(prompts, decoder, self.heads)
        self.upscaling = MaskUpscaling(decoder, prompts.image_embedding_size)
        self.mask_downscaling = prompts.mask_downscaling
        self.no_mask = prompts.no_mask_embed

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Low-res logits (N, M, 4 h, 4 w) and predicted IoU (N, M).

        Args:
            image_embeddings: (1, C, h, w).
            point_coords: (N, K, 2) XY in pixels of the encoder's input.
            point_labels: (N, K) float, see `PromptTokens.forward`.
            mask_input: (N, 1, 4 h, 4 w) logits.
            has_mask_input: (N,) float, 1 where mask_input is to be used, else 0.
        """
        has_mask = has_mask_input.view(-1, 1, 1, 1)
        no_mask = self.no_mask.weight.view(1, -1, 1, 1)
        dense = has_mask * self.mask_downscaling(mask_input) + (1 - has_mask) * no_mask
        image = (image_embeddings + dense).flatten(2).transpose(-1, -2)
        queries, keys = self.transformer(image, self.tokens(point_coords, point_labels))
        masks, iou = self.heads(queries)
        return self.upscaling(keys, masks), iou


def scaled_query(attention: Attention) -> nn.Linear:
    """The query projection with the softmax scale folded in."""
    scale = 1 / math.sqrt(attention.internal_dim // attention.num_heads)
    linear = nn.Linear(attention.embedding_dim, attention.internal_dim)
    linear.weight = nn.Parameter(attention.q_proj.weight.detach() * scale)
    linear.bias = nn.Parameter(attention.q_proj.bias.detach() * scale)
    return linear


def per_head(weight: Tensor, heads: int) -> Tensor:
    """(H d, C) to (H, d, C)."""
    return weight.unflatten(0, (heads, -1))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(N, T, H d) to (N, H, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(N, H, T, d) to (N, T, H d)."""
    return x.transpose(1, 2).flatten(2)


def softmax_over_tokens(scores: Tensor) -> Tensor:
    """Softmax over the 7 tokens of (N, H, T, P). Spelled out: runtimes transpose the whole tensor
    to bring an inner axis last."""
    weights = torch.exp(scores - scores.amax(dim=2, keepdim=True))
    return weights / weights.sum(dim=2, keepdim=True)


def _as_linear(conv: nn.ConvTranspose2d) -> nn.Linear:
    """A transposed convolution of kernel and stride 2 as a product giving (dy, dx, channel)."""
    channels_in, channels_out = conv.weight.shape[:2]
    linear = nn.Linear(channels_in, 4 * channels_out)
    weight = conv.weight.detach().permute(2, 3, 1, 0).reshape(-1, channels_in)
    linear.weight = nn.Parameter(weight)
    bias = torch.zeros(channels_out) if conv.bias is None else conv.bias.detach()
    linear.bias = nn.Parameter(bias.repeat(4))
    return linear
