"""Small SAMs from segment-anything's own classes, with seeded random weights."""

from __future__ import annotations

from functools import partial

import torch

from samrefine_export.sam import random_sam
from samrefine_export.sam.tiny_vit import PIXEL_MEAN, PIXEL_STD
from samrefine_export.third_party import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)


def build_small_sam(size: int = 256, dim: int = 32) -> Sam:
    """A ViT SAM with windowed and global attention at `size` pixels."""
    side = size // 16
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=size,
            patch_size=16,
            embed_dim=48,
            depth=3,
            num_heads=3,
            mlp_ratio=2,
            out_chans=dim,
            qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=6,
            global_attn_indexes=(2,),
        ),
        prompt_encoder=PromptEncoder(dim, (side, side), (size, size), 8),
        mask_decoder=MaskDecoder(
            transformer_dim=dim,
            transformer=TwoWayTransformer(2, dim, 4, 64),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=32,
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    )


def small_sam(seed: int = 0) -> Sam:
    """`build_small_sam` with perturbed random weights, in evaluation mode.

    Purely random attention hardly looks at the prompt. Tying its keys to its queries makes a
    token attend to positions that resemble its own, so that masks differ from point to point;
    scaled heads spread logits over several units and predicted IoU over [0, 1].
    """
    sam = random_sam(build_small_sam, seed)
    transformer = sam.mask_decoder.transformer
    cross = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        cross += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in cross:
        attention.q_proj.weight.data *= 4
        attention.k_proj.weight.data.copy_(attention.q_proj.weight.data)
        attention.v_proj.weight.data *= 3
        attention.out_proj.weight.data *= 3
    for mlp in sam.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight.data *= 60
    sam.mask_decoder.iou_prediction_head.layers[-1].weight.data *= 2
    sam.mask_decoder.iou_prediction_head.layers[-1].bias.data += 0.6
    return sam
