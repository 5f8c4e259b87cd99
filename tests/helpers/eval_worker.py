"""`trl-archer eval` with Inspect's mock model, which knows the answers of "What is N + 1?" half of the time."""

import asyncio
import random
import sys
from typing import Any

from inspect_ai.model import ModelOutput, ModelUsage, get_model

from trl_archer.cli import main
from trl_archer.evaluation import inspect_open


async def reply(messages: list[Any], tools: Any, tool_choice: Any, config: Any) -> ModelOutput:
    """Depends on the prompt and the seed only."""
    await asyncio.sleep(0.02)
    if "broken" in sys.argv:
        raise RuntimeError("The model is broken.")
    number, is_right = int(messages[-1].text.split()[2]), random.Random(config.seed).random() < 0.5
    output = ModelOutput.from_content("mockllm", f"\\boxed{{{number + is_right}}}")
    output.usage = ModelUsage(input_tokens=1, output_tokens=5, total_tokens=6)
    return output


inspect_open.open_model = lambda *_, **__: (get_model("mockllm/model", custom_outputs=reply), "mock")
raise SystemExit(main(sys.argv[1:]))
