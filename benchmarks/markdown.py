"""Markdown that results and settings are written in."""

from typing import Any


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def source(result: dict[str, Any], name: str, root: str = "") -> str:
    """The line that says where the numbers of a table come from."""
    where = result["environment"]
    return (
        f"`{result['command']}`, commit {where['commit']}, {where['machine']}, torch {where['torch']}, "
        f"TRL {where['trl']}; numbers in [{name}.json]({root}benchmarks/results/{name}.json)."
    )
