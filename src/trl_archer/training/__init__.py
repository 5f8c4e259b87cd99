"""
A training run from a recipe or flags: what `trl-archer train` does.

`arguments` names the settings, `launch` checks batch and launcher before anything is loaded, `data` and `rewards` load
what the settings name, `resume` finds what to resume from, and `run` puts them together.
"""
