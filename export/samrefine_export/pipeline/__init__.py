"""Whole pipelines as one graph each, for programs that run ONNX and nothing else.

`compose` says what they consist of, `builder` writes nodes; `classes`, `prompts`, `masks` and
`sepl` are the steps, on `images` and `counting`; `export` writes the files.
"""

from samrefine_export.pipeline.export import export_everything, export_label, export_refine

__all__ = ["export_everything", "export_label", "export_refine"]
