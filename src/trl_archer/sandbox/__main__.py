"""`python -m trl_archer.sandbox`: which isolations hold on this machine. Exit status 1 when none does."""

from . import probe


def main() -> int:
    """Prints a line for each isolation, the best first."""
    troubles = probe()
    for name, trouble in troubles.items():
        print(f"{name:<20} {trouble or 'holds'}")
    return 0 if "" in troubles.values() else 1


if __name__ == "__main__":
    raise SystemExit(main())
