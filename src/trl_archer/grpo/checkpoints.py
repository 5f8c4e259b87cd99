"""Finds the checkpoint that a run resumes from, and refuses incomplete ones and those of another model.

A checkpoint is written in this order: a marker, the files of all ranks, the manifest with the size of every file, and
the Trainer's state. A folder is complete when the last two exist and every file has its listed size.
"""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = get_logger(__name__)

MANIFEST = "manifest.json"
MARKER = "incomplete"
TRAINER_STATE = "trainer_state.json"

# Words for `resume_from_checkpoint`, as a command line passes them
_WORDS: dict[str, str | bool] = {"true": True, "latest": True, "false": False, "auto": "auto"}

_WEIGHTS = ("*.safetensors", "pytorch_model*", "adapter_model*", "global_step*")

# Fields of a model's configuration that determine its shapes
_ARCHITECTURE = (
    *("model_type", "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "num_experts", "tie_word_embeddings"),
)
_ADAPTER = ("peft_type", "r", "target_modules", "modules_to_save")


def why_incomplete(folder: str | Path) -> str | None:
    """
    Returns what is missing from a checkpoint. A checkpoint of another trainer has no manifest. It must have weights
    and no checkpoints inside, and all its tensor files must be readable to the end.

    Returns:
        `str` or `None`: The reason; `None` if the checkpoint is complete.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return "it is not a folder"
    try:
        json.loads((folder / TRAINER_STATE).read_text())
    except FileNotFoundError:
        return f"{TRAINER_STATE}, which is written last, is missing"
    except ValueError:
        return f"{TRAINER_STATE} is truncated"
    if (folder / MANIFEST).is_file():
        return _differs_from_manifest(folder)
    if (folder / MARKER).is_file():
        return "it was not fully written by all processes"
    if not any(found for pattern in _WEIGHTS for found in folder.glob(pattern)):
        return "it has no weights"
    if list_checkpoints(folder):
        return "it is the folder of a run"
    return next((f"{path.name} is truncated" for path in files_of(folder) if not is_readable(path)), None)


def _differs_from_manifest(folder: Path) -> str | None:
    manifest = _read_manifest(folder)
    if manifest is None:
        return f"{MANIFEST} cannot be read"
    for name, size in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
    return None


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]] | None:
    """Reads file sizes and parameter shapes by name; returns `None` if the manifest does not have both."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    is_whole = isinstance(manifest, dict) and all(isinstance(manifest.get(x), dict) for x in ("files", "parameters"))
    return manifest if is_whole else None


def is_readable(path: Path) -> bool:
    """
    Whether a tensor file can be read to the end. Other files always count as readable.

    Returns:
        `bool`: `False` for a truncated file.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt"):
                return True
        except SafetensorError:
            return False
    # torch writes zip archives, which end with their directory
    return path.suffix not in (".pt", ".pth", ".bin") or zipfile.is_zipfile(path)


def files_of(folder: Path) -> Iterator[Path]:
    """Yields all files of a checkpoint, including those in subfolders."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def list_checkpoints(run_dir: Path) -> dict[int, Path]:
    """
    Lists the checkpoints of a run, complete or not.

    Returns:
        `dict[int, Path]`: Folder by step, the latest first.
    """
    found = {path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"): path for path in run_dir.glob("checkpoint-*")}
    return dict(sorted(((int(step), path) for step, path in found.items() if step.isdecimal()), reverse=True))


def find_checkpoint(resume_from_checkpoint: str | Path | bool | None, args: TrainingArguments) -> Path | None:
    """
    Chooses the checkpoint to resume from; every rank makes the same choice. Each checkpoint is validated once.

    `True`, `"true"` and `"latest"` mean the last complete one in `output_dir`; later incomplete ones are skipped with a
    warning. `"auto"` means the same, but starts a new run if there is none. A folder with one of these names takes
    precedence.

    Returns:
        `Path` or `None`: The checkpoint; `None` for a new run.

    Raises:
        ValueError: If the checkpoint is incomplete, or `output_dir` has no complete one.
    """
    resume = resume_from_checkpoint
    if isinstance(resume, str) and resume.lower() in _WORDS and not any(_on_writing_ranks(args, Path(resume).is_dir)):
        resume = _WORDS[resume.lower()]
    if resume is None or resume is False:
        return None
    if resume is True or resume == "auto":
        return _last_complete(args, required=resume is True)
    folder = Path(resume)
    reason = next(filter(None, _on_writing_ranks(args, lambda: why_incomplete(folder))), None)
    if reason is not None:
        inside = ", ".join(str(path) for path in list_checkpoints(folder).values())
        raise ValueError(
            f"resume_from_checkpoint='{folder}' is not a complete checkpoint: {reason}. "
            + (f"It contains {inside}: choose one of these, or" if inside else "Choose another one, or")
            + " pass True (--resume) for the last complete one in output_dir."
        )
    return folder


def _last_complete(args: TrainingArguments, required: bool) -> Path | None:
    run_dir = Path(args.output_dir)
    by_node = _on_writing_ranks(
        args, lambda: {step: why_incomplete(path) for step, path in list_checkpoints(run_dir).items()}
    )
    reasons: dict[Path, str] = {}
    for step in sorted({step for node in by_node for step in node}, reverse=True):
        folder = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        reason = next(filter(None, (node.get(step, "it is missing on a node") for node in by_node)), None)
        if reason is None:
            for other, why in reasons.items():
                logger.warning(f"{other} is incomplete ({why}); training resumes from {folder} instead.")
            return folder
        reasons[folder] = reason
    if not required:
        return None
    found = "; ".join(f"{folder}: {why}" for folder, why in reasons.items()) or "there is none"
    raise ValueError(
        f"output_dir='{run_dir}' has no complete checkpoint to resume from ({found}). Pass the path of one, or "
        "start a new run without resume_from_checkpoint (--resume)."
    )


def _on_writing_ranks(args: TrainingArguments, read: Callable[[], Any]) -> list[Any]:
    """Gathers what the ranks that write checkpoints read: one rank, or one per node with `save_on_each_node`."""
    return gather_object([read()] if args.should_save else [])


def check_model(folder: str | Path, model: Any, shapes: dict[str, list[int]] | None = None) -> None:
    """
    Checks that a checkpoint belongs to a model.

    Raises:
        ValueError: If one is an adapter and the other is not, if configuration or weights differ (the message names
            the field and both values), or if the manifest cannot be read.
    """
    folder = Path(folder)
    has_adapter = (folder / "adapter_config.json").is_file()
    if has_adapter != isinstance(model, PeftModel):
        kinds = ("a PEFT adapter", "a full model")
        raise ValueError(
            f"{folder} contains {kinds[not has_adapter]}, but the trainer has {kinds[has_adapter]}. "
            f"{'Pass the `peft_config` that it was trained with' if has_adapter else 'Leave `peft_config` out'}, or "
            "start without resume_from_checkpoint."
        )
    if has_adapter:
        saved = json.loads((folder / "adapter_config.json").read_text())
        _compare(folder, "adapter", saved, model.peft_config[model.active_adapters[0]].to_dict(), _ADAPTER)
    elif (folder / "config.json").is_file():
        _compare(
            folder, "model", json.loads((folder / "config.json").read_text()), model.config.to_dict(), _ARCHITECTURE
        )
    if (folder / MANIFEST).is_file():
        manifest = _read_manifest(folder)
        if manifest is None:
            raise ValueError(f"{folder} is not a complete checkpoint: {MANIFEST} cannot be read. Use another one.")
        saved = manifest["parameters"]
        shapes = trainable_shapes(model) if shapes is None else shapes
        _compare(folder, "model", saved, shapes, sorted(saved.keys() | shapes.keys()))


def launch_of(accelerator: Accelerator) -> dict[str, Any]:
    """
    Returns the properties of a launch that the saved optimizer and schedule depend on.

    Returns:
        `dict[str, Any]`: `backend`, such as `"DeepSpeed ZeRO-2"`, and `processes`, their number.
    """
    state = accelerator.state
    if state.deepspeed_plugin is not None:
        backend = f"DeepSpeed ZeRO-{state.deepspeed_plugin.zero_stage}"
    else:
        backend = "no sharding" if getattr(state, "fsdp_plugin", None) is None else "FSDP"
    return {"backend": backend, "processes": accelerator.num_processes}


def check_same_backend(folder: str | Path, launch: dict[str, Any]) -> None:
    """
    Checks that the optimizer and schedule of a checkpoint can be loaded. DeepSpeed needs the same number of processes;
    FSDP and runs without sharding do not. A checkpoint without a manifest is not checked.

    Raises:
        ValueError: If they cannot be loaded; the message names both launches.
    """
    before = (_read_manifest(Path(folder)) or {}).get("launch", launch)
    keys = ("backend", "processes") if launch["backend"].startswith("DeepSpeed") else ("backend",)
    if any(before[key] != launch[key] for key in keys):
        then, now = (f"{x['backend']} on {x['processes']} processes" for x in (before, launch))
        raise ValueError(
            f"{folder} was saved with {then}, but this run uses {now}, which cannot load its optimizer and schedule. "
            "Launch it as before, or start a new run from its weights."
        )


def checkpoint_bytes(folder: str | Path | None) -> int:
    """
    Returns the size of a checkpoint, from its manifest.

    Returns:
        `int`: Bytes; 0 if unknown.
    """
    manifest = None if folder is None else _read_manifest(Path(folder))
    return sum(manifest["files"].values()) if manifest else 0


def _compare(folder: Path, what: str, saved: dict[str, Any], ours: dict[str, Any], names: Any) -> None:
    for name in names:
        left, right = (
            sorted(x) if isinstance(x, list | set) and name == "target_modules" else x
            for x in (saved.get(name), ours.get(name))
        )
        if left != right:
            raise ValueError(
                f"{folder} was saved from another {what}: {name} was {left} and is now {right}. Resume with that "
                f"{what}, or start without resume_from_checkpoint."
            )


def trainable_shapes(model: torch.nn.Module) -> dict[str, list[int]]:
    """
    Returns the shapes of the trainable parameters.

    Returns:
        `dict[str, list[int]]`: Shape by name; the full shape of a parameter that ZeRO-3 has partitioned.
    """
    parameters = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return {name: list(getattr(p, "ds_shape", p.shape)) for name, p in parameters}
