"""Image-level labels: which classes an image shows, from CSV, JSON or VOC XML."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from reprlib import repr as short
from typing import NoReturn
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.arguments import unknown_class
from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.jsonfile import read_json
from samrefine_runtime.image import IMAGE_SUFFIXES

ImageLabels = dict[str, NDArray[np.bool_]]
"""Image id (file name without folder and suffix) -> (C,) bool, in the order of the class list."""

MAX_XML_BYTES = 16 << 20
"""Largest VOC annotation that is parsed, 16 MiB; VOC's own have a few kB."""

_Entry = tuple[str, str, list[str]]
"""Place for messages (file, or file and line), image id, class names."""


def read_image_labels(path: str | Path, classes: Sequence[str]) -> ImageLabels:
    """Read the image-level labels of a set of images.

    The suffix selects the format:
        .csv: a header `image,labels` with names separated by `;`, or a first column of images
            and one column of 0 and 1 for each class; UTF-8.
        .json: {"image": ["cat", "dog"], ...}
        a folder: VOC annotations `<id>.xml`; the classes of all objects, difficult ones too.

    An image that is not listed is not in the result (`labels.get(image_id)` is None).

    Args:
        path: a file, or a folder of VOC annotations.
        classes: names that may occur, usually without the background.

    Raises:
        LabelError: the file cannot be read, names an unknown class, or lists an image twice with
            different labels.
    """
    source = Path(path)
    if not source.exists():
        raise LabelError(f"{source}: no such file or folder")
    if source.is_dir():
        entries = _xml_entries(source)
    elif source.suffix.lower() == ".csv":
        entries = _csv_entries(source, classes)
    elif source.suffix.lower() == ".json":
        entries = _json_entries(source)
    else:
        raise LabelError(f"{source}: {_unsupported(source.suffix.lower())}")
    return _gather(entries, tuple(classes))


def _unsupported(suffix: str) -> str:
    """Explain why a file with this suffix is refused; unpickling a file can run any code."""
    if suffix in (".npy", ".npz", ".pkl"):
        return "may hold a pickle, which is never read; convert it to CSV or JSON"
    return "expected a .csv or .json file, or a folder of VOC .xml files"


def _gather(entries: Iterable[_Entry], classes: tuple[str, ...]) -> ImageLabels:
    """Convert class names to (C,) bool per image.

    Raises:
        LabelError: an unknown class, or an image listed twice with different labels.
    """
    labels: ImageLabels = {}
    for where, image_id, names in entries:
        present = np.zeros(len(classes), np.bool_)
        for name in names:
            if name not in classes:
                raise LabelError(f"{where}: {image_id}: {unknown_class(name, classes)}")
            present[classes.index(name)] = True
        # An image listed twice with the same labels is harmless
        earlier = labels.setdefault(image_id, present)
        if not np.array_equal(earlier, present):
            raise LabelError(f"{where}: {image_id} is listed twice with different labels")
    return labels


def _image_id(name: str) -> str:
    """Return a file name without folder, and without suffix if that is an image's.

    Backslashes separate folders too: lists are also written on Windows.
    """
    base = PurePosixPath(name.strip().replace("\\", "/"))
    return base.stem if base.suffix.lower() in IMAGE_SUFFIXES else base.name


def _csv_entries(path: Path, classes: Sequence[str]) -> Iterator[_Entry]:
    """Yield the labels of a CSV file of either form. Raises LabelError."""
    # The header decides the form: names in one column, or one column per class
    rows = _csv_rows(path)
    header = [cell.strip() for cell in next(rows, (0, []))[1]]
    if len(header) < 2:
        raise LabelError(f"{path}: no header, expected image,labels or image,<class>,...")
    listed = [cell.lower() for cell in header[1:]] == ["labels"]
    for name in [] if listed else header[1:]:
        if name not in classes:
            raise LabelError(f"{path}: header: {unknown_class(name, classes)}")
    # One image per row
    for line, row in rows:
        where = f"{path}:{line}"
        if len(row) != len(header) or not row[0].strip():
            raise LabelError(f"{where}: {len(row)} cells, expected an image and {len(header) - 1}")
        names = row[1].split(";") if listed else _marked(header[1:], row[1:], where)
        stripped = [name.strip() for name in names]
        yield where, _image_id(row[0]), [name for name in stripped if name]


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of every row that is not blank. Raises LabelError."""
    try:
        # utf-8-sig drops the byte order mark that spreadsheet programs write
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text), strict=True)
        yield from ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path}: not a readable CSV file ({error})") from error


def _marked(names: Sequence[str], cells: Sequence[str], where: str) -> list[str]:
    """Return the names whose cell is 1. Raises LabelError unless cells are 0, 1 or empty."""
    marks = [cell.strip() for cell in cells]
    for name, mark in zip(names, marks, strict=True):
        if mark not in ("0", "1", ""):
            raise LabelError(f"{where}: {name} is {short(mark)}, expected 0 or 1")
    return [name for name, mark in zip(names, marks, strict=True) if mark == "1"]


def _json_entries(path: Path) -> Iterator[_Entry]:
    """Yield the labels of a JSON file. Raises LabelError."""
    content = read_json(path, LabelError)
    if not isinstance(content, dict):
        raise LabelError(f"{path}: holds {type(content).__name__}, expected an object of images")
    for image, names in content.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise LabelError(f"{path}: {image}: labels are {short(names)}, expected names")
        yield str(path), _image_id(image), names


def _xml_entries(folder: Path) -> Iterator[_Entry]:
    """Yield the labels of a folder of VOC annotations, by file name. Raises LabelError."""
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise LabelError(f"{folder}: no VOC .xml files here")
    for path in files:
        objects = _parse_xml(path).findall("object")
        yield str(path), path.stem, [(item.findtext("name") or "").strip() for item in objects]


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds an XML tree, but refuses a DOCTYPE.

    Entities, by which a small file can expand to gigabytes, are declared in a DOCTYPE; VOC
    annotations have none.
    """

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        """Refuse a DOCTYPE; the parser calls this before any entity is declared."""
        raise LabelError("has a DOCTYPE, which is refused")


def _parse_xml(path: Path) -> ElementTree.Element:
    """Parse a VOC annotation. Raises LabelError."""
    try:
        # The size first: a file of any size would be read into memory
        if path.stat().st_size > MAX_XML_BYTES:
            raise LabelError(f"larger than {MAX_XML_BYTES >> 20} MiB")
        root = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_NoDoctype()))
        if root.tag != "annotation":
            raise LabelError(f"root is <{root.tag}>, expected <annotation>")
    # ValueError and LookupError: encodings that are unknown or do not fit the content
    except (LabelError, ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise LabelError(f"{path}: not a VOC annotation ({error})") from error
    return root
