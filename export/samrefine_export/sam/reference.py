"""segment-anything's everything mode, run also where torchvision's operators do not load."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samrefine_export.third_party import Sam, SamAutomaticMaskGenerator, torchvision


def everything(sam: Sam, image: NDArray[np.uint8], **settings: Any) -> list[dict[str, Any]]:
    """Return the records of SamAutomaticMaskGenerator for an image (H, W, 3) RGB.

    Args:
        sam: in evaluation mode.
        image: of any shape.
        settings: keywords of SamAutomaticMaskGenerator.
    """
    make_nms_runnable()
    with torch.no_grad():
        return SamAutomaticMaskGenerator(sam, **settings).generate(image)


def make_nms_runnable() -> None:
    """Give `torchvision::nms` a CPU kernel where torchvision's own did not load."""
    if not torchvision.extension._has_ops():
        torch.library.impl("torchvision::nms", "CPU", _nms)
        # torchvision asks before each call; from now on it has one
        torchvision.extension._has_ops = lambda: True


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the boxes that greedy suppression keeps, as torchvision's CPU kernel does.

    Args:
        boxes: (N, 4) XYXY.
        scores: (N,).
        iou_threshold: a box goes if its IoU with a kept one is above.

    Returns:
        Indices (S,) int64, best score first.
    """
    order = scores.sort(stable=True, descending=True)[1].tolist()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for i in order:
        # IoU of box i with all kept ones
        others = torch.tensor(kept, dtype=torch.long)
        low = torch.maximum(boxes[i, :2], boxes[others, :2])
        high = torch.minimum(boxes[i, 2:], boxes[others, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=1)
        iou = overlap / (area[i] + area[others] - overlap)
        # The kernel compares a float32 IoU with a float64 threshold
        if not (iou.double() > iou_threshold).any():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)
