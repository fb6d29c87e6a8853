"""Side-by-side measurements; run as `python -m benchmarks.everything` from the repository root."""
