"""The report in a browser: offline, without a complaint, by mouse, keyboard and fingers."""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.cam import CamResult
from samrefine_runtime.formats.image_list import read_image_list
from samrefine_runtime.labels import write_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report import ReportEntry, write_report
from samrefine_runtime.results import LabelResult
from tests.chromium import Page, needs_chromium, open_chromium
from tests.samples import synthetic

pytestmark = needs_chromium

CLASSES = ("background", "cat", "<i>dog</i>")
COUNT = 130
SIZES = [(90, 160), (160, 90), (128, 128)]
# The one image whose file is larger than the picture in the page
LARGE, LARGE_SIZE = "image 000", (900, 1200)
# The one whose label alone is known, and the one whose file is missing
PARTIAL, GONE = f"image {COUNT - 1:03}", "image 001"

DESKTOP, PHONE = (1280, 900), (390, 844)
CARDS = "[...document.querySelectorAll('article h2')].map(name => name.textContent)"
COUNTED = "document.getElementById('count').textContent"
FOCUSED = "document.activeElement.closest('article')?.querySelector('h2').textContent"
IS_OPEN = "document.getElementById('viewer').open"
NAME = "document.getElementById('viewer-name').textContent"
HASH = "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
# [scale, x, y] of the open image
VIEW = (
    "(() => { const sheet = getComputedStyle(document.getElementById('sheet'));"
    " const m = new DOMMatrix(sheet.transform); return [m.a, m.e, m.f]; })()"
)
# [left, top] of the part of the window that shows it
STAGE = (
    "(() => { const box = document.getElementById('stage').getBoundingClientRect();"
    " return [box.x, box.y]; })()"
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a report, beside its images; both were moved after it was written."""
    folder = tmp_path_factory.mktemp("report") / "before"
    entries, images, labels = [], {}, {}
    for index in range(COUNT):
        name = f"image {index:03}"
        image, label, entry = _sample(name, index)
        entries.append(folder / "out" / "report" / f"{index}.json")
        entry.write(entries[-1])
        images[name] = folder / "photos" / f"{name}.png"
        images[name].parent.mkdir(exist_ok=True)
        if name != GONE:
            Image.fromarray(image).save(images[name], compress_level=1)
        labels[name] = folder / "out" / "voc" / f"{name}.png"
        write_label(labels[name], label)
    write_report(
        folder / "out" / "report.html", entries, CLASSES, title="Report <b>",
        image_files=images, label_files=labels,
    )  # fmt: skip
    moved = folder.with_name("after")
    shutil.move(folder, moved)
    return moved / "out"


def _sample(name: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], ReportEntry]:
    size = LARGE_SIZE if name == LARGE else SIZES[index % 3]
    image = synthetic(size, index)
    pseudo, label, truth = (np.zeros(size, np.uint8) for _ in range(3))
    pseudo[20:60, 20:50] = 1
    label[20:70, 20 : 50 + index % 20] = 1
    truth[20:75, 20:60], truth[:10] = 1, 255
    truth[-10:] = 2
    if name == PARTIAL:
        return image, label, ReportEntry.of_label(name, image, label)
    maps = np.full((1, *size), 0.3 + index / COUNT / 2, np.float32)
    cam = CamResult(np.array([1]), maps, 0.15, np.array([0.9, 0.1], np.float32), size)
    masks = Masks.from_dense(size, [label == 1, truth == 1])
    result = LabelResult(label, pseudo, cam, masks, {"cam": 0.1, "masks": 1.0})
    return image, label, ReportEntry.of(name, image, result, truth)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_chromium() as page:
        yield page


@pytest.fixture
def page(browser: Page, out: Path) -> Iterator[Page]:
    """The report, freshly loaded; at the end nothing may have been complained of or fetched."""
    yield from _opened(browser, out, is_phone=False)


@pytest.fixture
def phone(browser: Page, out: Path) -> Iterator[Page]:
    """The report on a phone."""
    yield from _opened(browser, out, is_phone=True)


def _opened(browser: Page, out: Path, *, is_phone: bool) -> Iterator[Page]:
    browser.events.clear()
    browser.resize(*(PHONE if is_phone else DESKTOP), is_phone=is_phone)
    _load(browser, out)
    browser.run("localStorage.clear()")
    _load(browser, out)
    yield browser
    assert browser.complaints() == []
    home = out.parent.resolve().as_uri()
    files = {url for url in browser.requests() if url != "about:blank" and not _is_blob(url)}
    assert {url.split("#")[0] for url in files} <= {
        f"{home}/out/report.html",
        *(f"{home}/photos/image%20{index:03}.png" for index in range(COUNT)),
    }


def _is_blob(url: str) -> bool:
    return url.startswith("blob:")


def _load(page: Page, out: Path, state: str = "") -> None:
    """Load the page anew, in whatever state the address says."""
    page.send("Page.navigate", url="about:blank")
    page.send("Page.navigate", url=f"{(out / 'report.html').resolve().as_uri()}{state}")
    page.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")
    page.wait_for("document.querySelectorAll('article[data-filled]').length > 3")


def open_image(page: Page, name: str = LARGE) -> None:
    """Find an image by its name and open it."""
    page.run(f"location.hash = new URLSearchParams({{sort: 'name', image: '{name}'}}).toString()")
    page.wait_for(f"{IS_OPEN} && {NAME} === '{name}'")
    page.wait_for("document.getElementById('overlay').width > 300")
    settle(page)


def settle(page: Page) -> None:
    """Wait until the frames that were asked for are drawn."""
    page.run(
        "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))"
    )


def shot(page: Page) -> NDArray[np.uint8]:
    settle(page)
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Fraction of the pixels that are not the same."""
    return float((a != b).any(axis=2).mean())


# The cards


def test_first_screen_shows_images(page: Page) -> None:
    top = "document.querySelector('.frame').getBoundingClientRect().top"
    bottom = "document.querySelector('.frame').getBoundingClientRect().bottom"
    assert page.run(top) < DESKTOP[1] / 3
    assert page.run(bottom) < DESKTOP[1]
    page.resize(*PHONE, is_phone=True)
    assert page.run(top) < PHONE[1] / 2.5
    assert page.run(bottom) < PHONE[1]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 800, 1920])
