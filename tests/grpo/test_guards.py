"""Each guard, by causing what it guards against."""

import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache, partial
from itertools import count as counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from trl_archer import ArcherGRPOConfig, CollapseAlarm
from trl_archer.grpo import DurableGRPOConfig, updates, vllm_retries
from trl_archer.grpo.updates import poison_if_not_finite
from trl_archer.grpo.vllm_retries import ServerWatch, generate_with_retries

from ..helpers.backends import BACKENDS, EACH, launch
from ..helpers.tiny import make_trainer
from ..helpers.vllm_stub import ServerStub

# Updates


class Weights(TrainerCallback):
    """Copies the weights at the end of each step."""

    def __init__(self) -> None:
        self.by_step: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.by_step[state.global_step] = {name: p.detach().clone() for name, p in model.named_parameters()}


def trainer_with_bad_steps(
    model_path: str, tmp_path: Path, bad: set[int], what: str, **config: Any
) -> tuple[Any, Weights]:
    """A trainer of which some steps have a loss of infinity, whose gradient is finite, or NaN in one gradient only."""
    weights = Weights()
    trainer = make_trainer(
        model_path,
        tmp_path,
        trainer_kwargs={"callbacks": [weights]},
        **{"learning_rate": 1e-2, "num_iterations": 2, "max_steps": 5, "save_strategy": "no", **config},
    )
    is_bad = lambda: trainer.model.training and trainer.state.global_step + 1 in bad  # noqa: E731
    if what == "loss":
        compute_loss = trainer.compute_loss
        trainer.compute_loss = lambda *args, **kwargs: compute_loss(*args, **kwargs) + (torch.inf if is_bad() else 0.0)
    else:
        parameter = next(trainer.model.parameters())
        parameter.register_hook(lambda gradient: gradient * torch.nan if is_bad() else gradient)
    return trainer, weights


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_bad_update_is_skipped_and_counted(
    model_path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    trainer, weights = trainer_with_bad_steps(model_path, tmp_path, {2, 4}, what)
    with caplog.at_level(logging.WARNING, logger="trl_archer.grpo.updates"):
        trainer.train()
    by_step = weights.by_step
    for step in range(2, 6):
        unchanged = all(torch.equal(by_step[step][name], x) for name, x in by_step[step - 1].items())
        assert unchanged == (step in (2, 4)), step
    counts = [entry["skipped_updates"] for entry in trainer.state.log_history if "loss" in entry]
    assert counts == [0, 1, 1, 2, 2]
    assert all(x.isfinite().all() for x in by_step[5].values())
    moments = trainer.optimizer.state[next(trainer.model.parameters())]
    assert moments["step"] == 3
    assert moments["exp_avg"].isfinite().all()
    said = [record.getMessage() for record in caplog.records if record.name == "trl_archer.grpo.updates"]
    assert len(said) == 2
    assert "Step 2: the update was skipped because its loss or gradient is not finite (norm nan), 1 in a row" in said[0]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_training_stops_with_the_batch_written(model_path: str, tmp_path: Path, accumulation: int) -> None:
    trainer, weights = trainer_with_bad_steps(
        model_path,
        tmp_path,
        {2, 4, 5},
        "gradient",
        max_skipped_updates=2,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=2,
        per_device_train_batch_size=4,
    )
    with pytest.raises(
        FloatingPointError, match=r"Step 5: .*2 in a row \(max_skipped_updates=2\).*last good update"
    ) as error:
        trainer.train()
    path = tmp_path / "out" / "nonfinite" / "step-5-rank-0.pt"
    assert str(path) in str(error.value)
    dump = torch.load(path, weights_only=True)
    assert dump["step"] == 5
    assert len(dump["micro_batches"]) == accumulation
    last = trainer._buffered_inputs[(trainer._step - 1) % 2]
    assert all(torch.equal(dump["micro_batches"][-1][name], x) for name, x in last.items())
    assert all(torch.equal(p, weights.by_step[3][name]) for name, p in trainer.model.named_parameters())


def test_count_travels_with_the_checkpoint(model_path: str, tmp_path: Path) -> None:
    trainer, _ = trainer_with_bad_steps(
        model_path, tmp_path, {2}, "loss", save_strategy="steps", save_steps=3, max_steps=3
    )
    trainer.train()
    resumed, _ = trainer_with_bad_steps(model_path, tmp_path, {4}, "loss")
    resumed.train(resume_from_checkpoint=True)
    counts = [entry["skipped_updates"] for entry in resumed.state.log_history if "loss" in entry]
    assert counts == [0, 1, 1, 2, 2]


def test_overflow_of_the_loss_scale_does_not_count(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path)
    trainer.accelerator.scaler = SimpleNamespace(get_scale=lambda: 1024.0)
    trainer._get_grad_norm(trainer.model, torch.tensor(torch.inf))
    assert trainer._update_guard.skipped == 0
    trainer.accelerator.scaler = SimpleNamespace(get_scale=lambda: 1.0)
    trainer._get_grad_norm(trainer.model, torch.tensor(torch.inf))
    assert trainer._update_guard.skipped == 1


@pytest.mark.parametrize(
    ("skipped", "norm", "count"), [(True, 3.0, 1), (True, None, 1), (False, math.nan, None), (False, 3.0, 0)]
)
def test_deepspeed_is_asked(tmp_path: Path, skipped: bool, norm: float | None, count: int | None) -> None:
    """It updates before its norm is known, so an update that it did not skip cannot be undone."""
    PartialState()  # accelerate's logger needs it
    accelerator = SimpleNamespace(optimizer_step_was_skipped=skipped, process_index=0)
    engine = SimpleNamespace(optimizer=SimpleNamespace(loss_scale=1))
    guard = updates.UpdateGuard(DurableGRPOConfig(str(tmp_path), use_cpu=True, bf16=False))
    check = partial(guard.check, norm, torch.nn.Linear(1, 1), accelerator, engine, 7, list)
    if count is None:
        with pytest.raises(
            FloatingPointError, match=r"has applied an update with gradient norm nan at step 7.*check_grad_overflow"
        ):
            check()
    else:
        check()
        assert guard.skipped == count


def test_every_loss_is_guarded(model_path: str, tmp_path: Path) -> None:
    """Whatever computes it, such as the `compute_loss` of a subclass."""
    trainer = make_trainer(model_path, tmp_path)
    x = torch.tensor(2.0, requires_grad=True)
    trainer.accelerator.backward(3 * x + torch.inf)
    assert x.grad.isnan()


@pytest.mark.parametrize(
    ("installed", "stage", "precision", "way_out"),
    [
        ("0.19.7", 3, "bf16", "Install deepspeed>=0.19.8, or use ZeRO-2 in bfloat16"),
        ("0.19.7", 2, "no", r"ZeRO-2 in float32 .* Install deepspeed>=0.19.8\."),
        ("0.18.9", 2, "bf16", None),
        ("0.18.9", 3, "fp16", None),
        ("0.19.8", 3, "bf16", None),
    ],
)
def test_deepspeed_that_makes_bad_updates(
    monkeypatch: pytest.MonkeyPatch, installed: str, stage: int, precision: str, way_out: str | None
) -> None:
    monkeypatch.setattr(updates, "version", {"deepspeed": installed}.__getitem__)
    plugin = SimpleNamespace(zero_stage=stage)
    args = SimpleNamespace(bf16=precision == "bf16", fp16=precision == "fp16", deepspeed_plugin=plugin)
    with pytest.raises(ValueError, match=way_out) if way_out else nullcontext():
        updates.check_deepspeed_version(args)


@pytest.mark.distributed  # where DeepSpeed is
def test_old_deepspeed_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(unset_hf_deepspeed_config)  # which the configuration has set for the whole process
    monkeypatch.setattr(updates, "version", {"deepspeed": "0.19.7"}.__getitem__)
    file = tmp_path / "zero3.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": "auto"}))
    with pytest.raises(ValueError, match=r"deepspeed==0\.19\.7 with ZeRO-3 in float32"):
        make_trainer("./nowhere", tmp_path, model="./nowhere", deepspeed=str(file))


