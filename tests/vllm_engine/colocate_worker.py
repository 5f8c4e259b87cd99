"""Trains with an engine in the same process: `python tests/vllm_engine/colocate_worker.py KIND FOLDER`."""

import sys
from functools import partial
from pathlib import Path

import torch
from trl.generation import vllm_generation
from vllm import LLM, SamplingParams

from tests.vllm_engine.engine import engine_trainer, save_model, train_and_measure
from tests.vllm_engine.settings import TOKENS


def engine_logps(llm: LLM) -> torch.Tensor:
    request = SamplingParams(max_tokens=1, prompt_logprobs=0)
    (output,) = llm.generate([{"prompt_token_ids": TOKENS}], request, use_tqdm=False)
    rows = zip(output.prompt_logprobs[1:], TOKENS[1:], strict=True)
    return torch.tensor([row[token].logprob for row, token in rows])


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    # TRL leaves both to vLLM, whose defaults are bfloat16 and compilation
    vllm_generation.LLM = partial(LLM, dtype="float32", enforce_eager=True)
    path = save_model(folder / "model", tied=kind == "tied")
    trainer = engine_trainer(path, folder, lora=kind == "lora", vllm_mode="colocate")
    train_and_measure(trainer, partial(engine_logps, trainer.vllm_generation.llm), folder / "facts.json")


if __name__ == "__main__":
    main()
