"""Breaks the package on purpose, one line at a time (`make mutate`). The tests must fail each time.

Each mutant is a copy of the package with one piece of text replaced. A mutant that survives is a hole in the tests.
"""

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
TESTS = [
    "tests/objective",
    "tests/methods",
    *(f"tests/trainer/test_{name}.py" for name in ("oracle", "equals_grpo", "invariance", "metrics", "groups")),
    "tests/grpo/test_padding.py",
    "tests/grpo/test_scoring.py",
    "tests/distributed/test_distributed.py",
]
# Mutated file -> tests that run first, because they usually kill its mutants
FIRST = {
    "trainer.py": [f"tests/trainer/test_{name}.py" for name in ("oracle", "groups", "metrics", "invariance")],
    "metrics.py": ["tests/trainer/test_metrics.py"],
    **{f"methods/{name}.py": ["tests/methods"] for name in ("surrogates", "ranges", "weights", "flow", "running")},
    "grpo/padding.py": ["tests/grpo/test_padding.py"],
    "grpo/trainer.py": ["tests/grpo/test_scoring.py", "tests/grpo/test_padding.py"],
    "grpo/reward_checks.py": ["tests/trainer/test_groups.py"],
}
LIBRARIES = ["hypothesis", "peft", "trl.trainer.grpo_trainer", "trl.rewards"]  # imported once, before the forks


