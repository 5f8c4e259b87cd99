"""The check of `make check` for phrases that we avoid."""

from .english import hits, pattern

BANNED = pattern("# a comment\nway out\n(it|`[^`]+`) is no (?!longer)\\w+\n")


def test_phrases_are_found_across_lines() -> None:
    text = "The way out.\n# A Way\n# out; `x` is\nno fault. A doorway out.\n"
    assert list(hits(text, BANNED)) == [(1, "way out"), (2, "Way # out"), (3, "`x` is no fault")]


def test_exceptions_are_allowed() -> None:
    assert not list(hits("It is no longer there. There is no way. Its way is out.", BANNED))
