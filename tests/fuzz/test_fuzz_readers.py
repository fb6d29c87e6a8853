"""Images, labels and masks of strangers: whatever their bytes are, they are read or refused.

`python -m pytest tests/fuzz --hypothesis-profile=long` looks for longer.
"""

from __future__ import annotations

import copy
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.one_run import peak_mb
from samrefine_runtime.errors import (
    ImageError,
    InputError,
    LabelError,
    MaskFileError,
    SettingsError,
)
from samrefine_runtime.formats import LABEL_READERS
from samrefine_runtime.formats.boxes import open_boxes
from samrefine_runtime.formats.coco import CocoFile
from samrefine_runtime.formats.image_labels import read_image_labels
from samrefine_runtime.formats.image_list import read_image_list
from samrefine_runtime.formats.mask_folder import read_mask_folder
from samrefine_runtime.formats.records import read_masks
from samrefine_runtime.image import read_image
from samrefine_runtime.labels import encode_label, read_label
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.entry import ReportEntry
from tests.png_files import SIGNATURE, chunk, gray_png
from tests.samples import synthetic

LONGEST_MESSAGE = 600
"""Characters, without the path."""

MOST_MEMORY = 250
"""MB by which the process may grow: a megapixel of 16-bit RGBA, in Pillow and in NumPy, is 20."""

GOLDEN = Path(__file__).parents[1] / "runtime" / "formats" / "golden"
LABEL = np.array([[0, 1, 20], [255, 15, 7]], np.uint8)
SMALL = Image.fromarray(synthetic((11, 14)))


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


