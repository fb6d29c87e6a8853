"""Whether the masks of an image may overrule its pseudo label.

One mask's predicted IoU is a noisy estimate, but whether a model understands an image shows in all
its masks: where it does, it is sure of at least a part of what the label marks, and then its less
sure masks help too. Where it does not, it is sure of nothing that the label marks, and every mask
is a guess. Only labelled pixels count: a sure mask of the sky says nothing about the object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.labels import IGNORE, LabelMap
from samrefine_runtime.masks.masks import Masks, strips

CAUTIOUS = 0.87
"""The least trust at which a bundle's masks overrule a pseudo label, unless its manifest says
otherwise. It is below SAM's own pred_iou_thresh of 0.88, so that nothing changes at SAM's defaults.
Chosen on 600 drawn scenes and 150 VOC images, whose trust it separates (docs/demo-model.md)."""

SUREST = 0.25
"""Fraction of the explained label that is looked at. On 600 drawn scenes and 150 VOC images the
result is the same from 0.1 to 0.5."""


def is_trusted(pseudo_label: LabelMap, masks: Masks, min_trust: float) -> bool:
    """Return whether the trust in an image's masks reaches `min_trust`.

    Where every mask's predicted IoU reaches it, as with SAM's own pred_iou_thresh of 0.88 or with
    stored masks without scores, nothing needs to be computed.
    """
    if len(masks) == 0 or masks.predicted_iou.min() >= min_trust:
        return True
    return image_trust(pseudo_label, masks) >= min_trust


def image_trust(pseudo_label: LabelMap, masks: Masks) -> float:
    """Compute how sure SAM is of what the pseudo label marks.

    Args:
        pseudo_label: (H, W) uint8.
        masks: of the same image.

    Returns:
        Mean predicted IoU, 0 to 1, of the surest mask at each pixel over the surest quarter of
        the labelled pixels that any mask covers; 1 if there are none.
    """
    # left (H, W): explained pixels whose surest mask is still to be found
    left = (pseudo_label > 0) & (pseudo_label != IGNORE) & _covered(masks)
    wanted = SUREST * np.count_nonzero(left)
    if wanted == 0:
        return 1.0
    total, missing = 0.0, wanted
    # Surest masks first: a pixel's first mask is its surest, and few masks fill the quarter
    for index in np.argsort(-masks.predicted_iou, kind="stable"):
        fresh = masks.dense(int(index)) & left
        taken = min(float(np.count_nonzero(fresh)), missing)
        total += taken * min(float(masks.predicted_iou[index]), 1.0)
        missing -= taken
        if missing <= 0:
            break
        left &= ~fresh
    return total / wanted


def _covered(masks: Masks) -> NDArray[np.bool_]:
    """Find the pixels (H, W) bool over which any mask lies."""
    height, width = masks.image_shape
    spans, flat = masks.spans(), np.empty(width * height, bool)
    for strip in strips(len(flat)):
        flat[strip] = spans.within(strip).cover(strip.stop - strip.start) > 0
    return flat.reshape(width, height).T
