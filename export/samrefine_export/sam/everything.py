"""Everything mode's decoder: the image's channels are touched once per image, not per prompt.

All prompts of an image see the same features X (C, P), and what a prompt changes in them has few
degrees of freedom. Attention of the image to T = 7 tokens adds, at every position, a mixture of
H T = 56 vectors; LayerNorm is linear up to one factor per position. So for each prompt the image
features after layer l are

    scale * (K + basis^T weights) + bias,

K (C, P) and bias the same for all prompts, scale (1, P), basis (R, C) and weights (R, P) the
prompt's own, R = 56 l. `SharedImage` projects K once per image. `PointDecoder` then works with R
rows instead of C channels:

* a projection of the features is that of K, looked up, plus one of the basis, 56 vectors;
* the variance that LayerNorm divides by is a quadratic form in the weights.

It ends where the predicted IoU is known. Whoever runs the graphs drops masks by it, and
`PointUpscaling` makes the rest: it begins with the weights (R to C channels). So no graph has a
shape that depends on values, which not every engine takes.

The same function as segment-anything's `MaskDecoder` up to rounding.

In shapes below N is the prompts, T the tokens of each, C the channels, P = h w the positions of
the image embedding, H the heads, d the channels of a head, R the rows of the basis, M the masks of
a prompt. What comes out for the surviving masks of all prompts has S of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from samrefine_export.sam.attention import (
    join_heads,
    per_head,
    scaled_query,
    self_attention,
    softmax_over_tokens,
    split_heads,
)
from samrefine_export.sam.decoder import MaskUpscaling, PromptTokens, TokenHeads
from samrefine_export.third_party import (
    Attention,
    MaskDecoder,
    PromptEncoder,
    TwoWayAttentionBlock,
)


class ImageView(NamedTuple):
    """How prompts see the image: scale * (K + basis^T weights) + bias."""

    scale: Tensor
    """(N, 1, P)."""
    weights: Tensor
    """(N, R, P)."""
    basis: Tensor
    """(N, R, C)."""
    values: Tensor
    """(N, R / T, T, d + 1): token values by layer and head with a one, the basis before `spans`."""


class LayerTensors(NamedTuple):
    """What the prompts need of K (C, P) in one layer."""

    keys: Tensor
    """(H, d, P), for the tokens' attention to the image."""
    values: Tensor
    """(H, P, d), for the tokens' attention to the image."""
    queries: Tensor
    """(H, d, P), for the image's attention to the tokens."""
    cross: Tensor
    """(R / T, d + 1, P), twice the mean product with the spans; see `SharedImageNorm.shared`."""
    variance: Tensor
    """(1, P), of K over its channels."""


class SharedTensors(NamedTuple):
    """What `PointDecoder` needs of an image for all its prompts."""

    layers: tuple[LayerTensors, ...]
    final_keys: Tensor
    """(H, d, P), for the last attention of the tokens to the image."""
    final_values: Tensor
    """(H, P, d), for the last attention of the tokens to the image."""

    @staticmethod
    def names(layers: int) -> list[str]:
        """Return the names of the tensors of so many layers, in the order of `flat`."""
        of_layers = [f"layer{i}_{field}" for i in range(layers) for field in LayerTensors._fields]
        return [*of_layers, *SharedTensors._fields[1:]]

    def flat(self) -> tuple[Tensor, ...]:
        """Return all tensors side by side, as graphs take them."""
        of_layers = (tensor for layer in self.layers for tensor in layer)
        return (*of_layers, self.final_keys, self.final_values)

    @classmethod
    def from_flat(cls, tensors: Sequence[Tensor]) -> SharedTensors:
        """Undo `flat`."""
        *of_layers, final_keys, final_values = tensors
        fields = len(LayerTensors._fields)
        starts = range(0, len(of_layers), fields)
        layers = tuple(LayerTensors(*of_layers[start : start + fields]) for start in starts)
        return cls(layers, final_keys, final_values)


class PointOutputs(NamedTuple):
    """What becomes of the prompts: the outputs of `PointDecoder`."""

    scale: Tensor
    """(N, 1, P), of the prompt's view, as the next two."""
    weights: Tensor
    """(N, R, P)."""
    basis: Tensor
    """(N, R, C)."""
    mask_weights: Tensor
    """(N, M, C / 8), see `TokenHeads`."""
    iou_predictions: Tensor
    """(N, M)."""


