"""The contract of graphs: what each rule finds, and that every graph of every model keeps it.

ViT-L and ViT-H are built with two blocks, one of each kind, at their real widths: further blocks
are the same operators. `python -m tests.lint_large` lints them at their real depth. ViT-B and
MobileSAM are linted where they are exported whole, in `tests/parity/test_sam_parity.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data

from samrefine_export.cam.archs import RESNETS, build_network
from samrefine_export.cam.export import _MapsAndLogits, write_graph
from samrefine_export.engines import ENGINES
from samrefine_export.functions import define_functions
from samrefine_export.graph import export_graph
from samrefine_export.lint import refusals, slow_attention
from samrefine_export.precision import quantise_int8
from samrefine_export.sam.encoder import with_plain_attention
from samrefine_export.third_party import ImageEncoderViT
from samrefine_runtime.bundle import Bundle

VITS = {"vit_l": (1024, 16), "vit_h": (1280, 16)}
"""Channels and heads of the large ViTs, as in `segment_anything.build_sam`."""

TENSORRT = ("tensorrt-10.3", "tensorrt-11")


def taken_by_all(path: Path) -> bool:
    found = refusals(path)
    assert list(found) == [engine.name for engine in ENGINES]
    return not any(found.values())


@pytest.mark.parametrize("model", VITS)
def test_large_encoders(model: str, tmp_path: Path) -> None:
    channels, heads = VITS[model]
    encoder = ImageEncoderViT(
        depth=2,
        embed_dim=channels,
        img_size=1024,
        mlp_ratio=4,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=heads,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=(1,),
        window_size=14,
        out_chans=256,
    )
    path = tmp_path / "encoder.onnx"
    plain = with_plain_attention(encoder.eval().requires_grad_(False))
    export_graph(plain, {"image": torch.zeros(1, 3, 1024, 1024)}, ["image_embeddings"], path)
    assert taken_by_all(path)
    assert slow_attention(path) == []
    quantise_int8(path)
    found = refusals(path)
    assert found["onnxruntime"] == found["openvino"] == []
    for engine in TENSORRT:
        assert any("MatMulInteger" in text for text in found[engine])


@pytest.mark.parametrize(
    "arch", ["irn_resnet50", *RESNETS, "timm:efficientnet_b0", "timm:test_efficientnet"]
)
def test_classifiers(arch: str, tmp_path: Path) -> None:
    write_graph(_MapsAndLogits(build_network(arch, 3, None)).eval(), tmp_path / "cam.onnx")
    assert taken_by_all(tmp_path / "cam.onnx")


@pytest.mark.parametrize("name", ["demo", "small"])
def test_committed_bundles(name: str, small_bundle: Path) -> None:
    bundle = Bundle.load("demo" if name == "demo" else small_bundle)
    for graph in bundle.graphs.values():
        assert taken_by_all(graph.path), graph.name
        assert slow_attention(graph.path) == [], graph.name
        assert bundle.manifest["graphs"][graph.name]["engines"] == refusals(graph.path)


FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
node = helper.make_node


def write(
    folder: Path,
    nodes: list[onnx.NodeProto],
    *,
    inputs: dict[str, int],
    constants: dict[str, Any] | None = None,
    output: int = FLOAT,
    opset: int = 20,
) -> Path:
    """Write a graph of inputs (n, 4) and constants, whose last node makes the output "y"."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(x, kind, ["n", 4]) for x, kind in inputs.items()],
        [helper.make_tensor_value_info("y", output, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), x) for x, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)]
    path = folder / "graph.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
    return path


