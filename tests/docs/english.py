"""
Refuses the phrases in `banned_phrases.txt`, in every text file of the repository. codespell checks the words.

python -m tests.docs.english
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("banned_phrases.txt")
SUFFIXES = {"", ".css", ".html", ".js", ".md", ".py", ".sbatch", ".toml", ".yaml", ".yml"}
SKIPPED = {"LICENSE", "tests/helpers/math_pairs.py", "tests/docs/test_english.py"}


def pattern(phrases: str) -> re.Pattern[str]:
    """One expression for all phrases. A line break with a comment or quote mark may separate words."""
    lines = [line for line in phrases.splitlines() if line and not line.startswith("# ")]
    return re.compile(rf"(?<!\w)(?:{'|'.join(lines)})(?!\w)".replace(" ", r"\s+(?:[#>*]\s+)?"), re.IGNORECASE)


def hits(text: str, banned: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Line number and text of each banned phrase."""
    for match in banned.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split())


def main() -> None:
    command = ["git", "ls-files"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    banned = pattern(LIST.read_text())
    found = [
        f"{name}:{line}: {phrase}"
        for name in names
        if Path(name).suffix in SUFFIXES and name not in SKIPPED and (ROOT / name).is_file()
        for line, phrase in hits((ROOT / name).read_text(encoding="utf-8"), banned)
    ]
    if found:
        sys.exit("\n".join([*found, f"Reword these phrases; {LIST.relative_to(ROOT)} lists them."]))


if __name__ == "__main__":
    main()
