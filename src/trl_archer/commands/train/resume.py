"""Checks a run before it resumes, and records its settings."""

import json
from pathlib import Path
from typing import Any

from ..._files import whole_file
from ...evaluation.report import installed_versions

RECORD = "run.json"
_LIBRARIES = ("accelerate", "datasets", "deepspeed", "peft", "torch", "transformers", "trl", "trl-archer", "vllm")


def check_new_run(resume: str | None, latest: Path | None) -> None:
    """
    Checks that a new run does not overwrite the checkpoints of an earlier one.

    Raises:
        ValueError: If it would.
    """
    if resume is None and latest is not None:
        raise ValueError(
            f"output_dir='{latest.parent}' already has {latest.name} from an earlier run. Continue it with --resume, "
            "or choose another output_dir."
        )


def check_same_model(checkpoint: Path, model: dict[str, Any]) -> None:
    """
    Checks that a checkpoint belongs to the model of a run, using the files next to it. The trainer compares the shapes
    once the model is loaded.

    Raises:
        ValueError: If it belongs to another one; the message names both.
    """
    adapter = checkpoint / "adapter_config.json"
    if adapter.is_file() != model["use_peft"]:
        kind, flag = ("an adapter", "true") if adapter.is_file() else ("all weights", "false")
        raise ValueError(
            f"The checkpoint '{checkpoint}' has {kind}, but use_peft={model['use_peft']}. Set use_peft: {flag}, or "
            "resume from another checkpoint."
        )
    before = {}
    if adapter.is_file():
        before["model_name_or_path"] = json.loads(adapter.read_text())["base_model_name_or_path"]
    record = checkpoint.parent / RECORD
    if record.is_file():
        try:
            before = json.loads(record.read_text())["model"]
        except ValueError as error:
            raise ValueError(f"{record} cannot be read: {error}. Remove it to resume without this check.") from None
    for key in ("model_name_or_path", "model_revision"):
        if before.get(key) not in (None, model[key]):
            raise ValueError(
                f"The checkpoint '{checkpoint}' belongs to a run with {key}={before[key]!r}, not {model[key]!r}. Use "
                f"that model, or resume from another checkpoint. If both are the same model, write the new "
                f"name into {record}."
            )


def record_run(output_dir: str, **settings: dict[str, Any]) -> None:
    """Writes `run.json` to the folder of a run: all settings, and the versions of the libraries."""
    text = json.dumps({**settings, "versions": installed_versions(_LIBRARIES)}, indent=2, default=str)
    with whole_file(Path(output_dir) / RECORD) as temporary:
        temporary.write_text(text + "\n")
