# /// script
# dependencies = [
#     "trl-archer[code]",
#     "transformers[kernels]",
# ]
# ///

r"""
Archer on programming problems: a script to copy and adapt. Programs run in a sandbox, which needs Linux
(docs/security.md).

Full fine-tuning on 8 GPUs with 80 GB each:

accelerate launch \
    --config_file examples/accelerate_configs/zero2.yaml \
    examples/archer_code.py \
    --model_name_or_path deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B \
    --dataset_name Fate-Zero/Archer2.0-Code-1.5B \
    --output_dir archer-code \
    --num_generations 16 \
    --per_device_train_batch_size 4 \
    --gradient_accumulation_steps 16 \
    --generation_batch_size 1024 \
    --num_iterations 3 \
    --max_completion_length 16384 \
    --use_vllm \
    --vllm_importance_sampling_mode token_truncate
"""

from datasets import load_dataset
from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config, get_quantization_config

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.rewards import get_code_reward

INSTRUCTION = "Write a Python program that solves the problem. Put it into one block of code: ```python ... ```."


def make_conversation(row: dict) -> dict:
    """Wraps the prompt as messages, so that the chat template applies."""
    return {"prompt": [{"role": "user", "content": f"{row['prompt']}\n\n{INSTRUCTION}"}]}


if __name__ == "__main__":
    parser = TrlParser((ScriptArguments, ArcherGRPOConfig, ModelConfig))
    script_args, training_args, model_args = parser.parse_args_and_config()

    ################
    # Model
    ################
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(training_args.model_init_kwargs or {}),
    }

    ################
    # Dataset: columns `prompt` and `tests`, here named `ground_truth`
    ################
    dataset = load_dataset(
        script_args.dataset_name, name=script_args.dataset_config, streaming=script_args.dataset_streaming
    )
    dataset = dataset.rename_column("ground_truth", "tests").map(make_conversation)

    ################
    # Training
    ################
    trainer = ArcherGRPOTrainer(
        model=model_args.model_name_or_path,
        # The chat template of DeepSeek-R1 opens the reasoning. For a model that does not reason: thinking=False
        reward_funcs=get_code_reward(thinking=True),
        args=training_args,
        train_dataset=dataset[script_args.dataset_train_split],
        eval_dataset=dataset[script_args.dataset_test_split] if training_args.eval_strategy != "no" else None,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)

    # Save and push to the Hub
    trainer.save_model(training_args.output_dir)
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=script_args.dataset_name)
