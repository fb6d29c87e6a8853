"""The reader of external data agrees with the onnx package on what an ONNX file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from samrefine_runtime import backends
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.bundle.onnx_files import _MESSAGES, _REPEATED, external_data
from samrefine_runtime.errors import BundleError
from tests.bundles import change, put, refused, rehash, write_bundle
from tests.onnx_bytes import everywhere, external
from tests.onnx_walk import locations
from tests.samples import ONE_THREAD

MANY = 1_000_000

KINDS = {
    "ModelProto": "model",
    "TrainingInfoProto": "training",
    "GraphProto": "graph",
    "FunctionProto": "function",
    "NodeProto": "node",
    "AttributeProto": "attribute",
    "SparseTensorProto": "sparse",
    "TensorProto": "tensor",
}
"""The reader's names of ONNX's messages."""


def descriptors() -> dict[str, Any]:
    """Every message that a model can hold, by name."""
    found: dict[str, Any] = {}
    pending = [onnx.ModelProto.DESCRIPTOR]
    while pending:
        each = pending.pop()
        if each.name not in found:
            found[each.name] = each
            pending += [field.message_type for field in each.fields if field.message_type]
    return found


def leads_to_a_tensor(message: Any, known: set[str]) -> bool:
    """Whether a message is a tensor or can hold one, however deep."""
    if message.name in known:
        return False
    return message.name == "TensorProto" or any(
        field.message_type and leads_to_a_tensor(field.message_type, known | {message.name})
        for field in message.fields
    )


def test_no_place_for_tensors_is_missing() -> None:
    """Of the installed onnx: a new field that can hold tensors fails here."""
    expected = {
        (KINDS[name], field.number, KINDS[field.message_type.name])
        for name, message in descriptors().items()
        for field in message.fields
        if field.message_type and leads_to_a_tensor(field.message_type, set())
    }
    actual = {
        (kind, number, content)
        for kind, contents in _MESSAGES.items()
        for number, content in contents.items()
        if content in KINDS.values()
    }
    assert actual == expected and len(expected) > 15


@pytest.mark.parametrize(
    ("message", "field", "number", "content"),
    [
        ("NodeProto", "op_type", 4, "name"),
        ("NodeProto", "domain", 7, "domain"),
        ("FunctionProto", "name", 1, "name"),
        ("FunctionProto", "domain", 10, "domain"),
        ("TensorProto", "external_data", 13, "entry"),
        ("TensorProto", "data_location", 14, "is_external"),
    ],
)
def test_numbers_of_fields(message: str, field: str, number: int, content: str) -> None:
    assert descriptors()[message].fields_by_name[field].number == number
    assert _MESSAGES[KINDS[message]][number] == content


def test_fields_that_may_be_repeated() -> None:
    repeated = {
        (kind, number)
        for name, kind in KINDS.items()
        for number in _MESSAGES[kind]
        if descriptors()[name].fields_by_number[number].is_repeated
    }
    assert repeated == {(kind, number) for kind, all_ in _REPEATED.items() for number in all_}


@pytest.mark.parametrize("place", everywhere(b""))
def test_the_package_finds_tensors_in_the_same_places(place: str) -> None:
    content = everywhere(external("a.data"))[place]
    assert locations(content) == {"a.data"}
    # Also as the package itself writes the model
    again = onnx.ModelProto.FromString(content).SerializeToString()
    assert {each.location for each in external_data(again, MANY)} == {"a.data"}


def external_weight(folder: Path, location: str) -> onnx.TensorProto:
    """A tensor of three floats that are in a file."""
    path = folder / location
    path.write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def classifier(weight: onnx.TensorProto, *, in_attribute: bool) -> onnx.ModelProto:
    """A classifier of three classes that an engine runs: the image, and a constant as logits."""
    constant = [helper.make_node("Constant", [], ["weight"], value=weight)] if in_attribute else []
    graph = helper.make_graph(
        [
            *constant,
            helper.make_node("Relu", ["image"], ["cam"]),
            helper.make_node("Unsqueeze", ["weight", "axis"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("cam", TensorProto.FLOAT, ["b", 3, "h", "w"]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 3]),
        ],
        [*([] if in_attribute else [weight]), numpy_helper.from_array(np.array([0]), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def classifier_bundle(folder: Path, location: str, *, listed: bool) -> Path:
    """A bundle of that classifier, whose weight is an initializer in another file."""
    write_bundle(folder)
    weight = external_weight(folder, location)
    onnx.save_model(classifier(weight, in_attribute=False), folder / "cam.onnx")
    files = ["cam.onnx", location] if listed else ["cam.onnx"]

    def edit(manifest: dict[str, Any]) -> None:
        cam, graph = manifest["cam"], manifest["graphs"]["cam"]
        cam["classes"] = ["red", "green", "blue"]
        graph["files"] = [{"file": name} for name in files]
        for output in graph["outputs"]:
            output["shape"][1] = 3

    change(folder, edit)
    change(folder, rehash(folder))
    return folder


def test_listed_external_data_are_what_the_engine_loads(tmp_path: Path) -> None:
    bundle = Bundle.load(classifier_bundle(tmp_path / "bundle", "weights.data", listed=True))
    session = backends.open(bundle.graph("cam"), ONE_THREAD)
    outputs = session.run({"image": np.zeros((1, 3, 4, 4), np.float32)})
    assert outputs["logits"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("location", ["weights.data", "../weights.data"])
def test_other_external_data_never_reach_the_engine(tmp_path: Path, location: str) -> None:
    folder = classifier_bundle(tmp_path / "bundle", location, listed=False)
    assert f"graph 'cam' reads external data from {location!r}" in refused(folder)


def test_external_data_of_attributes_never_reach_the_engine(tmp_path: Path) -> None:
    folder = classifier_bundle(tmp_path / "bundle", "weights.data", listed=False)
    model = classifier(external_weight(folder, "weights.data"), in_attribute=True)
    onnx.save_model(model, folder / "cam.onnx")
    change(folder, rehash(folder))
    with pytest.raises(BundleError, match=r"graph 'cam' reads external data from 'weights\.data'"):
        Bundle.load(folder)
    change(folder, put("graphs", "cam", "files", 0, "sha256", value="0" * 64))
    assert "has sha256" in refused(folder)
