"""Answers of servers that are not believed; transfers are tested in test_pull."""

from __future__ import annotations

import pytest
from urllib3 import HTTPResponse
from urllib3.util.retry import RequestHistory, Retry

from samrefine_export.errors import DownloadError
from samrefine_export.weights.download import _check_answer

HTTPS, HTTP = "https://weights.example/model.pth", "http://weights.example/model.pth"


def answer(*places: str) -> HTTPResponse:
    """An answer that redirects led to."""
    steps = tuple(RequestHistory("GET", HTTPS, None, 302, place) for place in places)
    return HTTPResponse(status=200, retries=Retry(history=steps))


def test_no_redirect_leads_out_of_https() -> None:
    _check_answer(answer(HTTPS), HTTPS)
    _check_answer(answer(HTTP), HTTP)
    for places in ((HTTP,), (HTTP, HTTPS), (HTTPS, HTTP)):
        with pytest.raises(DownloadError, match="leads to an address without https"):
            _check_answer(answer(*places), HTTPS)
