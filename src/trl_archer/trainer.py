"""The Archer trainer: TRL's GRPO trainer with the loss of Wang et al. 2025."""

import math
import textwrap
from functools import partial
from typing import Any

import torch
from accelerate.logging import get_logger
from torch import Tensor
from trl.extras.profiling import profiling_decorator

from .config import ArcherGRPOConfig
from .groups import weighted_rewards, zero_std_groups
from .grpo.padding import deal_evenly, loss_mask
from .grpo.trainer import DurableGRPOTrainer
from .methods.running import RunningMethod
from .metrics import WIDTH, finite_rows, mean_token_entropy, summarize, token_statistics
from .objective import Totals, aggregate, archer_token_loss, mean_entropy
from .records.recorder import TokenRecorder
from .rewards.repetition import generated_ids, repeated_ngram_share

logger = get_logger(__name__)


class ArcherGRPOTrainer(DurableGRPOTrainer):
    """
    Trainer for Archer, Group Relative Policy Optimization with dual-token constraints.

    Splits the tokens of every response at a quantile of the response's own entropies. Each role, reasoning and
    knowledge, has its own clip range and KL weight. Takes the arguments of [`~trl.GRPOTrainer`]. Generation, rewards,
    logging, PEFT and distributed training remain TRL's.

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
        model (`str`, `PreTrainedModel` or `PeftModel`):
            Policy, as in [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc` or `list[RewardFunc]`):
            Rewards, as in [`~trl.GRPOTrainer`].
        args ([`ArcherGRPOConfig`], *optional*):
            Configuration. `None` means the paper's defaults, with `{model name}-Archer` as the output directory.
        **kwargs:
            Other arguments of [`~grpo.DurableGRPOTrainer`] and [`~trl.GRPOTrainer`].

    Raises:
        TypeError, ValueError, ConnectionError, RuntimeError: As in [`~grpo.DurableGRPOTrainer`].
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

    config_class = ArcherGRPOConfig
    args: ArcherGRPOConfig
    entropy_coef: float

    def __init__(self, model: Any, reward_funcs: Any = None, args: ArcherGRPOConfig | None = None, *rest, **kwargs):
        super().__init__(model, reward_funcs, args, *rest, **kwargs)
        self._calculate_rewards = partial(self._remember_rewards, self._calculate_rewards)  # type: ignore[method-assign]
        self._method = RunningMethod(self.args)
        self._statistics: dict[str, list[Tensor]] = {"train": [], "eval": []}
        self._rows_of_step: list[Tensor] = []
        records = self.args.token_records_steps is not None
        self._recorder = TokenRecorder(self.args, self.processing_class.decode) if records else None
        if self.args.strictly_on_policy and self.args.token_weights != "opefo":  # which asks for it
            logger.warning(
                "The configuration is strictly on-policy: every ratio is exactly 1, so clip ranges have no effect and "
                "only the KL weights distinguish reasoning from knowledge tokens. Set `num_iterations` above 1 (the "
                "paper uses 3), or `steps_per_generation` above `gradient_accumulation_steps`."
            )

    # Which completions count

    def _remember_rewards(self, calculate, inputs, prompts, completions, completion_ids_list):
        """Wraps `_calculate_rewards`, which a subclass may override without calling this class."""
        self._completion_ids = completion_ids_list
        self._rewards_per_func = calculate(inputs, prompts, completions, completion_ids_list)
        return self._rewards_per_func

    def _generate_and_score_completions(self, inputs):
        """Removes the tokens of dropped groups from TRL's rollouts, and from the normalizers."""
        output = super()._generate_and_score_completions(inputs)
        first_row = self.accelerator.process_index * len(inputs)
        rows = slice(first_row, first_row + len(inputs))
        kept = self._kept_completions()[rows]
        output["completion_mask"] = output["completion_mask"] * kept.unsqueeze(1)
        output["rewards"] = weighted_rewards(self._rewards_per_func, self.reward_weights)[rows]
        repetition = repeated_ngram_share(generated_ids(self._completion_ids, output.get("tool_mask"))).to(kept.device)
        sums = [x.sum().float() for x in (loss_mask(output), kept, repetition, torch.ones_like(kept))]
        totals = self.accelerator.reduce(torch.stack(sums), reduction="sum")
        output["num_items_in_batch"], output["num_sequences_in_batch"] = totals[0], totals[1]
        self._metrics[self._mode]["completions/repetition"].append((totals[2] / totals[3]).item())
        return output

    def _kept_completions(self) -> Tensor:
        """Marks the completions of all ranks whose group provides a learning signal, `(N,)`."""
        if not (self.model.training and self.args.mask_zero_std_groups):  # evaluation keeps all groups
            return torch.ones_like(self._rewards_per_func[:, 0], dtype=torch.bool)
        by_func = self.multi_objective_aggregation == "normalize_then_sum"
        dropped = zero_std_groups(self._rewards_per_func, self.reward_weights, self.num_generations, by_func)
        self._metrics["train"]["archer/dropped_groups"].append(dropped.sum().item())
        return ~dropped.repeat_interleave(self.num_generations)

    def _lay_out(self, micro_batches):
        """Deals the completions that count evenly over the optimizer steps of a rollout."""
        if len(micro_batches) > 1 and not self._is_vlm:  # images do not have one row per completion
            micro_batches = deal_evenly(micro_batches, self._per_window)
        return super()._lay_out(micro_batches)

    @property
    def _depends_on_split(self) -> bool:
        return self.args.loss_type == "bnpo" or self.aux_loss_enabled

    @property
    def _keeps_empty_rows(self) -> bool:
        return self.aux_loss_enabled  # this loss counts every token of the micro-batch

    @property
    def _scores_entropies(self) -> bool:
        return self._method.needs_old_entropies and self.model.training

    def _score(self, micro_batches):
        micro_batches = super()._score(micro_batches)
        if self._scores_entropies:
            self._method.balance(micro_batches, self._per_window, self.accelerator)
        return micro_batches

    # Loss

    @profiling_decorator
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Wang et al. 2025, Eq. (5), over one micro-batch."""
        if return_outputs:
            raise ValueError("ArcherGRPOTrainer does not support returning outputs; call it with return_outputs=False.")
        mask, totals = loss_mask(inputs), self._totals(inputs)
        per_token_logps, entropies, aux_loss = self._policy_forward(model, inputs)
        pieces = archer_token_loss(
            per_token_logps,
            inputs.get("old_per_token_logps"),  # absent when on-policy
            inputs["advantages"],
            entropies,
            mask,
            ref_per_token_logps=inputs["ref_per_token_logps"] if self.args.beta != 0 else None,
            surrogate_weight=self._surrogate_weight(inputs, per_token_logps, mask),
            constraints=self.args.constraints,
            method=self._method.of(inputs, self.state.global_step, self.state.max_steps),
        )
        loss = aggregate(pieces.loss, mask, self.args.loss_type, totals)
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * aux_loss / self._micro_batches_per_update
        if self._entropy_bonus_enabled:
            loss = loss - self._entropy_weight * mean_entropy(entropies, mask, totals)

        own = self._method.measure(pieces)
        rows = self.accelerator.gather(torch.cat([token_statistics(pieces, aux_loss), own])).view(-1, WIDTH + len(own))
        self._statistics[self._mode].append(rows[:, :WIDTH])
        if self.model.training and (self._entropy_bonus_enabled or self._method.learns):
            self._rows_of_step.append(rows)
            if self.accelerator.sync_gradients:
                self._learn_from_step()
        if self._recorder is not None and self.model.training:
            step = self.state.global_step + 1
            self._recorder.record(self.accelerator, step, inputs, mask, per_token_logps, entropies, pieces)
        return loss

    @property
    def _entropy_weight(self) -> float:
        """TRL's coefficient; 0 while the last step's entropy was above the target of `use_adaptive_entropy`."""
        is_high = self.use_adaptive_entropy and self._last_world_entropy > self.args.entropy_target
        return 0.0 if is_high else self.entropy_coef

    def _learn_from_step(self) -> None:
        """Reads the statistics of an optimizer step, over all micro-batches and ranks."""
        table = torch.cat(self._rows_of_step).cpu().double()
        self._rows_of_step.clear()
        table = table[finite_rows(table)]
        entropy = mean_token_entropy(table)
        if math.isfinite(entropy):  # not if nothing counted
            self._method.update(table[:, WIDTH:], entropy, self.state.global_step, self.state.max_steps)
        for name, value in self._method.metrics().items():
            self._metrics["train"][name].append(value)
        if self._entropy_bonus_enabled:
            self._adapt_entropy_coef(entropy)

    def _adapt_entropy_coef(self, entropy: float) -> None:
        """Adapts TRL's coefficient after an optimizer step, by TRL's rule."""
        if self.use_adaptive_entropy and math.isfinite(entropy):
            self._last_world_entropy = entropy
            if entropy <= self.args.entropy_target:
                self.entropy_coef = min(self.entropy_coef + self.args.entropy_coef_delta, self.args.entropy_coef_max)
            else:
                self.entropy_coef = max(self.entropy_coef - self.args.entropy_coef_delta, self.args.entropy_coef_min)
        self._metrics["train"]["entropy_coef"].append(self.entropy_coef)

    def _surrogate_weight(self, inputs: dict[str, Any], per_token_logps: Tensor, mask: Tensor) -> Tensor | None:
        """Multiplies vLLM's importance ratio and TRL's off-policy sequence mask, `(B, T)` or `(B, 1)`."""
        weight = None
        if self._corrects_sampling:
            weight = inputs["importance_sampling_ratio"]
        if self.args.off_policy_mask_threshold is not None:
            advantages = inputs["advantages"]
            old_per_token_logps = inputs.get("old_per_token_logps", per_token_logps)
            keep = self.get_off_policy_mask(
                advantages=advantages.unsqueeze(1) if advantages.dim() == 1 else advantages,
                per_token_logps=per_token_logps,
                sampling_per_token_logps=inputs.get("sampling_per_token_logps", old_per_token_logps),
                mask=mask,
                off_policy_threshold=self.args.off_policy_mask_threshold,
            )
            weight = keep if weight is None else keep * weight
        return weight

    def _totals(self, inputs: dict[str, Any]) -> Totals:
        window = self._micro_batches_per_update / (self.args.steps_per_generation if self.model.training else 1)
        return Totals(
            tokens=inputs["num_items_in_batch"],
            sequences=inputs["num_sequences_in_batch"],
            share=window / self.accelerator.num_processes,
            micro_batches=self._micro_batches_per_update,
            max_completion_length=self.args.max_completion_length,
        )

    # Logging and checkpoints

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        statistics = self._statistics[self._mode]
        if statistics:
            metrics = summarize(
                statistics,
                with_kl=self.args.beta != 0,
                with_aux_loss=self.aux_loss_enabled,
                with_cap=self.args.delta is not None or self.args.surrogate != "clip",
            )
            self._metrics[self._mode].update({name: [value] for name, value in metrics.items()})
            statistics.clear()
        super().log(logs, start_time)

    def _state_to_save(self) -> dict[str, Any]:
        return {
            **super()._state_to_save(),
            "statistics": [row.cpu() for row in self._statistics["train"]],
            "method": self._method.state(self.state.max_steps),
        }

    def _restore(self, progress: dict[str, Any]) -> None:
        super()._restore(progress)
        self._statistics["train"] = [row.to(self.accelerator.device) for row in progress["statistics"]]
        self._method.restore(progress["method"], self.state.max_steps)
