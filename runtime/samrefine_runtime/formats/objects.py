"""Objects: the regions of a label, apart where SAM's masks tell them apart, with a confidence.

A region, which is connected, is several objects where several of the masks that its class took lie
in it side by side. They are found as follows, and together are the label:

1. The masks of a region are taken by falling area inside it. One that lies mostly on what was taken
   before is a part of it, and no object; of any other, the pixels not taken yet are an object.
2. Pixels of the region that no object has, such as those of the pseudo label that no mask covers,
   belong to the nearest object.
3. A region in which fewer than two objects are found is one object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError, MaskFileError
from samrefine_runtime.formats.annotated import owners, view
from samrefine_runtime.formats.jsonfile import read_json, write_json
from samrefine_runtime.formats.polygons import Region, regions
from samrefine_runtime.formats.records import check_image_shape, runs_from_segmentation
from samrefine_runtime.image import ImageShape
from samrefine_runtime.labels import MAX_CLASS, LabelMap
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks

FORMAT, VERSION = "samrefine-objects", 1
"""Header of a file of objects."""

_PART = 0.5
"""Fraction of a mask that is taken already, from which on it is a part and no object."""

_LEAST_AREA = 0.02
"""Fraction of a region that an object of its own has at least: less is a splinter of a mask."""

Mask = NDArray[np.bool_]


def find_objects(
    label: LabelMap, pseudo_label: LabelMap, masks: Masks, chosen: NDArray[np.uint8]
) -> list[Region]:
    """Part a refined label into objects.

    The confidence of an object is the mean over its pixels of the predicted IoU of the surest mask
    that its class took there, 0 where there is none, times the fraction of its pixels that had its
    class before: SAM and the classifier both have to be sure.

    Args:
        label: refined label (H, W) uint8.
        pseudo_label: the label before (H, W) uint8.
        masks: N masks of the image.
        chosen: the class that took each mask, (N,) uint8, 0 for none (`refine_and_choose`).

    Returns:
        The objects, the least sure ones first. Their pixels are those of the label's classes.
    """
    surest = np.zeros(label.shape, np.float32)
    crops: dict[int, list[Mask]] = {}
    found = list(regions(label, MAX_CLASS + 1))
    owner = owners(found, label.shape)
    for index in np.flatnonzero(chosen):
        mask = masks.dense(int(index)) & (label == chosen[index])
        np.maximum(surest, masks.predicted_iou[index], out=surest, where=mask)
        for number in np.unique(owner[mask]):
            crops.setdefault(int(number), []).append(_crop(mask & (owner == number), found[number]))
    objects = [
        each
        for number, region in enumerate(found)
        for each in _apart(region, crops.get(number, []))
    ]
    sure = [replace(each, confidence=_confidence(each, surest, pseudo_label)) for each in objects]
    return sorted(sure, key=lambda each: each.confidence or 0.0)


def _crop(mask: Mask, region: Region) -> Mask:
    return np.array(view(mask, region))


def _apart(region: Region, inside: Sequence[Mask]) -> Iterator[Region]:
    """Yield the objects of a region, given its masks (h, w) inside it."""
    taken = np.zeros(region.mask.shape, bool)
    # owner (h, w): number of each pixel's object, from 1
    owner, count = np.zeros(region.mask.shape, np.int32), 0
    for mask in sorted(inside, key=lambda mask: -np.count_nonzero(mask)):
        fresh = mask & ~taken
        area = np.count_nonzero(fresh)
        is_part = area <= _PART * np.count_nonzero(mask)
        if not is_part and area >= _LEAST_AREA * region.area:
            count += 1
            owner[fresh] = count
            taken |= mask
    if count < 2:
        yield region
        return
    owner = _spread(owner)
    for number in range(1, count + 1):
        yield _trimmed(region, region.mask & (owner == number))


def _spread(owner: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give every pixel (h, w) that has number 0 the number of the nearest one that has another."""
    free = (owner == 0).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(
        free, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # nearest (h, w): a number of its own for each pixel that has an owner
    by_pixel = np.zeros(int(nearest.max()) + 1, np.int32)
    by_pixel[nearest[free == 0]] = owner[free == 0]
    return np.asarray(by_pixel[nearest])


def _trimmed(region: Region, mask: Mask) -> Region:
    """Return a part of a region, cut out to its own box."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    inside = mask[top : top + height, left : left + width]
    return Region(region.class_id, region.left + left, region.top + top, inside)


def _confidence(part: Region, surest: NDArray[np.float32], pseudo_label: LabelMap) -> float:
    """Compute the confidence of an object, see `find_objects`."""
    sure = view(surest, part)[part.mask].mean()
    agreed = (view(pseudo_label, part)[part.mask] == part.class_id).mean()
    return float(np.clip(sure, 0, 1) * agreed)


def write_objects(path: Path, objects: Sequence[Region], image_shape: ImageShape) -> None:
    """Write objects as JSON. Raises OutputError."""
    records = [
        {
            "class": each.class_id,
            "confidence": each.confidence,
            "area": each.area,
            "bbox": each.bbox,
            "segmentation": {
                "size": list(image_shape),
                "counts": rle.to_coco_string(each.runs(image_shape)),
            },
        }
        for each in objects
    ]
    content = {"format": FORMAT, "version": VERSION, "size": list(image_shape)}
    write_json(path, {**content, "objects": records})


def read_objects(path: Path) -> list[Region]:
    """Read objects that `write_objects` wrote. Raises LabelError."""
    content = read_json(path, LabelError)
    try:
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"{content['format']} {content['version']}")
        shape = check_image_shape(content["size"])
        return [_object(record, shape) for record in content["objects"]]
    except (TypeError, KeyError, ValueError, MaskFileError) as error:
        raise LabelError(f"{path}: not a file of {FORMAT} {VERSION} ({error})") from error


def _object(record: Any, image_shape: ImageShape) -> Region:
    runs = runs_from_segmentation(record["segmentation"], image_shape)
    whole = Region(int(record["class"]), 0, 0, rle.decode(runs, image_shape))
    return replace(_trimmed(whole, whole.mask), confidence=float(record["confidence"]))
