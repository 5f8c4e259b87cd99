"""`python -m trl_archer.sandbox`: which isolations work on this machine. The exit status is 1 if none does."""

from . import probe


def main() -> int:
    """Prints one line per isolation, the best first."""
    problems = probe()
    for name, problem in problems.items():
        print(f"{name:<20} {problem or 'works'}")
    return 0 if "" in problems.values() else 1


if __name__ == "__main__":
    raise SystemExit(main())
