"""Exports a CAM classifier into a bundle: graph `cam`, and the manifest section of that name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from samrefine_export.bundle_writer import BundleWriter
from samrefine_export.cam.archs import build_network
from samrefine_export.cam.networks import CamNetwork
from samrefine_export.checkpoints import SEED, read_checkpoint
from samrefine_export.errors import CheckpointError, ExportError
from samrefine_export.graph import write_half
from samrefine_export.precision import Precisions
from samrefine_export.weights import checkpoint_path
from samrefine_runtime.bundle import sha256_of
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.class_names import classes_of
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.settings import Domain, settings_of

OPSET = 18
"""Operator set of the graph."""

ROUNDING = 1e-5
"""Difference that sums in another order make in a last layer, relative to the largest value."""

AMPLIFICATION = 8
"""How much more rounding in all layers may change than rounding of the image alone; twice is what
ResNets show."""

MOST = 1e-2
"""Difference that no rounding excuses, relative to the largest value."""

_OWN = ("fp32",)
"""What the graph itself is written in: int8 ruins what class activation maps are made of."""

_TEXT, _OPTIONAL_TEXT = Domain(str), Domain(str, is_optional=True)
_STRIDE = Domain(int, 1, 1, is_optional=True)

_CALIBRATED = (4, 3, 96, 96)
"""(B, 3, H, W) of the noise that random networks are calibrated with."""

_TRACED = (2, 3, 96, 128)
"""(B, 3, H, W) of the image that the graph is traced with."""

_CHECKED = ((1, 3, 97, 65), (3, 3, 64, 112))
"""(B, 3, H, W) of the images that the graph is checked with: other batches and sides."""


def export_cam(
    arch: str,
    checkpoint: StrPath | None,
    classes: StrPath | Sequence[str],
    out: StrPath,
    *,
    random_weights: int | None = None,
    recam_predictor: StrPath | None = None,
    last_stride: int | None = None,
    precision: str | Sequence[str] = "fp32",
    name: str | None = None,
) -> None:
    """Add a CAM classifier to the bundle `out`, new or existing, replacing any it has.

    Args:
        arch: irn_resnet50 (IRN's and ReCAM's `res50_cam`); resnet18, 34, 50, 101 or 152 of
            torchvision; timm:NAME; or MODULE:FACTORY, a function that returns a `CamNetwork`.
        checkpoint: its weights, or the name of pulled ones; None with `random_weights`, or where a
            factory loads its own.
        classes: the foreground classes in the order of the weights, or a file of them
            (`class_names.read_classes`).
        out: the bundle folder.
        random_weights: seed of random weights, for trying things out; the manifest records it.
        recam_predictor: ReCAM's `recam_predictor` checkpoint, which belongs to a ReCAM
            `checkpoint`: the maps are then weighted by both classifiers.
        last_stride: 1 sets the stride of a ResNet's last stage to 1, which doubles the resolution
            of the maps and changes the logits; None keeps the network as it was trained.
        precision: "fp32", and "fp16" or "bf16" for further graphs in these.
        name: the bundle's name, by default that of its folder.

    Raises:
        SettingsError: unknown architecture, contradicting arguments, an argument of another type,
            an unusable class list.
        CheckpointError: unreadable weights, or weights of another network or of other classes.
        ExportError: the network has no class activation maps, or its graph differs from torch.
        BundleError: `out` holds something other than a sound bundle.
    """
    _TEXT.check("arch", arch)
    for file, what in ((checkpoint, "checkpoint"), (recam_predictor, "recam_predictor")):
        if file is not None:
            as_path(file, what, CheckpointError)
    _check_target(out, random_weights, name)
    _STRIDE.check("last_stride", last_stride)
    Precisions.of(precision, _OWN)
    names = classes_of(classes)
    _check_weights_source(arch, checkpoint, random_weights)
    weights = None if checkpoint is None else checkpoint_path(checkpoint)
    second = (
        None if recam_predictor is None else checkpoint_path(recam_predictor, "recam_predictor")
    )
    state, recam_state = (
        None if path is None else read_checkpoint(path) for path in (weights, second)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_weights or 0)
        network = build_network(
            arch,
            len(names),
            state,
            recam_state=recam_state,
            last_stride=last_stride,
            what=str(checkpoint),
        )
        if random_weights is not None:
            calibrate(network.module)
    export_cam_network(
        network,
        names,
        out,
        arch=arch,
        checkpoint_sha256=None if weights is None else sha256_of(weights),
        random_weights=random_weights,
        precision=precision,
        name=name,
    )


def export_cam_network(
    network: CamNetwork,
    classes: StrPath | Sequence[str],
    out: StrPath,
    *,
    arch: str = "custom",
    checkpoint_sha256: str | None = None,
    random_weights: int | None = None,
    defaults: Mapping[str, Any] | None = None,
    precision: str | Sequence[str] = "fp32",
    name: str | None = None,
) -> None:
    """Add a custom network to the bundle `out`; `export_cam` ends here too.

    The graph is run in ONNX Runtime at sizes it was not traced at and compared with torch.

    Args:
        network: the network with its weights.
        classes: the foreground classes, or a file of them.
        out: the bundle folder, new or existing.
        arch: what the manifest calls the network.
        checkpoint_sha256: hex digest of the file the weights came from, for the manifest.
        random_weights: the seed if the weights are random, for the manifest.
        defaults: the runtime's settings for this network, by `CamSettings` field.
        precision: see `export_cam`.
        name: the bundle's name, by default that of its folder.

    Raises:
        SettingsError: an unusable class list, an argument of another type, or defaults that are no
            settings.
        ExportError: maps or logits of an unexpected shape, or a graph that differs from torch by
            more than rounding, see `allowed_difference`.
        BundleError: `out` holds something other than a sound bundle.
    """
    if not isinstance(network, CamNetwork):
        raise SettingsError(f"network is {described(network)}, expected a CamNetwork")
    _TEXT.check("arch", arch)
    _OPTIONAL_TEXT.check("checkpoint_sha256", checkpoint_sha256)
    _check_target(out, random_weights, name)
    if defaults is not None:
        _check_defaults(defaults)
    halves = Precisions.of(precision, _OWN).halves
    names = classes_of(classes)
    module = _MapsAndLogits(network).eval()
    check_outputs(module, network, len(names))
    section: dict[str, Any] = {
        "arch": arch,
        "classes": list(names),
        "mean": list(network.mean),
        "std": list(network.std),
        "stride": network.stride,
        "has_background": network.has_background,
        "checkpoint_sha256": checkpoint_sha256,
    }
    if random_weights is not None:
        section["random_weights"] = random_weights
    if defaults:
        section["defaults"] = dict(defaults)
    with BundleWriter(Path(out), name) as writer:
        graph = writer.staging / "cam.onnx"
        write_graph(module, graph)
        check_graph(module, graph)
        writer.add_graph("cam", graph)
        for half in halves:
            writer.add_graph(f"cam.{half}", write_half(graph, half, module))
        writer.set("cam", section)


class _MapsAndLogits(nn.Module):
    """A CamNetwork's forward with the logits filled in where it returns maps only."""

    def __init__(self, network: CamNetwork) -> None:
        super().__init__()
        self.module = network.module
        self.first_class = int(network.has_background)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        output = self.module(image)
        if isinstance(output, Tensor):
            return output, output[:, self.first_class :].mean((2, 3))
        maps, logits = output
        return maps, logits


