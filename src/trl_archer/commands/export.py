"""From an adapter to a model of its own, which transformers and vLLM load without PEFT."""

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

# Largest difference of log-probabilities, in nats, that merging in float32 can make by rounding
_ROUNDING = 1e-2


def find_adapter(run: str | Path, checkpoint: int | None = None) -> Path:
    """
    The folder of a run that holds its adapter.

    Args:
        run (`str` or `Path`): Folder of a run, of one of its checkpoints, or of an adapter from elsewhere.
        checkpoint (`int`, *optional*): Step of the checkpoint to take. `None`: what the run saved at its end.

    Returns:
        `Path`: Folder with a complete adapter.

    Raises:
        ValueError: If there is none, or if the checkpoint is not complete.
    """
    run = Path(run)
    if not run.is_dir():
        raise ValueError(f"There is no folder {str(run)!r} (seen from {Path.cwd()}).")
    steps = [step for step, path in list_checkpoints(run).items() if (path / ADAPTER).is_file()]
    seen = f"It has adapters of the steps {', '.join(map(str, sorted(steps)))}." if steps else "It has no checkpoint."
    folder = run if checkpoint is None else run / f"checkpoint-{checkpoint}"
    if not folder.is_dir():
        raise ValueError(f"{str(run)!r} has no checkpoint of step {checkpoint}. {seen}")
    if not (folder / ADAPTER).is_file():
        if (folder / "config.json").is_file():
            raise ValueError(
                f"{str(folder)!r} holds a full model, in which there is nothing to merge: load it as it is."
            )
        hint = f"{seen} Name one with --checkpoint." if steps else "Name the output_dir of a run with use_peft."
        raise ValueError(f"{str(folder)!r} holds no adapter ({ADAPTER} is missing). {hint}")
    reason = why_incomplete(folder) if folder.name.startswith("checkpoint-") else _without_weights(folder)
    if reason is not None:
        raise ValueError(f"The adapter in {str(folder)!r} is not complete: {reason}.")
    return folder


def _without_weights(folder: Path) -> str | None:
    paths = [folder / f"adapter_model.{kind}" for kind in ("safetensors", "bin")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return f"{paths[0].name} is missing"
    return None if is_readable(path) else f"{path.name} is cut off"


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

    The sum is made in float32 on the CPU, compared with base and adapter side by side, and rounded once to `dtype`. The
    base model is the one that was published, also for an adapter trained on quantised weights: the result then lacks
    the rounding errors that the trained policy had in it, and is not exactly that policy.

    Args:
        run (`str` or `Path`):
            Folder of a run, of one of its checkpoints, or of an adapter from elsewhere.
        output (`str` or `Path`):
            Folder to write, which must not exist.
        checkpoint (`int`, *optional*):
            Step of the checkpoint to take. `None`: what the run saved at its end.
        base (`str`, *optional*):
            Base model, if it is no longer where the adapter says.
        revision (`str`, *optional*):
            Revision of the base model. `None`: that of the run.
        dtype (`str`, *optional*):
            `"bfloat16"`, `"float16"` or `"float32"`. `None`: that in which the base model was published.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether the base model may bring code of its own.

    Returns:
        `dict[str, Any]`: `adapter`, `base`, `dtype`, `difference` (largest difference of log-probabilities before
        rounding, in nats) and `quantized` (whether the adapter was trained on quantised weights).

    Raises:
        ValueError: If adapter, base model or output cannot be used; the message names it and the way out.
    """
    import torch

    folder, output = find_adapter(run, checkpoint), Path(output)
    if output.exists():
        raise ValueError(f"The output {str(output)!r} exists. Choose another, or remove it.")
    trained_on = _record(folder)
    base = base or json.loads((folder / ADAPTER).read_text())["base_model_name_or_path"]
    revision = revision or trained_on.get("model_revision")
    model, stored_dtype = _load(folder, base, revision, trust_remote_code)
    dtype = dtype or stored_dtype
    tokenizer = _load_tokenizer(folder, base, revision, trust_remote_code)

    ids = torch.randint(model.config.get_text_config().vocab_size, (2, 64), generator=torch.Generator().manual_seed(0))
    before = _logps(model, ids)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
        merged = model.merge_and_unload(safe_merge=True)
    difference = (_logps(merged, ids) - before).abs().max().item()
    if not difference <= _ROUNDING:
        raise ValueError(
            f"Merging changes log-probabilities by up to {difference:.3g} nats, more than rounding. Serve the adapter "
            f"in {str(folder)!r} as it is, with PEFT or with vLLM's --enable-lora."
        )
    _round(merged, getattr(torch, dtype))
    _write(output, merged, tokenizer)
    quantized = bool(trained_on.get("load_in_4bit") or trained_on.get("load_in_8bit"))
    return {
        "adapter": str(folder),
        "base": base,
        "dtype": dtype,
        "difference": difference,
        "quantized": quantized,
    }


def _record(folder: Path) -> dict[str, Any]:
    """What `trl-archer train` noted about the model, if the adapter is of such a run."""
    for parent in (folder, folder.parent):
        if (parent / RECORD).is_file():
            return json.loads((parent / RECORD).read_text())["model"]
    return {}


def _load(folder: Path, base: str, revision: str | None, trust_remote_code: bool) -> "tuple[PeftModel, str]":
    """The adapter on its base model, both in float32, and the dtype that the base model was published in."""
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights
    from transformers import AutoConfig
    from trl.trainer.utils import create_model_from_path

    options = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(base, **options)
        if getattr(config, "quantization_config", None) is not None:
            raise ValueError("it is stored quantised, and merging would round the adapter away")
        model = create_model_from_path(base, dtype=torch.float32, device_map="cpu", **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The base model {base!r} of {str(folder)!r} cannot be used: {error}. Name it with --base, as a model on "
            "the Hub or a folder."
        ) from None
    stored = config.get_text_config().dtype or torch.float32
    try:
        model = PeftModel.from_pretrained(model, folder)
        saved, loaded = load_peft_weights(folder, device="cpu"), get_peft_model_state_dict(model)
        for name in saved.keys() ^ loaded.keys():  # PEFT drops what finds no place, and makes up what is missing
            raise ValueError(f"{name} is only in the {'adapter' if name in saved else 'model'}")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"The adapter in {str(folder)!r} does not fit the base model {base!r}: {error}") from None
    return model, str(stored).removeprefix("torch.")


def _load_tokenizer(folder: Path, base: str, revision: str | None, trust_remote_code: bool) -> Any:
    from transformers import AutoProcessor

    has_own = (folder / "tokenizer_config.json").is_file()
    options = {} if has_own else {"revision": revision or "main"}
    return AutoProcessor.from_pretrained(folder if has_own else base, trust_remote_code=trust_remote_code, **options)


def _logps(model: Any, ids: "Tensor") -> "Tensor":
    import torch

    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits.log_softmax(dim=-1)


def _round(model: Any, dtype: Any) -> None:
    """To the dtype, all but what the architecture keeps in float32."""
    kept = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not any(part in name for part in kept):
            tensor.data = tensor.data.to(dtype)
    model.config.dtype = dtype


def _write(output: Path, model: Any, tokenizer: Any) -> None:
    """All of it or nothing."""
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(output)
