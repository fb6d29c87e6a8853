"""Every format opened by the programs that it is for; `make interop` installs them.

Each test counts the pixels that a program sees otherwise than the label map has them. The table in
docs/formats.md has these figures.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.formats import LABEL_FORMATS
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.labels import VOC_CLASSES, LabelMap, read_label
from tests.samples import VOC

# Other people's warnings are theirs
pytestmark = pytest.mark.filterwarnings("ignore")

LOG = logging.getLogger(__name__)

CLASSES = VOC_CLASSES
STEP = 5
"""Every so many of the VOC photos are written."""

ROUNDED = 0.03
"""Fraction of the pixels that may differ where edges are rounded: small images are mostly edges."""

Written = Callable[..., Path]


def drawn(seed: int) -> LabelMap:
    """Draw overlapping discs, some with holes, where there are no VOC photos."""
    random, label = np.random.default_rng(seed), np.zeros((270, 360), np.uint8)
    y, x = np.mgrid[:270, :360]
    for value in random.integers(1, 21, 6):
        distance = np.hypot(y - random.integers(270), x - random.integers(360))
        label[(distance < 75) & (distance > 24)] = value
    return label


@pytest.fixture(scope="module")
def labels() -> dict[str, LabelMap]:
    paths = sorted((VOC / "gt").glob("*.png"))[::STEP]
    return {path.stem: read_label(path) for path in paths} or {
        f"image{seed}": drawn(seed) for seed in range(12)
    }


@pytest.fixture(scope="module")
def written(labels: dict[str, LabelMap], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Write the labels in a format; return its folder."""

    def write(name: str, **given: Any) -> Path:
        out = tmp_path_factory.mktemp("interop")
        images = {}
        for image_id, label in labels.items():
            images[image_id] = VOC / "images" / f"{image_id}.jpg"
            if not images[image_id].is_file():
                images[image_id] = out / "originals" / f"{image_id}.jpg"
                images[image_id].parent.mkdir(exist_ok=True)
                Image.new("RGB", label.shape[::-1], "gray").save(images[image_id])
        form = LABEL_FORMATS[name](out / name, CLASSES, settings=FormatSettings(**given))
        for image_id, label in labels.items():
            form.write(image_id, images[image_id], label)
        form.finish(images, labels.__getitem__)
        return form.folder

    return write


def differing(
    labels: dict[str, LabelMap], seen: dict[str, LabelMap], *, has_void: bool = False
) -> int:
    """Count the pixels that are seen otherwise; all images must be there."""
    assert set(seen) == set(labels)
    total = 0
    for name, label in labels.items():
        expected = label if has_void else np.where(label == 255, 0, label)
        total += int(np.count_nonzero(seen[name] != expected))
    LOG.info("%d of %d pixels differ", total, pixels(labels))
    return total


def pixels(labels: dict[str, LabelMap]) -> int:
    return sum(label.size for label in labels.values())


