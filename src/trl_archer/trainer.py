"""The Archer trainer: TRL's GRPO trainer with the loss of Wang et al. 2025."""

import math
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.logging import get_logger
from torch import Tensor, nn
from trl import GRPOTrainer
from trl.extras.profiling import profiling_decorator
from trl.trainer.utils import get_config_model_id

from .config import ArcherGRPOConfig
from .evaluation.repetition import repeated_ngram_share
from .groups import weighted_rewards, zero_std_groups
from .grpo.adapters import adapter_weights, load_trained_adapter, prepare_adapter
from .grpo.checkpoints import checkpoint_bytes, find_checkpoint, trainable_shapes
from .grpo.padding import group_by_length, loss_mask, real_tokens, score_in_length_order
from .grpo.preemption import save_on_sigterm
from .grpo.preflight import (
    check_adapter,
    check_dataset,
    check_left_padding,
    check_rollout_fits,
    check_synced_weights,
    check_trainable,
    refuse_unsloth,
)
from .grpo.progress import load_progress, save_progress, skip_epochs
from .grpo.reward_checks import check_reward_models, checked_reward, needed_columns, raise_on_all_ranks
from .grpo.saving import failing_together, save_checkpoint, write_manifest
from .grpo.updates import check_deepspeed_version, guard_update, poison_if_not_finite
from .grpo.vllm_retries import ServerWatch, generate_with_retries
from .grpo.vllm_server import check_generation
from .metrics import summarise, token_statistics
from .objective import ArcherTokenLoss, archer_token_loss
from .records.recorder import TokenRecorder

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
    from peft import PeftConfig, PeftModel
    from transformers import (
        BitsAndBytesConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        ProcessorMixin,
        TrainerCallback,
    )
    from trl.trainer.grpo_trainer import EnvironmentFactory, RewardFunc, RolloutFunc

logger = get_logger(__name__)

# What TRL's log-prob helper takes for models with images
IMAGE_INPUTS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