@pytest.mark.parametrize("view", ["grid", "steps"])
def test_page_fits_the_window(page: Page, view: str, width: int, dark: bool) -> None:
    page.resize(width, 800, dark=dark)
    page.run(f"document.querySelector('#view [value={view}]').click()")
    settle(page)
    assert page.run("document.documentElement.scrollWidth") <= width
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    ink = page.run("getComputedStyle(document.body).color")
    assert (_lightness(paper) < _lightness(ink)) == dark


def _lightness(colour: str) -> int:
    return sum(int(part) for part in colour[4:-1].split(","))


def test_every_card_is_drawn_when_it_is_near(page: Page) -> None:
    assert page.run("document.querySelectorAll('article').length") == 120
    page.run("document.getElementById('end').scrollIntoView({behavior: 'instant'})")
    page.wait_for(f"document.querySelectorAll('article').length === {COUNT}")
    page.run("document.querySelector('article:last-of-type').scrollIntoView({behavior: 'instant'})")
    page.wait_for("document.querySelector('article:last-of-type').dataset.filled")
    # Those that are far away are empty again
    page.wait_for("!document.querySelector('article').dataset.filled")
    widths = "[...document.querySelectorAll('article[data-filled] img')].map(i => i.naturalWidth)"
    page.wait_for(f"{widths}.every(width => width > 0)")
    canvases = "[...document.querySelectorAll('article[data-filled] canvas')].map(c => c.width)"
    page.wait_for(f"{canvases}.every(width => width > 50)")


def test_names_are_text(page: Page) -> None:
    assert page.run("document.querySelector('h1').textContent") == "Report <b>"
    assert page.run("document.querySelectorAll('#cards i, #classes i').length") == 0
    assert "<i>dog</i>" in page.run("document.querySelector('table').textContent")
    assert "<i>dog</i>" in page.run("document.querySelector('.chips').textContent")
    assert "<i>dog</i>" in page.run("document.getElementById('class-list').textContent")


