"""The playground's word-level tokenizer and its small Llama policy."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from .countdown import MAX_VALUE

POLICY_DIR = Path(__file__).parent / "warm_start_policy"

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
SYMBOLS = ("+", "-", "=", ":", ";", ">")


def build_tokenizer(more_words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """
    Builds a tokenizer with one token per whitespace-separated word.

    Its 109 words are 0..99, the six symbols, pad, eos and unk. It pads on the left. Decoding joins the words with
    single spaces, which restores countdown text exactly. Any other word becomes `<unk>`.

    Args:
        more_words (`Sequence[str]`, *optional*):
            Words to add, for another task.

    Returns:
        [`~transformers.PreTrainedTokenizerFast`]: the tokenizer.
    """
    words = [PAD, EOS, UNK, *SYMBOLS, *map(str, range(MAX_VALUE + 1)), *more_words]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNK))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_model(seed: int) -> PreTrainedModel:
    """
    Builds an untrained policy: Llama, hidden size 128, 3 layers, about 0.67M parameters in float32.

    Args:
        seed (`int`):
            Seed of the initial weights. The global random state does not change.

    Returns:
        [`~transformers.LlamaForCausalLM`]: the model, on the CPU, in training mode.
    """
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).train()


def load_policy() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """
    Loads the shipped warm-start policy from the package, offline.

    TRL loads the reference model from `model.config._name_or_path`, the package directory. Sets torch to one thread,
    see [`use_one_thread`].

    Returns:
        `tuple`: the model (float32, CPU, evaluation mode) and its tokenizer.

    Raises:
        FileNotFoundError: If the installed package lacks the weights.
    """
    if not (POLICY_DIR / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"{POLICY_DIR} has no model.safetensors. Reinstall trl-archer, or in a clone train the policy with "
            f"`python -m benchmarks.warm_start --output {POLICY_DIR}`."
        )
    use_one_thread()
    model = AutoModelForCausalLM.from_pretrained(str(POLICY_DIR), dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(str(POLICY_DIR), local_files_only=True)
    return model, tokenizer


def use_one_thread() -> None:
    """
    Sets torch to one thread, unless the environment sets `OMP_NUM_THREADS`.

    More threads do not speed up a policy this small. On a busy machine, or with a CPU quota, they make it ten times
    slower.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
