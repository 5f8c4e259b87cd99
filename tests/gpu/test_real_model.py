"""The benchmark on a real language model, with a tiny one in its place."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

from benchmarks.real_model import __main__ as benchmark
from benchmarks.real_model import facts, knowledge, scales, task, weights
from trl_archer.rewards import math_reward

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
PROBLEMS = [
    task.Problem(
        f"Now, how many legs are there in total if you have {n} cats, {m} ants?\n",
        str(4 * n + 6 * m),
        [(n, "cat" + "s" * (n > 1), 4), (m, "ant" + "s" * (m > 1), 6)],
    )
    for n in range(1, 9)
    for m in range(1, 9)
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma with a tokenizer of its kind: bytes as a fallback, spaces in front of words, `<bos>`."""
    folder = tmp_path_factory.mktemp("benchmark") / "whole"
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=[*SPECIAL, *bytes_], show_progress=False)
    texts = [knowledge.PAGE.read_text()] * 3 + [p.prompt + task.demonstrate(p) for p in PROBLEMS]
    tokenizer.train_from_iterator([*texts, *knowledge.sentences(), "ä ö zebra"], trainer)
    settings = json.loads(tokenizer.to_str())  # only the trainer needs bytes as special tokens
    settings["added_tokens"] = [token for token in settings["added_tokens"] if token["content"] in SPECIAL]
    tokenizer = Tokenizer.from_str(json.dumps(settings))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)]
    )
    special = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        dtype="float32",
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    (folder / "done").touch()
    (folder.parent / "problems_2_5.json").write_text(
        json.dumps(
            {"warm_start": PROBLEMS[:24], "train": PROBLEMS[24:48], "held_out": PROBLEMS[48:], "unseen": PROBLEMS}
        )
    )
    return folder


def test_cut_vocabulary_changes_neither_tokens_nor_scores(whole: Path, tmp_path: Path) -> None:
    texts = [p.prompt + task.demonstrate(p) for p in PROBLEMS]
    full, full_tokenizer = weights.load(whole, "cpu")
    small, tokenizer = weights.load(weights.cut(whole, texts, tmp_path / "cut"), "cpu")
    assert 300 < len(tokenizer) < 0.7 * len(full_tokenizer)
    for text in texts:
        old, new = (t.convert_ids_to_tokens(t(text)["input_ids"]) for t in (full_tokenizer, tokenizer))
        assert new == old
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert tokenizer.decode(tokenizer("naïve €")["input_ids"], skip_special_tokens=True) == "naïve €"
    ids = [torch.tensor([t(texts[0])["input_ids"]]) for t in (full_tokenizer, tokenizer)]
    with torch.no_grad():
        before, after = (model(input_ids=x).logits for model, x in zip((full, small), ids, strict=True))
    kept = full_tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    torch.testing.assert_close(after, before[:, :, kept], rtol=0, atol=1e-5)


def test_demonstrations_are_right() -> None:
    completions = [task.demonstrate(p) for p in PROBLEMS]
    assert math_reward(completions, [p.answer for p in PROBLEMS]) == [1.0] * len(PROBLEMS)


def test_facts_have_one_true_end() -> None:
    known = [*facts.facts(), *facts.legs(), *facts.legs_in_the_task()]
    assert all(fact.true not in fact.false and len(fact.false) >= 2 for fact in known)
    begins = [fact.begin for fact in known]
    assert len(set(begins)) == len(begins)


def test_ends_are_scored_as_one_by_one(whole: Path) -> None:
    """In a batch, padded to the longest."""
    model, tokenizer = weights.load(whole, "cpu")
    pairs = [(fact.begin, end) for fact in facts.facts()[:9] for end in (fact.true, *fact.false)]
    with torch.no_grad():
        found = knowledge.end_logps(model, tokenizer, pairs)
        for (begin, end), logp in zip(pairs, found, strict=True):
            before, after = tokenizer(begin)["input_ids"], tokenizer(end, add_special_tokens=False)["input_ids"]
            logps = model(input_ids=torch.tensor([[*before, *after]])).logits[0].log_softmax(-1)
            expected = sum(logps[len(before) - 1 + i, token].item() for i, token in enumerate(after))
            assert logp == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_whole_benchmark(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both methods, interrupted and continued, then another seed."""
    results = tmp_path / "results.json"

    def call(*options: str) -> list[dict[str, Any]]:
        arguments = ["--scale", "rehearsal", "--folder", str(whole.parent), "--results", str(results), *options]
        monkeypatch.setattr(sys, "argv", ["real_model", *arguments])
        benchmark.main()
        return json.loads(results.read_text())["runs"]

    scale = dataclasses.replace(scales.SCALES["rehearsal"], updates=4, checkpoint_every=2)
    monkeypatch.setitem(scales.SCALES, "rehearsal", scale)
    monkeypatch.setattr(benchmark, "EVALUATION_SHARE", 1.0)  # leaves no time for updates
    (stopped,) = call("--budget", "100")
    monkeypatch.undo()
    monkeypatch.setitem(scales.SCALES, "rehearsal", scale)
    assert (stopped["method"], stopped["updates"]) == ("archer", 2)
    assert "after" not in stopped
    runs = call()
    assert [(r["method"], r["seed"], r["updates"]) for r in runs] == [("archer", 0, 4), ("grpo", 0, 4)]
    assert all(len(r["curves"]["reward"]) == 2 for r in runs)
    for run in runs:
        assert {"avg_at_k", "pass_at_k", "entropy/reasoning", "kl/knowledge", "perplexity"} <= run["after"].keys()
        assert run["before"] == runs[0]["before"]
    assert [(r["method"], r["seed"]) for r in call()][2:] == [("archer", 1), ("grpo", 1)]
