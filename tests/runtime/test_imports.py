"""The runtime and the command line load without torch, and only what they need."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import samrefine_rt
import samrefine_runtime

RUNTIME = Path(samrefine_runtime.__file__).parent
FACE = Path(samrefine_rt.__file__).parent
FORBIDDEN = {"torch", "torchvision", "onnx", "onnxscript", "segment_anything", "samrefine_export"}

BLOCKED = f"""
import sys
for name in {sorted(FORBIDDEN)}:
    sys.modules[name] = None
"""


def modules(folder: Path) -> list[str]:
    found = sorted(folder.rglob("*.py"))
    names = [".".join(path.relative_to(folder.parent).with_suffix("").parts) for path in found]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds the same packages."""
    paths = [str(RUNTIME.parent), str(FACE.parent)]
    start = f"import sys; sys.path[:0] = {paths!r}\n"
    return subprocess.run(
        [sys.executable, "-c", start + code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_module_imports_without_torch() -> None:
    names = modules(RUNTIME) + modules(FACE)
    if importlib.util.find_spec("starlette") is None:  # the extra serve
        names = [name for name in names if ".serve." not in name]
    assert len(names) > 30
    code = f"import importlib\nfor name in {names}:\n    importlib.import_module(name)\n"
    done = python(BLOCKED + code + "print('all')")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all\n"


def test_public_names_resolve_without_torch() -> None:
    code = "import samrefine_rt\nfor name in samrefine_rt.__all__: getattr(samrefine_rt, name)\n"
    done = python(BLOCKED + code)
    assert done.returncode == 0, done.stderr


def test_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Sam'"):
        samrefine_rt.Sam  # noqa: B018


def test_public_names_are_visible() -> None:
    """To `dir` and `help` before their first use, and to type checkers through plain imports."""
    done = python("import samrefine_rt\nprint(*dir(samrefine_rt))\n")
    assert set(samrefine_rt.__all__) <= set(done.stdout.split()), done.stderr
    assert sorted(samrefine_rt.__all__) == sorted(samrefine_rt._HOMES)
    assert typed_names(FACE / "__init__.py") == {
        name: f"samrefine_runtime.{home}" for name, home in samrefine_rt._HOMES.items()
    }


def typed_names(path: Path) -> dict[str, str]:
    """Module of each name that is imported under `if TYPE_CHECKING`."""
    found: dict[str, str] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If):
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                found |= {alias.name: line.module or "" for alias in line.names}
    return found


LAYERS = (
    {"errors"},
    {
        "atomic",
        "checks",
        "class_names",
        "compare",
        "image",
        "image_file",
        "inputs",
        "labels",
        "listing",
        "names",
        "png",
        "registry",
        "settings",
    },
    {"bundle", "masks"},
    {"backends", "trust"},
    {"arguments"},
    {"sam", "cam", "refine", "evaluate", "formats", "runs"},
    {"label_files", "engines", "segment"},
    {"results"},
    {"report"},
    {"pipeline"},
    {"diagnosis"},
)
"""Rooms and modules of the runtime; imports go from a layer to lower ones. Those of one layer do
not know each other, but for what all others share (the second layer)."""


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=str)
def test_imports_between_rooms_point_one_way(path: Path) -> None:
    level = {room: number for number, layer in enumerate(LAYERS) for room in layer}
    own = path.relative_to(RUNTIME).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for room in rooms_imported(path) - {own}:
        is_shared = room in LAYERS[1] and own in LAYERS[1]
        assert level[room] < level[own] or is_shared, f"{own} imports {room}"


def rooms_imported(path: Path) -> set[str]:
    """First part of each runtime module that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("samrefine_runtime"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda p: p.stem)
def test_runtime_sources_never_import_the_exporters_packages(path: Path) -> None:
    """Not even inside a function, where the test above would not see it."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            imported.add((node.module or "").split(".")[0])
    assert not imported & FORBIDDEN
    assert "samrefine_rt" not in imported


HELP = """
import runpy, sys
sys.argv = ["samrefine", *sys.argv[1:]]
try:
    runpy.run_module("samrefine_rt", run_name="__main__")
except SystemExit as end:
    loaded = {name.split(".")[0] for name in sys.modules if sys.modules[name] is not None}
    print("LOADED", *sorted(loaded), file=sys.stderr)
    raise
"""


LAZY = (
    *("masks", "refine", "label", "segment", "evaluate", "inspect", "build"),
    *("verify", "bench", "doctor", "serve"),
)
"""Commands that need no torch."""


def test_help_loads_nothing_heavy() -> None:
    done = python(HELP, "--help")
    assert done.returncode == 0
    assert "Commands:" in done.stdout and "evaluate" in done.stdout
    loaded = done.stderr.rpartition("LOADED")[2].split()
    assert "click" in loaded and "samrefine_rt" in loaded
    assert not {"numpy", "cv2", "onnxruntime", "PIL", "torch", "onnx"} & set(loaded)


@pytest.mark.parametrize("command", [*LAZY, "export"])
def test_help_of_commands_without_torch(command: str) -> None:
    done = python(BLOCKED + HELP, command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: samrefine")
    assert "onnxruntime" not in done.stderr.rpartition("LOADED")[2].split()


def test_export_without_torch_says_what_to_install(tmp_path: Path) -> None:
    block = "import sys\nfor name in ('torch', 'onnx'):\n    sys.modules[name] = None\n"
    out = tmp_path / "bundle"
    arguments = ["export", "sam", "--model", "vit_b", "--random-weights", "0", "--out", str(out)]
    exporter = f"sys.path.insert(0, {str(FACE.parent / 'export')!r})\n"
    done = python(block + exporter + HELP, *arguments)
    message = done.stderr.partition("LOADED")[0]
    assert done.returncode == 2
    assert message == "Error: exporting needs torch: pip install 'samrefine-rt[export]'\n"
    assert not out.exists()


def test_commands_without_onnxruntime_say_what_to_install(
    tmp_path: Path, small_bundle: Path
) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    arguments = ["masks", str(tmp_path), "--bundle", str(small_bundle), "--out", str(tmp_path)]
    block = "import sys\nfor name in ('onnxruntime', 'openvino'): sys.modules[name] = None\n"
    done = python(block + HELP, *arguments)
    assert done.returncode == 2
    assert "Error: no backend runs here: " in done.stderr
    assert "onnxruntime is not installed: pip install 'samrefine-rt[cpu]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("cv2", "Error: a package cannot be imported: libGL.so.1: cannot open it\n"),
        (
            "onnxruntime",
            "onnxruntime is installed, but does not start (libGL.so.1: cannot open it)",
        ),
        ("openvino", "OpenVINO is installed, but does not start (libGL.so.1: cannot open it)"),
    ],
)
def test_broken_packages_are_one_line(
    package: str, message: str, tmp_path: Path, small_bundle: Path
) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError('libGL.so.1: cannot open it')")
    (tmp_path / "image.png").write_bytes(b"")
    blocked = {"onnxruntime", "openvino"} - {package}
    block = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nsys.modules.update("
    block += f"dict.fromkeys({sorted(blocked)!r}))\n" if package != "cv2" else ")\n"
    arguments = ["masks", tmp_path, "--bundle", small_bundle, "--out", tmp_path / "out"]
    done = python(block + HELP, *map(str, arguments))
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
