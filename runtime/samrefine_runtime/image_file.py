"""Opening image files, which may come from strangers: the one place where Pillow meets a file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from PIL import Image

from samrefine_runtime.errors import InputError, SamrefineError
from samrefine_runtime.inputs import check_file, check_pixels
from samrefine_runtime.png import check_png

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""Pillow's names of the formats that are read, whatever a file is called. Others run programs: an
EPS file starts Ghostscript."""

_PAGES = 64
"""Pages of a TIFF file that are looked at; a list of them can be endless."""

_PAGE_KIND = 254
"""TIFF's tag NewSubfileType."""

_NO_PAGE = 0b101
"""Bits of NewSubfileType of what is no further image: a reduced version (1), a mask (4)."""


@contextmanager
def open_image(
    path: str | Path, error_type: type[InputError], what: str = "image"
) -> Iterator[Image.Image]:
    """Open an image file of a known format, and check it before any pixel is decoded.

    Its size must be within `inputs.MAX_MEGAPIXELS`, PNG files must be undamaged, and there must be
    a single image in it; of the pictures in a phone's JPEG, the first is the image. Pillow's
    warnings are silenced. Exceptions of Pillow in the `with` block are converted, too.

    Args:
        path: the file.
        error_type: what is raised.
        what: the file is expected to hold, for messages.

    Raises:
        InputError: of type `error_type`: there is no such file, or it cannot be read.
        SettingsError: the limit of pixels in the environment is none.
    """
    check_file(path, error_type)
    with _checked(path, path, error_type, what, None) as image:
        yield image


@contextmanager
def open_image_bytes(
    content: bytes, error_type: type[InputError], what: str = "image", max_pixels: int | None = None
) -> Iterator[Image.Image]:
    """Open the bytes of an image file as `open_image` does a file.

    At most `max_pixels` are accepted, where that is less than `inputs.MAX_MEGAPIXELS`.
    """
    with _checked(content, what, error_type, what, max_pixels) as image:
        yield image


@contextmanager
def _checked(
    source: str | Path | bytes,
    name: str | Path,
    error_type: type[InputError],
    what: str,
    max_pixels: int | None,
) -> Iterator[Image.Image]:
    """Open a file or its bytes, which messages call `name`. Raises as `open_image`."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with quiet_pillow, Image.open(file, formats=_formats()) as image:
            check_pixels((image.height, image.width), max_pixels)
            _check_single(image)
            if image.format == "PNG":
                check_png(source)
            yield image
    except SamrefineError:
        raise
    except MemoryError:
        raise error_type(f"{name}: does not fit into memory") from None
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        # What is in memory has no name, but an address
        reason = str(error).replace(f" {file!r}", "") if isinstance(source, bytes) else error
        raise error_type(f"{name}: not a readable {what} ({reason})") from error


def _formats() -> list[str]:
    Image.init()  # registers the formats that this build of Pillow has
    return [name for name in _FORMATS if name in Image.OPEN]


def _check_single(image: Image.Image) -> None:
    """Raise ValueError if there is more than one image in the file: any of them may be meant."""
    if image.format == "MPO":
        return
    if image.format == "TIFF":
        count = "several" if _has_further_page(image) else 1
    else:
        count = getattr(image, "n_frames", 1)
    if count != 1:
        raise ValueError(f"{count} frames or pages, expected one image; store each in its own file")


def _has_further_page(image: Image.Image) -> bool:
    """Return whether a TIFF file has another page that is no reduced version or mask of the first.

    Pillow's `n_frames` would walk all pages, and loops of them are not the only long lists.
    """
    try:
        for page in range(1, _PAGES):
            image.seek(page)
            # `tag_v2` has the page's own tags
            kind = image.tag_v2.get(_PAGE_KIND, 0)  # type: ignore[attr-defined]
            if not kind & _NO_PAGE:
                return True
    except EOFError:
        return False
    finally:
        image.seek(0)
    return True


class _PillowState:
    """What Pillow has for the whole process, set for the time that images are read here.

    Its warnings say nothing that a user could act on, and its limit of pixels is not ours. Images
    are read in several threads at once: the first one to come sets the state, the last one to
    leave restores it.
    """

    def __init__(self) -> None:
        self._lock, self._readers = Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._pixels, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                # Only Pillow's: other threads may have something to say
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._readers += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._warnings.__exit__(None, None, None)
                Image.MAX_IMAGE_PIXELS = self._pixels


quiet_pillow = _PillowState()
"""In its `with` block, images are read without warnings and without Pillow's limit."""
