"""Samples come from the policy, follow the seed and change nothing else."""

import math
from functools import partial

import pytest
import torch

from trl_archer.evaluation import sample
from trl_archer.playground import load_policy, sample_problems

PROMPT = "3 5 6 8 = 10 >"
draw = partial(sample, max_new_tokens=32)


@pytest.fixture(scope="module")
def policy():
    return load_policy()


def test_sampling_changes_neither_the_model_nor_the_random_state(policy):
    model, tokenizer = policy
    model.train()
    model.model.layers[1].eval()
    try:
        modes = [module.training for module in model.modules()]
        state, generation = torch.get_rng_state(), model.generation_config.to_dict()
        draw(model, tokenizer, [PROMPT], 2, seed=1)
        with pytest.raises(TypeError):
            draw(model, tokenizer, [PROMPT, None], 1)
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), state)
        assert model.generation_config.to_dict() == generation
        assert torch.is_grad_enabled()
        assert tokenizer.padding_side == "left"
        assert all(parameter.grad is None for parameter in model.parameters())
    finally:
        model.eval()


def test_samples_follow_the_seed(policy):
    model, tokenizer = policy
    prompts = [problem.prompt for problem in sample_problems("eval", 4, seed=0)]
    first = draw(model, tokenizer, prompts, 6, seed=0)
    assert first == draw(model, tokenizer, prompts, 6, seed=0)
    assert first != draw(model, tokenizer, prompts, 6, seed=1)
    assert [len(row) for row in first] == [6] * 4
    assert len(set(first[0])) > 1


def test_samples_come_from_the_policy(policy):
    model, tokenizer = policy
    texts = sample(model, tokenizer, [PROMPT], 4000, max_new_tokens=1, batch_size=500)[0]
    first_words = [text.split()[0] for text in texts]
    with torch.no_grad():
        probabilities = model(**tokenizer([PROMPT], return_tensors="pt")).logits[0, -1].softmax(-1)
    for word in "3 5 6 8".split():
        p = probabilities[tokenizer.convert_tokens_to_ids(word)].item()
        assert first_words.count(word) / 4000 == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 4000) + 1e-3)


def test_greedy_is_the_most_likely_token_at_each_step(policy):
    model, tokenizer = policy
    prompts = [problem.prompt for problem in sample_problems("eval", 8, seed=0)]
    for prompt, (text,) in zip(prompts, draw(model, tokenizer, prompts, 1, temperature=0.0), strict=True):
        ids = tokenizer(f"{prompt} {text} <eos>", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            best = model(input_ids=ids).logits[0].argmax(-1)
        start = len(prompt.split())
        assert best[start - 1 : -1].tolist() == ids[0, start:].tolist()


def test_left_padding_does_not_change_the_samples(policy):
    model, tokenizer = policy
    prompts = ["3 5 6 8 = 10 >", "5 8 = 13 >", "1 >"]
    together = draw(model, tokenizer, prompts, 1, temperature=0.0)
    assert together == [draw(model, tokenizer, [prompt], 1, temperature=0.0)[0] for prompt in prompts]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0 is below 1. Draw"),
        ({"temperature": -1.0}, "temperature=-1.0 is negative. Use 0.0"),
        ({"batch_size": 0}, "batch_size=0 is below 1. Use"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 is below 1. Use"),
    ],
)
def test_invalid_options_are_named(policy, options, message):
    with pytest.raises(ValueError, match=message):
        sample(*policy, [PROMPT], **{"k": 1, "max_new_tokens": 4, **options})