class ImageProjection(nn.Module):
    """Multiplies token vectors with a projection W of image features + position encoding.

    W (scale * (K + basis^T weights) + bias + pe) = scale * (W K + W basis^T weights) + constant.
    """

    def __init__(self, weight: Tensor, constant: Tensor, *, is_first: bool):
        """Take the projection and its constant part.

        Args:
            weight: W by head, (H, d, C).
            constant: (H, d, P), its projection of all that is not scaled.
            is_first: in the first layer, where scale is 1 and the basis empty.
        """
        super().__init__()
        self.is_first = is_first
        self.weight: Tensor
        self.constant: Tensor
        self.register_buffer("weight", weight)
        self.register_buffer("constant", constant)

    def shared(self, keys: Tensor) -> Tensor:
        """Return the projection (H, d, P) of K (C, P)."""
        projected = self.weight @ keys
        # Without a scale the constant adds to the same products
        return projected + self.constant if self.is_first else projected

    def forward(self, vectors: Tensor, view: ImageView | None, shared: Tensor) -> Tensor:
        """Return products (N, H, T, P) of vectors (N, H, T, d) with the prompts' views."""
        if view is None:
            return vectors @ shared
        heads = self.weight.shape[0]
        # on_basis (N, H T, R) = vectors W basis^T
        on_basis = (vectors @ self.weight).flatten(1, 2) @ view.basis.transpose(-1, -2)
        # products (N, H T, P) = scale * (vectors W K + on_basis weights) + vectors constant
        products = (vectors @ shared).flatten(1, 2) + on_basis @ view.weights
        products = products * view.scale + (vectors @ self.constant).flatten(1, 2)
        return products.unflatten(1, (heads, -1))


