"""Colours of the page. Label PNGs keep VOC's; these tell classes apart where VOC's do not."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.report.maps import CAM_LEVELS

DISTINCT = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
"""RGB of classes 1, 2, ..., then again with the next pattern: the colours of Okabe and Ito ("Color
Universal Design", 2008). Two of them differ by 16 or more in CIE 1976 for every kind of colour
blindness; of VOC's 20 colours, some by 1, and some are nearly black."""

PATTERNS = ("solid", "stripes", "dots", "grid")
"""Patterns of classes, in the order in which they are used: as many as the page's script draws."""

_FULL_TINT = 2 / 3
"""Activation from which the heat map is fully tinted; below, it fades out."""


def heat_colours() -> NDArray[np.uint8]:
    """Return the colour of each heat level, (CAM_LEVELS + 1, 4) uint8 RGBA."""
    level = np.arange(CAM_LEVELS + 1) / CAM_LEVELS
    brightness = (255 * level).astype(np.uint8)
    colours = cv2.applyColorMap(brightness[None], cv2.COLORMAP_INFERNO)[0, :, ::-1]
    alpha = np.rint(255 * np.minimum(level / _FULL_TINT, 1)).astype(np.uint8)
    return np.column_stack([colours, alpha])
