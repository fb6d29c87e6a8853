"""Which weights there are, and what a registry of a user may say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from samrefine_export.errors import RegistryError
from samrefine_export.weights import Weights, known_weights
from samrefine_export.weights.registry import weights_of
from samrefine_runtime.errors import SettingsError

URL = "https://example.org/models/model.pth"


@pytest.fixture(autouse=True)
def no_registries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SAMREFINE_REGISTRY", raising=False)


def write(path: Path, weights: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"weights": weights}))
    return path


def test_published_weights() -> None:
    known = known_weights()
    assert {"vit_b", "vit_l", "vit_h", "mobile_sam", "resnet50", "clip_vit_b_16_openai"} <= {*known}
    for name, weights in known.items():
        assert weights.name == name and weights.url.startswith("https://"), name
        assert weights.licence != "unknown" and weights.about, name
        # Who says what the sha256 is, wherever there is one
        assert (weights.sha256 is None) == (not weights.sha256_from), name


def test_digits_in_torchvisions_file_names_are_the_sha256() -> None:
    names = [name for name in known_weights() if name.startswith("resnet")]
    assert len(names) == 8
    for name in names:
        weights = known_weights()[name]
        digits = re.fullmatch(r"resnet\d+-([0-9a-f]{8})\.pth", weights.file)
        assert digits and weights.sha256 == digits[1]
        assert weights.pins == "sha256 (8 digits)"


def test_urls_of_torchvision_are_torchvisions() -> None:
    from samrefine_export.third_party import torchvision

    for name, weights in known_weights().items():
        if name.startswith("resnet"):
            network, _, version = name.partition("_")
            known = torchvision.models.get_model_weights(network)[
                f"IMAGENET1K_{version.upper() or 'V1'}"
            ]
            assert weights.url == known.url
            # It states mebibytes with three digits
            if weights.size is not None:
                assert round(weights.size / 2**20, 3) == known.meta["_file_size"]


def test_registries_of_users_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path / "config" / "samrefine" / "weights.json", {"a": {"url": URL}, "b": {"url": URL}}
    )
    second = write(tmp_path / "b.json", {"b": {"url": f"{URL}?b"}, "c": {"url": URL}})
    third = write(tmp_path / "c.json", {"c": {"url": f"{URL}?c", "file": "c.safetensors"}})
    monkeypatch.setenv("SAMREFINE_REGISTRY", f"{second}:")
    known = known_weights([third])
    assert [known[name].url for name in "abc"] == [URL, f"{URL}?b", f"{URL}?c"]
    assert [known[name].file for name in "abc"] == ["model.pth", "model.pth", "c.safetensors"]
    assert "vit_b" in known and known["a"].pins == "nothing"


def test_weights_of_a_user_replace_published_ones(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.json", {"vit_b": {"url": URL, "size": 3}})
    assert known_weights([mine])["vit_b"] == Weights("vit_b", URL, size=3)
    assert known_weights([mine])["vit_b"].pins == "size"


ENTRIES = {
    "another key": ({"url": URL, "hash": "0" * 64}, "unknown key 'hash'"),
    "misspelt": ({"url": URL, "license": "MIT"}, "did you mean licence?"),
    "no URL": ({"size": 3}, 'expected {"url": ...}'),
    "a text": (URL, 'expected {"url": ...}'),
    "ftp": ({"url": "ftp://example.org/a.pth"}, "expected an http or https URL"),
    "a file": ({"url": "file:///etc/passwd"}, "expected an http or https URL"),
    "no host": ({"url": "https:///a.pth"}, "expected an http or https URL"),
    "brackets": ({"url": "https://[a/a.pth"}, "expected an http or https URL"),
    "no file": ({"url": "https://example.org/"}, "file is '', expected a file name"),
    "way out": ({"url": URL, "file": "../a.pth"}, "file is '../a.pth', expected a file name"),
    "hidden": ({"url": "https://example.org/..%2f"}, "expected a file name"),
    "few digits": ({"url": URL, "sha256": "01ec64"}, "sha256 is '01ec64', expected 8 to 64"),
    "no digits": ({"url": URL, "sha256": "g" * 64}, "expected 8 to 64 lower-case hex digits"),
    "number as sha256": ({"url": URL, "sha256": 12345678}, "expected a text"),
    "size as text": ({"url": URL, "size": "3"}, "size is '3', expected a whole number above 0"),
    "no size": ({"url": URL, "size": 0}, "size is 0, expected a whole number above 0"),
    "true": ({"url": URL, "size": True}, "size is True, expected a whole number above 0"),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_entries_that_are_none(case: str, tmp_path: Path) -> None:
    entry, expected = ENTRIES[case]
    path = write(tmp_path / "mine.json", {"mine": entry})
    with pytest.raises(RegistryError) as caught:
        known_weights([path])
    assert str(caught.value).startswith(f"{path}: weights mine: ")
    assert expected in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", "a" * 101, "a b"])
def test_names_that_are_no_folder(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.json", {name: {"url": URL}})
    with pytest.raises(RegistryError, match="name is"):
        known_weights([path])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weights": []}', "{", "\0"])
def test_files_that_are_no_registry(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(RegistryError, match=r"mine.json"):
        known_weights([path])


def test_a_registry_that_is_named_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMREFINE_REGISTRY", str(tmp_path / "none.json"))
    with pytest.raises(RegistryError, match=r"none\.json"):
        known_weights()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vit-b", "did you mean vit_b?"),
        ("VIT_B", "did you mean vit_b?"),
        ("", "some that samrefine pull lists"),
    ],
)
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(hint)):
        weights_of(name, known_weights())
