"""Who is let in: by host, by origin, by token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from samrefine_rt.serve.settings import Access
from tests.serve.clients import serving

BASIC = "Basic YW55Ym9keTpzZWNyZXQ="
"""anybody:secret"""


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(access=Access("secret", ("box.lan",))) as found:
        yield found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer secret"}, 200),
        ({"authorization": "Bearer secre"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Token secret"}, 200),
        ({"token": "secret"}, 200),
        ({"token": ""}, 401),
        ({"authorization": BASIC}, 200),
        ({"authorization": "Basic !"}, 401),
        ({"authorization": "Digest secret"}, 401),
    ],
)
def test_tokens(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/metrics", headers=headers).status_code == status


def test_health_needs_no_token(client: TestClient) -> None:
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost", 200),
        ("LocalHost:1", 200),
        ("[::1]:8765", 200),
        ("192.168.0.7", 200),
        ("box.lan:8765", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8765", 421),
        ("127.0.0.1@evil.example", 421),
        ("[", 400),
        ("", 421),
    ],
)
def test_hosts(client: TestClient, host: str, status: int) -> None:
    assert client.get("/health", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8765"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"}, 403),
        (
            {
                "sec-fetch-site": "cross-site",
                "sec-fetch-dest": "document",
                "origin": "http://evil.example",
            },
            403,
        ),
    ],
)
def test_pages_of_other_sites(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/health", headers=headers).status_code == status
