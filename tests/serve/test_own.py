"""The package's own API gives what the library gives, and says what is wrong with a request."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from samrefine_rt import Labeler, MaskGenerator, Refiner, Segmenter
from samrefine_runtime.labels import decode_label, encode_label
from samrefine_runtime.masks import rle
from tests.samples import ONE_THREAD
from tests.serve.clients import FILE, IMAGE, JPEG, serving


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as found:
        yield found


def done(client: TestClient, path: str, **fields: Any) -> dict[str, Any]:
    answer = client.post(path, json={"image": IMAGE, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def refused(client: TestClient, path: str, **fields: Any) -> tuple[int, str]:
    answer = client.post(path, json=fields)
    return answer.status_code, answer.json()["error"]["message"]


@pytest.mark.parametrize("present", [None, ["fish", "car"], []])
def test_label_is_that_of_the_library(client: TestClient, present: list[str] | None) -> None:
    expected = Labeler("demo", session=ONE_THREAD).label(FILE, present)
    found = done(client, "/v1/label", image_labels=present)
    label = decode_label(base64.b64decode(found["label"]))
    assert np.array_equal(label, expected.label)
    objects = np.zeros(label.shape, bool)
    for each in found["objects"]:
        assert each["class"] == found["classes"][each["value"] - 1]
        runs = rle.from_coco_string(each["segmentation"]["counts"], label.shape)
        objects |= rle.decode(runs, label.shape)
    assert np.array_equal(objects, label > 0)


def test_label_as_a_png_of_a_form(client: TestClient) -> None:
    answer = client.post(
        "/v1/label",
        files={"image": JPEG},
        data={"image_labels": '["fish"]'},
        headers={"accept": "image/png"},
    )
    assert answer.headers["content-type"] == "image/png"
    label = Labeler("demo", session=ONE_THREAD).label(FILE, ["fish"]).label
    assert answer.content == encode_label(label)


def test_refined_label_is_that_of_the_library(client: TestClient) -> None:
    pseudo = Labeler("demo", session=ONE_THREAD).label(FILE).pseudo_label
    expected = Refiner("demo", session=ONE_THREAD).refine(FILE, pseudo).label
    png = base64.b64encode(encode_label(pseudo)).decode()
    found = done(client, "/v1/refine", pseudo_label=png)
    assert np.array_equal(decode_label(base64.b64decode(found["label"])), expected)


def test_masks_are_those_of_the_library(client: TestClient) -> None:
    expected = MaskGenerator("demo", session=ONE_THREAD).generate(FILE).to_records("coco_rle")
    assert done(client, "/v1/masks")["masks"] == expected


def test_prompts_give_the_masks_of_the_library(client: TestClient) -> None:
    segmenter = Segmenter("demo", session=ONE_THREAD)
    box, point = [50, 60, 250, 220], [200, 150]
    expected = [
        segmenter.boxes(FILE, [box]).masks.runs(0),
        segmenter.points(FILE, [point], [1]).masks.runs(0),
        segmenter.points(FILE, [point], [0], box).masks.runs(0),
    ]
    prompts = [
        {"box": box},
        {"points": [point]},
        {"points": [point], "point_labels": [0], "box": box},
    ]
    found = done(client, "/v1/segment", prompts=prompts)["masks"]
    assert [each["segmentation"]["counts"] for each in found] == [
        rle.to_coco_string(runs) for runs in expected
    ]
    alone = done(client, "/v1/segment", box=box)["masks"]
    assert alone[0]["segmentation"] == found[0]["segmentation"]


def test_a_mask_is_found_again_from_itself(client: TestClient) -> None:
    (first,) = done(client, "/v1/segment", points=[[200, 150]])["masks"]
    (again,) = done(client, "/v1/segment", mask=first["segmentation"])["masks"]
    shape = tuple(first["segmentation"]["size"])
    one, two = (
        rle.decode(rle.from_coco_string(each["segmentation"]["counts"], shape), shape)
        for each in (first, again)
    )
    assert (one & two).sum() / (one | two).sum() > 0.8


def png(mode: str = "RGB", size: tuple[int, int] = (4, 4)) -> str:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


BOMB = png("1", (60_000, 600))
"""36 megapixels in 5 kB."""


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("/v1/label", {}, "image is None, expected a file in base64"),
        ("/v1/label", {"image": 5}, "image is 5, expected a file in base64"),
        ("/v1/label", {"image": "/etc/passwd"}, "image is not base64"),
        ("/v1/label", {"image": "file:///etc/passwd"}, "image is not base64"),
        ("/v1/label", {"image": "data:text/plain,x"}, "expected one in base64"),
        ("/v1/label", {"image": "AAAA"}, "image: not a readable image (cannot identify image"),
        ("/v1/label", {"image": IMAGE[:4000]}, "not a readable image"),
        ("/v1/label", {"image": BOMB}, "60000 x 600 pixels, the limit is 32000000"),
        ("/v1/label", {"image": IMAGE, "image_labels": ["fsh"]}, "did you mean fish?"),
        ("/v1/label", {"image": IMAGE, "image_labels": "fish"}, "expected a list of texts"),
        ("/v1/refine", {"image": IMAGE}, "pseudo_label is None"),
        ("/v1/refine", {"image": IMAGE, "pseudo_label": png("L")}, "pseudo label is (4, 4)"),
        ("/v1/refine", {"image": IMAGE, "pseudo_label": BOMB}, "the limit is 32000000"),
        ("/v1/segment", {"image": IMAGE}, "a prompt is empty"),
        ("/v1/segment", {"image": IMAGE, "prompts": []}, "expected a list of 1 to 256"),
        ("/v1/segment", {"image": IMAGE, "prompts": [{}] * 257}, "expected a list of 1 to 256"),
        ("/v1/segment", {"image": IMAGE, "prompts": [5]}, "expected an object"),
        ("/v1/segment", {"image": IMAGE, "points": [[1]]}, "expected K x 2 finite numbers"),
        ("/v1/segment", {"image": IMAGE, "points": [[1, "NaN"]]}, "expected K x 2 finite"),
        ("/v1/segment", {"image": IMAGE, "points": [[1, 2]] * 257}, "at most 256"),
        ("/v1/segment", {"image": IMAGE, "points": [[1, 2]], "point_labels": [2]}, "is not 1"),
        ("/v1/segment", {"image": IMAGE, "box": [5, 5, 5, 9]}, "x0 < x1"),
        ("/v1/segment", {"image": IMAGE, "mask": 5}, "expected an object with size and counts"),
        (
            "/v1/segment",
            {"image": IMAGE, "mask": {"size": [40000, 40000], "counts": [1600000000]}},
            "limit",
        ),
        ("/v1/segment", {"image": IMAGE, "mask": {"size": [2, 2], "counts": [0, 4]}}, "(2, 2)"),
    ],
)
def test_wrong_requests_say_what_is_expected(
    client: TestClient, path: str, fields: dict[str, Any], message: str
) -> None:
    status, found = refused(client, path, **fields)
    assert status == 400
    assert message in found and "\n" not in found and " at 0x" not in found


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"a":' * 50_000])
def test_bodies_that_are_no_json_object(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/label", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "INVALID_REQUEST"


def test_what_browsers_send_across_sites_without_asking_is_no_json(client: TestClient) -> None:
    answer = client.post("/v1/label", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["/..%2f..%2fetc/passwd", "/v1/../../etc/passwd", "//etc/passwd"])
def test_paths_lead_nowhere(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_openapi_document_is_one(client: TestClient) -> None:
    validator = pytest.importorskip(
        "openapi_spec_validator", reason="openapi-spec-validator is not installed"
    )
    document = client.get("/openapi.json").json()
    validator.validate(document)
    assert {*document["paths"]} == {"/v1/label", "/v1/masks", "/v1/segment", "/v1/refine"}


@pytest.mark.parametrize(
    ("path", "schema", "fields"),
    [
        ("/v1/label", "Label", {}),
        ("/v1/masks", "EverythingMasks", {}),
        ("/v1/segment", "Masks", {"points": [[200, 150]]}),
    ],
)
def test_answers_are_as_described(
    client: TestClient, path: str, schema: str, fields: dict[str, Any]
) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    document = client.get("/openapi.json").json()
    reference = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    jsonschema.validate(done(client, path, **fields), reference)


def test_embeddings_are_kept_and_counted(client: TestClient) -> None:
    def counted(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    done(client, "/v1/segment", points=[[200, 150]])
    before = counted("samrefine_embedding_misses"), counted("samrefine_embedding_hits")
    done(client, "/v1/segment", points=[[100, 100]])
    after = counted("samrefine_embedding_misses"), counted("samrefine_embedding_hits")
    assert after == (before[0], before[1] + 1)