def test_finite_loss_is_left_alone() -> None:
    x = torch.tensor([0.1, -3.7], requires_grad=True)
    loss = poison_if_not_finite((x**3).sum())
    loss.backward()
    assert torch.equal(loss, (x**3).sum())
    assert torch.equal(x.grad, 3 * x.detach() ** 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_skipped_updates", 0), ("max_failed_saves", 0), ("max_generation_retries", -1), ("max_failed_saves", 1.5)],
)
def test_limits_are_checked(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name}={value} is not an integer >= \d"):
        ArcherGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **{name: value})


# Two processes


@pytest.fixture(scope="module")
def ranks(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict[str, Any]]]:
    """What both ranks of a backend report; it is started when it is first asked for."""

    @cache
    def of(backend: str) -> list[dict[str, Any]]:
        found = launch(backend, "guards_worker.py", model_path, tmp_path_factory.mktemp("guards") / "two", backend)
        assert len(found) == 2
        return found

    return of


@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["async", "model"])
def test_other_rewards_that_fail_on_one_rank_fail_on_both(ranks: Any, kind: str) -> None:
    assert_failed_on_both(ranks("ddp"), kind)


@pytest.mark.distributed
@pytest.mark.parametrize("backend", EACH)
def test_reward_that_fails_on_one_rank_fails_on_both(ranks: Any, backend: str) -> None:
    assert_failed_on_both(ranks(backend), "function")


