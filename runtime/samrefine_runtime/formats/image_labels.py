"""Image-level labels: which classes an image shows, from CSV, JSON or VOC XML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import NoReturn
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.arguments import as_texts, unknown_class
from samrefine_runtime.checks import StrPath, as_path
from samrefine_runtime.class_names import BACKGROUND
from samrefine_runtime.errors import ImageLabelsError, LabelError
from samrefine_runtime.formats.jsonfile import read_json
from samrefine_runtime.image import IMAGE_SUFFIXES
from samrefine_runtime.inputs import check_file, read_bytes
from samrefine_runtime.names import ByImage, image_id, listed_id

ImageLabels = Mapping[str, NDArray[np.bool_]]
"""Image id -> (C,) bool, in the order of the class list; see `names.ByImage`."""

MAX_XML_BYTES = 4 << 20
"""Largest VOC annotation that is parsed, 4 MiB; VOC's own have a few kB. A parsed file takes up to
40 times its size."""

_DELIMITERS = ",;\t"
"""Characters between the cells of a CSV file: a comma, or what spreadsheets of other countries and
databases write."""

_Entry = tuple[str, str, list[str]]
"""Place for messages (file, or file and line), image id, class names."""


def read_image_labels(path: StrPath, classes: Sequence[str]) -> ImageLabels:
    """Read the image-level labels of a set of images.

    The suffix selects the format:
        .csv: a header `image,labels` with names separated by `;`, or a first column of images
            and one column of 0 and 1 for each class; UTF-8. Cells are separated by commas,
            semicolons or tabs, as in the header.
        .json: {"image": ["cat", "dog"], ...}
        a folder: VOC annotations `<id>.xml`; the classes of all objects, difficult ones too.

    An image that is not listed is not in the result (`labels.get(image_id)` is None). Listed names
    may have more or fewer folders than the ids they are asked for (`names.ByImage`).

    Args:
        path: a file, or a folder of VOC annotations.
        classes: names that may occur, usually without the background.

    Raises:
        ImageLabelsError: the file cannot be read, lists no images, names an unknown class, or lists
            an image twice with different labels.
        SettingsError: classes is no list of names.
    """
    source = as_path(path, "path", ImageLabelsError)
    classes = as_texts(classes, "classes", "class names")
    try:
        labels = _gather(_entries(source, classes), classes)
    except LabelError as error:
        raise ImageLabelsError(str(error)) from error
    if not labels:
        raise ImageLabelsError(f"{source}: lists no images")
    return labels


def labels_of_folders(image_id: str, classes: Sequence[str]) -> NDArray[np.bool_]:
    """Return the class (C,) bool of an image that lies in a folder of that name, as "cats/1".

    Of several such folders the innermost counts; "background" is no class.

    Raises:
        LabelError: no folder of the id is called as a class.
    """
    folders = image_id.split("/")[:-1]
    named = [name for name in folders if name in (*classes, BACKGROUND)]
    if not named:
        what = unknown_class(folders[-1], classes) if folders else "no folder in its id"
        raise LabelError(f"{image_id}: {what}; the folder of an image must be called as its class")
    return np.array([name == named[-1] for name in classes], bool)


def _entries(source: Path, classes: Sequence[str]) -> Iterable[_Entry]:
    """Return the labels of a file or folder by its suffix. Raises LabelError."""
    if source.is_dir():
        return _xml_entries(source)
    suffix = source.suffix.lower()
    if suffix == ".csv":
        return _csv_entries(source, classes)
    if suffix == ".json":
        return _json_entries(source)
    check_file(source, LabelError)
    raise LabelError(f"{source}: {_unsupported(suffix)}")


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
    labels: dict[str, NDArray[np.bool_]] = {}
    for where, image, names in entries:
        present = np.zeros(len(classes), np.bool_)
        for name in names:
            if name not in classes:
                raise LabelError(f"{where}: {image}: {unknown_class(name, classes)}")
            present[classes.index(name)] = True
        # An image listed twice with the same labels is harmless
        earlier = labels.setdefault(image, present)
        if not np.array_equal(earlier, present):
            raise LabelError(f"{where}: {image} is listed twice with different labels")
    return ByImage(labels)


def _csv_entries(path: Path, classes: Sequence[str]) -> Iterator[_Entry]:
    """Yield the labels of a CSV file of either form. Raises LabelError."""
    # The header decides the form: names in one column, or one column per class
    text = _csv_text(path)
    delimiter = _delimiter(text)
    rows = _csv_rows(path, text, delimiter)
    header = [cell.strip() for cell in next(rows, (0, []))[1]]
    if len(header) < 2:
        raise LabelError(
            f"{path}: no header of two columns or more (found {short(', '.join(header))}), "
            "expected image,labels or image,<class>,... with commas, semicolons or tabs between"
        )
    listed = [cell.lower() for cell in header[1:]] == ["labels"]
    for name in [] if listed else header[1:]:
        if name not in classes:
            raise LabelError(f"{path}: header: {unknown_class(name, classes)}")
    # One image per row
    for line, row in rows:
        where = f"{path}:{line}"
        # Names are separated by semicolons, which may be the file's own delimiter
        cells = [row[0], ";".join(row[1:])] if listed and delimiter == ";" else row
        if len(cells) != len(header) or not cells[0].strip():
            raise LabelError(f"{where}: {len(row)} cells, expected an image and {len(header) - 1}")
        names = cells[1].split(";") if listed else _marked(header[1:], cells[1:], where)
        stripped = [name.strip() for name in names]
        yield where, listed_id(cells[0], IMAGE_SUFFIXES), [name for name in stripped if name]


def _csv_text(path: Path) -> str:
    """Read a CSV file. Raises LabelError."""
    try:
        # utf-8-sig drops the byte order mark that spreadsheet programs write
        return read_bytes(path, LabelError).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: not a readable CSV file ({error})") from error


def _delimiter(text: str) -> str:
    """Return the character that ends the first cell of the header."""
    header = text.lstrip().partition("\n")[0]
    # Quoted cells may hold any of them
    unquoted = re.sub(r'"[^"]*"', "", header)
    return next((character for character in unquoted if character in _DELIMITERS), ",")


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of every row that is not blank. Raises LabelError."""
    try:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        yield from ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
    except csv.Error as error:
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
        yield str(path), listed_id(image, IMAGE_SUFFIXES), names


def _xml_entries(folder: Path) -> Iterator[_Entry]:
    """Yield the labels of a folder of VOC annotations, by file name. Raises LabelError."""
    # Hidden files are skipped: macOS adds `._` files with the suffix of the original
    files = [path for path in sorted(folder.rglob("*.xml")) if path.name[0] != "."]
    if not files:
        raise LabelError(f"{folder}: no VOC .xml files here")
    for path in files:
        objects = parse_annotation(path).findall("object")
        names = [(item.findtext("name") or "").strip() for item in objects]
        yield str(path), image_id(path, folder), names


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds an XML tree, but refuses a DOCTYPE.

    Entities, by which a small file can expand to gigabytes, are declared in a DOCTYPE; VOC
    annotations have none.
    """

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        """Refuse a DOCTYPE; the parser calls this before any entity is declared."""
        raise LabelError("has a DOCTYPE, which is refused")


def parse_annotation(path: Path) -> ElementTree.Element:
    """Parse a VOC annotation. Raises LabelError."""
    check_file(path, LabelError)
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