X = {"x": FLOAT}
CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "sound": ({"nodes": [node("Relu", ["x"], ["y"])], "inputs": X}, {}),
    "a newer opset": (
        {"nodes": [node("Relu", ["x"], ["y"])], "inputs": X, "opset": 22},
        dict.fromkeys(
            ("onnxruntime", "openvino", "tensorrt-10.3"), "opset 22, expected at most 20"
        ),
    ),
    "an unknown operator": (
        {"nodes": [node("StringNormalizer", ["x"], ["y"])], "inputs": X},
        {engine.name: "operator StringNormalizer" for engine in ENGINES},
    ),
    "an operator without definition": (
        {"nodes": [node("Relu", ["x"], ["y"], domain="mine")], "inputs": X},
        {engine.name: "operator mine::Relu" for engine in ENGINES},
    ),
    "a dtype": (
        {"nodes": [node("MatMul", ["x", "x"], ["y"])], "inputs": {"x": INT32}, "output": INT32},
        dict.fromkeys(TENSORRT, "operator MatMul of int32"),
    ),
    "a dtype inside": (
        {
            "nodes": [
                node("Cast", ["x"], ["whole"], to=INT32),
                node("Softmax", ["whole"], ["z"]),
                node("Cast", ["z"], ["y"], to=FLOAT),
            ],
            "inputs": X,
        },
        dict.fromkeys(("onnxruntime", *TENSORRT), "operator Softmax of int32"),
    ),
    "computed axes": (
        {"nodes": [node("ReduceSum", ["x", "a"], ["y"])], "inputs": {**X, "a": INT64}},
        dict.fromkeys(TENSORRT, "input 1 of ReduceSum is computed, expected a constant"),
    ),
    "as many as values say": (
        {"nodes": [node("NonZero", ["x"], ["y"])], "inputs": X, "output": INT64},
        dict.fromkeys(TENSORRT, "NonZero has an output as large as its values say"),
    ),
    "a shape from values": (
        {"nodes": [node("Reshape", ["x", "s"], ["y"])], "inputs": {**X, "s": INT64}},
        dict.fromkeys(TENSORRT, "Reshape makes a shape that depends on values"),
    ),
    "a shape from a shape": (
        {
            "nodes": [
                node("Shape", ["x"], ["s"]),
                node("Mul", ["s", "twice"], ["t"]),
                node("Expand", ["one", "t"], ["y"]),
            ],
            "inputs": X,
            "constants": {"one": np.float32(1), "twice": np.array([2, 2])},
        },
        {},
    ),
    "bytes inside": (
        {
            "nodes": [
                node("Cast", ["x"], ["bytes"], to=TensorProto.UINT8),
                node("Cast", ["bytes"], ["y"], to=FLOAT),
            ],
            "inputs": X,
        },
        dict.fromkeys(TENSORRT, "uint8 inside the graph, expected it as an input or output only"),
    ),
    "bytes at the end": (
        {
            "nodes": [node("Cast", ["x"], ["y"], to=TensorProto.UINT8)],
            "inputs": X,
            "output": TensorProto.UINT8,
        },
        {},
    ),
    "the same twice": (
        {
            "nodes": [node("Mystery", ["x"], ["z"]), node("Mystery", ["z"], ["y"])],
            "inputs": X,
        },
        {engine.name: "operator Mystery (2 times)" for engine in ENGINES},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_rule(case: tuple[dict[str, Any], dict[str, str]], tmp_path: Path) -> None:
    graph, expected = case
    found = refusals(write(tmp_path, **graph))
    names = [engine.name for engine in ENGINES]
    assert found == {name: [expected[name]] if name in expected else [] for name in names}


def attention_model(head: int) -> onnx.ModelProto:
    """Return a graph of attention with two heads of so many channels."""
    values = [helper.make_tensor_value_info(name, FLOAT, [1, 4, 2 * head]) for name in "qkv"]
    attend = node(
        "MultiHeadAttention", ["q", "k", "v"], ["y"], "attend",
        domain="com.microsoft", num_heads=2, scale=1.0,
    )  # fmt: skip
    output = helper.make_tensor_value_info("y", FLOAT, [1, 4, 2 * head])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([attend], "graph", values, [output])
    model = helper.make_model(graph, opset_imports=opsets)
    define_functions(model)
    return model


@pytest.mark.parametrize(("head", "is_slow"), [(16, False), (92, True), (96, False), (264, True)])
def test_head_sizes(head: int, is_slow: bool, tmp_path: Path) -> None:
    onnx.save(attention_model(head), tmp_path / "graph.onnx")
    assert taken_by_all(tmp_path / "graph.onnx")
    found = slow_attention(tmp_path / "graph.onnx")
    assert len(found) == (3 if is_slow else 0)
    assert all(f"attend: {head} channels of a head" in text for text in found)


def test_names_of_a_function_in_the_graph(tmp_path: Path) -> None:
    """TensorRT before 10.8 would take the graph's tensor for the function's input."""
    model = attention_model(16)
    (function,) = model.functions
    name = function.input[0]
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    onnx.save(model, tmp_path / "graph.onnx")
    expected = [f"tensor {name!r} inside a function and outside of it"]
    assert refusals(tmp_path / "graph.onnx") == {engine.name: expected for engine in ENGINES}


@pytest.mark.parametrize("name", ["my weights.data", "../decoder.data", "décodeur.data"])
def test_file_names(name: str, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [node("Add", ["x", "w"], ["y"])],
        inputs=X,
        constants={"w": np.ones(4, np.float32)},
    )
    model = onnx.load(path)
    set_external_data(model.graph.initializer[0], name)
    model.graph.initializer[0].ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    assert all(repr(name) in texts[0] for texts in refusals(path).values())


def test_onnxruntimes_table_is_what_it_has_kernels_for() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # Kernels of the operator sets that a bundle may have
    kernels: dict[str, set[str]] = {}
    for kernel in state.get_all_opkernel_def():
        first, last = kernel.version_range
        if kernel.domain == "" and first <= 20 and last >= 18:
            types = kernel.type_constraints
            of_value: list[str] = next(
                (types[name] for name in ("T", "T1", "V") if name in types), []
            )
            kernels.setdefault(kernel.op_name, set()).update(of_value)
    (engine,) = (each for each in ENGINES if each.name == "onnxruntime")
    spelled = {"float32": "float", "float64": "double"}
    # What ONNX Runtime expands, makes when it loads the graph, or whose first type is another
    others = {"Constant", "CastLike", "HardSwish", "Mish", "GroupNormalization"}
    others |= {"ConstantOfShape", "OneHot", "DynamicQuantizeLinear"}
    for name, dtypes in engine.operators.items():
        for dtype in dtypes - {"float16"} if name not in others else ():
            assert f"tensor({spelled.get(dtype, dtype)})" in kernels[name], (name, dtype)
