"""Image-level labels from CSV, JSON and VOC XML, sound and hostile."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samrefine_runtime.errors import ImageLabelsError, LabelError
from samrefine_runtime.formats.image_labels import read_image_labels
from samrefine_runtime.names import image_id

CLASSES = ("cat", "dog", "potted plant")


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names(labels: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Class names by image, folders aside."""
    return {
        image.rpartition("/")[2]: [
            name for name, here in zip(CLASSES, present, strict=True) if here
        ]
        for image, present in labels.items()
    }


def annotation(*objects: str) -> str:
    inner = "".join(
        f"<object><name>{name}</name><difficult>1</difficult><part><name>head</name></part></object>"
        for name in objects
    )
    return f"<annotation><filename>a.jpg</filename>{inner}</annotation>"


EXPECTED = {"a": ["cat", "potted plant"], "2007.b": ["dog"], "none": []}


@pytest.mark.parametrize(
    "text",
    [
        "image,labels\na.jpg,cat;potted plant\nimages/2007.b.PNG,dog\nnone,\n",
        "\ufeffImage,Labels\r\na.jpg, cat ; potted plant;\r\n\r\n2007.b.png,dog\r\nnone,\r\n",
        "image,cat,dog,potted plant\na,1,0,1\n2007.b.jpg,0,1,0\nnone,,,\n",
        'file,"potted plant",cat,dog\na,1,1,0\nx\\2007.b.jpg,0,0,1\nnone,0,0,0\n',
        # As spreadsheets of other countries and databases write it
        'image;labels\na.jpg;"cat;potted plant"\n2007.b.jpg;dog\nnone;\n',
        "image;labels\na.jpg;cat;potted plant\n2007.b.jpg;dog\nnone;\n",
        "image\tlabels\na.jpg\tcat;potted plant\n2007.b.jpg\tdog\nnone\t\n",
        '\n"file, name";cat;dog;potted plant\na;1;0;1\n2007.b.jpg;0;1;0\nnone;;;\n',
        "image\tcat\tdog\tpotted plant\na\t1\t0\t1\n2007.b.jpg\t0\t1\t0\nnone\t\t\t\n",
    ],
)
def test_csv(tmp_path: Path, text: str) -> None:
    labels = read_image_labels(write(tmp_path, "labels.csv", text), CLASSES)
    assert names(labels) == EXPECTED
    assert labels["a"].dtype == bool
    assert labels["a"].shape == (3,)
    assert labels.get("missing") is None
    assert labels["2007.b"].tolist() == [False, True, False]


def test_json(tmp_path: Path) -> None:
    content = {"a.jpg": ["cat", "potted plant", "cat"], "2007.b.jpg": ["dog"], "none": []}
    path = write(tmp_path, "labels.json", json.dumps(content))
    assert names(read_image_labels(path, CLASSES)) == EXPECTED


