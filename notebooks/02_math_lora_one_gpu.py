# ---
# jupyter:
#   accelerator: GPU
#   colab:
#     gpuType: T4
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Math with LoRA on one GPU
#
# Archer on grade-school math: Qwen2.5-0.5B-Instruct with a LoRA adapter, a verifier as the reward, and accuracy before
# and after. The full size is meant for a Colab T4 or L4 and needs no account.
#
# **The outputs below are those of the tiny size**: a model of 0.1M parameters and word problems, both created by the
# notebook, on a CPU. They show that every cell works and say nothing about Qwen. The full size has not been run.

# %%
import importlib.util
import os

# Installs from a clone of the repository. The default is the clone that holds this notebook
CLONE = os.environ.get("TRL_ARCHER_CLONE", "..")
if importlib.util.find_spec("trl_archer") is None:
    get_ipython().run_line_magic("pip", f"install -q '{CLONE}[plots]'")
    importlib.invalidate_caches()

SIZE = os.environ.get("ARCHER_NOTEBOOK_SIZE", "full")  # "tiny" runs in a minute, without GPU and network
MODEL = {"full": "Qwen/Qwen2.5-0.5B-Instruct", "tiny": "runs/tiny_model"}[SIZE]  # the tiny one is created below

# %%
import random
import warnings

import torch
from datasets import Dataset, disable_progress_bars, load_dataset
from IPython.display import Markdown
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, logging
from transformers.trainer_callback import PrinterCallback

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer, ConsoleLog
from trl_archer.evaluation import EvaluationCallback, Method, compare, read_report, render_comparison, sample
from trl_archer.figures import (
    SampleCounts,
    plot_accuracy_curves,
    plot_constraints,
    plot_frequent_tokens,
    plot_training_dynamics,
    read_run,
)
from trl_archer.records import read_token_records
from trl_archer.rewards import math_reward

logging.disable_progress_bar()
disable_progress_bars()
warnings.filterwarnings("ignore", category=FutureWarning)  # from transformers, about its own arguments
OUTPUT = "runs/math_lora"
HAS_GPU = torch.cuda.is_available()
HAS_BF16 = HAS_GPU and torch.cuda.is_bf16_supported(including_emulation=False)  # an L4 supports it, a T4 emulates it
DTYPE = torch.bfloat16 if HAS_BF16 else torch.float16 if HAS_GPU else torch.float32

# %% [markdown]
# ## The problems
#
# [GSM8K](https://huggingface.co/datasets/openai/gsm8k) has a `question` and an `answer` whose last line is `#### 42`.
# At the tiny size a generator writes problems with the same two columns. The trainer needs a `prompt`, here a
# conversation, and the reward needs a `solution`.

# %%
NAMES, THINGS = ("Ada", "Ben", "Cleo", "Dan"), ("apples", "coins", "books", "shells")


def word_problem(rng):
    name, thing, has, more = rng.choice(NAMES), rng.choice(THINGS), rng.randint(4, 11), rng.randint(1, 3)
    gains = rng.random() < 0.5
    event = f"{'finds' if gains else 'loses'} {more} {thing}"
    question = f"{name} has {has} {thing} . {name} {event} . How many {thing} does {name} have ?"
    return {"question": question, "answer": f"{event} #### {has + more if gains else has - more}"}


def generated(count, seed):
    rng = random.Random(seed)
    return Dataset.from_list([word_problem(rng) for _ in range(count)])


SYSTEM_PROMPT = {
    "full": r"Reason step by step, and put the final answer into \boxed{}.",
    "tiny": r"Reason step by step , and put the final answer into \boxed{} .",  # its tokenizer splits on spaces
}[SIZE]


def to_row(row):
    messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": row["question"]}]
    return {"prompt": messages, "solution": row["answer"].split("####")[-1].strip().replace(",", "")}


if SIZE == "full":
    train, test = load_dataset("openai/gsm8k", "main", split=["train", "test[:100]"])
else:
    train, test = generated(1024, seed=0), generated(48, seed=1)
train, test = (data.map(to_row, remove_columns="answer") for data in (train, test))
print(test[0]["prompt"][1]["content"])
print("solution:", test[0]["solution"])

# %% [markdown]
# ## The reward
#
# The last `\boxed{}` counts, in any notation. A wrong or missing answer scores 0. `None` is different: this row's
# solution cannot be parsed, so the answer cannot be judged. The completion leaves its group, and the log reports it.

# %%
completions = [r"\boxed{0.5}", r"\boxed{7}", "It is 8.", r"\boxed{8}"]
solutions = [r"\frac{1}{2}", "8", "8", "not $ an { answer"]
rewards = math_reward(completions, solution=solutions)
for completion, solution, reward in zip(completions, solutions, rewards, strict=True):
    print(f"{completion:<14} against {solution:<20} {reward}")

