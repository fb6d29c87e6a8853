"""The demo bundle measured with the runtime."""

from __future__ import annotations

import pytest

from samrefine_export.demo.bundle import CAM_DEFAULTS, CAUTION, GENERATOR_DEFAULTS, REFINE_DEFAULTS
from samrefine_export.demo.evaluate import held_out_scenes
from samrefine_export.demo.measure import measure_labels
from samrefine_rt.demo import IMAGES
from samrefine_runtime.bundle import EMBEDDED, Bundle


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load("demo")


def test_the_embedded_bundle_holds_the_exporters_settings(bundle: Bundle) -> None:
    assert bundle.defaults == {**GENERATOR_DEFAULTS, **REFINE_DEFAULTS}
    assert bundle.manifest["caution"] == CAUTION
    assert bundle.manifest["cam"]["defaults"] == CAM_DEFAULTS
    assert bundle.manifest["sam"]["training"]["trained_by"].startswith("python -m")


def test_the_embedded_bundle_is_small() -> None:
    folders = (EMBEDDED["demo"], IMAGES)
    size = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
    assert size <= 8_000_000


def test_refinement_gains_with_fewer_prompts(bundle: Bundle) -> None:
    scenes = held_out_scenes(12)
    guided = measure_labels(bundle, scenes)
    grid = measure_labels(bundle, scenes, prompts="grid")
    assert guided.gain > 0.05
    assert grid.prompts == GENERATOR_DEFAULTS["points_per_side"] ** 2
    assert guided.prompts < 0.4 * grid.prompts
