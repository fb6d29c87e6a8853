"""Shapes that engines are built for."""

from __future__ import annotations

from pathlib import Path

import pytest

from samrefine_runtime.bundle import Graph, TensorSpec
from samrefine_runtime.engines.profiles import profiles_of
from samrefine_runtime.errors import BackendError
from samrefine_runtime.sam.point_decoder import masks_at_once

LIMITS = {"most_prompts": 256, "most_side": 4096}


def graph(**shapes: tuple[int | str, ...]) -> Graph:
    inputs = tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items())
    return Graph("any", Path("any.onnx"), {}, inputs, ())


def test_fixed_shapes_need_no_profile() -> None:
    assert profiles_of(graph(image=(1, 3, 64, 64)), **LIMITS) == []


def test_prompts_of_everything_mode() -> None:
    (profile,) = profiles_of(graph(point_coords=("prompts", 2), keys=(4, 8)), **LIMITS)
    assert profile["point_coords"] == ((1, 2), (64, 2), (256, 2))
    assert profile["keys"] == ((4, 8),) * 3


def test_masks_of_everything_mode() -> None:
    tensors = graph(scale=("prompts", 1), prompt=("chosen_prompts",), mask=("chosen_masks",))
    (profile,) = profiles_of(tensors, **LIMITS)
    assert profile["scale"] == ((1, 1), (64, 1), (256, 1))
    assert profile["prompt"] == ((1,), (16,), (256,))
    assert profile["mask"] == ((1,), (48,), (768,))


def test_few_prompts_of_the_decoder_are_the_rule() -> None:
    (profile,) = profiles_of(graph(point_coords=("prompts", "points", 2)), **LIMITS)
    assert profile["point_coords"] == ((1, 1, 2), (1, 2, 2), (256, 16, 2))


def test_sizes_of_cam() -> None:
    profiles = profiles_of(graph(image=("batch", 3, "height", "width")), **LIMITS)
    assert [each["image"] for each in profiles] == [
        ((1, 3, 1, 1), (2, 3, 3 * side // 4, 3 * side // 4), (2, 3, side, side))
        for side in (512, 1024, 2048)
    ]


def test_the_last_step_of_masks_is_bounded_in_pixels() -> None:
    tensors = graph(masks=("masks", 64, 64), rows=("height", 64), columns=("width", 64))
    profiles = profiles_of(tensors, **LIMITS)
    largest = [(each["masks"].most[0], each["rows"].most[0]) for each in profiles]
    assert largest == [(256, 512), (64, 1024), (16, 2048), (4, 4096)]
    assert largest == [(masks_at_once((side, side)), side) for _, side in largest]
    # Eight pixels share a byte
    assert all(length % 8 == 0 for each in profiles for length, _ in each["columns"])


@pytest.mark.parametrize("most_prompts", [1, 3, 64, 1000])
@pytest.mark.parametrize("most_side", [512, 513, 4096])
def test_ranges_are_ordered(most_prompts: int, most_side: int) -> None:
    for axes in (
        ("prompts",),
        ("prompts", "points"),
        ("prompts", "chosen_prompts", "chosen_masks"),
        ("masks", "height", "width"),
        ("batch", "height", "width"),
    ):
        limits = {"most_prompts": most_prompts, "most_side": most_side}
        profiles = profiles_of(graph(any=axes), **limits)
        for profile in profiles:
            least, best, most = profile["any"]
            assert all(1 <= a <= b <= c for a, b, c in zip(least, best, most, strict=True))
        if "height" in axes:
            assert profiles[-1]["any"].most[1] >= min(most_side, 2048)
        else:
            assert profiles[0]["any"].most[0] == most_prompts


def test_axes_of_unknown_length() -> None:
    with pytest.raises(BackendError, match=r"axes n\\x1b, for which no lengths are known: export"):
        profiles_of(graph(image=("n\x1b", 3)), **LIMITS)
