"""MLflow's agentic judge: look at the trace with the tools it offers, then judge what was found."""

import json
import re
from collections.abc import Generator
from typing import Any

from .judging import judge
from .materials import plain_text
from .prompt import Prompt
from .reply import Call, Reply, calling
from .tool_use import replay

_LOOKING = ("get_root_span", "list_spans", "get_trace_info")


def judge_trace(prompt: Prompt) -> Reply | None:
    """The next look at the trace, or the verdict; None when the tools are not MLflow's for traces."""
    offered = {tool.get("function", tool)["name"] for tool in prompt.tools}
    wanted = [name for name in _LOOKING if name in offered]
    if not wanted:
        return None
    past = [message.text for message in prompt.after_user if message.role == "tool"]
    step = replay(_look(prompt, wanted if prompt.large else wanted[:1]), past)
    return calling(step) if isinstance(step, Call) else Reply(str(step))


def _look(prompt: Prompt, names: list[str]) -> Generator[Call, str, str]:
    found = {}
    for name in names:
        found[name] = yield Call(name, {})
    return judge(prompt, _texts_of(found))


def _texts_of(found: dict[str, str]) -> dict[str, str]:
    """Inputs and outputs of the root span; errors and called tools among the spans go before the outputs."""
    texts: dict[str, str] = {}
    attributes = _root_attributes(found.get("get_root_span", ""))
    for name, key in (("inputs", "mlflow.spanInputs"), ("outputs", "mlflow.spanOutputs")):
        value = attributes.get(key)
        if value is not None:
            texts[name] = plain_text(value if isinstance(value, str) else json.dumps(value))
    texts["spans"] = found.get("list_spans", "")
    return texts


def _root_attributes(result: str) -> dict[str, Any]:
    """The attributes of the root span; its JSON may itself be a string in the result's `content`."""
    try:
        value: Any = json.loads(result)
        while isinstance(value, dict) and isinstance(value.get("content"), str):
            value = json.loads(value["content"])
    except ValueError:
        shown = re.findall(
            r"(mlflow\.span(?:Inputs|Outputs))[\"']?\s*:\s*(.+?)(?=,\s*[\"']mlflow\.|\}\s*$)", result, re.S
        )
        return dict(shown)
    span = value.get("span", value) if isinstance(value, dict) else {}
    attributes = span.get("attributes", span)
    return attributes if isinstance(attributes, dict) else {}
