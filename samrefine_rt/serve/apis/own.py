"""The package's own API: /v1/label, /v1/masks, /v1/segment, /v1/refine, and /openapi.json."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from samrefine_rt.serve.apis.openapi import document
from samrefine_rt.serve.engine import Prompt
from samrefine_rt.serve.errors import invalid
from samrefine_rt.serve.fields import Fields, file_bytes, numbers, read_fields, texts
from samrefine_rt.serve.service import Service
from samrefine_runtime.arguments import Progress
from samrefine_runtime.checks import described
from samrefine_runtime.formats.records import check_image_shape, runs_from_segmentation
from samrefine_runtime.labels import encode_label
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.results import LabelResult

MOST_PROMPTS, MOST_POINTS = 256, 256
"""Prompts of a request, points of a prompt."""

_PNG = "image/png"


def routes(service: Service) -> Sequence[Route]:
    """Return the routes."""
    engine = service.engine

    async def label(request: Request) -> Response:
        fields = await read_fields(request)
        image, present = file_bytes(fields, "image"), texts(fields, "image_labels")
        return await _label(service, request, lambda step: engine.label(image, present, step))

    async def refine(request: Request) -> Response:
        fields = await read_fields(request)
        image, pseudo = file_bytes(fields, "image"), file_bytes(fields, "pseudo_label")
        return await _label(service, request, lambda step: engine.refine(image, pseudo, step))

    async def masks(request: Request) -> Response:
        image = file_bytes(await read_fields(request), "image")

        def work(step: Progress) -> dict[str, Any]:
            found = engine.masks(image, step)
            return {"size": list(found.image_shape), "masks": found.to_records("coco_rle")}

        return await service.answer(request, work)

    async def segment(request: Request) -> Response:
        fields = await read_fields(request)
        image = file_bytes(fields, "image")

        def work(step: Progress) -> dict[str, Any]:
            # Run lengths of masks may be long: not in the thread that answers all connections
            found = engine.segment(image, _prompts(fields), step)
            return {"size": list(found.image_shape), "masks": _records(found)}

        return await service.answer(request, work, is_urgent=True)

    async def openapi(request: Request) -> Response:
        return JSONResponse(document(engine.classes))

    return [
        Route("/v1/label", label, methods=["POST"]),
        Route("/v1/masks", masks, methods=["POST"]),
        Route("/v1/segment", segment, methods=["POST"]),
        Route("/v1/refine", refine, methods=["POST"]),
        Route("/openapi.json", openapi),
    ]


async def _label(
    service: Service, request: Request, work: Callable[[Progress], LabelResult]
) -> Response:
    """Answer a label: as JSON, or as the PNG alone where that is what the client accepts."""
    if request.headers.get("accept") == _PNG:
        content = await service.compute(request, lambda step: encode_label(work(step).label))
        return Response(content, media_type=_PNG)
    engine = service.engine
    return await service.answer(
        request,
        lambda step: {
            **_label_json(work(step), engine.classes),
            "model_version": engine.model_version,
        },
    )


def _label_json(result: LabelResult, classes: Sequence[str]) -> dict[str, Any]:
    """Return a label with its objects, the least sure ones first."""
    names = [*classes, *[None] * (256 - len(classes))]
    shape = result.masks.image_shape
    return {
        "size": list(shape),
        "classes": list(classes),
        "label": base64.b64encode(encode_label(result.label)).decode(),
        "objects": [
            {
                "value": each.class_id,
                "class": names[each.class_id - 1],
                "confidence": each.confidence,
                "area": each.area,
                "bbox": each.bbox,
                "segmentation": _segmentation(each.runs(shape), shape),
            }
            for each in result.objects or []
        ],
        "changed": result.changed,
        "trust": result.trust,
        "seconds": dict(result.seconds),
    }


def _records(masks: Masks) -> list[dict[str, Any]]:
    """Return the mask of each prompt under SAM's names."""
    left, top, right, bottom = masks.boxes.T
    boxes = np.stack([left, top, right - left + 1, bottom - top + 1], axis=1)
    boxes[masks.areas == 0] = 0
    return [
        {
            "segmentation": _segmentation(masks.runs(index), masks.image_shape),
            "area": int(area),
            "bbox": box,
            "predicted_iou": float(masks.predicted_iou[index]),
            "stability_score": float(masks.stability_score[index]),
        }
        for index, (area, box) in enumerate(zip(masks.areas, boxes.tolist(), strict=True))
    ]


def _segmentation(runs: rle.Counts, image_shape: tuple[int, int]) -> dict[str, Any]:
    """Return COCO's compressed run lengths."""
    return {"size": list(image_shape), "counts": rle.to_coco_string(runs)}


def _prompts(fields: Fields) -> list[Prompt]:
    """Return the prompts of a request; one may stand in the request itself. Raises RequestError."""
    given = fields.get("prompts", [fields])
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_PROMPTS:
        raise invalid(
            f"prompts is {described(given)[:80]}, expected a list of 1 to {MOST_PROMPTS} objects"
        )
    return [_prompt(each, f"prompts[{index}]") for index, each in enumerate(given)]


def _prompt(given: Any, name: str) -> Prompt:
    """Return a prompt. Raises RequestError."""
    if not isinstance(given, dict):
        raise invalid(f"{name} is {described(given)[:80]}, expected an object")
    points = numbers(given.get("points", np.zeros((0, 2))), f"{name}.points", (None, 2))
    if len(points) > MOST_POINTS:
        raise invalid(f"{name}.points has {len(points)}, expected at most {MOST_POINTS}")
    labels = given.get("point_labels", np.ones(len(points)))
    kinds = numbers(labels, f"{name}.point_labels", (len(points),))
    if not np.isin(kinds, (0, 1)).all():
        raise invalid(f"{name}.point_labels is not 1 for the object and 0 for beside it")
    box, mask = given.get("box"), given.get("mask")
    return Prompt(
        points,
        kinds.astype(np.int64),
        None if box is None else _box(box, f"{name}.box"),
        None if mask is None else _mask(mask),
    )


def _box(given: Any, name: str) -> NDArray[np.float64]:
    box = numbers(given, name, (4,))
    if not (box[0] < box[2] and box[1] < box[3]):
        raise invalid(f"{name} is {box.tolist()}, expected [x0, y0, x1, y1], x0 < x1 and y0 < y1")
    return box


def _mask(given: Any) -> Masks:
    """Return one mask in COCO's run lengths. Raises RequestError or MaskFileError."""
    if not isinstance(given, dict):
        raise invalid(f"mask is {described(given)[:80]}, expected an object with size and counts")
    shape = check_image_shape(given.get("size"))
    return Masks.from_runs(shape, [runs_from_segmentation(given, shape)])
