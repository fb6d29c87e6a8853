"""MobileSAM in torch: a TinyViT image encoder in front of SAM's prompt encoder and mask decoder.

TinyViT: Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", 2022.
MobileSAM: Zhang et al., "Faster Segment Anything: Towards Lightweight SAM for Mobile
Applications", 2023; it keeps the last stage at stride 16 and ends in SAM's neck.

Inference only: stochastic depth and dropout, which are off in MobileSAM, are left out. Parameter
names are those of the official `mobile_sam.pt`, which loads strictly. Spatial sizes are Python
ints fixed when the module is built and the batch is always `-1`, so a traced graph computes no
shapes. In shapes below B is the batch, h and w the sides of a stage, C its channels.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from samrefine_export.sam.norms import ChannelNorm, channels_first, channels_last
from samrefine_export.third_party import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""ImageNet's RGB mean and standard deviation on a scale of 0 to 255, as `build_sam` has them."""

_STRIDES = (4, 8, 16, 16)
"""Image pixels per position of each stage; MobileSAM leaves out the step to 32."""
_EXPANSION = 4
"""Hidden channels over outer ones in convolution blocks and MLPs, as in TinyViT."""
_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class TinyViTSizes:
    """Sizes of the encoder, one entry per stage; the defaults are MobileSAM's."""

    img_size: int = 1024
    """Side of the square input in pixels, a multiple of 16."""
    dims: tuple[int, int, int, int] = (64, 128, 160, 320)
    """Channels of each stage."""
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    """Blocks in each stage."""
    heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    """Attention heads; the first stage is convolutional and ignores its entry."""
    windows: tuple[int, int, int, int] = (7, 7, 14, 7)
    """Side of an attention window in tokens; the first stage ignores its entry."""
    out_channels: int = 256
    """Channels of the embedding, which the prompt encoder and mask decoder share."""

    def __post_init__(self) -> None:
        if self.img_size <= 0 or self.img_size % _STRIDES[-1]:
            raise ValueError(f"img_size is {self.img_size}, expected a positive multiple of 16")
        for dim, heads in zip(self.dims[1:], self.heads[1:], strict=True):
            if dim % heads:
                raise ValueError(f"{dim} channels do not divide among {heads} heads")


MOBILE_SAM = TinyViTSizes()


