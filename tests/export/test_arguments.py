"""Every public entry of the exporter on wrong arguments of every kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from samrefine_export.cam import CamNetwork, export_cam, export_cam_network, read_classes
from samrefine_export.sam import export_sam, export_sam_module
from samrefine_export.weights import checkpoint_path, known_weights
from samrefine_export.weights.pull import pull
from samrefine_runtime.errors import SamrefineError
from tests.wrong_values import PATH, Kind, assert_says_what_is_expected, wrong_values

NAME = Kind(("text", "empty text", "null"))
OPTIONAL_NAME = Kind(("none", *NAME.natural))
OPTIONAL_PATH = Kind(("none", "text"))
SEED = Kind(("none", "whole"), (1.0, "0"))
CLASSES = Kind(("text", "texts"), ({"cat", "dog"}, ["cat", 3], ["cat", "cat"], [""]))
STRIDE = Kind(("none",), (2, 1.0))
RGB = Kind((), ((0.5, 0.5), (0.5, 0.5, float("nan")), ("a", "b", "c")))
SIDE = Kind(("whole", "huge"), (0, 4.0))
FUNCTION = Kind(("function",))

Call = tuple[Callable[..., Any], Mapping[str, Any], Mapping[str, Kind]]

CALLS: Mapping[str, Call] = {
    "export_sam": (
        export_sam,
        {"model": "vit_b", "checkpoint": None, "out": "unused", "random_weights": 0},
        {
            "model": Kind((), ("vit_x",)),
            "checkpoint": OPTIONAL_PATH,
            "out": PATH,
            "random_weights": SEED,
            "precision": Kind((), ("fp8",)),
            "progress": FUNCTION,
        },
    ),
    "export_sam_module": (
        export_sam_module,
        {"sam": None, "out": "unused", "arch": "small", "source": {}},
        {"sam": Kind((), (nn.Identity(),))},
    ),
    "export_cam": (
        export_cam,
        {
            "arch": "resnet18",
            "checkpoint": None,
            "classes": ["cat"],
            "out": "unused",
            "random_weights": 0,
        },
        {
            "arch": Kind(NAME.natural),
            "checkpoint": OPTIONAL_PATH,
            "classes": CLASSES,
            "out": PATH,
            "random_weights": SEED,
            "recam_predictor": OPTIONAL_PATH,
            "last_stride": STRIDE,
            "name": OPTIONAL_NAME,
        },
    ),
    "export_cam_network": (
        export_cam_network,
        {"network": CamNetwork(nn.Identity(), 1), "classes": ["cat"], "out": "unused"},
        {
            "network": Kind((), (nn.Identity(),)),
            "classes": CLASSES,
            "out": PATH,
            "arch": NAME,
            "checkpoint_sha256": OPTIONAL_NAME,
            "random_weights": SEED,
            "defaults": Kind(("none", "empty dict"), ({"flip": 1}, {"scale": 2})),
            "name": OPTIONAL_NAME,
        },
    ),
    "pull": (
        pull,
        {"weights": "vit_b"},
        {
            "weights": Kind(()),
            "mirror": Kind(("none",)),
            "patience": Kind(("none",)),
            "progress": Kind(("none", "function")),
        },
    ),
    "known_weights": (
        known_weights,
        {},
        {"registries": Kind(("empty list", "texts", "empty array", "text array"))},
    ),
    "checkpoint_path": (checkpoint_path, {}, {"checkpoint": PATH}),
    "read_classes": (read_classes, {}, {"path": PATH}),
    "CamNetwork": (
        CamNetwork,
        {"module": nn.Identity(), "stride": 1},
        {
            "module": Kind((), (nn.Identity,)),
            "stride": SIDE,
            "has_background": Kind(("true",)),
            "mean": RGB,
            "std": RGB,
        },
    ),
}

WRONG_CALLS = [
    pytest.param(name, parameter, value, id=f"{name}-{parameter}-{key}")
    for name, (_, _, kinds) in CALLS.items()
    for parameter, kind in kinds.items()
    for key, value in wrong_values(kind)
]


@pytest.mark.parametrize(("name", "parameter", "value"), WRONG_CALLS)
def test_wrong_calls_say_what_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, parameter: str, value: Any
) -> None:
    """Before any work, and before anything is written."""
    monkeypatch.chdir(tmp_path)
    entry, good, _ = CALLS[name]
    with pytest.raises(SamrefineError) as caught:
        entry(**{**good, parameter: value})
    if not (isinstance(value, dict) and parameter == "defaults"):
        assert_says_what_is_expected(caught.value, parameter)
    assert list(tmp_path.iterdir()) == []
