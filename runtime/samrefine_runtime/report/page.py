"""Assembles the report from its entries: one HTML file, written as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.atomic import atomic_path
from samrefine_runtime.labels import PALETTE
from samrefine_runtime.report.entry import (
    COLUMNS,
    LAYERS,
    Pixels,
    ReportEntry,
    class_iou,
    mean_iou,
)

MAX_BYTES = 64 << 20
"""what the images of a page may take; a browser opens a page of this size in seconds"""

PAGE = 20
"""images on the screen at once"""

_TITLES = dict(
    zip(
        LAYERS,
        ("Image", "Activation", "Masks", "Pseudo label", "Refined label", "Ground truth"),
        strict=True,
    )
)


def write_report(
    path: str | Path,
    entries: Iterable[Path],
    classes: Sequence[str],
    *,
    title: str = "Labelled images",
    labels_folder: str = "voc",
    max_bytes: int = MAX_BYTES,
) -> None:
    """Write the page: largest disagreement between pseudo label and refined label first.

    Figures count all images. If their entries take more than `max_bytes`, the page shows the
    first of them and says so. Memory does not grow with the pictures.

    Args:
        path: the HTML file.
        entries: files that `ReportEntry.write` made.
        classes: names, background first.
        title: heading of the page.
        labels_folder: where the page says that all labels are.
        max_bytes: of entries on the page; one image is always shown.

    Raises:
        LabelError: an entry cannot be read.
        OutputError: the page cannot be written.
    """
    totals, images = _Totals(), []
    for file in entries:
        entry = ReportEntry.read(file)
        totals.add(entry)
        images.append(_Image.of(file, entry))
    images.sort(key=_Image.rank)
    shown = _fitting(images, max_bytes)
    head, script, tail = _parts(
        title=escape(title),
        figures="".join(_figure(*figure) for figure in totals.figures()),
        note=_note(len(shown), len(images), labels_folder),
        table=_table(totals, classes),
        data=_inline(
            {
                "classes": list(classes),
                "colours": PALETTE.tolist(),
                "layers": {name: _TITLES[name] for name in LAYERS if name in totals.layers},
                "columns": list(COLUMNS),
                "page": PAGE,
                "images": [image.row for image in shown],
            }
        ),
    )
    blocks = _blocks(shown)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        out.write(head)
        # The script comes after the first screenful: it is shown while the rest still loads.
        out.writelines(block for _, block in zip(range(PAGE), blocks, strict=False))
        out.write(script)
        out.writelines(blocks)
        out.write(tail)


@dataclass(frozen=True)
class _Image:
    """What has to be known of an image to find and sort it."""

    file: Path
    row: dict[str, Any]
    length: int
    """of its entry, bytes"""

    @classmethod
    def of(cls, file: Path, entry: ReportEntry) -> _Image:
        miou = entry.miou
        seen = entry.pixels[:, 1:].any(axis=1) & (entry.pixels[:, 0] > 0)
        row = {
            "id": entry.image_id,
            "changed": entry.changed,
            "before": miou and miou[0],
            "after": miou and miou[1],
            "classes": entry.pixels[seen, 0].tolist(),
        }
        return cls(file, row, file.stat().st_size)

    def rank(self) -> tuple[bool, float, str]:
        changed = self.row["changed"]
        return changed is None, -(changed or 0.0), self.row["id"]


@dataclass
class _Totals:
    """Figures of all images."""

    pixels: Pixels = field(default_factory=lambda: np.zeros((256, len(COLUMNS)), np.int64))
    images: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """(256,) images by class"""
    layers: set[str] = field(default_factory=set)
    count: int = 0
    scored: int = 0
    changed: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    masks: int = 0

    def add(self, entry: ReportEntry) -> None:
        self.pixels[entry.pixels[:, 0], 1:] += entry.pixels[:, 1:]
        self.images[entry.pixels[entry.pixels[:, 1:].any(axis=1), 0]] += 1
        self.layers |= entry.pictures.keys()
        self.count += 1
        self.scored += entry.scored
        self.changed += [] if entry.changed is None else [entry.changed]
        self.seconds += [] if entry.seconds is None else [entry.seconds]
        self.masks += entry.masks or 0

    def figures(self) -> Iterator[tuple[str, str, str]]:
        """(name, value, what it says more) of each figure on top of the page."""
        if (miou := mean_iou(self.pixels)) is not None:
            before, after = (100 * value for value in miou)
            more = "" if self.scored == self.count else f"{self.scored:,} images with ground truth"
            yield "mIoU of pseudo labels", f"{before:.1f}", more
            yield "mIoU of refined labels", f"{after:.1f}", f"{after - before:+.1f} points"
        yield "images", f"{self.count:,}", ""
        if self.changed:
            yield "pixels changed", f"{100 * np.mean(self.changed):.1f}%", "mean over images"
        if self.masks:
            yield "masks", f"{self.masks:,}", f"{self.masks / len(self.changed):.0f} an image"
        if self.seconds:
            yield (
                "seconds an image",
                f"{np.mean(self.seconds):.1f}",
                f"{sum(self.seconds):,.0f} in all",
            )


def _fitting(images: list[_Image], max_bytes: int) -> list[_Image]:
    ends = np.cumsum([image.length for image in images])
    return images[: max(1, int(np.searchsorted(ends, max_bytes, side="right")))]


def _blocks(images: Sequence[_Image]) -> Iterator[str]:
    for index, image in enumerate(images):
        text = _inline(ReportEntry.read(image.file).to_json())
        yield f'<script type="application/json" id="image-{index}">{text}</script>\n'


def _inline(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _parts(**values: str) -> tuple[str, str, str]:
    """The page before the first images, between them and the others, and after."""
    assets = files("samrefine_runtime.report")
    text = {
        name: (assets / name).read_text("utf-8") for name in ("page.html", "style.css", "script.js")
    }
    page = Template(text["page.html"]).substitute(
        style=text["style.css"], script=text["script.js"], **values
    )
    # A name may hold half a surrogate pair, which no encoding can write.
    clean = page.encode("utf-8", "replace").decode("utf-8")
    head, script, tail = clean.split("<!-- images -->\n")
    return head, script, tail


def _note(shown: int, count: int, labels_folder: str) -> str:
    if shown == count:
        return ""
    return (
        f'<p class="note">The {shown:,} images that changed most are shown below, which keeps this '
        f"page quick. The figures count all {count:,}; the labels of all are in "
        f"<code>{escape(labels_folder)}/</code>.</p>"
    )


def _figure(name: str, value: str, more: str) -> str:
    return (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        f"{f'<small>{escape(more)}</small>' if more else ''}</dd></div>"
    )


def _table(totals: _Totals, classes: Sequence[str]) -> str:
    """Head and body of the per-class table: IoU, or shares of the pixels without ground truth."""
    scored = bool(totals.scored)
    if scored:
        heads = ["Class", "Images", "IoU before", "after", "gain"]
        before, after = class_iou(totals.pixels)
    else:
        heads = ["Class", "Images", "% of pixels before", "after", "difference"]
        before, after = (totals.pixels[:, i] / max(1, totals.pixels[:, i].sum()) for i in (1, 2))
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
    name = classes[value] if value < len(classes) else f"class {value}"
    red, green, blue = PALETTE[value].tolist()
    return (
        f'<th scope="row"><span class="swatch" style="background:rgb({red},{green},{blue})">'
        f"</span>{escape(name)}</th><td>{images:,}</td>"
    )


def _value_cells(before: float, after: float, scored: bool) -> str:
    """Percentages as numbers; scores also on a line from 0 to 100."""
    gain = after - before
    tone = "same" if not (scored and abs(gain) >= 0.05) else "up" if gain > 0 else "down"
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
    return f"{round(value, 1) + 0.0:{sign}.1f}".replace("-", "−")
