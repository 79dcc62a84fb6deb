"""A chat request as the model reads it: who said what, what it may call, and what shape the answer must
have."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .passages import Passage, split_context
from .tokens import text_of

SMALL, LARGE, EMBEDDING = "mock-small", "mock-large", "mock-embedding"


@dataclass(frozen=True)
class Message:
    """One message; `calls` are the tool calls of an assistant, `call_id` names the call that a tool message
    answers."""

    role: str
    text: str
    calls: tuple[dict[str, Any], ...] = ()
    call_id: str = ""


@dataclass(frozen=True)
class Prompt:
    """The request without its transport.

    `system` joins all system and developer messages, `user` is the last user's text.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = "auto"
    schema: dict[str, Any] | None = None
    json_object: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def large(self) -> bool:
        return self.model == LARGE

    @cached_property
    def system(self) -> str:
        return "\n\n".join(m.text for m in self.messages if m.role in ("system", "developer"))

    @cached_property
    def user(self) -> str:
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    @cached_property
    def turns(self) -> tuple[Message, ...]:
        """What users and assistants said before the last user message."""
        last = max((i for i, m in enumerate(self.messages) if m.role == "user"), default=len(self.messages))
        return tuple(m for m in self.messages[:last] if m.role in ("user", "assistant") and m.text)

    @cached_property
    def after_user(self) -> tuple[Message, ...]:
        """Tool calls and tool results since the last user message."""
        last = max((i for i, m in enumerate(self.messages) if m.role == "user"), default=-1)
        return self.messages[last + 1 :]

    @cached_property
    def _context(self) -> tuple[str, str, tuple[Passage, ...]]:
        system, found_above = split_context(self.system)
        user, found_below = split_context(self.user)
        return system, user, (*found_above, *found_below)

    @property
    def frame(self) -> str:
        """System prompt and last user message without the passages: instructions come from here and nowhere
        else."""
        return f"{self._context[0]}\n{self._context[1]}"

    @property
    def bare_user(self) -> str:
        """The last user message without passages."""
        return self._context[1]

    @property
    def passages(self) -> tuple[Passage, ...]:
        return self._context[2]

    def asking(self, system: str, user: str) -> "Prompt":
        """The same model asked something else, with no tools, schema or history."""
        messages = tuple(Message(role, text) for role, text in (("system", system), ("user", user)) if text)
        return Prompt(self.model, messages)


def read_prompt(request: dict[str, Any]) -> Prompt:
    """Read the body of a chat request.

    Raises:
        ValueError: `messages` is missing, empty or not a list of objects.
    """
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise ValueError("'messages' must be a non-empty list of messages.")
    form = request.get("response_format") or {}
    schema = form.get("json_schema", {}).get("schema") if form.get("type") == "json_schema" else None
    return Prompt(
        model=str(request.get("model") or SMALL),
        messages=tuple(_read_message(message) for message in messages),
        tools=tuple(request.get("tools") or ()),
        tool_choice=request.get("tool_choice") or "auto",
        schema=schema,
        json_object=form.get("type") == "json_object",
    )


def _read_message(message: dict[str, Any]) -> Message:
    role, text = str(message.get("role", "user")), text_of(message.get("content"))
    if role == "user" and text.startswith("Observation:"):  # smolagents sends results of tools as user messages
        role, text = "tool", text.removeprefix("Observation:").strip()
    return Message(
        role=role,
        text=text.removeprefix("New task:\n"),
        calls=tuple(message.get("tool_calls") or ()),
        call_id=str(message.get("tool_call_id") or ""),
    )
