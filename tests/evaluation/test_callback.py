"""Evaluation while training: what it measures, and that training does not notice."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from trl_archer.evaluation import EvaluationCallback, Method, compare, sample
from trl_archer.evaluation.benchmarks import Benchmark, load_benchmark
from trl_archer.evaluation.callback import _delete_worse
from trl_archer.evaluation.report import read_records, read_report
from trl_archer.playground import load_policy, sample_problems, verify

from ..helpers.tiny import PROMPTS, length_reward, make_trainer


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.jsonl"
    rows = [{"id": f"c{n}", "prompt": problem.prompt} for n, problem in enumerate(sample_problems("eval", 5, seed=0))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Benchmark(name="toy", dataset=str(path), columns={"id": "id"}, verifier="countdown", k=4, temperature=1.0)


def noisy_reward(completions: list[str], **kwargs: Any) -> list[float]:
    """Depends on every random state that a reward may use."""
    noise = random.random() + np.random.rand() + torch.rand(()).item()
    return [value + noise * index for index, value in enumerate(length_reward(completions))]


def train(path: str, folder: Path, *callbacks: Any, resume: Any = None, **config: Any) -> Any:
    trainer = make_trainer(path, folder, reward_funcs=noisy_reward, max_steps=4, steps_per_generation=2, **config)
    for make in callbacks:
        trainer.add_callback(make(trainer))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def logged(trainer: Any, prefix: str = "") -> list[dict[str, Any]]:
    timings = ("time", "runtime", "per_second", "epoch", "total_flos")
    return [
        {key: x for key, x in row.items() if not any(word in key for word in timings) and key.startswith(prefix)}
        for row in trainer.state.log_history
        if prefix or not any(key.startswith("eval_") for key in row)
    ]


@pytest.mark.parametrize("sharding", ["fsdp", "zero3"])
def test_a_model_that_is_not_sharded_yet_is_refused(sharding, model_path, tmp_path, toy, monkeypatch):
    trainer = make_trainer(model_path, tmp_path)
    evaluation = EvaluationCallback(trainer, [toy], every=1)
    trainer.is_fsdp_enabled, trainer.is_deepspeed_enabled = sharding == "fsdp", sharding == "zero3"
    monkeypatch.setattr("trl_archer.evaluation.callback.is_deepspeed_zero3_enabled", lambda: sharding == "zero3")
    with pytest.raises(ValueError, match=r"ZeRO-3 and FSDP prepare the model when training starts"):
        evaluation.evaluate()
    trainer.model_wrapped = object()  # prepared
    monkeypatch.setattr(evaluation, "_evaluate", lambda state: {"done": 1.0})
    assert evaluation.evaluate() == {"done": 1.0}


def test_training_is_the_same_bit_for_bit(model_path, tmp_path, toy):
    alone = train(model_path, tmp_path / "alone")

    def evaluation(trainer: Any) -> EvaluationCallback:
        callback = EvaluationCallback(trainer, [toy], every=1)
        callback.evaluate()  # before training
        return callback

    both = train(model_path, tmp_path / "both", evaluation)
    for name, weight in alone.model.state_dict().items():
        assert torch.equal(weight, both.model.state_dict()[name]), name
    assert logged(both) == logged(alone)
    assert len([row for row in both.state.log_history if "eval_toy/avg@4" in row]) == 4
    assert both.num_generations_eval == alone.num_generations_eval
    assert both.generation_config.to_dict() == alone.generation_config.to_dict()


def test_evaluates_before_training(model_path, tmp_path, toy):
    trainer = make_trainer(model_path, tmp_path, reward_funcs=noisy_reward, max_steps=1)
    evaluation = EvaluationCallback(trainer, [toy], every=1)
    trainer.add_callback(evaluation)
    metrics = evaluation.evaluate()
    assert 0 <= metrics["eval_toy/avg@4"] <= metrics["eval_toy/pass@4"] <= 1
    trainer.train()
    folder = Path(trainer.args.output_dir) / "evaluations"
    before, after = (read_report(folder / f"step-{step:06d}") for step in (0, 1))
    assert (before["settings"]["step"], after["settings"]["step"]) == (0, 1)
    (difference,) = compare(Method("before", [before]), Method("after", [after]))
    assert difference.values[0].value == pytest.approx(metrics["eval_toy/avg@4"])


def test_numbers_are_those_of_the_policy(tmp_path, toy):
    """Of a policy that solves some problems, and that training does not change."""
    path = str(load_policy()[0].config._name_or_path)
    many = Benchmark(**{**toy.as_dict(), "k": 32, "max_new_tokens": 32})
    options = {"learning_rate": 0.0, "beta": 0.0, "max_completion_length": 32, "per_device_train_batch_size": 64}
    data = Dataset.from_dict({"prompt": PROMPTS * 2})
    trainer = make_trainer(path, tmp_path, dataset=data, max_steps=1, **options)
    trainer.add_callback(EvaluationCallback(trainer, [many], every=1))
    trainer.train()
    (row,) = [row for row in trainer.state.log_history if "eval_toy/avg@32" in row]
    report = read_report(Path(trainer.args.output_dir) / "evaluations" / "step-000001")
    records = read_records(report["benchmarks"]["toy"])
    assert sum(record.correct for record in records) / (5 * 32) == pytest.approx(row["eval_toy/avg@32"])
    assert [record.id for record in records] == [f"c{n}" for n in range(5)]
    assert all(record.samples == 32 for record in records)
    assert row["eval_toy/not_scorable"] == 0
    assert row["eval_toy/truncated"] < 0.02
    assert row["eval_toy/mean_length"] == pytest.approx(28, abs=1)  # a complete trace with its eos

    problems = sample_problems("eval", 5, seed=0)
    texts = sample(*load_policy(), [problem.prompt for problem in problems], 32, max_new_tokens=32, seed=3)
    expected = sum(verify(x, text) for x, row in zip(problems, texts, strict=True) for text in row) / (5 * 32)
    assert row["eval_toy/avg@32"] == pytest.approx(expected, abs=5 * (2 * 0.25 / 160) ** 0.5)


def test_best_checkpoints_and_resume(model_path, tmp_path, toy):
    options = {"save_steps": 1, "metric_for_best_model": "toy/avg@4", "greater_is_better": True}

    def evaluation(trainer: Any) -> EvaluationCallback:
        return EvaluationCallback(trainer, [toy], every=1, keep_best=1)

    scores = iter([0.25, 0.75, 0.5, 0.5])

    class Scripted(EvaluationCallback):
        """Measures what the test wants."""

        def _count(self, loaded):
            records = super()._count(loaded)
            share = next(scores)
            return [type(record)(record.id, 4, int(4 * share)) for record in records]

    trainer = train(model_path, tmp_path, lambda x: Scripted(x, [toy], every=1, keep_best=1), **options)
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.75, 2)
    kept = {path.name for path in Path(trainer.args.output_dir).glob("checkpoint-*")}
    assert kept == {"checkpoint-2", "checkpoint-4"}

    resumed = train(model_path, tmp_path, evaluation, resume=f"{trainer.args.output_dir}/checkpoint-2", **options)
    steps = [row["step"] for row in resumed.state.log_history if "eval_toy/avg@4" in row]
    assert steps == [1, 2, 3, 4]


def test_evaluates_with_the_trainer(model_path, tmp_path, toy):
    """`load_best_model_at_end` finds the metric, and steps without an evaluation have none."""
    trainer = make_trainer(
        model_path,
        tmp_path,
        max_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="toy/pass@4",
        greater_is_better=True,
    )
    trainer.add_callback(EvaluationCallback(trainer, [toy]))
    trainer.train()
    assert [row["step"] for row in trainer.state.log_history if "eval_toy/pass@4" in row] == [2]
    assert trainer.state.best_global_step == 2


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({}, {}, "every=None evaluates together with the trainer, but eval_strategy='no'"),
        ({}, {"every": 0}, "every=0 is below 1"),
        ({"metric_for_best_model": "toy/avg@8"}, {"every": 1}, "is not logged. Use one of toy/avg@4, toy/pass@4"),
        ({"metric_for_best_model": "toy/avg@4", "greater_is_better": False}, {"every": 1}, "greater_is_better=False"),
        ({}, {"every": 1, "keep_best": 2}, "keep_best=2 needs metric_for_best_model, such as 'toy/avg@4'"),
        (
            {"metric_for_best_model": "toy/avg@4", "save_total_limit": 2},
            {"every": 1, "keep_best": 2},
            "keep_best is at least 1, and replaces save_total_limit",
        ),
    ],
)
def test_settings_that_cannot_work(config, options, message, model_path, tmp_path, toy):
    with pytest.raises(ValueError, match=re.escape(message)):
        EvaluationCallback(make_trainer(model_path, tmp_path, **config), [toy], **options)


def test_benchmarks_that_cannot_work(model_path, tmp_path, toy):
    trainer = make_trainer(model_path, tmp_path)
    with pytest.raises(ValueError, match="is empty"):
        EvaluationCallback(trainer, [], every=1)
    with pytest.raises(ValueError, match="a name twice: toy, toy"):
        EvaluationCallback(trainer, [toy, load_benchmark(toy)], every=1)


def test_a_failing_verifier_stops_the_run(model_path, tmp_path, toy, monkeypatch):
    trainer = make_trainer(model_path, tmp_path)
    callback = EvaluationCallback(trainer, [toy], every=1)
    monkeypatch.setattr("trl_archer.evaluation.callback.verify", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match=r"toy: the verifier 'countdown' failed: ZeroDivisionError"):
        callback._count(callback.benchmarks[0])


def test_a_checkpoint_without_evaluation_is_deleted_but_not_the_last(tmp_path):
    for step in (1, 2, 3, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()

    class State:
        log_history = [{"step": step, "eval_toy/avg@4": value} for step, value in ((1, 0.9), (3, 0.2))]

    class Arguments:
        metric_for_best_model, greater_is_better = "toy/avg@4", True

    _delete_worse(tmp_path, State, Arguments, keep=1)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-4"}


def test_a_recipe_names_benchmarks(toy, tmp_path):
    from trl_archer.commands.train.run import parse, prepare

    recipe = Path(__file__).parents[2] / "examples" / "recipes" / "playground.yaml"
    flags = ["--config", str(recipe), "--output_dir", str(tmp_path), "--eval_benchmarks_steps", "5"]
    with pytest.raises(ValueError, match="have no effect without eval_benchmarks"):
        parse(flags)
    with pytest.raises(ValueError, match=r"no benchmark 'aime2024'\. Did you mean 'aime24'\?"):
        parse([*flags, "--eval_benchmarks", "aime2024"])
    settings = parse([*flags, "--eval_benchmarks", json.dumps(toy.as_dict())])
    trainer, _ = prepare(*settings)
    (callback,) = [x for x in trainer.callback_handler.callbacks if isinstance(x, EvaluationCallback)]
    assert (callback.every, callback.benchmarks[0].benchmark.max_new_tokens) == (5, 32)
