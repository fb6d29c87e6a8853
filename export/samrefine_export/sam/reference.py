"""segment-anything as released, made to run where torchvision's compiled operators do not load."""

from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam
from torch import Tensor


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy suppression, one box after the other, as torchvision's CPU kernel does it."""
    order = scores.sort(stable=True, descending=True)[1].tolist()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for i in order:
        others = torch.tensor(kept, dtype=torch.long)
        low = torch.maximum(boxes[i, :2], boxes[others, :2])
        high = torch.minimum(boxes[i, 2:], boxes[others, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=1)
        iou = overlap / (area[i] + area[others] - overlap)
        if not (iou.double() > iou_threshold).any():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def make_nms_runnable() -> None:
    """Give `torchvision::nms` a CPU kernel where torchvision's own did not load."""
    if not torchvision.extension._has_ops():
        torch.library.impl("torchvision::nms", "CPU", _nms)
        torchvision.extension._has_ops = lambda: True


def everything(sam: Sam, image: NDArray[np.uint8], **settings: Any) -> list[dict[str, Any]]:
    """Records of SamAutomaticMaskGenerator."""
    make_nms_runnable()
    with torch.no_grad():
        return SamAutomaticMaskGenerator(sam, **settings).generate(image)
