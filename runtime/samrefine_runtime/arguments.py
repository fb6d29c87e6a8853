"""What public entries accept beside their own types, one converter for each kind of argument.

Entries convert once, where a caller's value comes in; nothing inside is checked again. A value that
is already of the right type is handed through.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from reprlib import repr as short
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import EMBEDDED, Bundle
from samrefine_runtime.checks import StrPath, as_array, as_path, described
from samrefine_runtime.errors import BundleError, ImageError, LabelError, SettingsError
from samrefine_runtime.image import RgbImage, check_image, read_image, to_rgb
from samrefine_runtime.labels import LabelMap, check_label, read_label
from samrefine_runtime.settings import Kind, check_names, settings_of

ImageLike = RgbImage | StrPath | Image.Image
"""(H, W, 3) uint8 RGB, an image file, or a Pillow image."""

LabelLike = LabelMap | StrPath
"""(H, W) uint8, or a label PNG."""

ImageLabelsLike = NDArray[np.bool_] | Collection[str] | Sequence[bool]
"""The classes in an image: (C,) bool, or their names in a list, tuple or set."""

BundleLike = Bundle | StrPath
"""A loaded bundle, its folder, or the name of an embedded one: "demo"."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

_LISTED = 20
"""Class names that a message lists at most."""


def as_image(image: ImageLike) -> RgbImage:
    """Return an image as (H, W, 3) uint8 RGB.

    Files are read by `read_image`; Pillow images are converted in the same way, upright. Raises
    ImageError.
    """
    if isinstance(image, np.ndarray):
        return check_image(image)
    if isinstance(image, Image.Image):
        return check_image(_from_pillow(image))
    expected = "(H, W, 3) uint8 RGB, an image file or a Pillow image"
    return check_image(read_image(as_path(image, "image", ImageError, expected)))


def as_images(images: Sequence[ImageLike]) -> list[RgbImage]:
    """Return a list of images, each as `as_image` does.

    Raises:
        SettingsError: it is no list or tuple, or is empty.
        ImageError: one of them is no image.
    """
    if not isinstance(images, (list, tuple)) or not images:
        raise SettingsError(f"images is {described(images)}, expected a list of at least one image")
    return [as_image(image) for image in images]


def _from_pillow(image: Image.Image) -> RgbImage:
    """Convert a Pillow image, which may be a file that is not read yet. Raises ImageError."""
    try:
        return to_rgb(image)
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        raise ImageError(
            f"image is not readable, expected a sound Pillow image ({error})"
        ) from error


def as_label(label: LabelLike, name: str) -> LabelMap:
    """Return a label map (H, W) uint8; files are read by `read_label`. Raises LabelError."""
    if isinstance(label, np.ndarray):
        return check_label(label, name)
    return read_label(as_path(label, name, LabelError, "(H, W) uint8 or a label PNG"))


def as_image_labels(image_labels: ImageLabelsLike, classes: Sequence[str]) -> NDArray[np.bool_]:
    """Return image-level labels as (C,) bool, in the order of the class list.

    Raises:
        LabelError: neither (C,) bool nor names, or a name that is not in the list.
    """
    # A lone text is refused: it could be a name, a file or several names
    if isinstance(image_labels, (list, tuple, set, frozenset)):
        names = [name for name in image_labels if isinstance(name, str)]
        if len(names) == len(image_labels):
            return _present(names, classes)
    expected = f"({len(classes)},) bool or a list of class names"
    shape = (len(classes),)
    return as_array(image_labels, "image_labels", expected, shape, kinds="b", error=LabelError)


def _present(names: Sequence[str], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Return which classes are named, (C,) bool. Raises LabelError for an unknown name."""
    for name in names:
        if name not in classes:
            raise LabelError(f"image_labels: {unknown_class(name, classes)}")
    return np.array([name in names for name in classes], bool)


def unknown_class(name: str, classes: Sequence[str]) -> str:
    """Describe an unknown class, with similar names or else the first known ones."""
    close = difflib.get_close_matches(name, classes, n=3)
    if close:
        return f"unknown class {short(name)}, did you mean {' or '.join(close)}?"
    known = ", ".join(classes[:_LISTED]) + (", ..." if len(classes) > _LISTED else "")
    return f"unknown class {short(name)}, known are {known}"


def as_texts(values: Sequence[str], name: str, expected: str) -> tuple[str, ...]:
    """Return a list of texts as a tuple. Raises SettingsError; a lone text could be several."""
    if not isinstance(values, (list, tuple)) or not all(isinstance(each, str) for each in values):
        raise SettingsError(f"{name} is {described(values)}, expected a list of {expected}")
    return tuple(values)


def as_iterator(values: Iterable[Any], name: str, expected: str) -> Iterator[Any]:
    """Return an iterator over what a caller passed one by one. Raises SettingsError."""
    try:
        # Texts and tables yield what was not meant
        if not isinstance(values, (str, bytes, Mapping)):
            return iter(values)
    except TypeError:
        pass
    raise SettingsError(f"{name} is {described(values)}, expected {expected}")


def as_bundle(bundle: BundleLike) -> Bundle:
    """Return a bundle, loaded where it is not. Raises BundleError, see `Bundle.load`."""
    if isinstance(bundle, Bundle):
        return bundle
    expected = f"a Bundle, its folder, or the name of an embedded one ({', '.join(EMBEDDED)})"
    as_path(bundle, "bundle", BundleError, expected)
    return Bundle.load(bundle)


def as_settings(
    kind: type[Kind],
    given: Kind | Mapping[str, Any] | None,
    name: str,
    of: Callable[..., Kind],
) -> Kind:
    """Return settings that may be given as a dict of their fields.

    Args:
        kind: the settings class.
        given: such settings, or fields over the defaults; None for the defaults.
        name: of the parameter, for the message.
        of: makes settings of fields over the defaults.

    Raises:
        SettingsError: another type, an unknown field, or a value out of range.
    """
    if isinstance(given, kind):
        return given
    if given is None:
        return of()
    if not isinstance(given, Mapping):
        known = ", ".join(each.name for each in fields(kind))  # type: ignore[arg-type]
        raise SettingsError(
            f"{name} is {described(given)}, expected {kind.__name__} or a dict of its fields "
            f"({known})"
        )
    # Checked before the call, where a wrong name could be that of another parameter
    check_names(kind, given)
    return of(**given)


def as_session(
    session: SessionOptions | Mapping[str, Any] | None, name: str = "session"
) -> SessionOptions:
    """Return how graphs are run, which may be given as a dict.

    Raises SettingsError that calls the parameter `name`.
    """
    return as_settings(
        SessionOptions, session, name, lambda **given: settings_of(SessionOptions, given)
    )


def as_progress(progress: Progress | None) -> Progress:
    """Return a function to call after each step; None is one that does nothing.

    Raises SettingsError.
    """
    if progress is None:
        return lambda done, total: None
    if not callable(progress):
        raise SettingsError(
            f"progress is {described(progress)}, expected a function of (done, total) or None"
        )
    return progress
