"""CamSettings, CamClassifier on a small graph of colours, cam_to_label and the bilinear resize."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from samrefine_runtime.bundle import Bundle, sha256_of
from samrefine_runtime.cam import (
    CamClassifier,
    CamResult,
    CamSettings,
    cam_to_label,
    resize_maps,
    sigmoid,
)
from samrefine_runtime.errors import (
    BundleError,
    ImageError,
    LabelError,
    SettingsError,
)
from samrefine_runtime.image import RgbImage
from tests.backend import short_of_memory
from tests.colour_graphs import COLOURS, STRIDE, graph_path
from tests.samples import DATA, ONE_THREAD


def colour_bundle(folder: Path, *, background: bool = False, **cam: Any) -> Bundle:
    folder.mkdir()
    shutil.copy(graph_path(DATA, background=background), folder / "cam.onnx")
    files = [{"file": "cam.onnx", "sha256": sha256_of(folder / "cam.onnx")}]
    section = {
        "arch": "colours",
        "classes": list(COLOURS),
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "stride": STRIDE,
        "has_background": background,
        **cam,
    }
    manifest = {
        "format_version": 2,
        "name": "colours",
        "graphs": {"cam": {"files": files, **described_tensors(len(COLOURS), background)}},
        "cam": section,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Bundle.load(folder)


def described_tensors(classes: int, background: bool) -> dict[str, Any]:
    """What the graphs of colours take and give, as the manifest says it."""
    shapes = {"image": ["b", 3, "h", "w"], "cam": ["b", classes + background, "y", "x"]}
    shapes["logits"] = ["b", classes]
    image, *outputs = (
        {"name": name, "dtype": "float32", "shape": shape} for name, shape in shapes.items()
    )
    return {"inputs": [image], "outputs": outputs}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return colour_bundle(tmp_path_factory.mktemp("cam") / "colours")


def halves(height: int = 24, width: int = 40) -> RgbImage:
    """Red on the left, blue on the right, black above."""
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2 :, : width // 2, 0] = 255
    image[height // 2 :, width // 2 :, 2] = 255
    return image


def labels(*names: str) -> NDArray[np.bool_]:
    return np.array([colour in names for colour in COLOURS])


def test_defaults_are_irn() -> None:
    settings = CamSettings()
    assert (settings.scales, settings.flip) == ((1.0, 0.5, 1.5, 2.0), True)
    assert settings.background_score == 0.15


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scales", ()),
        ("scales", (0.0,)),
        ("scales", (1.0, -1.0)),
        ("scales", (float("nan"),)),
        ("scales", (9.0,)),
        ("background_score", -0.1),
        ("background_score", 1.5),
        ("background_score", float("nan")),
        ("presence_threshold", 2.0),
        ("max_side", 0),
    ],
)
def test_out_of_range(setting: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{setting} is .*expected"):
        CamSettings(**{setting: value})


def test_bundle_defaults_under_the_callers(tmp_path: Path) -> None:
    bundle = colour_bundle(
        tmp_path / "b", defaults={"background_score": 0.3, "scales": [1], "flip": False}
    )
    mine = CamSettings.of(bundle, background_score=0.4, max_side=None)
    assert (mine.background_score, mine.scales, mine.flip) == (0.4, (1.0,), False)
    assert mine.max_side is None
    assert CamSettings.of(bundle).max_side == 1024
    assert CamClassifier(bundle, session=ONE_THREAD).settings.background_score == 0.3


def test_unknown_setting(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="scale"):
        CamSettings.of(bundle, scale=2)


def test_finds_the_colours_of_the_labels(bundle: Bundle) -> None:
    result = CamClassifier(bundle, session=ONE_THREAD).run(halves(), labels("red", "blue"))
    label, confidence = result.label()
    assert result.classes.tolist() == [1, 3]
    assert result.maps.shape == (2, 24, 40)
    assert result.maps.dtype == confidence.dtype == np.float32
    assert result.maps.min() >= 0 and result.maps.max() < 1
    assert result.maps.max(axis=(1, 2)) == pytest.approx(1, abs=1e-4)
    assert (label[18:, :14] == 1).all()
    assert (label[18:, 26:] == 3).all()
    assert (label[:6] == 0).all()


def test_only_the_classes_of_the_labels(bundle: Bundle) -> None:
    result = CamClassifier(bundle, session=ONE_THREAD).run(halves(), labels("blue"))
    assert set(np.unique(result.label()[0])) == {0, 3}


def test_class_without_activation_leaves_no_pixel(bundle: Bundle) -> None:
    result = CamClassifier(bundle, session=ONE_THREAD).run(halves(), labels("green"))
    assert result.classes.tolist() == [2]
    assert not result.label()[0].any()


def test_predicts_classes_above_the_threshold(bundle: Bundle) -> None:
    image = np.full((16, 16, 3), (200, 0, 0), np.uint8)
    result = CamClassifier(bundle, session=ONE_THREAD).run(image)
    assert result.classes.tolist() == [1]
    value = 20 * 200 / 255
    expected = sigmoid(np.array([value, -value, -value], np.float32))
    assert result.probabilities == pytest.approx(expected, abs=1e-6)


def test_at_least_the_likeliest_class_unless_told_otherwise(bundle: Bundle) -> None:
    grey = np.full((16, 16, 3), (90, 100, 80), np.uint8)
    one = CamClassifier(bundle, CamSettings(presence_threshold=0.9), session=ONE_THREAD).run(grey)
    assert one.probabilities.max() < 0.9
    assert one.classes.tolist() == [2]
    settings = CamSettings(presence_threshold=0.9, always_one_class=False)
    assert_all_background(CamClassifier(bundle, settings, session=ONE_THREAD).run(grey))


def test_labels_without_any_class(bundle: Bundle) -> None:
    assert_all_background(CamClassifier(bundle, session=ONE_THREAD).run(halves(16, 16), labels()))


def assert_all_background(result: CamResult) -> None:
    label, confidence = result.label()
    assert result.classes.shape == (0,)
    assert result.maps.shape == (0, 16, 16)
    assert not label.any() and (confidence == 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 2), (3, 301), (33, 47)])
@pytest.mark.parametrize("flip", [True, False])
def test_any_size(bundle: Bundle, shape: tuple[int, int], flip: bool) -> None:
    image = np.full((*shape, 3), (0, 255, 0), np.uint8)
    result = CamClassifier(bundle, CamSettings(flip=flip), session=ONE_THREAD).run(image)
    assert result.classes.tolist() == [2]
    assert (result.label()[0] == 2).all() and result.label()[0].shape == shape


def test_a_flipped_image_gives_the_flipped_maps(bundle: Bundle) -> None:
    classifier, image = CamClassifier(bundle, session=ONE_THREAD), halves()
    there = classifier.run(image, labels("red"))
    back = classifier.run(np.ascontiguousarray(image[:, ::-1]), labels("red"))
    assert back.maps[:, :, ::-1] == pytest.approx(there.maps, abs=1e-5)


def test_large_images_are_reduced(bundle: Bundle) -> None:
    image = halves(240, 400)
    small = CamClassifier(bundle, CamSettings(max_side=100), session=ONE_THREAD)
    label, _ = small.run(image, labels("red", "blue")).label()
    exact = CamClassifier(bundle, CamSettings(max_side=None), session=ONE_THREAD)
    full, _ = exact.run(image, labels("red", "blue")).label()
    assert label.shape == full.shape == (240, 400)
    assert (label == full).mean() > 0.9


def test_network_with_its_own_background(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path / "b", background=True)
    result = CamClassifier(bundle, session=ONE_THREAD).run(halves(), labels("red", "blue"))
    label, _ = result.label()
    assert isinstance(result.background, np.ndarray)
    assert result.background.shape == (24, 40)
    assert result.classes.tolist() == [1, 3] and len(result.maps) == 2
    assert (label[:6] == 0).all() and (label[18:, :14] == 1).all()


def test_a_class_must_exceed_the_score_beside_the_background(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path / "b", background=True)
    none = CamClassifier(bundle, {"background_score": 1.0}, session=ONE_THREAD)
    assert not none.run(halves(), labels("red", "blue")).label()[0].any()


@pytest.mark.parametrize("flip", [True, False])
def test_maps_that_are_probabilities_are_averaged(tmp_path: Path, flip: bool) -> None:
    defaults = {"normalise": False, "scales": [1, 2], "background_score": 0}
    bundle = colour_bundle(tmp_path / "b", background=True, defaults=defaults)
    image = np.full((16, 24, 3), (153, 51, 0), np.uint8)
    classifier = CamClassifier(bundle, {"flip": flip}, session=ONE_THREAD)
    result = classifier.run(image, labels("red", "green"))
    # Red less the other two is 0.4, green -0.4, which ReLU takes away; 1 less all three is 0.2
    assert result.maps == pytest.approx(np.repeat([0.4, 0], 16 * 24).reshape(2, 16, 24), abs=1e-6)
    assert result.background == pytest.approx(0.2, abs=1e-6)
    assert (result.label()[0] == 1).all()


def test_maps_that_are_no_probabilities_end_at_one(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path / "b", std=[0.1] * 3, defaults={"normalise": False})
    result = CamClassifier(bundle, session=ONE_THREAD).run(halves(), labels("red"))
    assert result.maps.max() == 1


def test_one_view_at_a_time_when_memory_is_short(bundle: Bundle) -> None:
    expected = CamClassifier(bundle, session=ONE_THREAD).run(halves(), labels("red"))
    with short_of_memory("image", 1) as (session, tried):
        result = CamClassifier(bundle, session=session).run(halves(), labels("red"))
    assert np.array_equal(result.maps, expected.maps)
    assert tried == [2, 1, 1] * 4


def test_a_single_view_that_does_not_fit_is_an_error(bundle: Bundle) -> None:
    with short_of_memory("image", 0) as (session, tried):
        classifier = CamClassifier(bundle, session=session)
        with pytest.raises(MemoryError):
            classifier.run(halves(), labels("red"))
    assert tried == [2, 1]


@pytest.mark.parametrize("bad", [np.ones(2, bool), np.ones((1, 3), bool), np.ones(3, np.uint8)])
def test_labels_of_another_layout(bundle: Bundle, bad: Any) -> None:
    with pytest.raises(LabelError, match=r"expected \(3,\) bool"):
        CamClassifier(bundle, session=ONE_THREAD).run(halves(), bad)


def test_image_of_another_layout(bundle: Bundle) -> None:
    with pytest.raises(ImageError, match="expected"):
        CamClassifier(bundle, session=ONE_THREAD).run(np.zeros((4, 4), np.uint8))


def test_graph_that_does_not_fit_the_manifest(tmp_path: Path) -> None:
    message = r"graph 'cam' gives cam float32 \(b, 3, y, x\), expected cam float32 \(B, 2, h, w\)"
    with pytest.raises(BundleError, match=message):
        colour_bundle(tmp_path / "b", classes=["red", "green"])
    with pytest.raises(BundleError, match=r"graph 'cam' gives cam float32 \(b, 3, y, x\)"):
        colour_bundle(tmp_path / "c", has_background=True)


def test_bundle_without_a_classifier(tmp_path: Path) -> None:
    manifest = {"format_version": 2, "name": "empty", "graphs": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="no CAM classifier"):
        CamClassifier(Bundle.load(tmp_path))


Cam = tuple[NDArray[np.float32], NDArray[np.int64]]


@st.composite
def cams(draw: st.DrawFn) -> Cam:
    """Maps (K,H,W), some with ties, and ascending label values (K,)."""
    count = draw(st.integers(0, 4))
    shape = (count, draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    values = st.sampled_from([0, float(np.float32(0.15)), 0.25, 0.5, 1]) | st.floats(0, 1, width=32)
    maps = draw(hnp.arrays(np.float32, shape, elements=values))
    classes = draw(st.lists(st.integers(1, 254), min_size=count, max_size=count, unique=True))
    return maps, np.array(sorted(classes), np.int64)


@settings(max_examples=80, deadline=None)
@given(cams(), st.floats(0, 1, width=32))
def test_equals_argmax_with_the_background_first(cam: Cam, score: float) -> None:
    maps, classes = cam
    label, confidence = cam_to_label(maps, classes, score)
    stacked = np.concatenate([np.full((1, *maps.shape[1:]), score, np.float32), maps])
    values = np.concatenate([[0], classes])
    assert np.array_equal(label, values[stacked.argmax(axis=0)])
    assert label.dtype == np.uint8 and confidence.dtype == np.float32
    assert (confidence >= 0).all() and (confidence <= 1).all()


@settings(max_examples=80, deadline=None)
@given(cams(), st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_higher_score_only_takes_pixels_away(cam: Cam, one: float, two: float) -> None:
    less, more = sorted((one, two))
    low, _ = cam_to_label(*cam, less)
    high, _ = cam_to_label(*cam, more)
    assert np.array_equal(np.where(high > 0, low, 0), high)


@settings(max_examples=40, deadline=None)
@given(cams(), st.floats(0, 1, width=32))
def test_constant_map_of_scores_is_the_score(cam: Cam, score: float) -> None:
    scores = np.full(cam[0].shape[1:], score, np.float32)
    by_score, by_map = cam_to_label(*cam, score), cam_to_label(*cam, scores)
    assert all(map(np.array_equal, by_score, by_map))


@settings(max_examples=80, deadline=None)
@given(cams(), st.floats(0, 1, width=32), st.booleans(), st.tuples(*[st.integers(1, 12)] * 2))
def test_maps_enlarged_one_at_a_time_give_the_same_label(
    cam: Cam, score: float, is_map: bool, image_shape: tuple[int, int]
) -> None:
    maps, classes = cam
    background = np.full(maps.shape[1:], score, np.float32) if is_map else score
    result = CamResult(classes, maps, background, np.ones(254, np.float32), image_shape)
    expected = cam_to_label(result.maps, classes, result.background)
    assert result.maps.shape == (len(maps), *image_shape)
    assert all(map(np.array_equal, result.label(), expected))


def test_ties_go_to_the_background_then_to_the_lower_class() -> None:
    maps = np.array([[[0.25, 0.5, 0.1]], [[0.25, 0.5, 0.7]]], np.float32)
    label, confidence = cam_to_label(maps, np.array([4, 9]), 0.25)
    assert label.tolist() == [[0, 4, 9]]
    assert confidence == pytest.approx(np.array([[0.75, 0.5, 0.7]], np.float32))


@pytest.mark.parametrize(
    ("shape", "classes"), [((2, 3, 3), [1]), ((3, 3), [1, 2, 3]), ((1, 2, 2), [[1]])]
)
def test_shapes_that_do_not_fit(shape: tuple[int, ...], classes: list[int]) -> None:
    with pytest.raises(LabelError, match="expected"):
        cam_to_label(np.zeros(shape, np.float32), np.array(classes))


@pytest.mark.parametrize("value", [0, 255, -1, 1000])
def test_label_values_out_of_range(value: int) -> None:
    with pytest.raises(LabelError, match="1 to 254"):
        cam_to_label(np.zeros((1, 2, 2), np.float32), np.array([value]))


def test_background_out_of_range() -> None:
    maps = np.zeros((1, 2, 2), np.float32)
    with pytest.raises(SettingsError, match=r"^background is .*, expected a number from 0 to 1"):
        cam_to_label(maps, np.array([1]), 1.5)
    with pytest.raises(LabelError, match="background is"):
        cam_to_label(maps, np.array([1]), np.zeros((3, 3), np.float32))


def bilinear(maps: NDArray[np.float32], image_shape: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear between pixel centres, edges repeated, written out in float64."""

    def matrix(source: int, target: int) -> NDArray[np.float64]:
        place = np.maximum((np.arange(target) + 0.5) * source / target - 0.5, 0)
        low = np.minimum(place.astype(int), source - 1)
        high = np.minimum(low + 1, source - 1)
        rows = np.zeros((target, source))
        np.add.at(rows, (np.arange(target), low), 1 - (place - low))
        np.add.at(rows, (np.arange(target), high), place - low)
        return rows

    height, width = image_shape
    return np.asarray(matrix(maps.shape[1], height) @ maps @ matrix(maps.shape[2], width).T)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 1000),
)
def test_resize_is_bilinear_between_pixel_centres(
    shape: tuple[int, int, int], size: tuple[int, int], seed: int
) -> None:
    maps = np.random.default_rng(seed).random(shape, np.float32)
    assert resize_maps(maps, size) == pytest.approx(bilinear(maps, size), abs=2e-6)


def test_sigmoid_does_not_overflow() -> None:
    values = sigmoid(np.array([-1e4, -2, 0, 2, 1e4], np.float32))
    assert values == pytest.approx([0, 0.1192029, 0.5, 0.8807971, 1])