def test_sorting_puts_the_worst_first(page: Page) -> None:
    rows = page.run("JSON.parse(document.getElementById('report').textContent).images")
    keys = {
        "changed": lambda row: (row["changed"] is None, -(row["changed"] or 0)),
        "confidence": lambda row: (row["confidence"] is None, row["confidence"] or 0),
        "after": lambda row: (row["after"] is None, row["after"] or 0),
        "loss": lambda row: (row["after"] is None, (row["after"] or 0) - (row["before"] or 0)),
        "name": lambda row: (False, row["id"]),
    }
    for sort, key in keys.items():
        select(page, "sort", sort)
        assert page.run(CARDS) == [row["id"] for row in sorted(rows, key=key)][:120], sort


def select(page: Page, control: str, value: str, event: str = "change") -> None:
    page.run(
        f"(() => {{ const c = document.getElementById('{control}'); c.value = '{value}';"
        f" c.dispatchEvent(new Event('{event}', {{bubbles: true}})); }})()"
    )


def test_finding_by_name_and_class(page: Page) -> None:
    select(page, "find", "image 07", "input")
    assert page.run(COUNTED) == f"10 of {COUNT} images"
    select(page, "find", "nowhere", "input")
    assert page.run("document.querySelector('#cards .empty').textContent") == "No image matches."
    select(page, "find", "", "input")
    page.click("#class-list button[data-value='2']")
    assert page.run(COUNTED) == f"{COUNT - 1} of {COUNT} images"
    page.click("#class-list button[data-value='2']")
    assert page.run(COUNTED) == f"{COUNT} images"


def test_arrows_move_between_cards(page: Page) -> None:
    names = page.run(CARDS)
    across = page.run(
        "getComputedStyle(document.getElementById('cards')).gridTemplateColumns.split(' ').length"
    )
    page.press("j")
    assert page.run(FOCUSED) == names[0]
    for key, expected in (
        ("ArrowRight", 1), ("ArrowDown", 1 + across), ("ArrowLeft", across), ("ArrowUp", 0),
    ):  # fmt: skip
        page.press(key)
        assert page.run(FOCUSED) == names[expected]
    assert page.run("document.activeElement.matches(':focus-visible')")
    page.press("Enter")
    assert page.run(NAME) == names[0]


def test_opacity_layers_and_colours_change_what_is_seen(page: Page) -> None:
    shots = [shot(page)]
    for key in ("]", "4", "6", "1"):
        page.press(key)
        shots.append(shot(page))
    assert all(difference(a, b) > 0.003 for a, b in pairwise(shots))
    page.press("5")
    before = shot(page)
    select(page, "colours", "voc")
    assert difference(before, shot(page)) > 0.003


def test_holding_a_key_compares(page: Page) -> None:
    before = shot(page)
    for key in ("c", "b"):
        page.hold(key)
        assert difference(before, shot(page)) > 0.003
        page.release(key)
        assert difference(before, shot(page)) == 0


def test_steps_show_each_layer(page: Page) -> None:
    page.click("#view label:last-of-type span")
    captions = "[...document.querySelectorAll('article')[0].querySelectorAll('.caption')]"
    assert page.run(f"{captions}.map(caption => caption.firstChild.textContent)") == [
        "Image only", "Activation", "Masks", "Pseudo label", "Refined label", "Ground truth",
    ]  # fmt: skip
    page.wait_for("document.querySelectorAll('article')[0].dataset.filled")
    assert "cat" in page.run(f"{captions}[3].textContent")


# The open image


def test_image_opens_in_full_resolution(page: Page) -> None:
    open_image(page)
    page.wait_for("document.getElementById('full').naturalWidth === 1200")
    page.wait_for("!document.getElementById('full').hidden")
    assert page.run("document.getElementById('viewer-missing').hidden")
    assert page.run("document.getElementById('small').naturalWidth") < 500
    label = page.run("document.getElementById('label-link').getAttribute('href')")
    assert label == "voc/image%20000.png"