IMAGES = [
    saved(SMALL, "JPEG", exif=exif(6)),
    saved(SMALL.convert("CMYK"), "JPEG", progressive=True),
    saved(SMALL, "MPO", save_all=True, append_images=[SMALL]),
    saved(SMALL, "PNG", exif=exif(3)),
    saved(SMALL.quantize(8), "PNG", transparency=bytes([0, 100])),
    saved(Image.fromarray(np.arange(20, dtype=np.uint16).reshape(4, 5)), "PNG"),
    gray_png(5, 5, bytes(36), interlace=1),
    saved(SMALL, "PNG", save_all=True, append_images=[SMALL.rotate(180)]),
    saved(SMALL, "BMP"),
    saved(SMALL.convert("P"), "BMP"),
    saved(SMALL, "WEBP", exif=exif(8)),
    saved(SMALL, "WEBP", lossless=True),
    saved(SMALL, "WEBP", save_all=True, append_images=[SMALL.rotate(180)]),
    saved(Image.fromarray(np.ones((3, 4), np.float32)), "TIFF"),
    saved(SMALL, "TIFF", save_all=True, append_images=[SMALL]),
    saved(SMALL.convert("LAB"), "TIFF"),
    *(
        saved(SMALL, "TIFF", compression=compression, exif=exif(5))
        for compression in (None, "tiff_adobe_deflate", "tiff_lzw", "jpeg", "packbits")
    ),
]
LABELS = [
    encode_label(LABEL),
    saved(Image.fromarray(LABEL), "PNG"),
    saved(Image.fromarray(LABEL.astype(np.uint16)), "PNG"),
    gray_png(2, 1, bytes([0, 0b01_10_0000]), bits=2),
]
MASK = saved(Image.fromarray((LABEL > 5) * np.uint8(255)), "PNG")


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with bits flipped, parts overwritten, repeated, left out, or its end cut off."""
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        stop = start + draw(st.integers(0, 40))
        part = content[start:stop]
        kind = draw(st.sampled_from(["flip", "overwrite", "insert", "repeat", "leave out", "cut"]))
        if kind == "flip" and part:
            changed = bytearray(part)
            changed[0] ^= 1 << draw(st.integers(0, 7))
            content = content[:start] + changed + content[stop:]
        elif kind == "overwrite":
            content = content[:start] + draw(BYTES) + content[stop:]
        elif kind == "insert":
            content = content[:start] + draw(BYTES) + content[start:]
        elif kind == "repeat":
            content = content[:stop] + part * draw(st.integers(1, 50)) + content[stop:]
        elif kind == "leave out":
            content = content[:start] + content[stop:]
        elif kind == "cut":
            content = content[:start]
    return content


BYTES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff"]),
)
CHUNKS = st.builds(
    chunk,
    st.sampled_from([b"PLTE", b"tRNS", b"acTL", b"fcTL", b"eXIf", b"iCCP", b"zTXt", b"tEXt", b"x"]),
    st.one_of(BYTES, st.just(b"a\0\0" + zlib.compress(bytes(2_000_000))), st.just(bytes(768))),
)


@st.composite
def pngs(draw: st.DrawFn) -> bytes:
    """PNG files whose checksums hold: damage that no checksum finds."""
    side = st.one_of(st.integers(0, 9), st.sampled_from([1000, 70_000, (1 << 31) - 1, 1 << 31]))
    fields = (
        draw(side),
        draw(side),
        draw(st.sampled_from([1, 2, 4, 8, 16, 8, 8, 3, 0])),
        draw(st.sampled_from([0, 2, 3, 4, 6, 3, 3, 1, 9])),
        draw(st.sampled_from([0, 0, 0, 1])),
        draw(st.sampled_from([0, 0, 0, 1])),
        draw(st.sampled_from([0, 0, 1, 2])),
    )
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))
    data = draw(st.binary(max_size=60)) + bytes(draw(st.sampled_from([0, 0, 9, 100, 3_000_000])))
    # Rows that begin with a filter type, for most of the sizes
    stream = zlib.compress(bytes(byte % 5 for byte in data) if draw(st.booleans()) else data)
    before, after = (b"".join(draw(st.lists(CHUNKS, max_size=2))) for _ in range(2))
    cut = draw(st.integers(0, len(stream)))
    body = chunk(b"IDAT", stream[:cut]) + chunk(b"IDAT", stream[cut:])
    return SIGNATURE + header + before + body + after + chunk(b"IEND", b"")


NUMBERS = st.one_of(
    st.integers(-2, 9),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, 2**31, 2**32, 2**63, 2**64 - 1, 1e308, 10**9]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with some of its parts replaced, left out or repeated."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        parent, key = draw(st.sampled_from(places(value)))
        kind = draw(st.sampled_from(["replace", "leave out", "repeat"]))
        if kind == "replace":
            parent[key] = draw(VALUES)
        elif kind == "leave out":
            del parent[key]
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        if not places(value):
            break
    return value


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container inside a JSON value, with every key or index."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, (dict, list)):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        for key, inner in items:
            found += [(value, key), *places(inner)]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for one file at a time; at the end, memory must not have grown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMREFINE_MAX_MEGAPIXELS", "1")
        patch.setenv("SAMREFINE_MAX_MEGABYTES", "1")
        path = tmp_path_factory.mktemp("fuzz")
        (path / "masks").mkdir()
        for content in IMAGES:  # opens all of Pillow's decoders
            read_or_refuse(path / "image", content, read_image, ImageError)
        before = peak_mb()
        yield path
        assert peak_mb() - before < MOST_MEMORY


def read_or_refuse(
    path: Path, content: bytes, read: Callable[[Path], Any], error_type: type[InputError]
) -> Any:
    """What a reader returns of a file, None if it is refused as it should be."""
    path.write_bytes(content)
    try:
        return read(path)
    except error_type as error:
        assert len(str(error)) < LONGEST_MESSAGE + 2 * len(str(path)), error
        return None


@settings(deadline=None)
@given(st.one_of([st.sampled_from(IMAGES).flatmap(damage), pngs(), st.binary(max_size=99)]))
def test_images(folder: Path, content: bytes) -> None:
    image = read_or_refuse(folder / "image", content, read_image, ImageError)
    if image is not None:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
        assert 0 < image.size <= 3_000_000


@settings(deadline=None)
@given(st.one_of([st.sampled_from(LABELS).flatmap(damage), pngs()]))
def test_labels(folder: Path, content: bytes) -> None:
    label = read_or_refuse(folder / "label.png", content, read_label, LabelError)
    if label is not None:
        assert label.ndim == 2 and label.dtype == np.uint8
        assert 0 < label.size <= 1_000_000


@settings(deadline=None)
@given(st.sampled_from(LABELS), st.data())
def test_damage_never_changes_a_label(folder: Path, content: bytes, data: st.DataObject) -> None:
    """Up to 32 bits in a row: such damage a checksum of 32 bits cannot miss."""
    start = data.draw(st.integers(0, 8 * len(content) - 1))
    flips = data.draw(st.integers(0, (1 << 31) - 1)) << 1 | 1
    number = int.from_bytes(content, "little") ^ flips << start
    damaged = (number & (1 << 8 * len(content)) - 1).to_bytes(len(content), "little")
    assume(damaged != content)
    assert read_or_refuse(folder / "label.png", damaged, read_label, LabelError) is None


@settings(deadline=None)
@given(st.one_of([damage(MASK), pngs(), st.sampled_from(IMAGES)]))
def test_mask_folders(folder: Path, content: bytes) -> None:
    masks = read_or_refuse(
        folder / "masks" / "0.png",
        content,
        lambda path: read_mask_folder(path.parent),
        MaskFileError,
    )
    assert masks is None or len(masks) == 1


@settings(deadline=None)
@given(
    st.one_of(
        st.text(st.characters(min_codepoint=48, max_codepoint=112), max_size=20),
        st.lists(st.integers(0, 12), max_size=5).map(lambda c: rle.to_coco_string(np.uint32(c))),
        st.text(max_size=9),
    )
)
def test_run_lengths(text: str) -> None:
    try:
        counts = rle.from_coco_string(text, (3, 4))
    except MaskFileError:
        return
    assert sum(counts.tolist()) == 12
    assert rle.decode(counts, (3, 4)).shape == (3, 4)


RECORDS = json.loads((GOLDEN / "masks.json").read_text())
PLAIN = [{"segmentation": {"size": [2, 3], "counts": [1, 2, 3]}, "bbox": [0, 0, 1, 1]}]
SA_1B = {"image": {"height": 4, "width": 5}, "annotations": RECORDS["masks"]}
COCO = json.loads((GOLDEN / "coco_masks.json").read_text())
IMAGE_LABELS = {"a.jpg": ["cat", "dog"], "b": []}


def check_masks(masks: Masks | None) -> None:
    """Masks that are read can be used."""
    for index in range(0 if masks is None else len(masks)):
        assert masks.dense(index).shape == masks.image_shape
        assert masks.areas[index] == masks.dense(index).sum()


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


@settings(deadline=None)
@given(
    st.sampled_from([RECORDS, PLAIN, SA_1B]).flatmap(
        lambda value: changed(value).map(json_bytes) | damage(json_bytes(value))
    )
)
def test_records(folder: Path, content: bytes) -> None:
    check_masks(read_or_refuse(folder / "a.json", content, read_masks, MaskFileError))


@settings(deadline=None)
@given(changed(COCO).map(json_bytes) | damage(json_bytes(COCO)))
def test_coco(folder: Path, content: bytes) -> None:
    coco = read_or_refuse(folder / "instances.json", content, CocoFile, MaskFileError)
    name = Path(COCO["images"][0]["file_name"]).stem
    if coco is not None and name in coco:
        check_masks(read_or_refuse(folder / "x", b"", lambda path: coco.read(name), MaskFileError))


CSV = b"image,labels\na.jpg,cat;dog\nb,\n"
WIDE_CSV = b"image;cat;dog\na.jpg;1;0\nb;;\n"
XML = b"<annotation><object><name>cat</name></object></annotation>"


@settings(deadline=None)
@given(
    st.one_of(
        st.tuples(st.just("csv"), damage(CSV) | damage(WIDE_CSV) | st.binary(max_size=60)),
        st.tuples(st.just("json"), changed(IMAGE_LABELS).map(json_bytes)),
        st.tuples(st.just("xml"), damage(XML) | st.binary(max_size=60)),
    )
)
def test_image_labels(folder: Path, case: tuple[str, bytes]) -> None:
    kind, content = case
    path = folder / kind / f"labels.{kind}"
    path.parent.mkdir(exist_ok=True)
    labels = read_or_refuse(
        path,
        content,
        lambda file: read_image_labels(file.parent if kind == "xml" else file, ("cat", "dog")),
        LabelError,
    )
    for present in (labels or {}).values():
        assert present.shape == (2,) and present.dtype == bool


POLYGONS = json.loads((GOLDEN / "coco_polygons.json").read_text())
LABELME = json.loads((GOLDEN / "labelme_polygon.json").read_text())
YOLO = (GOLDEN / "yolo.txt").read_bytes()


@settings(deadline=None)
@given(
    st.one_of(
        st.tuples(st.just("coco"), changed(POLYGONS).map(json_bytes)),
        st.tuples(st.just("coco"), damage(json_bytes(POLYGONS))),
        st.tuples(st.just("labelme"), changed(LABELME).map(json_bytes)),
        st.tuples(st.just("labelme"), damage(json_bytes(LABELME))),
        st.tuples(st.just("yolo"), damage(YOLO) | st.binary(max_size=40)),
    )
)
def test_labels_of_other_programs(folder: Path, case: tuple[str, bytes]) -> None:
    kind, content = case
    image = folder / "shapes image.png"
    SMALL.save(image)
    path = folder / f"shapes {kind}" / ("a.txt" if kind == "yolo" else "a.json")
    path.parent.mkdir(exist_ok=True)

    def read(file: Path) -> Any:
        try:
            where = file if kind == "coco" else file.parent
            reader = LABEL_READERS[kind](where, ("background", "cat", "dog"), {"a": image})
        except SettingsError as error:
            raise LabelError(str(error)) from error
        return reader.read("a") if "a" in reader.files else None

    label = read_or_refuse(path, content, read, LabelError)
    if label is not None:
        assert label.dtype == np.uint8 and label.ndim == 2 and label.size > 0
        assert set(np.unique(label)) <= {0, 1, 2, 255}


BOX_XML = (
    b"<annotation><object><name>cat</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax>"
    b"<ymax>8</ymax></bndbox></object></annotation>"
)
BOX_COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 2.5, 3, 4]}],
}
BOX_YOLO = b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.5 0.2 0.3 0.6\n"


@settings(deadline=None)
@given(
    st.one_of(
        st.tuples(st.just("xml"), damage(BOX_XML)),
        st.tuples(st.just("json"), changed(BOX_COCO).map(json_bytes)),
        st.tuples(st.just("json"), damage(json_bytes(BOX_COCO))),
        st.tuples(st.just("txt"), damage(BOX_YOLO) | st.binary(max_size=40)),
    )
)
def test_boxes(folder: Path, case: tuple[str, bytes]) -> None:
    kind, content = case
    path = folder / f"boxes {kind}" / f"a.{kind}"
    path.parent.mkdir(exist_ok=True)

    def read(file: Path) -> Any:
        try:
            found = open_boxes(file if kind == "json" else file.parent, ("cat", "dog"))
        except SettingsError as error:
            raise LabelError(str(error)) from error
        return found.read("a", (40, 60))

    read_boxes = read_or_refuse(path, content, read, LabelError)
    if read_boxes is not None:
        boxes, values = read_boxes
        assert boxes.shape == (len(values), 4) and np.isfinite(boxes).all()
        assert ((boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:])).all()
        assert (boxes[:, 2:] <= [60, 40]).all() and set(values) <= {1, 2}


@settings(deadline=None)
@given(st.tuples(st.sampled_from(["a.csv", "a.txt"]), damage(CSV) | st.binary(max_size=60)))
def test_image_lists(folder: Path, case: tuple[str, bytes]) -> None:
    name, content = case
    found = read_or_refuse(folder / name, content, read_image_list, InputError)
    assert found is None or (found and all(each == each.strip() != "" for each in found))


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An entry of a report as JSON."""
    image = synthetic((8, 9))
    made = ReportEntry.of_label("a", image, np.ones((8, 9), np.uint8))
    return json.loads(json.dumps(made.to_json()))


@settings(deadline=None)
@given(st.data())
def test_report_entries(folder: Path, entry: Any, data: st.DataObject) -> None:
    content = data.draw(changed(entry).map(json_bytes) | damage(json_bytes(entry)))
    read_or_refuse(folder / "entry.json", content, ReportEntry.read, LabelError)
