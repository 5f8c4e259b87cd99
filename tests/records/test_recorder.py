"""The token recorder: what it writes is what the objective saw, and nothing changes by writing it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from trl_archer import ArcherGRPOConfig
from trl_archer.records import read_token_records
from trl_archer.records.recorder import TokenRecorder

from ..helpers.tiny import PROMPTS, TOKENIZER, length_reward, make_trainer, save_model


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


def some_unscorable(completions, **kwargs):
    rewards = length_reward(completions)
    return [None if index == 0 else reward for index, reward in enumerate(rewards)]


def sentencepiece() -> PreTrainedTokenizerFast:
    """Decodes as Llama 2 does, without the first space."""
    words = ["▁the", "▁cat", "s", ",", "<0x0A>", "<eos>"]
    inner = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>")


def byte_level() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE({word: number for number, word in enumerate(["Ġthe", "Ġcat", "s", ",", "Ċ"])}, []))
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


@pytest.mark.parametrize(
    ("tokenizer", "ids", "text"),
    [
        (TOKENIZER, TOKENIZER("5 + 8 = 13 ;")["input_ids"], "5 + 8 = 13 ;"),
        (sentencepiece(), [0, 1, 2, 3, 0, 4, 1, 5], "the cats, the\n cat<eos>"),
        (byte_level(), [0, 1, 2, 3, 0, 4, 1], " the cats, the\n cat"),
    ],
    ids=["words", "sentencepiece", "bytes"],
)
def test_joined_tokens_are_the_text(tmp_path: Path, tokenizer: Any, ids: list[int], text: str) -> None:
    recorder = TokenRecorder(ArcherGRPOConfig(str(tmp_path), use_cpu=True, bf16=False), tokenizer.decode)
    assert tokenizer.decode(ids) == text
    assert "".join(recorder._piece(token) for token in ids).strip(" ") == text.strip(" ")


def test_records_are_what_the_update_saw(model_path: str, tmp_path: Path):
    trainer = make_trainer(
        model_path,
        tmp_path,
        reward_funcs=some_unscorable,
        token_records_steps=2,
        max_steps=4,
        num_iterations=2,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        num_generations=4,
        epsilon_reasoning=0.3,
    )
    trainer.train()

    folder = tmp_path / "out" / "token_records"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002.parquet", "step-00000004.parquet"]
    logs = {entry["step"]: entry for entry in trainer.state.log_history if "loss" in entry}
    for step in (2, 4):
        records = read_token_records(folder, step)
        assert records.settings["reasoning"] == {"epsilon_low": 0.3, "epsilon_high": 0.3, "beta": 0.0}
        rows = records.completions
        mask = np.concatenate([row.mask for row in rows])
        gate = np.concatenate([row.gate for row in rows])[mask]
        entropies = np.concatenate([row.entropies for row in rows])[mask]
        logged = logs[step]
        assert entropies.mean() == pytest.approx(logged["entropy"], rel=1e-5)
        assert gate.mean() == pytest.approx(logged["archer/reasoning_fraction"], rel=1e-5)
        assert entropies[gate == 1].mean() == pytest.approx(logged["entropy/reasoning"], rel=1e-5)
        clipped = np.concatenate([row.clipped_high for row in rows])[mask]
        assert clipped.mean() == pytest.approx(logged["clip_ratio/high_mean"], rel=1e-5)
        for row in rows:
            assert row.prompt in PROMPTS
            assert row.completion == TOKENIZER.decode(row.token_ids.tolist())
            assert "".join(row.tokens).removeprefix(" ") == row.completion
            above = row.entropies > row.entropy_threshold
            assert (above == (row.gate == 1)).all()
            if row.reward is not None:
                assert row.reward == length_reward([TOKENIZER.decode(row.token_ids, skip_special_tokens=True)])[0]
        assert sum(row.reward is None for row in rows) <= 1
    second_pass = read_token_records(folder, 2).completions
    assert any(not np.allclose(row.per_token_logps, row.old_per_token_logps) for row in second_pass)
    for row in second_pass:
        assert row.ref_per_token_logps is not None
        assert np.isfinite(row.ref_per_token_logps).all()


def test_recording_changes_nothing(model_path: str, tmp_path: Path):
    weights = []
    for every in (None, 1):
        torch.manual_seed(0)
        trainer = make_trainer(model_path, tmp_path / str(every), token_records_steps=every, seed=3)
        trainer.train()
        weights.append(trainer.model.lm_head.weight.detach())
    assert torch.equal(*weights)


def test_on_policy_without_a_reference(model_path: str, tmp_path: Path):
    make_trainer(model_path, tmp_path, token_records_steps=1, max_steps=1, beta=0.0).train()
    for row in read_token_records(tmp_path / "out" / "token_records").completions:
        assert row.ref_per_token_logps is None
        assert (row.old_per_token_logps == row.per_token_logps).all()


def test_a_full_disk_does_not_end_the_run(model_path: str, tmp_path: Path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trl_archer.records.recorder.write_token_records", full)
    trainer = make_trainer(model_path, tmp_path, token_records_steps=1, max_steps=2)
    trainer.train()
    assert trainer.state.global_step == 2
    assert "No space left on device" in caplog.text


def test_bad_period():
    with pytest.raises(ValueError, match="token_records_steps=0 is below 1"):
        ArcherGRPOConfig("out", token_records_steps=0, bf16=False)
