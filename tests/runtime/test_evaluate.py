"""Confusion matrices and mean IoU of label maps against ground truth."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.evaluate import confusion_matrix, evaluate
from samrefine_runtime.labels import write_label
from tests.samples import VOC, needs_voc


def label(*rows: Any) -> NDArray[np.uint8]:
    return np.array(rows, np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and ground truth of one image with classes 0 and 1."""
    predictions, truth = tmp_path / "predictions", tmp_path / "truth"
    write_label(predictions / "a.png", label([0, 1, 1, 255]))
    write_label(truth / "a.png", label([0, 0, 1, 1]))
    return predictions, truth


@needs_voc
def test_voc_labels_of_transcam() -> None:
    result = evaluate(VOC / "transcam", VOC / "gt")
    assert round(100 * result.miou, 2) == 59.71
    assert result.images == 150
    assert result.missing == result.skipped == []
    assert result.iou.shape == (21,)


def test_confusion_counts_like_a_loop() -> None:
    rng = np.random.default_rng(0)
    prediction = rng.choice([0, 1, 2, 3, 255], (30, 20)).astype(np.uint8)
    truth = rng.choice([0, 1, 2, 3, 255], (30, 20)).astype(np.uint8)
    expected = np.zeros((4, 4), int)
    for p, t in zip(prediction.flat, truth.flat, strict=True):
        if t != 255:
            expected[t, 0 if p == 255 else p] += 1
    assert np.array_equal(confusion_matrix(prediction, truth, 4), expected)


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (label([0, 1]), label([0], [1]), r"prediction is \(1, 2\) \(H, W\), ground truth \(2, 1\)"),
        (label([0, 3]), label([0, 1]), "prediction has class 3, expected below 3"),
        (label([0, 3]), label([0, 255]), "prediction has class 3"),
        (label([0, 1]), label([0, 254]), "ground truth has class 254"),
    ],
)
def test_labels_that_do_not_fit(
    prediction: NDArray[Any], truth: NDArray[Any], message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        confusion_matrix(prediction, truth, 3)


def test_figures_and_json(folders: tuple[Path, Path]) -> None:
    result = evaluate(*folders, num_classes=3)
    assert result.iou[:2].tolist() == [1 / 3, 1 / 3]
    assert math.isnan(result.iou[2])
    assert result.miou == 1 / 3
    text = json.dumps(result.to_json(), allow_nan=False)
    assert json.loads(text) == {
        "miou": 1 / 3,
        "iou": [1 / 3, 1 / 3, None],
        "precision": [0.5, 0.5, None],
        "recall": [0.5, 0.5, None],
        "images": 1,
        "missing": [],
        "skipped": [],
    }


def test_bad_images_are_reported_and_the_rest_is_done(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    write_label(truth / "lost.png", label([0]))
    write_label(truth / "size.png", label([0]))
    write_label(predictions / "size.png", label([0, 0]))
    write_label(truth / "broken.png", label([0]))
    (predictions / "broken.png").write_bytes(b"")
    steps = []
    result = evaluate(predictions, truth, progress=lambda done, total: steps.append((done, total)))
    assert result.images == 1
    assert result.missing == ["lost"]
    assert [message.split(": ")[0] for message in result.skipped] == [
        str(predictions / "broken.png"),
        str(predictions / "size.png"),
    ]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_nothing_to_compare_gives_null(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    (predictions / "a.png").unlink()
    result = evaluate(predictions, truth)
    assert math.isnan(result.miou)
    assert result.to_json()["miou"] is None


def test_wrong_folders_and_classes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, truth = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="nowhere: no such folder"):
        evaluate(tmp_path / "nowhere", truth)
    with pytest.raises(SettingsError, match="empty: no PNG label maps"):
        evaluate(predictions, tmp_path / "empty")
    with pytest.raises(
        SettingsError, match="num_classes is 1, expected a whole number from 2 to 255"
    ):
        evaluate(predictions, truth, num_classes=1)
