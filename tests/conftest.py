"""Shared fixtures."""

import samrefine_export  # noqa: F401  (makes segment-anything importable beside a CPU torch)
