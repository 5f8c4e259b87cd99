"""The playground's tokenizer, evaluation and shipped weights."""

import json
import math
import random
from functools import partial

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from benchmarks import warm_start
from trl_archer.evaluation import sample
from trl_archer.evaluation.sampling import Batch
from trl_archer.objective import reasoning_gate
from trl_archer.playground import (
    build_model,
    build_tokenizer,
    demonstrate,
    evaluate_policy,
    load_policy,
    policy,
    sample_problems,
    token_roles,
    verify,
)
from trl_archer.playground.countdown import Problem
from trl_archer.playground.evaluate import MAX_COMPLETION_LENGTH, token_entropies

SOLUTION = "5 + 8 = 13 : 3 6 13 ; 3 + 13 = 16 : 6 16 ; 16 - 6 = 10 : 10 ;"
PROMPT = "3 5 6 8 = 10 >"

# Float32 forward passes over the same tokens with different padding; logits and entropies are of order 1 to 10.
FLOAT32_FORWARD = 1e-4
# Another machine or torch version may draw different samples: five standard errors of a share over 2048 samples.
SHARE = 5 * 0.5 / math.sqrt(256 * 8)
# Relative tolerance of mean entropies over about ten thousand tokens, most of them near 0.
ENTROPY = 0.2

MAX_WEIGHT_BYTES = 3_000_000


@pytest.fixture(scope="module")
def shipped():
    return load_policy()


@pytest.fixture(scope="module")
def metrics():
    return json.loads((policy.POLICY_DIR / "metrics.json").read_text())


def random_state():
    return torch.get_rng_state().tolist()


def test_tokenizer_round_trip():
    tokenizer = build_tokenizer()
    rng = random.Random(0)
    for problem in sample_problems("rl", 200, seed=0):
        for text in (problem.prompt, demonstrate(problem, rng)):
            ids = tokenizer(text)["input_ids"]
            assert len(ids) == len(text.split())
            assert tokenizer.decode(ids) == text


def test_tokenizer_knows_each_word_and_nothing_else():
    tokenizer = build_tokenizer()
    words = ["<pad>", "<eos>", "<unk>", *"+ - = : ; >".split(), *map(str, range(100))]
    assert tokenizer.get_vocab() == {word: i for i, word in enumerate(words)}
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token) == ("<pad>", "<eos>", "<unk>")
    assert tokenizer("5+8 100 007 x >; \u0665")["input_ids"] == [tokenizer.unk_token_id] * 6
    assert tokenizer.decode(tokenizer(SOLUTION + " <eos>")["input_ids"], skip_special_tokens=True) == SOLUTION


def test_tokenizer_pads_on_the_left():
    batch = build_tokenizer()(["5 >", "3 5 >"], padding=True)
    assert batch["input_ids"] == [[0, 14, 8], [12, 14, 8]]
    assert batch["attention_mask"] == [[0, 1, 1], [1, 1, 1]]


def test_build_model_is_seeded_and_leaves_the_random_state():
    before = random_state()
    one, same, other = build_model(1), build_model(1), build_model(2)
    assert random_state() == before
    assert 600_000 < one.num_parameters() < 750_000
    assert {parameter.dtype for parameter in one.parameters()} == {torch.float32}
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_shipped_policy_loads_offline_from_the_package(shipped):
    model, tokenizer = shipped
    assert model.config._name_or_path == str(policy.POLICY_DIR)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    assert tokenizer.padding_side == "left"
    assert tokenizer.decode(tokenizer(SOLUTION)["input_ids"]) == SOLUTION
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 1)
    assert sum(path.stat().st_size for path in policy.POLICY_DIR.iterdir()) < MAX_WEIGHT_BYTES


