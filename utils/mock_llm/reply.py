"""What the model answers: text or tool calls."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """A call of a tool with its arguments as JSON values."""

    name: str
    arguments: dict[str, Any]

    @property
    def arguments_json(self) -> str:
        return json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True)
class Reply:
    """`finish_reason` is stop, length or tool_calls; `confidence` (0 to 1) becomes the log probability of the
    tokens."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    finish_reason: str = "stop"


def calling(*calls: Call) -> Reply:
    return Reply(calls=calls, finish_reason="tool_calls")
