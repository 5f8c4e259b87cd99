"""What fits: the memory formula of `trl_archer.commands.forecast`, checked against tiny models.

python -m benchmarks.scaling                                    writes results/scaling.json
python -m benchmarks.scaling --model qwen3-8b --gpus 8          estimates one setup

Memory is in bytes and lengths are in tokens, unless a name says otherwise.
"""
