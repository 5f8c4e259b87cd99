"""
Trains with and without evaluation: `python tests/vllm_engine/evaluation_worker.py KIND FOLDER`.

KIND is `colocate` or `server`, with `-alone` for a run without evaluation.
"""

import hashlib
import json
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from trl.generation import vllm_generation
from vllm import LLM
from vllm_cpu_shims import install_in_trainer

from tests.vllm_engine.engine import engine_trainer, save_model
from tests.vllm_engine.server import Server
from tests.vllm_engine.settings import free_port
from trl_archer.evaluation import EvaluationCallback
from trl_archer.playground import sample_problems


def main() -> None:
    mode, _, alone = sys.argv[1].partition("-")
    folder = Path(sys.argv[2])
    path = save_model(folder / "model", tied=False)
    if mode == "server":
        install_in_trainer()
    else:
        vllm_generation.LLM = partial(LLM, dtype="float32", enforce_eager=True)
    with Server(path, folder / "server.log") if mode == "server" else nullcontext() as server:
        config: dict[str, Any] = {"vllm_mode": mode}
        if server is not None:
            config |= {"vllm_server_base_url": server.url, "vllm_group_port": free_port()}
            config |= {"vllm_server_timeout": 600}
        trainer = engine_trainer(path, folder, **config)
        completions: list[Any] = []
        if not alone:
            rows = [{"id": n, "prompt": x.prompt} for n, x in enumerate(sample_problems("eval", 3, seed=0))]
            (folder / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            toy = {"name": "toy", "dataset": str(folder / "toy.jsonl"), "columns": {"id": "id"}, "k": 4}
            toy |= {"verifier": "countdown", "temperature": 1.0, "max_new_tokens": 8}
            callback = EvaluationCallback(trainer, [toy], every=1)
            trainer.add_callback(callback)
            generate = trainer._generate

            def recorded(prompts: list[Any]) -> Any:
                output = generate(prompts)
                if not trainer.model.training:
                    completions.append(output[1])
                return output

            trainer._generate = recorded
        trainer.train()
        if not alone:
            for _ in range(2):  # the same seeds and weights, whatever the engine did in between
                callback._count(callback.benchmarks[0])
    digest = hashlib.sha256()
    for weight in trainer.model.state_dict().values():
        digest.update(weight.numpy().tobytes())
    logs = [{"step": row["step"], "loss": row["loss"]} for row in trainer.state.log_history if "loss" in row]
    measured = [row for row in trainer.state.log_history if "eval_toy/avg@4" in row]
    facts = {"weights": digest.hexdigest(), "logs": logs, "measured": measured, "completions": completions}
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
