"""The C library gives what Python gets from the same graph in the same ONNX Runtime."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import samrefine_rt
from samrefine_runtime.bundle import Bundle
from tests.c.programs import EXAMPLE, SOURCES, compiled, said, started


def in_python(graph: Path, feeds: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Run a graph as the library does, and return its outputs by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 2
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(graph), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def joined(outputs: dict[str, NDArray[Any]], *names: str) -> bytes:
    return b"".join(outputs[name].tobytes() for name in names)


LABEL = (
    "label",
    "pseudo_label",
    "probabilities",
    "boxes",
    "scores",
    "stability_scores",
    "taken_by",
)
MASKS = ("boxes", "scores", "stability_scores", "mask_bits")


def rgb(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("gap", [0, 5])
@pytest.mark.parametrize("image", ["scene", "small_image"])
def test_labels(
    check: Path, graphs: Path, tmp_path: Path, request: Any, image: str, gap: int
) -> None:
    path, out = request.getfixturevalue(image), tmp_path / "out"
    said(check, "label", graphs / "label.onnx", path, gap, out)
    assert out.read_bytes() == joined(
        in_python(graphs / "label.onnx", {"image": rgb(path)}), *LABEL
    )


def test_labels_of_given_classes(check: Path, graphs: Path, tmp_path: Path, scene: Path) -> None:
    given = np.zeros(len(Bundle.load("demo").require_cam().classes), bool)
    given[[0, 3]] = True
    said(check, "label", graphs, scene, 0, tmp_path / "out", 0, 3)
    feeds = {"image": rgb(scene), "image_labels": given}
    expected = in_python(graphs / "label.onnx", feeds)
    assert (tmp_path / "out").read_bytes() == joined(expected, *LABEL)


@pytest.mark.parametrize("image", ["scene", "small_image"])
def test_masks(check: Path, graphs: Path, tmp_path: Path, request: Any, image: str) -> None:
    path = request.getfixturevalue(image)
    said(check, "masks", graphs / "everything.onnx", path, 3, tmp_path / "out")
    expected = in_python(graphs / "everything.onnx", {"image": rgb(path)})
    assert (tmp_path / "out").read_bytes() == joined(expected, *MASKS)


@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize("has_scores", [False, True])
def test_refinement(
    check: Path, graphs: Path, tmp_path: Path, count: int, has_scores: bool
) -> None:
    rng = np.random.default_rng(count)
    label = np.kron(rng.integers(0, 4, (4, 5), dtype=np.uint8), np.ones((6, 7), np.uint8))
    masks = np.kron(rng.random((count, 8, 5)) < 0.4, np.ones((3, 7), bool))
    scores = rng.random(count).astype(np.float32)
    # Whatever is not 0 is inside
    inside = masks * rng.integers(1, 256, masks.shape, dtype=np.uint8)
    (tmp_path / "in").write_bytes(label.tobytes() + inside.tobytes() + scores.tobytes())
    height, width = label.shape
    arguments = (tmp_path / "in", width, height, count, int(has_scores), tmp_path / "out")
    said(check, "refine", graphs / "refine.onnx", *arguments)
    feeds = {"pseudo_label": label, "masks": masks, **({"scores": scores} if has_scores else {})}
    expected = in_python(graphs / "refine.onnx", feeds)
    assert (tmp_path / "out").read_bytes() == joined(expected, "label", "taken_by")


def test_version_and_classes(check: Path, graphs: Path) -> None:
    classes = Bundle.load("demo").require_cam().classes
    assert said(check, "classes", graphs) == [samrefine_rt.__version__, *classes]
    assert said(check, "classes", graphs / "refine.onnx") == [samrefine_rt.__version__]
    cmake = (SOURCES / "CMakeLists.txt").read_text()
    assert re.findall(r"project\(samrefine VERSION (\S+)", cmake) == [samrefine_rt.__version__]


def test_threads_share_a_handle(check: Path, graphs: Path, small_image: Path) -> None:
    said(check, "threads", graphs / "label.onnx", small_image)


@pytest.mark.parametrize(("graph", "count"), [("refine", 300), ("label", 15)])
def test_memory_stays_flat(
    check: Path, graphs: Path, small_image: Path, graph: str, count: int
) -> None:
    before, after = map(int, said(check, "memory", graphs / f"{graph}.onnx", small_image, count))
    assert after - before < 2_000, f"{before} KB became {after} KB"


def test_the_example(root: Path, graphs: Path, scene: Path, tmp_path: Path) -> None:
    example = compiled(root, EXAMPLE, tmp_path / "example")
    out = tmp_path / "label.pgm"
    (line,) = said(example, graphs, scene, out, SAMREFINE_THREADS="2")
    expected = in_python(graphs / "label.onnx", {"image": rgb(scene)})
    assert np.array_equal(rgb(out), expected["label"])
    assert line.startswith(f"{out}  {len(expected['boxes'])} masks  ")
    # One image fails, the rest is done
    out.unlink()
    finished = started(example, graphs, graphs / "label.onnx", out, scene, out)
    assert finished.returncode == 1 and out.exists()
    assert (
        finished.stderr == f"Error: {graphs / 'label.onnx'} is no image that this program reads\n"
    )
    for arguments in ((), (graphs,), (graphs, scene), (tmp_path / "missing", scene, out)):
        finished = started(example, *arguments)
        assert finished.returncode == 2 and len(finished.stderr.splitlines()) == 1
