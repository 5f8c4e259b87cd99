"""Benchmarks: which problems, how they are asked, sampled and verified. Presets follow Wang et al. 2025, Sec. 4.1."""

import difflib
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from ..rewards.named import load_rewards

PLAYGROUND = "playground"  # the data set that the package ships
_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}

_NOT_FOR_VERIFIERS = {"prompt", "id", "date", "prompts", "completions"}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    r"""
    A set of problems, with the settings to evaluate on it. Sampling defaults to that of Wang et al. 2025.

    Args:
        name (`str`): Name in logs and reports.
        dataset (`str`): Data set on the Hub, path of a JSON, JSONL, Parquet or CSV file, or `"playground"`.
        config (`str`, *optional*): Configuration of the data set on the Hub.
        split (`str`, *optional*, defaults to `"test"`): Split of the data set on the Hub.
        columns (`dict`, *optional*): Maps `prompt`, `id` and the columns of the verifier to columns of the data set. A
            list of columns becomes a dictionary of their values. Without an entry a column keeps its name, and ids are
            row numbers.
        prompt_template (`str`, *optional*): Jinja template of the prompt, rendered with all columns.
        verifier (`str` or `dict`, *optional*, defaults to `"math"`): A reward by name or import path, or a mapping with
            a `name` and settings. It returns 1, 0 or `None` (not scorable).
        k (`int`, *optional*, defaults to `8`): Samples per problem.
        temperature (`float`, *optional*, defaults to `0.8`): Sampling temperature.
        top_p (`float`, *optional*, defaults to `1.0`): Probability mass to sample from.
        max_new_tokens (`int`, *optional*, defaults to `32768`): Longest completion, in tokens.
        dates (`list` of two `str`, *optional*): Keeps problems whose column `date` lies between the first date and the
            second, exclusive, in ISO format.

    Raises:
        ValueError: If a value is out of range; the message names the benchmark, the field and its value.
    """

    name: str
    dataset: str
    config: str | None = None
    split: str = "test"
    columns: Mapping[str, str | list[str]] = field(default_factory=dict)
    prompt_template: str = "{{ prompt }}"
    verifier: str | Mapping[str, Any] = "math"
    k: int = 8
    temperature: float = 0.8
    top_p: float = 1.0
    max_new_tokens: int = 32768
    dates: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        for name in ("k", "max_new_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{self.name}: {name}={value!r} is not a positive integer.")
        if not self.temperature >= 0:
            raise ValueError(f"{self.name}: temperature={self.temperature!r} is negative. The paper uses 0.8.")
        if self.temperature == 0 and self.k > 1:
            raise ValueError(
                f"{self.name}: temperature=0 is greedy, so all k={self.k} samples of a problem would be equal. Set "
                "k=1, or a temperature above 0."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"{self.name}: top_p={self.top_p!r} is outside (0, 1]. The paper uses 1.0.")

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return json.loads(json.dumps(asdict(self)))

    def load_verifier(self) -> Callable[..., list[float | None]]:
        """The function that scores completions."""
        entry = {"name": self.verifier} if isinstance(self.verifier, str) else self.verifier
        return load_rewards([entry], field=f"{self.name}: verifier")[0]


class Problem(NamedTuple):
    """A problem as it is asked, and what the verifier needs to know."""

    id: str
    prompt: str
    columns: dict[str, Any]


def _math(name: str, dataset: str, k: int, prompt: str, solution: str = "answer", **settings: Any) -> Benchmark:
    return Benchmark(
        name=name,
        dataset=dataset,
        k=k,
        columns={"prompt": prompt, "solution": solution} | settings.pop("columns", {}),
        # The paper does not print its prompt. This one is that of our training recipes
        prompt_template="{{ prompt }}\n\nReason step by step, and put the final answer into \\boxed{}.",
        **settings,
    )


def _live_code_bench(name: str, k: int, config: str, dates: tuple[str, str]) -> Benchmark:
    return Benchmark(
        name=name,
        dataset="lighteval/code_generation_lite",
        config=config,
        k=k,
        dates=dates,
        columns={
            "prompt": "question_content",
            "id": "question_id",
            "date": "contest_date",
            "tests": ["public_test_cases", "private_test_cases", "metadata"],
        },
        prompt_template=(
            "{{ prompt }}\n\n{% if starter_code %}Complete this Python code:\n```python\n{{ starter_code }}\n```"
            "{% else %}Write a Python program that reads standard input and writes to standard output.{% endif %}\n\n"
            "Put the whole program into one ```python block."
        ),
        verifier={"name": "code", "max_tests": None},
    )


