"""What the graphs of a bundle take and give, by their names: the table of docs/bundle.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from samrefine_runtime.bundle.parts import CamSpec, Graph, SamSpec, TensorSpec
from samrefine_runtime.errors import BundleError, printable


class Role(NamedTuple):
    """The tensors of a graph. A text in a shape stands for any length."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]


def check_roles(graphs: Mapping[str, Graph], sam: SamSpec | None, cam: CamSpec | None) -> None:
    """Check that graphs take what the runtime feeds and give what it needs.

    Graphs of other names are not looked at.

    Raises:
        BundleError: a tensor is missing, or has another dtype or shape.
    """
    roles: dict[str, Role] = {}
    if sam is not None:
        roles |= {**_sam_roles(sam), **_everything_roles(sam, graphs)}
    if cam is not None:
        roles |= {"cam": _cam_role(cam)}
    for name, role in roles.items():
        if name in graphs:
            _check_role(graphs[name], role)


def _sam_roles(sam: SamSpec) -> dict[str, Role]:
    side, low_res = sam.input_side, sam.low_res_shape
    embedding = _floats("image_embeddings", 1, *sam.embedding)
    prompts = (
        _floats("point_coords", "N", "P", 2),
        _floats("point_labels", "N", "P"),
        _floats("mask_input", "N", 1, *low_res),
        _floats("has_mask_input", "N"),
    )
    masks = (_floats("low_res_masks", "N", 4, *low_res), _floats("iou_predictions", "N", 4))
    return {
        "encoder": Role([_floats("image", 1, 3, side, side)], [embedding]),
        "decoder": Role([embedding, *prompts], masks),
    }


def _everything_roles(sam: SamSpec, graphs: Mapping[str, Graph]) -> dict[str, Role]:
    """Return the roles of everything mode's graphs; what one gives, another takes."""
    channels, height, width = sam.embedding
    upscaling = _floats("upscaling", height * width, channels)
    views = (
        _floats("scale", "N", 1, height * width),
        _floats("weights", "N", "R", height * width),
        _floats("basis", "N", "R", channels),
        _floats("mask_weights", "N", 3, "c"),
    )
    low_res = _floats("low_res_masks", "S", *sam.low_res_shape)
    rows, columns = (
        _floats(name, name[0], side)
        for name, side in zip(("rows", "columns"), sam.low_res_shape, strict=True)
    )
    # The rest of what the image's graph gives, and how large views are, is up to the graphs
    shared = _outputs(graphs, "everything_image")
    made = _outputs(graphs, "everything_tokens")
    return {
        "everything_image": Role([_floats("image_embeddings", 1, *sam.embedding)], [upscaling]),
        "everything_tokens": Role(
            [_floats("point_coords", "N", 2), *(t for t in shared if t.name != upscaling.name)],
            [*views, _floats("iou_predictions", "N", 3)],
        ),
        "everything_masks": Role(
            [
                *(t for t in made if t.name in {view.name for view in views}),
                upscaling,
                TensorSpec("prompt", "int64", ("K",)),
                TensorSpec("mask", "int64", ("S",)),
            ],
            [low_res],
        ),
        "everything_finish": Role(
            [low_res, rows, columns, _floats("thresholds", 3)],
            [
                TensorSpec("pixel_counts", "int32", ("S", 3)),
                TensorSpec("boxes", "int32", ("S", 4)),
                TensorSpec("mask_bits", "uint8", ("S", "H", "B")),
            ],
        ),
    }


def _outputs(graphs: Mapping[str, Graph], name: str) -> Sequence[TensorSpec]:
    """Return what a graph gives, nothing where the bundle lacks it."""
    return graphs[name].outputs if name in graphs else ()


def _cam_role(cam: CamSpec) -> Role:
    classes = len(cam.classes)
    maps = _floats("cam", "B", classes + cam.has_background, "h", "w")
    return Role([_floats("image", "B", 3, "H", "W")], [maps, _floats("logits", "B", classes)])


def _floats(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, "float32", shape)


def _check_role(graph: Graph, role: Role) -> None:
    """Raise BundleError if a graph does not fit its role."""
    for wanted in role.inputs:
        _check_tensor(graph, "takes", graph.inputs, wanted, may_be_fixed=False)
    for wanted in role.outputs:
        _check_tensor(graph, "gives", graph.outputs, wanted, may_be_fixed=True)
    # Outputs beyond these only cost time, inputs beyond these would be missing
    names = [tensor.name for tensor in role.inputs]
    for tensor in graph.inputs:
        if tensor.name not in names:
            raise BundleError(
                f"graph {graph.name!r} takes {tensor}, expected nothing but "
                f"{printable(', '.join(names))}"
            )


def _check_tensor(
    graph: Graph,
    verb: str,
    tensors: Sequence[TensorSpec],
    wanted: TensorSpec,
    *,
    may_be_fixed: bool,
) -> None:
    """Raise BundleError unless a wanted tensor is among those of a graph."""
    named = [tensor for tensor in tensors if tensor.name == wanted.name]
    if not named or not named[0].fits(wanted, may_be_fixed=may_be_fixed):
        actual = named[0] if named else f"no {printable(wanted.name)}"
        raise BundleError(f"graph {graph.name!r} {verb} {actual}, expected {wanted}")