def test_without_its_file_the_small_picture_is_shown(page: Page) -> None:
    open_image(page, GONE)
    page.wait_for("document.getElementById('small').naturalWidth > 0")
    assert page.run("document.getElementById('full').hidden")
    assert "was not there" in page.run("document.getElementById('viewer-missing').textContent")
    assert page.run("document.getElementById('image-link').hidden")


def test_file_of_another_size_is_not_laid_under_the_label(page: Page, out: Path) -> None:
    file = out.parent / "photos" / "image 002.png"
    kept = file.read_bytes()
    Image.new("RGB", (30, 30)).save(file)
    try:
        open_image(page, "image 002")
        page.wait_for("document.getElementById('viewer-missing').textContent.includes('size')")
        assert page.run("document.getElementById('full').hidden")
    finally:
        file.write_bytes(kept)


def test_wheel_zooms_where_it_points(page: Page) -> None:
    open_image(page)
    scale, x, y = page.run(VIEW)
    at = 300.0, 400.0
    left, top = page.run(STAGE)
    page.mouse("mouseWheel", *at, deltaX=0, deltaY=-500)
    page.wait_for(f"{VIEW}[0] > {2 * scale}")
    zoomed, zoomed_x, zoomed_y = page.run(VIEW)
    # The image's point under the pointer stays there
    assert (at[0] - left - x) / scale == pytest.approx((at[0] - left - zoomed_x) / zoomed, abs=0.5)
    assert (at[1] - top - y) / scale == pytest.approx((at[1] - top - zoomed_y) / zoomed, abs=0.5)
    page.mouse("mouseWheel", *at, deltaX=0, deltaY=5000)
    page.wait_for(f"Math.abs({VIEW}[0] - {scale}) < 1e-6")


def test_dragging_moves_and_a_press_that_stays_compares(page: Page) -> None:
    open_image(page)
    page.press("+")
    page.press("+")
    settle(page)
    scale, x, y = page.run(VIEW)
    page.mouse("mousePressed", 400, 400)
    page.mouse("mouseMoved", 360, 370, buttons=1)
    page.mouse("mouseReleased", 360, 370)
    settle(page)
    assert page.run(VIEW) == pytest.approx([scale, x - 40, y - 30])
    before = shot(page)
    page.mouse("mousePressed", 360, 370)
    time.sleep(0.5)
    assert difference(before, shot(page)) > 0.003
    page.mouse("mouseReleased", 360, 370)
    assert page.run("document.getElementById('shown-layer').textContent") == "Refined label"


def test_keys_zoom_and_move(page: Page) -> None:
    open_image(page)
    fitted = page.run(VIEW)
    page.press("+")
    page.press("+")
    settle(page)
    scale, x, y = page.run(VIEW)
    assert scale == pytest.approx(1.96 * fitted[0], rel=1e-4)
    page.press("ArrowRight", shift=True)
    page.press("ArrowDown", shift=True)
    settle(page)
    assert page.run(VIEW) == pytest.approx([scale, x - 60, y - 60])
    page.press("0")
    settle(page)
    assert page.run(VIEW) == pytest.approx(fitted)


def test_pixels_of_the_label_are_exact(page: Page) -> None:
    """Zoomed in, the outline of the refined label is where its pixels say."""
    open_image(page)
    for x, y, refined in (
        (19, 19, "background"),
        (20, 20, "cat"),
        (49, 69, "cat"),
        (50, 70, "background"),
    ):
        reading = _reading(page, x, y)
        assert reading.startswith(f"{x}, {y} · ")
        assert f"refined {refined}" in reading
    assert "truth no class" in _reading(page, 600, 5)
    assert "truth <i>dog</i>" in _reading(page, 600, 895)
    assert "mask 1: IoU 1.00" in _reading(page, 30, 30)


