"""Images of every kind, and SAM's preprocessing to the bit."""

from __future__ import annotations

import io
import time
import tracemalloc
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime import image as image_module
from samrefine_runtime.bundle import SamSpec
from samrefine_runtime.errors import ImageError, InputError, SettingsError
from samrefine_runtime.formats.mask_folder import read_mask_folder
from samrefine_runtime.image import ReadAhead, check_image, decode_image, read_image
from samrefine_runtime.labels import read_label
from samrefine_runtime.sam.encoder import preprocess
from tests.png_files import black_png, flipped_bits
from tests.samples import synthetic

IMAGE = synthetic((20, 30))
SAM = SamSpec(
    input_side=1024,
    mean=np.array([123.675, 116.28, 103.53], np.float32),
    std=np.array([58.395, 57.12, 57.375], np.float32),
    embedding=(256, 64, 64),
    mask_threshold=0.0,
)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_files(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    image = read_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(IMAGE), **options))
    assert image.dtype == np.uint8
    assert np.array_equal(image, IMAGE)


def test_jpeg(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(IMAGE), quality=95, subsampling=0)
    assert np.abs(read_image(path).astype(int) - IMAGE).mean() < 4


cannot_read_its_own = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13, reason="Pillow before 13 misreads YCbCr TIFF"
)
YCBCR = pytest.param("YCbCr", marks=cannot_read_its_own)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", YCBCR, "HSV"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    converted = Image.fromarray(IMAGE).convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    if mode == "HSV":  # no file format holds it
        path = saved(path, converted.convert("RGB"))
    else:
        saved(path, converted)
    image = read_image(path)
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.asarray(converted.convert("RGB")))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    alpha = np.zeros((20, 30, 1), np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(np.concatenate([IMAGE, alpha], axis=2)))
    assert np.array_equal(read_image(path), IMAGE)


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(IMAGE).quantize(8)
    path = saved(tmp_path / "a.png", image, transparency=3)
    assert np.array_equal(read_image(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_high_byte(tmp_path: Path, suffix: str) -> None:
    gray = IMAGE[..., 0].astype(np.uint16)
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(gray * 257))
    assert np.array_equal(read_image(path), np.repeat(IMAGE[..., :1], 3, axis=2))


def test_dark_sixteen_bit_images_stay_dark(tmp_path: Path) -> None:
    """The same camera's images are on one scale, whatever is on them."""
    gray = np.full((4, 5), 200, np.uint16)
    assert read_image(saved(tmp_path / "a.png", Image.fromarray(gray))).max() == 1


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 5), 0.25, np.float32), "floats from 0.25 to 0.25"),
        (np.array([[0, 254.5]], np.float32), "floats from 0 to 254.5"),
        (np.array([[np.nan, 1]], np.float32), "floats from "),
        (np.array([[0, 4095]], np.int32), "32-bit integers from 0 to 4095"),
    ],
)
def test_values_of_no_stated_range_are_refused(
    tmp_path: Path, pixels: NDArray[Any], message: str
) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(pixels))
    with pytest.raises(ImageError, match=f"{message}.*convert it to 8 or 16 bits"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """The stored pixels are turned so that the orientation turns them upright."""
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turned[orientation](IMAGE)))
    for suffix, options in (("png", {}), ("tif", {}), ("webp", {"lossless": True})):
        path = saved(tmp_path / f"a.{suffix}", stored, exif=exif, **options)
        assert np.array_equal(read_image(path), IMAGE), suffix


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_damaged_exif_leaves_the_image_as_it_is_stored(tmp_path: Path, exif: bytes) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(IMAGE), exif=exif)
    assert read_image(path).shape == IMAGE.shape


def test_images_of_many_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "_STRIP_PIXELS", 70)
    assert [rows.stop for rows in image_module.row_strips((5, 30))] == [2, 4, 5]
    assert [rows.stop for rows in image_module.row_strips((2, 300))] == [1, 2]
    gray = Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257)
    for kind, pixels in (("color", Image.fromarray(IMAGE)), ("gray", gray)):
        expected = np.broadcast_to(IMAGE if kind == "color" else IMAGE[..., :1], IMAGE.shape)
        assert np.array_equal(read_image(saved(tmp_path / "a.png", pixels)), expected)


def broken_files() -> dict[str, bytes]:
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(synthetic((200, 200))).save(jpeg, "JPEG")
    Image.fromarray(IMAGE).save(png, "PNG")
    return {
        "empty.jpg": b"",
        "text.png": b"not an image\n",
        "header.jpg": jpeg.getvalue()[:20],
        "truncated.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
        "truncated.png": png.getvalue()[: len(png.getvalue()) // 2],
        "damaged.png": png.getvalue()[:60] + bytes(40) + png.getvalue()[100:],
    }


@pytest.mark.parametrize("name", broken_files())
def test_files_that_are_not_images(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(broken_files()[name])
    with pytest.raises(ImageError, match=f"{name}: not a readable image"):
        read_image(tmp_path / name)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.jpg: no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="a folder, expected a file"):
        read_image(tmp_path)


def test_png_images_with_a_flipped_bit_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(IMAGE))
    for damaged in flipped_bits(path.read_bytes(), step=331):
        path.write_bytes(damaged)
        with pytest.raises(ImageError, match="not a readable image"):
            read_image(path)


