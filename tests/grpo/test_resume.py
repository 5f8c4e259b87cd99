"""A run that is killed, at any moment, ends as if it had not been; checkpoints are complete or refused."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import IterableDataset
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from trl_archer.grpo import saving
from trl_archer.grpo.checkpoints import (
    MANIFEST,
    MARKER,
    check_model,
    check_same_backend,
    checkpoint_bytes,
    find_checkpoint,
    launch_of,
    why_incomplete,
)
from trl_archer.grpo.saving import CheckpointError

from ..helpers.resume_worker import LORA, in_a_process, train
from ..helpers.tiny import PROMPTS, SIZES, make_trainer

KILLED = -signal.SIGKILL
CASES: dict[str, dict[str, Any]] = {
    "default": {"max_steps": 10},  # an epoch is 8 steps
    "passes": {"num_iterations": 3, "max_steps": 8, "logging_steps": 2, "eval_strategy": "steps", "eval_steps": 3},
    "window": {"gradient_accumulation_steps": 2, "steps_per_generation": 4, "num_iterations": 2, "logging_steps": 3},
    "misaligned": {
        "mask_zero_std_groups": False,
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 3,
        "logging_steps": 4,
        "save_steps": 2,
    },
}


@pytest.fixture(autouse=True)
def importable_in_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(root / "src")]))


def result(output: Path) -> dict[str, Any]:
    return torch.load(output / "result.pt", weights_only=True)


def assert_same_run(run: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    """Weights, logs, random numbers: the same to the last bit. Only the summary at the end is of one call."""
    assert run["history"][:-1] == undisturbed["history"][:-1]
    assert len(run["history"]) > 1
    assert run["global_step"] == undisturbed["global_step"]
    assert run["tokens"] == undisturbed["tokens"]
    assert run["random"] == undisturbed["random"]
    assert run["weights"].keys() == undisturbed["weights"].keys()
    assert all(torch.equal(run["weights"][name], x) for name, x in undisturbed["weights"].items())


@pytest.mark.parametrize("lora", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["full", "lora"])
@pytest.mark.parametrize(
    "name", ["default", "misaligned", *(pytest.param(name, marks=pytest.mark.slow) for name in ("passes", "window"))]
)
def test_killed_run_ends_as_an_undisturbed_one(model_path: str, tmp_path: Path, name: str, lora: bool) -> None:
    options = {"max_steps": 8, **CASES[name]}
    assert in_a_process(train, model_path, str(tmp_path / "undisturbed"), options, lora) == 0
    output, resume = tmp_path / "killed", False
    inside_an_accumulation = 1 if options.get("gradient_accumulation_steps") else 0
    for kill in ((2, 0), (5, inside_an_accumulation), (options["max_steps"] - 1, 0)):
        assert in_a_process(train, model_path, str(output), options, lora, resume, kill) == KILLED
        resume = True
    assert not (output / "result.pt").exists()
    assert in_a_process(train, model_path, str(output), options, lora, resume=True) == 0
    assert_same_run(result(output), result(tmp_path / "undisturbed"))


@pytest.mark.parametrize(
    "before", ["manifest", *(pytest.param(name, marks=pytest.mark.slow) for name in ("progress", "state"))]
)
def test_killed_while_saving(model_path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, before: str) -> None:
    """The previous checkpoint is used, though rotation keeps only one, and the half-written one goes."""
    reason = "trainer_state.json, which is written last, is missing"
    options = {**CASES["passes"], "max_steps": 6, "save_total_limit": 1}
    assert in_a_process(train, model_path, str(tmp_path / "undisturbed"), options) == 0
    output = tmp_path / "killed"
    assert in_a_process(train, model_path, str(output), options, kill_saving=(5, before)) == KILLED
    run_dir = output / "out"
    assert {path.name for path in run_dir.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-5"}

    trainer = make_trainer(model_path, output)
    with caplog.at_level(logging.WARNING, logger="trl_archer.grpo.checkpoints"):
        assert find_checkpoint(True, trainer.args) == run_dir / "checkpoint-4"
    (said,) = (record.getMessage() for record in caplog.records if record.name == "trl_archer.grpo.checkpoints")
    assert f"resumes from {run_dir}/checkpoint-4" in said
    assert f"checkpoint-5 is incomplete ({reason})" in said
    with pytest.raises(ValueError, match=rf"checkpoint-5' is not a complete checkpoint: {reason}"):
        trainer.train(resume_from_checkpoint=str(run_dir / "checkpoint-5"))

    assert in_a_process(train, model_path, str(output), options, resume=True) == 0
    assert_same_run(result(output), result(tmp_path / "undisturbed"))
    assert {path.name for path in run_dir.glob("checkpoint-*")} == {"checkpoint-6"}


def test_finished_run_is_not_trained_further(model_path: str, tmp_path: Path) -> None:
    options = {"max_steps": 3}
    assert in_a_process(train, model_path, str(tmp_path), options) == 0
    before = result(tmp_path)
    assert in_a_process(train, model_path, str(tmp_path), options, resume=True) == 0
    after = result(tmp_path)
    assert after["global_step"] == 3
    assert all(torch.equal(after["weights"][name], x) for name, x in before["weights"].items())


@pytest.fixture(scope="module")
def checkpoint(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete one, in the middle of a generation batch."""
    folder = tmp_path_factory.mktemp("complete")
    make_trainer(model_path, folder, num_iterations=3, max_steps=2, save_steps=2).train()
    return folder / "out" / "checkpoint-2"


