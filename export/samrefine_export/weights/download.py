"""Moves a file by HTTP into a partial file, and goes on where an earlier transfer ended.

urllib3 does the transfer: it brings pooling, TLS, redirects, time limits and retries, needs no
other package, and whoever has requests has it already. requests adds three packages for sessions
and cookies; httpx has no retries; pooch does not resume; fsspec needs aiohttp for HTTP;
huggingface_hub knows one host. What none of them does for a file on disk is here: resuming by
range and validator.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError
from urllib3.util import Retry, Timeout, make_headers, parse_url

from samrefine_export.errors import DownloadError, first_line
from samrefine_export.weights.partial import Partial
from samrefine_export.weights.registry import Weights
from samrefine_runtime.arguments import Progress
from samrefine_runtime.errors import StorageError, printable

_PIECE_BYTES = 1 << 16
"""A kill loses at most as much."""
_SPARE_BYTES = 64 << 20
"""Left free on the disk beside the file."""
_BUSY = (408, 429, 500, 502, 503, 504)
"""Statuses that pass by themselves."""
_REDIRECTS = 10
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


@dataclass(frozen=True)
class Patience:
    """How long a transfer waits for a server."""

    connect: float = 10.0
    """Seconds until a connection stands."""
    read: float = 30.0
    """Seconds without a byte."""
    retries: int = 5
    """Failures in a row; whatever comes in between starts the count anew."""
    pause: float = 1.0
    """Seconds before the second retry, doubled with each further one."""

    def policy(self) -> Retry:
        """Return it as urllib3's policy."""
        return Retry(
            total=self.retries,
            # No network is no passing state: say so after seconds
            connect=min(2, self.retries),
            redirect=_REDIRECTS,
            status_forcelist=_BUSY,
            backoff_factor=self.pause,
            # A server may ask for hours
            respect_retry_after_header=False,
        )


def download(
    weights: Weights, url: str, part: Partial, patience: Patience, progress: Progress
) -> None:
    """Bring `part` to its full length; its content is not checked.

    Args:
        weights: what is published at the URL.
        url: theirs, or a mirror's.
        part: what has come before; continued if the server still has the same version.
        patience: how long to wait, how often to try.
        progress: called with bytes that have come, and bytes in all or 0 if that is unknown.

    Raises:
        DownloadError: no connection, a refusal, or something other than these weights.
        OutputError: the file cannot be written.
    """
    try:
        pool, policy = _pool(url, patience), patience.policy()
        while True:
            before = part.size
            try:
                return _attempt(pool, policy, weights, url, part, progress)
            except MaxRetryError:
                raise
            except HTTPError as error:
                # The connection broke: what came before is kept
                policy = patience.policy() if part.size > before else policy
                policy = policy.increment("GET", url, error=error)
                policy.sleep()
    except (HTTPError, ValueError) as error:  # ValueError: a proxy's URL that is none
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        raise DownloadError(f"no answer from {shown(url)} ({_plain(reason)})") from error


def _attempt(
    pool: urllib3.PoolManager,
    policy: Retry,
    weights: Weights,
    url: str,
    part: Partial,
    progress: Progress,
) -> None:
    """Ask for what is missing and append what comes."""
    with _response(pool, policy, url, _resuming(weights, url, part)) as response:
        total = _accept(response, weights, url, part)
        if response.status == 416:  # nothing is missing
            return
        _check_space(part, total)
        for piece in response.stream(_PIECE_BYTES, decode_content=False):
            part.append(piece)
            progress(part.size, total or 0)


def _resuming(weights: Weights, url: str, part: Partial) -> dict[str, str]:
    """Return the headers that ask for the rest of a file; none to ask for all of it."""
    validator = part.validator(url)
    # Without a validator only a sha256 would tell that the rest is of another version
    if validator is None or not (validator or weights.sha256):
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    return {**headers, "If-Range": validator} if validator else headers


@contextmanager
def _response(
    pool: urllib3.PoolManager, policy: Retry, url: str, headers: dict[str, str]
) -> Iterator[urllib3.BaseHTTPResponse]:
    """Send a request; the connection is closed afterwards."""
    user = parse_url(url).auth
    given = {**headers, **(make_headers(basic_auth=user) if user else {})}
    response = pool.request("GET", shown(url), headers=given, preload_content=False, retries=policy)
    try:
        yield response
    finally:
        response.close()


def _accept(
    response: urllib3.BaseHTTPResponse, weights: Weights, url: str, part: Partial
) -> int | None:
    """Prepare `part` for the bytes of a response; return the length of the whole file if known.

    Raises:
        DownloadError: the server refuses, or has something other than these weights.
        ProtocolError: it answers with another part than was asked for: the file starts anew.
    """
    _check_answer(response, url)
    begin, length = _range_of(response)
    if response.status != 200 and begin != part.size:
        part.discard()
        raise ProtocolError("the server answered with another part than was asked for")
    if weights.size is not None and length not in (None, weights.size):
        raise DownloadError(
            f"{shown(url)} has {length} bytes, expected {weights.size}: another file is there"
        )
    if response.status == 200:
        part.begin(url, _validator(response))
    return length


def _check_answer(response: urllib3.BaseHTTPResponse, url: str) -> None:
    """Raise DownloadError unless a response is a file, or says that none of it is missing."""
    if response.status not in (200, 206, 416):
        reason = printable(response.reason or "")
        raise DownloadError(f"{shown(url)} answers {response.status} {reason}".rstrip())
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError(
            f"{shown(url)} answers with a web page, not a file: does a login page or a proxy come "
            "between?"
        )
    steps = response.retries.history if response.retries is not None else ()
    if url.startswith("https:") and any(
        (step.redirect_location or "").startswith("http:") for step in steps
    ):
        raise DownloadError(f"{shown(url)} leads to an address without https")


def _range_of(response: urllib3.BaseHTTPResponse) -> tuple[int, int | None]:
    """Return where a response's bytes begin, and the length of the whole file if known."""
    if response.status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isascii() and length.isdigit() else None
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None:
        return -1, None
    # 416 says the length alone: what has come is whole if it is as long
    return int(found[1] or found[2]), int(found[2])


def _validator(response: urllib3.BaseHTTPResponse) -> str:
    """Return what If-Range may name this version by: a strong ETag, else the date; "" for none."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _check_space(part: Partial, total: int | None) -> None:
    """Raise StorageError if the disk has no room for the rest of a file."""
    missing = (total or 0) - part.size
    free = shutil.disk_usage(part.path.parent).free
    if free < missing + _SPARE_BYTES:
        raise StorageError(
            f"{part.path.parent} has {free / 1e6:.0f} MB free, {part.target.name} needs "
            f"{missing / 1e6:.0f} MB more: SAMREFINE_CACHE names another folder"
        )


def _pool(url: str, patience: Patience) -> urllib3.PoolManager:
    """Return a pool of connections, through the proxy that the environment names for a URL."""
    limits = Timeout(connect=patience.connect, read=patience.read)
    parts = urlsplit(shown(url))
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return urllib3.PoolManager(timeout=limits)
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    user = parse_url(proxy).auth
    headers = make_headers(proxy_basic_auth=user) if user else None
    return urllib3.ProxyManager(shown(proxy), proxy_headers=headers, timeout=limits)


def shown(url: str) -> str:
    """Return a URL without the user and password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _plain(error: Exception) -> str:
    """Return what an error says, without what urllib3 puts before and after it."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else first_line(error)
    return printable(re.sub(r"^(<.*?>|\w+\(.*?\)): ", "", text))
