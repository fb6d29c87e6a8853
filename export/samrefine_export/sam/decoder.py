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

In shapes below N is the prompts, T the tokens of each, C the channels, P = h w the positions of
the image embedding, H the heads, d the channels of a head, M the masks of a prompt.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samrefine_export.sam.attention import (
    join_heads,
    per_head,
    scaled_query,
    self_attention,
    softmax_over_tokens,
    split_heads,
)
from samrefine_export.sam.norms import use_channel_norms
from samrefine_export.third_party import (
    Attention,
    MaskDecoder,
    PromptEncoder,
    TwoWayAttentionBlock,
)

_STRIDE = 2
"""Kernel and stride of each of the two transposed convolutions of `output_upscaling`."""
_TAPS = _STRIDE * _STRIDE
"""Output pixels of a transposed convolution per input position."""
UPSCALING = _STRIDE * _STRIDE
"""Side of a low-res mask over the side of the image embedding: two strides in a row."""

_PADDING_LABEL = -1
"""`PromptEncoder`'s label of points that fill up a prompt."""


class TokenToImage(nn.Module):
    """Cross attention of tokens to the image, projections absorbed into the tokens.

    `forward(queries (N, T, C), keys (N, P, C)) -> (N, T, C)` equals
    `Attention(q=queries, k=keys + pe, v=keys)`; the key bias cancels in the softmax.
    """

    def __init__(self, attention: Attention, position: Tensor):
        """Fold `attention`; `position` (P, C) is the encoding of the image's positions."""
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
        """Return what the tokens take from the image, (N, T, C)."""
        q = split_heads(self.q_proj(queries), self.heads)
        # Scores (N, H T, P) = q W_k X^T + q W_k pe^T: all heads of a prompt in one product with X
        folded = (q @ self.key).flatten(1, 2)
        scores = folded @ keys.transpose(-1, -2) + (q @ self.position).flatten(1, 2)
        # Values (N, H, T, d) = (softmax X) W_v + b_v, as the weights of a softmax sum to one
        seen = torch.softmax(scores, dim=-1) @ keys
        seen = seen.unflatten(1, (self.heads, -1))
        return self.out_proj(join_heads(seen @ self.value + self.value_bias))


class ImageToToken(nn.Module):
    """Cross attention of the image to tokens, projections absorbed into the tokens.

    `forward(keys (N, P, C), tokens (N, T, C), values (N, T, C)) -> (N, P, C)` equals
    `Attention(q=keys + pe, k=tokens, v=values)`.
    """

    def __init__(self, attention: Attention, position: Tensor):
        """Fold `attention`; `position` (P, C) is the encoding of the image's positions."""
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
        # A head's softmax weights sum to one, so 1 / H of the bias in each head's output adds up
        # to the bias.
        self.register_buffer("bias", attention.out_proj.bias / self.heads)
        # (H, d, P): the queries' constant part, with the bias
        projected = self.q_proj(position).unflatten(-1, (self.heads, -1))
        self.register_buffer("position", projected.permute(1, 2, 0).contiguous())

    def scores(self, keys: Tensor, k: Tensor) -> Tensor:
        """Return scores (N, H, T, P) of token keys (N, H, T, d) with the image (N, P, C)."""
        # k W_q X^T + k (W_q pe^T + b_q)
        folded = (k @ self.query).flatten(1, 2)
        return (folded @ keys.transpose(-1, -2)).unflatten(1, (self.heads, -1)) + k @ self.position

    def forward(self, keys: Tensor, tokens: Tensor, values: Tensor) -> Tensor:
        """Return what the image takes from the tokens, (N, P, C)."""
        k = split_heads(self.k_proj(tokens), self.heads)
        v = split_heads(self.v_proj(values), self.heads)
        # weights^T (v W_o + b_o / H): the H T token values are projected instead of P positions
        weights = softmax_over_tokens(self.scores(keys, k)).flatten(1, 2)
        return weights.transpose(-1, -2) @ (v @ self.out + self.bias).flatten(1, 2)