def test_complete_checkpoint(checkpoint: Path) -> None:
    assert why_incomplete(checkpoint) is None
    assert not (checkpoint / MARKER).exists()
    files = json.loads((checkpoint / MANIFEST).read_text())["files"]
    on_disk = {path.name for path in checkpoint.iterdir()}
    assert set(files) == on_disk - {MANIFEST, "trainer_state.json"}
    assert {"model.safetensors", "optimizer.pt", "durable_state.pth", "rng_state.pth", "scheduler.pt"} <= set(files)


def damaged(checkpoint: Path, folder: Path, name: str, keep: float) -> Path:
    """A copy in which a file holds only a part of itself."""
    shutil.copytree(checkpoint, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * keep)])
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "config.json", "durable_state.pth"])
def test_cut_off_file(checkpoint: Path, tmp_path: Path, name: str) -> None:
    size = (checkpoint / name).stat().st_size
    folder = damaged(checkpoint, tmp_path / "c", name, 0.5)
    assert why_incomplete(folder) == f"{name} has {size // 2:,} of {size:,} bytes"
    (folder / name).unlink()
    assert why_incomplete(folder) == f"{name} is missing"


def test_cut_off_state(checkpoint: Path, tmp_path: Path) -> None:
    folder = damaged(checkpoint, tmp_path / "c", "trainer_state.json", 0.9)
    assert why_incomplete(folder) == "trainer_state.json is truncated"
    assert why_incomplete(tmp_path / "nowhere") == "it is not a folder"


