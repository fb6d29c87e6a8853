"""The report as a page: one HTML file, written entry by entry as a stream."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.atomic import atomic_path
from samrefine_runtime.labels import PALETTE
from samrefine_runtime.report.entry import (
    COLUMNS,
    IDENTITY_DIGITS,
    LAYERS,
    VALUES,
    Pixels,
    ReportEntry,
    class_iou,
    column,
    mean_iou,
    occurs,
)
from samrefine_runtime.report.palette import DISTINCT, PATTERNS, heat_colours

MAX_BYTES = 64 << 20
"""Bytes of entries on a page; a browser opens a page of this size in seconds."""

FIRST = 24
"""Images that come before the script: more than the first screen shows."""

SCRIPTS = (
    "dom",
    "maps",
    "colours",
    "paint",
    "zoom",
    "gestures",
    "decisions",
    "listing",
    "state",
    "keys",
    "report",
    "figures",
    "stage",
    "gallery",
    "source",
    "reading",
    "panel",
    "viewer",
    "main",
)
"""Modules of the page's script, each before those that use it."""

_IMAGES_HERE = "<!-- images -->\n"
"""The line of page.html that stands for the entries."""

_LEAST_GAIN = 0.05
"""Points below which a difference has no colour: it is printed as 0.0."""

_TITLES = dict(
    zip(
        LAYERS,
        ("Activation", "Masks", "Pseudo label", "Refined label", "Ground truth"),
        strict=True,
    )
)


_CONSTANTS = {
    "columns": COLUMNS,
    "palettes": {"distinct": DISTINCT, "voc": PALETTE.tolist()},
    "patterns": PATTERNS,
    "heat": heat_colours().tolist(),
}
"""What the script knows on every page."""


def write_report(
    path: str | Path,
    entries: Iterable[Path],
    classes: Sequence[str],
    *,
    title: str = "Labelled images",
    image_files: Mapping[str, Path] | None = None,
    label_files: Mapping[str, Path] | None = None,
    home: Path | None = None,
    labels_folder: str = "voc",
    max_bytes: int = MAX_BYTES,
) -> None:
    """Write the page, images with the most changed pixels first.

    Figures count all images. If their entries take more than `max_bytes`, the page shows the
    first of them and says so. Memory does not grow with the pictures.

    Args:
        path: the HTML file.
        entries: files that `ReportEntry.write` wrote.
        classes: names, background first.
        title: heading of the page.
        image_files: file of each image by id, which the page shows at full size; those that are not
            there are not linked.
        label_files: file of each refined label by id, linked too.
        home: folder in which the page will lie, if it is another than that of `path`; links are
            relative to it.
        labels_folder: folder of all labels, which the page names if it does not show all images.
        max_bytes: of entries on the page; one image is always shown.

    Raises:
        LabelError: an entry cannot be read.
        OutputError: the page cannot be written.
    """
    path = Path(path)
    # Sum up all entries, keeping no pictures
    totals, images = _Totals(), []
    for file in entries:
        entry = ReportEntry.read(file)
        totals.add(entry)
        images.append(_Image.of(file, entry))
    # Choose the images to show
    images.sort(key=_Image.rank)
    shown = _fitting(images, max_bytes)
    links = {"image_link": image_files or {}, "label_link": label_files or {}}
    _add_links(shown, links, path.parent if home is None else home)
    # Fill in the page
    head, script, tail = _parts(
        title=escape(title),
        figures="".join(_figure(*figure) for figure in totals.figures()),
        note=_note(len(shown), len(images), labels_folder),
        table=_table(totals, classes),
        data=_inline(
            {
                "identity": _identity(title, classes),
                "classes": list(classes),
                "layers": {name: _TITLES[name] for name in LAYERS if name in totals.layers},
                "images": [image.row for image in shown],
                **_CONSTANTS,
            }
        ),
    )
    # Write it, reading the entries of the shown images again one by one
    blocks = _blocks(shown)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        out.write(head)
        # The script comes after the first screenful, to show it while the rest still loads
        out.writelines(block for _, block in zip(range(FIRST), blocks, strict=False))
        out.write(script)
        out.writelines(blocks)
        out.write(tail)


