"""Bundles: what strangers pass on is checked here before anything else sees it.

`bundle` loads them, `manifest` and `schema` check what the manifest says, `roles` what it says of
the graphs, `files`, `onnx_files` and `wire` the files.
"""

from samrefine_runtime.bundle.bundle import EMBEDDED, Bundle
from samrefine_runtime.bundle.files import sha256_of
from samrefine_runtime.bundle.limits import Limits
from samrefine_runtime.bundle.manifest import FORMAT_VERSION, MANIFEST
from samrefine_runtime.bundle.parts import (
    HALVES,
    LOW_RES_SCALE,
    CamSpec,
    Graph,
    SamSpec,
    TensorSpec,
)

__all__ = [
    "EMBEDDED",
    "FORMAT_VERSION",
    "HALVES",
    "LOW_RES_SCALE",
    "MANIFEST",
    "Bundle",
    "CamSpec",
    "Graph",
    "Limits",
    "SamSpec",
    "TensorSpec",
    "sha256_of",
]