def in_folder(folder: Path, code: str, *arguments: object) -> str:
    """Run Python in another working directory; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "YOLO_CONFIG_DIR": str(folder),
            "QT_QPA_PLATFORM": "offscreen",
            "HF_HOME": str(folder / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def run_documented(title: str, written: Path, where: Path) -> None:
    """Run the lines of docs/formats.md that begin with a comment of this title, as they are."""
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    (code,) = re.findall(rf"```python\n# {title}\n(.*?)```", text, re.DOTALL)
    (where / "out").symlink_to(written.parent)
    in_folder(where, code)


# Ultralytics


def ultralytics() -> None:
    """Skip the test where it is missing; its torchvision may be of another torch."""
    pytest.importorskip("samrefine_export.third_party")
    pytest.importorskip("ultralytics")


def test_ultralytics_reads_the_data_set_from_any_folder(
    written: Written,
    labels: dict[str, LabelMap],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ultralytics()
    import cv2
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset, polygon2mask

    folder = written("yolo")
    monkeypatch.chdir(tmp_path)
    data = check_det_dataset(str(folder / "data.yaml"))
    assert list(data["names"].values()) == list(CLASSES[1:])
    seen = {}
    for part in ("train", "val"):
        for entry in YOLODataset(img_path=data[part], data=data, task="segment").labels:
            height, width = entry["shape"]
            label = np.zeros((height, width), np.uint8)
            shapes = [each * (width, height) for each in entry["segments"]]
            # As Ultralytics draws overlapping masks: small ones on top
            order = np.argsort([-cv2.contourArea(each.astype(np.float32)) for each in shapes])
            for index in order:
                mask = polygon2mask((height, width), [shapes[index].reshape(-1)], color=1)
                label[mask > 0] = entry["cls"][index, 0] + 1
            seen[Path(entry["im_file"]).stem] = label
    # It draws outlines too, which is half a pixel at all edges; it trains at another size anyway
    assert differing(labels, seen) < ROUNDED * pixels(labels)


def test_ultralytics_trains_as_written(written: Written, tmp_path: Path) -> None:
    ultralytics()
    folder = written("yolo", split=0.3)
    in_folder(
        tmp_path,
        "import sys\n"
        "import samrefine_export.third_party\n"
        "from ultralytics import YOLO\n"
        "YOLO('yolov8n-seg.yaml').train(data=sys.argv[1], epochs=1, imgsz=64, batch=8, workers=0,"
        " device='cpu', plots=False, amp=False, project=sys.argv[2])",
        folder / "data.yaml",
        tmp_path / "runs",
    )
    assert list((tmp_path / "runs").rglob("last.pt"))


# torchvision


def test_torchvision_opens_the_devkit(written: Written, labels: dict[str, LabelMap]) -> None:
    # A torchvision of another torch than the one here is imported all the same
    datasets = pytest.importorskip("samrefine_export.third_party").torchvision.datasets
    root = written("voc-devkit")
    parts = {name: datasets.VOCSegmentation(root, image_set=name) for name in ("train", "val")}
    assert len(parts["train"]) and len(parts["val"])
    seen = {}
    for part in parts.values():
        for (image, target), path in zip(part, part.masks, strict=True):
            assert image.size == target.size
            seen[Path(path).stem] = np.asarray(target)
    assert differing(labels, seen, has_void=True) == 0


# datumaro


def datumaro_sees(folder: Path, form: str, labels: dict[str, LabelMap]) -> dict[str, LabelMap]:
    """Return the label maps that datumaro makes of a data set."""
    dataset_module = pytest.importorskip("datumaro.components.dataset")
    from datumaro.components.annotation import AnnotationType
    from pycocotools import mask as coco_mask

    dataset = dataset_module.Dataset.import_from(str(folder), form)
    names = [each.name for each in dataset.categories()[AnnotationType.label]]
    assert [name for name in names if name not in ("background", "ignored")] == list(CLASSES[1:])
    seen = {}
    for item in dataset:
        shape = labels[Path(item.id).stem].shape
        label = np.zeros(shape, np.uint8)
        for each in item.annotations:
            if each.type == AnnotationType.mask:
                mask = np.asarray(each.image).astype(bool)
            elif each.type == AnnotationType.polygon:
                runs = coco_mask.merge(coco_mask.frPyObjects([each.points], *shape))
                mask = coco_mask.decode(runs).astype(bool)
            else:
                continue
            name = names[each.label]
            label[mask] = 255 if name == "ignored" else CLASSES.index(name)
        seen[Path(item.id).stem] = label
    return seen


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("coco", "coco_instances"),
        ("coco-rle", "coco_instances"),
        ("coco-stuff", "coco_stuff"),
        ("voc-devkit", "voc_segmentation"),
        ("cvat", "cvat"),
    ],
)
def test_datumaro_opens(
    written: Written, labels: dict[str, LabelMap], name: str, form: str
) -> None:
    # CVAT's masks; its other shapes are for editing
    folder = written(name, shapes="masks") if name == "cvat" else written(name)
    seen = datumaro_sees(folder, form, labels)
    assert differing(labels, seen, has_void=name == "voc-devkit") == 0


def test_datumaro_opens_polygons_of_cvat(written: Written, labels: dict[str, LabelMap]) -> None:
    seen = datumaro_sees(written("cvat", tolerance=0), "cvat", labels)
    assert differing(labels, seen) == 0


# pycocotools


@pytest.mark.parametrize("name", ["coco", "coco-rle", "coco-stuff"])
def test_pycocotools_draws(written: Written, labels: dict[str, LabelMap], name: str) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    (path,) = (written(name) / "annotations").glob("*.json")
    coco = coco_module.COCO(str(path))
    seen = {}
    for image in coco.loadImgs(coco.getImgIds()):
        label = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])):
            label[coco.annToMask(annotation) == 1] = annotation["category_id"]
        seen[Path(image["file_name"]).stem] = label
    assert differing(labels, seen) == 0


# labelme and X-AnyLabeling


@pytest.mark.parametrize(("tolerance", "most"), [(0, 0), (None, ROUNDED)])
def test_x_anylabeling_opens_and_draws(
    written: Written,
    labels: dict[str, LabelMap],
    tmp_path: Path,
    tolerance: float | None,
    most: float,
) -> None:
    pytest.importorskip("anylabeling")
    folder = written("labelme", tolerance=tolerance)
    mapping = {name: index for index, name in enumerate(CLASSES)}
    (tmp_path / "map.json").write_text(json.dumps({"type": "grayscale", "colors": mapping}))
    # Its own loader, and its own export of masks
    in_folder(
        tmp_path,
        "import glob, json, os, sys\n"
        "from anylabeling.views.labeling.label_converter import LabelConverter\n"
        "from anylabeling.views.labeling.label_file import LabelFile\n"
        "table = json.load(open('map.json'))\n"
        "for path in glob.glob(sys.argv[1] + '/*.json'):\n"
        "    assert all(s.shape_type == 'polygon' for s in LabelFile(path).shapes)\n"
        "    out = os.path.basename(path)[:-5] + '.png'\n"
        "    LabelConverter().custom_to_mask(path, out, table)\n",
        folder,
    )
    seen = {path.stem: np.asarray(Image.open(path)) for path in tmp_path.glob("*.png")}
    assert differing(labels, seen) <= most * pixels(labels)


@pytest.fixture
def labelme() -> Iterator[Any]:
    """labelme's loader; Qt and what draws on the screen are not needed by it."""
    from unittest.mock import MagicMock

    with pytest.MonkeyPatch.context() as patch:
        for name in ("PyQt5", "qtpy", "qtpy.QtCore", "imgviz", "imgviz.io"):
            patch.setitem(sys.modules, name, MagicMock())
        yield pytest.importorskip("labelme")


