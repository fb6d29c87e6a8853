"""Images of every kind, and SAM's preprocessing to the bit."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from samrefine_runtime.bundle import SamSpec
from samrefine_runtime.errors import ImageError, InputError
from samrefine_runtime.formats.mask_folder import read_mask_folder
from samrefine_runtime.image import check_image, read_image
from samrefine_runtime.labels import read_label
from samrefine_runtime.sam.encoder import preprocess
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


def test_thirty_two_bits(tmp_path: Path) -> None:
    for dtype in (np.int32, np.float32):
        path = saved(tmp_path / "a.tif", Image.fromarray(IMAGE[..., 0].astype(dtype)))
        assert np.array_equal(read_image(path)[..., 0], IMAGE[..., 0])


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
    assert np.array_equal(read_image(saved(tmp_path / "a.png", stored, exif=exif)), IMAGE)


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
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(ImageError, match="no such file"):
            read_image(path)


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
