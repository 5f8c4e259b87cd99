"""A short run that reports to Trackio. It needs its own process, because Trackio reads `TRACKIO_DIR` on import."""

import sys
from pathlib import Path

from datasets import Dataset

from trl_archer.rewards import math_reward

from ..helpers.tiny import PROMPTS, SIZES, TOKENIZER, length_reward, make_trainer, save_model

PROJECT, RUN = "archer", "tiny"
HTML = '<img src="x" onerror="alert(1)"> & <b>'  # one token that the random policy samples often


def main(output: Path) -> None:
    TOKENIZER.add_tokens([HTML])
    SIZES["vocab_size"] = len(TOKENIZER)
    trainer = make_trainer(
        save_model(output / "model"),
        output,
        reward_funcs=[length_reward, math_reward],
        dataset=Dataset.from_dict(
            {"prompt": PROMPTS, "solution": ["4", ""] * (len(PROMPTS) // 2)}
        ),  # none: not scorable
        max_steps=6,
        steps_per_generation=2,
        learning_rate=1e-2,
        beta=0.05,
        eval_strategy="steps",
        eval_steps=3,
        report_to=["trackio"],
        project=PROJECT,
        run_name=RUN,
        log_completions=True,
        num_completions_to_print=0,
    )
    trainer.train()
    trainer.state.save_to_json(str(output / "trainer_state.json"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