PRESETS = {
    benchmark.name: benchmark
    for benchmark in (
        _math("aime24", "HuggingFaceH4/aime_2024", 64, "problem", split="train", columns={"id": "id"}),
        _math("aime25", "math-ai/aime25", 64, "problem", columns={"id": "id"}),
        _math("amc23", "math-ai/amc23", 64, "question", columns={"id": "id"}),
        _math("math500", "HuggingFaceH4/MATH-500", 4, "problem", columns={"id": "unique_id"}),
        _math("minerva", "math-ai/minervamath", 8, "question"),
        _math("olympiad", "math-ai/olympiadbench", 4, "question", "final_answer", columns={"id": "id"}),
        _live_code_bench("lcb_v5", 8, "release_v5", ("2024-08-01", "2025-02-01")),
        _live_code_bench("lcb_v6", 16, "v6", ("2025-02-01", "2025-05-01")),
    )
}


# Offline, for a first try
COUNTDOWN = Benchmark(
    name="countdown", dataset=PLAYGROUND, verifier="countdown", k=16, temperature=1.0, max_new_tokens=32
)
_NAMED = {**PRESETS, COUNTDOWN.name: COUNTDOWN}


def read_benchmark(entry: str | Mapping[str, Any] | Benchmark) -> Benchmark:
    """
    Reads a benchmark from a recipe: the name of a preset, a mapping with a `name`, or a YAML file with a mapping.

    A mapping overrides the settings of the preset of that name, or describes a benchmark with its own `dataset`.

    Raises:
        ValueError: If there is no such preset, file or setting (the message suggests the nearest one), or a value is
            out of range.

    Example:

    ```python
    >>> read_benchmark("aime24").k, read_benchmark({"name": "aime24", "k": 8}).k
    (64, 8)

    ```
    """
    if isinstance(entry, Benchmark):
        return entry
    settings = _settings(entry)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"The benchmark {entry!r} has no name. Write the name of a preset, or {{name: ..., k: ...}}.")
    known = [field.name for field in fields(Benchmark)]
    for key in settings:
        if key not in known:
            raise ValueError(f"{name}: there is no setting {key!r}. {_nearest(key, known)}")
    if isinstance(settings.get("dates"), list):
        settings["dates"] = tuple(settings["dates"])
    if name in _NAMED:
        return replace(_NAMED[name], **settings)
    if "dataset" not in settings:
        raise ValueError(
            f"There is no benchmark {name!r}. {_nearest(name, _NAMED)} For your own problems, give a mapping with a "
            "`dataset`, or a YAML file with one."
        )
    return Benchmark(name=name, **settings)


def _settings(entry: str | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(entry, str):
        return dict(entry)
    if Path(entry).suffix not in (".yaml", ".yml"):
        return {"name": entry}
    if not Path(entry).is_file():
        raise ValueError(f"There is no file {entry!r} that describes a benchmark (relative to {Path.cwd()}).")
    settings = yaml.safe_load(Path(entry).read_text(encoding="utf-8"))
    if not isinstance(settings, dict) or "name" not in settings:
        raise ValueError(f"{entry} does not describe a benchmark. Write its name, dataset and columns.")
    return settings


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return (f"Did you mean {nearest[0]!r}? " if nearest else "") + f"Use one of {', '.join(known)}."


def load_problems(benchmark: Benchmark, limit: int | None = None) -> list[Problem]:
    """
    Loads and checks the problems of a benchmark.

    Args:
        benchmark ([`Benchmark`]): The benchmark.
        limit (`int`, *optional*): Number of problems to keep, from the start.

    Returns:
        `list[Problem]`: The problems, in the order of the data set.

    Raises:
        ValueError: If the data set cannot be loaded, lacks a column, is empty or repeats an id; the message names the
            benchmark and the fix.
    """
    problems = list(_read_problems(benchmark, _load_rows(benchmark)))
    if not problems:
        within = f" between {benchmark.dates[0]} and {benchmark.dates[1]}" if benchmark.dates else ""
        raise ValueError(f"{benchmark.name}: {benchmark.dataset!r} has no problems{within}.")
    id, count = Counter(problem.id for problem in problems).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"{benchmark.name}: the id {id!r} occurs {count} times in {benchmark.dataset!r}. Remove duplicates, or map "
            "`id` to a column with unique values."
        )
    try:
        inspect.signature(benchmark.load_verifier()).bind(prompts=[], completions=[], **problems[0].columns)
    except TypeError as error:
        raise ValueError(
            f"{benchmark.name}: the verifier {benchmark.verifier!r} {error}. The problems have the columns "
            f"{_quoted(problems[0].columns)}; map it with columns: {{NEW: NAME IN {benchmark.dataset}}}."
        ) from None
    return problems[:limit]


