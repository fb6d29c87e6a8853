"""The trained demo networks as the bundle that the wheel carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from samrefine_export.bundle_writer import BundleWriter
from samrefine_export.cam import CamNetwork, export_cam_network
from samrefine_export.demo.model import STRIDE, build_demo_classifier, build_demo_sam
from samrefine_export.demo.scenes import CLASSES
from samrefine_export.sam import export_sam_module

GENERATOR_DEFAULTS: dict[str, Any] = {
    "points_per_side": 24,
    "points_per_batch": 16,
    "pred_iou_thresh": 0.6,
    "stability_score_thresh": 0.6,
    "stability_score_offset": 0.3,
    "box_nms_thresh": 0.7,
}
"""For a small model with soft edges, chosen on scenes neither trained on nor held out."""

CAM_DEFAULTS: dict[str, Any] = {
    "scales": [0.625, 0.875, 1.125],
    "background_score": 0.25,
    "max_side": 256,
}
"""The classifier learnt on crops of 128 and 192 pixels."""

REFINE_DEFAULTS: dict[str, Any] = {"max_area_ratio": 8}
"""Keeps a background mask from flooding a class. It changes nothing on drawn scenes."""

CAUTION = (
    "trained on drawn scenes only: its masks of real images are rarely trusted and mostly left "
    "out; use a SAM checkpoint for them (samrefine export sam)"
)


def write_demo_bundle(weights: Path, out: Path) -> None:
    """Export `demo_sam.pt` and `demo_cam.pt` of the folder `weights` into the bundle `out`."""
    sam, about = build_demo_sam(), _load(weights / "demo_sam.pt")
    sam.load_state_dict(about.pop("state_dict"))
    trained = {"trained_by": "python -m samrefine_export.demo train", **about["about"]}
    defaults = {**GENERATOR_DEFAULTS, **REFINE_DEFAULTS}
    export_sam_module(sam, out, arch="demo", source={"training": trained}, defaults=defaults)
    classifier, about = build_demo_classifier(), _load(weights / "demo_cam.pt")
    classifier.load_state_dict(about.pop("state_dict"))
    network = CamNetwork(classifier.eval(), stride=STRIDE)
    export_cam_network(network, list(CLASSES), out, arch="demo", defaults=CAM_DEFAULTS, name="demo")
    with BundleWriter(out) as writer:
        writer.set("caution", CAUTION)


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content
