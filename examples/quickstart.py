"""Archer on a verifiable toy task: offline, on a CPU, in about a minute."""

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer, ConsoleLog, playground

model, tokenizer = playground.load_policy()
trainer = ArcherGRPOTrainer(
    model=model,
    reward_funcs=playground.countdown_reward,
    args=ArcherGRPOConfig(
        output_dir="runs/quickstart",
        epsilon_reasoning=0.5,  # clip range of high-entropy tokens; others use `epsilon`, 0.2
        steps_per_generation=4,  # four updates per rollout; with one, clip ranges have no effect
        learning_rate=2e-4,  # for 0.7M parameters; the default and the paper's value is 1e-6
        per_device_train_batch_size=64,  # 8 prompts with 8 completions each
        max_completion_length=32,
        max_steps=40,
        use_cpu=True,  # omit this and the next line on a GPU
        bf16=False,
    ),
    train_dataset=playground.load_dataset("rl", n=2048, seed=0),
    processing_class=tokenizer,
)
ConsoleLog.attach(trainer)  # one line per log
trainer.train()
