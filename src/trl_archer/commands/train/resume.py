"""What a run resumes from, and the record by which it is recognised."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from ..._files import whole_file
from ...grpo.checkpoints import list_checkpoints, why_incomplete

RECORD = "run.json"
_LIBRARIES = ("accelerate", "datasets", "deepspeed", "peft", "torch", "transformers", "trl", "trl-archer", "vllm")


def resume_point(resume: str | None, output_dir: str) -> str | bool | None:
    """
    What to resume from, settled before a model is loaded.

    Args:
        resume (`str`, *optional*):
            `"latest"` checkpoint of `output_dir`, `"auto"` for the same if there is one, or a path. `None` starts anew.
        output_dir (`str`):
            Folder of the run.

    Returns:
        `str`, `bool` or `None`: Path of a checkpoint; `True` for the last complete one, which the trainer looks up on
        all ranks; `None` to start anew.

    Raises:
        ValueError: If there is nothing to resume from, or if `None` would write over the checkpoints of an earlier run.
    """
    complete = _complete(Path(output_dir))
    if resume is None:
        if complete:
            raise ValueError(
                f"output_dir={output_dir!r} holds {complete[-1]} of an earlier run. Continue it with --resume, or "
                "choose another output_dir."
            )
        return None
    if resume.lower() in ("latest", "auto", "true"):
        if complete or resume.lower() == "auto":
            return True if complete else None
        raise ValueError(
            f"There is nothing to resume from: output_dir={output_dir!r} holds no complete checkpoint. Check it, name "
            "one with --resume PATH, or start anew without --resume (`--resume auto` does either)."
        )
    reason = why_incomplete(resume)
    if reason is not None:
        inside = _complete(Path(resume))
        hint = f" It holds {', '.join(inside)}: name one of these." if inside else ""
        raise ValueError(f"The checkpoint {resume!r} cannot be resumed from: {reason}.{hint}")
    return resume


def check_same_model(resume: str | bool, output_dir: str, model: dict[str, Any]) -> None:
    """
    Checks that a checkpoint comes from the model about to be trained, by what is written beside it. The trainer
    compares the shapes, once the model is loaded.

    Args:
        resume (`str` or `bool`): What [`resume_point`] returned.
        output_dir (`str`): Folder of the run.
        model (`dict[str, Any]`): Fields of [`~trl.ModelConfig`].

    Raises:
        ValueError: If it comes from another one; the message names both.
    """
    folder = Path(output_dir) / _complete(Path(output_dir))[-1] if resume is True else Path(str(resume))
    adapter = folder / "adapter_config.json"
    if adapter.is_file() != model["use_peft"]:
        kind, flag = ("an adapter", "true") if adapter.is_file() else ("all weights", "false")
        raise ValueError(
            f"The checkpoint '{folder}' holds {kind}, but use_peft={model['use_peft']}. Set use_peft: {flag}, or "
            "resume from another one."
        )
    before = {}
    if adapter.is_file():
        before["model_name_or_path"] = json.loads(adapter.read_text())["base_model_name_or_path"]
    record = folder.parent / RECORD
    if record.is_file():
        try:
            before = json.loads(record.read_text())["model"]
        except ValueError as error:
            raise ValueError(f"{record} cannot be read: {error}. Remove it to resume without this check.") from None
    for key in ("model_name_or_path", "model_revision"):
        if before.get(key) not in (None, model[key]):
            raise ValueError(
                f"The checkpoint '{folder}' comes from a run with {key}={before[key]!r}, not {model[key]!r}. Set it to "
                f"that, or resume from another one. If both are the same model, write the new name into {record}."
            )


def record_run(output_dir: str, **settings: dict[str, Any]) -> None:
    """
    Writes what a run is made of to `run.json` in its folder: all settings, and the versions of the libraries.

    Args:
        output_dir (`str`): Folder of the run.
        **settings (`dict[str, Any]`): Settings, by group.
    """
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    text = json.dumps({**settings, "versions": versions}, indent=2, default=str)
    with whole_file(Path(output_dir) / RECORD) as temporary:
        temporary.write_text(text + "\n")


def _complete(folder: Path) -> list[str]:
    """Names of the complete checkpoints in a folder, in the order of their steps."""
    return [path.name for path in reversed(list_checkpoints(folder).values()) if why_incomplete(path) is None]
