"""External data: found in every place of a model, in every way to write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from samrefine_runtime.bundle import EMBEDDED
from samrefine_runtime.bundle.onnx_files import ExternalData, external_data
from samrefine_runtime.bundle.wire import WireError
from tests.onnx_bytes import (
    INLINE,
    entry,
    everywhere,
    external,
    field,
    key,
    model,
    node,
    tensor,
    varint,
)
from tests.samples import DATA

MANY = 1_000_000


@pytest.mark.parametrize("place", everywhere(b""))
def test_a_tensor_in_every_place(place: str) -> None:
    content = everywhere(external("a.data", offset="4", length="12"))[place]
    assert external_data(content, MANY) == {ExternalData("a.data", 4, 12)}
    assert external_data(everywhere(INLINE)[place], MANY) == set()


def test_all_tensors_are_found_each_place_once() -> None:
    names = ["a", "b/c", "a", "ä"]
    content = model(b"".join(field(5, external(name)) for name in names))
    assert {each.location for each in external_data(content, MANY)} == set(names)
    assert len(external_data(content, MANY)) == 3


@pytest.mark.parametrize("folder", [EMBEDDED["demo"], DATA / "small_bundle"], ids=lambda p: p.name)
def test_exported_graphs(folder: Path) -> None:
    for path in sorted(folder.glob("*.onnx")):
        shares = path.stem in (
            "decoder",
            *(f"everything_{x}" for x in ("image", "tokens", "masks")),
        )
        locations = {each.location for each in external_data(path.read_bytes(), MANY)}
        assert locations == ({"decoder.data"} if shares else set()), path.name


def test_graphs_nested_as_deep_as_a_file_can_hold() -> None:
    graph = field(5, external("deep.data"))
    for _ in range(2000):
        graph = field(1, node("If", field(6, graph)))
    assert external_data(model(graph), MANY) == {ExternalData("deep.data", 0, 0)}


TENSOR = external("a.data")
GRAPH = field(5, TENSOR)


@pytest.mark.parametrize(
    "content",
    [
        model(GRAPH) + field(7, GRAPH),
        model(training=field(1, GRAPH) + field(1, GRAPH)),
        model(training=field(2, GRAPH) + field(2, GRAPH)),
        model(field(1, node("Constant", field(5, TENSOR) + field(5, INLINE)))),
        model(field(1, node("If", field(6, GRAPH) + field(6, b"")))),
        model(field(1, node("Constant", field(22, b"") + field(22, field(1, TENSOR))))),
        model(field(15, field(1, TENSOR) + field(1, INLINE))),
        model(field(15, field(2, TENSOR) + field(2, INLINE))),
        model(field(1, node("Relu") + field(4, "EPContext"))),
        model(field(1, node("Relu", domain="a") + field(7, "b"))),
        model(functions=field(1, "f") + field(1, "g")),
        model(functions=field(10, "f") + field(10, "g")),
        model(field(5, TENSOR + field(14, 0))),
        model(field(5, TENSOR + entry("location", "b.data"))),
        model(field(5, TENSOR + field(13, field(1, "offset") + field(1, "length")))),
        model(field(5, tensor(field(13, field(1, "location") + field(2, "a") + field(2, "b"))))),
    ],
)
def test_single_fields_given_twice(content: bytes) -> None:
    """Some readers take the last one, some merge both."""
    with pytest.raises(WireError, match=r"twice|unknown or said before"):
        external_data(content, MANY)


@pytest.mark.parametrize(
    "content",
    [
        key(7, 0) + b"\x01",
        key(7, 1) + bytes(8),
        model(key(5, 0) + b"\x01"),
        model(key(1, 5) + bytes(4)),
        model(field(5, key(13, 0) + b"\x01")),
        model(field(5, tensor(entry("location", "a")) + field(14, b"\x01"))),
        model(field(1, key(4, 0) + b"\x01")),
    ],
)
def test_fields_of_another_type(content: bytes) -> None:
    with pytest.raises(WireError, match="wire type"):
        external_data(content, MANY)


@pytest.mark.parametrize("flag", [1, 2, 2**32 + 1, 2**64 - 1])
def test_what_readers_may_take_for_external(flag: int) -> None:
    """A number of 64 bits is cut to 32 by readers."""
    with pytest.raises(WireError, match="external data of no location"):
        external_data(model(field(5, tensor(field(14, flag)))), MANY)
    assert external_data(model(field(5, tensor(field(14, 0)))), MANY) == set()


@pytest.mark.parametrize("content", [b"", field(1, "location"), field(2, "a.data")])
def test_entries_without_a_key_or_value(content: bytes) -> None:
    with pytest.raises(WireError):
        external_data(model(field(5, tensor(field(13, content), field(14, 1)))), MANY)


def test_names_that_are_no_text() -> None:
    location = field(13, field(1, "location") + field(2, b"\xff\xfe"))
    with pytest.raises(WireError, match="no UTF-8"):
        external_data(model(field(5, tensor(location))), MANY)
    with pytest.raises(WireError, match="a name of 5000 bytes, expected at most 1024"):
        external_data(model(field(5, external("x" * 5000))), MANY)


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_operators_that_only_compute(domain: str) -> None:
    assert external_data(model(field(1, node("Any", domain=domain))), MANY) == set()


def test_operators_of_other_domains_are_the_models_own_functions() -> None:
    use = field(1, node("Mine", domain="my.domain"))
    own = field(1, "Mine") + field(10, "my.domain") + field(7, node("Relu"))
    assert external_data(model(use, functions=own), MANY) == set()
    others = (b"", own.replace(b"Mine", b"Nine"), own.replace(b"my.domain", b"no.domain"))
    for function in others:
        with pytest.raises(WireError, match=r"'Mine' is of domain 'my\.domain', which may do"):
            external_data(model(use, functions=function), MANY)


CONTEXT = node("EPContext", domain="com.microsoft")


@pytest.mark.parametrize(
    "content",
    [
        model(field(1, CONTEXT)),
        model(field(1, node("If", field(6, field(1, CONTEXT))))),
        model(functions=field(7, CONTEXT)),
        model(training=field(2, field(1, CONTEXT))),
    ],
)
def test_operators_that_do_more_anywhere(content: bytes) -> None:
    with pytest.raises(WireError, match="operator 'EPContext' does more than compute"):
        external_data(content, MANY)


def test_the_number_of_fields_is_limited() -> None:
    content = model(field(2, "a") * 50)
    assert external_data(content, 52) == set()
    with pytest.raises(WireError, match="it has over 51 fields"):
        external_data(content, 51)


def test_unknown_fields_are_stepped_over() -> None:
    later = field(99, "x") + field(100, 5) + key(101, 1) + bytes(8)
    content = model(later + field(5, later + external("a.data") + later)) + later
    assert {each.location for each in external_data(content, MANY)} == {"a.data"}


@pytest.mark.parametrize("cut", range(1, 40))
def test_models_that_end_early(cut: int) -> None:
    content = model(field(5, external("a.data", offset="4", length="12")))
    whole = external_data(content, MANY)
    assert whole
    with pytest.raises(WireError):
        external_data(content[:-cut], MANY)


def test_sizes_that_lie() -> None:
    """A message that claims a byte more, or less, than it has."""
    for wrong in (-1, 1, 1000):
        graph = field(5, external("a.data"))
        content = key(7) + varint(len(graph) + wrong) + graph
        with pytest.raises(WireError):
            external_data(content, MANY)
