"""The whole pipeline as one graph against `Labeler`, on the same images and settings.

    python -m benchmarks.whole_graph [--images 50]

Both sides run the embedded bundle in this process and take turns; every image is refined. A last
image of 24 megapixels is synthetic. Peak memory is that of a process of one side: --side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
import onnxruntime

from benchmarks.one_run import forget_peak, peak_mb
from benchmarks.samples import synthetic, voc_images
from samrefine_export.pipeline import export_label
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.pipeline import Labeler

LARGE = (4000, 6000)
"""Height and width of the last image, pixels."""

Label = Callable[[RgbImage], LabelMap]


def labeler(threads: int) -> Label:
    """Return the runtime's side, with the prompts that the graph asks."""
    made = Labeler(
        "demo",
        generator={"prompts": "near"},
        refinement={"min_trust": 0},
        session={"threads": threads},
    )
    return lambda image: made.label(image).label


def whole_graph(threads: int) -> Label:
    """Return the graph's side."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "label.onnx"
        export_label("demo", path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    trust = np.array(0, np.float32)

    def label(image: RgbImage) -> LabelMap:
        made: LabelMap = session.run(["label"], {"image": image, "min_trust": trust})[0]
        return made

    return label


SIDES = {"graph": whole_graph, "runtime": labeler}


@click.command()
@click.option("--images", default=50, show_default=True, help="VOC images.")
@click.option("--threads", default=2, show_default=True)
@click.option("--side", type=click.Choice(list(SIDES)), help="One side alone, on the large image.")
def main(images: int, threads: int, side: str | None) -> None:
    """Print pixels that differ, CPU seconds, and peak memory."""
    chosen = {name: SIDES[name](threads) for name in ([side] if side else SIDES)}
    pictures = [] if side else [read_image(path) for path in voc_images(images)]
    large = synthetic(LARGE)
    forget_peak()
    for group in (pictures, [large]):
        seconds: dict[str, list[float]] = {name: [] for name in chosen}
        differing = []
        for image in group:
            labels = []
            for name, label in chosen.items():
                start = time.process_time()
                labels.append(label(image))
                seconds[name].append(time.process_time() - start)
            differing.append(int(np.count_nonzero(labels[0] != labels[-1])))
        if group:
            medians = {name: round(median(taken), 3) for name, taken in seconds.items()}
            equal = f"{differing.count(0)} of {len(group)} equal, {sum(differing)} pixels differ"
            click.echo(f"{side if side else equal}; CPU seconds {medians}")
    click.echo(f"peak {peak_mb():.0f} MB")


if __name__ == "__main__":
    main()
