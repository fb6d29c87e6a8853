"""The report as a browser shows it: offline, without a complaint, by keyboard."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.cam import CamResult
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report import ReportEntry, write_report
from samrefine_runtime.results import LabelResult
from tests.chromium import Page, needs_chromium, open_chromium
from tests.samples import synthetic

pytestmark = needs_chromium

CLASSES = ("background", "cat", "<i>dog</i>")
COUNT = 45
SIZES = [(90, 160), (160, 90), (128, 128)]

HEADING = "document.activeElement.querySelector('h3')?.textContent"
TINT = "getComputedStyle(document.querySelector('.layer')).visibility"
UNDER = "getComputedStyle(document.querySelector('.under')).visibility"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on COUNT images of three shapes; the last was labelled without a report."""
    folder = tmp_path_factory.mktemp("report")
    files = []
    for index in range(COUNT):
        entry = _entry(index, SIZES[index % 3])
        files.append(folder / f"{index}.json")
        entry.write(files[-1])
    write_report(folder / "report.html", files, CLASSES, title="Report <b>")
    return folder / "report.html"


def _entry(index: int, size: tuple[int, int]) -> ReportEntry:
    name, image = f"image {index:02}", synthetic(size, index)
    pseudo, label, truth = (np.zeros(size, np.uint8) for _ in range(3))
    pseudo[20:60, 20:50] = 1
    label[20:70, 20 : 50 + index % 20] = 1
    truth[20:75, 20:60], truth[:10] = 1, 255
    truth[-10:] = 2
    if index == COUNT - 1:
        return ReportEntry.of_label(name, image, label)
    maps = (pseudo == 1)[None].astype(np.float32)
    cam = CamResult(np.array([1]), maps, 0.15, np.array([0.9, 0.1], np.float32), size)
    masks = Masks.from_dense(size, [label == 1, truth == 1])
    seconds = {"cam": 0.1, "masks": 1.0}
    result = LabelResult(label, pseudo, cam, masks, seconds)
    return ReportEntry.of(name, image, result, truth)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_chromium() as page:
        yield page


@pytest.fixture
def page(browser: Page, report: Path) -> Iterator[Page]:
    """The report, freshly loaded; at the end nothing may have been complained of or fetched."""
    browser.events.clear()
    browser.resize(1280, 900)
    browser.open(report)
    yield browser
    assert browser.complaints() == []
    assert set(browser.requests()) == {report.resolve().as_uri()}


def drawn(page: Page) -> list[Any]:
    """[natural width, alternative text or None] of every image, once all are loaded."""
    page.wait_for("[...document.images].every(image => image.complete)")
    script = "[...document.images].map(image => [image.naturalWidth, image.getAttribute('alt')])"
    found: list[Any] = page.run(script)
    return found


def test_every_image_is_drawn_on_every_page(page: Page) -> None:
    seen = 0
    for cards in (20, 20, 5):
        images = drawn(page)
        assert page.run("document.querySelectorAll('article').length") == cards
        assert all(width > 0 and alt is not None for width, alt in images)
        seen += len(images)
        page.press("n")
    assert seen == (COUNT - 1) * 11 + 3
    assert page.run("document.getElementById('next').disabled")


def test_names_are_text(page: Page) -> None:
    assert page.run("document.querySelector('h1').textContent") == "Report <b>"
    assert page.run("document.querySelectorAll('main i:not([class]), main b:not([style])').length"
    ) == 0  # fmt: skip
    assert "<i>dog</i>" in page.run("document.querySelector('table').textContent")
    assert "<i>dog</i>" in page.run("document.querySelector('.chips').textContent")


def test_overlay_switches_by_key(page: Page) -> None:
    states = []
    for _ in range(4):
        states.append((page.run(TINT), page.run(UNDER)))
        page.press("o")
    over, plain, off = ("visible", "visible"), ("visible", "hidden"), ("hidden", "visible")
    assert states == [over, plain, off, over]


