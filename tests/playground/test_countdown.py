"""Countdown: the verifier, the solver, the demonstrator and the splits."""

import itertools
import pickle
import random
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_archer.playground.countdown import (
    SPLITS,
    Problem,
    all_problems,
    countdown_reward,
    decision_mask,
    demonstrate,
    legal_moves,
    load_dataset,
    reachable,
    sample_problems,
    solve,
    to_expression,
    verify,
)

PROBLEM = Problem((3, 5, 6, 8), 10)
SOLUTION = "5 + 8 = 13 : 3 6 13 ; 3 + 13 = 16 : 6 16 ; 16 - 6 = 10 : 10 ;"

SECONDS_FOR_MEGABYTES = 2.0

SOLVED = {
    "canonical": SOLUTION,
    "operands of + swapped": SOLUTION.replace("5 + 8", "8 + 5"),
    "numbers left in another order": SOLUTION.replace(": 3 6 13 ;", ": 13 3 6 ;"),
    "whitespace around": f"  {SOLUTION}\n\t ",
    "several spaces": SOLUTION.replace(" ", "  "),
    "other solution": "6 - 3 = 3 : 3 5 8 ; 8 - 3 = 5 : 5 5 ; 5 + 5 = 10 : 10 ;",
}
NOT_SOLVED = {
    "empty": "",
    "spaces": "   ",
    "one step": "5 + 8 = 13 : 3 6 13 ;",
    "two steps": "5 + 8 = 13 : 3 6 13 ; 3 + 13 = 16 : 6 16 ;",
    "last separator missing": SOLUTION[:-2],
    "text after the end": SOLUTION + " 10",
    "extra separator": SOLUTION + " ;",
    "fourth step": SOLUTION + " 10 + 0 = 10 : 10 ;",
    "eos in the text": SOLUTION + " <eos>",
    "other target": "5 + 8 = 13 : 3 6 13 ; 3 + 13 = 16 : 6 16 ; 6 + 16 = 22 : 22 ;",
    "wrong result": "5 + 8 = 10 : 3 6 10 ; 3 + 10 = 13 : 6 13 ; 13 - 6 = 7 : 10 ;",
    "wrong sum that hits the target": SOLUTION.replace("16 - 6 = 10", "16 + 6 = 10"),
    "number used twice": "5 + 5 = 10 : 3 6 10 ; 3 + 6 = 9 : 9 10 ; 10 - 9 = 1 : 10 ;",
    "number not there": "5 + 9 = 14 : 3 6 14 ; 14 - 6 = 8 : 3 8 ; 3 + 8 = 11 : 10 ;",
    "result used before it exists": "13 + 3 = 16 : 5 6 16 ; 5 + 8 = 13 : 6 16 ; 16 - 6 = 10 : 10 ;",
    "number lost from the list": SOLUTION.replace(": 3 6 13 ;", ": 3 13 13 ;"),
    "number changed in the list": SOLUTION.replace(": 3 6 13 ;", ": 4 6 13 ;"),
    "list too short": SOLUTION.replace(": 3 6 13 ;", ": 6 13 ;"),
    "list too long": SOLUTION.replace(": 10 ;", ": 10 10 ;"),
    "negative result": "3 - 5 = -2 : -2 6 8 ; 8 + -2 = 6 : 6 6 ; 6 + 6 = 12 : 10 ;",
    "negative result without sign": "3 - 5 = 2 : 2 6 8 ; 2 + 6 = 8 : 8 8 ; 8 + 8 = 16 : 10 ;",
    "multiplication": SOLUTION.replace("5 + 8 = 13", "5 * 8 = 13"),
    "no spaces": SOLUTION.replace(" ", ""),
    "leading zero": SOLUTION.replace("5 + 8", "05 + 8"),
    "plus sign": SOLUTION.replace("5 + 8", "+5 + 8"),
    "decimal": SOLUTION.replace("= 13", "= 13.0"),
    "underscore": SOLUTION.replace("= 13", "= 1_3"),
    "arabic digits": SOLUTION.replace("5 + 8", "\u0665 + \u0668"),
    "full-width digits": SOLUTION.replace("5 + 8", "\uff15 + \uff18"),
    "superscript digit": SOLUTION.replace("5 + 8", "5 + \u2078"),
    "no-break spaces": SOLUTION.replace(" ", "\u00a0"),
    "unicode minus": SOLUTION.replace("-", "\u2212"),
    "lone surrogate": "\ud800" + SOLUTION,
    "null byte": SOLUTION.replace("5 + 8", "5\0 + 8"),
    "huge number": SOLUTION.replace("13", "9" * 5000),
    "infinity and nan": SOLUTION.replace("13", "inf").replace("16", "nan"),
    "code": "__import__('os').system('true') ; " * 3,
    "only separators": "; " * 27,
    "answer alone": "10",
    "None": None,
    "int": 10,
    "bytes": SOLUTION.encode(),
    "words": SOLUTION.split(),
}


