"""The study: its verifiers, its splits, that every run is one that `trl-archer train` accepts, and its choices."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml

from benchmarks.study import __main__ as study
from benchmarks.study import batch_wide, plan, search, shop, tasks
from benchmarks.study.methods import BATCH_WIDE, MAIN, methods
from benchmarks.study.plan import Part, calibration, compared
from benchmarks.study.policy import _batch, words_tokenizer
from trl_archer.commands.train.run import make_parser, objective_of

CHOSEN = {"learning_rate": {"grpo": 2e-4, "80-20": 1e-4}, "kl": {"grpo-kl": 0.05, "archer": 0.01}}
SHOP = "bal dem fin gor kul = {} >"


@pytest.fixture
def prices(monkeypatch) -> None:
    monkeypatch.setattr(shop, "PRICES", {"bal": 12, "dem": 31, "fin": 7, "gor": 20, "kul": 7})


@pytest.mark.parametrize(
    ("target", "completion", "right"),
    [
        (43, "bal 12 dem 31 fin 7 gor 20 kul 7 : 12 + 31 = 43 ;", 1),
        (43, ": 31 + 12 = 43 ;", 1),
        (19, "bal 1 : 31 - 12 = 19 ;", 1),  # only the last step counts
        (14, ": 7 + 7 = 14 ;", 1),  # two goods of one price
        (24, ": 12 + 12 = 24 ;", 0),  # one good twice
        (43, ": 12 + 31 = 43", 0),
        (43, ": 12 + 31 = 43 ; ;", 0),
        (43, ": 12 + 31 = 43 ; : 1 + 1 = 2 ;", 0),
        (43, ": 23 + 20 = 43 ;", 0),  # not a price
        (43, ": 12 + 31 = 44 ;", 0),
        (44, ": 12 + 31 = 44 ;", 0),
        (43, "", 0),
    ],
)
def test_shop(target, completion, right, prices):
    assert shop.shop_reward([SHOP.format(target)], [completion]) == [right]


def test_facts(prices):
    answers = ["12 ;", "31 ;", "12", "12 ; 12 ;"]
    assert shop.shop_reward(["price bal >"] * 4, answers) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("3 + 22 = 25 yes", 1),
        ("3 + 17 = 20 no 22 + 3 = 25 yes", 1),
        ("3 + 22 = 25 no", 0),
        ("3 + 17 = 20 yes", 0),
        ("3 + 17 = 25 yes", 0),
        ("24 + 1 = 25 yes", 0),
        ("3 + 22 = 25 yes yes", 0),
        ("", 0),
    ],
)
def test_search(completion, right):
    assert search.search_reward(["3 17 22 = 25 >"], [completion]) == [right]


@pytest.mark.parametrize(("module", "low", "high"), [(shop, 0.55, 0.75), (search, 0.3, 0.5)])
def test_demonstrations(module, low, high):
    """About half of them are right, all fit into the length, and they are spelled as the verifier reads them."""
    rng = random.Random(0)
    rows = [module.demonstrate(rng) for _ in range(500)]
    assert low < sum(module.verify(*row) for row in rows) / 500 < high
    assert max(len(completion.split()) for _, completion in rows) < module.LONGEST


@pytest.mark.parametrize("name", tasks.TASKS)
def test_splits_are_disjoint(name):
    splits = tasks.TASKS[name].prompts()
    assert {split: len(prompts) for split, prompts in splits.items()} == {"train": 4096, "validation": 32, "test": 64}
    assert len({prompt for prompts in splits.values() for prompt in prompts}) == 4096 + 32 + 64


def test_unused_facts_are_unused():
    words = {word for prompt in tasks.TASKS["shop"].prompts()["train"] for word in prompt.split()}
    extra = tasks.TASKS["shop"].extra()
    assert not {prompt.split()[1] for prompt in extra["facts-unused"]} & words
    assert {prompt.split()[1] for prompt in extra["facts-used"]} <= words
    assert (len(extra["facts-used"]), len(extra["facts-unused"])) == (120, 120)


def test_labels_cover_completions_only():
    tokenizer = words_tokenizer([*shop.GOODS, shop.PRICE], 40)
    assert tokenizer.unk_token_id not in tokenizer(" ".join([*shop.GOODS, "price 1 + 2"]))["input_ids"]
    ids, labels = _batch(tokenizer, [("price bal >", "3 ;"), ("bal dem = 3 >", "bal 1 : 1 + 2 = 3 ;")])
    assert tokenizer.decode(labels[0][labels[0] != -100]) == "3 ; <eos>"
    assert tokenizer.decode(labels[1][labels[1] != -100]) == "bal 1 : 1 + 2 = 3 ; <eos>"
    assert torch.equal(ids[labels != -100], labels[labels != -100])


def test_every_run_is_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = set()
    for task in tasks.TASKS:
        for part in compared(task, CHOSEN):
            recipe = yaml.safe_load(part.write().with_name("recipe.yaml").read_text())
            for name, changes in part.methods.items():
                merged = {**recipe, **changes}
                make_parser(objective_of(merged)).set_defaults_with_config(**merged)
                names.add(name)
    assert {name for name in names if " " not in name} == {*methods(CHOSEN["kl"]), *plan.SENSITIVITY}
    assert {"grpo 0.0002", "archer 0.0004"} <= names
    assert {*MAIN, BATCH_WIDE} <= names


def test_the_best_candidate_is_chosen():
    """The highest mean validation accuracy at the end, over both seeds; runs are half as long."""
    parts: list[Part] = []

    def run(part: Part) -> list[dict[str, Any]]:
        parts.append(part)
        scores = {"grpo 0.0002": 0.6, "80-20 0.0004": 0.7, "grpo-kl 0.2": 0.8, "archer 0.01": 0.9}
        return [
            {"method": name, "curves": {"validation avg": [0.99, scores.get(name, 0.5) + 0.1 * (seed == 101)]}}
            for name in part.methods
            for seed in part.seeds
        ]

    chosen = calibration("countdown", run)
    assert chosen == {"learning_rate": {"grpo": 2e-4, "80-20": 4e-4}, "kl": {"grpo-kl": 0.2, "archer": 0.01}}
    assert [(part.name, len(part.methods), part.steps) for part in parts] == [
        ("warm-start", 1, 1),
        ("learning-rate", 6, 450),
        ("kl", 6, 450),
    ]
    assert parts[2].methods["archer 0.01"]["learning_rate"] == 2e-4


def test_finished_runs_are_stored_and_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RESULT", tmp_path / "study.json")
    ran: list[tuple[str, int]] = []

    def run(part: Part) -> list[dict[str, Any]]:
        keys = [(method, seed) for seed in part.seeds for method in part.methods]
        ran.extend(keys)
        return [{"task": part.task, "part": part.name, "method": method, "seed": seed} for method, seed in keys]

    monkeypatch.setattr(study, "run", run)
    part = Part("countdown", "comparison", {"grpo": {}}, (0, 1), 9)
    assert [row["seed"] for row in study.Results().run(part)] == [0, 1]
    rows = study.Results().run(part._replace(methods={"grpo": {}, "archer": {}}, seeds=(1,)))
    assert [(row["method"], row["seed"]) for row in rows] == [("grpo", 1), ("archer", 1)]
    assert ran == [("grpo", 0), ("grpo", 1), ("archer", 1)]
    assert len(study.Results().rows) == 3


def test_one_threshold_for_the_batch():
    """A confident response has no reasoning tokens; per response it has as many as the others."""
    entropies = torch.tensor([[0.01, 0.02, 0.03, 0.04, 0.05], [1.0, 2.0, 3.0, 4.0, 5.0]])
    mask = torch.ones_like(entropies)
    gate: Callable[..., Any] = batch_wide._batch_wide
    assert gate(entropies, mask, 0.8, 0.0)[0].sum(1).tolist() == [0, 2]
    assert batch_wide._per_response(entropies, mask, 0.8, 0.0)[0].sum(1).tolist() == [1, 1]
