"""Measurements on a user's own GPU: `python -m benchmarks.gpu`. See docs/gpu.md."""