def assert_failed_on_both(reports: list[dict[str, Any]], kind: str) -> None:
    for rank in reports:
        error = rank[f"reward {kind}"]
        assert error["type"] == "RuntimeError"
        assert "Rewards failed on 1 of 2 ranks" in error["text"]
        assert "Rank 1:\nTraceback" in error["text"]
        assert "the judge is out" in error["text"]
        assert "in judge" in error["text"]
        if kind != "model":
            assert "Raised in the reward function 'judge'" in error["text"]


@pytest.mark.distributed
@pytest.mark.parametrize("backend", EACH)
def test_update_in_which_nothing_counts_is_left_out(ranks: Any, backend: str) -> None:
    for rank in ranks(backend):
        assert rank["without signal"] == {"unchanged": [2], "empty_updates": [0, 1, 1], "skipped_updates": [0, 0, 0]}


@pytest.mark.distributed
@pytest.mark.parametrize("backend", EACH)
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_bad_numbers_on_one_rank_skip_the_update_on_both(ranks: Any, backend: str, what: str) -> None:
    first, second = (rank[f"bad {what}"] for rank in ranks(backend))
    for report in (first, second):
        assert (report["num_processes"], report["type"]) == (2, BACKENDS[backend].distributed_type)
        assert [logs["skipped_updates"] for logs in report["logs"]] == [0, 1, 1, 1]
        assert [math.isfinite(logs["grad_norm"]) for logs in report["logs"]] == [True, False, True, True]
        assert report["unchanged"] == [2]
        assert report["is_finite"]
        assert report["recorded_ranks"] == [0, 1]
    assert without_nan(first["logs"]) == without_nan(second["logs"])