def test_overlay_changes_what_is_seen(page: Page) -> None:
    page.run("document.getElementById('cards').scrollIntoView({behavior: 'instant'})")
    drawn(page)
    shots = []
    for _ in range(3):
        shots.append(np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")))
        page.press("o")
    assert all((shots[a] != shots[b]).any(axis=2).mean() > 0.01 for a, b in ((0, 1), (0, 2)))


def test_strength_changes_the_tint(page: Page) -> None:
    table = "document.getElementById('alpha').getAttribute('tableValues')"
    assert page.run(table) == "0 0.6 1"
    page.press("+")
    assert page.run(table) == "0 0.7 1"
    page.press("-")
    page.press("-")
    assert page.run(table) == "0 0.5 1"


def test_number_keys_hide_pictures(page: Page) -> None:
    shown = "[...document.querySelectorAll('figure:not([hidden])')].map(f => f.dataset.layer)"
    page.press("2")
    page.press("3")
    assert set(page.run(shown)) == {"image", "pseudo_label", "label", "ground_truth"}
    assert page.run("document.querySelector('[data-layer=cam]').ariaPressed") == "false"
    page.press("2")
    assert "cam" in page.run(shown)


@pytest.mark.parametrize(("forth", "back"), [("ArrowRight", "ArrowLeft"), ("j", "k")])
def test_keys_move_between_images_and_pages(page: Page, forth: str, back: str) -> None:
    names = page.run(
        "JSON.parse(document.getElementById('report').textContent).images.map(p=>p.id)"
    )
    for index in range(21):
        page.press(forth)
        assert page.run(HEADING) == names[index]
    assert page.run("document.getElementById('where').textContent") == f"21–40 of {COUNT}"
    page.press(back)
    assert page.run(HEADING) == names[19]
    assert page.run("document.activeElement.matches(':focus-visible')")


def test_help_opens_and_closes(page: Page) -> None:
    page.press("?")
    assert page.run("document.getElementById('help').open")
    page.press("Escape")
    assert not page.run("document.getElementById('help').open")


def test_every_control_has_a_name_and_can_be_reached(page: Page) -> None:
    reached = set()
    for _ in range(40):
        page.press("Tab")
        reached.add(page.run("document.activeElement.id || document.activeElement.tagName"))
    assert {"sort", "class", "find", "next", "open-help", "strength", "ARTICLE"} <= reached
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    controls = [n for n in tree if n.get("role", {}).get("value") in _CONTROLS]
    assert len(controls) > 15
    assert all(node["name"]["value"] for node in controls)


_CONTROLS = {"button", "combobox", "searchbox", "slider", "radio", "image"}


def test_choosing_a_class_and_a_name(page: Page) -> None:
    choose = "document.getElementById('{}').value = '{}';"
    tell = "document.getElementById('{}').dispatchEvent(new Event('{}'))"
    page.run(choose.format("find", "image 07") + tell.format("find", "input"))
    assert page.run("document.getElementById('where').textContent") == "1–1 of 1"
    page.run(choose.format("find", "nowhere") + tell.format("find", "input"))
    assert page.run("document.querySelector('#cards .empty').textContent") == "No image matches."
    page.run(choose.format("find", "") + choose.format("class", "2"))
    page.run(tell.format("class", "change"))
    assert page.run("document.getElementById('where').textContent") == f"1–20 of {COUNT - 1}"
    page.run(choose.format("sort", "name") + tell.format("sort", "change"))
    assert page.run("document.querySelector('h3').textContent") == "image 00"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 800, 1920])
def test_page_fits_the_window(page: Page, width: int, dark: bool) -> None:
    page.resize(width, 800, dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= width
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    ink = page.run("getComputedStyle(document.body).color")
    assert (_lightness(paper) < _lightness(ink)) == dark


def _lightness(colour: str) -> int:
    return sum(int(part) for part in colour[4:-1].split(","))
