"""The documentation does what it says: its Python runs, its files are read, its links lead on."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samrefine_rt import Labeler
from samrefine_rt.demo import demo_images
from samrefine_runtime.bundle import EMBEDDED
from samrefine_runtime.cam import CamClassifier
from samrefine_runtime.formats.image_labels import read_image_labels
from samrefine_runtime.labels import read_label, write_label
from tests.command import run
from tests.markdown import ROOT, blocks

CLASSES = ("car", "fish")
DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("*.md")) + sorted(
    str(path.relative_to(ROOT))
    for part in ("docs", "docker", "examples")
    for path in (ROOT / part).glob("*.md")
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one embedded scene as `image.jpg` and its pseudo label `cam.png`."""
    folder = tmp_path_factory.mktemp("scene")
    classifier = CamClassifier("demo")
    example = demo_images(classifier.classes)[1]
    shutil.copyfile(example.path, folder / "image.jpg")
    write_label(folder / "cam.png", classifier.run(example.path, example.image_labels).label()[0])
    return folder


def execute(code: list[str], names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run blocks one after the other, as in one session."""
    names = {} if names is None else names
    for block in code:
        exec(compile(block, "block", "exec"), names)
    return names


def test_python_of_the_documentation_runs(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scene)
    names = execute(blocks("docs/python.md", "python"))
    assert names["labeler"].classes == names["refiner"].classes
    assert len(names["masks"]) > 0 and names["found"].shape == (1, *names["cam"].image_shape)
    assert np.array_equal(
        read_label("labels/voc/image.png"), names["labeler"].label("image.jpg").label
    )
    assert (scene / "labels-of-one" / "labelme" / "image.json").is_file()
    assert (scene / "report.html").stat().st_size > 10_000


def test_readme_and_command_give_the_same_label(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """README's Python as it stands, and `refine`, with the demo bundle on an embedded scene."""
    for source, target in (("image.jpg", "images/cat.jpg"), ("cam.png", "cams/cat.png")):
        (tmp_path / target).parent.mkdir()
        shutil.copyfile(scene / source, tmp_path / target)
    shutil.copytree(EMBEDDED["demo"], tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    result = execute(blocks("README.md", "python"))["result"]
    assert len(result.masks) > 0
    command = ["refine", "--pseudo-labels", "cams", "--images", "images", "--bundle", "demo"]
    assert run(*command, "--out", "by-command").exit_code == 0
    found = list(Path("by-command").rglob("cat.png"))
    assert [path.read_bytes() for path in found] == [Path("refined.png").read_bytes()]


def test_labeler_and_command_give_the_same_label(scene: Path, tmp_path: Path) -> None:

    Labeler("demo").label(scene / "image.jpg", ["fish", "car"]).save(tmp_path / "label.png")
    (tmp_path / "labels.csv").write_text(
        blocks("docs/image-labels.md", "csv")[0] + "image,car;fish\n"
    )
    command = ["label", scene / "image.jpg", "--bundle", "demo", "--out", tmp_path / "out"]
    assert run(*command, "--image-labels", tmp_path / "labels.csv").exit_code == 0
    assert (tmp_path / "out/voc/image.png").read_bytes() == (tmp_path / "label.png").read_bytes()


def test_files_of_image_labels(tmp_path: Path) -> None:
    """The four forms of docs/image-labels.md say the same."""
    texts = [blocks("docs/image-labels.md", language) for language in ("csv", "json", "xml")]
    (listed, columns), (by_name,), (annotation,) = texts
    expected = {"scene-1": [True, False], "scene-2": [True, True], "scene-3": [False, False]}
    for name, text in (("a.csv", listed), ("b.csv", columns), ("c.json", by_name)):
        (tmp_path / name).write_text(text)
        found = read_image_labels(tmp_path / name, CLASSES)
        assert {image: present.tolist() for image, present in found.items()} == expected
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "scene-2.xml").write_text(annotation)
    assert read_image_labels(tmp_path / "xml", CLASSES)["scene-2"].tolist() == [True, True]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (path.parent / target) if target else path
        assert found.exists(), link
        if anchor:
            assert anchor in anchors(found.read_text()), link


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 100


def test_messages_are_those_of_the_package() -> None:
    """Every message of docs/troubleshooting.md, `…` standing for what differs, is in the source."""
    known = templates()
    quoted = messages((ROOT / "docs/troubleshooting.md").read_text())
    assert len(quoted) > 40
    unknown = [text for text in quoted if not any(fits(text, each) for each in known)]
    assert not unknown


def messages(text: str) -> list[str]:
    """The first cells of the tables of our own messages."""
    tables = re.split(r"\| message of OpenCV \|.*?\n\n", text, flags=re.S)
    rows = re.findall(r"^\| `{1,2}(.+?)`{1,2} \|", "".join(tables), re.M)
    return [row for row in rows if row != "message"]


def fits(text: str, template: str) -> bool:
    """Whether a message is a template's, from its beginning or from a value on."""
    parts = [re.escape(part) for part in text.split("…")]
    return re.search(".*".join(parts), template) is not None


def templates() -> list[str]:
    """The texts of the package's source; `…` stands for values."""
    folders = ("runtime", "export", "samrefine_rt")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    return [text for text in map(text_of, nodes) if text]


def text_of(node: ast.AST) -> str:
    """The text of a string or an f-string; nothing of other nodes."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "…" for part in node.values)
    value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
    return re.sub(r"%[ds]", "…", value) if isinstance(value, str) else ""
