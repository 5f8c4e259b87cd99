"""Estimators of accuracy from repeated samples."""

from .estimators import avg_at_k, pass_at_k

__all__ = ["avg_at_k", "pass_at_k"]
