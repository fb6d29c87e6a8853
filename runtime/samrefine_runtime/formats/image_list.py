"""Lists of images: a text file with one per line, or a CSV file with a column of them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from samrefine_runtime.errors import InputError
from samrefine_runtime.inputs import read_bytes

_COLUMN = "image"


def read_image_list(path: str | Path) -> list[str]:
    """Read the file names or ids that a list names, in order, without doubles.

    A .csv file has them in the column `image`, or in the first one where no column is called so;
    of other files every line is one, but for empty ones and those that begin with #. UTF-8.

    Raises:
        InputError: the file cannot be read, is no text, or lists nothing.
    """
    try:
        text = read_bytes(path, InputError).decode("utf-8-sig")
        names = _csv_names(text) if Path(path).suffix.lower() == ".csv" else text.splitlines()
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a list of images ({error})") from error
    kept = [name.strip() for name in names if name.strip() and name.strip()[0] != "#"]
    if not kept:
        raise InputError(f"{path}: lists no images")
    return list(dict.fromkeys(kept))


def _csv_names(text: str) -> list[str]:
    """Return the cells of the column of images; a first row without its name is one of them."""
    rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = header.index(_COLUMN) if _COLUMN in header else 0
    cells = rows[1:] if _COLUMN in header else rows
    return [row[column] for row in cells if len(row) > column]
