"""Which setting makes the difference between Archer and GRPO on the playground: one at a time, several seeds each.

python -m benchmarks.ablation [--seeds 6]
"""

import argparse
from typing import Any

from .environment import save
from .playground import run_all

ONE_RANGE: dict[str, Any] = {"epsilon_reasoning": 0.2}
ONE_KL: dict[str, Any] = {"beta": 0.0}
ALL_GROUPS: dict[str, Any] = {"mask_zero_std_groups": False}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "Archer": ("archer", {}),
    "one clip range": ("archer", ONE_RANGE),
    "no KL": ("archer", ONE_KL),
    "all groups": ("archer", ALL_GROUPS),
    "all three": ("archer", {**ONE_RANGE, **ONE_KL, **ALL_GROUPS}),
    "TRL's GRPO": ("grpo", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    jobs = [(name, method, seed, config) for seed in range(args.seeds) for name, (method, config) in VARIANTS.items()]
    runs = run_all(jobs, args.processes)
    rows = [
        {"variant": name, "seed": seed, "config": config, "before": run["before"], "after": run["after"]}
        for (name, _, seed, config), run in zip(jobs, runs, strict=True)
    ]
    print(f"wrote {save('ablation', {'command': 'python -m benchmarks.ablation', 'runs': rows})}")


if __name__ == "__main__":
    main()
