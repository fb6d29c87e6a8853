"""Labels of many images in files, laid out as `samrefine label` does, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from samrefine_runtime.arguments import (
    LabelLike,
    as_iterator,
    as_label,
    as_settings,
    as_texts,
)
from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.class_names import BACKGROUND, FILE_NAME, classes_of, write_classes
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.formats import (
    BASE_FORMAT,
    LABEL_FORMATS,
    LABEL_READERS,
    LabelFormat,
    LabelReader,
    find_labels,
)
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.names import image_id
from samrefine_runtime.runs import IMAGE, OutputFolder, RunRecord, Task

_WRITER = "write_labels"
"""What the journal calls the writer of such a folder, and its version."""


def write_labels(
    folder: StrPath,
    labels: Iterable[tuple[StrPath, LabelLike]],
    classes: Sequence[str],
    formats: Sequence[str] = (BASE_FORMAT,),
    settings: FormatSettings | Mapping[str, Any] | None = None,
) -> None:
    """Write the labels of a set of images, in one folder per format.

    Labels are taken one at a time: a generator need not hold them all. Where earlier calls wrote
    labels of other images, these stay, and count in files that span all images. What no such call
    wrote is never overwritten.

    Args:
        folder: the output folder, which need not exist.
        labels: (file of the image, label) of each image; a label is (H, W) uint8 or a label PNG.
        classes: foreground names (C,), or a file of them; label value v is classes[v - 1]. They are
            also written, to classes.txt.
        formats: names of label formats, such as "yolo"; "voc" is always written.
        settings: of the formats, or a dict of fields; None for FormatSettings().

    Raises:
        SettingsError: an unknown format, no names, no pairs, or two images of the same name.
        LabelError: a label is not (H, W) uint8, or has a class without a name.
        RunError: the folder holds labels of other classes or what a command wrote, or is in use.
        OutputError: a file cannot be written, or one that is not ours is in its way.
    """
    out = as_path(folder, "folder")
    names = (BACKGROUND, *classes_of(classes))
    chosen = tuple(dict.fromkeys((BASE_FORMAT, *as_texts(formats, "formats", "format names"))))
    for name in chosen:
        LABEL_FORMATS.check(name, "formats")
    settings = as_settings(FormatSettings, settings, "settings", FormatSettings)
    files = _Files(out, names, settings)
    kinds = tuple(settings.kind(name, LABEL_FORMATS[name].heeds) for name in chosen)
    record = RunRecord(_WRITER, None, {"classes": list(names)})
    # An earlier label of the same image is replaced, as any file that is written again
    with OutputFolder(out, record, _WRITER, overwrites=True) as output:
        for image, label in _pairs(labels):
            known = image_id(image)
            with output.stage(Task(IMAGE + known, str(image), kinds), {}) as staging:
                for name in chosen:
                    files.format(staging, name).write(known, image, label)
        output.span("classes", list(names), lambda at: write_classes(at / FILE_NAME, names))
        done = output.done(IMAGE)
        images = {key.removeprefix(IMAGE): Path(output.label(key)) for key in done}
        for name, kind in zip(chosen, kinds, strict=True):
            given = [kind, list(names), output.digest(done)]
            output.span(name, given, partial(files.finish, name, images))


@dataclass(frozen=True)
class _Files:
    """Where the files of each format are in an output folder."""

    out: Path
    names: Sequence[str]
    settings: FormatSettings

    def format(self, folder: Path, name: str) -> LabelFormat:
        """Return a format in the output folder, or in a staging folder."""
        home = self.out / name
        return LABEL_FORMATS[name](folder / name, self.names, home=home, settings=self.settings)

    def finish(self, name: str, images: Mapping[str, Path], staging: Path) -> None:
        """Write the files of a format that span all images, those of earlier calls included."""
        (staging / name).mkdir()
        self.format(staging, name).finish(images, self.format(self.out, BASE_FORMAT).read)


def _pairs(labels: Iterable[tuple[StrPath, LabelLike]]) -> Iterator[tuple[Path, LabelMap]]:
    """Yield (file of the image, label). Raises SettingsError for two images of the same name."""
    expected = "(file of the image, label) of each image"
    seen: dict[str, Path] = {}
    for pair in as_iterator(labels, "labels", expected):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise SettingsError(f"labels has {described(pair)}, expected {expected}")
        path = as_path(pair[0], "labels", expected=expected)
        known = seen.setdefault(image_id(path), path)
        if known is not path:
            raise SettingsError(
                f"labels has {known} and {path}, expected images of different names"
            )
        yield path, as_label(pair[1], "label")


class StoredLabels(Mapping[str, LabelMap]):
    """Labels in files: (H, W) uint8 by image id, read when they are asked for.

    A label that cannot be read, or has a class that is not listed, raises LabelError.
    """

    def __init__(self, reader: LabelReader, classes: Sequence[str]):
        self._reader = reader
        self.classes = tuple(classes)
        """Foreground names, as far as they are known; label value v is classes[v - 1]."""

    def __repr__(self) -> str:
        return f"StoredLabels({len(self)} labels, classes={list(self.classes)})"

    def __getitem__(self, image_id: str) -> LabelMap:
        if image_id not in self._reader.files:
            raise KeyError(image_id)
        return self._reader.read(image_id)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._reader.files

    def __iter__(self) -> Iterator[str]:
        return iter(self._reader.files)

    def __len__(self) -> int:
        return len(self._reader.files)


def read_labels(
    where: StrPath,
    classes: StrPath | Sequence[str] | None = None,
    *,
    format: str | None = None,
    images: Mapping[str, StrPath] | None = None,
) -> StoredLabels:
    """Find the labels of a set of images, as this package or another program wrote them.

    Args:
        where: a folder of label PNGs, labelme files or YOLO labels, VOC's tree, or a COCO file or
            its folder.
        classes: foreground names (C,), or a file of them; None for those that the files give.
        format: of the labels, one of `samrefine convert --from`; None to see by the files.
        images: files of the images by id, for labels that do not say how large their image is.

    Raises:
        SettingsError: no path, no names, no such format, or the files look like none.
        LabelError: there are no labels, or what spans all of them is damaged.
    """
    folder = as_path(where, "where")
    names = None if classes is None else (BACKGROUND, *classes_of(classes))
    if images is not None and not isinstance(images, Mapping):
        raise SettingsError(f"images is {described(images)}, expected a dict of files by id")
    files = {name: as_path(path, "images") for name, path in (images or {}).items()}
    if format is not None:
        LABEL_READERS.check(format, "format")
    reader = LABEL_READERS[format or find_labels(folder)](folder, names, files)
    return StoredLabels(reader, (names or reader.classes or ())[1:])
