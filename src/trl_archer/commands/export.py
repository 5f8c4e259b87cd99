"""Merges an adapter into its base model: transformers and vLLM load the result without PEFT."""

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..grpo.checkpoints import is_readable, list_checkpoints, why_incomplete
from .train.resume import RECORD

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

ADAPTER = "adapter_config.json"

# Upper bound on the rounding error of log-probabilities, in nats, from merging in float32
_ROUNDING = 1e-2


def _find_adapter(run: Path, checkpoint: int | None) -> Path:
    """The folder with the complete adapter of a run, of one of its checkpoints, or of another adapter."""
    if not run.is_dir():
        raise ValueError(f"There is no folder {str(run)!r} (relative to {Path.cwd()}).")
    steps = [step for step, path in list_checkpoints(run).items() if (path / ADAPTER).is_file()]
    seen = f"It has adapters at steps {', '.join(map(str, sorted(steps)))}." if steps else "It has no checkpoint."
    folder = run if checkpoint is None else run / f"checkpoint-{checkpoint}"
    if not folder.is_dir():
        raise ValueError(f"{str(run)!r} has no checkpoint at step {checkpoint}. {seen}")
    if not (folder / ADAPTER).is_file():
        if (folder / "config.json").is_file():
            raise ValueError(
                f"{str(folder)!r} contains a full model, not an adapter. There is nothing to merge; load it directly."
            )
        hint = f"{seen} Choose one with --checkpoint." if steps else "Pass the output_dir of a run with use_peft."
        raise ValueError(f"{str(folder)!r} contains no adapter ({ADAPTER} is missing). {hint}")
    reason = why_incomplete(folder) if folder.name.startswith("checkpoint-") else _without_weights(folder)
    if reason is not None:
        raise ValueError(f"The adapter in {str(folder)!r} is not complete: {reason}.")
    return folder


def _without_weights(folder: Path) -> str | None:
    paths = [folder / f"adapter_model.{kind}" for kind in ("safetensors", "bin")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return f"{paths[0].name} is missing"
    return None if is_readable(path) else f"{path.name} is truncated"


def export(
    run: str | Path,
    output: str | Path,
    checkpoint: int | None = None,
    base: str | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """
    Merges an adapter into its base model and saves the result, with tokenizer and generation configuration.

    Merging happens in float32 on the CPU. The result is compared with the unmerged model, then rounded once to `dtype`.
    The base model is the published one, even if the adapter was trained on quantized weights. The result then lacks
    the quantization errors of the trained policy and is not exactly that policy.

    Without a `checkpoint`, the adapter is the one saved at the end of the run. `base` and `revision` default to those
    of the run, `dtype` to that of the published base model. Returns `adapter`, `base`, `dtype`, `difference` (largest
    difference in log-probability before rounding, in nats) and `quantized` (whether the adapter was trained on
    quantized weights). Raises `ValueError` if adapter, base model or output cannot be used.
    """
    import torch
    from transformers import AutoProcessor

    folder, output = _find_adapter(Path(run), checkpoint), Path(output)
    if output.exists():
        raise ValueError(f"The output {str(output)!r} exists. Choose another folder or remove it.")
    trained_on = _record(folder)
    base = base or json.loads((folder / ADAPTER).read_text())["base_model_name_or_path"]
    revision = revision or trained_on.get("model_revision") or "main"
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    model, stored_dtype = _load(folder, base, options)
    dtype = dtype or stored_dtype
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    tokenizer = AutoProcessor.from_pretrained(folder if has_tokenizer else base, **options)

    ids = torch.randint(model.config.get_text_config().vocab_size, (2, 64), generator=torch.Generator().manual_seed(0))
    before = _logps(model, ids)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
        merged = model.merge_and_unload(safe_merge=True)
    difference = (_logps(merged, ids) - before).abs().max().item()
    if not difference <= _ROUNDING:
        raise ValueError(
            f"Merging changes log-probabilities by up to {difference:.3g} nats, more than rounding can explain. Serve "
            f"the unmerged adapter in {str(folder)!r} with PEFT or vLLM's --enable-lora."
        )
    _round(merged, getattr(torch, dtype))
    _write(output, merged, tokenizer)
    quantized = bool(trained_on.get("load_in_4bit") or trained_on.get("load_in_8bit"))
    return {"adapter": str(folder), "base": base, "dtype": dtype, "difference": difference, "quantized": quantized}


def _record(folder: Path) -> dict[str, Any]:
    """The model settings recorded by `trl-archer train`, if it trained the adapter."""
    for parent in (folder, folder.parent):
        if (parent / RECORD).is_file():
            return json.loads((parent / RECORD).read_text())["model"]
    return {}


def _load(folder: Path, base: str, options: dict[str, Any]) -> "tuple[PeftModel, str]":
    """The adapter on its base model, both in float32, and the dtype of the published base model."""
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights
    from transformers import AutoConfig
    from trl.trainer.utils import create_model_from_path

    try:
        config = AutoConfig.from_pretrained(base, **options)
        if getattr(config, "quantization_config", None) is not None:
            raise ValueError("its weights are quantized, and merging would round the adapter away")
        model = create_model_from_path(base, dtype=torch.float32, device_map="cpu", **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The base model {base!r} of {str(folder)!r} cannot be used: {error}. Pass a folder or a model on the "
            "Hub with --base."
        ) from None
    stored = config.get_text_config().dtype or torch.float32
    try:
        model = PeftModel.from_pretrained(model, folder)
        saved, loaded = load_peft_weights(folder, device="cpu"), get_peft_model_state_dict(model)
        for name in saved.keys() ^ loaded.keys():  # PEFT drops unexpected weights and initializes missing ones
            raise ValueError(f"{name} is only in the {'adapter' if name in saved else 'model'}")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"The adapter in {str(folder)!r} does not fit the base model {base!r}: {error}") from None
    return model, str(stored).removeprefix("torch.")


def _logps(model: Any, ids: "Tensor") -> "Tensor":
    import torch

    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits.log_softmax(dim=-1)


def _round(model: Any, dtype: Any) -> None:
    """Casts the model to the dtype, except what the architecture keeps in float32."""
    kept = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not any(part in name for part in kept):
            tensor.data = tensor.data.to(dtype)
    model.config.dtype = dtype


def _write(output: Path, model: Any, tokenizer: Any) -> None:
    """Writes the complete folder or nothing."""
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(output)