def _reading(page: Page, x: int, y: int) -> str:
    """What the page says of a pixel of the image under the mouse."""
    scale, left, top = page.run(VIEW)
    stage_left, stage_top = page.run(STAGE)
    place = stage_left + left + (x + 0.5) * scale, stage_top + top + (y + 0.5) * scale
    page.mouse("mouseMoved", place[0] + 9, place[1] + 9)
    page.mouse("mouseMoved", *place)
    reading = "document.getElementById('reading').textContent"
    page.wait_for(f"{reading}.startsWith('{x}, {y} ·')")
    found: str = page.run(reading)
    return found


def test_layers_opacity_and_outlines(page: Page) -> None:
    open_image(page)
    refined = overlay(page)
    page.press("4")
    assert page.run("document.getElementById('shown-layer').textContent") == "Pseudo label"
    pseudo = overlay(page, after=refined)
    page.press("5")
    assert overlay(page, after=pseudo) == refined
    page.press("7", shift=True)
    outlined = overlay(page, after=refined)
    page.press("7", shift=True)
    assert overlay(page, after=outlined) == refined
    select(page, "viewer-opacity", "0", "input")
    overlay(page, after=refined)
    assert page.run("document.getElementById('opacity').value") == "0"
    for layer, meaning in (("6", "added"), ("8", "missing")):
        page.press(layer)
        assert meaning in page.run("document.getElementById('viewer-classes').textContent")


def overlay(page: Page, after: str = "") -> str:
    """What is drawn over the open image, once it is another picture than `after`."""
    drawn = "document.getElementById('overlay').toDataURL()"
    page.wait_for(f"{drawn} !== '{after}'")
    settle(page)
    found: str = page.run(drawn)
    return found


def test_a_class_is_shown_alone(page: Page) -> None:
    open_image(page)
    refined = overlay(page)
    page.press("7")
    both = overlay(page, after=refined)
    page.click("#viewer-classes button:last-of-type")
    alone = overlay(page, after=both)
    page.click("#viewer-classes button:last-of-type")
    assert overlay(page, after=alone) == both


def test_image_without_steps_offers_its_label_alone(page: Page) -> None:
    open_image(page, PARTIAL)
    offered = "[...document.querySelectorAll('#viewer-layers button:not(:disabled)')]"
    assert page.run(f"{offered}.map(button => button.dataset.layer)") == ["none", "label"]


def test_moving_on_and_closing(page: Page) -> None:
    select(page, "sort", "name")
    page.click("article .open")
    assert page.run(NAME) == "image 000"
    page.press("ArrowRight")
    page.press("j")
    assert page.run(NAME) == "image 002"
    page.press("k")
    assert page.run(NAME) == "image 001"
    assert page.run("document.getElementById('viewer-position').textContent") == f"2 of {COUNT}"
    page.press("Escape")
    page.wait_for(f"!{IS_OPEN}")
    # The browser gives the focus back to where it was, and the page then moves it
    page.wait_for(f"{FOCUSED} === 'image 001'")


def test_back_button_closes_the_image(page: Page) -> None:
    page.click("article .open")
    assert page.run(IS_OPEN)
    page.run("history.back()")
    page.wait_for(f"!{IS_OPEN}")
    assert page.run("location.protocol") == "file:"


def test_layer_chosen_on_an_image_stays(page: Page) -> None:
    page.click("article .open")
    page.press("4")
    page.press("Escape")
    page.wait_for(f"!{IS_OPEN} && {HASH}.layer === 'pseudo_label' && !{HASH}.image")
    assert page.run("document.getElementById('layer').value") == "pseudo_label"


# Decisions


def test_decisions_outlast_a_reload(page: Page, out: Path) -> None:
    select(page, "sort", "name")
    page.press("j")
    page.press("a")
    page.press("ArrowRight")
    page.press("r")
    page.press("n")
    page.wait_for(IS_OPEN)
    page.type('the tail, "cut off"')
    page.press("Escape")
    page.wait_for(f"!{IS_OPEN}")
    _load(page, out)
    select(page, "sort", "name")
    decided = "[...document.querySelectorAll('article')].slice(0, 3).map(a => a.dataset.decision)"
    assert page.run(decided) == ["accept", "reject", ""]
    assert page.run("document.querySelectorAll('.noted')[1].title") == 'the tail, "cut off"'
    assert "1 accepted, 1 rejected" in page.run("document.getElementById('progress').textContent")
    for show, names in (
        ("reject", ["image 001"]),
        ("accept", ["image 000"]),
        ("note", ["image 001"]),
    ):
        select(page, "show", show)
        assert page.run(CARDS) == names
    select(page, "show", "undecided")
    assert page.run(COUNTED) == f"{COUNT - 2} of {COUNT} images"