def test_missing_weights_say_how_to_make_them(monkeypatch, tmp_path):
    monkeypatch.setattr(policy, "POLICY_DIR", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.warm_start --output"):
        load_policy()


@pytest.mark.slow
def test_shipped_policy_behaves_as_its_card_says(shipped, metrics):
    model, tokenizer = shipped
    expected = metrics["evaluation"]
    assert (expected["problems"], expected["k"]) == (256, 8)
    measured = warm_start.measure(model, tokenizer, expected["seed"])
    assert set(measured) < set(expected)
    for name, value in measured.items():
        tolerance = {"rel": ENTROPY} if "entropy" in name else {"abs": SHARE}
        assert value == pytest.approx(expected[name], **tolerance), name
    assert measured["entropy_reasoning"] > 10 * measured["entropy_knowledge"]
    assert metrics["parameters"] == model.num_parameters()


def test_model_card_is_rendered_from_the_metrics(metrics):
    assert (policy.POLICY_DIR / "README.md").read_text() == warm_start.render_card(metrics)


def test_training_is_seeded_and_learns_the_format():
    (model, loss), (again, same_loss) = warm_start.train(seed=3, steps=10), warm_start.train(seed=3, steps=10)
    assert loss == same_loss < math.log(109)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not model.training


def test_training_batch_labels_completion_and_eos_only():
    tokenizer = build_tokenizer()
    problems = sample_problems("warm_start", 5, seed=0)
    ids, labels = warm_start.make_batch(tokenizer, problems, random.Random(0))
    assert ids.shape == labels.shape == (5, 7 + 27 + 1)
    assert (labels[:, :7] == -100).all()
    assert torch.equal(labels[:, 7:], ids[:, 7:])
    rng = random.Random(0)
    for problem, row in zip(problems, ids, strict=True):
        assert tokenizer.decode(row) == f"{problem.prompt} {demonstrate(problem, rng)} <eos>"


def test_evaluation_changes_neither_the_model_nor_the_random_state(shipped):
    model, tokenizer = shipped
    model.train()
    model.model.layers[1].eval()
    try:
        modes = [module.training for module in model.modules()]
        state, generation = random_state(), model.generation_config.to_dict()
        evaluate_policy(model, tokenizer, [Problem((3, 5, 6, 8), 10)], k=2, seed=1)
        token_roles(model, tokenizer, PROMPT, SOLUTION)
        assert [module.training for module in model.modules()] == modes
        assert random_state() == state
        assert model.generation_config.to_dict() == generation
    finally:
        model.eval()


def test_left_padding_does_not_change_entropies(shipped):
    model, tokenizer = shipped
    prompts = ["3 5 6 8 = 10 >", "5 8 = 13 >", "1 >"]
    completion = tokenizer([SOLUTION] * 3, return_tensors="pt")
    padded = tokenizer(prompts, return_tensors="pt", padding=True)
    batch = Batch(padded["input_ids"], padded["attention_mask"], completion["input_ids"], completion["attention_mask"])
    entropies = token_entropies(model, batch)
    for row, prompt in zip(entropies, prompts, strict=True):
        ids = tokenizer(f"{prompt} {SOLUTION}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, len(prompt.split()) - 1 : -1]
        expected = torch.distributions.Categorical(logits=logits.double()).entropy().float()
        torch.testing.assert_close(row, expected, rtol=0, atol=FLOAT32_FORWARD)


def test_masked_completion_tokens_have_no_entropy_and_no_influence(shipped):
    model, tokenizer = shipped
    prompt, completion = (tokenizer([text], return_tensors="pt") for text in (PROMPT, SOLUTION))
    ids, mask = completion["input_ids"].clone(), completion["attention_mask"].clone()
    full = token_entropies(model, Batch(prompt["input_ids"], prompt["attention_mask"], ids, mask))
    mask[:, 20:] = 0
    ids[:, 20:] = tokenizer.pad_token_id
    cut = token_entropies(model, Batch(prompt["input_ids"], prompt["attention_mask"], ids, mask))
    torch.testing.assert_close(cut[:, :20], full[:, :20], rtol=0, atol=FLOAT32_FORWARD)
    assert (cut[:, 20:] == 0).all()
    assert (full[:, 20:] > 0).all()


def test_token_roles(shipped):
    model, tokenizer = shipped
    roles = token_roles(model, tokenizer, PROMPT, SOLUTION + " " + tokenizer.eos_token)
    texts, entropies, reasoning = zip(*roles, strict=True)
    assert " ".join(texts) == SOLUTION + " <eos>"
    assert all(0 <= entropy <= math.log(109) for entropy in entropies)
    gate = reasoning_gate(torch.tensor([entropies]), torch.ones(1, 28), entropy_quantile=0.8, gate_width=0.0)
    assert list(reasoning) == [bool(weight) for weight in gate[0]]
    assert sum(reasoning) == 6
    assert reasoning[0]
    assert not reasoning[3]
    assert token_roles(model, tokenizer, PROMPT, "") == []


def test_evaluation_matches_its_samples(shipped):
    model, tokenizer = shipped
    problems = sample_problems("eval", 16, seed=2)
    measured, counts, samples = evaluate_policy(model, tokenizer, problems, k=4, seed=5)
    prompts = [problem.prompt for problem in problems]
    draw = partial(sample, model, tokenizer, prompts, max_new_tokens=MAX_COMPLETION_LENGTH)
    texts = draw(4, seed=5)
    correct = [[verify(problem, text) for text in row] for problem, row in zip(problems, texts, strict=True)]
    assert (counts, samples) == (list(map(sum, correct)), 4)
    assert measured["avg_at_k"] == sum(map(sum, correct)) / 64
    assert measured["pass_at_k"] == sum(map(any, correct)) / 16
    greedy = draw(1, temperature=0.0)
    assert measured["greedy"] == sum(verify(p, text) for p, (text,) in zip(problems, greedy, strict=True)) / 16


def test_evaluation_needs_problems(shipped):
    with pytest.raises(ValueError, match=r"problems=\[\] is empty. Pass"):
        evaluate_policy(*shipped, [])
