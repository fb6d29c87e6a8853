"""Options that several commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from samrefine_runtime.errors import BundleError

Command = TypeVar("Command", bound=Callable[..., Any])

DEMO_BUNDLE = Path(__file__).parents[1] / "demo_bundle"

Folder = click.Path(file_okay=False, path_type=Path)
ExistingFolder = click.Path(exists=True, file_okay=False, path_type=Path)
ExistingFile = click.Path(exists=True, dir_okay=False, path_type=Path)
ExistingPath = click.Path(exists=True, path_type=Path)


def bundle_path(name: str) -> Path:
    """The folder of a bundle; "demo" is the embedded one."""
    if name != "demo":
        return Path(name)
    if not DEMO_BUNDLE.is_dir():
        raise BundleError("this build of samrefine holds no embedded demo bundle")
    return DEMO_BUNDLE


def bundle_option(required: bool = True) -> Callable[[Command], Command]:
    """--bundle."""
    text = 'Bundle folder made by "export"; "demo" names the embedded one.'
    return click.option("--bundle", metavar="BUNDLE", required=required, help=text)


def session_options(command: Command) -> Command:
    """--backend and --threads, handed on as one dict `session`."""

    @wraps(command)
    def collected(*args: Any, backend: str, threads: int | None, **kwargs: Any) -> Any:
        return command(*args, session={"backend": backend, "threads": threads}, **kwargs)

    decorated: Any = collected
    decorated = click.option(
        "--threads", type=click.IntRange(1), help="CPU threads.  [default: all cores]"
    )(decorated)
    return click.option(  # type: ignore[no-any-return]
        "--backend",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Where the graphs run.",
    )(decorated)


def output_options(command: Command) -> Command:
    """--json, -q, -v."""

    @wraps(command)
    def with_logging(*args: Any, verbose: int, **kwargs: Any) -> Any:
        level = logging.INFO if verbose else logging.WARNING
        logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
        return command(*args, **kwargs)

    decorated: Any = with_logging
    for option in (
        click.option("-v", "--verbose", count=True, help="Say more."),
        click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary."),
        click.option("--json", "as_json", is_flag=True, help="Summary as JSON on stdout."),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def resume_option(command: Command) -> Command:
    """--resume/--overwrite."""
    return click.option(
        "--resume/--overwrite",
        default=False,
        help="Skip inputs whose output exists, or write them again.  [default: --overwrite]",
    )(command)


def cam_options(command: Command) -> Command:
    """What CamSettings takes from the command line, handed on as one dict `cam`."""

    @wraps(command)
    def collected(
        *args: Any,
        background_score: float | None,
        presence_threshold: float | None,
        allow_empty: bool,
        **kwargs: Any,
    ) -> Any:
        cam = {
            "background_score": background_score,
            "presence_threshold": presence_threshold,
            "always_one_class": False if allow_empty else None,
        }
        return command(*args, cam=cam, **kwargs)

    decorated: Any = collected
    for option in (
        click.option("--allow-empty", is_flag=True, help="A photo may hold no class at all."),
        click.option(
            "--presence-threshold", type=float, help="Probability of a predicted class, 0 to 1."
        ),
        click.option(
            "--background-score", type=float, help="What a class's CAM must exceed, 0 to 1."
        ),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


_PROMPTS = {
    "guided": "guided: in or near the pseudo label",
    "hierarchical": "hierarchical: coarsely, then where no mask was found",
    "grid": "grid: every point, as SAM does",
}


def prompts_option(*modes: str) -> Callable[[Command], Command]:
    """--prompts, the first of `modes` being the default."""
    text = "; ".join(_PROMPTS[mode] for mode in modes)
    return click.option(
        "--prompts",
        type=click.Choice(modes),
        default=modes[0],
        show_default=True,
        help=f"Where SAM is asked. {text[0].upper()}{text[1:]}.",
    )


_GENERATOR_OPTIONS: tuple[tuple[str, Any, str], ...] = (
    ("points_per_side", click.IntRange(1), "Point prompts along one side."),
    ("points_per_batch", click.IntRange(1), "Prompts decoded at once; bounds memory."),
    ("memory_mb", click.IntRange(1), "MB for a batch of prompts; sets --points-per-batch."),
    ("pred_iou_thresh", click.FLOAT, "Drop masks of lower predicted IoU."),
    ("stability_score_thresh", click.FLOAT, "Drop masks less stable."),
    ("stability_score_offset", click.FLOAT, "Logits by which stability moves the threshold."),
    ("box_nms_thresh", click.FLOAT, "Box IoU of duplicates."),
    ("crop_n_layers", click.IntRange(0), "Layers of image crops to look at as well."),
    ("crop_nms_thresh", click.FLOAT, "Box IoU of duplicates between crops."),
    ("crop_overlap_ratio", click.FLOAT, "Overlap of crops, of the shorter side."),
    ("crop_n_points_downscale_factor", click.IntRange(1), "Thins the grid a crop layer."),
    ("min_mask_region_area", click.IntRange(0), "Fill holes, drop islands below, pixels."),
)


def generator_options(command: Command) -> Command:
    """SAM's everything-mode parameters as options, handed on as one dict `generator`.

    Options not given are left out, so that the bundle's defaults apply.
    """
    names = [name for name, _, _ in _GENERATOR_OPTIONS]

    @wraps(command)
    def collected(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in names}
        generator = {name: value for name, value in given.items() if value is not None}
        return command(*args, generator=generator, **kwargs)

    decorated: Any = collected
    for name, kind, text in reversed(_GENERATOR_OPTIONS):
        flag = "--" + name.removesuffix("_mb").replace("_", "-")
        decorated = click.option(flag, name, type=kind, help=text)(decorated)
    return decorated  # type: ignore[no-any-return]
