"""The page's colours, as people see them who are colour-blind."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime.labels import PALETTE
from samrefine_runtime.report.maps import CAM_LEVELS
from samrefine_runtime.report.palette import DISTINCT, PATTERNS, heat_colours

# Linear RGB as seen without one kind of cones: Machado, Oliveira and Fernandes, "A physiologically
# based model for simulation of color vision deficiency", 2009, severity 1
VISION = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def lab(colours: object, vision: str) -> NDArray[np.float64]:
    """CIE 1976 L*a*b* (K, 3) of sRGB colours 0 to 255, as that vision sees them."""
    srgb = np.asarray(colours, float) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ VISION[vision].T, 0, 1) @ TO_XYZ.T / WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


def least_difference(colours: object, vision: str) -> float:
    found = lab(colours, vision)
    distances = np.linalg.norm(found[:, None] - found, axis=-1)
    return float(distances[np.triu_indices(len(found), 1)].min())


@pytest.mark.parametrize("vision", VISION)
def test_distinct_colours_differ_for_everyone(vision: str) -> None:
    assert least_difference(DISTINCT, vision) > 16
    # Nor is any of them too dark to see
    assert lab(DISTINCT, vision)[:, 0].min() > 40


def test_colours_and_patterns_suffice_for_voc() -> None:
    assert len(DISTINCT) * len(PATTERNS) >= 20


def test_vocs_colours_are_why() -> None:
    assert least_difference(PALETTE[1:21], "protanopia") < 2
    assert lab(PALETTE[1:21], "all cones")[:, 0].min() < 10


def test_heat_fades_in() -> None:
    colours = heat_colours()
    assert colours.shape == (CAM_LEVELS + 1, 4)
    assert colours[0, 3] == 0 and colours[-1, 3] == 255
    assert (np.diff(colours[:, 3].astype(int)) >= 0).all()
