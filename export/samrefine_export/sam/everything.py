"""Everything mode's decoder: the image's channels are touched once a photo, not once a prompt.

All prompts of a photo see one image X (C, P), and what a prompt changes in it has few degrees of
freedom. Attention of the image to T = 7 tokens adds, at every position, a mixture of H T = 56
vectors; LayerNorm is linear up to one factor per position. So for each prompt the image features
after layer l are

    scale * (K + basis^T weights) + bias,

K (C, P) and bias the same for all prompts, scale (1, P), basis (R, C) and weights (R, P) the
prompt's own, R = 56 l. `SharedImage` projects K once a photo. `PromptsDecoder` then works with R
rows in the place of C channels:

* a projection of the features is that of K, looked up, plus one of the basis, 56 vectors;
* the variance that LayerNorm divides by is a quadratic form in the weights;
* upscaling begins with the weights (R to C channels), for prompts with a surviving mask alone.

The same function as segment-anything's `MaskDecoder` up to rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn

from samrefine_export.sam.decoder import (
    MaskUpscaling,
    PromptTokens,
    TokenHeads,
    join_heads,
    per_head,
    scaled_query,
    self_attention,
    softmax_over_tokens,
    split_heads,
)


class ImageView(NamedTuple):
    """How prompts see the image: scale * (K + basis^T weights) + bias."""

    scale: Tensor
    """(N, 1, P)"""
    weights: Tensor
    """(N, R, P)"""
    basis: Tensor
    """(N, R, C)"""
    values: Tensor
    """(N, R / T, T, d + 1) what the basis is made of: token values by layer and head, and a one"""


class ImageProjection(nn.Module):
    """Products of token vectors with a projection of features + position encoding."""

    def __init__(self, weight: Tensor, constant: Tensor, *, is_first: bool):
        """`weight` (H, d, C), `constant` (H, d, P) its projection of all that is not scaled;
        `is_first`: in the first layer, where nothing is scaled yet."""
        super().__init__()
        self.is_first = is_first
        self.weight: Tensor
        self.constant: Tensor
        self.register_buffer("weight", weight)
        self.register_buffer("constant", constant)

    def shared(self, keys: Tensor) -> Tensor:
        """(H, d, P) of K (C, P)."""
        projected = self.weight @ keys
        return projected + self.constant if self.is_first else projected

    def forward(self, vectors: Tensor, view: ImageView | None, shared: Tensor) -> Tensor:
        """Products (N, H, T, P) of vectors (N, H, T, d)."""
        if view is None:
            return vectors @ shared
        heads = self.weight.shape[0]
        on_basis = (vectors @ self.weight).flatten(1, 2) @ view.basis.transpose(-1, -2)
        products = (vectors @ shared).flatten(1, 2) + on_basis @ view.weights
        products = products * view.scale + (vectors @ self.constant).flatten(1, 2)
        return products.unflatten(1, (heads, -1))


class TokenToImage(nn.Module):
    """Cross attention of tokens to the image."""

    def __init__(self, attention: Attention, position: Tensor, bias: Tensor, *, is_first: bool):
        """`position` (C, P) encoding, `bias` (C,) of the features; the key bias cancels."""
        super().__init__()
        self.heads = attention.num_heads
        self.q_proj, self.out_proj = scaled_query(attention), attention.out_proj
        key = per_head(attention.k_proj.weight, self.heads)
        self.keys = ImageProjection(key, key @ position, is_first=is_first)
        value, constant = attention.v_proj.weight, attention.v_proj.bias
        self.value: Tensor
        self.value_bias: Tensor
        self.register_buffer("value", per_head(value, self.heads).transpose(-1, -2).contiguous())
        self.register_buffer("value_bias", (value @ bias + constant).view(self.heads, 1, -1))

    def shared(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (H, d, P) and values (H, P, d) of K (C, P)."""
        return self.keys.shared(keys), keys.transpose(-1, -2) @ self.value

    def forward(
        self, queries: Tensor, view: ImageView | None, keys: Tensor, values: Tensor
    ) -> Tensor:
        """(N, T, C) of queries (N, T, C)."""
        q = split_heads(self.q_proj(queries), self.heads)
        attention = torch.softmax(self.keys(q, view, keys), dim=-1)
        if view is None:
            seen = attention @ values
        else:
            attention = attention * view.scale.unsqueeze(1)
            on_basis = attention.flatten(1, 2) @ view.weights.transpose(-1, -2) @ view.basis
            seen = attention @ values + on_basis.unflatten(1, (self.heads, -1)) @ self.value
        return self.out_proj(join_heads(seen + self.value_bias))


