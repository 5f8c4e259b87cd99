"""Checkpoints that a killed run resumes from exactly: complete or refused, and of the same model.

Order of writing: a marker, the files of all ranks, the manifest with the size of every file, the state of the Trainer.
A folder counts as complete when the last two are there and every size is as listed.
"""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = get_logger(__name__)

MANIFEST = "manifest.json"
MARKER = "incomplete"
TRAINER_STATE = "trainer_state.json"

# What `--resume_from_checkpoint` may say instead of a path
_WORDS = {"true": True, "latest": True, "false": False}

_WEIGHTS = ("*.safetensors", "pytorch_model*", "adapter_model*", "global_step*")

# What decides the shapes of a model, by name in its configuration
_ARCHITECTURE = (
    *("model_type", "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "num_experts", "tie_word_embeddings"),
)
_ADAPTER = ("peft_type", "r", "target_modules", "modules_to_save")


def why_incomplete(folder: str | Path) -> str | None:
    """
    Says what a checkpoint lacks.

    Args:
        folder (`str` or `Path`): Checkpoint of ours, or of another trainer: without a manifest, its weights have to be
            there and every tensor file has to be readable to its end.

    Returns:
        `str` or `None`: The reason, `None` for a complete one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return "it is not a folder"
    try:
        json.loads((folder / TRAINER_STATE).read_text())
    except FileNotFoundError:
        return f"{TRAINER_STATE}, which is written last, is missing"
    except ValueError:
        return f"{TRAINER_STATE} is cut off"
    if (folder / MANIFEST).is_file():
        return _differs_from_manifest(folder)
    if (folder / MARKER).is_file():
        return "saving stopped before all processes had written their files"
    if not any(found for pattern in _WEIGHTS for found in folder.glob(pattern)):
        return "it holds no weights"
    return next((f"{path.name} is cut off" for path in files_of(folder) if not is_readable(path)), None)


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
    """Sizes of files and shapes of parameters by name, `None` where the manifest does not hold both."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    is_whole = isinstance(manifest, dict) and all(isinstance(manifest.get(x), dict) for x in ("files", "parameters"))
    return manifest if is_whole else None


def is_readable(path: Path) -> bool:
    """
    Whether a tensor file can be read to its end; other files always count as readable.

    Args:
        path (`Path`): File of a checkpoint.

    Returns:
        `bool`: `False` for a file that is cut off.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt"):
                return True
        except SafetensorError:
            return False
    # torch writes zip archives, whose directory stands at the end
    return path.suffix not in (".pt", ".pth", ".bin") or zipfile.is_zipfile(path)


def files_of(folder: Path) -> Iterator[Path]:
    """All files of a checkpoint, those of its subfolders included."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def list_checkpoints(run_dir: Path) -> dict[int, Path]:
    """
    Checkpoints of a run, complete or not.

    Args:
        run_dir (`Path`): Folder of the run.

    Returns:
        `dict[int, Path]`: Folder by step, the latest first.
    """
    found = {path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"): path for path in run_dir.glob("checkpoint-*")}
    return dict(sorted(((int(step), path) for step, path in found.items() if step.isdecimal()), reverse=True))


def find_checkpoint(trainer: Any, resume_from_checkpoint: str | bool | None) -> str | None:
    """
    Settles what to resume from, on all ranks alike.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer about to train.
        resume_from_checkpoint (`str`, `bool` or `None`): A checkpoint, or `True` for the last complete one in
            `output_dir`; later ones that are not complete are passed over with a warning. The words `"true"`,
            `"latest"` and `"false"`, as a command line hands them over, mean the same unless there is such a folder.

    Returns:
        `str` or `None`: Path of the checkpoint, `None` to start afresh.

    Raises:
        ValueError: If the checkpoint is not complete, belongs to another model, was saved by a backend whose state this
            one cannot load, or `output_dir` has no complete one.
    """
    if isinstance(resume_from_checkpoint, str) and resume_from_checkpoint.lower() in _WORDS:
        is_folder = any(_on_writing_ranks(trainer, Path(resume_from_checkpoint).is_dir))
        resume_from_checkpoint = resume_from_checkpoint if is_folder else _WORDS[resume_from_checkpoint.lower()]
    if resume_from_checkpoint is None or resume_from_checkpoint is False:
        return None
    if resume_from_checkpoint is True:
        folder = _last_complete(trainer)
    else:
        folder = Path(resume_from_checkpoint)
        reasons = _on_writing_ranks(trainer, lambda: why_incomplete(folder))
        for reason in filter(None, reasons):
            raise ValueError(
                f"resume_from_checkpoint='{folder}' is not a complete checkpoint: {reason}. For the "
                "last complete one in output_dir, pass resume_from_checkpoint=True, or --resume_from_checkpoint true."
            )
    check_model(folder, trainer.accelerator.unwrap_model(trainer.model), trainer._trainable_shapes)
    check_same_backend(folder, launch_of(trainer))
    return str(folder)


def _last_complete(trainer: Any) -> Path:
    run_dir = Path(trainer.args.output_dir)
    by_node = _on_writing_ranks(
        trainer, lambda: {s: why_incomplete(path) for s, path in list_checkpoints(run_dir).items()}
    )
    steps = sorted({step for node in by_node for step in node}, reverse=True)
    reasons: dict[Path, str] = {}
    for step in steps:
        folder = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{step}"
        reason = next(filter(None, (node.get(step, "a node lacks it") for node in by_node)), None)
        if reason is None:
            for other, why in reasons.items():
                logger.warning(f"{other} is not complete ({why}); training resumes from {folder} instead.")
            return folder
        reasons[folder] = reason
    seen = "; ".join(f"{folder}: {why}" for folder, why in reasons.items()) or "there is none"
    raise ValueError(
        f"resume_from_checkpoint=True: no complete checkpoint in output_dir='{run_dir}' ({seen}). Start without "
        "resume_from_checkpoint, or pass the path of a checkpoint."
    )


def _on_writing_ranks(trainer: Any, read: Callable[[], Any]) -> list[Any]:
    """What each rank sees that writes checkpoints: one, or one per node with `save_on_each_node`."""
    return gather_object([read()] if trainer.args.should_save else [])


def check_model(folder: str | Path, model: Any, shapes: dict[str, list[int]] | None = None) -> None:
    """
    Checks that a checkpoint belongs to a model.

    Args:
        folder (`str` or `Path`): Checkpoint.
        model (`PreTrainedModel` or `PeftModel`): Model about to be trained.
        shapes (`dict[str, list[int]]`, *optional*): Its [`trainable_shapes`], if a wrapper hides them by now.

    Raises:
        ValueError: If one is an adapter and the other is not, or if configuration or weights differ; the message names
            the field and both values. If the checkpoint's manifest cannot be read.
    """
    folder = Path(folder)
    has_adapter = (folder / "adapter_config.json").is_file()
    if has_adapter != isinstance(model, PeftModel):
        kinds = ("a PEFT adapter", "a full model")
        raise ValueError(
            f"{folder} holds {kinds[not has_adapter]}, but the trainer has {kinds[has_adapter]}. "
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


def launch_of(trainer: Any) -> dict[str, Any]:
    """
    What the files of optimizer and schedule depend on.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.

    Returns:
        `dict[str, Any]`: `backend`, such as `"DeepSpeed ZeRO-2"`, and `processes`, how many there are.
    """
    if trainer.is_deepspeed_enabled:
        backend = f"DeepSpeed ZeRO-{trainer.accelerator.state.deepspeed_plugin.zero_stage}"
    else:
        backend = "FSDP" if trainer.is_fsdp_enabled else "no sharding"
    return {"backend": backend, "processes": trainer.accelerator.num_processes}


def check_same_backend(folder: str | Path, launch: dict[str, Any]) -> None:
    """
    Checks that optimizer and schedule of a checkpoint can be loaded. FSDP and runs without sharding can do with another
    number of processes, DeepSpeed cannot.

    Args:
        folder (`str` or `Path`): Checkpoint. One without a manifest is not checked.
        launch (`dict[str, Any]`): [`launch_of`] the run that is to resume.

    Raises:
        ValueError: If they cannot be loaded; the message names both launches.
    """
    before = (_read_manifest(Path(folder)) or {}).get("launch", launch)
    keys = ("backend", "processes") if launch["backend"].startswith("DeepSpeed") else ("backend",)
    if any(before[key] != launch[key] for key in keys):
        then, now = (f"{x['backend']} on {x['processes']} processes" for x in (before, launch))
        raise ValueError(
            f"{folder} was saved with {then}, and this run has {now}: optimizer and learning rate schedule of the one "
            "cannot be loaded by the other. Launch it as before, or start a new run from its weights."
        )


def checkpoint_bytes(folder: str | Path | None) -> int:
    """
    Size of a checkpoint by its manifest.

    Args:
        folder (`str` or `Path`, *optional*): Checkpoint.

    Returns:
        `int`: Bytes, 0 if it is unknown.
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
                f"{folder} is a checkpoint of another {what}: {name} is {left} there and {right} here. Resume with the "
                f"{what} that it was saved from, or start without resume_from_checkpoint."
            )


def trainable_shapes(model: torch.nn.Module) -> dict[str, list[int]]:
    """
    Shapes of what training changes.

    Args:
        model (`nn.Module`): Model before any wrapper, whose names are those of every run.

    Returns:
        `dict[str, list[int]]`: Shape by name, the whole one of a parameter that ZeRO-3 has split.
    """
    parameters = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return {name: list(getattr(p, "ds_shape", p.shape)) for name, p in parameters}