def _load_rows(benchmark: Benchmark) -> Any:
    from datasets import load_dataset

    name, builder = benchmark.dataset, _BUILDERS.get(Path(benchmark.dataset).suffix)
    if name == PLAYGROUND:
        return import_module("trl_archer.playground").load_dataset("eval", 256, seed=0)
    if builder and not Path(name).is_file():
        raise ValueError(f"{benchmark.name}: there is no file {name!r} (relative to {Path.cwd()}).")
    try:
        if builder:
            return load_dataset(builder, data_files=name, split="train")
        return load_dataset(name, benchmark.config, split=benchmark.split)
    except Exception as error:  # of the Hub, the network, a file's format, or an unknown split
        cause = error.__cause__ or error
        hint = (
            "Check the file."
            if builder
            else "Without a network, fill the cache of `datasets` beforehand, or give a file with the same "
            f"columns: `--data {benchmark.name}=FILE`, or `dataset: FILE` in a recipe."
        )
        raise ValueError(
            f"{benchmark.name}: {name!r} cannot be loaded ({type(cause).__name__}: {cause!s:.300}). {hint}"
        ) from error


def _read_problems(benchmark: Benchmark, rows: Any) -> Iterator[Problem]:
    from jinja2 import Environment, StrictUndefined, TemplateError

    columns = {"prompt": "prompt", **benchmark.columns}
    sources = {name: new for new, names in columns.items() for name in ([names] if isinstance(names, str) else names)}
    for name, new in sources.items():
        if name not in rows.column_names:
            raise ValueError(
                f"{benchmark.name}: columns maps {new!r} to {name!r}, which {benchmark.dataset!r} lacks. Its columns: "
                f"{_quoted(rows.column_names)}."
            )
    try:
        template = Environment(undefined=StrictUndefined, autoescape=False).from_string(benchmark.prompt_template)
        for index, row in enumerate(rows):
            mapped = {
                new: row[names] if isinstance(names, str) else {name: row[name] for name in names}
                for new, names in columns.items()
            }
            if benchmark.dates and not benchmark.dates[0] <= str(mapped["date"])[:10] < benchmark.dates[1]:
                continue
            rest = {name: value for name, value in {**row, **mapped}.items() if name in mapped or name not in sources}
            seen = {name: value for name, value in rest.items() if name not in _NOT_FOR_VERIFIERS}
            yield Problem(str(mapped.get("id", index)), template.render({**row, **mapped}), seen)
    except TemplateError as error:
        raise ValueError(
            f"{benchmark.name}: prompt_template: {error}. Columns: {_quoted({*rows.column_names, *columns})}."
        ) from None


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


@dataclass(frozen=True)
class LoadedBenchmark:
    """
    A benchmark with its problems.

    Attributes:
        benchmark ([`Benchmark`]): Its settings.
        problems (`list[Problem]`): Its problems.
        not_scorable (`list[str]`): Ids of problems that no completion can be scored on, such as an unreadable solution.
    """

    benchmark: Benchmark
    problems: list[Problem]
    not_scorable: list[str]

    @property
    def fingerprint(self) -> str:
        """Digest of what is asked and what counts as right. Equal digests mean equal problems."""
        digest = hashlib.sha256()
        for problem in self.problems:
            digest.update(json.dumps(problem, sort_keys=True, default=str).encode())
        return digest.hexdigest()[:16]


def load_benchmark(entry: str | Mapping[str, Any] | Benchmark, limit: int | None = None) -> LoadedBenchmark:
    """
    Loads a benchmark and scores an empty completion of each problem, so that what cannot be scored shows before
    anything is generated.

    Args:
        entry (`str`, `dict` or [`Benchmark`]): See [`read_benchmark`].
        limit (`int`, *optional*): Number of problems to keep, from the start.

    Raises:
        ValueError: As [`read_benchmark`] and [`load_problems`], and if no problem can be scored.
    """
    benchmark = read_benchmark(entry)
    problems = load_problems(benchmark, limit)
    rewards = verify(benchmark.load_verifier(), problems, [""] * len(problems))
    not_scorable = [problem.id for problem, reward in zip(problems, rewards, strict=True) if reward is None]
    if len(not_scorable) == len(problems):
        raise ValueError(
            f"{benchmark.name}: the verifier {benchmark.verifier!r} can score none of the {len(problems)} problems. "
            "Check that columns maps to the right answers; the log names the most frequent reason."
        )
    return LoadedBenchmark(benchmark, problems, not_scorable)


def verify(
    verifier: Callable[..., list[float | None]], problems: Sequence[Problem], completions: Sequence[Any]
) -> list[float | None]:
    """
    Scores one completion per problem; problems may repeat.

    Raises:
        ValueError: If a reward is none of 1, 0 and `None`.
    """
    columns = {name: [problem.columns[name] for problem in problems] for name in problems[0].columns}
    prompts = [problem.prompt for problem in problems]
    rewards = verifier(completions=list(completions), prompts=prompts, **columns)
    for problem, reward in zip(problems, rewards, strict=True):
        if reward not in (0, 1, None):
            raise ValueError(
                f"The verifier gave problem {problem.id!r} the reward {reward!r}, but pass@k needs samples that are "
                "right (1) or wrong (0). Use a verifier without partial credit."
            )
    return rewards
