"""Half precision in a graph: what is half, what stays single, and that it is close and finite."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, parser
from torch import Tensor, nn

from samrefine_export.cam import export_cam_network
from samrefine_export.errors import ExportError
from samrefine_export.graph import export_graph
from samrefine_export.half import HALVES, to_half
from samrefine_export.lint import dtypes_of, refusals, slow_attention
from samrefine_export.sam.encoder import with_plain_attention
from samrefine_export.sam.export import export_sam_module, sam_graphs
from samrefine_export.third_party import Sam
from samrefine_runtime.bundle import Bundle
from tests.small_cam import CLASSES, small_cam
from tests.small_sam import small_sam

Outputs = Mapping[str, NDArray[np.float32]]


def graph_of(body: str, *, weights: str = "") -> onnx.ModelProto:
    """Parse a graph of x (n, 4) to y, both float32."""
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 20]>
        g (float[n, 4] x) => (float y) <{weights}> {{ {body} }}"""
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def halved(
    body: str, *, weights: str = "", precision: str = "fp16", module: nn.Module | None = None
) -> tuple[onnx.ModelProto, list[str]]:
    """Write a graph in half precision; return it and what each node is computed in."""
    model = graph_of(body, weights=weights)
    to_half(model, precision, module or nn.Identity())
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    dtypes = dtypes_of(model)
    assert dtypes["x"] == dtypes["y"] == "float32"
    nodes = [node for node in model.graph.node if node.op_type != "Cast"]
    return model, [f"{node.op_type} {dtypes[node.input[0]]}" for node in nodes]


W = "float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}"
CASES = {
    "products": ("y = MatMul(x, w)", ["MatMul float16"]),
    "what follows a product": (
        "a = MatMul(x, w) b = Relu(a) y = Neg(b)",
        ["MatMul float16", "Relu float16", "Neg float16"],
    ),
    "what comes before any": ("a = Relu(x) y = MatMul(a, w)", ["Relu float32", "MatMul float16"]),
    "sums and powers": (
        "a = MatMul(x, w) b = Mul(a, a) y = ReduceSum(b)",
        ["MatMul float16", "Mul float16", "ReduceSum float32"],
    ),
    "norms, which give half": (
        "a = MatMul(x, w) s = Neg(one) b = LayerNormalization(a, one) y = Relu(b)",
        ["MatMul float16", "Neg float32", "LayerNormalization float32", "Relu float16"],
    ),
    "residual additions": (
        "a = MatMul(x, w) b = Relu(a) c = Add(a, b) y = MatMul(c, w)",
        ["MatMul float16", "Relu float16", "Add float32", "MatMul float16"],
    ),
    "other additions": (
        "a = MatMul(x, w) b = MatMul(x, w) c = Relu(b) y = Add(a, c)",
        ["MatMul float16", "MatMul float16", "Relu float16", "Add float16"],
    ),
    "both kinds at once": (
        "a = MatMul(x, w) y = Mul(a, x)",
        ["MatMul float16", "Mul float32"],
    ),
    "a weight beyond half": ("a = MatMul(x, w) y = Add(a, far)", ["MatMul float16", "Add float32"]),
    "a factor below half": ("a = MatMul(x, w) y = Mul(a, tiny)", ["MatMul float16", "Mul float32"]),
    "a scale of a resize": (
        "a = MatMul(x, w) y = Resize(a, , twice)",
        ["MatMul float16", "Resize float16"],
    ),
    "a constant": (
        "h = Constant <value = float {0.5}> () a = MatMul(x, w) y = Mul(a, h)",
        ["MatMul float16", "Mul float16"],
    ),
    "shapes and whole numbers": (
        "a = MatMul(x, w) s = Shape(a) y = Reshape(a, s)",
        ["MatMul float16", "Shape float16", "Reshape float16"],
    ),
}
CONSTANTS = (
    f"{W}, float[4] one = {{1, 1, 1, 1}}, float far = {{100000}}, float tiny = {{1e-9}}, "
    "float[2] twice = {2, 2}"
)


@pytest.mark.parametrize("case", CASES)
def test_what_a_node_is_computed_in(case: str) -> None:
    body, expected = CASES[case]
    assert halved(body, weights=CONSTANTS)[1] == expected


def test_bf16_has_room_for_large_weights() -> None:
    body, weights = "a = MatMul(x, w) y = Add(a, far)", f"{W}, float far = {{100000}}"
    expected = ["MatMul bfloat16", "Add bfloat16"]
    assert halved(body, weights=weights, precision="bf16")[1] == expected


def test_each_tensor_is_cast_once() -> None:
    model, _ = halved("a = MatMul(x, w) b = MatMul(x, w) y = Add(a, b)", weights=W)
    casts = [list(node.input) for node in model.graph.node if node.op_type == "Cast"]
    assert casts == [["x"], ["y_half"]]
    (weight,) = model.graph.initializer
    assert weight.data_type == TensorProto.FLOAT16 and len(weight.raw_data) == 4 * 4 * 2


@pytest.mark.parametrize("precision", HALVES)
def test_weights_are_rounded_to_the_nearest(precision: str) -> None:
    model, _ = halved("y = Gemm(x, w)", weights="float[4, 1] w = {0.1, -3, 1000.3, 0}",
                      precision=precision)  # fmt: skip
    (weight,) = model.graph.initializer
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    values = torch.frombuffer(bytearray(weight.raw_data), dtype=kind)
    assert torch.equal(values, torch.tensor([0.1, -3, 1000.3, 0]).to(kind))


class Island(nn.Module):
    """A module that is computed in single."""

    keeps_single = True

    def forward(self, x: Tensor) -> Tensor:
        return x @ x.transpose(-1, -2)


