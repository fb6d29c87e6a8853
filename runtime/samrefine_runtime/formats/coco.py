"""COCO instances JSON: masks without classes, or label maps as annotated regions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from reprlib import repr as short
from typing import Any, ClassVar, Literal, TextIO, TypeGuard, get_args

from samrefine_runtime.atomic import atomic_path
from samrefine_runtime.errors import MaskFileError, SettingsError
from samrefine_runtime.formats.base import LabelFormat, MaskFormat
from samrefine_runtime.formats.dataset import place_image
from samrefine_runtime.formats.jsonfile import read_json
from samrefine_runtime.formats.polygons import TOLERANCE, Region, regions, whole_classes
from samrefine_runtime.formats.records import check_image_shape, json_records, masks_from_records
from samrefine_runtime.image import ImageShape
from samrefine_runtime.inputs import check_file
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.names import ByImage, file_name, listed_id

FILE_NAME = "instances.json"
"""Name of a COCO file of masks in a folder of results."""

MASK_CLASSES = ("background", "object")
"""Classes of a file of masks without classes, background first."""

Form = Literal["polygons", "rle", "stuff"]
"""What is annotated: connected regions as polygons or as run lengths, or all pixels of each class
as run lengths, as in COCO-Stuff."""


class CocoPolygonLabels(LabelFormat):
    """`annotations/instances_default.json` for all images, an annotation per connected region.

    With `images/default/` it is the tree that CVAT and datumaro read; "default" is its subset.
    """

    heeds: ClassVar[tuple[str, ...]] = ("tolerance", "min_area", "objects", "dataset_images")
    form: ClassVar[Form] = "polygons"
    file_name: ClassVar[str] = "annotations/instances_default.json"

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        """Place the image. Raises ImageError or OutputError."""
        target = self.folder / "images" / "default" / file_name(image_id, image)
        place_image(image, target, self.settings.dataset_images)

    def finish(self, images: Mapping[str, Path], read_label: Callable[[str], LabelMap]) -> None:
        """Write the file. Raises LabelError or OutputError."""
        given = self.settings
        tolerance = TOLERANCE if given.tolerance is None else given.tolerance
        with open_coco(self.folder / self.file_name, self.classes) as coco:
            for image_id, image in images.items():
                label = read_label(image_id)
                coco.add_label(
                    file_name(image_id, image),
                    label,
                    form=self.form,
                    tolerance=tolerance,
                    min_area=given.min_area,
                    found=self.annotated(image_id, label),
                )


class CocoRleLabels(CocoPolygonLabels):
    """The same with compressed run lengths, which are exact."""

    heeds: ClassVar[tuple[str, ...]] = ("min_area", "objects", "dataset_images")
    form: ClassVar[Form] = "rle"


class CocoStuffLabels(CocoRleLabels):
    """`annotations/stuff_default.json` for all images, an annotation per class of an image."""

    heeds: ClassVar[tuple[str, ...]] = ("min_area", "dataset_images")
    form: ClassVar[Form] = "stuff"
    file_name: ClassVar[str] = "annotations/stuff_default.json"


class CocoMasks(MaskFormat):
    """One `instances.json` for all images, an annotation per mask."""

    def __init__(self, folder: Path, file_name: str = FILE_NAME):
        """Remember the file, which need not exist; nothing is written yet."""
        super().__init__(folder)
        self._file = folder / file_name

    def place(self, image_id: str) -> Path:
        """Return the COCO file, which is the same for every image."""
        return self._file

    def has(self, image_id: str) -> bool:
        """Return whether the file lists the image. Raises MaskFileError if it is damaged."""
        path = self.place(image_id)
        return path.is_file() and image_id in open_coco_file(path)

    def finish(self, images: Mapping[str, Path], read_masks: Callable[[str], Masks]) -> None:
        """Write the file. Raises OutputError."""
        with open_coco(self._file, MASK_CLASSES) as coco:
            for image_id, image in images.items():
                coco.add_masks(file_name(image_id, image), read_masks(image_id))

    @staticmethod
    def save(path: Path, masks: Masks) -> None:
        """Write a file of one image, called as the file is. Raises OutputError."""
        with open_coco(path, MASK_CLASSES) as coco:
            coco.add_masks(path.stem, masks)

    def read(self, image_id: str, *, image_shape: ImageShape | None = None) -> Masks:
        """Read the masks of one image. Raises MaskFileError."""
        return open_coco_file(self.place(image_id)).read(image_id, image_shape=image_shape)


@contextmanager
def open_coco(path: str | Path, classes: Sequence[str]) -> Iterator[CocoWriter]:
    """Open a COCO file for writing, image by image.

    The file appears when the block ends without an error.

    Args:
        path: file to write.
        classes: names, background first; class i becomes category i.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii") as file:
        writer = CocoWriter(file, classes)
        yield writer
        writer.finish()