def test_voc_annotations(tmp_path: Path) -> None:
    write(tmp_path, "a.xml", annotation("potted plant", "cat", "cat"))
    write(tmp_path, "2007.b.xml", annotation("dog").encode("utf-16"))
    write(tmp_path, "none.xml", '<?xml version="1.0"?>\n' + annotation())
    write(tmp_path, "notes.txt", "not read")
    write(tmp_path, "._a.xml", "not read either: macOS's own")
    assert names(read_image_labels(tmp_path, CLASSES)) == EXPECTED


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8),
        st.sets(st.sampled_from(CLASSES)),
        min_size=1,
    )
)
def test_csv_and_json_agree(tmp_path_factory: pytest.TempPathFactory, labels: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    rows = "".join(f"{image}.jpg,{';'.join(sorted(found))}\n" for image, found in labels.items())
    content = {image: sorted(found) for image, found in labels.items()}
    from_csv = read_image_labels(write(folder, "l.csv", f"image,labels\n{rows}"), CLASSES)
    from_json = read_image_labels(write(folder, "l.json", json.dumps(content)), CLASSES)
    assert names(from_csv) == names(from_json)
    assert {image: set(found) for image, found in names(from_csv).items()} == labels


HOSTILE = {
    "empty.csv": ("", "no header"),
    "one column.csv": ("image\na\n", r"no header of two columns or more \(found 'image'\)"),
    "spaces.csv": ("image labels\na cat\n", "with commas, semicolons or tabs between"),
    "header only.csv": ("image,labels\n", "lists no images"),
    "commas.csv": ("image;labels\na.jpg;cat,dog\n", "2: a: unknown class 'cat,dog'"),
    "cells;.csv": ("image;cat;dog\na;1\n", "2: 2 cells, expected an image and 2"),
    "more cells.csv": ("image,labels\na,cat,dog\n", "2: 3 cells, expected an image and 1"),
    "unknown.csv": ("image,labels\na,cta\n", "2: a: unknown class 'cta', did you mean cat?"),
    "far.csv": ("image,labels\na,zzz\n", "unknown class 'zzz', known are cat, dog, potted plant"),
    "column.csv": ("image,cat,Dog\na,1,0\n", "header: unknown class 'Dog', did you mean dog?"),
    "value.csv": ("image,cat\na,yes\n", "2: cat is 'yes', expected 0 or 1"),
    "cells.csv": ("image,cat,dog\na,1\n", "2: 2 cells, expected an image and 2"),
    "no image.csv": ("image,labels\n,cat\n", "expected an image and 1"),
    "twice.csv": ("image,labels\na.jpg,cat\na.png,dog\n", "3: a is listed twice"),
    "quote.csv": ('image,labels\n"a,cat\n', "not a readable CSV file"),
    "latin1.csv": (b"image,labels\n\xe9,cat\n", "not a readable CSV file"),
    "binary.csv": (b"image,labels\n\x00\xff", "not a readable CSV file"),
    "long.csv": ("image,labels\na," + "x" * 200_000, "not a readable CSV file"),
    "broken.json": ('{"a": ["cat"', "not JSON"),
    "deep.json": ("[" * 200_000, "not JSON"),
    "list.json": ('["cat"]', "holds list, expected an object"),
    "text.json": ('{"a": "cat"}', "a: labels are 'cat', expected names"),
    "number.json": ('{"a": [1]}', r"a: labels are \[1\]"),
    "empty.json": ("{}", "lists no images"),
    "same key.json": ('{"a": ["cat"], "a": ["dog"]}', "'a' occurs twice in an object"),
    "two suffixes.json": ('{"a.jpg": ["cat"], "a.png": []}', "a is listed twice with different"),
    "unknown.json": ('{"a": ["Cat"]}', "a: unknown class 'Cat', did you mean cat?"),
    "labels.npy": (b"\x93NUMPY", "may hold a pickle, which is never read; convert it"),
    "labels.txt": ("a cat", r"expected a \.csv or \.json file"),
    "xml/empty.xml": ("", "not a VOC annotation"),
    "xml/broken.xml": ("<annotation>", "not a VOC annotation"),
    "xml/html.xml": ("<html/>", "root is <html>, expected <annotation>"),
    "xml/unknown.xml": (annotation("dgo"), "unknown: unknown class 'dgo', did you mean dog?"),
    "xml/nameless.xml": ("<annotation><object/></annotation>", "unknown class ''"),
    "xml/encoding.xml": ('<?xml version="1.0" encoding="x-none"?><annotation/>', "not a VOC"),
    "xml/doctype.xml": ("<!DOCTYPE annotation><annotation/>", "has a DOCTYPE"),
    "none/": ("", "no VOC .xml files here"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE[name]
    if name.endswith("/"):
        path = tmp_path / name
        path.mkdir()
    else:
        path = write(tmp_path, name, content)
    source = path.parent if name.startswith("xml") else path
    with pytest.raises(ImageLabelsError, match=message) as caught:
        read_image_labels(source, CLASSES)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entity_bomb_is_refused_at_once(tmp_path: Path, encoding: str) -> None:
    entities = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "x">{entities}]><annotation>&e11;</annotation>'
    write(tmp_path, "bomb.xml", bomb.encode(encoding))
    start = time.monotonic()
    with pytest.raises(LabelError, match="has a DOCTYPE"):
        read_image_labels(tmp_path, CLASSES)
    assert time.monotonic() - start < 1


def test_huge_annotation_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "huge.xml", b" " * ((4 << 20) + 1))
    with pytest.raises(LabelError, match="larger than 4 MiB"):
        read_image_labels(tmp_path, CLASSES)


@pytest.mark.parametrize("name", ["none", "none.csv", "none.json"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabelError, match=f"{name}: no such file"):
        read_image_labels(tmp_path / name, CLASSES)


def test_dangling_annotation(tmp_path: Path) -> None:
    (tmp_path / "a.xml").symlink_to("gone.xml")
    with pytest.raises(LabelError, match=r"a\.xml: a link to gone\.xml, which does not exist"):
        read_image_labels(tmp_path, CLASSES)


@pytest.mark.parametrize("name", ["labels.csv", "labels.json"])
def test_huge_files_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMREFINE_MAX_MEGABYTES", "1")
    path = write(tmp_path, name, b" " * 1_000_001)
    with pytest.raises(LabelError, match=f"{name}: 2 megabytes, the limit is 1; SAMREFINE_MAX_"):
        read_image_labels(path, CLASSES)


def test_long_names_find_their_image(tmp_path: Path) -> None:
    """Ids of long names are shortened, the same way everywhere."""
    name = "x" * 250
    labels = read_image_labels(write(tmp_path, "l.csv", f"image,labels\n{name}.jpg,cat\n"), CLASSES)
    assert list(labels) == [image_id(f"{name}.jpg")]
    labels = read_image_labels(write(tmp_path, "l.csv", f"image,labels\n{name},cat\n"), CLASSES)
    assert list(labels) == [image_id(f"{name}.jpg")]


def test_external_entities_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("cat")
    external = f'<!DOCTYPE a [<!ENTITY e SYSTEM "{tmp_path}/secret">]>'
    text = f"{external}<annotation><object><name>&e;</name></object></annotation>"
    write(tmp_path, "a.xml", text)
    with pytest.raises(LabelError, match="has a DOCTYPE"):
        read_image_labels(tmp_path, CLASSES)
