"""
What fits: a memory formula, checked against tiny models by `benchmarks.scaling`.

Memory is in bytes and lengths are in tokens, unless a name says otherwise.
"""
