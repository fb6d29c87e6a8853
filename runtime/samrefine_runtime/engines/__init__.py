"""TensorRT engines of a bundle: built for this machine, each compared with its graph before use.

`profiles` says for which shapes, `samples` makes inputs, `ladder` compares, `build` does it all.
"""

from samrefine_runtime.engines.build import EngineSettings, build_engines

__all__ = ["EngineSettings", "build_engines"]
