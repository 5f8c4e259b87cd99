"""
A training run from a recipe or flags: `trl-archer train`.

`recipe` parses flags and YAML, `arguments` names the settings, `launch` checks batch and launcher before anything is
loaded, `data` and `rewards` load what the settings name, `resume` finds the checkpoint, and `run` puts them together.
"""
