"""What devices could reach at best: arithmetic and memory traffic of everything mode, counted.

    python -m benchmarks.limits [--models mobile_sam,vit_b] [--precision fp16]

Nothing is run: multiply-adds are those of `samrefine bench`, bytes are counted in the graphs. An
engine that fuses everything with the products moves what these take and give; one that fuses
nothing moves what every operator does.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import onnx
import onnx.inliner
from onnx import helper

from benchmarks.setting import KEPT, random_bundle
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.diagnosis.bench import everything_gmacs

PROMPTS, BATCH = 32 * 32, 64
"""Points of the default grid, and prompts of a batch on a GPU."""

MASKS_PER_PROMPT = 3

_FREE = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Shape", "Constant"})
"""Operators that move nothing."""

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})


class Device(NamedTuple):
    """What the vendor's data sheet says, without sparsity."""

    name: str
    tflops: float
    """fp16 products with fp32 sums."""
    gb_per_second: float


DEVICES = (
    Device("Jetson Orin Nano 8 GB, 25 W", 17, 102),
    Device("Jetson AGX Orin 64 GB", 42.5, 204.8),
    Device("GeForce RTX 4090", 165, 1008),
    Device("H200", 989, 4800),
)


class Traffic(NamedTuple):
    """Gigabytes that a graph moves in one run."""

    fused: float
    plain: float


def traffic(path: Path, **sides: int) -> Traffic:
    """Count the bytes a graph reads and writes.

    Args:
        path: the .onnx file.
        sides: lengths of its dynamic axes.
    """
    model = onnx.load(path)
    for value in model.graph.input:
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_value = sides[side.dim_param]
    # What else is said of shapes is of any length; what is inferred anew is of this one
    for value in (*model.graph.value_info, *model.graph.output):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.Clear()
    model = onnx.inliner.inline_local_functions(model)
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    sizes = {tensor.name: _bytes(tensor.data_type, tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        sizes[value.name] = _bytes(kind.elem_type, [side.dim_value for side in kind.shape.dim])
    moved = [
        (node.op_type, sum(sizes.get(name, 0) for name in (*node.input, *node.output)) / 1e9)
        for node in graph.node
        if node.op_type not in _FREE
    ]
    return Traffic(
        sum(size for kind, size in moved if kind in _PRODUCTS), sum(size for _, size in moved)
    )


def _bytes(kind: int, shape: list[int]) -> int:
    itemsize: int = helper.tensor_dtype_to_np_dtype(kind).itemsize
    return int(np.prod(shape)) * itemsize


def of_everything_mode(bundle: Bundle, precision: str) -> Traffic:
    """Count the bytes of everything mode for an image, mask handling left out."""
    graphs = bundle.graphs if precision == "fp32" else bundle.graphs_in(precision)
    chosen = round(BATCH * KEPT)
    sides = {
        "prompts": BATCH,
        "chosen_prompts": chosen,
        "chosen_masks": chosen * MASKS_PER_PROMPT,
    }
    runs = {"encoder": 1, "everything_image": 1}
    runs |= dict.fromkeys(("everything_tokens", "everything_masks"), PROMPTS // BATCH)
    each = {name: traffic(graphs[name].path, **sides) for name in runs}
    for name, found in each.items():
        click.echo(
            f"  {name:<18}{found.fused:7.3f} to {found.plain:7.3f} GB, {runs[name]:>2} times"
        )
    return Traffic(*(sum(runs[n] * getattr(each[n], k) for n in runs) for k in Traffic._fields))


@click.command()
@click.option("--models", default="mobile_sam,vit_b", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), default="fp16", show_default=True)
def main(models: str, precision: str) -> None:
    """Print the least time that arithmetic and memory take on some devices."""
    for model in models.split(","):
        click.echo(f"{model}, {precision}, {PROMPTS} prompts, {KEPT:.0%} kept")
        bundle = random_bundle(model, precision)
        moved = of_everything_mode(bundle, precision)
        tflop = 2 * (everything_gmacs(bundle, PROMPTS) or float("nan")) / 1e3
        click.echo(f"  in all {tflop:.2f} TFLOP, {moved.fused:.1f} to {moved.plain:.1f} GB")
        for device in DEVICES:
            times = [1e3 * tflop / device.tflops]
            times += [1e3 * size / device.gb_per_second for size in moved]
            click.echo(
                f"  {device.name:<30}{times[0]:7.1f} ms for arithmetic, "
                f"{times[1]:7.1f} to {times[2]:7.1f} ms for memory"
            )


if __name__ == "__main__":
    main()
