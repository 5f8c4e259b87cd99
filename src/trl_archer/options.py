"""Every option that `ArcherGRPOConfig` inherits: honored, rejected or irrelevant.

A test checks these tables against the installed TRL. A field of `GRPOConfig` that is in no table, or in two, fails it.
"""

LOSS_TYPES = ("dapo", "grpo", "bnpo", "dr_grpo")

# Read by the Archer loss itself, with TRL's meaning unless noted.
HONORED_BY_LOSS = {
    "beta": "KL weight of knowledge tokens; nonzero needs the reference",
    "delta": "cap on the ratio; affects only negative advantages, because it must be above every clip range",
    "entropy_coef": "weight of an entropy bonus: the mean entropy of the step's tokens, however it is split",
    "entropy_coef_delta": "step of use_adaptive_entropy",
    "entropy_coef_max": "largest entropy_coef of use_adaptive_entropy",
    "entropy_coef_min": "smallest entropy_coef of use_adaptive_entropy",
    "entropy_target": "entropy in nats above which use_adaptive_entropy turns the bonus off",
    "epsilon": "lower clip distance of knowledge tokens",
    "epsilon_high": "upper clip distance of knowledge tokens",
    "loss_type": "one of " + ", ".join(LOSS_TYPES),
    "mask_truncated_completions": "truncated completions are left out of the loss",
    "max_completion_length": "normalizer of dr_grpo",
    "num_iterations": "passes over a generation batch; ratios differ from 1 starting with the second update",
    "off_policy_mask_threshold": "multiplies the surrogate of both roles, not the KL",
    "router_aux_loss_coef": "added to the loss of mixture-of-experts models; None means the model's own coefficient",
    "steps_per_generation": "micro-batches per generation batch; enters the normalizer; see mask_zero_std_groups",
    "temperature": "scales the log-probabilities and the entropies that the gate uses",
    "use_adaptive_entropy": "adapts entropy_coef after every optimizer step, to keep the entropy near entropy_target",
    "use_bias_correction_kl": "multiplies the KL of both roles by the ratio; False here, as in the paper",
    "vllm_importance_sampling_clip_max": "upper bound of the importance ratio",
    "vllm_importance_sampling_clip_min": "lower bound of the importance ratio",
    "vllm_importance_sampling_correction": "multiplies the surrogate of both roles, not the KL",
    "vllm_importance_sampling_mode": "granularity and constraint of the importance ratio",
}

# Read by TRL's generation, rewards, logging and model setup, which Archer does not change.
HONORED_BY_TRL = frozenset(
    """
    cache_implementation cast_lm_head_to_fp32 chat_template_kwargs disable_dropout ds3_gather_for_generation
    generation_batch_size generation_kwargs log_completions log_completions_hub_repo log_multimodal log_unique_prompts
    max_tool_calling_iterations min_p model_init_kwargs multi_objective_aggregation num_completions_to_print
    num_generations num_generations_eval pad_to_multiple_of ref_model_mixup_alpha ref_model_sync_steps
    repetition_penalty reward_weights scale_rewards shuffle_dataset sync_ref_model top_k top_p
    transformers_continuous_batching_config trust_remote_code use_transformers_continuous_batching
    use_transformers_paged use_vllm vllm_enable_sleep_mode vllm_gpu_memory_utilization vllm_group_port
    vllm_importance_sampling_cap vllm_max_model_length vllm_mode vllm_model_impl vllm_server_base_url
    vllm_server_host vllm_server_port vllm_server_timeout vllm_structured_outputs_regex vllm_tensor_parallel_size
    """.split()
)

# Read by the Trainer of transformers, which Archer does not change.
HONORED_BY_TRAINER = frozenset(
    """
    accelerator_config activation_checkpointing activation_checkpointing_kwargs adam_beta1 adam_beta2 adam_epsilon
    bf16 bf16_full_eval dataloader_drop_last dataloader_in_order dataloader_multiprocessing_context
    dataloader_num_workers dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor ddp_backend
    ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_static_graph ddp_timeout debug deepspeed
    disable_tqdm do_eval enable_jit_checkpoint eval_accumulation_steps eval_delay eval_on_start
    eval_steps eval_strategy fp16 fp16_full_eval fsdp fsdp_config full_determinism gradient_accumulation_steps
    gradient_checkpointing gradient_checkpointing_kwargs greater_is_better hub_always_push hub_model_id
    hub_private_repo hub_revision hub_strategy hub_token ignore_data_skip learning_rate liger_kernel_config
    load_best_model_at_end local_rank log_level log_level_replica log_on_each_node logging_first_step
    logging_nan_inf_filter logging_steps logging_strategy lr_scheduler_kwargs lr_scheduler_type max_grad_norm
    max_steps metric_for_best_model neftune_noise_alpha num_train_epochs optim optim_args optim_target_modules
    output_dir parallelism_config per_device_eval_batch_size per_device_train_batch_size project push_to_hub
    remove_unused_columns report_to restore_callback_states_from_checkpoint resume_from_checkpoint run_name
    save_on_each_node save_only_model save_steps save_strategy save_total_limit seed skip_memory_metrics tf32
    torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps trackio_bucket_id trackio_space_id
    trackio_static_space_id use_cpu use_liger_kernel warmup_steps weight_decay
    """.split()
)

# Must keep their default; the text gives the reason and the alternative.
REJECTED = {
    "auto_find_batch_size": "It splits groups when it shrinks the batch. Lower per_device_train_batch_size instead.",
    "importance_sampling_level": "Archer's clip ranges apply to single tokens; a ratio per sequence fits neither role.",
    "include_for_metrics": "There is no compute_metrics, and TRL's evaluation fails with it.",
    "label_smoothing_factor": "There are no labels to smooth in reinforcement learning.",
    "sapo_temperature_neg": "Only loss_type='sapo' reads it, and Archer does not support that loss.",
    "sapo_temperature_pos": "Only loss_type='sapo' reads it, and Archer does not support that loss.",
    "top_entropy_quantile": "Archer trains all tokens; `entropy_quantile` splits them into roles instead.",
    "vespo_k_neg": "Only loss_type='vespo' reads it, and Archer does not support that loss.",
    "vespo_k_pos": "Only loss_type='vespo' reads it, and Archer does not support that loss.",
    "vespo_lambda_neg": "Only loss_type='vespo' reads it, and Archer does not support that loss.",
    "vespo_lambda_pos": "Only loss_type='vespo' reads it, and Archer does not support that loss.",
}

# Not read in a GRPO step.
IRRELEVANT = {
    "average_tokens_across_devices": "the loss has its own normalizer",
    "batch_eval_metrics": "there is no compute_metrics",
    "data_seed": "TRL's sampler uses `seed`",
    "do_predict": "read by example scripts only",
    "do_train": "read by example scripts only",
    "eval_do_concat_batches": "there is no compute_metrics",
    "eval_use_gather_object": "evaluation returns no predictions",
    "include_num_input_tokens_seen": "TRL counts tokens itself, as num_tokens",
    "label_names": "there are no labels",
    "length_column_name": "lengths are known only after generation",
    "prediction_loss_only": "evaluation returns no predictions",
    "train_sampling_strategy": "TRL has its own sampler, which repeats prompts",
    "use_cache": "the update phase never caches; generation always does",
}