def test_same_decision_again_takes_it_back(page: Page) -> None:
    page.click("article .marks .reject")
    decision = "document.querySelector('article').dataset.decision"
    assert page.run(decision) == "reject"
    page.click("article .marks .reject")
    assert page.run(decision) == ""
    assert page.run("Object.keys(localStorage).map(k => localStorage[k])") == ["{}"]


def test_decision_on_an_earlier_label_is_told_but_does_not_count(page: Page, out: Path) -> None:
    open_image(page)
    page.press("r")
    page.run(
        "(() => { const key = Object.keys(localStorage)[0];"
        " const [decided] = Object.values(JSON.parse(localStorage[key]));"
        " localStorage[key] = JSON.stringify({earlier: {...decided, note: 'tail'}}); })()"
    )
    _load(page, out)
    open_image(page)
    assert page.run("document.getElementById('reject').ariaPressed") == "false"
    said = page.run("document.getElementById('viewer-earlier').textContent")
    assert said == "An earlier label of this image: reject, “tail”"


def test_worklist_is_a_table(page: Page, tmp_path: Path) -> None:
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    select(page, "sort", "name")
    for name, key in (("image 003", "a"), ("image 001", "r"), ("image 002", "r")):
        open_image(page, name)
        page.press(key)
        page.press("n")
        page.type(f'{name}: "so", so')
        page.press("Escape")
        page.wait_for(f"!{IS_OPEN} && !{HASH}.image")
    page.click("#open-export")
    page.click("#export-reject")
    page.click("#export-all")
    rows = _downloaded(tmp_path / "worklist.csv")
    assert rows == [
        {"image": f"image {i:03}", "decision": "reject", "note": f'image {i:03}: "so", so'}
        for i in (1, 2)
    ]
    # As --only reads it
    assert read_image_list(tmp_path / "worklist.csv") == ["image 001", "image 002"]
    every = _downloaded(tmp_path / "decisions.csv")
    assert [(row["image"], row["decision"]) for row in every] == [
        ("image 001", "reject"), ("image 002", "reject"), ("image 003", "accept"),
    ]  # fmt: skip
    page.press("Escape")


def _downloaded(file: Path) -> list[dict[str, str]]:
    end = time.monotonic() + 20
    while not file.is_file() or not file.stat().st_size:
        assert time.monotonic() < end, f"no {file.name}"
        time.sleep(0.05)
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_browser_that_keeps_nothing_says_so(page: Page) -> None:
    page.run("Storage.prototype.setItem = () => { throw new Error('full'); }")
    page.click("article .marks .accept")
    assert page.run("document.querySelector('article').dataset.decision") == "accept"
    assert not page.run("document.getElementById('export-lost').hidden")


# The address


def test_address_brings_back_what_was_shown(page: Page, out: Path) -> None:
    select(page, "sort", "confidence")
    page.click("#class-list button[data-value='1']")
    page.press("4")
    page.press("7", shift=True)
    page.press("]")
    page.click("#view label:last-of-type span")
    page.click("article .open")
    name = page.run(NAME)
    page.press("+")
    page.press("+")
    settle(page)
    view = page.run(VIEW)
    page.wait_for(f"{HASH}.at?.startsWith('1.96')")
    state = page.run("location.hash")
    assert page.run(HASH) | {"at": ""} == {
        "image": name, "sort": "confidence", "class": "1", "layer": "pseudo_label",
        "lines": "ground_truth", "opacity": "70", "view": "steps", "at": "",
    }  # fmt: skip
    _load(page, out, state)
    page.wait_for(IS_OPEN)
    settle(page)
    assert page.run(NAME) == name
    assert page.run(VIEW) == pytest.approx(view, abs=0.2)
    assert (
        page.run("document.querySelector('#viewer-layers [aria-pressed=true]').dataset.layer")
        == "pseudo_label"
    )
    assert page.run("document.getElementById('sort').value") == "confidence"
    assert page.run("document.getElementById('cards').dataset.view") == "steps"


