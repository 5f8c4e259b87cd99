"""From a policy to a number: benchmarks, sampling, avg@k, pass@k and their errors, while training and after it.

Names are imported on first use: importing this package does not import torch.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import load_public

if TYPE_CHECKING:
    from .benchmarks import Benchmark, load_benchmark, read_benchmark
    from .callback import EvaluationCallback
    from .comparison import Method, compare, render_comparison
    from .estimators import avg_at_k, pass_at_k
    from .records import Estimate, ProblemRecord, estimate, summarize
    from .report import build_report, read_report, write_report
    from .sampling import sample

# Public name -> module
_PUBLIC = {
    **dict.fromkeys(("Benchmark", "load_benchmark", "read_benchmark"), ".benchmarks"),
    "EvaluationCallback": ".callback",
    **dict.fromkeys(("Method", "compare", "render_comparison"), ".comparison"),
    **dict.fromkeys(("avg_at_k", "pass_at_k"), ".estimators"),
    **dict.fromkeys(("Estimate", "ProblemRecord", "estimate", "summarize"), ".records"),
    **dict.fromkeys(("build_report", "read_report", "write_report"), ".report"),
    "sample": ".sampling",
}
__all__ = [
    "Benchmark",
    "Estimate",
    "EvaluationCallback",
    "Method",
    "ProblemRecord",
    "avg_at_k",
    "build_report",
    "compare",
    "estimate",
    "load_benchmark",
    "pass_at_k",
    "read_benchmark",
    "read_report",
    "render_comparison",
    "sample",
    "summarize",
    "write_report",
]


def __getattr__(name: str) -> Any:
    return load_public(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
