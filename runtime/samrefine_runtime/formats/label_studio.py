"""Label maps as Label Studio's tasks: images with predictions, which a person accepts or corrects.

Coordinates are percents of the image's width and height. Brushes are run lengths of an RGBA
image, packed bit by bit (`rle-pack` of thi.ng/umbrella), as label-studio-sdk's `brush.encode_rle`
has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.atomic import atomic_path, write_bytes
from samrefine_runtime.formats.base import LabelFormat
from samrefine_runtime.formats.dataset import place_image
from samrefine_runtime.formats.parts import EDITABLE, parts
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.image import ImageShape
from samrefine_runtime.labels import PALETTE, LabelMap
from samrefine_runtime.names import file_name

MODEL = "samrefine-rt"
"""What the predictions name as their model."""

_CONTROL, _IMAGE = "label", "image"
"""Names of the two tags of the labelling interface."""

_CHANNELS = 4
"""Values per pixel of a brush: red, green, blue, alpha."""

_RUN_BITS = (3, 4, 8, 16)
"""Bits in which the length of a run is written, of which the first that suffices is taken."""

_WORD_BITS = 8


class LabelStudioLabels(LabelFormat):
    """`tasks.json` and `label_config.xml` for all images, with `images/`."""

    heeds = ("tolerance", "min_area", "objects", "shapes", "dataset_images")

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        """Place the image. Raises ImageError or OutputError."""
        target = self.folder / "images" / file_name(image_id, image)
        place_image(image, target, self.settings.dataset_images)

    def finish(self, images: Mapping[str, Path], read_label: Callable[[str], LabelMap]) -> None:
        """Write the tasks and the labelling interface. Raises LabelError or OutputError."""
        # One task at a time: brushes of many images are large
        with (
            atomic_path(self.folder / "tasks.json") as temporary,
            temporary.open("w", encoding="ascii") as file,
        ):
            file.write("[")
            for number, (image_id, image) in enumerate(images.items()):
                task = self._task(image_id, image, read_label(image_id))
                file.write((",\n" if number else "\n") + json.dumps(task, allow_nan=False))
            file.write("\n]\n")
        config = label_config(self.classes, is_brush=self._is_brush)
        write_bytes(self.folder / "label_config.xml", config.encode())

    @property
    def _is_brush(self) -> bool:
        return self.settings.shapes == "masks"

    def _task(self, image_id: str, image: Path, label: LabelMap) -> dict[str, Any]:
        """Return the task of an image."""
        found = self.annotated(image_id, label)
        draw = _brush if self._is_brush else self._polygons
        shape = (label.shape[0], label.shape[1])
        results = [
            {**_common(region, shape), "value": value}
            for region in found
            for value in draw(region, self.classes[region.class_id], shape)
        ]
        kind = "brushlabels" if self._is_brush else "polygonlabels"
        for number, result in enumerate(results, start=1):
            result |= {"id": f"region{number}", "type": kind}
        # The least sure region decides when a person should look at the image
        sure = [region.confidence for region in found if region.confidence is not None]
        score = {"score": round(min(sure), 4)} if sure else {}
        url = f"/data/local-files/?d=images/{quote(file_name(image_id, image))}"
        prediction = {"model_version": MODEL, **score, "result": results}
        return {"data": {"image": url}, "predictions": [prediction]}

    def _polygons(
        self, region: Region, name: str, image_shape: ImageShape
    ) -> Iterator[dict[str, Any]]:
        """Yield the polygons of a region, which have no holes."""
        given = self.settings.tolerance
        tolerance = EDITABLE if given is None else given
        height, width = image_shape
        for part in parts(region, tolerance):
            points = part.polygon(tolerance) * (100 / width, 100 / height)
            yield {"points": points.tolist(), "closed": True, "polygonlabels": [name]}


def _brush(region: Region, name: str, image_shape: ImageShape) -> Iterator[dict[str, Any]]:
    """Yield the brush of a region."""
    runs = encode_brush(region.paste(image_shape))
    yield {"format": "rle", "rle": runs, "brushlabels": [name]}


def _common(region: Region, image_shape: ImageShape) -> dict[str, Any]:
    """Return what the results of a region have, whatever its form."""
    score = {} if region.confidence is None else {"score": round(region.confidence, 4)}
    return {
        "from_name": _CONTROL,
        "to_name": _IMAGE,
        "original_width": image_shape[1],
        "original_height": image_shape[0],
        "image_rotation": 0,
        **score,
    }


def label_config(classes: Sequence[str], *, is_brush: bool = False) -> str:
    """Return the labelling interface for the classes, background first."""
    kind = "BrushLabels" if is_brush else "PolygonLabels"
    colours = ["#" + bytes(rgb.tolist()).hex() for rgb in PALETTE]
    labels = "".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(colour)}/>\n"
        for name, colour in list(zip(classes, colours, strict=False))[1:]
    )
    return (
        f'<View>\n  <Image name="{_IMAGE}" value="$image" zoom="true"/>\n'
        f'  <{kind} name="{_CONTROL}" toName="{_IMAGE}">\n{labels}  </{kind}>\n</View>\n'
    )


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """Encode a mask (H, W) bool as the bytes of a brush's run lengths, 0 to 255 each."""
    flat = mask.reshape(-1)
    # ends (R,): positions after the last pixel of each run
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    lengths = np.diff(ends, prepend=0) * _CHANNELS
    header = [f"{flat.size * _CHANNELS:032b}", f"{_WORD_BITS - 1:05b}"]
    header += [f"{bits - 1:04b}" for bits in _RUN_BITS]
    words = [f"{255 * int(value):08b}" for value in flat[ends - 1]]
    runs = [
        piece
        for length, word in zip(lengths.tolist(), words, strict=True)
        for piece in _run(length, word)
    ]
    bits = "".join(header + runs)
    # To whole bytes; the encoder of the SDK adds a byte where they are whole already
    bits += "0" * (8 - len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def _run(length: int, word: str) -> Iterator[str]:
    """Yield the bits of a run: a 1 for "run", the index into _RUN_BITS, the length, the value."""
    longest = 1 << _RUN_BITS[-1]
    index = next(i for i, bits in enumerate(_RUN_BITS) if min(length, longest) <= 1 << bits)
    while length > 0:
        piece = min(length, longest)
        yield f"1{index:02b}{piece - 1:0{_RUN_BITS[index]}b}{word}"
        length -= piece