@pytest.mark.parametrize(
    "state",
    [
        "#image=nowhere",
        "#layer=%3Cb%3E&sort=x&show=y&opacity=z&at=1,2&colours=constructor",
        "#=&&==",
        "#cards",
    ],
)
def test_address_that_makes_no_sense_shows_all(page: Page, out: Path, state: str) -> None:
    _load(page, out, state)
    assert page.run(COUNTED) == f"{COUNT} images"
    assert not page.run(IS_OPEN)


# A phone


def test_two_fingers_zoom_and_one_moves(phone: Page) -> None:
    open_image(phone)
    scale = phone.run(VIEW)[0]
    phone.touch((150, 300), (240, 300))
    phone.touch((110, 300), (280, 300))
    phone.touch((60, 300), (330, 300))
    phone.touch()
    settle(phone)
    zoomed = phone.run(VIEW)
    assert zoomed[0] == pytest.approx(3 * scale, rel=0.05)
    phone.touch((200, 300))
    phone.touch((180, 290))
    phone.touch((150, 280))
    phone.touch()
    settle(phone)
    assert phone.run(VIEW) == pytest.approx([zoomed[0], zoomed[1] - 50, zoomed[2] - 20], abs=1)


def test_swipe_goes_on_and_a_tap_reads(phone: Page) -> None:
    open_image(phone)
    for x in (320, 220, 120):
        phone.touch((x, 300))
    phone.touch()
    phone.wait_for(f"{NAME} === 'image 001'")
    phone.touch((195, 290))
    phone.touch()
    phone.wait_for("!document.getElementById('reading').hidden")


def test_phone_has_everything_within_reach(phone: Page) -> None:
    assert phone.run("document.documentElement.scrollWidth") <= PHONE[0]
    phone.click("#more")
    assert phone.run("document.getElementById('find').checkVisibility()")
    small = (
        "[...document.querySelectorAll('.marks button, #toolbar button, #class-list button')]"
        ".filter(b => b.checkVisibility() && b.getBoundingClientRect().height < 40).length"
    )
    assert phone.run(small) == 0
    open_image(phone)
    assert phone.run("document.getElementById('viewer').scrollWidth") <= PHONE[0]
    for button in ("accept", "note", "next", "zoom-in", "viewer-layers"):
        box = phone.run(f"document.getElementById('{button}').getBoundingClientRect().toJSON()")
        assert box["left"] >= 0 and box["right"] <= PHONE[0] and box["bottom"] <= PHONE[1]


# Everyone


def test_help_opens_and_closes(page: Page) -> None:
    page.press("?")
    assert page.run("document.getElementById('help').open")
    page.press("Escape")
    assert not page.run("document.getElementById('help').open")


@pytest.mark.parametrize("is_open", [False, True])
def test_every_control_has_a_name_and_can_be_reached(page: Page, is_open: bool) -> None:
    expected = {"sort", "show", "find", "layer", "opacity", "compare", "open-export", "open-help"}
    if is_open:
        open_image(page)
        expected = {
            "close",
            "next",
            "stage",
            "zoom-in",
            "accept",
            "note",
            "viewer-opacity",
            "label-link",
        }
    reached = set()
    for _ in range(60):
        page.press("Tab")
        reached.add(page.run("document.activeElement.id || document.activeElement.className"))
    assert expected <= reached
    assert is_open or {"open", "accept", "reject"} <= reached
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    controls = [n for n in tree if n.get("role", {}).get("value") in _CONTROLS]
    assert len(controls) > 15
    assert all(node["name"]["value"] for node in controls if not node["ignored"])


_CONTROLS = {"button", "combobox", "searchbox", "textbox", "slider", "radio", "image", "link"}