@pytest.mark.parametrize("read", [read_image, read_label, read_mask_folder])
def test_bombs_are_refused_before_they_go_off(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    """A third of a megabyte that would be read as 130 megapixels."""
    (tmp_path / "a.png").write_bytes(black_png(11_400))
    assert (tmp_path / "a.png").stat().st_size < 500_000
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(InputError, match="130 megapixels, the limit is 128; SAMREFINE_MAX_MEGA"):
        read(tmp_path if read is read_mask_folder else tmp_path / "a.png")
    assert time.monotonic() - start < 1
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_the_limit_of_pixels_is_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for suffix in ("png", "tif", "webp"):
        assert read_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(IMAGE))).size
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setenv("SAMREFINE_MAX_MEGAPIXELS", "1")
    path = saved(tmp_path / "a.tif", Image.new("1", (1001, 1000)))
    with pytest.raises(ImageError, match="2 megapixels, the limit is 1"):
        read_image(path)
    monkeypatch.setenv("SAMREFINE_MAX_MEGAPIXELS", "all")
    with pytest.raises(SettingsError, match="'all', expected a whole number"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.webp", "2 frames or pages, expected one image; store each in its own file"),
        ("a.png", "2 frames or pages"),
        ("a.tif", "several frames or pages"),
    ],
)
def test_files_of_several_images_are_refused(tmp_path: Path, name: str, message: str) -> None:
    images = [Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)]
    path = saved(tmp_path / name, images[0], save_all=True, append_images=images[1:])
    with pytest.raises(ImageError, match=message):
        read_image(path)


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_reduced_versions_and_masks_of_a_tiff_are_no_images(tmp_path: Path, kind: int) -> None:
    first, second = Image.fromarray(IMAGE), Image.fromarray(IMAGE[::2, ::2])
    # Of both pages, but the first is the image whatever it says
    options = {"save_all": True, "append_images": [second], "tiffinfo": {254: kind}}
    path = saved(tmp_path / "a.tif", first, **options)
    assert np.array_equal(read_image(path), IMAGE)
    with Image.open(path) as opened:
        opened.seek(1)


def test_library_warnings_never_reach_the_user(tmp_path: Path) -> None:
    """Under pytest, any would be raised."""
    palette = Image.fromarray(IMAGE).quantize(8)
    saved(tmp_path / "a.png", palette, transparency=bytes([0, 50, 100, 150]))
    read_image(tmp_path / "a.png")
    jpeg = saved(tmp_path / "a.jpg", Image.fromarray(IMAGE), exif=b"Exif\0\0II*\0\x08\0\0\0\xff")
    with pytest.warns(UserWarning, match="Corrupt EXIF data"), Image.open(jpeg) as opened:
        opened.getexif()
    read_image(jpeg)


def test_reading_in_many_threads_leaves_warnings_as_they_were(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(IMAGE))
    filters = list(warnings.filters)
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(read_image, [path] * 64))
    assert list(warnings.filters) == filters


@pytest.mark.parametrize(("most", "expected"), [(IMAGE.size, [0, 1]), (IMAGE.size - 1, [0])])
def test_reads_ahead_but_not_beside_a_large_image(
    most: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, seen = [Path(f"{i}.png") for i in range(3)], []

    def read(path: Path) -> NDArray[np.uint8]:
        seen.append(paths.index(path))
        return IMAGE

    monkeypatch.setattr(image_module, "read_image", read)
    monkeypatch.setattr(image_module, "_MOST_AHEAD", most)
    ahead = ReadAhead(paths)
    ahead.read(paths[0])
    ahead._pool.shutdown()
    assert seen == expected


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (4, 5), (4, 5, 1), (4, 5, 4), (3,)])
def test_arrays_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"expected \(H, W, 3\) uint8 RGB"):
        check_image(np.zeros(shape, np.uint8))


def test_arrays_of_another_type() -> None:
    with pytest.raises(ImageError, match=r"image is \(2, 2, 3\) float64"):
        check_image(np.zeros((2, 2, 3)))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1)])
def test_images_too_narrow_for_the_reference(shape: tuple[int, int]) -> None:
    pixels = preprocess(np.full((*shape, 3), 200, np.uint8), SAM)
    expected = (200 - SAM.mean) / SAM.std
    line = pixels[0, :, 0] if shape[0] == 1 else pixels[0, :, :, 0]
    np.testing.assert_allclose(line, np.repeat(expected[:, None], 1024, axis=1), rtol=1e-6)
    assert np.count_nonzero(pixels) == 3 * 1024


@pytest.mark.parametrize("read", [read_image, read_label, read_mask_folder])
def test_other_formats_are_refused_whatever_their_name(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    """Pillow would hand an EPS file to Ghostscript."""
    eps = io.BytesIO()
    Image.fromarray(IMAGE).save(eps, "EPS")
    path = tmp_path / ("a.png" if read is not read_image else "a.jpg")
    path.write_bytes(eps.getvalue())
    with pytest.raises(InputError, match="cannot identify image file"):
        read(tmp_path if read is read_mask_folder else path)


def test_jpegs_of_phones(tmp_path: Path) -> None:
    """Several pictures in one file: the first is the image."""
    first, second = Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - IMAGE).mean() < 25


def test_bytes_are_read_as_their_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(path)
    content = path.read_bytes()
    assert np.array_equal(decode_image(content), read_image(path))
    assert decode_image(content, max_pixels=20).shape == (4, 5, 3)
    with pytest.raises(ImageError, match=r"^image: .*5 x 4 pixels, the limit is 19"):
        decode_image(content, max_pixels=19)
    # Damage that Pillow does not look at
    with pytest.raises(ImageError, match=r"^image: not a readable image"):
        decode_image(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    with pytest.raises(ImageError, match=r"^image: not a readable image \(cannot identify"):
        decode_image(b"nonsense")
