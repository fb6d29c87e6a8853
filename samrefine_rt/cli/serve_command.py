"""`samrefine serve`: a bundle over HTTP."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from typing import Any

import click

from samrefine_rt.cli.bundles import open_bundle, warn
from samrefine_rt.cli.grouped import (
    CAM,
    GENERAL,
    MASKS,
    REFINEMENT,
    RUNNING,
    GroupedCommand,
    option,
)
from samrefine_rt.cli.options import (
    Given,
    bundle_option,
    session_options,
    settings_options,
)
from samrefine_rt.serve.settings import Access, Limits
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.pipeline import PROMPTS
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.sam.settings import GeneratorSettings

_INSTALL = "serving needs starlette: pip install 'samrefine-rt[serve]'"


@click.command(cls=GroupedCommand)
@bundle_option()
@option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port to listen on; 0 for any free one.",
)
@option(
    "--token",
    envvar="SAMREFINE_TOKEN",
    metavar="TEXT",
    help="What requests must present; better in the environment as SAMREFINE_TOKEN.",
)
@option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Name by which the server is called, beside localhost and addresses; more than once.",
)
@settings_options(Limits, "limits", RUNNING)
@settings_options(RefineSettings, "refinement", REFINEMENT, without=("num_classes",))
@settings_options(CamSettings, "cam", CAM, shows_defaults=False)
@settings_options(
    GeneratorSettings, "generator", MASKS, defaults={"prompts": PROMPTS}, shows_defaults=False
)
@session_options
@option("-v", "--verbose", count=True, group=GENERAL, help="Log every request.")
def serve(
    bundle: str,
    host: str,
    port: int,
    token: str | None,
    hosts: tuple[str, ...],
    limits: Given[Limits],
    refinement: Given[RefineSettings],
    cam: Given[CamSettings],
    generator: Given[GeneratorSettings],
    session: SessionOptions,
    verbose: int,
) -> None:
    """Serve a bundle over HTTP: labels, masks, prompts and refinement.

    One process without torch, on this machine alone unless told otherwise, until Ctrl-C or SIGTERM.
    Logs are JSON on stderr; /openapi.json describes the API.
    """
    try:
        from samrefine_rt.serve.app import create_app
        from samrefine_rt.serve.engine import Engine
        from samrefine_rt.serve.logs import log_as_json
        from samrefine_rt.serve.server import bind
        from samrefine_rt.serve.server import serve as run
        from samrefine_rt.serve.service import Service
    except ModuleNotFoundError as error:
        raise SettingsError(f"{_INSTALL} ({error.name} is missing)") from error
    # What can be wrong first: a bundle takes seconds to load
    access = Access(token or None, (host, *hosts))
    _warn_of_strangers(host, token)
    taken = bind(host, port)
    settings: Mapping[str, Any] = {
        "generator": generator.values,
        "cam": cam.values,
        "refinement": refinement.values,
    }
    loaded = open_bundle(bundle)
    engine = Engine(loaded, limits.settings(), session=session, **settings)
    log_as_json(logging.INFO if verbose else logging.WARNING)
    address = f"http://{_shown(host)}:{taken.getsockname()[1]}"
    run(
        create_app(Service(engine), access),
        taken,
        lambda: click.echo(f"serving {engine.name} on {address}"),
    )


def _warn_of_strangers(host: str, token: str | None) -> None:
    """Say so where others than the users of this machine are served without a token."""
    if not token and not _is_loopback(host):
        warn(f"anybody who reaches {host} is served; --token lets only those who know it")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
