"""Runs untrusted Python programs, isolated by the kernel. See docs/security.md for what is defended and what is not."""

from .fusion import SandboxFusion
from .local import Sandbox, probe
from .program import Executor, Limits, Program, Run, SandboxError

__all__ = ["Executor", "Limits", "Program", "Run", "Sandbox", "SandboxError", "SandboxFusion", "probe"]