class TwoWayLayer(nn.Module):
    """One `TwoWayAttentionBlock` for images that differ from prompt to prompt."""

    def __init__(self, block: TwoWayAttentionBlock, position: Tensor):
        super().__init__()
        self.block = block
        self.token_to_image = TokenToImage(block.cross_attn_token_to_image, position)
        self.image_to_token = ImageToToken(block.cross_attn_image_to_token, position)

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries (N, T, C) and keys (N, P, C), the image features, after this layer."""
        block = self.block
        # Tokens attend to each other, then to the image, then pass the MLP
        queries = self_attention(block, queries, query_pe)
        queries = block.norm2(queries + self.token_to_image(queries + query_pe, keys))
        queries = block.norm3(queries + block.mlp(queries))
        # The image attends to the tokens
        keys = block.norm4(keys + self.image_to_token(keys, queries + query_pe, queries))
        return queries, keys


class PromptTokens(nn.Module):
    """Turns points and boxes into the tokens of the transformer, as `PromptEncoder` does."""

    keeps_single = True
    """Half has no room for a pixel's place: 1024 and 1023.5 are one number in it."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder):
        super().__init__()
        self.input_shape = prompts.input_image_size
        self.gaussian: Tensor
        self.kinds: Tensor
        self.output_tokens: Tensor
        self.register_buffer("gaussian", prompts.pe_layer.positional_encoding_gaussian_matrix)
        # Rows by label, from -1: padding, background, foreground, first and second box corner
        kinds = [prompts.not_a_point_embed, *prompts.point_embeddings]
        self.register_buffer("kinds", torch.cat([kind.weight for kind in kinds]))
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        self.register_buffer("output_tokens", output_tokens)

    def forward(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Return the tokens (N, T, C) of the predicted IoU, of each mask and of each point.

        Args:
            coords: (N, points, 2) XY in pixels of the encoder's input.
            labels: (N, points) float, -1 padding, 0 background, 1 foreground, 2 and 3 the corners
                of a box.
        """
        # Encode positions by random Fourier features of coordinates in -1..1; a pixel's place is
        # its centre
        height, width = self.input_shape
        unit = (coords + 0.5) / torch.tensor([width, height], dtype=coords.dtype)
        angle = 2 * math.pi * ((2 * unit - 1) @ self.gaussian)
        encoding = torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)
        # Add the embedding of the label by a product with a one-hot row; padding has no position
        known = torch.arange(_PADDING_LABEL, len(self.kinds) + _PADDING_LABEL, dtype=labels.dtype)
        kind = (labels.unsqueeze(-1) == known).to(encoding.dtype)
        is_point = (labels.unsqueeze(-1) != _PADDING_LABEL).to(encoding.dtype)
        points = encoding * is_point + kind @ self.kinds
        # Output tokens come first, the same for all prompts
        return torch.cat([self.output_tokens.expand(points.shape[0], -1, -1), points], dim=1)


class TokenHeads(nn.Module):
    """Reads mask weights and predicted IoU from the tokens after the last attention."""

    def __init__(self, decoder: MaskDecoder, masks: range):
        """Read the masks of indices `masks` only; 0 is the single mask, the others alternatives."""
        super().__init__()
        self.decoder, self.masks = decoder, masks

    def read_out(self, tokens: Tensor) -> Tensor:
        """Select the tokens (N, 1 + M, C) that are read from all (N, T, C): IoU, then masks."""
        first, last = 1 + self.masks.start, 1 + self.masks.stop
        return torch.cat([tokens[:, :1], tokens[:, first:last]], dim=1)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask weights (N, M, C / 8) and predicted IoU (N, M) of tokens (N, 1 + M, C).

        A mask's logits are its weights times the channels of the upscaled features.
        """
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
        blocks = decoder.transformer.layers
        self.layers = nn.ModuleList(TwoWayLayer(block, position) for block in blocks)
        self.final = TokenToImage(decoder.transformer.final_attn_token_to_image, position)

    def forward(self, image: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens to read and the image as each prompt has changed it.

        Args:
            image: features (N, P, C).
            tokens: (N, T, C).

        Returns:
            Tokens (N, 1 + M, C) and image features (N, P, C).
        """
        # The first tokens serve as the position encoding of the tokens in every layer
        queries, keys = tokens, image
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens)
        # The last attention is computed only for tokens that are read
        queries, query_pe = self.heads.read_out(queries), self.heads.read_out(tokens)
        return queries + self.final(queries + query_pe, keys), keys


class MaskUpscaling(nn.Module):
    """`output_upscaling` and the product with the mask tokens, as matrix products per position."""

    def __init__(self, decoder: MaskDecoder, embedding_shape: tuple[int, int]):
        """Rewrite `decoder.output_upscaling` for embeddings of `embedding_shape` (h, w)."""
        super().__init__()
        first, norm, act, second, _ = decoder.output_upscaling
        self.embedding_shape = embedding_shape
        self.norm, self.act = norm, act
        self.first = _as_linear(first)
        self.second = _as_linear(second)

    def forward(self, keys: Tensor, masks: Tensor) -> Tensor:
        """Return logits (N, M, 4 h, 4 w) of features (N, P, C) and mask weights (N, M, C / 8)."""
        # Rows in two dimensions: there a product takes its bias along, and is not fused with GELU
        # into an operator that is three times slower than the two.
        return self.shuffle(self.after_first(self.first(keys.flatten(0, 1)), masks))

    def after_first(self, x: Tensor, masks: Tensor) -> Tensor:
        """Return logits (N, M, 16 P), those of a position's 4 x 4 pixels side by side.

        Args:
            x: the first convolution's output as a product, any shape of N P C elements: for each
                position its 2 x 2 pixels of C / 4 channels.
            masks: weights (N, M, C / 8).
        """
        channels = self.second.in_features
        # Norm and GELU per pixel, (4 N P, C / 4)
        x = x.reshape(-1, channels)
        x = F.layer_norm(x, (channels,), self.norm.weight, self.norm.bias, self.norm.eps)
        # Second convolution, (4 N P, 4 C / 8)
        x = self.act(self.second(self.act(x)))
        # Features (N, 16 P, C / 8) times the mask weights
        x = x.reshape(masks.shape[0], -1, masks.shape[2])
        return masks @ x.transpose(-1, -2)

    def shuffle(self, logits: Tensor) -> Tensor:
        """Put the 4 x 4 pixels of every position in place: (..., 16 P) to (..., 4 h, 4 w)."""
        height, width = self.embedding_shape
        # (y, x) of the position, then (dy, dx) of the first and of the second convolution
        pixels = logits.reshape(-1, height, width, _STRIDE, _STRIDE, _STRIDE, _STRIDE)
        pixels = pixels.permute(0, 1, 3, 5, 2, 4, 6)
        return pixels.reshape(*logits.shape[:-1], UPSCALING * height, UPSCALING * width)


class PromptDecoder(nn.Module):
    """The graph `decoder.onnx`: any prompts, all masks."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder):
        super().__init__()
        self.tokens = PromptTokens(prompts, decoder)
        self.heads = TokenHeads(decoder, range(decoder.num_mask_tokens))
        self.transformer = PromptTransformer(prompts, decoder, self.heads)
        self.upscaling = MaskUpscaling(decoder, prompts.image_embedding_size)
        self.mask_downscaling = copy.deepcopy(prompts.mask_downscaling)
        use_channel_norms(self.mask_downscaling)
        self.no_mask = prompts.no_mask_embed

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return low-res logits (N, M, 4 h, 4 w) and predicted IoU (N, M).

        Args:
            image_embeddings: (1, C, h, w).
            point_coords: (N, points, 2) XY in pixels of the encoder's input.
            point_labels: (N, points) float, see `PromptTokens.forward`.
            mask_input: (N, 1, 4 h, 4 w) logits.
            has_mask_input: (N,) float, 1 where mask_input is to be used, else 0.
        """
        # Embed masks; prompts without one take the learnt "no mask", chosen by arithmetic so that
        # one graph serves both
        has_mask = has_mask_input.view(-1, 1, 1, 1)
        no_mask = self.no_mask.weight.view(1, -1, 1, 1)
        dense = has_mask * self.mask_downscaling(mask_input) + (1 - has_mask) * no_mask
        # Run the transformer on image + mask, (N, P, C)
        image = (image_embeddings + dense).flatten(2).transpose(-1, -2)
        queries, keys = self.transformer(image, self.tokens(point_coords, point_labels))
        # Read mask weights and IoU, upscale
        masks, iou = self.heads(queries)
        return self.upscaling(keys, masks), iou


def _as_linear(conv: nn.ConvTranspose2d) -> nn.Linear:
    """Return a transposed convolution of kernel and stride 2 as a product (dy, dx, channel).

    Windows do not overlap where kernel and stride agree, so each position makes its own 2 x 2
    pixels.
    """
    channels_in, channels_out = conv.weight.shape[:2]
    linear = nn.Linear(channels_in, _TAPS * channels_out)
    weight = conv.weight.detach().permute(2, 3, 1, 0).reshape(-1, channels_in)
    linear.weight = nn.Parameter(weight)
    bias = torch.zeros(channels_out) if conv.bias is None else conv.bias.detach()
    linear.bias = nn.Parameter(bias.repeat(_TAPS))
    return linear
