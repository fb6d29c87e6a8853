"""Wire formats: one file each, one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.routing import Route

from samrefine_rt.serve.service import Service
from samrefine_runtime.registry import Registry

Api = Callable[[Service], Sequence[Route]]
"""Returns the routes of a wire format."""

APIS: Registry[Api] = Registry(
    "wire format",
    {
        "health": "samrefine_rt.serve.apis.health:routes",
        "own": "samrefine_rt.serve.apis.own:routes",
    },
)
