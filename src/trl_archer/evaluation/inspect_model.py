"""
A provider for Inspect that samples with transformers: `--model trl_archer/PATH`.

Inspect's own `hf` provider seeds once for all samples, reports neither lengths nor truncation, and writes `user:`
before prompts without a chat template. Here each request has its own random numbers. A sample does not depend on the
batch that it is generated in, so an interrupted evaluation ends with the same samples.
"""

import sys
from dataclasses import dataclass
from typing import Any

import anyio
import torch
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

_GATHER_SECONDS = 0.05  # to wait for more requests of a batch


@modelapi(name="trl_archer")
def trl_archer() -> type[ModelAPI]:
    """The provider, for Inspect's registry."""
    return TransformersAPI


@dataclass(eq=False)
class _Request:
    prompt: str
    config: GenerateConfig
    output: ModelOutput | None = None
    error: Exception | None = None


class TransformersAPI(ModelAPI):
    """
    Samples from a model on disk or on the Hub.

    Args:
        model_name (`str`): Path or name of the model.
        base_url, api_key (`str`, *optional*): Passed by Inspect; not used.
        config (`GenerateConfig`, *optional*): Passed by Inspect.
        adapter (`str`, *optional*): Path of a PEFT adapter.
        revision (`str`, *optional*): Revision on the Hub.
        dtype (`str`, *optional*, defaults to `"auto"`): Type of the weights; `"auto"` is that of the files.
        device (`str`, *optional*): Device; the accelerator if there is one.
        batch_size (`int`, *optional*, defaults to `32`): Completions to generate at a time.
        raw_prompts (`bool`, *optional*, defaults to `False`): Whether to leave out the chat template.
        chat_template_kwargs (`dict`, *optional*): Arguments of the chat template.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code that comes with the model.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        adapter: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        batch_size: int = 32,
        raw_prompts: bool = False,
        chat_template_kwargs: dict[str, Any] | None = None,
        trust_remote_code: bool = False,
    ):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        super().__init__(model_name, config=config)
        options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_name, **options)
        if self.tokenizer.chat_template is None and not raw_prompts:
            raise ValueError(f"{model_name} has no chat template. Pass --raw-prompts to send prompts as plain text.")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(model_name, dtype=dtype, **options)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        accelerator = torch.accelerator.current_accelerator()
        self.model = model.to(device or accelerator or "cpu").eval()
        eos = model.generation_config.eos_token_id or self.tokenizer.eos_token_id
        self.eos = [eos] if isinstance(eos, int) else list(eos or [])
        # `generate` would take unset fields, such as a repetition penalty, from the published configuration
        model.generation_config = GenerationConfig(pad_token_id=self.tokenizer.pad_token_id, eos_token_id=self.eos)
        self.longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
        self.batch_size = batch_size
        self.raw_prompts = raw_prompts
        self.chat_template_kwargs = chat_template_kwargs or {}
        self._waiting: list[_Request] = []
        self._lock = anyio.Lock()

    def max_connections(self) -> int:
        """Requests in flight: one batch being generated, and the next one."""
        return 2 * self.batch_size

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One completion. Requests that wait at the same time share a batch."""
        request = _Request(self._prompt(input), config)
        self._waiting.append(request)
        async with self._lock:
            if request in self._waiting:  # not yet generated with another one
                await anyio.sleep(_GATHER_SECONDS)
                batch, self._waiting = self._waiting[: self.batch_size], self._waiting[self.batch_size :]
                await anyio.to_thread.run_sync(self._generate, batch)
        if request.output is None:
            raise request.error or RuntimeError("The batch of this request was canceled.")
        return request.output

    def _prompt(self, messages: list[ChatMessage]) -> str:
        if self.raw_prompts:
            return "\n\n".join(message.text for message in messages)
        conversation = [{"role": message.role, "content": message.text} for message in messages]
        return self.tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True, **self.chat_template_kwargs
        )

    def _generate(self, batch: list[_Request]) -> None:
        try:
            for request, output in zip(batch, self._sample(batch), strict=True):
                request.output = output
        except Exception as error:
            for request in batch:
                request.error = error

    @torch.inference_mode()
    def _sample(self, batch: list[_Request]) -> list[ModelOutput]:
        config = batch[0].config  # a task has the same settings for all samples, except the seed
        inputs = self.tokenizer(
            [request.prompt for request in batch],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=self.raw_prompts,  # a chat template has its own
        ).to(self.model.device)
        processors = LogitsProcessorList()
        if config.temperature is None or config.temperature > 0:
            processors.append(TemperatureLogitsWarper(float(config.temperature or 1.0)))
            if config.top_p is not None and config.top_p < 1:
                processors.append(TopPLogitsWarper(config.top_p))
            processors.append(_GumbelNoise([request.config.seed or 0 for request in batch], self.model.device))
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        prompts = mask.sum(1).tolist()  # tokens
        rooms = [max(self.longest - tokens, 1) for tokens in prompts]
        options = GenerationConfig(
            do_sample=False,
            max_new_tokens=min(config.max_tokens or 1024, max(rooms)),
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.eos,
        )
        output = self.model.generate(
            input_ids=ids, attention_mask=mask, generation_config=options, logits_processor=processors
        )
        completions = output[:, ids.shape[1] :].tolist()
        return [self._output(prompt, row[:room]) for prompt, room, row in zip(prompts, rooms, completions, strict=True)]

    def _output(self, prompt_tokens: int, ids: list[int]) -> ModelOutput:
        end = next((index for index, token in enumerate(ids) if token in self.eos), None)
        tokens = len(ids) if end is None else end + 1
        text = self.tokenizer.decode(ids[:tokens], skip_special_tokens=True)
        return ModelOutput(
            model=self.model_name,
            choices=[
                ChatCompletionChoice(
                    message=ChatMessageAssistant(content=text, model=self.model_name, source="generate"),
                    stop_reason="max_tokens" if end is None else "stop",
                )
            ],
            usage=ModelUsage(input_tokens=prompt_tokens, output_tokens=tokens, total_tokens=prompt_tokens + tokens),
        )


class _GumbelNoise(LogitsProcessor):
    """
    Turns greedy decoding into sampling: the largest of logits plus Gumbel noise is distributed as their softmax. Each
    row has its own generator.
    """

    def __init__(self, seeds: list[int], device: torch.device):
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float()
        exponential = torch.stack(
            [torch.empty_like(row).exponential_(generator=g) for row, g in zip(scores, self.generators, strict=True)]
        )
        return scores - exponential.log()