class ImageToToken(nn.Module):
    """Cross attention of the image to tokens, up to the product of its weights and values."""

    def __init__(self, attention: Attention, position: Tensor, bias: Tensor, *, is_first: bool):
        """`position` (C, P) encoding, `bias` (C,) of the features."""
        super().__init__()
        self.heads = attention.num_heads
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj
        q_proj = scaled_query(attention)
        query = per_head(q_proj.weight, self.heads)
        constant = query @ position + (q_proj.weight @ bias + q_proj.bias).view(self.heads, -1, 1)
        self.queries = ImageProjection(query, constant, is_first=is_first)

    def forward(
        self, tokens: Tensor, values: Tensor, view: ImageView | None, queries: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens and values (N, T, C) to weights (N, H T, P) and head values (N, H, T, d + 1)."""
        k = split_heads(self.k_proj(tokens), self.heads)
        v = split_heads(self.v_proj(values), self.heads)
        weights = softmax_over_tokens(self.queries(k, view, queries)).flatten(1, 2)
        return weights, torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)


class ImageNorm(nn.Module):
    """LayerNorm of the features plus what they took from the tokens."""

    def __init__(self, norm: nn.LayerNorm, spans: Tensor):
        """`spans` (R / T, d + 1, C): basis = values @ spans."""
        super().__init__()
        self.eps = norm.eps
        self.gain: Tensor
        self.spans: Tensor
        self.register_buffer("gain", norm.weight)
        self.register_buffer("spans", spans - spans.mean(dim=-1, keepdim=True))

    def shared(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of K (C, P): twice its products with the spans (R / T, d + 1, P) over C, its variance
        (1, P), and the next K."""
        keys = keys - keys.mean(dim=0, keepdim=True)
        cross = self.spans @ keys * (2 / keys.shape[0])
        return cross, keys.square().mean(dim=0, keepdim=True), keys * self.gain[:, None]

    def forward(
        self,
        view: ImageView | None,
        weights: Tensor,
        values: Tensor,
        cross: Tensor,
        variance: Tensor,
    ) -> ImageView:
        """Features after weights (N, H T, P) of values (N, H, T, d + 1) were added."""
        eps: Tensor | float = self.eps
        if view is not None:
            # What is divided by the scale needs no scale, but for the epsilon.
            inverse = 1 / view.scale
            weights = torch.cat([view.weights, weights * inverse], dim=1)
            values = torch.cat([view.values, values], dim=1)
            eps = self.eps * inverse * inverse
        basis = (values @ self.spans).flatten(1, 2)
        gram = basis @ basis.transpose(-1, -2) / basis.shape[-1]
        products = gram @ weights + (values @ cross).flatten(1, 2)
        variance = variance + (weights * products).sum(dim=1, keepdim=True)
        # Rounding could take a variance of nearly zero below it.
        scale = torch.rsqrt(torch.relu(variance) + eps)
        return ImageView(scale, weights, basis * self.gain, values)


class SharedLayer(NamedTuple):
    """What a layer's prompts need of K (C, P)."""

    keys: Tensor
    """(H, d, P) for the tokens"""
    values: Tensor
    """(H, P, d) for the tokens"""
    queries: Tensor
    """(H, d, P) of the image"""
    cross: Tensor
    """(R / T, d + 1, P) see ImageNorm.shared"""
    variance: Tensor
    """(1, P)"""


class Layer(nn.Module):
    """One `TwoWayAttentionBlock`."""

    norm: ImageNorm
    bias: Tensor

    def __init__(self, block: TwoWayAttentionBlock, position: Tensor, before: Layer | None):
        """`position` (C, P) encoding, `before` the layer before."""
        super().__init__()
        is_first = before is None
        bias = torch.zeros(position.shape[0]) if before is None else before.bias
        to_image, to_token = block.cross_attn_token_to_image, block.cross_attn_image_to_token
        self.block = block
        self.token_to_image = TokenToImage(to_image, position, bias, is_first=is_first)
        self.image_to_token = ImageToToken(to_token, position, bias, is_first=is_first)
        heads = to_token.num_heads
        # The weights of a head sum to one, so an H-th of a constant in each head's span adds it.
        constant = ((to_token.out_proj.bias + bias) / heads).expand(heads, 1, -1)
        spans = torch.cat([per_head(to_token.out_proj.weight.T, heads), constant], dim=1)
        if before is not None:
            spans = torch.cat([before.norm.spans * before.norm.gain, spans])
        self.norm = ImageNorm(block.norm4, spans)
        self.bias = block.norm4.bias

    def shared(self, keys: Tensor) -> tuple[SharedLayer, Tensor]:
        """What prompts need of K (C, P), and the next layer's K."""
        cross, variance, after = self.norm.shared(keys)
        queries = self.image_to_token.queries.shared(keys)
        return SharedLayer(*self.token_to_image.shared(keys), queries, cross, variance), after

    def forward(
        self, queries: Tensor, query_pe: Tensor, view: ImageView | None, shared: SharedLayer
    ) -> tuple[Tensor, ImageView]:
        """Queries (N, T, C) and the prompts' view of the image to the same after this layer."""
        block = self.block
        queries = self_attention(block, queries, query_pe)
        seen = self.token_to_image(queries + query_pe, view, shared.keys, shared.values)
        queries = block.norm2(queries + seen)
        queries = block.norm3(queries + block.mlp(queries))
        taken = self.image_to_token(queries + query_pe, queries, view, shared.queries)
        return queries, self.norm(view, *taken, shared.cross, shared.variance)


class PromptsDecoder(nn.Module):
    """`everything_prompts.onnx`: one point a prompt, masks that pass the predicted IoU alone."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder):
        super().__init__()
        position = prompts.get_dense_pe()[0].flatten(1)
        self.tokens = PromptTokens(prompts, decoder)
        self.heads = TokenHeads(decoder, range(1, decoder.num_mask_tokens))
        layers: list[Layer] = []
        for block in decoder.transformer.layers:
            layers.append(Layer(block, position, layers[-1] if layers else None))
        self.layers = nn.ModuleList(layers)
        bias = layers[-1].bias
        final = decoder.transformer.final_attn_token_to_image
        self.final = TokenToImage(final, position, bias, is_first=False)
        self.upscaling = MaskUpscaling(decoder, prompts.image_embedding_size)
        first = self.upscaling.first
        self.first_bias: Tensor
        self.register_buffer("first_bias", first.weight @ bias + first.bias)

    def forward(
        self, point_coords: Tensor, pred_iou_thresh: Tensor, *shared: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (K, 4 h, 4 w), predicted IoU (K,) and prompt (K,) int64 of K surviving masks.

        Args:
            point_coords: (N, 2) XY in pixels of the encoder's input, foreground points.
            pred_iou_thresh: () masks with a predicted IoU above it survive.
            shared: what `SharedImage` gives for the photo.
        """
        foreground = torch.ones_like(point_coords[:, :1])
        coords = torch.stack([point_coords, torch.zeros_like(point_coords)], dim=1)
        tokens = self.tokens(coords, torch.cat([foreground, -foreground], dim=1))
        queries, view = self._transformed(tokens, shared[:-1])
        weights, iou = self.heads(queries)
        keep = iou > pred_iou_thresh
        prompts = keep.any(dim=1).nonzero()[:, 0]
        kept = ImageView(*(part.index_select(0, prompts) for part in view))
        masks = self._upscaled(kept, weights.index_select(0, prompts), shared[-1]).flatten(0, 1)
        survivors = keep.index_select(0, prompts).flatten().nonzero()[:, 0]
        logits = self.upscaling.shuffle(masks.index_select(0, survivors))
        flat = keep.flatten().nonzero()[:, 0]
        owner = torch.div(flat, keep.shape[1], rounding_mode="floor")
        return logits, iou.flatten().index_select(0, flat), owner

    def _transformed(self, tokens: Tensor, shared: tuple[Tensor, ...]) -> tuple[Tensor, ImageView]:
        """Tokens (N, T, C) to those to read (N, 1 + M, C) and the prompts' view of the image."""
        each = len(SharedLayer._fields)
        queries = tokens
        view: ImageView | None = None
        for index, layer in enumerate(self.layers):
            mine = SharedLayer(*shared[index * each : (index + 1) * each])
            queries, view = layer(queries, tokens, view, mine)
        assert view is not None  # a transformer has layers
        queries, query_pe = self.heads.read_out(queries), self.heads.read_out(tokens)
        return queries + self.final(queries + query_pe, view, *shared[-2:]), view

    def _upscaled(self, view: ImageView, masks: Tensor, shared: Tensor) -> Tensor:
        """Logits (K, M, 16 P) for mask weights (K, M, C / 8); shared is (P, C)."""
        first = view.basis @ self.upscaling.first.weight.T
        bias = self.first_bias.expand(first.shape[0], 1, -1)
        weights = torch.cat([view.weights, 1 / view.scale], dim=1)
        x = weights.transpose(-1, -2) @ torch.cat([first, bias], dim=1)
        x = (x + shared) * view.scale.transpose(-1, -2)
        return self.upscaling.after_first(x, masks)


class SharedImage(nn.Module):
    """`everything_image.onnx`: what all prompts of a photo share, once a photo."""

    def __init__(self, prompts: PromptEncoder, decoder: PromptsDecoder):
        super().__init__()
        self.no_mask, self.decoder = prompts.no_mask_embed, decoder

    def names(self) -> list[str]:
        """Of the outputs, in order."""
        layers = range(len(self.decoder.layers))
        of_layers = [f"layer{i}_{field}" for i in layers for field in SharedLayer._fields]
        return [*of_layers, "final_keys", "final_values", "upscaling"]

    def forward(self, image_embeddings: Tensor) -> tuple[Tensor, ...]:
        """All that `PromptsDecoder` needs of image embeddings (1, C, h, w)."""
        keys = (image_embeddings + self.no_mask.weight.view(1, -1, 1, 1)).flatten(2)[0]
        of_layers: list[Tensor] = []
        for layer in self.decoder.layers:
            assert isinstance(layer, Layer)
            shared, keys = layer.shared(keys)
            of_layers += shared
        upscaling = keys.transpose(-1, -2) @ self.decoder.upscaling.first.weight.T
        return (*of_layers, *self.decoder.final.shared(keys), upscaling)


class EverythingDecoder(nn.Module):
    """`everything.onnx`: both in one graph, for few prompts or programs that want one call."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder):
        super().__init__()
        self.prompts = PromptsDecoder(prompts, decoder)
        self.image = SharedImage(prompts, self.prompts)

    def forward(
        self, image_embeddings: Tensor, point_coords: Tensor, pred_iou_thresh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `PromptsDecoder.forward` and `SharedImage.forward`."""
        return self.prompts(point_coords, pred_iou_thresh, *self.image(image_embeddings))
