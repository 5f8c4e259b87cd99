"""Sizes of the benchmark on a GPU, on a CPU, and in a rehearsal that only shows that everything runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """
    Sizes of a run. Both methods have the same.

    Learning rates are low for the small batches: on a CPU, 5e-6 with 32 completions per update was unstable. In 16
    updates of Archer the reward went from 0.34 up to 0.67 and down to 0.08, and the KL of reasoning tokens reached 1.9
    nats.

    Args:
        name (`str`): Name in the results.
        vocabulary (`str`): `"whole"`, or `"task"` for the tokens that the task and the probes need.
        most (`int`): Largest number of kinds of animals in a problem; the smallest is 2.
        instances (`int`): Largest number of animals of one kind in a problem.
        longest (`int`): Longest completion in tokens.
        group (`int`): Completions per prompt, `num_generations`.
        micro_batch (`int`): Completions per forward pass.
        micro_batches (`int`): Micro-batches per update.
        updates_per_rollout (`int`): Updates on each rollout.
        updates (`int`): Updates of a run.
        learning_rate (`float`): Constant learning rate of AdamW, after 5 warm-up steps.
        evaluate_every (`int`): Updates between two evaluations during training.
        problems (`int`): Held-out problems.
        problems_between (`int`): Held-out problems of an evaluation during training.
        facts_every (`int`): Of the facts, every how many-th is probed.
        sampled (`int`): Completions generated at a time in an evaluation.
        checked (`int`): Problems that decide when the warm start ends.
        start_accuracy (`float`): avg@4 at which the warm start ends.
        warm_start_batch (`int`): Demonstrations per step of the warm start.
        warm_start_rate (`float`): Learning rate of the warm start.
        checkpoint_every (`int`, *optional*): Updates between two checkpoints. With them, a run that is out of time
            continues in the next call. Without, it ends where it is, and the other method gets as many updates.
    """

    name: str
    vocabulary: str
    most: int
    instances: int
    longest: int
    group: int
    micro_batch: int
    micro_batches: int
    updates_per_rollout: int
    updates: int
    learning_rate: float
    evaluate_every: int
    problems: int
    problems_between: int
    facts_every: int
    sampled: int
    checked: int
    start_accuracy: float
    warm_start_batch: int
    warm_start_rate: float
    checkpoint_every: int | None = None

    @property
    def rollout(self) -> int:
        """Completions per rollout."""
        return self.micro_batch * self.micro_batches * self.updates_per_rollout


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="gpu",
            vocabulary="whole",
            most=4,
            instances=12,
            longest=128,
            group=8,
            micro_batch=64,
            micro_batches=2,
            updates_per_rollout=2,
            updates=80,
            learning_rate=2e-6,
            evaluate_every=30,
            problems=256,
            problems_between=64,
            facts_every=1,
            sampled=512,
            checked=64,
            start_accuracy=0.25,
            warm_start_batch=64,
            warm_start_rate=2e-5,
        ),
        Scale(
            name="cpu",
            vocabulary="task",
            most=2,
            instances=5,
            longest=56,
            group=8,
            micro_batch=16,
            micro_batches=2,
            updates_per_rollout=2,
            updates=120,
            learning_rate=1.5e-6,
            evaluate_every=1000,
            problems=32,
            problems_between=16,
            facts_every=6,
            sampled=96,
            checked=16,
            start_accuracy=0.2,
            warm_start_batch=16,
            warm_start_rate=3e-5,
            checkpoint_every=4,
        ),
        Scale(
            name="rehearsal",
            vocabulary="task",
            most=2,
            instances=5,
            longest=48,
            group=4,
            micro_batch=4,
            micro_batches=1,
            updates_per_rollout=2,
            updates=2,
            learning_rate=1e-5,
            evaluate_every=1,
            problems=4,
            problems_between=4,
            facts_every=60,
            sampled=16,
            checked=2,
            start_accuracy=0.0,
            warm_start_batch=4,
            warm_start_rate=3e-5,
        ),
    )
}
