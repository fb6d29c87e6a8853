"""Who may ask: no page of another site, no name bent to this address, nobody without the token.

A browser on this machine reaches a server on loopback too, and so does every page in it. Such a
page can make the browser send requests (cross-site requests), and can point a name of its own at
127.0.0.1 to read the answers as well (DNS rebinding); its requests then carry its own name as Host.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from samrefine_rt.serve.errors import RequestError, invalid
from samrefine_rt.serve.settings import Access

_OPEN = "/health"
"""What needs no token, so that tools can see that the server is there."""

_FOREIGN = ("cross-site", "same-site")
"""Values of Sec-Fetch-Site, which browsers send, for requests of pages of other origins."""


class Guard:
    """Lets through what may ask, and refuses the rest before anything of it is read."""

    def __init__(self, app: ASGIApp, access: Access):
        self.app = app
        self._token = None if access.token is None else access.token.encode()
        self._hosts = {"localhost", *(host.lower() for host in access.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request. Raises RequestError."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            self._check_host(headers)
            _check_origin(headers)
            if scope["path"] != _OPEN:
                self._check_token(headers)
        await self.app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        name = _name_in(headers.get("host", ""))
        # An address cannot be bent: only names are resolved
        if not (name in self._hosts or _is_address(name)):
            raise RequestError(
                421, "UNKNOWN_HOST", f"not the host {name!r}; --allow-host accepts a name"
            )

    def _check_token(self, headers: Headers) -> None:
        if self._token is None:
            return
        if not any(hmac.compare_digest(each, self._token) for each in _tokens(headers)):
            challenge = {"WWW-Authenticate": 'Basic realm="samrefine", charset="UTF-8"'}
            raise RequestError(401, "WRONG_TOKEN", "the token is missing or wrong", challenge)


def _name_in(host: str) -> str:
    """Return the name of a Host header, without its port. Raises RequestError if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        raise invalid("the Host header is not a name or an address") from None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(headers: Headers) -> None:
    """Raise RequestError for what a page of another origin makes a browser send.

    A link that a person follows is no such thing: its page is shown, and nothing can read it.
    """
    origin = headers.get("origin")
    is_link = headers.get("sec-fetch-dest") == "document" and origin is None
    is_foreign = headers.get("sec-fetch-site") in _FOREIGN and not is_link
    if is_foreign or (origin is not None and not _is_same(origin, headers.get("host", ""))):
        raise RequestError(403, "CROSS_SITE", "requests of other sites' pages are refused")


def _is_same(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _tokens(headers: Headers) -> list[bytes]:
    """Return what a request presents as token, in the ways of the tools.

    Bearer is the usual one, a password with any user is Label Studio's, the header Token is
    X-AnyLabeling's.
    """
    kind, _, value = headers.get("authorization", "").partition(" ")
    found = [headers.get("token", "").encode()]
    if kind.lower() in ("bearer", "token"):
        found.append(value.strip().encode())
    elif kind.lower() == "basic":
        with suppress(binascii.Error, ValueError):
            found.append(base64.b64decode(value, validate=True).partition(b":")[2])
    return found
