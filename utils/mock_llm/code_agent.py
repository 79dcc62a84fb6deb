"""smolagents' CodeAgent: tools are functions, an action is a block of Python, the end is
`final_answer(...)`."""

import re
from collections.abc import Iterator
from typing import Any

from .prompt import Prompt
from .reply import Call
from .small_talk import admit
from .tool_use import make_plan, replay

_TAGS = re.compile(r"opened with '([^']+)', and closed with '([^']+)'")
_DEFINITION = re.compile(r"^\s*def (\w+)\((.*?)\)\s*->[^:\n]*:\s*\n\s*\"\"\"(.*?)\"\"\"", re.M | re.S)
_KINDS = {
    "int": "integer",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "bool": "boolean",
    "boolean": "boolean",
}


def is_code_agent(prompt: Prompt) -> bool:
    """Whether the system prompt is that of an agent that acts by writing code."""
    return "final_answer" in prompt.system and bool(_TAGS.search(prompt.system))


def write_code(prompt: Prompt) -> str:
    """A thought and a block of code: the next call with its result printed, or the final answer."""
    opening, closing = _TAGS.search(prompt.system).groups()  # type: ignore[union-attr]
    functions = [f for f in read_definitions(prompt.system) if f["name"] != "final_answer"]
    step = replay(make_plan(prompt, functions), [_printed(m.text) for m in prompt.after_user if m.role == "tool"])
    if isinstance(step, Call):
        arguments = ", ".join(f"{name}={value!r}" for name, value in step.arguments.items())
        thought, code = f"I will call {step.name}.", f"result = {step.name}({arguments})\nprint(result)"
    else:
        thought, code = "I have what I need.", f"final_answer({(step or admit(prompt.user))!r})"
    return f"Thought: {thought}\n{opening}\n{code}\n{closing}"


def read_definitions(system: str) -> Iterator[dict[str, Any]]:
    """The tools that the system prompt defines as Python functions, in the form of JSON schemas."""
    for name, signature, description in _DEFINITION.findall(system):
        pairs = re.findall(r"(\w+)\s*:\s*([\w\[\], |]+?)(?:\s*=[^,]*)?(?=,\s*\w+\s*:|\Z)", signature)
        properties = {key: {"type": _KINDS.get(kind.strip(), "string")} for key, kind in pairs}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        yield {"name": name, "description": description.strip(), "parameters": parameters}


def _printed(observation: str) -> str:
    """What the code printed, without the frame that smolagents puts around it."""
    text = re.sub(r"^Execution logs:\s*", "", observation.strip())
    return re.split(r"\n?Last output from code snippet:", text)[0].strip()
