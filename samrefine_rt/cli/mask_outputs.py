"""The files of masks that `masks` and `segment` write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from samrefine_rt.cli.batch import Outcome
from samrefine_rt.cli.outputs import OVERLAY, finished_images, overlay_path
from samrefine_runtime.formats import MASK_FORMATS
from samrefine_runtime.formats.records import RecordMasks
from samrefine_runtime.image import RgbImage
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.overlay import draw_masks, write_picture
from samrefine_runtime.runs import HIDDEN, IMAGE, OutputFolder

_STORED = "masks"
"""Kind of output that stands for the masks of an image, wherever they are stored."""

_RECORDS = "records"
"""The format from which all others are made."""


class MaskWriter:
    """Writes the masks of each image when it is done, and what spans all images at the end.

    Records are always written, into the hidden folder where they are not asked for: an image whose
    masks were found once can be written in other formats later.
    """

    def __init__(
        self, out: Path, formats: Sequence[str], *, overlay: bool = False, folder: str = ""
    ):
        """Choose what is written; nothing is written yet.

        Args:
            out: output folder.
            formats: names in MASK_FORMATS.
            overlay: whether to draw overlays.
            folder: of the formats' files in the output folder, "" for itself.
        """
        self.out, self.folder = out, folder
        self.formats = {f"{folder}/{name}" if folder else name: name for name in formats}
        self.derived = (*self.formats, *[OVERLAY] * overlay)
        self.kinds = (_STORED, *self.derived)

    def write(
        self, staging: Path, name: str, image: RgbImage | None, masks: Masks, kinds: Sequence[str]
    ) -> None:
        """Write some kinds of files of one image.

        Args:
            staging: folder laid out as the output folder.
            name: the image's id.
            image: (H, W, 3) uint8 RGB; None where no overlay is drawn.
            masks: of that image.
            kinds: some of `kinds`.

        Raises:
            OutputError: a file cannot be written.
        """
        if _STORED in kinds and _RECORDS not in self.formats.values():
            RecordMasks(staging / HIDDEN / _STORED).write(name, masks)
        for kind, form in self.formats.items():
            if kind in kinds:
                MASK_FORMATS[form](staging / self.folder).write(name, masks)
        if OVERLAY in kinds and image is not None:
            write_picture(overlay_path(staging, name), draw_masks(image, masks))

    def read(self, name: str) -> Masks:
        """Read the masks of an image id that were written before. Raises MaskFileError."""
        hidden = RecordMasks(self.out / HIDDEN / _STORED)
        return (hidden if hidden.has(name) else RecordMasks(self.out / self.folder)).read(name)

    def finish(self, folder: OutputFolder, images: Mapping[str, Path], outcome: Outcome) -> None:
        """Write the files that span all images, those of earlier runs included.

        Args:
            folder: the output folder.
            images: the images of this run, by id.
            outcome: keeps what cannot be written.

        Raises:
            StorageError: the disk takes no more.
        """
        finished = finished_images(folder, images)
        given = folder.digest(IMAGE + name for name in finished)
        for kind in self.formats:
            with outcome.keeping_failure(kind):
                folder.span(kind, given, partial(self._finish, kind, finished))
        folder.sweep()

    def _finish(self, kind: str, images: Mapping[str, Path], staging: Path) -> None:
        """Write the files of a format that span all images."""
        (staging / self.folder).mkdir(exist_ok=True)
        MASK_FORMATS[self.formats[kind]](staging / self.folder).finish(images, self.read)
