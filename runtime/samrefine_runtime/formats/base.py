"""What a format must do; `formats.LABEL_FORMATS` and `formats.MASK_FORMATS` list them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.annotated import annotated
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.image import ImageShape
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.masks.masks import Masks

ReadObjects = Callable[[str], "Sequence[Region] | None"]
"""Returns the objects of an image id, None where they are not known."""


class LabelFormat:
    """A way to store the label maps of a set of images in a folder.

    Images are known by their id, see `names.image_id`.
    """

    needs_images: ClassVar[bool] = True
    """Whether the files name or hold the images; where not, label maps are enough."""

    heeds: ClassVar[tuple[str, ...]] = ()
    """Fields of FormatSettings on which the files depend."""

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        *,
        home: Path | None = None,
        settings: FormatSettings | None = None,
        read_objects: ReadObjects = lambda image_id: None,
    ):
        """Remember the folder and the classes; nothing is written yet.

        Args:
            folder: folder of the files; it need not exist.
            classes: names, background first.
            home: the folder that the files will be moved to, if it is another: relative paths
                inside the files count from there.
            settings: None for FormatSettings().
            read_objects: returns the objects of an image id (`objects.find_objects`), None where
                they are not known.
        """
        self.folder, self.classes, self.home = folder, tuple(classes), home or folder
        self.settings, self.read_objects = settings or FormatSettings(), read_objects

    def path(self, image_id: str) -> Path | None:
        """Return the file of one image, None where one file holds all images."""
        return None

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        """Write the files of one image; nothing where one file holds all images.

        Args:
            image_id: what its files are named after; it may name folders, as in "cats/1".
            image: file of the image.
            label: (H, W) uint8.

        Raises:
            LabelError: the label does not fit the classes.
            ImageError: the image, which is part of a data set, cannot be read.
            OutputError: a file cannot be written.
        """

    def finish(self, images: Mapping[str, Path], read_label: Callable[[str], LabelMap]) -> None:
        """Write the files that span all images; called once, after the last image.

        Args:
            images: files of the labelled images, by image id.
            read_label: returns the label (H, W) uint8 of an image id.

        Raises:
            OutputError: a file cannot be written.
        """

    def annotated(self, image_id: str, label: LabelMap) -> list[Region]:
        """Return what is annotated of a label by the settings: objects, or connected regions.

        Raises LabelError where the label does not fit the classes, or its objects are damaged.
        """
        given, objects = self.settings, self.read_objects(image_id)
        are_apart = given.objects == "masks"
        return annotated(label, len(self.classes), given.min_area, objects, are_apart=are_apart)

    def read(self, image_id: str) -> LabelMap:
        """Read the label (H, W) uint8 of one image.

        Raises:
            LabelError: there is none, it is damaged, or the format cannot be read back.
        """
        raise LabelError(f"{self.folder}: {type(self).__name__} cannot be read back")


class LabelReader(ABC):
    """The labels of a set of images as this package or another program stored them."""

    classes: tuple[str, ...] | None = None
    """Names that the files give, background first; None where they give none."""
    files: Mapping[str, Path]
    """File that holds the label of each image, by id."""

    @classmethod
    @abstractmethod
    def detects(cls, where: Path) -> bool:
        """Return whether a file or folder looks like this format."""

    @abstractmethod
    def __init__(
        self, where: Path, classes: Sequence[str] | None, images: Mapping[str, Path]
    ) -> None:
        """Find the labels.

        Args:
            where: a file or folder.
            classes: names, background first: label values are their positions. None for those
                that the files give.
            images: files of the images by id, where they are known.

        Raises:
            LabelError: there are none, or what spans all of them is damaged.
        """

    @abstractmethod
    def read(self, image_id: str) -> LabelMap:
        """Read the label (H, W) uint8 of one image. Raises LabelError or ImageError."""

    def image(self, image_id: str) -> Path | None:
        """Return the image's file as the label names it, None where it names none."""
        return None


class MaskFormat(ABC):
    """A way to store the masks of a set of images in a folder."""

    def __init__(self, folder: Path):
        """Remember the folder, which need not exist; nothing is written yet."""
        self.folder = folder

    @abstractmethod
    def place(self, image_id: str) -> Path:
        """Return the file or folder that holds the masks of an image."""

    def has(self, image_id: str) -> bool:
        """Return whether masks of an image are stored."""
        return self.place(image_id).exists()

    # A format may need only one of the next two
    def write(self, image_id: str, masks: Masks) -> None:  # noqa: B027
        """Write the masks of one image; nothing where one file holds all. Raises OutputError."""

    def finish(  # noqa: B027
        self, images: Mapping[str, Path], read_masks: Callable[[str], Masks]
    ) -> None:
        """Write the files that span all images; called once, after the last image.

        Args:
            images: files of the images, by image id.
            read_masks: returns the masks of an image id.

        Raises:
            OutputError: a file cannot be written.
        """

    @staticmethod
    @abstractmethod
    def save(path: Path, masks: Masks) -> None:
        """Write the masks of one image to a file or folder of any name. Raises OutputError."""

    @abstractmethod
    def read(self, image_id: str, *, image_shape: ImageShape | None = None) -> Masks:
        """Read the masks of one image.

        Args:
            image_id: see `names.image_id`.
            image_shape: (H, W) the masks must have.

        Raises:
            MaskFileError: there are none, or they are damaged or of another shape.
        """