class ArcherGRPOTrainer(GRPOTrainer):
    """
    Trainer for Archer, Group Relative Policy Optimization with dual-token constraints.

    Splits the tokens of every response at a quantile of the response's own entropies and gives the two kinds, reasoning
    and knowledge, each its clip range and KL weight. Takes what [`~trl.GRPOTrainer`] takes; generation, rewards,
    logging, PEFT and distributed training are TRL's.

    Example:

    ```python
    from datasets import load_dataset
    from trl.rewards import accuracy_reward
    from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer

    trainer = ArcherGRPOTrainer(
        model="Qwen/Qwen2.5-0.5B-Instruct",
        reward_funcs=accuracy_reward,
        args=ArcherGRPOConfig(output_dir="archer", num_iterations=3),
        train_dataset=load_dataset("trl-lib/DeepMath-103K", split="train"),
    )
    trainer.train()
    ```

    Args:
        args ([`ArcherGRPOConfig`], *optional*):
            Configuration. If `None`, the paper's defaults with the output directory `{model name}-Archer`.

        The others are those of [`~trl.GRPOTrainer`].

    Raises:
        TypeError: If `args` is not an [`ArcherGRPOConfig`].
        ValueError: If a data set lacks a column or does not fill one rollout, nothing in the model can be trained, vLLM
            or the reference would not get the weights of its adapter, a vLLM server is not one to train with, or the
            version of DeepSpeed would not drop gradients that are not finite.
        ConnectionError: If there is no vLLM server.
        RuntimeError: If Unsloth has replaced TRL's trainer.
    """

    _tag_names = ["trl", "grpo", "archer"]
    _name = "Archer"
    _paper = {
        "title": "Stabilizing Knowledge, Promoting Reasoning: Dual-Token Constraints for RLVR",
        "id": "2507.15778",
        # docstyle-ignore
        "citation": textwrap.dedent("""\
            @article{wang2025stabilizing,
                title        = {{Stabilizing Knowledge, Promoting Reasoning: Dual-Token Constraints for RLVR}},
                author       = {Jiakang Wang and Runze Liu and Fuzheng Zhang and Xiu Li and Guorui Zhou and Ling Pan},
                year         = 2025,
                eprint       = {arXiv:2507.15778},
            }"""),
    }

    args: ArcherGRPOConfig
    _buffered_inputs: Any

    def __init__(
        self,
        model: "str | PreTrainedModel | PeftModel",
        reward_funcs: "RewardFunc | list[RewardFunc] | None" = None,
        args: ArcherGRPOConfig | None = None,
        train_dataset: "Dataset | IterableDataset | None" = None,
        eval_dataset: "Dataset | IterableDataset | DatasetDict | IterableDatasetDict | dict[str, Dataset | IterableDataset] | None" = None,  # noqa: E501
        processing_class: "PreTrainedTokenizerBase | ProcessorMixin | None" = None,
        reward_processing_classes: "PreTrainedTokenizerBase | list[PreTrainedTokenizerBase] | None" = None,
        callbacks: "list[TrainerCallback] | None" = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        quantization_config: "BitsAndBytesConfig | None" = None,
        peft_config: "PeftConfig | None" = None,
        tools: list[Callable] | None = None,
        rollout_func: "RolloutFunc | None" = None,
        environment_factory: "EnvironmentFactory | dict[str, EnvironmentFactory] | None" = None,
    ):
        refuse_unsloth(type(self))
        model_id = model if isinstance(model, str) else get_config_model_id(model.config)
        if args is None:
            args = ArcherGRPOConfig(f"{model_id.split('/')[-1]}-Archer")
        elif not isinstance(args, ArcherGRPOConfig):
            raise TypeError(
                f"args is a {type(args).__name__}; ArcherGRPOTrainer needs an ArcherGRPOConfig, which takes the same "
                "fields and adds those of the reasoning tokens."
            )
        if environment_factory is None:  # an environment may bring the prompts
            functions = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
            needed = needed_columns(functions) if rollout_func is None else {}  # which may bring columns, too
            check_dataset("train_dataset", train_dataset, needed)
            check_dataset("eval_dataset", eval_dataset, needed)
        check_rollout_fits(train_dataset, args)
        check_adapter(model, args, quantization_config)
        check_deepspeed_version(args)
        check_generation(args, model_id)
        weights = adapter_weights(model)

        super().__init__(
            model=model,
            reward_funcs=reward_funcs,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            reward_processing_classes=reward_processing_classes,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
            tools=tools,
            rollout_func=rollout_func,
            environment_factory=environment_factory,
        )
        check_trainable(self.model)
        check_synced_weights(self.model, args)
        prepare_adapter(self, weights)
        self.reward_funcs: list[Any] = [f if isinstance(f, nn.Module) else checked_reward(f) for f in self.reward_funcs]
        self._statistics: dict[str, list[Tensor]] = {"train": [], "eval": []}
        self._padding_is_checked = False
        self._recorder = TokenRecorder(args, self.processing_class.decode) if args.token_records_steps else None
        self._trainable_shapes = trainable_shapes(self.model)
        self._resumed_from: str | None = None
        self._checkpoint_bytes = self._failed_saves = 0
        self._skipped_updates = self._skipped_in_a_row = 0
        save_on_sigterm(self)
        if self._generates_on_server and self.accelerator.is_main_process:
            self._server = ServerWatch(self)
        if args.strictly_on_policy:
            logger.warning(
                "The configuration is strictly on-policy: every ratio is exactly 1, so no clip range can act and only "
                "the KL weights tell reasoning from knowledge tokens. Set `num_iterations` above 1 (the paper uses "
                "3), or `steps_per_generation` above `gradient_accumulation_steps`."
            )

    # Rollouts

    @property
    def _generates_on_server(self) -> bool:
        return self.use_vllm and self.vllm_mode == "server"

    def _generate_single_turn(self, *args, **kwargs):
        generate = partial(super()._generate_single_turn, *args, **kwargs)
        return generate_with_retries(self, generate) if self._generates_on_server else generate()

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        calculate = partial(super()._calculate_rewards, inputs, prompts, completions, completion_ids_list)
        rewards_per_func = raise_on_all_ranks(self, calculate, rows=len(prompts))
        check_reward_models(self.reward_funcs, self.reward_func_names, rewards_per_func)
        kept = torch.ones(len(rewards_per_func), dtype=torch.bool, device=rewards_per_func.device)
        if self.model.training and self.args.mask_zero_std_groups:  # evaluation updates nothing: all stay
            by_func = self.multi_objective_aggregation == "normalize_then_sum"
            dropped = zero_std_groups(rewards_per_func, self.reward_weights, self.num_generations, by_func)
            self._metrics["train"]["archer/dropped_groups"].append(dropped.sum().item())
            kept = ~dropped.repeat_interleave(self.num_generations)
        first_row = self.accelerator.process_index * len(prompts)
        self._kept_rows = kept[first_row : first_row + len(prompts)]
        self._repetition = repeated_ngram_share(completion_ids_list).to(rewards_per_func.device)
        self._rewards = weighted_rewards(rewards_per_func, self.reward_weights)[first_row : first_row + len(prompts)]
        return rewards_per_func

    def _generate_and_score_completions(self, inputs):
        """Adds to TRL's rollouts: completions of dropped groups lose their tokens, and the normalisers follow."""
        output = super()._generate_and_score_completions(inputs)
        output["completion_mask"] = output["completion_mask"] * self._kept_rows.unsqueeze(1)
        output["rewards"] = self._rewards

        tokens = loss_mask(output)
        rows = torch.ones_like(self._kept_rows)
        totals = torch.stack([x.sum().float() for x in (tokens, self._kept_rows, self._repetition, rows)])
        totals = self.accelerator.reduce(totals, reduction="sum")
        output["num_items_in_batch"], output["num_sequences_in_batch"] = totals[0], totals[1]
        mode = "train" if self.model.training else "eval"
        self._metrics[mode]["completions/repetition"].append((totals[2] / totals[3]).item())
        return output

    # Layout

    def _prepare_inputs(self, generation_batch):
        """TRL's micro-batches, without what is not real in them: once per generation batch, or evaluation batch."""
        buffered = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self._removes_padding:
            return inputs
        if not self._padding_is_checked:
            check_left_padding(self, inputs)
            self._padding_is_checked = True
        if not self.model.training:
            return self._real_tokens(inputs)
        if self._buffered_inputs is not buffered:
            micro_batches = self._buffered_inputs
            if self.loss_type != "bnpo" and not self.aux_loss_enabled:  # both depend on how the rows are split
                aligned = math.gcd(self.args.steps_per_generation, self.args.gradient_accumulation_steps)
                micro_batches = group_by_length(micro_batches, per_update=aligned)
            self._buffered_inputs = [self._real_tokens(batch) for batch in micro_batches]
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    @property
    def _removes_padding(self) -> bool:
        # By the model, not by the batch: with images on some ranks only, the number of passes would differ
        return self.args.remove_padding and not self._is_vlm

    def _real_tokens(self, batch: dict[str, Any]) -> dict[str, Any]:
        return real_tokens(batch, keep_rows=self.aux_loss_enabled, multiple=self.pad_to_multiple_of)

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        compute_entropy=False,
        compute_aux_loss=False,
        **images,
    ):
        """The passes of the old and the reference policy go through the rows by length; the policy's are trimmed."""
        score = super()._get_per_token_logps_and_entropies
        options = {"compute_entropy": compute_entropy, "compute_aux_loss": compute_aux_loss}
        if not self._removes_padding or torch.is_grad_enabled() or compute_aux_loss:
            return score(model, input_ids, attention_mask, logits_to_keep, batch_size, **options, **images)
        logps, entropies = score_in_length_order(
            lambda ids, mask, width: score(model, ids, mask, width, **options),
            input_ids,
            attention_mask,
            logits_to_keep,
            batch_size=batch_size or len(input_ids),
            multiple=self.pad_to_multiple_of,
        )
        return logps, entropies, None

    # Loss

    @profiling_decorator
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if return_outputs:
            raise ValueError("ArcherGRPOTrainer does not support returning outputs; call it with return_outputs=False.")
        mask = loss_mask(inputs)
        per_token_logps, entropies, aux_loss = self._policy_forward(model, inputs)
        pieces = self._token_loss(inputs, per_token_logps, entropies, mask)
        loss = self._reduce(pieces.loss, mask, inputs)
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * aux_loss / self._micro_batches_per_update

        mode = "train" if self.model.training else "eval"
        statistics = token_statistics(pieces, entropies, mask, aux_loss)
        self._statistics[mode].append(self.accelerator.gather(statistics))
        if self._recorder is not None and self.model.training:
            step = self.state.global_step + 1
            self._recorder.record(self.accelerator, step, inputs, per_token_logps, entropies, pieces)
        return poison_if_not_finite(loss)

    def _policy_forward(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-probabilities and entropies `(B, T)` and load-balancing loss of the policy, in one forward pass."""
        return self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            logits_to_keep=inputs["completion_ids"].size(1),
            compute_entropy=True,
            compute_aux_loss=self.aux_loss_enabled,
            **{name: inputs.get(name) for name in IMAGE_INPUTS},
        )

    def _token_loss(
        self, inputs: dict[str, Any], per_token_logps: Tensor, entropies: Tensor, mask: Tensor
    ) -> ArcherTokenLoss:
        """Calls the objective with this trainer's settings (Wang et al. 2025, Eq. 5)."""
        args = self.args
        old_per_token_logps = inputs.get("old_per_token_logps")  # absent when on-policy
        surrogate_weight = None
        if self.use_vllm and self.vllm_importance_sampling_correction:
            surrogate_weight = inputs["importance_sampling_ratio"]
        if args.off_policy_mask_threshold is not None:
            keep = self._off_policy_mask(inputs, per_token_logps, old_per_token_logps, mask)
            surrogate_weight = keep if surrogate_weight is None else keep * surrogate_weight
        return archer_token_loss(
            per_token_logps,
            old_per_token_logps,
            inputs["advantages"],
            entropies,
            mask,
            ref_per_token_logps=inputs["ref_per_token_logps"] if args.beta != 0 else None,
            surrogate_weight=surrogate_weight,
            entropy_quantile=args.entropy_quantile,
            gate_width=args.gate_width,
            epsilon=args.epsilon,
            epsilon_high=args.epsilon_high,
            epsilon_reasoning=args.epsilon_reasoning,
            epsilon_reasoning_high=args.epsilon_reasoning_high,
            beta=args.beta,
            beta_reasoning=args.beta_reasoning,
            delta=args.delta,
            use_bias_correction_kl=args.use_bias_correction_kl,
        )

    def _off_policy_mask(
        self, inputs: dict[str, Any], per_token_logps: Tensor, old_per_token_logps: Tensor | None, mask: Tensor
    ) -> Tensor:
        """TRL's off-policy sequence mask `(B, 1)`, from the sampler's log-probabilities where they are known."""
        sampling_per_token_logps = inputs.get("sampling_per_token_logps", old_per_token_logps)
        advantages = inputs["advantages"]
        return self.get_off_policy_mask(
            advantages=advantages.unsqueeze(1) if advantages.dim() == 1 else advantages,
            per_token_logps=per_token_logps,
            sampling_per_token_logps=per_token_logps if sampling_per_token_logps is None else sampling_per_token_logps,
            mask=mask,
            off_policy_threshold=self.args.off_policy_mask_threshold,
        )

    def _reduce(self, token_loss: Tensor, mask: Tensor, inputs: dict[str, Any]) -> Tensor:
        """
        Sums the token losses of a micro-batch with the normaliser of `loss_type`, as TRL does.

        Totals in `inputs` span the generation batch over all ranks; an update takes `window` of it, and gradients are
        averaged over ranks. Only `bnpo` divides by what the micro-batch itself holds.
        """
        window = self._micro_batches_per_update / (self.args.steps_per_generation if self.model.training else 1)
        share = window / self.accelerator.num_processes
        match self.loss_type:
            case "dapo":
                return token_loss.sum() / (inputs["num_items_in_batch"].clamp(min=1) * share)
            case "grpo":
                per_sequence = token_loss.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
                return per_sequence.sum() / (inputs["num_sequences_in_batch"].clamp(min=1) * share)
            case "dr_grpo":
                slots = inputs["num_sequences_in_batch"].clamp(min=1) * self.max_completion_length
                return token_loss.sum() / (slots * share)
            case "bnpo":
                return token_loss.sum() / mask.sum().clamp(min=1) / self._micro_batches_per_update
        raise ValueError(f"loss_type={self.loss_type!r} has no clip range per token.")

    @property
    def _micro_batches_per_update(self) -> int:
        return self.current_gradient_accumulation_steps if self.model.training else 1

    def _get_grad_norm(self, model, grad_norm=None):
        """The last look at a gradient before its update, at the same norm on all ranks."""
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        guard_update(self, model, grad_norm)
        return grad_norm

    # Checkpoints

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        self._resumed_from = find_checkpoint(self, resume_from_checkpoint)
        self._checkpoint_bytes = checkpoint_bytes(self._resumed_from)
        self._step, self._buffered_inputs = 0, None  # what an earlier call left belongs to other data
        return super().train(self._resumed_from, trial, ignore_keys_for_eval)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        load_trained_adapter(self.model if model is None else model, resume_from_checkpoint)

    def _get_train_sampler(self, dataset=None):
        sampler = super()._get_train_sampler(dataset)
        skip_epochs(sampler, self._resumed_from)
        return sampler

    def _run_epoch(self, *args, **kwargs):
        """The Trainer would train a finished run, when it is resumed, for one more step."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)
        else:
            self.control.should_training_stop = True

    def _save_checkpoint(self, model, trial):
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        save_checkpoint(self, folder, partial(super()._save_checkpoint, model, trial))

    def _save_rng_state(self, output_dir):
        """Comes last of what every rank writes."""
        with failing_together():
            super()._save_rng_state(output_dir)
            save_progress(self, output_dir)
        with failing_together():
            write_manifest(self, output_dir)

    def _load_rng_state(self, checkpoint):
        """Comes last of what a resumed run loads."""
        super()._load_rng_state(checkpoint)
        load_progress(self, checkpoint)

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = "train" if self.model.training else "eval"
        if self._statistics[mode]:
            metrics = summarise(self._statistics[mode], with_kl=self.beta != 0, with_aux_loss=self.aux_loss_enabled)
            self._metrics[mode].update({name: [value] for name, value in metrics.items()})
            self._statistics[mode].clear()
        super().log(logs, start_time)
