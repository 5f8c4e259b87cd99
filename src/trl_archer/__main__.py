"""Command line: `python -m trl_archer`, which a launcher can start."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