@pytest.mark.parametrize("content", ["", '{"files": {', "[]", '{"parameters": {}}', '{"files": {}}', "\udcff"])
def test_manifest_that_cannot_be_read(
    model_path: str, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    """The checkpoint before it is used."""
    for step in (2, 4):
        shutil.copytree(checkpoint, tmp_path / "out" / f"checkpoint-{step}")
    folder = tmp_path / "out" / "checkpoint-4"
    (folder / MANIFEST).write_bytes(content.encode(errors="surrogateescape"))
    assert why_incomplete(folder) == "manifest.json cannot be read"
    trainer = make_trainer(model_path, tmp_path)
    with caplog.at_level(logging.WARNING, logger="trl_archer.grpo.checkpoints"):
        assert find_checkpoint(True, trainer.args) == tmp_path / "out" / "checkpoint-2"
    assert f"{folder} is incomplete (manifest.json cannot be read)" in caplog.text
    with pytest.raises(ValueError, match=r"checkpoint-4 is not a complete checkpoint: manifest.json cannot be read"):
        check_model(folder, trainer.model)


def test_without_a_manifest(model_path: str, checkpoint: Path, tmp_path: Path) -> None:
    """As other trainers write them: accepted if every file can be read to its end."""
    folder = tmp_path / "c"
    shutil.copytree(checkpoint, folder)
    (folder / MANIFEST).unlink()
    assert why_incomplete(folder) is None
    assert find_checkpoint(str(folder), make_trainer(model_path, tmp_path).args) == folder
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth"):
        cut = damaged(folder, tmp_path / name, name, 0.5)
        assert why_incomplete(cut) == f"{name} is truncated"
    (folder / MARKER).touch()
    assert why_incomplete(folder) == "it was not fully written by all processes"
    (folder / MARKER).unlink()
    (folder / "model.safetensors").unlink()
    assert why_incomplete(folder) == "it has no weights"


def test_checkpoint_of_trl_is_resumed_with_a_warning(
    model_path: str, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoint-2"
    shutil.copytree(checkpoint, folder)
    for name in (MANIFEST, "durable_state.pth"):
        (folder / name).unlink()
    trainer = make_trainer(model_path, tmp_path, num_iterations=3, max_steps=4)
    with caplog.at_level(logging.WARNING, logger="trl_archer.grpo.progress"):
        trainer.train(resume_from_checkpoint=str(folder))
    assert trainer.state.global_step == trainer._step == 4
    (said,) = (r.getMessage() for r in caplog.records if "has no durable_state.pth: the completions" in r.getMessage())
    assert "no optimizer" not in said


def test_checkpoint_without_an_optimizer_is_resumed_with_a_warning(
    model_path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_trainer(model_path, tmp_path, max_steps=1, save_steps=1, save_only_model=True).train()
    with caplog.at_level(logging.WARNING, logger="trl_archer.grpo.progress"):
        make_trainer(model_path, tmp_path, max_steps=2).train(resume_from_checkpoint=True)
    assert any("It has no optimizer either: moments and schedule start over" in r.getMessage() for r in caplog.records)


def test_changed_batches_are_sampled_again(
    model_path: str, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(model_path, tmp_path, num_iterations=2, max_steps=4)
    with caplog.at_level(logging.WARNING, logger="trl_archer.grpo.progress"):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    (said,) = (record.getMessage() for record in caplog.records if "Settings" in record.getMessage())
    assert f"since {checkpoint} (num_iterations from 3 to 2): completions are sampled again." in said
    assert trainer.state.global_step == 4


def test_stream_in_its_second_pass_is_not_resumed_silently(
    model_path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = IterableDataset.from_generator(lambda: iter([{"prompt": prompt} for prompt in PROMPTS]))
    options = {"dataset": stream, "num_iterations": 2, "save_steps": 1}  # a pass is 8 steps
    for max_steps, warnings in ((8, 0), (10, 0), (11, 1)):
        with caplog.at_level(logging.WARNING, logger="trl_archer.grpo.progress"):
            trainer = make_trainer(model_path, tmp_path, **options, max_steps=max_steps)
            trainer.train(resume_from_checkpoint=max_steps > 8)
        assert trainer.state.global_step == max_steps
        assert sum("is a stream that was read" in r.getMessage() for r in caplog.records) == warnings


@pytest.mark.parametrize("word", ["true", "True", "latest"])
def test_word_for_the_last_checkpoint(
    model_path: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """As `--resume_from_checkpoint true` arrives, unless a folder has that name."""
    monkeypatch.chdir(tmp_path)
    trainer = make_trainer(model_path, tmp_path)
    with pytest.raises(ValueError, match=r"output_dir='.*' has no complete checkpoint .* \(there is none\)"):
        find_checkpoint(word, trainer.args)
    shutil.copytree(checkpoint, tmp_path / "out" / "checkpoint-2")
    assert find_checkpoint(word, trainer.args) == tmp_path / "out" / "checkpoint-2"
    assert find_checkpoint("False", trainer.args) is None
    with pytest.raises(ValueError, match=r"'newest' is not a complete .*: it is not a folder.*--resume"):
        find_checkpoint("newest", trainer.args)
    shutil.copytree(checkpoint, tmp_path / word)
    assert find_checkpoint(word, trainer.args) == Path(word)


def test_no_complete_checkpoint(model_path: str, checkpoint: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path)
    with pytest.raises(ValueError, match=r"output_dir='.*' has no complete checkpoint .* \(there is none\)"):
        trainer.train(resume_from_checkpoint=True)
    damaged(checkpoint, tmp_path / "out" / "checkpoint-2", "model.safetensors", 0.5)
    with pytest.raises(ValueError, match=r"checkpoint-2: model.safetensors has .* bytes\)\. Pass the path of one"):
        trainer.train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("field", "value"), [("vocab_size", SIZES["vocab_size"] + 8), ("hidden_size", 64), ("num_hidden_layers", 3)]
)
def test_checkpoint_of_another_model(checkpoint: Path, field: str, value: int) -> None:
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, field: value}, intermediate_size=48))
    with pytest.raises(ValueError, match=f"another model: {field} was {SIZES[field]} and is now {value}"):
        check_model(checkpoint, model)


def test_checkpoint_with_other_trained_weights(checkpoint: Path, model_path: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_path)
    model.lm_head.requires_grad_(False)
    with pytest.raises(ValueError, match=r"lm_head.weight was \[\d+, 32\] and is now None"):
        check_model(checkpoint, model)


PLAIN, ZERO_2, FSDP = ({"backend": backend, "processes": 2} for backend in ("no sharding", "DeepSpeed ZeRO-2", "FSDP"))


@pytest.mark.parametrize(
    ("before", "now"),
    [(PLAIN, ZERO_2), (ZERO_2, PLAIN), (PLAIN, FSDP), (ZERO_2, {**ZERO_2, "processes": 4})],
    ids=["to zero", "from zero", "to fsdp", "zero on more"],
)
def test_optimizer_that_cannot_be_loaded_is_refused(
    checkpoint: Path, tmp_path: Path, before: dict[str, Any], now: dict[str, Any]
) -> None:
    folder = launched(checkpoint, tmp_path, before)
    with pytest.raises(ValueError, match=f"saved with {before['backend']} on 2 processes, .* uses {now['backend']} on"):
        check_same_backend(folder, now)
    check_same_backend(folder, before)


@pytest.mark.parametrize("launch", [PLAIN, FSDP])
def test_another_number_of_processes(checkpoint: Path, tmp_path: Path, launch: dict[str, Any]) -> None:
    check_same_backend(launched(checkpoint, tmp_path, launch), {**launch, "processes": 3})


def launched(checkpoint: Path, tmp_path: Path, launch: dict[str, Any]) -> Path:
    """The checkpoint as if it had been saved by this launch."""
    shutil.copytree(checkpoint, tmp_path / "checkpoint-2")
    path = tmp_path / "checkpoint-2" / MANIFEST
    manifest = json.loads(path.read_text())
    assert manifest["launch"] == {"backend": "no sharding", "processes": 1}
    path.write_text(json.dumps({**manifest, "launch": launch}))
    return path.parent


def test_trainer_refuses_the_checkpoint_of_another_backend(model_path: str, checkpoint: Path, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path)
    assert launch_of(trainer.accelerator) == {"backend": "no sharding", "processes": 1}
    with pytest.raises(ValueError, match="ZeRO-2 on 2 processes, but this run uses no sharding on 1"):
        trainer.train(resume_from_checkpoint=str(launched(checkpoint, tmp_path, ZERO_2)))


def test_adapter_and_full_model_are_told_apart(checkpoint: Path, model_path: str, tmp_path: Path) -> None:
    adapter = make_trainer(model_path, tmp_path, trainer_kwargs={"peft_config": LORA}, save_steps=1, max_steps=1)
    with pytest.raises(ValueError, match="contains a full model, but the trainer has a PEFT adapter"):
        adapter.train(resume_from_checkpoint=str(checkpoint))
    adapter.train()
    folder = tmp_path / "out" / "checkpoint-1"
    with pytest.raises(ValueError, match=r"contains a PEFT adapter, but the trainer has a full model.*peft_config"):
        make_trainer(model_path, tmp_path).train(resume_from_checkpoint=str(folder))
    other = type(LORA)(**{**LORA.to_dict(), "r": 8})
    trainer = make_trainer(model_path, tmp_path, trainer_kwargs={"peft_config": other})
    with pytest.raises(ValueError, match="another adapter: r was 4 and is now 8"):
        trainer.train(resume_from_checkpoint=True)


# Full disk


@pytest.fixture
def small_disk(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk for one checkpoint and a half: a real one where that is allowed, else the writer says so."""
    limit = int(sum(path.stat().st_size for path in checkpoint.iterdir()) * 1.5)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={limit}", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        yield disk
        subprocess.run(["umount", str(disk)], check=True)
        return
    save = torch.save

    def save_while_there_is_room(content: Any, path: Any) -> None:
        save(content, path)
        if sum(file.stat().st_size for file in disk.rglob("*") if file.is_file()) > limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", save_while_there_is_room)
    yield disk


def weights_after(model_path: str, folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    trainer = make_trainer(model_path, folder, num_iterations=2, learning_rate=1e-2, **options)
    trainer.train()
    return dict(trainer.model.named_parameters())


@pytest.mark.parametrize("known_size", [True, False], ids=["before writing", "while writing"])
def test_full_disk(
    model_path: str,
    tmp_path: Path,
    small_disk: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    known_size: bool,
) -> None:
    """Training continues and its state is intact. The earlier checkpoint stays; the new one is removed."""
    roomy = weights_after(model_path, tmp_path / "roomy", max_steps=3, save_strategy="no")
    trainer = make_trainer(model_path, small_disk, num_iterations=2, learning_rate=1e-2, max_steps=3, save_steps=1)
    if not known_size:
        monkeypatch.setattr(
            saving.CheckpointSaver, "_previous_bytes", property(lambda _: 0, lambda *_: None), raising=False
        )
    with (
        caplog.at_level(logging.ERROR, logger="trl_archer.grpo.saving"),
        pytest.raises(CheckpointError, match=r"checkpoint-3 could not be written: .* No later save is due"),
    ):
        trainer.train()
    (said,) = (record.getMessage() for record in caplog.records if record.name == "trl_archer.grpo.saving")
    assert f"{small_disk}/out/checkpoint-2 could not be written" in said
    assert "bytes are free there" in said
    assert "tries again at the next save" in said
    assert {path.name for path in (small_disk / "out").glob("checkpoint-*")} == {"checkpoint-1"}
    assert why_incomplete(small_disk / "out" / "checkpoint-1") is None
    assert trainer.state.global_step == 3
    assert all(torch.equal(p, roomy[name]) for name, p in trainer.model.named_parameters())


def test_space_freed_in_time(model_path: str, tmp_path: Path, small_disk: Path) -> None:
    """The next save succeeds, and a run resumed from it is exact."""
    trainer = make_trainer(model_path, small_disk, num_iterations=2, learning_rate=1e-2, max_steps=4, save_steps=1)
    save = trainer._save_checkpoint

    def free_space_before_the_third(model: Any, trial: Any) -> None:
        if trainer.state.global_step >= 3:
            shutil.rmtree(small_disk / "out" / f"checkpoint-{1 if trainer.state.global_step == 3 else 3}")
        save(model, trial)

    trainer._save_checkpoint = free_space_before_the_third
    trainer.train()
    assert {path.name for path in (small_disk / "out").glob("checkpoint-*")} == {"checkpoint-4"}
    assert trainer._saver._failed_in_a_row == 0
    assert find_checkpoint(True, trainer.args) == small_disk / "out" / "checkpoint-4"


def test_full_disk_where_the_ranks_cannot_agree(
    model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the middle of what DeepSpeed writes."""
    trainer = make_trainer(model_path, tmp_path, max_steps=2, save_steps=1)
    save = trainer._save_optimizer_and_scheduler

    def fail_in_the_second(output_dir: str) -> None:
        if trainer.state.global_step == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(output_dir)

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", fail_in_the_second)
    monkeypatch.setattr(saving.CheckpointSaver, "_others_are_busy", lambda *_: True)
    with pytest.raises(CheckpointError, match=r"checkpoint-2 could not be written: OSError.* resume from the last one"):
        trainer.train()
    assert find_checkpoint(True, trainer.args) == tmp_path / "out" / "checkpoint-1"


def test_size_of_the_checkpoint_resumed_from_is_known(model_path: str, checkpoint: Path, tmp_path: Path) -> None:
    """So that a disk without room for another one is noticed before anything is written."""
    trainer = make_trainer(model_path, tmp_path, num_iterations=3, max_steps=3, save_strategy="no")
    trainer.train(resume_from_checkpoint=str(checkpoint))
    listed = json.loads((checkpoint / MANIFEST).read_text())["files"]
    assert trainer._saver._previous_bytes == checkpoint_bytes(checkpoint) == sum(listed.values()) > 10_000
    assert checkpoint_bytes(None) == checkpoint_bytes(tmp_path) == 0


def test_too_many_failed_saves_stop_training(model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(saving, "_flush", full)
    trainer = make_trainer(model_path, tmp_path, max_steps=8, save_steps=2, max_failed_saves=2)
    with pytest.raises(CheckpointError, match=r"stops after 2 failed saves in a row \(max_failed_saves=2\)"):
        trainer.train()
    assert trainer.state.global_step == 4
    assert list((tmp_path / "out").glob("checkpoint-*")) == []


def test_errors_that_are_not_of_writing_are_not_swallowed(
    model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr("trl_archer.grpo.trainer.save_progress", broken)
    with pytest.raises(RuntimeError, match="CUDA error"):
        make_trainer(model_path, tmp_path, max_steps=4, save_steps=1).train()


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        ({}, {"temperature": 0.7}),
        ({"beta": 0.0}, {"beta": 0.001}),
        ({}, {"scale_rewards": "none"}),
        ({}, {"mask_zero_std_groups": False}),
    ],
    ids=lambda value: ",".join(value) or "defaults",
)
def test_settings_that_a_rollout_depends_on(
    model_path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, before: dict[str, Any], changes: dict[str, Any]
) -> None:
    """In the middle of a rollout, its completions are sampled again, and the ratio of unmoved weights is 1."""
    options: dict[str, Any] = {"num_iterations": 3, "learning_rate": 0.0, "save_steps": 2}
    make_trainer(model_path, tmp_path, **options, **before, max_steps=2).train()
    with caplog.at_level(logging.WARNING, logger="trl_archer.grpo.progress"):
        trainer = make_trainer(model_path, tmp_path, **{**options, **before, **changes}, max_steps=3)
        trainer.train(resume_from_checkpoint=True)
    assert "completions are sampled again" in caplog.text
    last = trainer.state.log_history[-2]
    assert last["step"] == 3
    assert last["clip_ratio/region_mean"] == 0.0
    assert last.get("kl", 0.0) <= 1e-6
