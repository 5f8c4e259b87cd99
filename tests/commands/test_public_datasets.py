"""The recipe lines of docs/data.md on rows in the layout of each public dataset. The problems are made up."""

import base64
import json
import pickle
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from trl_archer.commands.train.arguments import TrainArguments
from trl_archer.commands.train.data import load_data
from trl_archer.grpo.reward_checks import needed_columns
from trl_archer.rewards.named import load_rewards

from ..helpers.tiny import TOKENIZER

DOC = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
BLOCKS = re.findall(
    r"```yaml\n(.*?)```\n(?=\n)", DOC.partition("## Public datasets")[2].partition("## Rewards by")[0], re.DOTALL
)
RECIPES = {recipe["dataset_name"]: recipe for recipe in map(yaml.safe_load, BLOCKS)}

ASK = [{"content": "Tom has 1 apple and buys 2. How many has he?", "role": "user"}]
VERL = {"data_source": "made_up", "prompt": ASK, "ability": "math", "extra_info": {"index": 0}}
PAIR = {"input": ["1 2\n"], "output": ["3\n"]}
CALLS = [{"input": "[1]\n2", "output": "3", "testtype": "functional"}]
HIDDEN = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(CALLS)))).decode()
ROWS: dict[str, dict[str, Any]] = {
    "openai/gsm8k": {"question": "Tom has 1 apple.", "answer": "He has <<1+2=3>>3 apples.\n#### 3"},
    "DigitalLearningGmbH/MATH-lighteval": {
        "problem": "Find $1+2$.",
        "level": "Level 1",
        "type": "Algebra",
        "solution": "Adding gives $\\boxed{3}$.",
    },
    "agentica-org/DeepScaleR-Preview-Dataset": {"problem": "Find $1+2$.", "answer": "3", "solution": "Adding."},
    "trl-lib/DeepMath-103K": {"prompt": ASK, "solution": "$3$"},
    "BytedTsinghua-SIA/DAPO-Math-17k": {**VERL, "reward_model": {"ground_truth": "3", "style": "rule"}},
    "Skywork/Skywork-OR1-RL-Data": {**VERL, "reward_model": {"ground_truth": '["3"]', "style": "rule"}},
    "conversations.jsonl": {
        "messages": [*ASK, {"role": "assistant", "content": "It is $\\boxed{3}$."}],
        "solution": "3",
    },
    "agentica-org/DeepCoder-Preview-Dataset": {
        "problem": "Add.",
        "tests": json.dumps([{"type": "stdin_stdout", "input": "1 2\n", "output": "3\n"}]),
        "solutions": ["print(3)"],
    },
    "PrimeIntellect/verifiable-coding-problems": {
        "source": "x",
        "prompt": "Add.",
        "verification_info": json.dumps(
            {"language": "python", "test_cases": [{"type": "stdin_stdout", "input": "1 2\n", "output": "3\n"}]}
        ),
    },
    "deepmind/code_contests": {
        "description": "Add.",
        "public_tests": PAIR,
        "private_tests": {"input": [], "output": []},
        "generated_tests": PAIR,
    },
    "test6.jsonl": {
        "question_content": "Add.",
        "starter_code": "def add(a, b):",
        "public_test_cases": json.dumps(CALLS),
        "private_test_cases": HIDDEN,
        "metadata": json.dumps({"func_name": "add"}),
    },
    "google-research-datasets/mbpp": {
        "text": "Add.",
        "code": "def add(a, b): return a + b",
        "test_list": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"],
    },
    "TIGER-Lab/AceCode-87K": {"question": "Add.", "test_cases": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]},
    "Fate-Zero/Archer2.0-Code-1.5B": {
        "prompt": "Add.",
        "ground_truth": json.dumps({"inputs": ["1 2"], "outputs": ["3"]}),
    },
}


def test_every_dataset_has_rows() -> None:
    assert RECIPES.keys() == ROWS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_recipe_lines(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(TOKENIZER, "chat_template", "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    recipe = dict(RECIPES[name])
    recipe.pop("dataset_config", None)
    split = recipe.get("dataset_train_split", "train")
    Dataset.from_list([ROWS[name]] * 3).to_parquet(tmp_path / f"{split}.parquet")
    arguments = TrainArguments(**{**recipe, "dataset_name": str(tmp_path / f"{split}.parquet")})
    rewards = load_rewards(arguments.rewards)
    needed = {"prompt": "the trainer", **needed_columns(rewards)}
    data, _ = load_data(arguments, needed, False, lambda: TOKENIZER, None, rewards)
    assert "cannot be scored" not in caplog.text
    *_, question = data[0]["prompt"]
    assert question["role"] == "user"
    assert question["content"].startswith(("Tom has 1 apple", "Find $1+2$.", "Add."))
    if "math" in recipe["reward_funcs"]:
        asked = "".join(message["content"] for message in data[0]["prompt"])
        assert "\\boxed{}" in asked
    if "code" not in recipe["reward_funcs"]:
        answers = ["So the\nAnswer: 3" if name.startswith("Byted") else "So it is \\boxed{3}.", "\\boxed{4}"]
        assert rewards[0](answers, solution=[data[0]["solution"]] * 2) == [1.0, 0.0]
    if name.endswith("mbpp"):
        assert "```python\nassert add(1, 2) == 3\n```" in question["content"]
    if name == "test6.jsonl":
        assert "```python\ndef add(a, b):\n```" in question["content"]
