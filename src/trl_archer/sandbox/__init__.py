"""Runs untrusted Python programs, isolated by the kernel. docs/security.md lists what is defended and what is not."""

from .fusion import SandboxFusion
from .local import Sandbox, probe
from .program import Executor, Limits, Program, Run, SandboxError

__all__ = ["Executor", "Limits", "Program", "Run", "Sandbox", "SandboxError", "SandboxFusion", "probe"]
