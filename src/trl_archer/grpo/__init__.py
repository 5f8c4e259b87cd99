"""TRL's GRPO trainer made exact and durable; knows nothing of Archer."""
