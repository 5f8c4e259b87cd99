"""A real language model: Gemma 3 270M counts legs, trained with Archer and with TRL's GRPO. See docs/gpu.md."""
