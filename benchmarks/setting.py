"""What every benchmark shares: bundles of random weights, images, the machine, medians."""

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
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.image import read_image

SEED = 0
CACHE = Path(__file__).parents[1] / "build" / "bench"
KEPT = 0.2
"""share of the masks that the predicted IoU threshold lets through"""


def random_bundle(model: str, precision: str = "fp32") -> Bundle:
    """Bundle of a published architecture with seeded random weights, exported once."""
    folder = CACHE / f"{model}-{precision}"
    if not folder.exists():
        from samrefine_export.sam import export_sam

        export_sam(model, None, folder, random_weights=SEED, precision=precision)
    return Bundle.load(folder, check_hashes=False)


def image(megapixels: float | None = None) -> NDArray[np.uint8]:
    """Return a VOC image (500 x 375), or a synthetic one of that shape or of so many megapixels."""
    found = voc_images(1)
    if megapixels is None and found:
        return read_image(found[0])
    height = 375 if megapixels is None else round((megapixels * 0.75e6) ** 0.5)
    return synthetic((height, round(height * 4 / 3)))


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    packages = ("torch", "onnxruntime", "numpy", "opencv-python-headless", "segment-anything")
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
    """Seconds of every run of every side, the sides taking turns; one warm-up each."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return taken


def row(name: str, taken: Mapping[str, Sequence[float]], scale: float, unit: str) -> dict[str, Any]:
    """Medians and the median of the turn-by-turn ratios of two sides, reference first."""
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
