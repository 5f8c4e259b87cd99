"""One rank of whole training runs with other methods: `... tests/helpers/methods_worker.py MODEL OUTPUT BACKEND`."""

from typing import Any

from tests.helpers.backend_worker import main

METHODS: dict[str, dict[str, Any]] = {
    "archer2": {"surrogate": "aspo", "epsilon_reasoning": 0.4, "beta_reasoning": 0.1},
    "cispo": {"surrogate": "cispo"},
    "dppo": {"surrogate": "dppo"},
    "flexible": {"clip_range": "probability", "clip_schedule": "oscillate", "epsilon_reasoning": 0.2},
    "opefo": {"token_weights": "opefo", "num_iterations": 1},
    "lagged opefo": {"token_weights": "opefo", "opefo_off_policy": True},
    "probability": {"token_weights": "probability"},
    "steer": {"token_weights": "steer"},
    "clip-cov": {"token_weights": "clip_cov", "clip_cov_ratio": 0.1, "clip_cov_low": 0.1},
}


if __name__ == "__main__":
    main({name: {"lora": False, "token_records_steps": None, **changes} for name, changes in METHODS.items()})