@torch.no_grad()
def calibrate(module: nn.Module) -> None:
    """Give the batch norms of a randomly initialised network the statistics of its activations.

    Without it, activations grow with depth until every class of random weights saturates.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches, so the one batch counts fully
        norm.train()
    module(torch.randn(_CALIBRATED))
    module.eval()


@torch.no_grad()
def check_outputs(module: nn.Module, network: CamNetwork, classes: int) -> None:
    """Raise ExportError unless maps and logits have the shapes that `network` promises."""
    batch, _, height, width = _CHECKED[0]
    try:
        maps, logits = module(torch.zeros(_CHECKED[0]))
    except Exception as error:  # users' networks raise anything
        raise ExportError(
            f"the network fails on an image of {height} x {width}: {error}"
        ) from error
    # Check batch and classes of the maps, then of the logits
    expected = (batch, classes + network.has_background)
    if maps.ndim != 4 or tuple(maps.shape[:2]) != expected:
        wanted = f"{classes} classes" + (" and a background" if network.has_background else "")
        raise ExportError(
            f"the maps are {tuple(maps.shape)}, expected {(*expected, 'h', 'w')} for {wanted}"
        )
    if tuple(logits.shape) != (batch, classes):
        raise ExportError(f"the logits are {tuple(logits.shape)}, expected {(batch, classes)}")
    # Check the stride; networks round a side up or down
    for side, actual in zip((height, width), maps.shape[2:], strict=True):
        if abs(actual - side / network.stride) > 1:
            raise ExportError(
                f"an image of {height} x {width} makes maps of {tuple(maps.shape[2:])}, "
                f"which is not stride {network.stride}"
            )


def write_graph(module: nn.Module, path: Path) -> None:
    """Trace a module (image -> maps, logits) into an ONNX file with dynamic batch and sides.

    The TorchScript exporter keeps the sides dynamic in every network that has no arithmetic on
    them, folds batch norms into convolutions, and takes a tenth of the newer one's time.
    """
    with warnings.catch_warnings():
        # Tracing warns of all that may depend on the example; `check_graph` finds what does
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(_TRACED),),
            str(path),
            input_names=["image"],
            output_names=["cam", "logits"],
            dynamic_axes={
                "image": {0: "batch", 2: "height", 3: "width"},
                "cam": {0: "batch", 2: "cam_height", 3: "cam_width"},
                "logits": {0: "batch"},
            },
            opset_version=OPSET,
            dynamo=False,
        )


@torch.no_grad()
def check_graph(module: nn.Module, path: Path) -> None:
    """Raise ExportError unless the graph equals `module`, at sizes it was not traced at."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in _CHECKED:
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        sides = f"{shape[2]} x {shape[3]}"
        try:
            outputs = session.run(None, {"image": image.numpy()})
        except Exception as error:  # ONNX Runtime's error types are not public
            raise ExportError(f"the graph fails on an image of {sides}: {error}") from error
        expected = [output.numpy() for output in module(image)]
        allowed = allowed_difference(module, image, expected)
        for what, mine, theirs in zip(("maps", "logits"), outputs, expected, strict=True):
            off = relative_difference(mine, theirs)
            if not off <= allowed:
                raise ExportError(
                    f"the graph's {what} differ from torch by {off:.1e} of their scale for an "
                    f"image of {sides}, expected at most {allowed:.1e}; the network computes with "
                    "the image's size, or overflows"
                )


