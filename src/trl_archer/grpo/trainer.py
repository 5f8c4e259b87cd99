"""TRL's GRPO trainer made exact, fast and durable."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from accelerate.logging import get_logger
from accelerate.utils import DistributedType
from peft import PeftModel
from torch import Tensor, nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import get_config_model_id, use_adapter

from .adapters import adapter_weights, load_trained_adapter, prepare_adapter, sync_without_drift
from .checkpoints import check_model, check_same_backend, find_checkpoint, launch_of, trainable_shapes
from .config import DurableGRPOConfig
from .dropout import active_dropout, disable_dropout
from .padding import group_by_length, loss_mask, real_tokens
from .positions import check_positions
from .preemption import save_on_sigterm
from .preflight import (
    Preflight,
    check_data,
    check_synced_weights,
    check_trainable,
    refuse_unsloth,
)
from .preflight import preflight as run_preflight
from .progress import (
    load_progress,
    save_progress,
    skip_epochs,
    to_device,
    trained_micro_batches,
    warn_of_inexact_resume,
)
from .prompts import check_prompts
from .reference import check_reference, reference_from_memory
from .reward_checks import check_reward_models, checked_reward, raise_on_all_ranks
from .saving import CheckpointSaver, failing_together
from .scoring import importance_sampling_ratio, sampling_metrics
from .trackers import WithoutMissing
from .updates import UpdateGuard, poison_backward
from .vllm_retries import ServerWatch, generate_with_retries
from .weights import load_all_weights

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
    from transformers import PreTrainedModel
    from trl.trainer.grpo_trainer import RewardFunc

logger = get_logger(__name__)

# Arguments of TRL's log-prob helper for models with images
IMAGE_INPUTS = (
    *("pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes", "num_tiles"),
    *("image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids"),
)


class DurableGRPOTrainer(GRPOTrainer):
    """
    TRL's GRPO, faster and resumable.

    Runs TRL's loss types unchanged, with the same loss and gradient as [`~trl.GRPOTrainer`]. It removes padding from
    the update phase and skips non-finite updates. It refuses incomplete checkpoints, and a killed run resumes
    bit-for-bit, even in the middle of a rollout. Generation survives a restart of the vLLM server, and a reward that
    fails on one rank stops every rank.

    Example:

    ```python
    from datasets import load_dataset
    from trl.rewards import accuracy_reward
    from trl_archer.grpo import DurableGRPOConfig, DurableGRPOTrainer

    trainer = DurableGRPOTrainer(
        model="Qwen/Qwen2.5-0.5B-Instruct",
        reward_funcs=accuracy_reward,
        args=DurableGRPOConfig(output_dir="grpo", loss_type="cispo", epsilon_high=5.0),
        train_dataset=load_dataset("trl-lib/DeepMath-103K", split="train"),
    )
    trainer.train(resume_from_checkpoint=True)
    ```

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`):
            Policy, as in [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc` or `list[RewardFunc]`):
            Rewards, as in [`~trl.GRPOTrainer`].
        train_dataset, eval_dataset (`Dataset` or `IterableDataset`):
            Prompts, as in [`~trl.GRPOTrainer`].
        args ([`DurableGRPOConfig`], *optional*):
            Configuration. `None` means TRL's defaults, with `{model name}-{trainer name}` as the output directory.
        preflight ([`Preflight`], *optional*):
            Result of [`preflight`], if it was called before.
        **kwargs:
            Other arguments of [`~trl.GRPOTrainer`].

    Raises:
        TypeError: If `args` is of another class.
        ValueError: If a check of [`preflight`] fails, the data lacks a column or does not fill one rollout, or no
            parameter can be trained.
        ConnectionError: If no vLLM server responds.
        RuntimeError: If Unsloth has replaced TRL's trainer.
    """

    config_class: ClassVar[type[DurableGRPOConfig]] = DurableGRPOConfig

    _defers_scoring = False
    _tokens_of_update: Any = None
    _policy_logps: Any = None

    args: DurableGRPOConfig
    vllm_importance_sampling_correction: bool
    _buffered_inputs: Any

    def __init__(
        self,
        model: "str | PreTrainedModel | PeftModel",
        reward_funcs: "RewardFunc | list[RewardFunc] | None" = None,
        args: DurableGRPOConfig | None = None,
        train_dataset: "Dataset | IterableDataset | None" = None,
        eval_dataset: "Dataset | IterableDataset | DatasetDict | IterableDatasetDict | dict | None" = None,
        *,
        preflight: Preflight | None = None,
        **kwargs: Any,
    ):
        refuse_unsloth(type(self))
        args = self._checked_config(model, args)
        self._preflight = preflight or run_preflight(args, model, kwargs.get("quantization_config"))
        # An environment may supply the prompts, and a rollout function other columns and tokens
        has_prompts = kwargs.get("environment_factory") is None
        makes_rollouts = kwargs.get("rollout_func") is None
        if has_prompts:
            functions = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
            check_data(train_dataset, eval_dataset, functions if makes_rollouts else [], args)
        weights = adapter_weights(model)
        with reference_from_memory(model, args, kwargs.get("peft_config") is not None):
            super().__init__(model, reward_funcs, args, train_dataset, eval_dataset, **kwargs)
        self.callback_handler.callbacks.insert(0, WithoutMissing())  # before the trackers
        check_trainable(self.model)
        if has_prompts and makes_rollouts and not self._is_vlm:
            positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
            for name, dataset in (("train_dataset", train_dataset), ("eval_dataset", eval_dataset)):
                check_prompts(name, dataset, lambda prompt: self._tokenize_prompts([prompt])[0][0], positions)
        self._reference_is_checked = False
        self._set_dropout()
        if self._removes_padding:
            check_positions(self.model, self.is_fsdp_enabled or is_deepspeed_zero3_enabled())
        check_synced_weights(self.model, args)
        prepare_adapter(self.model, weights, self.is_deepspeed_enabled or self.is_fsdp_enabled)
        if self.use_vllm:
            sync_without_drift(self.vllm_generation)
        self.reward_funcs: list[Any] = [f if isinstance(f, nn.Module) else checked_reward(f) for f in self.reward_funcs]
        self._resumed_from: Path | None = None
        self._shapes = trainable_shapes(self.model)
        self._saver = CheckpointSaver(args, launch_of(self.accelerator), self._shapes)
        self._update_guard = UpdateGuard(args)
        self._server: ServerWatch | None = None
        if self._generates_on_server and self.accelerator.is_main_process:
            self._server = ServerWatch(self.vllm_generation.vllm_client, self.accelerator.device)
        save_on_sigterm(self)
        self._check_fits(self._preflight.checkpoint)

    @classmethod
    def _checked_config(cls, model: Any, args: Any) -> Any:
        if args is None:
            model_id = model if isinstance(model, str) else get_config_model_id(model.config)
            return cls.config_class(f"{model_id.split('/')[-1]}-{cls._name}")
        if not isinstance(args, cls.config_class):
            raise TypeError(
                f"args is of type {type(args).__name__}; {cls.__name__} needs {cls.config_class.__name__}, which "
                "has the same fields and adds its own."
            )
        return args

    def _set_dropout(self) -> None:
        if self.args.disable_dropout:
            for model in filter(None, (self.model, self.ref_model)):
                disable_dropout(model)
        elif active := active_dropout(self.model):
            self._reference_is_checked = True  # dropout alone makes it differ
            logger.warning(
                f"Dropout is active ({active}), so ratios and KL contain noise even for the same weights. Set "
                "disable_dropout=True, and lora_dropout=0 for an adapter."
            )

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    @property
    def _micro_batches_per_update(self) -> int:
        return self.current_gradient_accumulation_steps if self.model.training else 1

    # Rollouts

    @property
    def _generates_on_server(self) -> bool:
        return self.use_vllm and self.vllm_mode == "server"

    def _generate_single_turn(self, *args, **kwargs):
        generate = partial(super()._generate_single_turn, *args, **kwargs)
        if not self._generates_on_server:
            return generate()
        return generate_with_retries(self._server, generate, self._send_weights_again, self.args.max_generation_retries)

    def _send_weights_again(self) -> None:
        self._last_loaded_step = -1

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        calculate = partial(super()._calculate_rewards, inputs, prompts, completions, completion_ids_list)
        rewards = raise_on_all_ranks(calculate, len(prompts), len(self.reward_funcs), self.accelerator)
        check_reward_models(self.reward_funcs, self.reward_func_names, rewards)
        return rewards

    # Layout

    @property
    def _removes_padding(self) -> bool:
        # Depends on the model, not the batch: with images on some ranks only, the number of passes would differ
        return self.args.remove_padding and not self._is_vlm

    @property
    def _depends_on_split(self) -> bool:
        """Whether the loss depends on which completions share a micro-batch."""
        entropy = self.top_entropy_quantile < 1 or self._entropy_bonus_enabled
        return self.loss_type == "bnpo" or self.aux_loss_enabled or entropy

    @property
    def _keeps_empty_rows(self) -> bool:
        """Whether to keep completions without a token in the loss. TRL's metrics gather one value per completion."""
        return True

    @property
    def _per_window(self) -> int:
        """Number of consecutive micro-batches that always belong to the same optimizer step."""
        return math.gcd(self.args.steps_per_generation, self.args.gradient_accumulation_steps)

    def _prepare_inputs(self, generation_batch):
        """Lays out and scores TRL's micro-batches, once per generation batch or evaluation batch."""
        buffered = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training:
            (inputs,) = self._score(self._lay_out([inputs]))
            return inputs
        if self._buffered_inputs is not buffered:
            self._buffered_inputs = self._score(self._count(self._lay_out(self._buffered_inputs)))
        inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]
        self._tokens_of_update = (self._tokens_of_update or 0) + inputs["num_items_in_micro_batch"]
        return inputs

    def _lay_out(self, micro_batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Removes padding from the micro-batches of a rollout."""
        if not self._removes_padding:
            return micro_batches
        if len(micro_batches) > 1 and not self._depends_on_split:
            micro_batches = group_by_length(micro_batches, self._per_window, self._keeps_empty_rows)
        return [real_tokens(batch, self._keeps_empty_rows, self.pad_to_multiple_of) for batch in micro_batches]

    def _count(self, micro_batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Adds the number of tokens that count in each micro-batch, on all ranks."""
        tokens = torch.stack([loss_mask(batch).sum() for batch in micro_batches])
        for batch, count in zip(micro_batches, self.accelerator.reduce(tokens, "sum").cpu(), strict=True):
            batch["num_items_in_micro_batch"] = count
        return micro_batches

    # Scores of the old and the reference policy

    def _generate_and_score_completions(self, inputs):
        """Returns TRL's rollouts without log-probabilities of the old and reference policies; see `_score`."""
        corrects = self.vllm_importance_sampling_correction
        self._defers_scoring, self.vllm_importance_sampling_correction = True, False
        try:
            output = super()._generate_and_score_completions(inputs)
        finally:
            self._defers_scoring, self.vllm_importance_sampling_correction = False, corrects
        for name in ("old_per_token_logps", "ref_per_token_logps"):
            output.pop(name, None)
        return output

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs):
        if self._defers_scoring:
            return input_ids.new_zeros((len(input_ids), logits_to_keep), dtype=torch.float32), None, None
        outputs = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        if torch.is_grad_enabled():
            self._policy_logps = outputs[0].detach()
        return outputs

    @property
    def _corrects_sampling(self) -> bool:
        return self.use_vllm and self.vllm_importance_sampling_correction

    @property
    def _scores_entropies(self) -> bool:
        """Whether the loss needs the entropies of the old policy, `old_entropies`, and so its pass on every rollout."""
        return False

    @torch.no_grad()
    def _score(self, micro_batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """
        Adds the log-probabilities of the old and reference policies, and vLLM's importance ratios, to a rollout.

        The policy scores the same micro-batches later, so the same weights give the same bits: ratio 1 and KL 0, in
        every dtype and with any position embedding. Without vLLM's correction, the first optimizer step of a rollout
        needs no pass of the old policy: it is the policy. See `training_step`.
        """
        always_on_policy = self.args.strictly_on_policy or not self.model.training
        on_policy = len(micro_batches) if always_on_policy else self._per_window
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            for batch in micro_batches[0 if self._corrects_sampling or self._scores_entropies else on_policy :]:
                logps, entropies, _ = self._forward(self.model, batch, compute_entropy=self._scores_entropies)
                batch["old_per_token_logps"] = logps
                if self._scores_entropies:
                    batch["old_entropies"] = entropies
            if self.beta != 0:
                with self._reference() as reference:
                    for batch in micro_batches:
                        batch["ref_per_token_logps"] = self._logps(reference, batch)
        if self._corrects_sampling:
            for batch in micro_batches:
                old, sampling = batch["old_per_token_logps"], batch["sampling_per_token_logps"]
                batch["importance_sampling_ratio"] = importance_sampling_ratio(
                    old, sampling, loss_mask(batch), self.args
                )
            for name, value in sampling_metrics(micro_batches, self.accelerator).items():
                self._metrics[self._mode][name].append(value)
        return micro_batches

    @contextmanager
    def _reference(self) -> Iterator[Any]:
        """Yields the reference policy: a model, or the policy with its adapter off or replaced by its first state."""
        if self.ref_model is not None:
            yield self.ref_model
            return
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            yield self.model

    def _logps(self, model, inputs: dict[str, Any]) -> Tensor:
        return self._forward(model, inputs)[0]

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Keeps the log-probabilities of a micro-batch's first use, before the policy changes, for later passes."""
        index = self._step % self.args.steps_per_generation
        loss = super().training_step(model, inputs, num_items_in_batch)
        batch = self._buffered_inputs[index]
        logps, self._policy_logps = self._policy_logps, None
        if self.beta != 0 and self.state.global_step == 0 and not self._reference_is_checked:
            check_reference(logps, batch["ref_per_token_logps"], loss_mask(batch), self.accelerator, self.args)
            self._reference_is_checked = self.accelerator.sync_gradients
        if self.num_iterations > 1 and not self.args.strictly_on_policy:
            batch.setdefault("old_per_token_logps", logps)
        return loss

    # Updates

    def _policy_forward(self, model, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Computes the policy's log-probabilities and entropies `(B, T)` and load-balancing loss in one pass."""
        return self._forward(model, inputs, compute_entropy=True, compute_aux_loss=self.aux_loss_enabled)

    def _forward(self, model, inputs: dict[str, Any], **outputs: bool) -> tuple[Tensor, Any, Any]:
        if self._needs_no_pass(inputs):
            zeros = torch.zeros_like(inputs["completion_ids"], dtype=torch.float32)
            if torch.is_grad_enabled():
                self._policy_logps = zeros
            return zeros.clone().requires_grad_(torch.is_grad_enabled()), zeros, None
        return self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            logits_to_keep=inputs["completion_ids"].size(1),
            **outputs,
            **{name: inputs.get(name) for name in IMAGE_INPUTS},
        )

    def _needs_no_pass(self, inputs: dict[str, Any]) -> bool:
        """
        Whether nothing counts in a micro-batch on any rank, so that its pass can be left out.

        With gradients only on a single process, because other backends reduce gradients in hooks of the backward pass,
        and only if the update has a gradient already, because a loss scaler requires one.
        """
        if inputs.get("num_items_in_micro_batch") != 0:
            return False
        alone = self.accelerator.distributed_type == DistributedType.NO and not self.aux_loss_enabled
        return not torch.is_grad_enabled() or (alone and bool(self._tokens_of_update))

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        poison_backward(self.accelerator, self._parameter_of_empty_update)

    def _parameter_of_empty_update(self) -> nn.Parameter | None:
        return next(p for p in self.model.parameters() if p.requires_grad) if self._is_empty_update() else None

    def _is_empty_update(self) -> bool:
        """Whether no token of the current optimizer step counts, on any rank. Load balancing counts every token."""
        return self._tokens_of_update is not None and self._tokens_of_update == 0 and not self.aux_loss_enabled

    def _get_grad_norm(self, model, grad_norm=None):
        """Runs last before an update, with the same norm on every rank."""
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        deepspeed = self.deepspeed if self.is_deepspeed_enabled else None
        step = self.state.global_step + 1
        if self._is_empty_update():
            self._update_guard.skip_empty(model, deepspeed)
        else:
            self._update_guard.check(grad_norm, model, self.accelerator, deepspeed, step, self._last_micro_batches)
        self._tokens_of_update = None
        self._metrics["train"]["skipped_updates"] = [float(self._update_guard.skipped)]
        self._metrics["train"]["empty_updates"] = [float(self._update_guard.empty)]
        return grad_norm

    def _last_micro_batches(self) -> list[dict[str, Any]]:
        """Returns the current optimizer step's micro-batches; of several generation batches, only those of the last."""
        count = min(self.current_gradient_accumulation_steps, len(self._buffered_inputs))
        steps = range(self._step - count, self._step)
        return [self._buffered_inputs[index % len(self._buffered_inputs)] for index in steps]

    # Checkpoints

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        checkpoint = self._preflight.checkpoint
        if checkpoint is None or resume_from_checkpoint != str(checkpoint):
            checkpoint = find_checkpoint(resume_from_checkpoint, self.args)
            self._check_fits(checkpoint)
        self._resumed_from = checkpoint
        self._saver.resume(checkpoint)
        # The values of an earlier call belong to other data and weights
        self._step, self._buffered_inputs, self._tokens_of_update = 0, None, None
        self._send_weights_again()
        return super().train(None if checkpoint is None else str(checkpoint), trial, ignore_keys_for_eval)

    def _check_fits(self, checkpoint: Path | None) -> None:
        if checkpoint is not None:
            check_model(checkpoint, self.accelerator.unwrap_model(self.model), self._shapes)
            check_same_backend(checkpoint, launch_of(self.accelerator))

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        model = self.model if model is None else model
        load_trained_adapter(model, resume_from_checkpoint)
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):  # they load by the module's names
            load_all_weights(model, resume_from_checkpoint)

    def _load_best_model(self):
        super()._load_best_model()
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            load_all_weights(self.model, self.state.best_model_checkpoint)

    def _get_train_sampler(self, dataset=None):
        sampler = super()._get_train_sampler(dataset)
        skip_epochs(sampler, self._resumed_from)
        return sampler

    def _run_epoch(self, *args, **kwargs):
        """Keeps the Trainer from training a resumed finished run for one more step (not reported upstream yet)."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)
        else:
            self.control.should_training_stop = True

    def _save_checkpoint(self, model, trial):
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        self._saver.save(folder, partial(super()._save_checkpoint, model, trial), self.state, self.control)

    def _save_rng_state(self, output_dir):
        """Called last when a checkpoint is saved, on every rank."""
        with failing_together():
            super()._save_rng_state(output_dir)
            save_progress(self._state_to_save(), output_dir, self.args)
        with failing_together():
            self._saver.write_manifest(output_dir)

    def _load_rng_state(self, checkpoint):
        """Called last when a checkpoint is loaded, on every rank."""
        super()._load_rng_state(checkpoint)
        data = self.callback_handler.train_dataloader
        self._send_weights_again()
        warn_of_inexact_resume(checkpoint, self.state, self.args, data)
        if self.args.ignore_data_skip:
            return
        self._step = trained_micro_batches(self.state, self.args, data)
        progress = load_progress(checkpoint, self.args)
        if progress is not None:
            self._restore(progress)

    def _state_to_save(self) -> dict[str, Any]:
        """Collects what this rank needs to resume exactly: metrics that are not logged yet, and rollouts in use."""
        trained = trained_micro_batches(self.state, self.args, self.callback_handler.train_dataloader)
        is_inside_rollout = trained % (self.args.steps_per_generation * self.args.num_iterations) > 0
        return {
            "loss": self._tr_loss.detach().cpu(),
            "last_logged": self._globalstep_last_logged,
            "metrics": {name: [float(x) for x in values] for name, values in self._metrics["train"].items()},
            "skipped_updates": self._update_guard.skipped,
            "empty_updates": self._update_guard.empty,
            "rollouts": [to_device(batch, "cpu") for batch in self._buffered_inputs] if is_inside_rollout else None,
        }

    def _restore(self, progress: dict[str, Any]) -> None:
        """Restores what `_state_to_save` saved."""
        device = self.accelerator.device
        self._tr_loss = progress["loss"].to(device)
        # The summary at the end covers the steps of this call
        self._total_loss_scalar -= self.accelerator.reduce(self._tr_loss.clone(), reduction="mean").item()
        self._globalstep_last_logged = progress["last_logged"]
        self._metrics["train"].update(progress["metrics"])
        self._update_guard.skipped, self._update_guard.empty = progress["skipped_updates"], progress["empty_updates"]
        if progress["rollouts"] is not None:
            self._buffered_inputs = [to_device(batch, device) for batch in progress["rollouts"]]