@dataclass(frozen=True)
class _Image:
    """An image in the page's index: what finds and sorts it, without its pictures."""

    file: Path
    """Its entry."""
    row: dict[str, Any]
    """What the page's script knows of the image before it reads the entry."""
    length: int
    """Bytes of its entry."""

    @classmethod
    def of(cls, file: Path, entry: ReportEntry) -> _Image:
        miou = entry.miou
        values = column(entry.pixels, "class")
        row = {
            "id": entry.image_id,
            "identity": entry.identity,
            "shape": entry.image_shape,
            "changed": entry.changed,
            "confidence": entry.confidence,
            "before": miou and miou[0],
            "after": miou and miou[1],
            "classes": values[occurs(entry.pixels) & (values > 0)].tolist(),
        }
        return cls(file, row, file.stat().st_size)

    def rank(self) -> tuple[bool, float, str]:
        """Return a sort key: most changed first, then images without that figure, then by id."""
        changed = self.row["changed"]
        return changed is None, -(changed or 0.0), self.row["id"]


@dataclass
class _Totals:
    """Figures of all images."""

    pixels: Pixels = field(default_factory=lambda: np.zeros((VALUES, len(COLUMNS)), np.int64))
    """(256, 8); unlike an entry's, it has a row for every class, at the index of its value."""
    images: NDArray[np.int64] = field(default_factory=lambda: np.zeros(VALUES, np.int64))
    """(256,) images by class."""
    layers: set[str] = field(default_factory=set)
    """Names of the maps that any image has."""
    count: int = 0
    """Images."""
    scored: int = 0
    """Images with ground truth."""
    changed: list[float] = field(default_factory=list)
    """Fraction of changed pixels of each image where it is known."""
    seconds: list[float] = field(default_factory=list)
    """Seconds of each image where they are known."""
    masks: int = 0
    """Masks of all images."""

    def add(self, entry: ReportEntry) -> None:
        """Count one more image."""
        values = column(entry.pixels, "class")
        for name in set(COLUMNS) - {"class"}:
            column(self.pixels, name)[values] += column(entry.pixels, name)
        self.images[values[occurs(entry.pixels)]] += 1
        self.layers |= entry.maps.keys()
        self.count += 1
        self.scored += entry.scored
        self.changed += [] if entry.changed is None else [entry.changed]
        self.seconds += [] if entry.seconds is None else [entry.seconds]
        self.masks += len(entry.mask_scores or ())

    def figures(self) -> Iterator[tuple[str, str, str]]:
        """Yield (name, value, remark) of each figure at the top of the page."""
        if (miou := mean_iou(self.pixels)) is not None:
            before, after = (100 * value for value in miou)
            some = "" if self.scored == self.count else f"{self.scored:,} images with ground truth"
            yield "mIoU before", f"{before:.1f}", some
            yield "mIoU after", f"{after:.1f}", f"{after - before:+.1f} points"
        yield "images", f"{self.count:,}", ""
        if self.changed:
            yield "pixels changed", f"{100 * np.mean(self.changed):.1f}%", "mean over images"
        if self.masks:
            yield "masks", f"{self.masks:,}", f"{self.masks / len(self.changed):.0f} per image"
        if self.seconds:
            yield (
                "seconds per image",
                f"{np.mean(self.seconds):.1f}",
                f"{sum(self.seconds):,.0f} in total",
            )


def _fitting(images: list[_Image], max_bytes: int) -> list[_Image]:
    """Return the first images whose entries fit into `max_bytes`, at least one."""
    ends = np.cumsum([image.length for image in images])
    return images[: max(1, int(np.searchsorted(ends, max_bytes, side="right")))]


def _identity(title: str, classes: Sequence[str]) -> str:
    """Return hex digits under which a browser keeps the decisions made on reports of this kind."""
    kind = json.dumps([title, list(classes)])
    return hashlib.sha256(kind.encode()).hexdigest()[:IDENTITY_DIGITS]


def _add_links(
    images: Sequence[_Image], links: Mapping[str, Mapping[str, Path]], home: Path
) -> None:
    """Add the addresses of files to the rows of images, given the files by name and image id."""
    for image in images:
        for name, known in links.items():
            image.row[name] = _link(home, known.get(image.row["id"]))


def _link(home: Path, file: Path | None) -> str | None:
    """Return the address of a file relative to the page's folder; None if it is not there."""
    if file is None or not file.is_file():
        return None
    # As bytes: a name need not be valid UTF-8. Colons are quoted too, or would follow a scheme
    return quote(os.fsencode(os.path.relpath(file, home)))


