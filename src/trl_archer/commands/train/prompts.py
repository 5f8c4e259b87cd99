"""Builds prompts from rows: text or messages, a template, and a system message."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import IterableDataset
from jinja2 import Environment, StrictUndefined, Template, TemplateError, Undefined, meta

from .columns import Row, column_names, quoted
from .literals import read_text
from .sources import Data

if TYPE_CHECKING:
    from .arguments import TrainArguments

_MADE = "made prompt"
_ASSISTANT = ("assistant", "gpt", "model", "bot")
_MESSAGES_AS_TEXT = re.compile(r"""\s*\[?\s*\{.*["'](?:role|from)["']\s*:.*[\]}]\s*""", re.DOTALL)


def format_prompts(data: Data, arguments: "TrainArguments", label: str) -> Data:
    """
    Builds the prompts of all rows, as text or as messages with `role` and `content`.

    Messages as text are read. The template fills the last user message of a conversation.

    Raises:
        ValueError: If a prompt is empty, is no text and no list of messages, or ends with an answer, or the template
            does not fit. The message names the row and the fix.
    """
    columns = column_names(data)
    make, names = _prompt_maker(arguments, columns, label)
    used = [name for name in columns if name in names]
    if "prompt" not in columns and arguments.prompt_template is None:
        return data  # reported as a missing column
    if isinstance(data, IterableDataset):
        numbered = data.map(lambda row, index: {"prompt": make(row, index)}, with_indices=True)
        next(iter(numbered), None)
        return numbered
    prompts, unchanged = [], True
    for index, row in enumerate(data.select_columns(used) if used else [{}] * len(data)):
        prompts.append(make(row, index))
        unchanged = unchanged and prompts[-1] is row.get("prompt")
    if unchanged:
        return data
    kinds = {type(prompt) for prompt in prompts}
    if len(kinds) > 1:
        raise ValueError(
            f"Some prompts of {label} are text, and others are messages. Set conversational: true, which makes all of "
            "them messages."
        )
    if "prompt" not in columns:
        return data.add_column("prompt", prompts)
    return data.add_column(_MADE, prompts).remove_columns(["prompt"]).rename_column(_MADE, "prompt")


def check_chat_template(
    data: Data, tokenizer: Callable[[], Any], chat_template_kwargs: Mapping[str, Any], label: str
) -> None:
    """
    Checks that the model's chat template accepts the prompts, if they are messages.

    Raises:
        ValueError: If there is no template, it refuses the first prompt, or it has arguments but is not used.
    """
    first: Row = next(iter(data), {})
    prompt = first.get("prompt")
    if not isinstance(prompt, list):
        if chat_template_kwargs:
            raise ValueError(
                f"chat_template_kwargs={dict(chat_template_kwargs)!r} has no effect, because prompts of {label} are "
                "text. Set conversational: true, which applies the chat template, or remove it."
            )
        return
    if not tokenizer().chat_template:
        raise ValueError(
            f"Prompts of {label} are messages, but the model's tokenizer has no chat template. Use a model with one, "
            "or text prompts: remove conversational and system_prompt, and map prompt to a column of text."
        )
    try:
        tokenizer().apply_chat_template(prompt, add_generation_prompt=True, tokenize=False, **chat_template_kwargs)
    except (TemplateError, TypeError, ValueError) as error:
        raise ValueError(
            f"The model's chat template does not accept the first prompt of {label}: {error}. The prompt has the roles "
            f"{quoted(message['role'] for message in prompt)}. Without system_prompt it has no system message; an "
            "instruction can go into prompt_template."
        ) from None


def _prompt_maker(
    arguments: "TrainArguments", columns: Sequence[str], label: str
) -> tuple[Callable[[Row, int], Any], set[str]]:
    """Returns a function that makes the prompt of a row with a number, and the columns that it uses."""
    template, used = None, {"prompt"}
    if arguments.prompt_template is not None:
        template, used = _template(arguments.prompt_template)
    fills = "prompt" in used and template is not None
    system = [{"role": "system", "content": arguments.system_prompt}] if arguments.system_prompt else []

    def make(row: Row, index: int) -> Any:
        where = f"row {index} of {label}"
        prompt = _read_prompt(row.get("prompt"), where) if "prompt" in used else None
        if template is not None:
            prompt = _render(template, row, prompt if fills else None, where, columns)
        if not prompt or (isinstance(prompt, str) and not prompt.strip()):
            raise ValueError(f"The prompt of {where} is empty: {prompt!r}. Remove such rows from the data.")
        if isinstance(prompt, str) and (system or arguments.conversational):
            prompt = [{"role": "user", "content": prompt}]
        if system and prompt[0]["role"] == "system":
            raise ValueError(f"system_prompt is set, but prompts of {label} begin with a system message. Remove it.")
        return [*system, *prompt] if system else prompt

    return make, used


def _read_prompt(prompt: Any, where: str) -> Any:
    """Returns text, or messages with `role` and `content`."""
    if isinstance(prompt, str):
        if not _MESSAGES_AS_TEXT.fullmatch(prompt):
            return prompt
        try:
            prompt = read_text(prompt)
        except ValueError:
            raise ValueError(
                f"The prompt of {where} looks like messages stored as text, but cannot be read: {prompt!r:.80}. Store "
                "them as JSON, in a JSONL or Parquet file."
            ) from None
    if isinstance(prompt, Mapping) and {"role", "content"} <= prompt.keys():
        prompt = [prompt]
    if not isinstance(prompt, list):
        raise ValueError(
            f"The prompt of {where} is neither text nor a list of messages, but {prompt!r:.80}. Map prompt to the "
            "column that holds it, with dataset_columns. A dot reaches into a column, as in `{prompt: "
            "messages.0.content}`."
        )
    messages = [_read_message(message, where) for message in prompt]
    if messages and messages[-1]["role"] in _ASSISTANT and not _opens_reasoning(messages[-1]["content"]):
        raise ValueError(
            f"The prompt of {where} ends with a message of the assistant, so it contains the answer that the model "
            f"should find: {messages[-1]['content']!r:.80}. Map prompt to the question, as in `dataset_columns: "
            "{prompt: problem}` or `{prompt: messages.0.content}` with `conversational: true`."
        )
    changed = any(new is not old for new, old in zip(messages, prompt, strict=True))
    return messages if changed else prompt


def _read_message(message: Any, where: str) -> Mapping[str, Any]:
    if isinstance(message, Mapping) and {"from", "value"} <= message.keys() and message.get("role") is None:
        raise ValueError(
            f"The prompt of {where} has ShareGPT's messages, with 'from' and 'value'. The trainer needs 'role' and "
            "'content'. Map the question, as in `dataset_columns: {prompt: conversations.0.value}`, and set "
            "`conversational: true`."
        )
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise ValueError(
            f"The prompt of {where} is a list, but not of messages with 'role' and 'content'; it holds "
            f"{message!r:.80}. Map prompt to text or messages, with dataset_columns."
        )
    role, content = message["role"], message["content"]
    parts = content if isinstance(content, Sequence) and not isinstance(content, str) else []
    if parts and all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts):
        return {**message, "content": "".join(part["text"] for part in parts)}
    if not isinstance(role, str) or not (isinstance(content, str) or parts):
        raise ValueError(
            f"The prompt of {where} has a message with role {role!r:.40} and content {content!r:.80}. Both must be "
            "text. Correct the data."
        )
    if isinstance(content, str) and not content.strip():
        raise ValueError(f"The prompt of {where} has an empty message of role {role!r}. Remove such rows or messages.")
    return message


def _opens_reasoning(content: Any) -> bool:
    """Whether a message is the beginning of an answer, up to an open `<think>`, which the model continues."""
    return isinstance(content, str) and content.rfind("<think>") > content.rfind("</think>")


def _template(source: str) -> tuple[Template, set[str]]:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, finalize=_written)
    environment.tests["none"] = lambda value: value is None or isinstance(value, _Empty)
    try:
        return environment.from_string(source), meta.find_undeclared_variables(environment.parse(source))
    except TemplateError as error:
        raise ValueError(f"prompt_template is not a valid Jinja template: {error}.") from None


def _render(template: Template, row: Row, prompt: Any, where: str, columns: Sequence[str]) -> Any:
    """Returns the template's text, in the place of the last user message if the prompt is a conversation."""
    values: dict[str, Any] = {name: _guarded(value, name) for name, value in row.items()}
    position = None
    if isinstance(prompt, list):
        position = next((i for i in reversed(range(len(prompt))) if prompt[i]["role"] == "user"), None)
        if position is None or not isinstance(prompt[position]["content"], str):
            raise ValueError(
                f"prompt_template fills the last message of the user, but the prompt of {where} has no such message of "
                "text. Remove prompt_template, or build the prompt from other columns."
            )
        values["prompt"] = prompt[position]["content"]
    elif isinstance(prompt, str):
        values["prompt"] = prompt
    try:
        text = template.render(values)
    except TemplateError as error:
        raise ValueError(f"prompt_template does not fit {where}: {error}. Columns: {quoted(columns)}.") from None
    if position is None:
        return text
    return [*prompt[:position], {**prompt[position], "content": text}, *prompt[position + 1 :]]


# Values in a template. None of them may get into a prompt as the text that Python shows for it.


class _UnwritableError(TemplateError):
    """Raised when a template would write a value that is not text."""


class _Empty(Undefined):
    """A missing value. It is false, and `default` replaces it, but it cannot be written."""

    def __str__(self) -> str:
        raise _UnwritableError(
            f"{self._undefined_name!r} is empty in this row. Write {{{{ name or '' }}}} if it may be"
        )

    __repr__ = __format__ = __str__  # type: ignore[assignment]


class _Dict(dict):
    path = ""

    def __str__(self) -> str:
        raise _UnwritableError(
            f"{self.path!r} is not text but {'a dictionary' if isinstance(self, dict) else 'a list'}. Write one of "
            "its fields, or `| tojson`"
        )

    def __format__(self, _: str) -> str:
        return str(self)

    __repr__ = __str__


class _List(list):
    path = ""
    __str__ = _Dict.__str__
    __repr__ = _Dict.__str__
    __format__ = _Dict.__format__


def _guarded(value: Any, path: str) -> Any:
    if value is None or value != value:  # NaN is how pandas writes an empty cell
        return _Empty(name=path)
    if isinstance(value, Mapping):
        made: Any = _Dict({key: _guarded(inner, f"{path}.{key}") for key, inner in value.items()})
    elif isinstance(value, list | tuple):
        made = _List(_guarded(inner, f"{path}[{index}]") for index, inner in enumerate(value))
    else:
        return value
    made.path = path
    return made


def _written(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        raise _UnwritableError(f"it writes {value}. Choose the words, as in {{{{ 'yes' if name else 'no' }}}}")
    return value
