"""Results of Wang et al. 2025 (arXiv 2507.15778): avg@K and pass@K in percent, at the K of our presets."""

MATH = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiad")
CODE = ("lcb_v5", "lcb_v6")

_R1 = "DeepSeek-R1-Distill-Qwen-1.5B"
_MATH_RESULTS = {
    _R1: "30.6/80.0 23.5/63.3 70.7/100 83.6/92.4 27.6/48.2 44.6/59.4",
    f"{_R1} + GRPO": "42.1/80.0 28.6/56.7 80.3/97.5 87.6/94.6 29.2/46.3 53.2/65.8",
    f"{_R1} + Archer": "48.7/83.3 33.8/70.0 86.0/97.5 90.8/94.4 35.7/51.1 59.3/67.1",
    "Qwen3-4B (non-thinking)": "23.6/56.7 18.3/63.3 67.7/95.0 84.5/92.4 41.5/56.3 54.1/66.6",
    "Qwen3-4B + GRPO": "43.4/83.3 35.5/70.0 84.3/97.5 91.7/95.8 47.2/58.5 67.4/75.8",
    "Qwen3-4B + 80/20": "50.4/83.3 40.5/76.7 88.9/97.5 93.6/97.2 47.2/57.0 69.3/78.0",
    "Qwen3-4B + Archer": "51.4/83.3 43.1/70.0 91.0/97.5 95.1/97.4 51.2/60.7 71.6/79.4",
    "Qwen3-8B + Archer": "56.1/76.7 43.6/73.3 91.8/97.5 94.8/97.8 51.5/62.1 69.4/77.3",
    "Qwen3-30B-A3B + Archer": "70.3/90.0 53.9/86.7 94.4/97.5 96.4/99.0 55.5/64.7 77.4/84.0",
}
_CODE_RESULTS = {
    _R1: "16.7/29.0 17.2/34.4",
    f"{_R1} + GRPO": "26.0/40.5 27.6/43.5",
    f"{_R1} + Archer": "29.4/43.7 30.2/45.8",
}

Results = dict[str, dict[str, tuple[float, float]]]


def _read(table: dict[str, str], benchmarks: tuple[str, ...]) -> Results:
    return {
        model: {
            name: (float(cell.split("/")[0]), float(cell.split("/")[1]))
            for name, cell in zip(benchmarks, cells.split(), strict=True)
        }
        for model, cells in table.items()
    }


def paper_results() -> Results:
    """avg@K and pass@K in percent, by model and benchmark."""
    math, code = _read(_MATH_RESULTS, MATH), _read(_CODE_RESULTS, CODE)
    return {model: {**row, **code.get(model, {})} for model, row in math.items()}