@dataclass(frozen=True)
class WindowGrid:
    """Cuts a `height` x `width` map into square windows, zero-padded on the right and bottom."""

    height: int
    width: int
    window: int
    channels: int

    @property
    def rows(self) -> int:
        """Number of windows from top to bottom."""
        return -(-self.height // self.window)

    @property
    def columns(self) -> int:
        """Number of windows from left to right."""
        return -(-self.width // self.window)

    def split(self, x: Tensor) -> Tensor:
        """Cut (B,h,w,C) into (B*rows*columns, window*window, C), windows in row-major order."""
        side = self.window
        bottom, right = self.rows * side - self.height, self.columns * side - self.width
        if bottom or right:
            x = F.pad(x, (0, 0, 0, right, 0, bottom))
        x = x.reshape(-1, self.rows, side, self.columns, side, self.channels)
        return x.transpose(2, 3).reshape(-1, side * side, self.channels)

    def join(self, windows: Tensor) -> Tensor:
        """Undo `split`: (B*rows*columns, window*window, C) to (B,h,w,C), without the padding."""
        side = self.window
        x = windows.reshape(-1, self.rows, self.columns, side, side, self.channels)
        x = x.transpose(2, 3).reshape(-1, self.rows * side, self.columns * side, self.channels)
        return x[:, : self.height, : self.width]


class ConvNorm(nn.Sequential):
    """Convolution padded by half its kernel, then batch norm."""

    c: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        super().__init__(OrderedDict(c=conv, bn=nn.BatchNorm2d(outputs)))


class PatchEmbed(nn.Module):
    """Two convolutions from the image to features at stride 4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, dim // 2, 3, stride=2), nn.GELU(), ConvNorm(dim // 2, dim, 3, stride=2)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (B,3,H,W) to (B,C,H/4,W/4)."""
        features: Tensor = self.seq(image)
        return features


class MBConv(nn.Module):
    """Inverted residual bottleneck, 4 times wider inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = _EXPANSION * dim
        self.conv1 = ConvNorm(dim, hidden, 1)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B,C,h,w) to (B,C,h,w)."""
        hidden = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(x + self.conv3(hidden))


class PatchMerging(nn.Module):
    """The step from one stage to the next: other channels, and half the sides at stride 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 1)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride=stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B,C,h,w) to (B,out,h/stride,w/stride)."""
        merged: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return merged


class WindowAttention(nn.Module):
    """Self-attention inside windows of N = window**2 tokens, biased by their distance.

    The layer norm is inside, after the zero padding of `WindowGrid`: padded tokens become the
    norm's bias and take part as keys, as they did in training. No mask hides them.
    """

    attention_bias_idxs: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.head_dim, self.tokens = heads, dim // heads, window * window
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, self.tokens))
        # Derived from the window, so not part of the checkpoint.
        self.register_buffer("attention_bias_idxs", _distance_index(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside windows: map (B,N,C) to (B,N,C), B counting windows."""
        # Each head's q, k and v lie together: (B,N,heads,3*d) -> (B,heads,N,3*d).
        qkv = self.qkv(self.norm(x)).reshape(-1, self.tokens, self.heads, 3 * self.head_dim)
        query, key, value = qkv.transpose(1, 2).split(self.head_dim, dim=-1)
        # Scores (B,heads,N,N), then the mixed values side by side again: (B,N,heads*d)
        scores = (query * self.head_dim**-0.5) @ key.transpose(-2, -1) + self._bias()
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2)
        attended: Tensor = self.proj(mixed.reshape(-1, self.tokens, self.heads * self.head_dim))
        return attended

    def _bias(self) -> Tensor:
        """Return the bias of every pair of tokens, (heads,N,N).

        Gathered at each call, and folded by exporters: a stored copy, as MobileSAM's own code
        keeps, is stale when weights are loaded after `eval()`.
        """
        pairs = self.attention_biases.index_select(1, self.attention_bias_idxs.flatten())
        return pairs.reshape(self.heads, self.tokens, self.tokens)


class Mlp(nn.Module):
    """Layer norm and two linear layers, 4 times wider inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, _EXPANSION * dim)
        self.fc2 = nn.Linear(_EXPANSION * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (...,C) to (...,C)."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return mixed


class TransformerBlock(nn.Module):
    """Window attention, a depthwise 3x3 convolution, then the MLP."""

    def __init__(self, dim: int, side: int, heads: int, window: int) -> None:
        super().__init__()
        self.grid = WindowGrid(side, side, window, dim)
        self.attn = WindowAttention(dim, heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B,C,h,w) to (B,C,h,w)."""
        # Attend inside windows, mix neighbours across them, then the MLP
        tokens = channels_last(x)
        tokens = tokens + self.grid.join(self.attn(self.grid.split(tokens)))
        tokens = channels_last(self.local_conv(channels_first(tokens)))
        return channels_first(tokens + self.mlp(tokens))


class EncoderStage(nn.Module):
    """Blocks of one resolution, then the step to the next stage; the last has none."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map (B,C,h,w) to (B,out,h/stride,w/stride)."""
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """MobileSAM's image encoder: four stages at strides 4, 8, 16 and 16, then SAM's neck."""

    def __init__(self, sizes: TinyViTSizes = MOBILE_SAM) -> None:
        super().__init__()
        self.img_size = sizes.img_size
        self.patch_embed = PatchEmbed(sizes.dims[0])
        self.layers = nn.Sequential(*(_stage(sizes, index) for index in range(len(_STRIDES))))
        # The classifier of the pretraining. Not used here, but the official checkpoint holds it.
        self.norm_head = nn.LayerNorm(sizes.dims[-1])
        self.head = nn.Linear(sizes.dims[-1], _IMAGENET_CLASSES)
        self.neck = nn.Sequential(
            nn.Conv2d(sizes.dims[-1], sizes.out_channels, 1, bias=False),
            ChannelNorm(sizes.out_channels),
            nn.Conv2d(sizes.out_channels, sizes.out_channels, 3, padding=1, bias=False),
            ChannelNorm(sizes.out_channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the embedding (B,256,64,64) of images (B,3,1024,1024), padded and normalised.

        In other sizes it is (B,out_channels,img_size/16,img_size/16) of (B,3,img_size,img_size).
        Both are float32; images are prepared as for SAM.
        """
        embedding: Tensor = self.neck(self.layers(self.patch_embed(image)))
        return embedding


def build_mobile_sam(sizes: TinyViTSizes = MOBILE_SAM) -> Sam:
    """Build MobileSAM in eval mode, untrained; `load_state_dict` takes `mobile_sam.pt`."""
    # All but the encoder is as in segment_anything.build_sam
    dim, side = sizes.out_channels, sizes.img_size // _STRIDES[-1]
    transformer = TwoWayTransformer(depth=2, embedding_dim=dim, mlp_dim=2048, num_heads=8)
    sam = Sam(
        image_encoder=TinyViT(sizes),
        prompt_encoder=PromptEncoder(
            embed_dim=dim,
            image_embedding_size=(side, side),
            input_image_size=(sizes.img_size, sizes.img_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=dim,
            transformer=transformer,
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    )
    return sam.eval()


def fuse_batch_norms(encoder: nn.Module) -> None:
    """Merge every `ConvNorm` under `encoder` into one convolution, in place; exact to rounding.

    The encoder must be in eval mode. Its state dict no longer has the checkpoint's keys.
    """
    if encoder.training:
        raise ValueError("batch norms can only be merged in eval mode: call eval() first")
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                setattr(module, name, fuse_conv_bn_eval(child.c, child.bn))


def _stage(sizes: TinyViTSizes, index: int) -> EncoderStage:
    dim, depth, stride = sizes.dims[index], sizes.depths[index], _STRIDES[index]
    blocks: list[nn.Module]
    if index == 0:
        blocks = [MBConv(dim) for _ in range(depth)]
    else:
        side, heads, window = sizes.img_size // stride, sizes.heads[index], sizes.windows[index]
        blocks = [TransformerBlock(dim, side, heads, window) for _ in range(depth)]
    if index == len(_STRIDES) - 1:
        return EncoderStage(blocks, None)
    step = PatchMerging(dim, sizes.dims[index + 1], _STRIDES[index + 1] // stride)
    return EncoderStage(blocks, step)


def _distance_index(window: int) -> Tensor:
    """Return the index (N,N) of the bias that each pair of tokens takes.

    It is |row distance| * window + |column distance|.
    """
    place = torch.arange(window * window)
    row, column = place // window, place % window
    rows = (row[:, None] - row[None, :]).abs()
    columns = (column[:, None] - column[None, :]).abs()
    return rows * window + columns
