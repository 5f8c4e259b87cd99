"""Assumptions of the cost model that are neither arithmetic nor a data sheet, in one place."""

from dataclasses import dataclass

from benchmarks.environment import load


@dataclass(frozen=True)
class Costs:
    """
    What a GPU cluster makes of its data sheet. None of these has been measured on one by us.

    Args:
        mfu (`float`, *optional*, defaults to 0.35): Share of the peak that training passes and prefill reach.
        bandwidth_share (`float`, *optional*, defaults to 0.6): Share of the memory bandwidth that decoding reaches.
        link_share (`float`, *optional*, defaults to 0.7): Share of NVLink and network that collectives reach.
        decode_overhead (`float`, *optional*, defaults to 0.004): Seconds of a decoding step beside memory traffic.
        hop (`float`, *optional*, defaults to 5e-6): Seconds that a ring collective adds per rank.
        sync_overhead (`float`, *optional*, defaults to 0.002): Seconds per tensor of a weight sync beside traffic.
        micro_batch_overhead (`float`, *optional*, defaults to 0.05): Seconds of a forward or backward pass that do
            not depend on tokens.
        rollout_overhead (`float`, *optional*, defaults to 5.0): Seconds per rollout of tokenizing, logging, gathering.
        cores_per_node (`int`, *optional*, defaults to 96): For the workers of the rewards.
        runs_per_program (`int`, *optional*, defaults to 20): Tests of a program, code only.
        slowdown (`float`, *optional*, defaults to 1.0): Factor on everything that the GPUs do, from the calibration.
    """

    mfu: float = 0.35
    bandwidth_share: float = 0.6
    link_share: float = 0.7
    decode_overhead: float = 0.004
    hop: float = 5e-6
    sync_overhead: float = 0.002
    micro_batch_overhead: float = 0.05
    rollout_overhead: float = 5.0
    cores_per_node: int = 96
    runs_per_program: int = 20
    slowdown: float = 1.0


def reward_rates() -> dict[str, float]:
    """Measured: answers and program runs per second of one worker, from results/rewards.json."""
    measured = load("rewards")
    workers = measured["math"]["workers"]
    return {
        "math": measured["math"]["completions"] / measured["math"]["seconds"]["math_reward"] / workers,
        "code": measured["code"]["landlock+namespaces"]["runs_per_second"] / workers,
    }
