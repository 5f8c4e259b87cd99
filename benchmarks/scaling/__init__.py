"""Memory and time of a run, predicted: a formula tested against tiny cases, and a cost model with its assumptions.

python -m benchmarks.scaling                                    writes results/scaling.json
python -m benchmarks.scaling --model qwen3-8b --gpus 8          estimate for a set-up of your own

Memory is in bytes, time in seconds, lengths in tokens, unless a name says otherwise.
"""
