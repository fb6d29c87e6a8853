"""What results and masks show and save."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.evaluate import Evaluation
from samrefine_runtime.formats import read_stored_masks
from samrefine_runtime.labels import encode_label, read_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.pipeline import Labeler, Refiner
from samrefine_runtime.report.notebook import labels_png, masks_png
from samrefine_runtime.results import LabelResult
from samrefine_runtime.sam.generator import MaskGenerator
from tests.command import files_in, write_image
from tests.samples import ONE_THREAD

SHAPE = (40, 56)
LABEL = np.zeros(SHAPE, np.uint8)
LABEL[6:20, 6:20], LABEL[22:36, 30:50], LABEL[0] = 1, 3, 255
CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("images") / "a.png", 1, SHAPE)


@pytest.fixture(scope="module")
def refiner(lively_bundle: Path) -> Refiner:
    return Refiner(lively_bundle, CLASSES, refinement={"min_trust": 0}, session=ONE_THREAD)


@pytest.fixture(scope="module")
def refined(refiner: Refiner, image_file: Path) -> LabelResult:
    return refiner.refine(image_file, LABEL)


def test_refining_is_guided_prompts_and_sepl(
    refined: LabelResult, lively_bundle: Path, image_file: Path
) -> None:
    generator = MaskGenerator(lively_bundle, prompts="guided", session=ONE_THREAD)
    masks = generator.generate(image_file, pseudo_label=LABEL)
    assert len(masks) > 0
    assert [m.tolist() for m in masks] == [m.tolist() for m in refined.masks]
    assert set(np.unique(refined.label)) <= {0, 1, 3}
    assert refined.cam is None and refined.confidence is None
    assert refined.image_file == image_file and refined.classes == CLASSES
    assert "probability" not in str(refined.summary(CLASSES))


def test_labelling_is_refining_the_pseudo_label(
    refiner: Refiner, lively_bundle: Path, image_file: Path
) -> None:
    labeler = Labeler(lively_bundle, refinement={"min_trust": 0}, session=ONE_THREAD)
    labelled = labeler.label(image_file, ["red"])
    result = refiner.refine(image_file, labelled.pseudo_label)
    assert np.array_equal(labelled.label, result.label)
    assert labelled.image_file == image_file and labelled.classes == CLASSES
    assert labelled.seconds.keys() == {"cam", "masks", "refine"}


def test_labels_of_another_shape(refiner: Refiner, image_file: Path) -> None:
    with pytest.raises(LabelError, match=r"pseudo label is \(40, 55\) \(H, W\), expected \(40, 56"):
        refiner.refine(image_file, LABEL[:, 1:])


def test_saving_the_label(refined: LabelResult, tmp_path: Path) -> None:
    refined.save(tmp_path / "label.png")
    assert (tmp_path / "label.png").read_bytes() == encode_label(refined.label)


def test_saving_in_formats(refined: LabelResult, tmp_path: Path) -> None:
    refined.save(tmp_path, ["labelme"])
    assert {"labelme/a.json", "voc/a.png"} <= set(files_in(tmp_path))
    assert np.array_equal(read_label(tmp_path / "voc" / "a.png"), refined.label)


def test_formats_need_names(refiner: Refiner, image_file: Path, tmp_path: Path) -> None:
    with Image.open(image_file) as image:
        nameless = refiner.refine(image, LABEL)
    assert nameless.image_file is None
    with pytest.raises(SettingsError, match="image that was given as a file"):
        nameless.save(tmp_path, ["coco"])


STACK = np.stack([LABEL == 1, LABEL == 3, np.zeros(SHAPE, bool)])


@pytest.mark.parametrize("format", ["records", "png", "coco"])
def test_saved_masks_are_read_back(format: str, tmp_path: Path) -> None:
    masks = Masks.from_dense(SHAPE, STACK)
    path = tmp_path / ("a" if format == "png" else "a.json")
    masks.save(path, format)
    where = path if format == "coco" else tmp_path
    assert np.array_equal(list(read_stored_masks(where, "a")), STACK)


def test_results_are_one_line(refined: LabelResult, lively_bundle: Path) -> None:
    text = repr(refined)
    assert text.startswith("LabelResult(classes=['red', 'blue'], changed=0.")
    assert text.endswith(f"masks={len(refined.masks)}, image_shape=(40, 56))")
    labelled = Labeler(lively_bundle, session=ONE_THREAD).label(refined.image, ["green"])  # type: ignore[arg-type]
    assert repr(labelled.cam) == "CamResult(classes=[2], image_shape=(40, 56))"
    assert repr(Masks.from_dense(SHAPE, STACK)) == "Masks(3 masks, image_shape=(40, 56))"
    evaluation = Evaluation(np.array([[3, 1], [1, 3]]), 1, ["b"], [])
    assert repr(evaluation) == "Evaluation(miou=0.6000, images=1, missing=1, skipped=0)"


def picture(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_notebooks_show_results(refined: LabelResult) -> None:
    """The image, the pseudo label, the masks and the label, side by side."""
    shown = picture(refined._repr_png_())
    assert np.array_equal(
        shown, picture(labels_png(refined.image, LABEL, refined.masks, refined.label))
    )
    assert shown.shape == (40, 4 * 56 + 3 * 8, 3)
    assert np.array_equal(shown[:, :56], refined.image)
    panels = [shown[:, start : start + 56] for start in (0, 64, 128, 192)]
    assert all((a != b).any() for a, b in pairwise(panels))


def test_notebooks_show_masks() -> None:
    shown = picture(Masks.from_dense(SHAPE, STACK)._repr_png_())
    assert shown.shape == (*SHAPE, 3)
    assert not shown[1:5].any()
    inside = {tuple(shown[12, 12]), tuple(shown[30, 40])}
    assert len(inside) == 2 and (0, 0, 0) not in inside


def test_pictures_are_bounded() -> None:
    shape = (1200, 900)
    masks = Masks.from_dense(shape, [np.ones(shape, bool)])
    assert picture(masks_png(masks)).shape == (360, 270, 3)
    nothing = np.zeros(shape, np.uint8)
    assert picture(labels_png(None, nothing, masks, nothing)).shape == (360, 4 * 270 + 24, 3)
