"""`python -m samrefine_export.demo`: trains and measures the embedded demo networks."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import click
import cv2
import torch

from samrefine_export.demo.bundle import write_demo_bundle
from samrefine_export.demo.evaluate import classifier_accuracy, held_out_scenes, point_iou
from samrefine_export.demo.measure import measure_labels
from samrefine_export.demo.model import CAM_SIZE, IMAGE_SIZE, build_demo_classifier, build_demo_sam
from samrefine_export.demo.pictures import DEMO_SCENES, write_demo_images
from samrefine_export.demo.pool import SHARD, pool
from samrefine_export.demo.run import save_atomically
from samrefine_export.demo.scenes import CLASSES
from samrefine_export.demo.train_cam import CamConfig, train_cam
from samrefine_export.demo.train_sam import SamConfig, train_sam
from samrefine_runtime.bundle import EMBEDDED, Bundle
from samrefine_runtime.sam.prompts import PromptMode

Folder = click.Path(path_type=Path, file_okay=False)


@click.group()
def main() -> None:
    """Train, measure and export the demo networks, which see procedural images only."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--seed", default=SamConfig.seed, show_default=True)
@click.option(
    "--steps",
    nargs=len(SamConfig.stages),
    type=int,
    default=[s.steps for s in SamConfig.stages],
    show_default=True,
    help="SAM: at 96 pixels, at 128, and in stages at 192.",
)
@click.option(
    "--cam-steps",
    nargs=3,
    type=int,
    default=CamConfig.cycles,
    show_default=True,
    help="Classifier, twice at 128 pixels, then at 192.",
)
@click.option(
    "--shards", default=48, show_default=True, help=f"Scenes to paint, in lots of {SHARD}."
)
@click.option("--threads", default=2, show_default=True)
@click.option("--resume", is_flag=True, help="Continue from the checkpoints in --out.")
def train(
    out: Path,
    seed: int,
    steps: tuple[int, ...],
    cam_steps: tuple[int, int, int],
    shards: int,
    threads: int,
    resume: bool,
) -> None:
    """Train both networks and write demo_sam.pt and demo_cam.pt into --out."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    data = pool(out / "pool", shards)
    common: dict[str, Any] = {"resume": resume, "report": click.echo}
    cam_config = CamConfig(seed=seed, cycles=cam_steps)
    cam = train_cam(cam_config, data, out / "cam.checkpoint.pt", **common)
    about = {"classes": CLASSES, "config": asdict(cam_config), "image_size": CAM_SIZE,
             "pool_scenes": len(data.image), "scenes_seen": cam.step * cam_config.images,
             "seconds": round(cam.seconds)}  # fmt: skip
    save_atomically({"state_dict": cam.average.state_dict(), "about": about}, out / "demo_cam.pt")
    stages = tuple(replace(s, steps=n) for s, n in zip(SamConfig.stages, steps, strict=True))
    config = SamConfig(seed=seed, stages=stages)
    sam = train_sam(config, data, out / "sam.checkpoint.pt", **common)
    about = {"config": asdict(config), "image_size": IMAGE_SIZE, "pool_scenes": len(data.image),
             "scenes_seen": sam.scenes, "seconds": round(sam.seconds)}  # fmt: skip
    save_atomically({"state_dict": sam.sam.state_dict(), "about": about}, out / "demo_sam.pt")


@main.command()
@click.option(
    "--weights",
    type=Folder,
    required=True,
    help="The --out of train.",
)
@click.option("--scenes", default=200, show_default=True)
def evaluate(weights: Path, scenes: int) -> None:
    """Measure the IoU of point prompts and the classifier's accuracy on held-out scenes."""
    held_out = held_out_scenes(scenes)
    sam, cam = build_demo_sam(), build_demo_classifier()
    sam.load_state_dict(torch.load(weights / "demo_sam.pt", weights_only=True)["state_dict"])
    cam.load_state_dict(torch.load(weights / "demo_cam.pt", weights_only=True)["state_dict"])
    found = point_iou(sam, held_out)
    click.echo(f"one point a region, best of three masks: mean IoU of {found.count} regions")
    click.echo(f"  all {found.regions:.3f}, class-bearing objects {found.objects:.3f}")
    click.echo(f"  predicted IoU off by {found.predicted_error:.3f}")
    click.echo(f"classifier: {classifier_accuracy(cam, held_out):.3f} of presences right")


@main.command()
@click.option("--weights", type=Folder, required=True, help="The --out of train.")
@click.option("--out", type=Folder, default=EMBEDDED["demo"])
@click.option("--images", type=Folder, default=Path("samrefine_rt/demo_images"), show_default=True)
def export(weights: Path, out: Path, images: Path) -> None:
    """Write the bundle and the images that the wheel carries."""
    write_demo_bundle(weights, out)
    write_demo_images(images, DEMO_SCENES)


@main.command()
@click.option("--bundle", default="demo", show_default=True)
@click.option("--scenes", default=200, show_default=True)
def measure(bundle: str, scenes: int) -> None:
    """Measure labels of held-out scenes by the runtime: CAM, and refined in every prompt mode."""
    held_out = held_out_scenes(scenes)
    for prompts in get_args(PromptMode):
        found = measure_labels(Bundle.load(bundle), held_out, prompts=prompts)
        click.echo(
            f"{prompts}: CAM {100 * found.pseudo.miou:.2f}, "
            f"refined {100 * found.refined.miou:.2f}, gain {100 * found.gain:+.2f} mIoU; "
            f"{found.prompts:.0f} prompts and {found.seconds:.2f} s a scene"
        )


if __name__ == "__main__":
    main()
