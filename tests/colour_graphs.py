"""Makes the committed classifiers that see colours anew: `python -m tests.colour_graphs`.

The tests of the runtime read the committed graphs, so that they do not need the onnx package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.samples import DATA

STRIDE = 4
COLOURS = ("red", "green", "blue")


def graph_path(folder: Path, *, background: bool) -> Path:
    """Return the file of the classifier with or without a background map."""
    return folder / ("colours_background.onnx" if background else "colours.onnx")


def write_colour_graph(path: Path, *, background: bool) -> None:
    """Map of a colour: its mean over 4 x 4 pixels less the other two; logits 20 times the mean.

    The background map is 1 less the sum of the colours.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    colours = 2 * np.eye(3, dtype=np.float32) - 1
    weight = np.vstack([-np.ones((1, 3), np.float32), colours]) if background else colours
    bias = np.zeros(len(weight), np.float32)
    if background:
        bias[0] = 1
    keep = np.arange(int(background), len(weight))
    constants = {
        "weight": weight[:, :, None, None],
        "bias": bias,
        "gain": np.array(20, np.float32),
        "axes": np.array([2, 3]),
        "keep": keep,
    }
    nodes = [
        helper.make_node(
            "AveragePool",
            ["image"],
            ["pooled"],
            kernel_shape=[STRIDE, STRIDE],
            strides=[STRIDE, STRIDE],
            ceil_mode=1,
        ),
        helper.make_node("Conv", ["pooled", "weight", "bias"], ["cam"]),
        helper.make_node("Gather", ["cam", "keep"], ["colours"], axis=1),
        helper.make_node("ReduceMean", ["colours", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["logits"]),
    ]
    number = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", number, ["b", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("cam", number, ["b", len(weight), "y", "x"]),
            helper.make_tensor_value_info("logits", number, ["b", 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


if __name__ == "__main__":
    for background in (False, True):
        write_colour_graph(graph_path(DATA, background=background), background=background)
