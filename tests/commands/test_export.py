"""`trl-archer export` writes a model that plain transformers loads as the trained one, or nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from trl_archer.cli import main
from trl_archer.commands.export import export

from ..helpers.tiny import TOKENIZER, make_trainer, save_model

PROMPT = "3 5 6 8 = 10 >"
ADAPTERS: dict[str, dict[str, Any]] = {
    "all linear": {"target_modules": "all-linear"},
    "own head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "own embeddings": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "tied as one": {
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
}
# Plain transformers in a separate process without PEFT
PLAIN = """
import json, sys
sys.modules["peft"] = None
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (auto.from_pretrained(sys.argv[1]) for auto in (AutoModelForCausalLM, AutoTokenizer))
ids = tokenizer(sys.argv[2], return_tensors="pt")["input_ids"]
with torch.no_grad():
    logits = model(ids).logits
tokens = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
print("RESULT", json.dumps({"logits": logits.tolist(), "tokens": tokens.tolist(), "dtype": str(model.dtype)}))
"""


def train_adapter(base: str, folder: Path, **adapter: Any) -> Path:
    config = LoraConfig(r=4, task_type="CAUSAL_LM", **adapter)
    options = {"learning_rate": 0.05, "num_iterations": 2, "max_steps": 4, "save_steps": 2}
    trainer = make_trainer(base, folder, trainer_kwargs={"peft_config": config}, **options)
    trainer.train()
    trainer.save_model()
    return folder / "out"


def in_plain_transformers(model: Path) -> dict[str, Any]:
    result = subprocess.run([sys.executable, "-c", PLAIN, str(model), PROMPT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.split("RESULT")[1])


@pytest.fixture(scope="module")
def tied_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("tied"), tie_word_embeddings=True)


@pytest.fixture(scope="module")
def run_dir(model_path: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_adapter(model_path, tmp_path_factory.mktemp("run"), **ADAPTERS["all linear"])


@pytest.mark.training
@pytest.mark.parametrize(
    ("kind", "tied"),
    [
        ("tied as one", True),
        pytest.param("all linear", False, marks=pytest.mark.slow),
        pytest.param("all linear", True, marks=pytest.mark.slow),
        *(
            pytest.param(f"own {kind}", tied, marks=pytest.mark.slow)
            for kind in ("head", "embeddings")
            for tied in (False, True)
        ),
    ],
)
def test_exported_model_is_the_trained_one(
    model_path: str, tied_path: str, tmp_path: Path, kind: str, tied: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tied_path if tied else model_path
    run = train_adapter(base, tmp_path, **ADAPTERS[kind])
    assert main(["export", "--run", str(run), "--output", str(tmp_path / "merged")]) == 0
    assert f"{run} merged into {base}, written to {tmp_path / 'merged'} in float32." in capsys.readouterr().out
    plain = in_plain_transformers(tmp_path / "merged")

    trained = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), run)
    ids = TOKENIZER(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = trained(ids).logits
    tokens = trained.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
    assert (torch.tensor(plain["logits"]) - logits).abs().max() <= 1e-5
    assert plain["tokens"] == tokens.tolist()
    with trained.disable_adapter(), torch.no_grad():
        assert (trained(ids).logits - logits).abs().max() > 0.05

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    still_tied = tied and kind in ("all linear", "tied as one")
    assert merged.config.tie_word_embeddings is still_tied
    assert (merged.lm_head.weight is merged.model.embed_tokens.weight) is still_tied
    assert not list((tmp_path / "merged").glob("adapter*"))
    assert not (tmp_path / "merged.partial").exists()


def test_checkpoint_dtype_and_tokenizer(run_dir: Path, model_path: str, tmp_path: Path) -> None:
    done = export(run_dir, tmp_path / "merged", checkpoint=2, dtype="bfloat16")
    assert done["adapter"] == str(run_dir / "checkpoint-2")
    assert 0.0 < done["difference"] <= 1e-4
    assert not done["quantized"]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert {p.dtype for p in merged.parameters()} == {torch.bfloat16}
    adapter = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_path), run_dir / "checkpoint-2")
    exact = adapter.merge_and_unload().state_dict()
    assert all(torch.equal(weight, exact[name].bfloat16()) for name, weight in merged.state_dict().items())
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").get_vocab() == TOKENIZER.get_vocab()
    assert merged.generation_config.eos_token_id == TOKENIZER.eos_token_id


def test_export_uses_the_adapter_trained_further(run_dir: Path, model_path: str, tmp_path: Path) -> None:
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32), run_dir, is_trainable=True
    )
    trainer = make_trainer(model_path, tmp_path, model=model, learning_rate=0.05, save_steps=2, max_steps=2, beta=0.1)
    trainer.train()
    assert (tmp_path / "out" / "checkpoint-2" / "ref").is_dir()
    export(tmp_path / "out", tmp_path / "merged", checkpoint=2)
    ids = TOKENIZER(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        trained = trainer.model(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
        trainer.model.set_adapter("ref")
        start = trainer.model(ids).logits
    assert (merged - trained).abs().max() <= 1e-5
    assert (start - trained).abs().max() > 0.05


def test_adapter_of_quantized_weights_is_merged_into_the_unquantized_base(
    run_dir: Path, model_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(run_dir, tmp_path / "run")
    (run / "run.json").write_text(json.dumps({"model": {"load_in_4bit": True, "model_revision": "main"}}))
    assert main(["export", "--run", str(run), "--output", str(tmp_path / "merged")]) == 0
    assert "trained on quantized weights and is now on the unquantized ones" in capsys.readouterr().out
    assert {p.dtype for p in AutoModelForCausalLM.from_pretrained(tmp_path / "merged").parameters()} == {torch.float32}


def spoil(run: Path, what: str) -> None:
    match what:
        case "cut off":
            weights = run / "checkpoint-4" / "adapter_model.safetensors"
            weights.write_bytes(weights.read_bytes()[:1000])
        case "final cut off":
            weights = run / "adapter_model.safetensors"
            weights.write_bytes(weights.read_bytes()[:1000])
        case "final cut off, as torch writes it":
            torch.save(load_file(run / "adapter_model.safetensors"), run / "adapter_model.bin")
            (run / "adapter_model.safetensors").unlink()
            (run / "adapter_model.bin").write_bytes((run / "adapter_model.bin").read_bytes()[:1000])
        case "final missing":
            (run / "adapter_model.safetensors").unlink()
        case "killed":
            (run / "adapter_config.json").unlink()
        case "moved":
            config = run / "adapter_config.json"
            text = json.loads(config.read_text())
            config.write_text(json.dumps({**text, "base_model_name_or_path": "/nowhere/model"}))


@pytest.mark.parametrize(
    ("what", "flags", "message"),
    [
        ("", "--run nowhere", "There is no folder 'nowhere' (relative to "),
        ("", "--run {run} --checkpoint 3", "has no checkpoint at step 3. It has adapters at steps 2, 4."),
        ("", "--run {model}", "contains a full model, not an adapter. There is nothing to merge"),
        (
            "",
            "--run {empty}",
            "contains no adapter (adapter_config.json is missing). Pass the output_dir of a run with",
        ),
        ("killed", "--run {run}", "It has adapters at steps 2, 4. Choose one with --checkpoint."),
        ("cut off", "--run {run} --checkpoint 4", "not complete: adapter_model.safetensors has 1,000 of "),
        ("cut off", "--run {run}/checkpoint-4", "not complete: adapter_model.safetensors has 1,000 of "),
        ("final cut off", "--run {run}", "not complete: adapter_model.safetensors is truncated."),
        ("final cut off, as torch writes it", "--run {run}", "not complete: adapter_model.bin is truncated."),
        ("final missing", "--run {run}", "not complete: adapter_model.safetensors is missing."),
        ("", "--run {run} --output {empty}", "exists. Choose another folder or remove it."),
        ("moved", "--run {run}", "The base model '/nowhere/model' of "),
        ("", "--run {run} --base {shallower}", "weight is only in the adapter"),
        ("", "--run {run} --base {wider}", "does not fit the base model"),
    ],
)
def test_what_cannot_be_exported(
    run_dir: Path,
    model_path: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    what: str,
    flags: str,
    message: str,
) -> None:
    run = shutil.copytree(run_dir, tmp_path / "run")
    (tmp_path / "empty").mkdir()
    spoil(run, what)
    others = tmp_path_factory.mktemp("others")
    paths = {
        "shallower": save_model(others / "shallower", num_hidden_layers=1) if "shallower" in flags else "",
        "wider": save_model(others / "wider", hidden_size=64) if "wider" in flags else "",
    }
    flags = flags.format(run=run, model=model_path, empty=tmp_path / "empty", **paths)
    output = [] if "--output" in flags else ["--output", str(tmp_path / "merged")]
    assert main(["export", *flags.split(), *output]) == 2
    error = capsys.readouterr().err
    assert "trl-archer export: error: " in error
    assert message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "run"]


def test_quantized_base_is_refused(
    run_dir: Path, model_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(model_path, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    quantized = {**config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (base / "config.json").write_text(json.dumps(quantized))
    assert main(["export", "--run", str(run_dir), "--output", str(tmp_path / "merged"), "--base", str(base)]) == 2
    assert (
        "its weights are quantized, and merging would round the adapter away. Pass a folder" in capsys.readouterr().err
    )