@pytest.mark.parametrize("completion", SOLVED.values(), ids=SOLVED.keys())
def test_verify_accepts(completion):
    assert verify(PROBLEM, completion) == verify(PROBLEM.prompt, completion) == 1


@pytest.mark.parametrize("completion", NOT_SOLVED.values(), ids=NOT_SOLVED.keys())
def test_verify_rejects(completion):
    assert verify(PROBLEM, completion) == verify(PROBLEM.prompt, completion) == 0


def test_verify_checks_this_problem():
    assert verify(Problem((3, 5, 6, 8), 11), SOLUTION) == 0
    assert verify(Problem((3, 5, 7, 8), 10), SOLUTION) == 0


@pytest.mark.parametrize("unit", [" ", "5 + 8 = 13 : 3 6 13 ; ", "9", "\u0665", "\n", ";", SOLUTION + " "])
def test_verify_handles_megabytes(unit):
    text = unit * (20_000_000 // len(unit))
    start = time.perf_counter()
    assert verify(PROBLEM, text) == verify(PROBLEM, SOLUTION + " " + text.strip() + "x") == 0
    assert verify(PROBLEM, SOLUTION + " " * len(text)) == 1
    assert time.perf_counter() - start < SECONDS_FOR_MEGABYTES


@given(st.one_of(st.text(), st.lists(st.sampled_from(f"{SOLUTION} * 0 100 -1 x".split())).map(" ".join)))
def test_verify_and_to_expression_never_raise(text):
    solved, expression = verify(PROBLEM, text), to_expression(text)
    assert solved in (0, 1)
    assert expression is not None or solved == 0
    assert len(decision_mask(text.split())) == len(text.split())


@given(st.integers(0, 26), st.sampled_from("+ - = : ; 0 3 5 6 8 10 13 16 99 x".split()))
def test_one_changed_word_spoils_the_solution(position, word):
    words = SOLUTION.split()
    changed = [*words[:position], word, *words[position + 1 :]]
    assert verify(PROBLEM, " ".join(changed)) == (changed == words)


@pytest.mark.parametrize(
    "prompt",
    ["", "3 5 6 8 = 10", "3 5 6 = 10 >", "3 5 6 8 = 10 > 1", "3 5 6 8 10 = >", "3 5 6 8 = ten >", "3 5 6 16 = 10 >"],
)
def test_a_malformed_prompt_is_an_error_not_a_score(prompt):
    with pytest.raises(ValueError, match=r"is not a countdown prompt\. Use|numbers=.* is invalid"):
        verify(prompt, SOLUTION)


@pytest.mark.parametrize(
    ("numbers", "target", "message"),
    [
        ((1, 2, 3), 5, r"numbers=\(1, 2, 3\) is invalid. Use 4 integers in 1..15"),
        ((0, 2, 3, 4), 5, "numbers=.0, 2, 3, 4. is invalid"),
        ((1, 2, 3, 16), 5, "numbers=.1, 2, 3, 16. is invalid"),
        ((1, 2, 3, 4.0), 5, "4.0"),
        ((1, 2, 3, 4), 0, "target=0 is invalid. Use an integer in 1..50"),
        ((1, 2, 3, 4), 51, "target=51 is invalid"),
    ],
)
def test_problem_out_of_range(numbers, target, message):
    with pytest.raises(ValueError, match=message):
        Problem(numbers, target)


def test_problem_is_canonical():
    problem = Problem((8, 6, 5, 3), 10)
    assert problem == PROBLEM
    assert hash(problem) == hash(PROBLEM)
    assert problem.prompt == "3 5 6 8 = 10 >"
    assert Problem.from_prompt(problem.prompt) == problem


def test_decision_mask():
    marked = [
        word for word, decision in zip(SOLUTION.split(), decision_mask(SOLUTION.split()), strict=True) if decision
    ]
    assert marked == "5 + 8 3 + 13 16 - 6".split()
    assert decision_mask("; ; <eos> 5 = 5".split()) == [False, False, False, True, False, False]


def brute_force(numbers):
    """Values of all trees over all orders of the numbers, without intermediate values outside 0..99."""

    def trees(leaves):
        if len(leaves) == 1:
            yield leaves[0]
        for cut in range(1, len(leaves)):
            for left, right in itertools.product(set(trees(leaves[:cut])), set(trees(leaves[cut:]))):
                yield from (value for value in (left + right, left - right) if 0 <= value <= 99)

    return {value for order in itertools.permutations(numbers) for value in trees(order)}


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_solver_agrees_with_brute_force(size):
    for numbers in itertools.combinations_with_replacement((1, 2, 3, 7, 15), size):
        assert reachable(numbers) == brute_force(numbers), numbers


def test_values_above_99_are_out_of_reach():
    assert reachable((40, 60)) == {20} == brute_force((40, 60))
    assert reachable((1, 40, 60)) == {19, 21, 99} == brute_force((1, 40, 60))


def test_solve_finds_a_solution_exactly_where_there_is_one():
    for numbers in itertools.combinations_with_replacement((2, 3, 5, 11), 4):
        for target in range(1, 51):
            trace = solve(Problem(numbers, target))
            assert (trace is not None) == (target in brute_force(numbers))
            assert trace is None or verify(Problem(numbers, target), trace) == 1


def test_legal_moves_are_distinct_and_canonical():
    assert [str(move) for move in legal_moves((3, 3, 8))] == [
        "3 + 3 = 6 : 6 8 ;",
        "3 - 3 = 0 : 0 8 ;",
        "3 + 8 = 11 : 3 11 ;",
        "8 - 3 = 5 : 3 5 ;",
    ]


@settings(max_examples=300)
@given(st.lists(st.integers(1, 15), min_size=4, max_size=4), st.integers(1, 50), st.integers(), st.floats(0, 1))
def test_demonstrations_are_legal_and_canonical(numbers, target, seed, random_move):
    trace = demonstrate(Problem(tuple(numbers), target), random.Random(seed), random_move)
    expression = to_expression(trace)
    assert expression is not None
    value = eval(expression)
    assert trace.endswith(f": {value} ;")
    assert len(trace.split()) == 27
    for step in trace.rstrip(" ;").split(" ; "):
        left, operator, right, *_ = step.split()
        rest = [int(word) for word in step.split(" : ")[1].split()]
        assert rest == sorted(rest)
        assert int(left) <= int(right) if operator == "+" else int(left) >= int(right)
    if 1 <= value <= 50:
        assert verify(Problem(tuple(numbers), value), trace) == 1
    assert verify(Problem(tuple(numbers), target), trace) == (value == target)


def test_demonstrator_solves_more_with_fewer_random_moves():
    problems, rng = sample_problems("warm_start", 1000, seed=0), random.Random(0)
    solved = [sum(verify(p, demonstrate(p, rng, random_move)) for p in problems) for random_move in (0.0, 0.3, 1.0)]
    assert solved[0] == 1000
    assert 500 < solved[1] < 750
    assert solved[2] < 250


@pytest.mark.parametrize("random_move", [-0.1, 1.1, float("nan")])
def test_demonstrate_rejects_values_outside_0_1(random_move):
    with pytest.raises(ValueError, match=f"random_move={random_move} is not a probability"):
        demonstrate(PROBLEM, random.Random(0), random_move)


@pytest.mark.parametrize(
    "trace",
    [
        "",
        None,
        "5 + 8 = 13 : 3 6 12 ; 3 + 13 = 16 : 6 16 ; 16 - 6 = 10 : 10 ;",
        SOLUTION + " x",
        "20 - 8 = 12 : 3 6 12 ; 3 + 12 = 15 : 6 15 ; 15 - 6 = 9 : 9 ;",
    ],
)
def test_no_expression_for_an_illegal_trace(trace):
    assert to_expression(trace) is None


def test_splits_partition_the_solvable_problems():
    pools = {split: set(all_problems(split)) for split in SPLITS}
    for first, second in itertools.combinations(pools.values(), 2):
        assert not first & second
    every = {
        Problem(numbers, target)
        for numbers in itertools.combinations_with_replacement(range(1, 16), 4)
        for target in range(1, 51)
        if target in reachable(numbers)
    }
    assert set().union(*pools.values()) == every
    for split, share in SPLITS.items():
        assert len(pools[split]) / len(every) == pytest.approx(share / 100, abs=0.02)


@pytest.mark.parametrize("split", SPLITS)
def test_samples_are_distinct_solvable_and_from_their_split(split):
    problems = sample_problems(split, 1500, seed=3)
    assert len(set(problems)) == 1500
    assert set(problems) <= set(all_problems(split))
    assert all(verify(problem, solve(problem)) == 1 for problem in problems)
    assert problems == sample_problems(split, 1500, seed=3) != sample_problems(split, 1500, seed=4)


def test_samples_are_the_same_in_every_process():
    code = "from trl_archer.playground import sample_problems; print(sample_problems('rl', 50, 7))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert outputs == {f"{sample_problems('rl', 50, 7)}\n"}


def test_samples_stay_the_same():
    assert [p.prompt for p in sample_problems("eval", 3, seed=0)] == [
        "7 10 12 13 = 28 >",
        "2 10 12 13 = 17 >",
        "6 7 8 15 = 8 >",
    ]


@pytest.mark.parametrize(
    ("split", "n", "message"),
    [
        ("test", 1, "split='test' is unknown. Use one of 'warm_start', 'rl', 'eval'"),
        ("rl", 0, "n=0 is outside 1.."),
        ("rl", -1, "n=-1 is outside"),
        ("eval", 10**6, "n=1000000 is outside 1..1942, the size of split 'eval'"),
    ],
)
def test_bad_samples(split, n, message):
    with pytest.raises(ValueError, match=message):
        sample_problems(split, n, seed=0)


def test_load_dataset():
    dataset = load_dataset("rl", 20, seed=5)
    assert dataset.column_names == ["prompt", "numbers", "target"]
    problems = [Problem(tuple(row["numbers"]), row["target"]) for row in dataset]
    assert problems == sample_problems("rl", 20, seed=5)
    assert dataset["prompt"][:] == [problem.prompt for problem in problems]


def test_reward_of_plain_and_conversational_completions():
    texts = [SOLUTION, "10", "", SOLUTION + " 10"]
    prompts = [PROBLEM.prompt] * len(texts)
    expected = [1.0, 0.0, 0.0, 0.0]
    assert countdown_reward(prompts, texts, numbers=[[3, 5, 6, 8]] * 4, trainer_state=None) == expected
    chats = [[{"role": "system", "content": "Play."}, {"role": "user", "content": prompt}] for prompt in prompts]
    replies = [[{"role": "assistant", "content": text}] for text in texts]
    assert countdown_reward(prompts=chats, completions=replies) == expected
    no_text = [[], [{"role": "assistant", "content": None}], [{"role": "assistant"}]]
    assert countdown_reward(chats[:3], no_text) == [0.0] * 3


def test_reward_can_be_pickled():
    assert pickle.loads(pickle.dumps(countdown_reward)) is countdown_reward


def test_reward_needs_as_many_completions_as_prompts():
    with pytest.raises(ValueError, match="zip"):
        countdown_reward([PROBLEM.prompt], [])


def test_importing_the_playground_loads_neither_torch_nor_datasets():
    code = (
        "import sys, trl_archer.playground as p; p.verify, p.sample_problems, p.countdown_reward; "
        "print({'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
