"""Attention as a function: the kernel, the definition and torch compute the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from samrefine_export.errors import ExportError
from samrefine_export.functions import ATTENTION, DOMAIN, define_functions
from samrefine_export.graph import export_graph
from samrefine_export.precision import quantise_int8
from samrefine_export.sam.encoder import with_plain_attention
from tests.samples import cpu_session
from tests.small_sam import small_sam

BLOCKS = 3
"""Attention blocks of the small SAM's encoder."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("functions") / "encoder.onnx"
    plain = with_plain_attention(small_sam(0).image_encoder)
    export_graph(plain, {"image": torch.zeros(1, 3, 256, 256)}, ["image_embeddings"], path)
    return path


@pytest.fixture(scope="module")
def image() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((1, 3, 256, 256), np.float32)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_kernel_definition_and_torch_agree(
    encoder: Path, image: NDArray[np.float32], tmp_path: Path
) -> None:
    model = onnx.load(encoder)
    onnx.checker.check_model(model, full_check=True)
    inlined = onnx.inliner.inline_local_functions(model)
    onnx.save(inlined, tmp_path / "inlined.onnx")
    assert not inlined.functions
    assert not any(node.domain for node in inlined.graph.node)
    assert operators(inlined)["Softmax"] == operators(model)[ATTENTION] == BLOCKS
    with torch.no_grad():
        expected = small_sam(0).image_encoder(torch.from_numpy(image)).numpy()
    for path in (encoder, tmp_path / "inlined.onnx"):
        actual = cpu_session(path).run({"image": image})["image_embeddings"]
        assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()


def test_onnxruntime_runs_its_kernel(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    load, path = onnxruntime.InferenceSession, tmp_path / "optimised.onnx"

    def load_and_keep(graph: str, options: Any, **arguments: Any) -> Any:
        options.optimized_model_filepath = str(path)
        return load(graph, options, **arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", load_and_keep)
    cpu_session(encoder)
    run = operators(onnx.load(path))
    assert run[ATTENTION] == BLOCKS
    assert run["Softmax"] == 0


def test_the_definition_is_not_what_onnxruntime_runs(
    encoder: Path, image: NDArray[np.float32], tmp_path: Path
) -> None:
    """A wrong one changes nothing there, and everything for who reads it."""
    model = onnx.load(encoder)
    (function,) = model.functions
    softmax = next(node for node in function.node if node.op_type == "Softmax")
    softmax.op_type = "Sigmoid"
    softmax.ClearField("attribute")
    onnx.save(model, tmp_path / "wrong.onnx")
    onnx.save(onnx.inliner.inline_local_functions(model), tmp_path / "inlined.onnx")
    expected = cpu_session(encoder).run({"image": image})["image_embeddings"]
    wrong, inlined = (
        cpu_session(tmp_path / name).run({"image": image})["image_embeddings"]
        for name in ("wrong.onnx", "inlined.onnx")
    )
    assert np.array_equal(wrong, expected)
    assert np.abs(inlined - expected).max() > 0.1 * np.abs(expected).max()


def test_the_definition_survives_quantisation(encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(encoder.read_bytes())
    quantise_int8(path)
    assert [each.name for each in onnx.load(path).functions] == [ATTENTION]


def attention(name: str = ATTENTION, domain: str = DOMAIN, **attributes: float) -> onnx.NodeProto:
    return helper.make_node(name, ["q", "k", "v"], ["out"], domain=domain, **attributes)


def model_of(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 16]) for n in "qkv"]
    graph = helper.make_graph(nodes, "g", values, [helper.make_empty_tensor_value_info("out")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([attention("Gelu", num_heads=2)], "operators Gelu have no definition"),
        ([attention(domain="mine", num_heads=2)], "MultiHeadAttention have no definition"),
        ([attention(num_heads=2)], "nan.*expected one pair of scale 1"),
        ([attention(num_heads=2, scale=0.5)], r"\(2.0, 0.5\).*expected one pair"),
        (
            [attention(num_heads=2, scale=1.0), attention(num_heads=4, scale=1.0)],
            "expected one pair",
        ),
    ],
)
def test_what_has_no_definition(nodes: list[onnx.NodeProto], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        define_functions(model_of(*nodes))


def test_a_graph_without_fused_operators_gets_none() -> None:
    model = model_of(helper.make_node("Add", ["q", "k"], ["out"]))
    define_functions(model)
    assert not model.functions
