"""Settings state their range once: what is checked against it, and what is said."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.sam.settings import GeneratorSettings
from samrefine_runtime.settings import (
    Domain,
    Settings,
    choice,
    domains,
    real,
    settings_of,
    switch,
    whole,
)


@dataclass(frozen=True)
class Example(Settings):
    count: int = whole(3, 1)
    limit: int | None = whole(None, 2, 9)
    share: float = real(0.5, 0, 1)
    ratio: float = real(1.0, 0, is_open=True)
    free: float = real(0.0)
    bold: bool = switch(False)
    colour: str = choice("red", ("red", "blue"))
    note: str = ""


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 0, "count is 0, expected a whole number of at least 1"),
        ("count", 2.0, "count is 2.0, expected a whole number of at least 1"),
        ("count", True, "count is True, expected a whole number"),
        ("count", None, "count is None, expected a whole number"),
        ("limit", 10, "limit is 10, expected a whole number from 2 to 9"),
        ("share", 1.01, "share is 1.01, expected a number from 0 to 1"),
        ("share", -0.01, "share is -0.01, expected a number from 0 to 1"),
        ("share", math.inf, "share is inf, expected a number from 0 to 1"),
        ("share", math.nan, "share is nan, expected a number from 0 to 1"),
        ("share", False, "share is False, expected a number from 0 to 1"),
        ("share", "0.5", "share is '0.5', expected a number from 0 to 1"),
        ("ratio", 0, "ratio is 0, expected a number above 0"),
        ("free", math.nan, "free is nan, expected a number"),
        ("bold", 1, "bold is 1, expected true or false"),
        ("colour", "green", "colour is 'green', expected one of red, blue"),
        ("colour", ["red"], r"colour is \['red'\], expected one of red, blue"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        Example(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 10**9),
        ("count", np.int64(5)),
        ("limit", None),
        ("limit", 2),
        ("limit", 9),
        ("share", 0),
        ("share", 1),
        ("share", np.float32(0.25)),
        ("ratio", 1e-9),
        ("ratio", math.inf),
        ("free", -math.inf),
        ("bold", True),
        ("colour", "blue"),
        ("note", "anything"),
    ],
)
def test_a_value_in_range_is_kept(name: str, value: Any) -> None:
    assert getattr(Example(**{name: value}), name) == value


@given(st.floats(allow_nan=True), st.floats(-5, 5), st.floats(-5, 5), st.booleans())
def test_a_domain_is_an_interval(value: float, least: float, most: float, is_open: bool) -> None:
    domain = Domain(float, least, most, is_open=is_open)
    above = value > least if is_open else value >= least
    assert domain.contains(value) == (above and value <= most)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-4, 4),
    st.floats(-4, 4),
    st.sampled_from([math.nan, math.inf, -math.inf, "red", "blue", "green", ""]),
)
BOUNDS = st.sampled_from([-math.inf, -2, 0, 1, 2.5, math.inf])


@given(VALUES, st.sampled_from([int, float]), BOUNDS, BOUNDS, st.booleans(), st.booleans())
def test_a_number_has_a_type_and_an_interval(
    value: Any, kind: type, least: float, most: float, is_open: bool, is_optional: bool
) -> None:
    domain = Domain(kind, least, most, is_open=is_open, is_optional=is_optional)
    if value is None:
        expected = is_optional
    elif type(value) is int or (type(value) is float and kind is float):
        expected = least <= value <= most and not (is_open and value == least)
    else:
        expected = False
    assert domain.contains(value) == expected


@given(VALUES, st.booleans())
def test_switches_and_choices_have_the_values_they_name(value: Any, is_optional: bool) -> None:
    is_left_out = value is None and is_optional
    flag = Domain(bool, is_optional=is_optional)
    assert flag.contains(value) == (type(value) is bool or is_left_out)
    colour = Domain(str, choices={"red": "", "blue": "as the sky"}, is_optional=is_optional)
    assert colour.contains(value) == (value in ("red", "blue") or is_left_out)


def test_given_values_come_over_defaults() -> None:
    settings = settings_of(Example, {"count": 5}, {"count": 4, "share": 0.1, "of_later": 1})
    assert (settings.count, settings.share, settings.colour) == (5, 0.1, "red")


def test_an_unknown_setting_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"^unknown setting 'size', expected one of count, lim"):
        settings_of(Example, {"size": 5})
    with pytest.raises(SettingsError, match=r"^count is 'many', expected a whole number"):
        settings_of(Example, {}, {"count": "many"})
    assert settings_of(Example, {"count": 5}, {"count": "many"}).count == 5


@pytest.mark.parametrize("kind", [RefineSettings, CamSettings, GeneratorSettings, SessionOptions])
def test_every_default_is_in_its_own_range(kind: type[Settings]) -> None:
    defaults = {each.name: each.default for each in fields(kind)}
    found = domains(kind)
    assert found
    for name, domain in found.items():
        assert domain.contains(defaults[name]), name


@pytest.mark.parametrize("kind", [RefineSettings, CamSettings, GeneratorSettings, SessionOptions])
def test_every_number_has_two_ends(kind: type[Settings]) -> None:
    """Bundles of strangers set them: nothing may run for ever or fill the memory."""
    for name, domain in domains(kind).items():
        if domain.kind in (int, float):
            assert domain.has_least and domain.has_most, name
            for value in (10**400, -(10**400), math.inf, -math.inf):
                assert not domain.contains(value), name


SAMS_OWN: dict[str, Any] = {
    "points_per_side": 32,
    "points_per_batch": 64,
    "pred_iou_thresh": 0.88,
    "stability_score_thresh": 0.95,
    "stability_score_offset": 1.0,
    "box_nms_thresh": 0.7,
    "crop_n_layers": 1,
    "crop_nms_thresh": 0.7,
    "crop_overlap_ratio": 512 / 1500,
    "crop_n_points_downscale_factor": 2,
    "min_mask_region_area": 100,
}
"""SamAutomaticMaskGenerator's defaults and those of its example notebook."""


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"points_per_side": 128},
        {"points_per_side": 64, "crop_n_layers": 3},
        {"crop_n_layers": 4, "crop_n_points_downscale_factor": 1},
        {"pred_iou_thresh": -1, "stability_score_thresh": -1, "box_nms_thresh": 1.1},
        {"memory_mb": 200_000, "points_per_batch": 512},
    ],
)
def test_honest_settings_are_inside_the_bounds(more: dict[str, Any]) -> None:
    assert GeneratorSettings(**{**SAMS_OWN, **more})


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (GeneratorSettings, {"points_per_side": 20000}, "points_per_side is 20000, expected a who"),
        (GeneratorSettings, {"points_per_batch": 10**6}, "points_per_batch is 1000000, expected a"),
        (GeneratorSettings, {"crop_n_layers": 12}, "crop_n_layers is 12, expected a whole number "),
        (GeneratorSettings, {"memory_mb": 10**9}, "memory_mb is 1000000000, expected"),
        (GeneratorSettings, {"pred_iou_thresh": math.inf}, "pred_iou_thresh is inf, expected"),
        (
            GeneratorSettings,
            {"points_per_side": 256, "crop_n_layers": 5},
            "crop_n_layers is 5, which makes 89456640 prompts per image of these grids, expected a",
        ),
        (
            GeneratorSettings,
            {"points_per_side": None, "point_grids": [np.zeros((2000, 2))] * 6, "crop_n_layers": 5},
            "crop_n_layers is 5, which makes 2730000 prompts per image",
        ),
        (SessionOptions, {"threads": 100_000}, "threads is 100000, expected a whole number from 1"),
        (CamSettings, {"max_side": 10**6}, "max_side is 1000000, expected a whole number from 1"),
        (CamSettings, {"scales": [1.0] * 1000}, "expected 1 to 64 numbers above 0, at most 8"),
        (RefineSettings, {"max_area_ratio": math.inf}, "max_area_ratio is inf, expected a number"),
    ],
)
def test_values_that_nobody_waits_for(
    kind: type[Settings], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        kind(**values)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_a_default_out_of_range_says_whose_it_is() -> None:
    message = r"^count is 0, expected a whole number of at least 1; it is the bundle's default$"
    with pytest.raises(SettingsError, match=message):
        settings_of(Example, {}, {"count": 0})
    assert settings_of(Example, {"count": 2}, {"count": 0}).count == 2
    with pytest.raises(SettingsError, match=r"^count is 0, expected a whole number of at least 1$"):
        settings_of(Example, {"count": 0}, {"count": 2})


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        (Domain(float, 0, 1, is_open=True), "a number above 0, at most 1"),
        (Domain(int, most=3), "a whole number of at most 3"),
    ],
)
def test_a_range_is_said_as_it_is_checked(domain: Domain, text: str) -> None:
    assert str(domain) == text


def test_whole_numbers_have_no_largest() -> None:
    assert Example(count=10**400).count == 10**400
    assert not Domain(int, 0, 9).contains(10**400)
