"""The demo networks: a small Segment Anything and a small CAM classifier."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from samrefine_export.demo.scenes import CLASSES
from samrefine_export.sam.tiny_vit import PIXEL_MEAN, PIXEL_STD
from samrefine_export.third_party import (
    LayerNorm2d,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

IMAGE_SIZE = 192
"""Side of the SAM encoder's square input, pixels."""
STRIDE = 8
"""Image pixels per position of the SAM's embedding and of the classifier's maps."""
DIM = 96
"""Channels of the embedding."""
CAM_SIZE = 256
"""Longest side the classifier is made for, pixels."""


def _conv(
    into: int, out: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    pad = dilation * (kernel // 2)
    conv = nn.Conv2d(into, out, kernel, stride, pad, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class InvertedBottleneck(nn.Module):
    """Inverted residual bottleneck: (B, into, H, W) to (B, out, H/stride, W/stride)."""

    def __init__(
        self, into: int, out: int, stride: int = 1, expand: int = 3, dilation: int = 1
    ) -> None:
        super().__init__()
        wide = into * expand
        self.widen = _conv(into, wide, 1)
        self.depthwise = _conv(wide, wide, 3, stride, wide, dilation)
        self.narrow = _conv(wide, out, 1)
        self.residual = into == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, out, H/stride, W/stride)."""
        y = self.narrow(F.relu(self.depthwise(F.relu(self.widen(x)))))
        return x + y if self.residual else y


class FusedConv(nn.Module):
    """Residual 3x3 then 1x1 convolution (B, C, H, W): faster than a bottleneck at few channels."""

    def __init__(self, dim: int, expand: int = 2) -> None:
        super().__init__()
        self.widen = _conv(dim, dim * expand, 3)
        self.narrow = _conv(dim * expand, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the input's shape."""
        return x + self.narrow(F.relu(self.widen(x)))


class AttentionBlock(nn.Module):
    """TinyViT block (B, C, H, W): attention over all positions, depthwise convolution, MLP."""

    def __init__(self, dim: int, heads: int, ratio: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.local = _conv(dim, dim, 3, groups=dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim)
        )

    def attend(self, x: Tensor) -> Tensor:
        """Let tokens (B, N, C) attend to each other."""
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the input's shape."""
        b, c, h, w = x.shape
        x = x + self.local(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attend(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).reshape(b, c, h, w)


class TinyEncoder(nn.Module):
    """Image encoder: (B, 3, S, S) normalised to (B, DIM, S/8, S/8).

    Convolutions to stride 8, attention over the whole image at stride 16, and SAM's neck on both.
    Nothing in it depends on the image size, so it trains small and finishes large.
    """

    def __init__(
        self, img_size: int = IMAGE_SIZE, widths: tuple[int, int, int, int] = (24, 40, 96, 128)
    ) -> None:
        super().__init__()
        self.img_size = img_size
        w2, w4, w8, w16 = widths
        self.stem = nn.Sequential(_conv(3, w2, 3, 2), nn.ReLU(), _conv(w2, w4, 3, 2), nn.ReLU())
        self.stage4 = nn.Sequential(FusedConv(w4), FusedConv(w4))
        self.stage8 = nn.Sequential(
            InvertedBottleneck(w4, w8, 2), *(InvertedBottleneck(w8, w8) for _ in range(3))
        )
        self.down = InvertedBottleneck(w8, w16, 2)
        self.stage16 = nn.Sequential(*(AttentionBlock(w16, 4) for _ in range(3)))
        self.up = nn.Conv2d(w16, w8, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(w8, DIM, 1, bias=False),
            LayerNorm2d(DIM),
            nn.Conv2d(DIM, DIM, 3, padding=1, bias=False),
            LayerNorm2d(DIM),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding (B, DIM, S/8, S/8)."""
        fine = self.stage8(self.stage4(self.stem(x)))
        coarse = self.up(self.stage16(self.down(fine)))
        return self.neck(fine + F.interpolate(coarse, scale_factor=2.0, mode="nearest"))


def build_demo_sam(image_size: int = IMAGE_SIZE) -> Sam:
    """Build the demo SAM, untrained: smaller, with segment-anything's decoder classes.

    Weights fit any `image_size` that is a multiple of 16.
    """
    side = image_size // STRIDE
    transformer = TwoWayTransformer(depth=2, embedding_dim=DIM, mlp_dim=256, num_heads=4)
    return Sam(
        image_encoder=TinyEncoder(image_size),
        prompt_encoder=PromptEncoder(
            embed_dim=DIM,
            image_embedding_size=(side, side),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=transformer,
            transformer_dim=DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=128,
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    )


class DemoClassifier(nn.Module):
    """Image-level classifier whose last convolution is its class activation map.

    Input (B, 3, h, w): RGB in [0, 1] after ImageNet mean and standard deviation, any size.
    """

    def __init__(self, classes: int, widths: tuple[int, int, int] = (24, 32, 88)) -> None:
        super().__init__()
        w2, w4, w8 = widths
        self.stem = nn.Sequential(_conv(3, w2, 3, 2), nn.ReLU(), _conv(w2, w4, 3, 2), nn.ReLU())
        self.stage4 = FusedConv(w4)
        self.stage8 = nn.Sequential(
            InvertedBottleneck(w4, w8, 2),
            *(InvertedBottleneck(w8, w8, dilation=reach) for reach in (1, 2, 4, 1)),
        )
        self.classifier = nn.Conv2d(w8, classes, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return raw maps (B, C, ceil(h/8), ceil(w/8)) and logits (B, C), the maps' mean."""
        cam = self.classifier(F.relu(self.stage8(self.stage4(self.stem(x)))))
        return cam, cam.mean(dim=(2, 3))


def build_demo_classifier(classes: int = len(CLASSES)) -> DemoClassifier:
    """Build the demo CAM classifier, untrained."""
    return DemoClassifier(classes)