class Around(nn.Module):
    """Products before and after an island."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.island, self.last = nn.Linear(4, 4), Island(), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.island(self.first(x)))
        return y


def test_modules_that_are_kept_single(tmp_path: Path) -> None:
    export = {"inputs": {"x": torch.rand(3, 4)}, "outputs": ["y"], "path": tmp_path / "a.onnx"}
    path = export_graph(Around(), **export, halves=["fp16"])["fp16"]  # type: ignore[arg-type]
    model = onnx.load(path)
    dtypes = dtypes_of(model)
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert [dtypes[node.output[0]] for node in products] == ["float16", "float32", "float16"]
    assert not any(node.metadata_props for node in model.graph.node)


def test_branches_are_refused() -> None:
    body = (
        "c = Cast <to = 9> (one) y = If (c) <then_branch = t () => (float u) { u = Neg(one) }, "
        "else_branch = e () => (float v) { v = Relu(one) }>"
    )
    with pytest.raises(ExportError, match="branches and loops cannot be in half"):
        halved(body, weights="float one = {1}")


pytestmark = pytest.mark.xdist_group("half")  # one process: its bundle takes long


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small SAM and a classifier, in all precisions."""
    folder = tmp_path_factory.mktemp("halves") / "bundle"
    export_sam_module(
        small_sam(), folder, arch="small", source={"random_weights": 0}, precision="fp16,bf16"
    )
    export_cam_network(small_cam(), CLASSES, folder, precision=["bf16", "fp16"])
    return Bundle.load(folder)


def test_a_bundle_holds_several_precisions(bundle: Bundle) -> None:
    assert bundle.precision == "fp32" and bundle.variants == ("fp16", "bf16")
    for name, graph in bundle.graphs.items():
        # What counts pixels is the same graph in every precision
        names = [each.name for each in graph.variants.values()]
        exact = name == "everything_finish"
        assert names == ([name] * 2 if exact else [f"{name}.fp16", f"{name}.bf16"])
    sizes = {path.name: path.stat().st_size for g in bundle.all_graphs() for path in g.files}
    for precision in HALVES:
        assert sizes[f"decoder.{precision}.data"] < 0.6 * sizes["decoder.data"]


@pytest.mark.parametrize("precision", HALVES)
def test_graphs_keep_the_contract(bundle: Bundle, precision: str) -> None:
    for graph in bundle.graphs_in(precision).values():
        # ONNX types convolutions in bf16 from opset 22 on; engines take them in older ones
        onnx.checker.check_model(str(graph.path), full_check=precision == "fp16")
        assert slow_attention(graph.path) == [], graph.name
        found = refusals(graph.path)
        if precision == "bf16":
            found.pop("onnxruntime")
        assert not any(found.values()), (graph.name, found)


def test_exporting_anew_leaves_no_variant_of_old_weights(tmp_path: Path) -> None:
    for precision, variants in (("fp16", ("fp16",)), ("fp32", ())):
        export_cam_network(small_cam(), CLASSES, tmp_path / "b", precision=precision)
        assert Bundle.load(tmp_path / "b").variants == variants
    assert not list((tmp_path / "b").glob("*fp16*"))


def outputs_of(path: Path, feeds: Outputs) -> Outputs:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds)), strict=True))


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def beyond_half(sam: Sam) -> None:
    """Let every block add thousands to what it is given: sums pass 65504, no term does."""
    for block in sam.image_encoder.blocks:
        for layer in (block.attn.proj, block.mlp.lin2):
            layer.weight.mul_(2e4 / layer.weight.abs().sum(1).mean())
            layer.bias.add_(2e4)


@pytest.mark.parametrize("change", [lambda sam: None, beyond_half], ids=["plain", "overflow"])
def test_the_encoder_is_close_and_finite(change: Callable[[Sam], None], tmp_path: Path) -> None:
    sam = small_sam()
    with torch.no_grad():
        change(sam)
    graph = sam_graphs(sam)["encoder"]
    path = tmp_path / "encoder.onnx"
    half = export_graph(graph.module, graph.inputs, graph.outputs, path, halves=["fp16"])["fp16"]
    image = np.random.default_rng(0).standard_normal((1, 3, 256, 256)).astype(np.float32)
    expected, actual = (outputs_of(each, {"image": image}) for each in (path, half))
    assert np.isfinite(actual["image_embeddings"]).all()
    assert cosine(actual["image_embeddings"], expected["image_embeddings"]) > 0.999


def test_without_the_single_residuals_it_would_overflow(tmp_path: Path) -> None:
    """The provocation is one: torch's own half precision fails it."""
    sam = small_sam()
    with torch.no_grad():
        beyond_half(sam)
        image = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
        naive = copy.deepcopy(sam.image_encoder).half()(image.half())
    assert not naive.isfinite().all()


def test_attention_by_its_definition(tmp_path: Path) -> None:
    """The body of the function, in half precision, against the fused operator in single."""
    encoder = with_plain_attention(small_sam().image_encoder)
    path = tmp_path / "encoder.onnx"
    image = {"image": torch.zeros(1, 3, 256, 256)}
    half = export_graph(encoder, image, ["image_embeddings"], path, halves=["fp16"])["fp16"]
    explicit = tmp_path / "explicit.onnx"
    onnx.save(onnx.inliner.inline_local_functions(onnx.load(half)), explicit)
    noise = np.random.default_rng(1).standard_normal((1, 3, 256, 256)).astype(np.float32)
    expected, fused, spelled_out = (
        outputs_of(each, {"image": noise})["image_embeddings"] for each in (path, half, explicit)
    )
    assert cosine(fused, expected) > 0.99999
    assert cosine(spelled_out, expected) > 0.99999
