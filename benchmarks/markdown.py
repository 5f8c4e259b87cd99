"""Markdown for results and settings."""

from typing import Any


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def source(result: dict[str, Any], name: str, root: str = "") -> str:
    """The source line below a table: command, commit, machine and versions."""
    where = result["environment"]
    return (
        f"`{result['command']}`, commit {where['commit']}, {where['machine']}, torch {where['torch']}, "
        f"TRL {where['trl']}; numbers in [{name}.json]({root}benchmarks/results/{name}.json)."
    )
