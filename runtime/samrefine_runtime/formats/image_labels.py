"""Image-level labels: which classes an image shows, from CSV, JSON or VOC XML."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from reprlib import repr as short
from typing import NoReturn
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.jsonfile import read_json
from samrefine_runtime.image import IMAGE_SUFFIXES

ImageLabels = dict[str, NDArray[np.bool_]]
"""image id (file name without folder and suffix) -> (C,) bool, in the order of the class list"""

MAX_XML_BYTES = 16 << 20

_Entry = tuple[str, str, list[str]]
"""where it was read, image id, class names"""


def read_image_labels(path: str | Path, classes: Sequence[str]) -> ImageLabels:
    """Image-level labels of a set of images.

    Read are, by the suffix:
        .csv: a header `image,labels` with names separated by `;`, or a first column of images
            and one column of 0 and 1 for each class; UTF-8.
        .json: {"image": ["cat", "dog"], ...}
        a folder: VOC annotations `<id>.xml`; the classes of all objects, difficult ones too.

    An image that is not listed is not in the result (`labels.get(image_id)` is None).

    Args:
        classes: the names that may occur, usually without the background.

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
    if suffix in (".npy", ".npz", ".pkl"):
        return "may hold a pickle, which is never read; convert it to CSV or JSON"
    return "expected a .csv or .json file, or a folder of VOC .xml files"


def _gather(entries: Iterable[_Entry], classes: tuple[str, ...]) -> ImageLabels:
    labels: ImageLabels = {}
    for where, image_id, names in entries:
        present = np.zeros(len(classes), np.bool_)
        for name in names:
            if name not in classes:
                raise LabelError(f"{where}: {image_id}: {_unknown(name, classes)}")
            present[classes.index(name)] = True
        earlier = labels.setdefault(image_id, present)
        if not np.array_equal(earlier, present):
            raise LabelError(f"{where}: {image_id} is listed twice with different labels")
    return labels


def _unknown(name: str, classes: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, classes, n=3)
    if close:
        return f"unknown class {short(name)}, did you mean {' or '.join(close)}?"
    known = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    return f"unknown class {short(name)}, known are {known}"


def _image_id(name: str) -> str:
    """File name without folder, and without suffix if that is an image's."""
    base = PurePosixPath(name.strip().replace("\\", "/"))
    return base.stem if base.suffix.lower() in IMAGE_SUFFIXES else base.name


def _csv_entries(path: Path, classes: Sequence[str]) -> Iterator[_Entry]:
    rows = _csv_rows(path)
    header = [cell.strip() for cell in next(rows, (0, []))[1]]
    if len(header) < 2:
        raise LabelError(f"{path}: no header, expected image,labels or image,<class>,...")
    listed = [cell.lower() for cell in header[1:]] == ["labels"]
    for name in [] if listed else header[1:]:
        if name not in classes:
            raise LabelError(f"{path}: header: {_unknown(name, classes)}")
    for line, row in rows:
        where = f"{path}:{line}"
        if len(row) != len(header) or not row[0].strip():
            raise LabelError(f"{where}: {len(row)} cells, expected an image and {len(header) - 1}")
        names = row[1].split(";") if listed else _marked(header[1:], row[1:], where)
        stripped = [name.strip() for name in names]
        yield where, _image_id(row[0]), [name for name in stripped if name]


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text), strict=True)
        yield from ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path}: not a readable CSV file ({error})") from error


def _marked(names: Sequence[str], cells: Sequence[str], where: str) -> list[str]:
    marks = [cell.strip() for cell in cells]
    for name, mark in zip(names, marks, strict=True):
        if mark not in ("0", "1", ""):
            raise LabelError(f"{where}: {name} is {short(mark)}, expected 0 or 1")
    return [name for name, mark in zip(names, marks, strict=True) if mark == "1"]


def _json_entries(path: Path) -> Iterator[_Entry]:
    content = read_json(path, LabelError)
    if not isinstance(content, dict):
        raise LabelError(f"{path}: holds {type(content).__name__}, expected an object of images")
    for image, names in content.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise LabelError(f"{path}: {image}: labels are {short(names)}, expected names")
        yield str(path), _image_id(image), names


def _xml_entries(folder: Path) -> Iterator[_Entry]:
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise LabelError(f"{folder}: no VOC .xml files here")
    for path in files:
        objects = _parse_xml(path).findall("object")
        yield str(path), path.stem, [(item.findtext("name") or "").strip() for item in objects]


class _NoDoctype(ElementTree.TreeBuilder):
    """Entities, which can blow up a small file, need a DOCTYPE; annotations never have one."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        """Called by the parser before any entity is declared."""
        raise LabelError("has a DOCTYPE, which is refused")


def _parse_xml(path: Path) -> ElementTree.Element:
    try:
        if path.stat().st_size > MAX_XML_BYTES:
            raise LabelError(f"larger than {MAX_XML_BYTES >> 20} MiB")
        root = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_NoDoctype()))
        if root.tag != "annotation":
            raise LabelError(f"root is <{root.tag}>, expected <annotation>")
    except (LabelError, ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise LabelError(f"{path}: not a VOC annotation ({error})") from error
    return root
