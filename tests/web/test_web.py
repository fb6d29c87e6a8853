"""The graph of the whole pipeline in WebAssembly, as a browser runs it.

`make web` installs onnxruntime-web beside this file.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from samrefine_export.pipeline import export_label
from samrefine_rt.demo import IMAGES
from samrefine_runtime.image import read_image

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="no node"),
    pytest.mark.skipif(
        not (HERE / "node_modules" / "onnxruntime-web").is_dir(),
        reason="no onnxruntime-web: make web",
    ),
]


def test_labels_are_those_of_the_native_runtime(tmp_path: Path) -> None:
    image = read_image(sorted(IMAGES.glob("*.jpg"))[0])
    graph, pixels, out = (tmp_path / name for name in ("label.onnx", "image.rgb", "label.raw"))
    export_label("demo", graph)
    pixels.write_bytes(image.tobytes())
    height, width = image.shape[:2]
    command = ["node", HERE / "label.mjs", graph, pixels, height, width, out]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    label = np.frombuffer(out.read_bytes(), np.uint8).reshape(height, width)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["label"], {"image": image})
    assert expected.any()
    assert (label == expected).mean() >= 0.999
