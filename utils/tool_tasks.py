"""Tasks for an agent with tools: which tools are right, with which arguments, and what the answer must hold.

Three things are judged apart, because they fail apart: the right tool with wrong arguments, a right answer by a wrong
way, a right call whose result was misread.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.agent_setup import Request, ToolCall
from utils.calculator import CalculatorError, evaluate
from utils.errors import InputError
from utils.evaluation import expected_in_answer
from utils.unit_conversion import same_unit

TASKS = Path(__file__).resolve().parent / "data" / "tool_tasks.jsonl"
KINDS = ("single", "two-step", "no-tool", "misleading", "bad-arguments")
NUMBERS_AGREE = 1e-6  # relative


@dataclass(frozen=True)
class Expected:
    """One call. A text argument is compared as its name says: expressions by value, units as units, the rest as text;
    a list holds words that the argument must contain."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """kind: one of KINDS. calls: in order; empty where no tool is right. answers: one of them must be in the answer."""

    id: str
    kind: str
    question: str
    calls: tuple[Expected, ...]
    answers: tuple[str, ...]

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(call.tool for call in self.calls)


@dataclass(frozen=True)
class Scored:
    """A task with what the store says about it."""

    task: Task
    request: Request
    right_tool: bool
    right_arguments: bool
    right_answer: bool


def load_tasks(path: Path | None = None) -> list[Task]:
    """The tasks of a JSONL file; None reads those of the curriculum.

    Raises:
        InputError: the file is missing, empty, or a line is no task.
    """
    path = path or TASKS
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}", "--tasks FILE, JSONL in UTF-8") from error
    tasks = [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not tasks:
        raise InputError(f"{path} holds no tasks", f"one JSON object on each line, as in {TASKS.name}")
    return tasks


def is_right_tool(task: Task, calls: Sequence[ToolCall]) -> bool:
    """Exactly the expected tools, in this order; a call that is repeated because the first one failed counts once."""
    called: list[str] = []
    for index, call in enumerate(calls):
        if index and calls[index - 1].failed and calls[index - 1].name == call.name:
            continue
        called.append(call.name)
    return tuple(called) == task.tools


def are_right_arguments(task: Task, calls: Sequence[ToolCall]) -> bool:
    """Every expected call was made with the expected arguments; false where its tool was not called."""
    return all(
        any(call.name == expected.tool and _fits(expected.arguments, call.arguments) for call in calls)
        for expected in task.calls
    )


def is_right_answer(task: Task, answer: str) -> bool:
    """One of the accepted answers stands in it as whole words."""
    return any(expected_in_answer(answer, accepted) for accepted in task.answers)


def shares(scored: Sequence[Scored]) -> dict[str, float]:
    """right_tool, right_arguments (where the right tool was called; left out where it never was) and right_answer."""
    called = [one.right_arguments for one in scored if one.right_tool and one.task.calls]
    found = {"right_tool": [one.right_tool for one in scored], "right_arguments": called}
    found["right_answer"] = [one.right_answer for one in scored]
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def _fits(expected: dict[str, Any], given: dict[str, Any]) -> bool:
    return all(name in given and _same(name, value, given[name]) for name, value in expected.items())


def _same(name: str, expected: Any, given: Any) -> bool:
    if isinstance(expected, list):
        return all(word.lower() in str(given).lower() for word in expected)
    if isinstance(expected, int | float):
        try:
            return abs(float(given) - expected) <= NUMBERS_AGREE * max(1.0, abs(expected))
        except (TypeError, ValueError):
            return False
    if name == "expression":
        return _value(expected) == _value(str(given))
    if name.endswith("unit"):
        return same_unit(expected, str(given))
    return str(expected).strip().lower() == str(given).strip().lower()


def _value(expression: str) -> str | float:
    """What an expression is compared by: its value, or, where it has none, its text without spaces."""
    try:
        return round(float(evaluate(expression)), 6)
    except CalculatorError:
        return "".join(expression.split()).replace("^", "**")


def _parse(line: str, where: str) -> Task:
    try:
        row = json.loads(line)
        calls = tuple(Expected(str(call["tool"]), dict(call["arguments"])) for call in row["calls"])
        answers = tuple(map(str, row["answer"]))
        task = Task(str(row["id"]), str(row["kind"]), str(row["question"]), calls, answers)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{where} is no task ({type(error).__name__}: {error})",
            "give each line id, kind, question, calls and answer",
        ) from error
    if task.kind not in KINDS or not task.question.strip() or not answers or not all(map(str.strip, answers)):
        raise InputError(
            f"{where}: kind is one of {', '.join(KINDS)}, question and answer are not empty", "see the file"
        )
    return task