class CocoWriter:
    """Writes annotations one at a time; only the list of images is kept in memory.

    Images and annotations are numbered from 1 in the order they are added.
    """

    def __init__(self, file: TextIO, classes: Sequence[str]) -> None:
        self._file = file
        self._classes = tuple(classes)
        self._images: list[dict[str, Any]] = []
        self._annotations = 0
        file.write('{"info": {"description": "samrefine-rt", "version": "1.0"}')
        file.write(',\n"annotations": [')

    def add_masks(self, file_name: str, masks: Masks) -> int:
        """Add an image and its masks, and return the image's id.

        All masks are of category 1, with SAM's scores, points and crops as extra keys.
        """
        image_id = self._add_image(file_name, masks.image_shape)
        for index, record in enumerate(json_records(masks)):
            bbox = _bbox(masks, index) if record["area"] else [0, 0, 0, 0]
            self._add(image_id, 1, record | {"bbox": bbox})
        return image_id

    def add_label(
        self,
        file_name: str,
        label: LabelMap,
        *,
        form: Form = "polygons",
        tolerance: float = TOLERANCE,
        min_area: int = 1,
        found: Sequence[Region] | None = None,
    ) -> int:
        """Add an image and one annotation for each connected region, or class, of its label map.

        Args:
            file_name: file name of the image.
            label: (H, W) uint8; background 0 and 255 are not annotated.
            form: see `Form`; polygons have holes cut in, run lengths are compressed.
            tolerance: distance in pixels by which a polygon may deviate, see
                `polygons.TOLERANCE`.
            min_area: area in pixels below which a region is omitted.
            found: what is annotated of the label, None for its connected regions; classes are
                found anew.

        Returns:
            The image's id.

        Raises:
            LabelError: the label is not (H, W) uint8 or has a class without a name.
            SettingsError: an unknown form.
        """
        if form not in get_args(Form):
            raise SettingsError(f"form is {form!r}, expected one of {get_args(Form)}")
        # Find all regions first: a label that is refused adds no image
        if form == "stuff":
            found = list(whole_classes(label, len(self._classes), min_area))
        elif found is None:
            found = list(regions(label, len(self._classes), min_area))
        image_shape = (label.shape[0], label.shape[1])
        image_id = self._add_image(file_name, image_shape)
        for region in found:
            segmentation = (
                [region.polygon(tolerance).ravel().tolist()]
                if form == "polygons"
                else _run_lengths(region, image_shape)
            )
            content: dict[str, Any] = {
                "segmentation": segmentation,
                "area": region.area,
                "bbox": region.bbox,
            }
            if region.confidence is not None:
                content["score"] = round(region.confidence, 4)
            self._add(image_id, region.class_id, content)
        return image_id

    def finish(self) -> None:
        """Write the images and the categories; called by `open_coco`."""
        categories = [
            {"id": index, "name": name, "supercategory": ""}
            for index, name in enumerate(self._classes)
            if index > 0
        ]
        self._file.write('\n],\n"images": ')
        self._file.write(_lines(self._images))
        self._file.write(',\n"categories": ')
        self._file.write(_lines(categories))
        self._file.write("}\n")

    def _add_image(self, file_name: str, image_shape: ImageShape) -> int:
        """Remember an image (H, W) and return its id."""
        image_id = len(self._images) + 1
        height, width = image_shape
        self._images.append(
            {"id": image_id, "file_name": file_name, "height": height, "width": width}
        )
        return image_id

    def _add(self, image_id: int, category_id: int, content: dict[str, Any]) -> None:
        """Write one annotation."""
        self._file.write(",\n" if self._annotations else "\n")
        self._annotations += 1
        ids = {"id": self._annotations, "image_id": image_id, "category_id": category_id}
        self._file.write(json.dumps(ids | content | {"iscrowd": 0}, allow_nan=False))


def _bbox(masks: Masks, index: int) -> list[int]:
    """Return the box XYWH of a mask by COCO's convention.

    COCO counts the last row and column into width and height, SAM's records do not.
    """
    left, top, right, bottom = masks.boxes[index].tolist()
    return [left, top, right - left + 1, bottom - top + 1]


def _score(region: Region) -> dict[str, float]:
    """Return a region's confidence under the key of COCO's results, nothing where it has none."""
    return {} if region.confidence is None else {"score": round(region.confidence, 4)}


def _run_lengths(region: Region, image_shape: ImageShape) -> dict[str, Any]:
    return {"size": list(image_shape), "counts": rle.to_coco_string(region.runs(image_shape))}


def _lines(values: list[dict[str, Any]]) -> str:
    """Format a JSON list with one object per line."""
    return "[\n" + ",\n".join(map(json.dumps, values)) + "\n]"