@torch.no_grad()
def allowed_difference(
    module: nn.Module, image: Tensor, outputs: Sequence[np.ndarray[Any, Any]]
) -> float:
    """Measure how far rounding may take the graph from torch, relative to the largest value.

    Deep networks amplify rounding, each to a degree of its own. How much shows when the image
    itself is rounded otherwise, by one unit in the last place; all layers round, so a multiple of
    it is allowed. Where it shows nothing, rounding of the last layer remains.

    Args:
        module: image -> maps, logits.
        image: (B, 3, H, W).
        outputs: what `module` gives for the image.
    """
    signs = torch.randint(2, image.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    moved = module(image * (1 + signs * torch.finfo(image.dtype).eps))
    changes = (relative_difference(a.numpy(), b) for a, b in zip(moved, outputs, strict=True))
    return min(max(ROUNDING, AMPLIFICATION * max(changes)), MOST)


def relative_difference(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Return the largest difference over the largest expected value; inf if the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-12))


def _check_target(out: StrPath, random_weights: int | None, name: str | None) -> None:
    as_path(out, "out")
    SEED.check("random_weights", random_weights)
    _OPTIONAL_TEXT.check("name", name)


def _check_defaults(defaults: Mapping[str, Any]) -> None:
    if not isinstance(defaults, Mapping):
        raise SettingsError(
            f"defaults is {described(defaults)}, expected a dict of fields of CamSettings"
        )
    settings_of(CamSettings, defaults)


def _check_weights_source(
    arch: str, checkpoint: StrPath | None, random_weights: int | None
) -> None:
    if checkpoint is not None and random_weights is not None:
        raise SettingsError("give either a checkpoint or random_weights, not both")
    # A factory may load its own weights
    is_custom = ":" in arch and not arch.startswith("timm:")
    if checkpoint is None and random_weights is None and not is_custom:
        raise SettingsError(f"{arch} needs a checkpoint, or a seed as random_weights")