def without_nan(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparable: NaN differs from itself."""
    return [{k: str(v) if v != v else v for k, v in entry.items()} for entry in logs]


@pytest.mark.distributed
@pytest.mark.parametrize("backend", EACH)
def test_training_stops_on_both_ranks_with_the_batch_of_each(ranks: Any, backend: str) -> None:
    for index, rank in enumerate(ranks(backend)):
        assert rank["stopped"]["type"] == "FloatingPointError"
        assert "2 in a row (max_skipped_updates=2)" in rank["stopped"]["text"]
        assert f"step-2-rank-{index}.pt" in rank["stopped"]["text"]
        assert rank["stopped"]["dump"]["step"] == 2
        assert len(rank["stopped"]["dump"]["rows"]) == 1


@pytest.mark.distributed
def test_resumed_on_two_processes(ranks: Any) -> None:
    first, second = ranks("ddp")
    for rank in (first, second):
        assert rank["resumed"]["weights"] == rank["undisturbed"]["weights"]
        assert rank["resumed"]["history"] == rank["undisturbed"]["history"]
    assert first["resumed"] == second["resumed"]


@pytest.mark.distributed
@pytest.mark.parametrize("backend", EACH)
def test_told_to_end_it_saves_a_step_that_is_whole(ranks: Any, backend: str) -> None:
    """SIGTERM within the third step, to one rank. Under DeepSpeed the update is made before the optimizer's step."""
    for rank in ranks(backend):
        assert rank["terminated"] == {
            "checkpoints": ["checkpoint-3"],
            "incomplete": [None],
            "same": True,
            "steps": [3, 5],
            "handler": True,
        }


@pytest.mark.distributed
@pytest.mark.parametrize("backend", EACH)
@pytest.mark.parametrize("failing", [0, 1])
def test_disk_that_is_full_for_one_rank(ranks: Any, backend: str, failing: int) -> None:
    for rank in ranks(backend):
        assert rank[f"disk {failing}"] == {"failed_saves": [1, 0], "checkpoints": ["checkpoint-2"], "incomplete": None}


# Generation


class Client:
    """TRL's client, as far as the watch uses it."""

    def __init__(self, url: str, failures: int = 0):
        self.base_url = url
        self.failures = failures
        self.error: Exception = ConnectionError("reset by peer")
        self.failing_syncs = 0
        self.synchronized: list[str] = []
        self.communicators = 1

    def generate(self, prompts: list) -> dict[str, list]:
        if self.failures:
            self.failures -= 1
            raise self.error
        return {"completion_ids": [[1, 2]] * len(prompts), "logprobs": [[[0.0], [0.0]]] * len(prompts)}

    def update_named_params(self, metadata: list, named_params: Iterator[tuple[str, Any]]) -> None:
        if self.failing_syncs:
            self.failing_syncs -= 1
            next(named_params)
            raise Exception("Request failed: 500, EngineDeadError")
        self.synchronized = [name for name, _ in named_params]

    def reset_prefix_cache(self) -> None:
        pass

    def close_communicator(self) -> None:
        pass

    def init_communicator(self, device: Any) -> None:
        self.communicators += 1


@pytest.fixture
def server() -> Iterator[ServerStub]:
    server = ServerStub()
    yield server
    server.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(vllm_retries.time, "sleep", seconds.append)
    return seconds


def generation_on(client: Client, retries: int = 3) -> tuple[Any, list[int]]:
    """A generation as TRL's, which sends the weights when it has to, and the times it did."""
    PartialState()  # accelerate's logger and broadcasts need it
    watch, is_stale, sent = ServerWatch(client, torch.device("cpu")), [False], []

    def generate() -> tuple[list, list]:
        if is_stale[0]:
            sent.append(1)
            is_stale[0] = False
        output = client.generate(["a", "b"])
        return output["completion_ids"], output["logprobs"]

    def send_weights_again() -> None:
        is_stale[0] = True

    return (lambda: generate_with_retries(watch, generate, send_weights_again, retries)), sent


def test_cut_off_generation_is_repeated(server: ServerStub, waits: list[float]) -> None:
    """The server is the same one, so it still has the weights."""
    client = Client(server.url, failures=2)
    generate, sent = generation_on(client)
    assert generate()[0] == [[1, 2], [1, 2]]
    assert waits == [10, 20]
    assert sent == []
    assert client.communicators == 1


@pytest.mark.parametrize("instance", ["second", None])
def test_restarted_server_is_sent_the_weights(server: ServerStub, waits: list[float], instance: str | None) -> None:
    """Also one that does not tell who it is and has failed."""
    if instance is None:
        server.info["instance_id"] = None
    client = Client(server.url, failures=1)
    generate, sent = generation_on(client)
    server.info["instance_id"] = instance
    assert generate()[0] == [[1, 2], [1, 2]]
    assert client.communicators == 2
    assert sent == [1]
    assert generate()[0] == [[1, 2], [1, 2]]
    assert client.communicators == 2
    assert sent == [1]


def test_server_that_was_restarted_behind_the_clients_retry(server: ServerStub, waits: list[float]) -> None:
    """What it generated comes from the weights on its disk, and is not used."""
    client = Client(server.url)
    answer = client.generate

    def generate_and_restart(prompts: list) -> dict[str, list]:
        if server.info["instance_id"] == "second":
            return answer(prompts)
        server.info["instance_id"] = "second"
        return {"completion_ids": [[9]] * len(prompts), "logprobs": [[[0.0]]] * len(prompts)}

    client.generate = generate_and_restart  # type: ignore[method-assign]
    generate, sent = generation_on(client)
    assert generate()[0] == [[1, 2], [1, 2]]
    assert sent == [1]
    assert waits == [10]


def test_server_that_stays_away(server: ServerStub, waits: list[float]) -> None:
    client = Client(server.url)
    generate, _ = generation_on(client)
    server.close()
    with pytest.raises(ConnectionError, match=r"in 4 attempts \(max_generation_retries=3\): URLError.*resume"):
        generate()
    assert waits == [10, 20, 40]


def test_server_that_comes_back(server: ServerStub, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(server.url)
    generate, sent = generation_on(client)
    server.close()
    new = ServerStub()
    new.info["instance_id"] = "second"
    monkeypatch.setattr(vllm_retries.time, "sleep", lambda seconds: setattr(client, "base_url", new.url))
    assert generate()[0] == [[1, 2], [1, 2]]
    assert sent == [1]
    new.close()


def test_server_that_always_cuts_off(server: ServerStub, waits: list[float]) -> None:
    generate, _ = generation_on(Client(server.url, failures=9), retries=1)
    with pytest.raises(ConnectionError, match=r"in 2 attempts .*: interrupted, ConnectionError: reset by peer"):
        generate()
    assert waits == [10]


def test_rank_without_prompts(server: ServerStub, waits: list[float]) -> None:
    """No completions are no failure: in a loop over tools some ranks have nothing to generate."""
    PartialState()
    watch = ServerWatch(Client(server.url), torch.device("cpu"))
    assert generate_with_retries(watch, lambda: ([], []), lambda: None, 3) == ([], [])
    assert waits == []


def test_server_that_fails_while_it_is_sent_the_weights(server: ServerStub, waits: list[float]) -> None:
    """All weights are gathered, as other ranks take part; what has a part of them generates nothing, and gets all."""
    client = Client(server.url)
    client.failing_syncs = 2
    PartialState()
    watch, is_stale = ServerWatch(client, torch.device("cpu")), [True]
    gathered: list[str] = []

    def named_params() -> Iterator[tuple[str, None]]:
        for name in ("a", "b", "c"):
            gathered.append(name)
            yield name, None

    def generate() -> tuple[list, list]:
        if is_stale[0]:
            client.update_named_params([], named_params())
            client.reset_prefix_cache()
            is_stale[0] = False
        output = client.generate(["a"])
        return output["completion_ids"], output["logprobs"]

    assert generate_with_retries(watch, generate, lambda: is_stale.__setitem__(0, True), 3)[0] == [[1, 2]]
    assert gathered == ["a", "b", "c"] * 3
    assert client.synchronized == ["a", "b", "c"]
    assert client.communicators == 3
    assert waits == [10, 20]


def test_overloaded_server_is_asked_again(server: ServerStub, waits: list[float]) -> None:
    client = Client(server.url, failures=1)
    client.error = Exception("Request failed: 504, gateway timeout")
    generate, _ = generation_on(client)
    assert generate()[0] == [[1, 2], [1, 2]]
    assert waits == [10]


@pytest.mark.parametrize("error", [Exception("Request failed: 400, too many tokens"), TypeError("no such argument")])
def test_refusals_are_not_repeated(server: ServerStub, waits: list[float], error: Exception) -> None:
    """They end training, on all ranks: each learns of the failure before it raises."""
    client = Client(server.url, failures=1)
    client.error = error
    generate, _ = generation_on(client)
    with pytest.raises(RuntimeError, match=f"returned no completions: {type(error).__name__}: {error}") as raised:
        generate()
    assert raised.value.__cause__ is error
    assert waits == []


def test_calls_that_are_not_watched_raise(server: ServerStub) -> None:
    """As those of a `rollout_func` of one's own."""
    client = Client(server.url, failures=1)
    client.failing_syncs = 1
    generation_on(client)
    with pytest.raises(ConnectionError, match="reset by peer"):
        client.generate(["a"])
    with pytest.raises(Exception, match="EngineDeadError"):
        client.update_named_params([], iter([("a", None)]))


# Collapse


def logged(alarm: CollapseAlarm, values: list[dict[str, float | None]]) -> tuple[TrainerState, list[bool]]:
    """What the alarm makes of a series of logs: whether training stops after each."""
    PartialState()  # accelerate's logger asks for it
    state, stops = TrainerState(), []
    args = SimpleNamespace(save_strategy="steps")
    for step, entry in enumerate(values, start=1):
        state.global_step = step
        state.log_history.append({**entry, "step": step})
        control = TrainerControl()
        alarm.on_log(args, state, control, logs=dict(entry))
        stops.append(control.should_training_stop)
    return state, stops


def test_alarm_stops_after_its_patience() -> None:
    alarm = CollapseAlarm(entropy_floor=0.1, repetition_ceiling=None, patience=3, action="stop")
    entropies = [0.05, 0.05, 0.2, 0.05, 0.1, 0.09, 0.05, 0.01, 0.01]
    values = [{"entropy": x, "completions/repetition": 0.9} for x in entropies]
    assert logged(alarm, values)[1] == [False] * 7 + [True, True]


@pytest.mark.parametrize("missing", [None, math.nan])
def test_policy_of_which_every_group_is_dropped_has_no_entropy_left(
    missing: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    alarm = CollapseAlarm(entropy_floor=0.1, repetition_ceiling=0.0, patience=3, action="stop")
    values = [{"entropy": x, "completions/repetition": 0.0} for x in (0.05, missing, missing)]
    with caplog.at_level(logging.WARNING, logger="trl_archer.collapse"):
        assert logged(alarm, values)[1] == [False, False, True]
    assert "entropy has been below 0.1 or missing for 3 logs in a row, and all groups have equal rewards at step 3" in (
        caplog.text
    )


def test_alarm_for_a_policy_that_always_says_the_same(model_path: str, tmp_path: Path) -> None:
    alarm = CollapseAlarm(patience=2, action="stop")
    trainer = make_trainer(
        model_path, tmp_path, reward_funcs=lambda completions, **_: [1.0] * len(completions), max_steps=6,
        trainer_kwargs={"callbacks": [alarm]},
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 2


def test_alarm_warns_once_and_again_after_recovery(caplog: pytest.LogCaptureFixture) -> None:
    alarm = CollapseAlarm(entropy_floor=None, repetition_ceiling=0.3, patience=2)
    values = [{"completions/repetition": x} for x in (0.4, 0.4, 0.4, 0.4, 0.3, 0.5, 0.5)]
    with caplog.at_level(logging.WARNING, logger="trl_archer.collapse"):
        _, stops = logged(alarm, values)
    assert not any(stops)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "completions/repetition has been above 0.3 for 2 logs in a row; it is 0.4 at step 2" in said[0]
    assert "step 7" in said[1]


def test_evaluation_does_not_count() -> None:
    alarm = CollapseAlarm(entropy_floor=0.1, patience=2, action="stop")
    values = [{"entropy": 0.05}, {"eval_entropy": 0.9}, {"entropy": 0.05}]
    assert logged(alarm, values)[1] == [False, False, True]


def test_alarm_in_a_run(model_path: str, tmp_path: Path) -> None:
    alarm = CollapseAlarm(entropy_floor=100.0, patience=3, action="stop")
    trainer = make_trainer(model_path, tmp_path, trainer_kwargs={"callbacks": [alarm]}, max_steps=8, save_steps=100)
    trainer.train()
    assert trainer.state.global_step == 3
    assert not list((tmp_path / "out").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("patience", "saving", "saved"),
    [
        (3, {"save_steps": 1}, {1, 2}),
        (3, {"save_steps": 1, "max_steps": 3}, {1, 2}),
        (3, {"save_strategy": "epoch"}, set()),
        (6, {"save_strategy": "epoch"}, {4}),
        (3, {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 1}, {1, 2}),
    ],
)
def test_alarm_that_stops_leaves_no_checkpoint(
    model_path: str, tmp_path: Path, patience: int, saving: dict[str, Any], saved: set[int]
) -> None:
    """Nor at the end of the epoch, of 4 steps, or as the best so far."""
    rewards = counter()  # every evaluation is better than the one before
    trainer = make_trainer(
        model_path,
        tmp_path,
        reward_funcs=lambda completions, **kwargs: [float(next(rewards)) for _ in completions],
        trainer_kwargs={"callbacks": [CollapseAlarm(entropy_floor=100.0, patience=patience, action="stop")]},
        **{"max_steps": 8, "metric_for_best_model": "eval_reward", "greater_is_better": True, **saving},
    )
    trainer.train()
    assert trainer.state.global_step == patience
    assert {int(path.name.split("-")[1]) for path in (tmp_path / "out").glob("checkpoint-*")} == saved


@pytest.mark.parametrize("action", ["warn", "stop"])
def test_alarm_lets_other_runs_save(model_path: str, tmp_path: Path, action: str) -> None:
    """One that only warns, and one that has stopped an earlier call."""
    alarm = CollapseAlarm(entropy_floor=100.0, patience=1, action=action)
    trainer = make_trainer(
        model_path, tmp_path, trainer_kwargs={"callbacks": [alarm]}, max_steps=4, save_strategy="epoch"
    )
    if action == "stop":
        trainer.train()
        alarm.patience = 100
    trainer.train()
    assert {path.name for path in (tmp_path / "out").glob("checkpoint-*")} == {"checkpoint-4"}


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"entropy_floor": None, "repetition_ceiling": None}, "nothing to watch"),
        ({"entropy_floor": -1.0}, "entropy_floor=-1.0"),
        ({"repetition_ceiling": 30}, r"repetition_ceiling=30 is outside \[0, 1\)"),
        ({"patience": 0}, "patience=0"),
        ({"action": "halt"}, "action='halt'"),
    ],
)
def test_alarm_settings_are_checked(kwargs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CollapseAlarm(**kwargs)


@pytest.mark.parametrize(("precision", "refused"), [("bf16", True), ("float32", False)])
def test_continuous_batching_in_16_bits_is_refused(tmp_path: Path, precision: str, refused: bool) -> None:
    with pytest.raises(ValueError, match="casts the trained weights") if refused else nullcontext():
        DurableGRPOConfig(
            str(tmp_path), use_cpu=True, bf16=precision == "bf16", use_transformers_continuous_batching=True
        )
