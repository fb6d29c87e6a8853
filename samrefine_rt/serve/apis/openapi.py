"""The OpenAPI 3.1 document of the package's own API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samrefine_rt import __version__

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer"}
_IMAGE: Schema = {
    "type": "string",
    "description": "JPEG, PNG, BMP, TIFF or WebP: in JSON base64 or a data URI, in a form a file.",
}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _object(properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_PROMPT: Mapping[str, Schema] = {
    "points": _list(
        _list(_NUMBER, minItems=2, maxItems=2), description="[x, y] in pixels of the image."
    ),
    "point_labels": _list(
        {"enum": [0, 1]},
        description="1 on the object, 0 beside it, for each point; all 1 if left out.",
    ),
    "box": _list(_NUMBER, minItems=4, maxItems=4, description="[x0, y0, x1, y1] in pixels."),
    "mask": {**_ref("RunLengths"), "description": "About where the object is."},
}

_OBJECT = _object(
    {
        "value": {**_WHOLE, "description": "The object's value in the label."},
        "class": {"type": ["string", "null"]},
        "confidence": _NUMBER,
        "area": _WHOLE,
        "bbox": _ref("Box"),
        "segmentation": _ref("RunLengths"),
    },
    ["value", "class", "confidence", "area", "bbox", "segmentation"],
)

_MASK: Mapping[str, Schema] = {
    "segmentation": _ref("RunLengths"),
    "area": _WHOLE,
    "bbox": _ref("Box"),
    "predicted_iou": _NUMBER,
    "stability_score": _NUMBER,
}


def _masks(mask: Schema) -> Schema:
    return _object({"size": _ref("Size"), "masks": _list(mask)}, ["size", "masks"])


_SCHEMAS: Mapping[str, Schema] = {
    "Size": _list(_WHOLE, minItems=2, maxItems=2, description="[height, width], pixels."),
    "Box": _list(_WHOLE, minItems=4, maxItems=4, description="[left, top, width, height], pixels."),
    "RunLengths": {
        **_object(
            {
                "size": _ref("Size"),
                "counts": {"oneOf": [{"type": "string"}, _list(_WHOLE)]},
            },
            ["size", "counts"],
        ),
        "description": "COCO's run lengths, compressed or not.",
    },
    "Label": _object(
        {
            "size": _ref("Size"),
            "classes": _list({"type": "string"}, description="Value v is the name at v - 1."),
            "label": {"type": "string", "description": "Palette PNG in base64, as VOC has it."},
            "objects": _list(_OBJECT, description="The least sure ones first."),
            "changed": {**_NUMBER, "description": "Fraction of pixels that refinement changed."},
            "trust": {**_NUMBER, "description": "How sure SAM is of what the label marks, 0 to 1."},
            "seconds": {"type": "object", "additionalProperties": _NUMBER},
            "model_version": {"type": "string"},
        },
        ["size", "classes", "label", "objects", "changed", "trust", "seconds", "model_version"],
    ),
    "Prompt": _object(_PROMPT),
    "Masks": _masks(_object(_MASK, list(_MASK))),
    "EverythingMasks": _masks(
        _object(
            {
                **_MASK,
                "point_coords": _list(_list(_NUMBER)),
                "crop_box": _list(_WHOLE),
            },
            [*_MASK, "point_coords", "crop_box"],
        )
    ),
    "Error": _object(
        {
            "error": _object(
                {"code": {"type": "string"}, "message": {"type": "string"}}, ["code", "message"]
            )
        },
        ["error"],
    ),
}

_ERRORS: Mapping[str, str] = {
    "400": "The request, or an image in it, cannot be used.",
    "401": "The token is missing or wrong.",
    "403": "The request comes from a page of another site.",
    "408": "The body of the request did not come.",
    "413": "The request is too large.",
    "421": "The server is not called so.",
    "500": "A graph failed on the image.",
    "501": "The bundle has no classifier.",
    "503": "Too much is waiting; Retry-After says when to come back.",
    "504": "The answer would have come too late.",
}


def _post(summary: str, given: Schema, result: str, *, is_label: bool = False) -> Schema:
    """Return a path with one operation."""
    answer: Schema = {"application/json": {"schema": _ref(result)}}
    if is_label:
        answer["image/png"] = {"schema": {"type": "string", "contentMediaType": "image/png"}}
    errors = {
        status: {
            "description": text,
            "content": {"application/json": {"schema": _ref("Error")}},
        }
        for status, text in _ERRORS.items()
    }
    kinds = ("application/json", "multipart/form-data")
    return {
        "post": {
            "summary": summary,
            "requestBody": {
                "required": True,
                "content": {kind: {"schema": given} for kind in kinds},
            },
            "responses": {"200": {"description": "Done.", "content": answer}, **errors},
        }
    }


def document(classes: Sequence[str]) -> Schema:
    """Return the document; `classes` are those that /v1/label may be told."""
    present = _list(
        {"enum": list(classes)} if classes else {"type": "string"},
        description="The classes in the image; left out, they are predicted.",
    )
    prompts = _list(_ref("Prompt"), minItems=1, maxItems=256, description="One object each.")
    label = _object({"image": _IMAGE, "image_labels": present}, ["image"])
    refine = _object({"image": _IMAGE, "pseudo_label": _IMAGE}, ["image", "pseudo_label"])
    segment = _object({"image": _IMAGE, "prompts": prompts, **_PROMPT}, ["image"])
    one = _object({"image": _IMAGE}, ["image"])
    return {
        "openapi": "3.1.0",
        "info": {"title": "samrefine", "version": __version__},
        "paths": {
            "/v1/label": _post(
                "CAM, SAM and SEPL: an image to its label.", label, "Label", is_label=True
            ),
            "/v1/refine": _post(
                "A pseudo label to its refined label.", refine, "Label", is_label=True
            ),
            "/v1/masks": _post("All masks of an image.", one, "EverythingMasks"),
            "/v1/segment": _post("Points, boxes and masks to masks.", segment, "Masks"),
        },
        "components": {
            "schemas": dict(_SCHEMAS),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{}, {"token": []}, {"basic": []}],
    }
