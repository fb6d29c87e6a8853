"""What all benchmarks share: bundles of random weights, an image, the machine, medians."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.samples import synthetic, voc_images
from samrefine_runtime.bundle import FORMAT_VERSION, Bundle
from samrefine_runtime.image import read_image

SEED = 0
"""Of random weights and random points."""

CACHE = Path(__file__).parents[1] / "build" / "bench"
"""Folder of exported bundles, kept between runs."""

KEPT = 0.2
"""Fraction of the masks that pass the predicted IoU threshold."""

VOC_HEIGHT = 375
"""Pixels; most VOC images are 500 x 375."""

ASPECT = 4 / 3
"""Width over height of synthetic images."""


def random_bundle(model: str, precision: str = "fp32") -> Bundle:
    """Return a bundle of a published architecture with seeded random weights, exported once."""
    folder = CACHE / f"{model}-{precision}-v{FORMAT_VERSION}"
    if not folder.exists():
        from samrefine_export.sam import export_sam

        export_sam(model, None, folder, random_weights=SEED, precision=precision)
    return Bundle.load(folder, check_hashes=False)


def benchmark_image(megapixels: float | None = None) -> NDArray[np.uint8]:
    """Return the image to measure on, (H, W, 3) uint8.

    It is a VOC image, or a synthetic one if VOC is missing or a number of megapixels is given.
    """
    found = voc_images(1)
    if megapixels is None and found:
        return read_image(found[0])
    height = VOC_HEIGHT if megapixels is None else round((megapixels * 1e6 / ASPECT) ** 0.5)
    return synthetic((height, round(height * ASPECT)))


def machine(threads: int) -> dict[str, Any]:
    """Describe the machine and the packages that the figures depend on."""
    packages = (
        *("torch", "onnxruntime", "openvino", "numpy"),
        *("opencv-python-headless", "segment-anything"),
    )
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def alternate(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time every side by turns, and return the seconds of each run; one warm-up run each."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if turn:  # turn 0 is the warm-up
                taken[name].append(time.perf_counter() - start)
    return taken


def row(name: str, taken: Mapping[str, Sequence[float]], scale: float, unit: str) -> dict[str, Any]:
    """Return the medians of two sides, reference first, and of their ratios turn by turn."""
    reference, runtime = taken.values()
    ratios = [a / b for a, b in zip(reference, runtime, strict=True)]
    return {
        "what": name,
        "unit": unit,
        "reference": median(reference) * scale,
        "runtime": median(runtime) * scale,
        "ratio": median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }
