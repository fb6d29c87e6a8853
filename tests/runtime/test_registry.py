"""Registries: names without imports, things on demand, and clear refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from samrefine_runtime.errors import SettingsError
from samrefine_runtime.registry import Registry


@pytest.fixture
def registry() -> Registry[object]:
    homes = {"fraction": "fractions:Fraction", "absent": "no_such_module:thing"}
    return Registry("number kind", homes)


def test_names_are_listed_without_an_import(registry: Registry[object]) -> None:
    assert list(registry) == ["fraction", "absent"]
    assert "absent" in registry and "decimal" not in registry
    registry.check("absent")


def test_a_home_is_imported_once_and_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registered_home.py").write_text("thing = object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[object] = Registry("thing", {"lazy": "registered_home:thing"})
    assert list(registry) == ["lazy"] and "lazy" in registry
    assert "registered_home" not in sys.modules
    thing = registry["lazy"]
    # A second import would make another object
    del sys.modules["registered_home"]
    assert registry["lazy"] is thing


def test_a_thing_is_imported_when_it_is_asked_for(registry: Registry[object]) -> None:
    from fractions import Fraction

    assert registry["fraction"] is Fraction
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry["absent"]


def test_an_unknown_name_says_what_may_be_meant(registry: Registry[object]) -> None:
    message = "number kind is 'fractoin', expected one of fraction, absent, did you mean fraction?"
    with pytest.raises(SettingsError) as caught:
        registry["fractoin"]
    assert str(caught.value) == message


def test_a_name_like_no_other_comes_without_a_suggestion(registry: Registry[object]) -> None:
    for look_up in (registry.check, registry.__getitem__, registry.remove):
        with pytest.raises(SettingsError) as caught:
            look_up("zzz")
        assert str(caught.value) == "number kind is 'zzz', expected one of fraction, absent"


def test_an_added_thing_takes_the_place_of_a_home(registry: Registry[object]) -> None:
    thing = object()
    registry.add("absent", thing)
    assert registry["absent"] is thing
    assert list(registry) == ["fraction", "absent"]


def test_things_of_others_are_added_replaced_and_removed(registry: Registry[object]) -> None:
    for thing in (object(), object()):
        registry.add("mine", thing)
        assert registry["mine"] is thing
    assert list(registry) == ["fraction", "absent", "mine"]
    registry.remove("mine")
    with pytest.raises(SettingsError, match="'mine'"):
        registry["mine"]
    with pytest.raises(SettingsError, match="'mine'"):
        registry.remove("mine")