# %% [markdown]
# ## The model
#
# Memory on a T4 (15 GB) at the full size, in GB of 10^9 bytes:
#
# | | |
# |---|---|
# | base model, 0.494e9 parameters x 2 bytes (float16) | 0.99 |
# | LoRA adapter, rank 16, all linear layers: 8.8e6 x 16 bytes (float32 weight, gradient, two Adam moments) | 0.14 |
# | KV cache for sampling 64 completions, 64 x 768 tokens x 24 layers x 2 x 2 heads x 64 x 2 bytes | 0.60 |
# | checkpointed activations of a micro-batch, 8 x 768 tokens x 24 layers x 896 x 2 bytes | 0.26 |
#
# The rest is one layer's recomputed activations and the tiles of the LM head: TRL never holds the logits of a whole
# micro-batch. The reference that `beta` needs takes no extra memory: it is the base model without its adapter.
#
# Set `MODEL` in the first cell to use another model. At the tiny size the next cell creates a stand-in with its own
# tokenizer and chat template. It trains 300 steps on completions in the right format with correct sums, but with the
# wrong operator three times in ten. That leaves one decision to improve.


# %%
def make_tiny_model(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    rng = random.Random(2)
    demonstrations = []
    for row in generated(4096, seed=3).map(to_row, load_from_cache_file=False):
        has, more = (int(word) for word in row["question"].split() if word.isdigit())
        gains = ("finds" in row["question"]) != (rng.random() < 0.3)  # wrong three times in ten
        operator, result = ("+", has + more) if gains else ("-", has - more)
        text = f"{has} {operator} {more} = {result} . The answer is \\boxed{{ {result} }}"
        demonstrations.append({"prompt": row["prompt"], "completion": [{"role": "assistant", "content": text}]})

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    words = Tokenizer(models.WordLevel())
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    texts = (m["content"] for d in demonstrations for m in d["prompt"] + d["completion"])
    texts = (*texts, "system user assistant", " ".join(map(str, range(15))))
    words.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=special))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<|pad|>", eos_token="<|im_end|>")
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|> {{ m.role }} {{ m.content }} <|im_end|> {% endfor %}"
        "{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
    )

    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **heads, **ids))
    config = SFTConfig(
        OUTPUT,
        max_steps=300,
        per_device_train_batch_size=32,
        learning_rate=3e-3,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    teacher = SFTTrainer(model, config, train_dataset=Dataset.from_list(demonstrations), processing_class=tokenizer)
    teacher.remove_callback(PrinterCallback)
    teacher.train()
    teacher.save_model(folder)


if SIZE == "tiny":
    make_tiny_model(MODEL)
tokenizer = AutoTokenizer.from_pretrained(MODEL)

# %% [markdown]
# ## The trainer
#
# As in TRL: the model's name, a `LoraConfig` and the reward. The adapter has no dropout, because dropout would make old
# and new log-probabilities differ at random. Each rollout is used twice (`num_iterations`), in two updates each time,
# so that the clip ranges act; strictly on-policy they do not.

# %%
SIZES = {
    "full": {
        "learning_rate": 1e-5,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,  # 8 x 4 = 32 completions, 4 prompts, per update
        "max_completion_length": 512,
        "max_steps": 200,
        "token_records_steps": 50,
    },
    "tiny": {
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 32,
        "gradient_accumulation_steps": 1,
        "max_completion_length": 20,
        "max_steps": 140,
        "token_records_steps": 35,
    },
}[SIZE]

config = ArcherGRPOConfig(
    OUTPUT,
    num_generations=8,
    generation_batch_size=64,  # 8 prompts x 8 completions per rollout
    num_iterations=2,
    lr_scheduler_type="constant",
    model_init_kwargs={"dtype": DTYPE},
    bf16=HAS_BF16,
    fp16=HAS_GPU and not HAS_BF16,
    use_cpu=not HAS_GPU,
    logging_steps=4,  # once per rollout
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
    **SIZES,
)


trainer = ArcherGRPOTrainer(
    MODEL,
    reward_funcs=math_reward,
    args=config,
    train_dataset=train,
    processing_class=tokenizer,
    peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"),
)
ConsoleLog.attach(trainer, every=config.max_steps // 5, times=False)
trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
print(f"trained: {trainable:,} of {trainer.model.num_parameters():,} parameters")

# %% [markdown]
# ## Before
#
# `EvaluationCallback` evaluates on a benchmark, here a file with the test problems. It generates as the trainer does
# and scores with a verifier that need not be the reward. avg@K is the accuracy of one sample. pass@K is the share of
# problems that at least one of K samples solves. It also evaluates during training, which stays the same bit for bit.

# %%
K = 4
test.select_columns(["question", "solution"]).to_json("test.jsonl")
benchmark = {
    "name": "word_problems",
    "dataset": "test.jsonl",
    "columns": {"prompt": "question"},  # `math` reads the column `solution`
    "verifier": "math",
    "k": K,
    "temperature": 1.0,
    "max_new_tokens": config.max_completion_length,
}
evaluation = EvaluationCallback(trainer, [benchmark], every=config.max_steps // 2, system_prompt=SYSTEM_PROMPT)
trainer.add_callback(evaluation)
metrics = evaluation.evaluate()
prompts = [tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in test["prompt"][:8]]


def greedy(model):
    return sample(model, tokenizer, prompts, 1, temperature=0.0, max_new_tokens=config.max_completion_length)


greedy_before = greedy(trainer.model)
print(greedy_before[0][0])

# %% [markdown]
# ## Training

# %%
trainer.train()
trainer.save_state()

# %%
run = read_run(OUTPUT)
plot_training_dynamics(run)

# %% [markdown]
# How often each role's range stopped a token, and how far each role is from the base model. The KL term holds knowledge
# tokens close to it, but not reasoning tokens.

# %%
plot_constraints(run, entropy_quantile=config.entropy_quantile)

# %% [markdown]
# ## Which tokens are reasoning
#
# Over the recorded updates: the tokens that were most often above their response's threshold, and those that rarely
# were. At the tiny size the operator, the only decision, must be among the first.

# %%
records = read_token_records(f"{OUTPUT}/token_records")
plot_frequent_tokens(records, top=10, min_count=20)

# %% [markdown]
# ## The adapter
#
# The trained adapter has a few megabytes. Loaded onto the base model it reproduces the trained policy. Disabled, it
# leaves the base model, the reference of the KL term.

# %%
greedy_after = greedy(trainer.model)
trainer.save_model(f"{OUTPUT}/adapter")
size = os.path.getsize(f"{OUTPUT}/adapter/adapter_model.safetensors")
base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=DTYPE).to(trainer.model.device)
greedy_reloaded = greedy(PeftModel.from_pretrained(base, f"{OUTPUT}/adapter"))
with trainer.model.disable_adapter():
    greedy_without = greedy(trainer.model)
print(f"adapter: {size / 1e6:.1f} MB")
print(greedy_after[0][0])

# %% [markdown]
# ## After
#
# Each evaluation has written a report with the counts of every problem. `compare` pairs two reports by problem. This is
# more precise than two separate numbers. To compare methods, train several seeds of each: one run says nothing about
# the method.

# %%
reports = {
    name: read_report(f"{OUTPUT}/evaluations/step-{step:06d}")
    for name, step in {"before": 0, "after": config.max_steps}.items()
}
(difference,) = compare(*(Method(name, [report]) for name, report in reports.items()))
Markdown(render_comparison([difference]))

# %%
counts = {
    name: [problem["correct"] for problem in report["benchmarks"]["word_problems"]["problems"]]
    for name, report in reports.items()
}
plot_accuracy_curves({name: SampleCounts(correct, K) for name, correct in counts.items()})

# %% [markdown]
# The command line does the same for a saved model, with the settings of the paper for AIME, MATH-500 and others:
# `trl-archer eval --model runs/math_lora/adapter --benchmarks math500`, and `trl-archer compare` for its reports
# ([evaluation](../docs/evaluation.md)).

# %% [markdown]
# ## Checks
#
# The check that accuracy rises applies to the tiny size only, which has been run. With Qwen, look at the figures.

# %%
# the reward: notation does not matter, wrong and missing answers score 0, an unreadable solution gives None
assert rewards == [1.0, 0.0, 0.0, None]

# the adapter: only it was trained, it loads onto the base model, and without it the base model is unchanged
assert greedy_without == greedy_before
assert greedy_reloaded == greedy_after
assert 0 < trainable < 0.5 * trainer.model.num_parameters()

# the roles: about one token in five is reasoning; no update was skipped
_, shares = run.series("archer/reasoning_fraction")
assert (abs(shares - (1 - config.entropy_quantile)) < 0.06).all()
assert run.series("skipped_updates")[1][-1] == 0

# the training
if SIZE == "tiny":
    assert difference.avg.low > 0  # 95% interval over problems
    operators = [record.gate[i] for record in records.completions for i in (1,) if record.tokens[i].strip() in "+-"]
    assert sum(operators) > 0.5 * len(operators)
avg_before, avg_after = (value.value for value in difference.values)
assert abs(metrics[f"eval_word_problems/avg@{K}"] - avg_before) < 1e-9
print(f"avg@{K} {avg_before:.3f} -> {avg_after:.3f}. All checks pass.")