class Mutant(NamedTuple):
    """A named change: `old` occurs exactly once in `file` and becomes `new`."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant("flipped sign", "objective.py", "loss = -surrogate.value", "loss = surrogate.value"),
    Mutant(
        "swapped ranges",
        "objective.py",
        "(tokens.gate, knowledge.epsilon_low, reasoning.epsilon_low)",
        "(tokens.gate, reasoning.epsilon_low, knowledge.epsilon_low)",
    ),
    Mutant(
        "swapped KL weights",
        "objective.py",
        "(gate, knowledge.beta, reasoning.beta)",
        "(gate, reasoning.beta, knowledge.beta)",
    ),
    Mutant(
        "dropped mask",
        "trainer.py",
        "            mask,\n            ref_per_token_logps=",
        "            torch.ones_like(mask),\n            ref_per_token_logps=",
    ),
    Mutant("dropped tool mask", "grpo/padding.py", 'return mask * batch["tool_mask"] if', "return mask if"),
    Mutant(
        "batch-wide quantile",
        "objective.py",
        "below = ordered.gather(1, lower)",
        "below = ordered.gather(1, lower).mean().expand(len(ordered), 1)",
    ),
    Mutant("padding in the quantile", "objective.py", "torch.where(mask, entropies, torch.inf)", "entropies.clone()"),
    Mutant("entropy with gradient", "objective.py", "entropies = entropies.detach().to(", "entropies = entropies.to("),
    Mutant(">= for >", "objective.py", "(entropies > below)", "(entropies >= below)"),
    Mutant("no dual clip", "objective.py", "ratio if delta is None else ratio.clamp(max=delta)", "ratio"),
    Mutant("KL of the wrong sign", "objective.py", "loss = loss + beta * kl", "loss = loss - beta * kl"),
    Mutant(
        "KL weighed by the surrogate",
        "objective.py",
        "        loss = loss * torch.where(mask, surrogate_weight, 0.0)",
        "        loss = loss * torch.where(mask, surrogate_weight, 0.0)\n        beta = beta * surrogate_weight",
    ),
    Mutant(
        "forgotten importance ratio",
        "trainer.py",
        'weight = inputs["importance_sampling_ratio"]',
        "weight = None",
    ),
    Mutant(
        "old log-probs ignored",
        "trainer.py",
        'inputs.get("old_per_token_logps"),',
        "None,",
    ),
    Mutant(
        "normalizer of a micro-batch",
        "objective.py",
        "totals.tokens.clamp(min=1) * totals.share",
        "mask.sum().clamp(min=1)",
    ),
    Mutant("window forgotten", "trainer.py", "share=window / self.accelerator", "share=1 / self.accelerator"),
    Mutant(
        "dropped groups stay in the normalizer",
        "trainer.py",
        'output["num_items_in_batch"], output["num_sequences_in_batch"] = totals[0], totals[1]',
        'output["num_sequences_in_batch"] = totals[3]',
    ),
    Mutant("dropped groups stay in the loss", "trainer.py", "* kept.unsqueeze(1)", "* 1"),
    Mutant(
        "metrics by the wrong role", "metrics.py", "(reasoning, tokens - reasoning)", "(tokens - reasoning, reasoning)"
    ),
    Mutant(
        "mean of means",
        "metrics.py",
        'return _ratio(total[name + role], total["tokens" + role])',
        'return sum(_ratio(a, b) for a, b in zip(table[:, _SUMS.index(name + (role or "/reasoning"))].tolist(), '
        'table[:, _SUMS.index("tokens" + (role or "/reasoning"))].tolist())) / len(table)',
    ),
    Mutant(
        "evaluation by the window of training",
        "trainer.py",
        "(self.args.steps_per_generation if self.model.training else 1)",
        "self.args.steps_per_generation",
    ),
    Mutant("load balancing not accumulated", "trainer.py", "aux_loss / self._micro_batches_per_update", "aux_loss"),
    Mutant("load balancing counted by row", "metrics.py", "aux, zero + 1,", "aux, zero + len(mask),"),
    Mutant(
        "only the sum of rewards", "trainer.py", 'self.multi_objective_aggregation == "normalize_then_sum"', "False"
    ),
    Mutant("rank 0's groups everywhere", "trainer.py", "self.accelerator.process_index * len(inputs)", "0"),
    Mutant(
        "totals of one rank",
        "trainer.py",
        'totals = self.accelerator.reduce(torch.stack(sums), reduction="sum")',
        "totals = torch.stack(sums) * self.accelerator.num_processes",
    ),
    Mutant("trimmed too far", "grpo/padding.py", "width = int(columns[-1]) + 1 if", "width = int(columns[-1]) if"),
    Mutant(
        "grouped over optimizer steps",
        "grpo/trainer.py",
        "group_by_length(micro_batches, self._per_window, ",
        "group_by_length(micro_batches, len(micro_batches), ",
    ),
    Mutant(
        "scored in another layout",
        "grpo/trainer.py",
        "self._score(self._count(self._lay_out(self._buffered_inputs)))",
        "self._count(self._lay_out(self._score(self._buffered_inputs)))",
    ),
    Mutant(
        "old policy moves",
        "grpo/trainer.py",
        'batch.setdefault("old_per_token_logps", logps)',
        'batch["old_per_token_logps"] = logps',
    ),
    Mutant(
        "entropy bonus by micro-batch",
        "objective.py",
        '0.0), mask, "dapo", totals)',
        '0.0), mask, "bnpo", totals)',
    ),
    Mutant("entropy penalty", "trainer.py", "loss = loss - self._entropy_weight", "loss = loss + self._entropy_weight"),
    Mutant("unbounded ratio", "objective.py", "log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)", "log_ratio"),
    Mutant(
        "unbounded KL",
        "objective.py",
        "(ref_per_token_logps - per_token_logps).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)",
        "ref_per_token_logps - per_token_logps",
    ),
    Mutant(
        "dual clip of both signs",
        "objective.py",
        "capped=(ratio > (torch.inf if delta is None else delta)) & (advantages < 0)",
        "capped=ratio > (torch.inf if delta is None else delta)",
    ),
    Mutant(
        "dropped rows are forwarded",
        "grpo/padding.py",
        "mask.any(dim=1).nonzero().squeeze(1)",
        "torch.arange(len(mask))",
    ),
    Mutant(
        "micro-batches without a token are forwarded",
        "grpo/trainer.py",
        'inputs.get("num_items_in_micro_batch") != 0',
        "True",
    ),
    Mutant(
        "micro-batches of any size",
        "grpo/padding.py",
        "(slots > rows * lengths[0])",
        "(slots < 0)",
    ),
    Mutant("infinite reward passes", "grpo/reward_checks.py", "if math.isinf(value):", "if value is None:"),
    Mutant(
        "kept completions stay where they fell",
        "trainer.py",
        "deal_evenly(micro_batches, self._per_window)",
        "micro_batches",
    ),
    Mutant("empty updates are made", "grpo/trainer.py", "self._tokens_of_update == 0 and", "False and"),
    Mutant("ASPO without the flip", "methods/surrogates.py", "torch.where(positive, 1 / bounded, bounded)", "bounded"),
    Mutant("ASPO without its soft dual clip", "methods/surrogates.py", "weight.clamp(max=cap)", "weight"),
    Mutant(
        "CISPO with clipped tokens",
        "methods/surrogates.py",
        "torch.minimum(ratio, 1 + epsilon_high), nowhere)",
        "torch.minimum(ratio, 1 + epsilon_high), capped)",
    ),
    Mutant(
        "DPPO in log-probabilities",
        "methods/surrogates.py",
        "tokens.logps.detach().exp() - tokens.old_logps.exp()",
        "tokens.logps.detach() - tokens.old_logps",
    ),
    Mutant(
        "range with a gradient",
        "methods/ranges.py",
        "probability = tokens.logps.detach().exp()",
        "probability = tokens.logps.exp()",
    ),
    Mutant("schedule the other way round", "methods/ranges.py", "else 2 - 2 * progress", "else 2 * progress - 1"),
    Mutant("no memory of the schedule", "methods/ranges.py", 'self.state["rises"] = 1.0', "pass"),
    Mutant(
        "OPEFO with one weight for all",
        "methods/weights.py",
        "1 + lam * entropy_change",
        "1 + lam + 0 * entropy_change",
    ),
    Mutant("lambda of the wrong sign", "methods/flow.py", "(lowered - raised) / total", "(raised - lowered) / total"),
    Mutant("lambda of a micro-batch", "methods/running.py", "*sums[step].sum(dim=0)", "*sums[start]"),
    Mutant("AR of the new policy", "methods/weights.py", "tokens.old_logps.exp() + (1", "tokens.logps.exp() + (1"),
    Mutant("STEER with a fixed scale", "methods/weights.py", 'self.state["largest"] = table.max()', "table.max()"),
    Mutant(
        "Clip-Cov without centering",
        "methods/weights.py",
        'tokens.logps - self.state.get("logp", 0.0)',
        "tokens.logps",
    ),
    Mutant(
        "Clip-Cov with the same tokens in each step",
        "methods/running.py",
        "self._seed * 1_000_003 + step",
        "self._seed * 1_000_003",
    ),
    Mutant(
        "statistics of one micro-batch",
        "trainer.py",
        "            if self.accelerator.sync_gradients:\n                self._learn_from_step()",
        "            self._learn_from_step()",
    ),
    Mutant(
        "method forgotten at resume",
        "methods/running.py",
        'self.weights.state = dict(state["weights"])',
        "pass",
    ),
    Mutant(
        "entropy flow by the wrong sign",
        "metrics.py",
        "likely, positive = logps + entropies > 0",
        "likely, positive = logps + entropies < 0",
    ),
]


def survives(mutant: Mutant) -> bool:
    """Whether all tests pass on a copy of the project with the mutant. Runs in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "src" / "trl_archer", copy / "src" / "trl_archer")
        for name in ("tests", "examples"):  # the tests launch with the configurations of the examples
            shutil.copytree(ROOT / name, copy / name)
        shutil.copy(ROOT / "pyproject.toml", copy)
        file = copy / "src" / "trl_archer" / mutant.file
        text = file.read_text()
        if text.count(mutant.old) != 1:
            raise SystemExit(f"mutant '{mutant.name}': its text occurs {text.count(mutant.old)} times in {mutant.file}")
        file.write_text(text.replace(mutant.old, mutant.new))
        code, output = run_tests(copy, [*FIRST.get(mutant.file, []), *TESTS])
    failed = [line for line in output.splitlines() if line.startswith("FAILED")]
    if code != (1 if failed else 0):  # anything else, such as a failed fixture, is not a verdict
        raise SystemExit(f"mutant '{mutant.name}': pytest ended with {code}\n{output[-3000:]}")
    verdict = "killed by " + failed[0].split()[1].split("::", 1)[1] if failed else "SURVIVED"
    print(f"{mutant.name:40} {verdict}", flush=True)
    return code == 0


# The server of the forks has imported what pytest would rewrite
PRELOADED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


def run_tests(project: Path, tests: list[str]) -> tuple[int, str]:
    """Runs the tests of a copy of the project until one fails; returns pytest's exit code and output."""
    os.chdir(project)
    os.environ["PYTHONPATH"] = str(project / "src")
    sys.path[:0] = [str(project / "src"), str(project)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]  # the originals, which lead here
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *PRELOADED, *tests])
    return int(code), output.getvalue()


def main() -> None:
    wanted = sys.argv[1:]
    mutants = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    with ProcessPoolExecutor(os.cpu_count(), context, max_tasks_per_child=1) as pool:
        survivors = sum(pool.map(survives, mutants))
    print(f"{len(mutants) - survivors} passed, {survivors} failed")
    raise SystemExit(survivors > 0)


if __name__ == "__main__":
    main()
