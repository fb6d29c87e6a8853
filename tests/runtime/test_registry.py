"""Registries: names without imports, things on demand, and clear refusals."""

from __future__ import annotations

import sys

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
    assert "no_such_module" not in sys.modules


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