def _blocks(images: Sequence[_Image]) -> Iterator[str]:
    """Yield one script element of JSON per image; the page's script reads it when it is shown."""
    for index, image in enumerate(images):
        text = _inline(ReportEntry.read(image.file).to_json())
        yield f'<script type="application/json" id="image-{index}">{text}</script>\n'


def _inline(value: Any) -> str:
    """Return JSON that cannot end the script element around it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _parts(**values: str) -> tuple[str, str, str]:
    """Fill in page.html: the parts before the first images, up to the others, and after them."""
    assets = files("samrefine_runtime.report")
    scripts = [(assets / "script" / f"{name}.js").read_text("utf-8") for name in SCRIPTS]
    page = Template((assets / "page.html").read_text("utf-8")).substitute(
        style=(assets / "style.css").read_text("utf-8"), script="\n".join(scripts), **values
    )
    # A file name that is not valid UTF-8 holds lone surrogates, which no encoding can write
    clean = page.encode("utf-8", "replace").decode("utf-8")
    head, script, tail = clean.split(_IMAGES_HERE)
    return head, script, tail


def _note(shown: int, count: int, labels_folder: str) -> str:
    """Return the paragraph that says which images are shown, none if all are."""
    if shown == count:
        return ""
    return (
        f'<p class="note">The {shown:,} images that changed most are shown below, so that this '
        f"page loads fast. The figures count all {count:,} images; all labels are in "
        f"<code>{escape(labels_folder)}/</code>.</p>"
    )


def _figure(name: str, value: str, remark: str) -> str:
    return (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        f"{f'<small>{escape(remark)}</small>' if remark else ''}</dd></div>"
    )


def _table(totals: _Totals, classes: Sequence[str]) -> str:
    """Return the table per class: IoU, or the percentage of pixels if there is no ground truth."""
    scored = bool(totals.scored)
    if scored:
        heads = ["Class", "Images", "IoU before", "after", "gain"]
        before, after = class_iou(totals.pixels)
    else:
        heads = ["Class", "Images", "% of pixels before", "after", "difference"]
        counts = [column(totals.pixels, name) for name in ("before", "after")]
        before, after = (count / max(1, count.sum()) for count in counts)
    cells = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    if scored:
        cells += '<th scope="col" class="scale">○ before, ● after, 0 to 100</th>'
    rows = (
        _name_cells(value, classes, int(totals.images[value]))
        + _value_cells(100 * float(before[value]), 100 * float(after[value]), scored)
        for value in np.flatnonzero(totals.images).tolist()
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody>"


def _name_cells(value: int, classes: Sequence[str], images: int) -> str:
    """Return the cells of a class's colour and name, and of the number of images with it."""
    name = classes[value] if value < len(classes) else f"class {value}"
    red, green, blue = PALETTE[value].tolist()
    return (
        f'<th scope="row"><span class="swatch" style="background:var(--class-{value},'
        f'rgb({red},{green},{blue})) 0 0 / 100%"></span>{escape(name)}</th><td>{images:,}</td>'
    )


def _value_cells(before: float, after: float, scored: bool) -> str:
    """Return the cells of two percentages and their difference; scores also get a scale."""
    gain = after - before
    tone = "same" if not (scored and abs(gain) >= _LEAST_GAIN) else "up" if gain > 0 else "down"
    cells = (
        f"<td>{_number(before)}</td><td>{_number(after)}</td>"
        f'<td class="{tone}">{_number(gain, "+")}</td>'
    )
    if not scored:
        return cells
    if np.isnan(gain):
        return f'{cells}<td class="scale"></td>'
    left, right = sorted((before, after))
    return (
        f'{cells}<td class="scale"><div><i class="{tone}" style="left:{left:.2f}%;'
        f'width:{right - left:.2f}%"></i><b style="left:{before:.2f}%"></b>'
        f'<b class="after" style="left:{after:.2f}%"></b></div></td>'
    )


def _number(value: float, sign: str = "") -> str:
    if np.isnan(value):
        return "–"
    # Adding 0.0 turns -0.0 into 0.0
    return f"{round(value, 1) + 0.0:{sign}.1f}".replace("-", "−")