class CocoFile:
    """The masks of many images in one COCO file, annotated by run lengths."""

    def __init__(self, path: str | Path) -> None:
        """Read the file.

        Raises:
            MaskFileError: it is not COCO instances JSON, two of its images have the same id or
                name, or an annotation belongs to none of them.
        """
        content = read_json(path, MaskFileError)
        images = content.get("images") if isinstance(content, dict) else None
        annotations = content.get("annotations") if isinstance(content, dict) else None
        if not _are_objects(images) or not _are_objects(annotations):
            raise MaskFileError(f"{path}: not COCO JSON, 'images' or 'annotations' is missing")
        self.path, self.categories = Path(path), content.get("categories")
        try:
            self._images = _images_by_name(images)
            self._annotations = _annotations_by_image(annotations, images)
        except MaskFileError as error:
            raise MaskFileError(f"{path}: {error}") from error

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._images

    def annotations(self, image_id: str) -> list[dict[str, Any]]:
        """Return the annotations of an image that is in the file."""
        return self._annotations[self._images[image_id]["id"]]

    def read(self, image_id: str, *, image_shape: ImageShape | None = None) -> Masks:
        """Read the masks of one image.

        Args:
            image_id: see `names.image_id`.
            image_shape: (H, W) the masks must have.

        Raises:
            MaskFileError: no such image, or its masks are damaged, polygons, or of another shape.
        """
        if image_id not in self._images:
            raise MaskFileError(f"{self.path}: no image {image_id}")
        records = self.annotations(image_id)
        # Boxes are computed from the run lengths: COCO's differ from SAM's by one pixel
        bare = [{k: v for k, v in record.items() if k != "bbox"} for record in records]
        try:
            own_shape = self.image_shape(image_id)
            if image_shape is not None and own_shape != image_shape:
                raise MaskFileError(f"masks are {own_shape} (H, W), expected {image_shape}")
            return masks_from_records(bare, own_shape)
        except MaskFileError as error:
            raise MaskFileError(f"{self.path}: {image_id}: {error}") from error

    @property
    def image_ids(self) -> list[str]:
        """The ids of all images, as the file's names give them."""
        return list(self._images)

    def file_name(self, image_id: str) -> str:
        """Return the file name of an image that the file has."""
        return str(self._images[image_id]["file_name"])

    def image_shape(self, image_id: str) -> ImageShape:
        """Return (H, W) of an image that is in the file. Raises MaskFileError for what is none."""
        image = self._images[image_id]
        return check_image_shape([image.get("height"), image.get("width")])


def category_names(categories: Any, path: Path) -> dict[int, str]:
    """Return the names of categories by id. Raises SettingsError."""
    found: dict[int, str] = {}
    for each in categories if isinstance(categories, list) else []:
        key, name = (each.get("id"), each.get("name")) if isinstance(each, dict) else (None, None)
        if type(key) is not int or not isinstance(name, str) or key in found:
            raise SettingsError(
                f"{path}: category {short(each)}, expected an id of its own and a name"
            )
        found[key] = name
    if not found or len({*found.values()}) < len(found):
        raise SettingsError(f"{path}: no categories, or two of one name")
    return found


def _images_by_name(images: list[dict[str, Any]]) -> ByImage[dict[str, Any]]:
    """Index images by their ids. Raises MaskFileError if two have the same."""
    found: dict[str, dict[str, Any]] = {}
    for image in images:
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            raise MaskFileError(f"an image has the file name {short(name)}, expected text")
        known = found.setdefault(listed_id(name, {PurePosixPath(name).suffix.lower()}), image)
        if known is not image:
            raise MaskFileError(
                f"the images {short(known['file_name'])} and {short(name)} have the same file name "
                "without suffix, so that their masks cannot be told apart"
            )
    return ByImage(found)


def _annotations_by_image(
    annotations: list[dict[str, Any]], images: list[dict[str, Any]]
) -> dict[int | str, list[dict[str, Any]]]:
    """Group annotations by the id of their image.

    Raises:
        MaskFileError: an id is none, two images have the same, or an annotation has another.
    """
    found: dict[int | str, list[dict[str, Any]]] = {}
    for image in images:
        if type(image.get("id")) not in (int, str) or image["id"] in found:
            raise MaskFileError(
                f"image {short(image['file_name'])} has the id {short(image.get('id'))}, expected "
                "a number or text that no other image has"
            )
        found[image["id"]] = []
    for annotation in annotations:
        owner = annotation.get("image_id")
        if type(owner) not in (int, str) or owner not in found:
            raise MaskFileError(
                f"annotation {short(annotation.get('id'))} has the image_id {short(owner)}, which "
                "no entry of 'images' has"
            )
        found[owner].append(annotation)
    return found


def open_coco_file(path: str | Path) -> CocoFile:
    """Read a COCO file, or return it from memory if it was the last one read.

    A file that has changed since is read again. One file is kept, since reading image by image
    would otherwise parse it once per image.

    Raises:
        MaskFileError: the file is missing or not COCO instances JSON.
    """
    check_file(path, MaskFileError)
    # The inode distinguishes files that replaced each other within the clock's resolution
    status = Path(path).stat()
    found = _cached(str(path), (status.st_mtime_ns, status.st_ino, status.st_size))
    if isinstance(found, str):
        raise MaskFileError(found)
    return found


@lru_cache(maxsize=1)
def _cached(path: str, _version: tuple[int, int, int]) -> CocoFile | str:
    """Read a COCO file, or return what is wrong with it: that, too, is found only once."""
    try:
        return CocoFile(path)
    except MaskFileError as error:
        return str(error)


def _are_objects(values: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Return whether a JSON value is a list of objects."""
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)
