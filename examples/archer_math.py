r"""
Archer on math problems: a script to copy and adapt.

LoRA on one GPU with 24 GB, 50 rollouts in one to three hours (estimated):

python examples/archer_math.py \
    --model_name_or_path Qwen/Qwen2.5-1.5B-Instruct \
    --dataset_name trl-lib/DeepMath-103K \
    --output_dir archer-math \
    --dtype bfloat16 \
    --use_peft \
    --lora_r 32 \
    --lora_alpha 64 \
    --lora_target_modules all-linear \
    --learning_rate 1e-5 \
    --num_generations 8 \
    --per_device_train_batch_size 4 \
    --gradient_accumulation_steps 16 \
    --generation_batch_size 128 \
    --num_iterations 3 \
    --max_completion_length 2048 \
    --use_vllm \
    --vllm_importance_sampling_mode token_truncate \
    --max_steps 300 \
    --logging_steps 1 \
    --save_steps 60 \
    --save_total_limit 2

Full fine-tuning on 8 GPUs with 80 GB each, 100 rollouts:

accelerate launch \
    --config_file examples/accelerate_configs/zero2.yaml \
    examples/archer_math.py \
    --model_name_or_path Qwen/Qwen2.5-1.5B-Instruct \
    --dataset_name trl-lib/DeepMath-103K \
    --output_dir archer-math \
    --num_generations 16 \
    --per_device_train_batch_size 8 \
    --gradient_accumulation_steps 8 \
    --generation_batch_size 1024 \
    --num_iterations 3 \
    --max_completion_length 4096 \
    --use_vllm \
    --vllm_gpu_memory_utilization 0.4 \
    --vllm_importance_sampling_mode token_truncate \
    --max_steps 600 \
    --logging_steps 1 \
    --save_steps 120 \
    --save_total_limit 2
"""

from datasets import load_dataset
from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config, get_quantization_config

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer, ConsoleLog
from trl_archer.rewards import math_reward

SYSTEM_PROMPT = r"Reason step by step, and put the final answer into \boxed{}."


def make_conversation(row: dict) -> dict:
    """Wraps a text prompt as messages, so that the chat template applies."""
    prompt = row["prompt"]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return {"prompt": [{"role": "system", "content": SYSTEM_PROMPT}, *messages]}


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
    # Dataset: columns `prompt` and `solution`, the final answer
    ################
    dataset = load_dataset(
        script_args.dataset_name, name=script_args.dataset_config, streaming=script_args.dataset_streaming
    )
    dataset = dataset.map(make_conversation)

    ################
    # Training
    ################
    trainer = ArcherGRPOTrainer(
        model=model_args.model_name_or_path,
        reward_funcs=math_reward,
        args=training_args,
        train_dataset=dataset[script_args.dataset_train_split],
        eval_dataset=dataset[script_args.dataset_test_split] if training_args.eval_strategy != "no" else None,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    ConsoleLog.attach(trainer)
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)

    # Save and push to the Hub
    trainer.save_model(training_args.output_dir)
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=script_args.dataset_name)