class TokenToSharedImage(nn.Module):
    """Cross attention of tokens to the image."""

    def __init__(self, attention: Attention, position: Tensor, bias: Tensor, *, is_first: bool):
        """Fold `attention` for features of `bias` (C,) at `position` (C, P), the encoding."""
        super().__init__()
        self.heads = attention.num_heads
        self.q_proj, self.out_proj = scaled_query(attention), attention.out_proj
        # The biases of keys and features add the same to a token's score with every position, which
        # cancels in the softmax
        key = per_head(attention.k_proj.weight, self.heads)
        self.keys = ImageProjection(key, key @ position, is_first=is_first)
        value, constant = attention.v_proj.weight, attention.v_proj.bias
        self.value: Tensor
        self.value_bias: Tensor
        self.register_buffer("value", per_head(value, self.heads).transpose(-1, -2).contiguous())
        # value_bias (H, 1, d) = W_v bias + b_v: added once, as the attention sums to one
        self.register_buffer("value_bias", (value @ bias + constant).view(self.heads, 1, -1))

    def shared(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (H, d, P) and values (H, P, d) of K (C, P)."""
        return self.keys.shared(keys), keys.transpose(-1, -2) @ self.value

    def forward(
        self, queries: Tensor, view: ImageView | None, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Return what queries (N, T, C) take from the image, (N, T, C)."""
        q = split_heads(self.q_proj(queries), self.heads)
        # attention (N, H, T, P)
        attention = torch.softmax(self.keys(q, view, keys), dim=-1)
        if view is None:
            seen = attention @ values
        else:
            # attention (scale * (K + basis^T weights))^T = scaled K^T + (scaled weights^T) basis
            attention = attention * view.scale.unsqueeze(1)
            # on_basis (N, H T, C) = scaled weights^T basis
            on_basis = attention.flatten(1, 2) @ view.weights.transpose(-1, -2) @ view.basis
            seen = attention @ values + on_basis.unflatten(1, (self.heads, -1)) @ self.value
        return self.out_proj(join_heads(seen + self.value_bias))


class SharedImageToToken(nn.Module):
    """Cross attention of the image to tokens, up to the product of its weights and values.

    The product would be one image per prompt; `SharedImageNorm` keeps its two factors instead.
    """

    def __init__(self, attention: Attention, position: Tensor, bias: Tensor, *, is_first: bool):
        """Fold `attention` for features of `bias` (C,) at `position` (C, P), the encoding."""
        super().__init__()
        self.heads = attention.num_heads
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj
        q_proj = scaled_query(attention)
        query = per_head(q_proj.weight, self.heads)
        # constant (H, d, P) = W_q pe + W_q bias + b_q
        constant = query @ position + (q_proj.weight @ bias + q_proj.bias).view(self.heads, -1, 1)
        self.queries = ImageProjection(query, constant, is_first=is_first)

    def forward(
        self, tokens: Tensor, values: Tensor, view: ImageView | None, queries: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return weights (N, H T, P) and head values (N, H, T, d + 1) of tokens (N, T, C)."""
        k = split_heads(self.k_proj(tokens), self.heads)
        v = split_heads(self.v_proj(values), self.heads)
        weights = softmax_over_tokens(self.queries(k, view, queries)).flatten(1, 2)
        # The one selects the constant row of the spans, see PointLayer
        return weights, torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)


class ImageScale(nn.Module):
    """What LayerNorm multiplies the features of each position by: the root of their variance."""

    keeps_single = True
    """A small difference of large terms, where prompts change the image a lot."""

    def forward(
        self, weights: Tensor, basis: Tensor, cross: Tensor, variance: Tensor, eps: Tensor | float
    ) -> Tensor:
        """Return scale (N, 1, P) of K + basis^T weights.

        Args:
            weights: (N, R, P).
            basis: (N, R, C).
            cross: (N, R, P), 2 basis K / C.
            variance: (1, P), of K over its channels.
            eps: (N, 1, P), or one for all.
        """
        # gram (N, R, R) = basis basis^T / C: basis^T weights has variance weights^T gram weights
        gram = basis @ basis.transpose(-1, -2) / basis.shape[-1]
        # products (N, R, P) = gram weights + 2 basis K / C
        products = gram @ weights + cross
        # variance (N, 1, P) of K + basis^T weights = variance of K + weights^T products
        variance = variance + (weights * products).sum(dim=1, keepdim=True)
        # Rounding could make a variance of nearly zero negative
        return torch.rsqrt(torch.relu(variance) + eps)


class SharedImageNorm(nn.Module):
    """LayerNorm of the features plus what they took from the tokens.

    Its bias is not part of the view: it is the next layer's `bias`.
    """

    def __init__(self, norm: nn.LayerNorm, spans: Tensor):
        """Take `spans` (R / T, d + 1, C), which make the basis: basis = values spans."""
        super().__init__()
        self.eps = norm.eps
        self.scale = ImageScale()
        self.gain: Tensor
        self.spans: Tensor
        self.register_buffer("gain", norm.weight)
        # Centred over the channels, as K is in `shared`: their sums have mean zero then
        self.register_buffer("spans", spans - spans.mean(dim=-1, keepdim=True))

    def shared(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `cross` and `variance` of `LayerTensors`, and the next K, for K (C, P)."""
        keys = keys - keys.mean(dim=0, keepdim=True)
        # cross (R / T, d + 1, P) = 2 spans K / C: the mixed term of the variance
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
        """Return the view after weights (N, H T, P) of values (N, H, T, d + 1) were added.

        Args:
            view: before, None in the first layer.
            weights: of the image's attention to the tokens.
            values: of the tokens.
            cross: see `LayerTensors`.
            variance: see `LayerTensors`.
        """
        eps: Tensor | float = self.eps
        if view is not None:
            # scale * (K + basis^T weights) + new = scale * (K + basis^T weights + new / scale), and
            # LayerNorm ignores the factor scale, but for its epsilon: eps becomes eps / scale^2
            inverse = 1 / view.scale
            weights = torch.cat([view.weights, weights * inverse], dim=1)
            values = torch.cat([view.values, values], dim=1)
            eps = self.eps * inverse * inverse
        # basis (N, R, C) = values spans
        basis = (values @ self.spans).flatten(1, 2)
        scale = self.scale(weights, basis, (values @ cross).flatten(1, 2), variance, eps)
        return ImageView(scale, weights, basis * self.gain, values)


class PointLayer(nn.Module):
    """One `TwoWayAttentionBlock` for prompts that share the image."""

    norm: SharedImageNorm
    bias: Tensor

    def __init__(self, block: TwoWayAttentionBlock, position: Tensor, before: PointLayer | None):
        """Rewrite `block` for images at `position` (C, P), the encoding, after layer `before`."""
        super().__init__()
        is_first = before is None
        bias = torch.zeros(position.shape[0]) if before is None else before.bias
        to_image, to_token = block.cross_attn_token_to_image, block.cross_attn_image_to_token
        self.block = block
        self.token_to_image = TokenToSharedImage(to_image, position, bias, is_first=is_first)
        self.image_to_token = SharedImageToToken(to_token, position, bias, is_first=is_first)
        heads = to_token.num_heads
        # spans (H, d + 1, C): a head's part of W_o, then its part of what is constant. A head's
        # weights sum to one, so 1 / H of the constant in each head's span adds up to it.
        constant = ((to_token.out_proj.bias + bias) / heads).expand(heads, 1, -1)
        spans = torch.cat([per_head(to_token.out_proj.weight.T, heads), constant], dim=1)
        if before is not None:
            # The view's values were added before the last norm, which multiplied them by its gain
            spans = torch.cat([before.norm.spans * before.norm.gain, spans])
        self.norm = SharedImageNorm(block.norm4, spans)
        self.bias = block.norm4.bias

    def shared(self, keys: Tensor) -> tuple[LayerTensors, Tensor]:
        """Return what prompts need of K (C, P), and the next layer's K."""
        cross, variance, after = self.norm.shared(keys)
        queries = self.image_to_token.queries.shared(keys)
        return LayerTensors(*self.token_to_image.shared(keys), queries, cross, variance), after

    def forward(
        self, queries: Tensor, query_pe: Tensor, view: ImageView | None, shared: LayerTensors
    ) -> tuple[Tensor, ImageView]:
        """Return queries (N, T, C) and the prompts' view of the image after this layer."""
        block = self.block
        # Tokens attend to each other, then to the image, then pass the MLP
        queries = self_attention(block, queries, query_pe)
        seen = self.token_to_image(queries + query_pe, view, shared.keys, shared.values)
        queries = block.norm2(queries + seen)
        queries = block.norm3(queries + block.mlp(queries))
        # The image attends to the tokens
        taken = self.image_to_token(queries + query_pe, queries, view, shared.queries)
        return queries, self.norm(view, *taken, shared.cross, shared.variance)


class PointDecoder(nn.Module):
    """The graph `everything_tokens.onnx`: one point per prompt, up to its predicted IoU."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder):
        super().__init__()
        position = prompts.get_dense_pe()[0].flatten(1)
        self.tokens = PromptTokens(prompts, decoder)
        # Everything mode wants the alternatives, not mask 0, which is for unambiguous prompts
        self.heads = TokenHeads(decoder, range(1, decoder.num_mask_tokens))
        layers: list[PointLayer] = []
        for block in decoder.transformer.layers:
            layers.append(PointLayer(block, position, layers[-1] if layers else None))
        self.layers = nn.ModuleList(layers)
        self.bias = layers[-1].bias
        final = decoder.transformer.final_attn_token_to_image
        self.final = TokenToSharedImage(final, position, self.bias, is_first=False)

    def forward(self, point_coords: Tensor, *shared: Tensor) -> PointOutputs:
        """Decode prompts up to the weights of their masks and the predicted IoU.

        Args:
            point_coords: (N, 2) XY in pixels of the encoder's input, foreground points.
            shared: the image's `SharedTensors`, flat.
        """
        of_image = SharedTensors.from_flat(shared)
        queries, view = self._transformed(self._point_tokens(point_coords), of_image)
        mask_weights, iou = self.heads(queries)
        return PointOutputs(view.scale, view.weights, view.basis, mask_weights, iou)

    def shared(self, keys: Tensor) -> tuple[SharedTensors, Tensor]:
        """Return what prompts need of K (C, P) of the first layer, and K after the last layer."""
        layers: list[LayerTensors] = []
        for layer in self.layers:
            assert isinstance(layer, PointLayer)
            of_layer, keys = layer.shared(keys)
            layers.append(of_layer)
        return SharedTensors(tuple(layers), *self.final.shared(keys)), keys

    def _point_tokens(self, point_coords: Tensor) -> Tensor:
        """Return tokens (N, T, C) of one foreground point (N, 2) per prompt."""
        # `PromptEncoder` adds a padding point at the origin where there is no box
        foreground = torch.ones_like(point_coords[:, :1])
        coords = torch.stack([point_coords, torch.zeros_like(point_coords)], dim=1)
        return self.tokens(coords, torch.cat([foreground, -foreground], dim=1))

    def _transformed(self, tokens: Tensor, shared: SharedTensors) -> tuple[Tensor, ImageView]:
        """Return the tokens to read (N, 1 + M, C) and the prompts' view of the image."""
        # The first tokens serve as the position encoding of the tokens in every layer
        queries = tokens
        view: ImageView | None = None
        for layer, of_layer in zip(self.layers, shared.layers, strict=True):
            queries, view = layer(queries, tokens, view, of_layer)
        assert view is not None  # a transformer has layers
        # The last attention is computed only for tokens that are read
        queries, query_pe = self.heads.read_out(queries), self.heads.read_out(tokens)
        seen = self.final(queries + query_pe, view, shared.final_keys, shared.final_values)
        return queries + seen, view


class PointUpscaling(nn.Module):
    """The graph `everything_masks.onnx`: the chosen masks of `PointDecoder`'s prompts."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder, bias: Tensor):
        """Rewrite the upscaling for features of `bias` (C,), what K lacks after the last layer."""
        super().__init__()
        self.upscaling = MaskUpscaling(decoder, prompts.image_embedding_size)
        first = self.upscaling.first
        self.first_bias: Tensor
        self.register_buffer("first_bias", first.weight @ bias + first.bias)

    def forward(
        self,
        scale: Tensor,
        weights: Tensor,
        basis: Tensor,
        mask_weights: Tensor,
        upscaling: Tensor,
        prompt: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """Return low-res logits (S, 4 h, 4 w).

        All masks of a prompt share its features, so prompts are chosen first.

        Args:
            scale: (N, 1, P), see `PointOutputs`, as the next three.
            weights: (N, R, P).
            basis: (N, R, C).
            mask_weights: (N, M, C / 8).
            upscaling: (P, C), see `shared`.
            prompt: (K,) int64, which prompts have a mask to make.
            mask: (S,) int64, which of their K M masks to make.
        """
        # Upscale the chosen prompts, all their masks at once
        scale, weights, basis, mask_weights = (
            part.index_select(0, prompt) for part in (scale, weights, basis, mask_weights)
        )
        x = self._first(scale, weights, basis, upscaling)
        logits = self.upscaling.after_first(x, mask_weights).flatten(0, 1)
        # Shuffle the chosen masks only into place
        return self.upscaling.shuffle(logits.index_select(0, mask))

    def shared(self, keys: Tensor) -> Tensor:
        """Return the first convolution (P, C) of K (C, P), as a product."""
        return keys.transpose(-1, -2) @ self.upscaling.first.weight.T

    def _first(self, scale: Tensor, weights: Tensor, basis: Tensor, shared: Tensor) -> Tensor:
        """Return the first convolution (N, P, C) of the prompts' views of the image."""
        # first (N, R, C) = basis W^T of the first convolution W
        first = basis @ self.upscaling.first.weight.T
        # The bias is a further row of the basis; its weight 1 / scale undoes the scale below
        bias = self.first_bias.expand(first.shape[0], 1, -1)
        weights = torch.cat([weights, 1 / scale], dim=1)
        # x (N, P, C) = scale * (K^T W^T + weights^T basis W^T) + bias
        x = weights.transpose(-1, -2) @ torch.cat([first, bias], dim=1)
        return (x + shared) * scale.transpose(-1, -2)


class SharedImage(nn.Module):
    """The graph `everything_image.onnx`: what all prompts of an image share, once per image."""

    def __init__(self, prompts: PromptEncoder, points: PointDecoder, masks: PointUpscaling):
        super().__init__()
        self.no_mask, self.points, self.masks = prompts.no_mask_embed, points, masks

    def forward(self, image_embeddings: Tensor) -> tuple[Tensor, ...]:
        """Return what the other two graphs need of image embeddings (1, C, h, w).

        Returns:
            `SharedTensors`, flat, and `PointUpscaling.shared`.
        """
        # K of the first layer (C, P): prompts without a mask take the learnt "no mask"
        keys = (image_embeddings + self.no_mask.weight.view(1, -1, 1, 1)).flatten(2)[0]
        shared, keys = self.points.shared(keys)
        return (*shared.flat(), self.masks.shared(keys))


class EverythingDecoder(NamedTuple):
    """The three graphs of everything mode's decoder."""

    image: SharedImage
    points: PointDecoder
    masks: PointUpscaling

    @classmethod
    def of(cls, prompts: PromptEncoder, decoder: MaskDecoder) -> EverythingDecoder:
        """Rewrite SAM's prompt encoder and mask decoder."""
        points = PointDecoder(prompts, decoder)
        masks = PointUpscaling(prompts, decoder, points.bias)
        return cls(SharedImage(prompts, points, masks), points, masks)