@pytest.mark.parametrize(("tolerance", "most"), [(0, 0), (None, ROUNDED)])
def test_labelme_opens_and_draws(
    written: Written,
    labels: dict[str, LabelMap],
    labelme: Any,
    tolerance: float | None,
    most: float,
) -> None:
    values = {name: index for index, name in enumerate(CLASSES)}
    seen = {}
    for path in written("labelme", tolerance=tolerance).glob("*.json"):
        shapes = labelme.LabelFile(str(path)).shapes
        shape = labels[path.stem].shape
        seen[path.stem] = labelme.utils.shapes_to_label(shape, shapes, values)[0]
    assert differing(labels, seen) <= most * pixels(labels)


# Label Studio


def test_label_studio_decodes_the_brushes(written: Written, labels: dict[str, LabelMap]) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    seen: dict[str, LabelMap] = {}
    for task in json.loads((written("label-studio", shapes="masks") / "tasks.json").read_text())[
        :6
    ]:
        name = Path(task["data"]["image"]).stem
        label = np.zeros(labels[name].shape, np.uint8)
        for result in task["predictions"][0]["result"]:
            rgba = brush.decode_rle(result["value"]["rle"]).reshape(*label.shape, 4)
            label[rgba[..., 3] > 0] = CLASSES.index(result["value"]["brushlabels"][0])
        seen[name] = label
    assert differing({name: labels[name] for name in seen}, seen) == 0


# Hugging Face datasets


def test_datasets_reads_pairs_of_images_and_labels(
    written: Written, labels: dict[str, LabelMap], tmp_path: Path
) -> None:
    """The lines of docs/formats.md: VOC's tree to a data set, and to parquet."""
    datasets = pytest.importorskip("datasets")
    folder = written("voc-devkit")
    run_documented("datasets", folder, tmp_path)
    sets = folder / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    names = (sets / "trainval.txt").read_text().split()
    read = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "labels.parquet"), cache_dir=str(tmp_path / "cache")
    )["train"]
    seen = {name: np.asarray(row["label"]) for name, row in zip(names, read, strict=True)}
    assert differing(labels, seen, has_void=True) == 0
