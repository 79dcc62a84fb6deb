"""Tasks for several agents, each with the part that every agent has to bring, and scores of an agent over them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from utils.errors import InputError
from utils.evaluation import expected_in_answer, is_declined
from utils.span_tree import duration_ms

if TYPE_CHECKING:
    from mlflow.entities import Trace

TASKS = Path(__file__).resolve().parent / "data" / "multi_agent_tasks.jsonl"


@dataclass(frozen=True)
class Task:
    """parts: agent → what it has to find out; empty where no specialist is needed."""

    id: str
    question: str
    parts: Mapping[str, str]

    def right(self, answer: str) -> bool:
        """The answer holds every part; one that needs nobody only has to be an answer."""
        if not self.parts:
            return bool(answer.strip()) and not is_declined(answer)
        return all(expected_in_answer(answer, part) for part in self.parts.values())


@dataclass(frozen=True)
class Work:
    """One hand-off: who worked, what came of it, and what it took (tokens of its model calls, milliseconds)."""

    agent: str
    answer: str
    tokens: int
    latency_ms: float
    span_id: str


def load_tasks(agents: Sequence[str], path: Path | None = None) -> list[Task]:
    """The tasks written for this project, or a learner's own JSONL file: question, and parts by agent.

    Raises:
        InputError: no such file, no row, or a row that lacks its question or names an agent that there is not.
    """
    path = path or TASKS
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}", "check the path; the file is JSONL in UTF-8") from error
    tasks = [_read_task(line, f"{path}, line {n}", n, agents) for n, line in enumerate(lines, start=1) if line.strip()]
    if not tasks:
        raise InputError(f"{path} holds no tasks", '{"question": "…", "parts": {"calculator": "42"}}')
    return tasks


def _read_task(line: str, where: str, number: int, agents: Sequence[str]) -> Task:
    cure = 'write {"question": "…", "parts": {"calculator": "42"}}, one object a line'
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is no JSON: {error}", cure) from error
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        raise InputError(f"{where} has no text question", cure)
    parts = row.get("parts", {})
    if not isinstance(parts, dict) or not all(isinstance(part, str) and part.strip() for part in parts.values()):
        raise InputError(f"{where}: parts are no texts by agent", cure)
    if unknown := sorted(set(parts) - set(agents)):
        raise InputError(f"{where}: there is no agent {unknown[0]}", f"one of {', '.join(agents)}")
    return Task(str(row.get("id") or f"line {number}"), row["question"], parts)


def score_agent(agent: str, tasks: Sequence[Task], works: Sequence[Sequence[Work]]) -> dict[str, float]:
    """How often an agent was called where it was needed, needed where it was called, and right where it was needed.

    Args:
        works: the hand-offs of each task.

    Returns:
        needed and called (tasks), recall and precision of the hand-offs, right (share of the tasks that need it in
        which one of its answers holds its part), tokens (all its calls), p50_ms. A share of nothing is left out.
    """
    own = [[work for work in each if work.agent == agent] for each in works]
    needed = [agent in task.parts for task in tasks]
    called = [bool(each) for each in own]
    both = sum(n and c for n, c in zip(needed, called, strict=True))
    scores: dict[str, float] = {"needed": sum(needed), "called": sum(called)}
    if any(needed):
        right = [part_right(task, agent, each) for task, each in zip(tasks, own, strict=True) if agent in task.parts]
        scores |= {"recall": both / sum(needed), "right": sum(right) / len(right)}
    if any(called):
        times = [work.latency_ms for each in own for work in each]
        scores |= {"precision": both / sum(called), "p50_ms": median(times)}
    return scores | {"tokens": sum(work.tokens for each in own for work in each)}


def part_right(task: Task, agent: str, works: Sequence[Work]) -> bool:
    """Whether one of these answers of the agent holds the part that the task wants of it."""
    return any(expected_in_answer(work.answer, task.parts[agent]) for work in works)


def score_team(
    agents: Sequence[str], tasks: Sequence[Task], answers: Sequence[str], works: Sequence[Sequence[Work]]
) -> tuple[list[dict[str, object]], dict[str, float]]:
    """score_agent for each agent as rows of a table, and as metrics with the shares of tasks that came out right."""
    columns = ("needed", "called", "recall", "precision", "right", "tokens", "p50_ms")
    scores = {agent: score_agent(agent, tasks, works) for agent in agents}
    table: list[dict[str, object]] = [{"agent": name, **{c: scores[name].get(c) for c in columns}} for name in agents]
    metrics = {f"{name}_{key}": value for name, own in scores.items() for key, value in own.items()}
    right = [task.right(answer) for task, answer in zip(tasks, answers, strict=True)]
    metrics["tasks_right"] = sum(right) / len(tasks)
    several = [each for task, each in zip(tasks, right, strict=True) if len(task.parts) > 1]
    if several:
        metrics["two_specialists_right"] = sum(several) / len(several)
    return table, metrics


def read_hand_offs(trace: "Trace") -> list[Work]:
    """Who worked on a request, in order: its spans with the attribute handoff.to."""
    spans = [span for span in trace.data.spans if span.attributes.get("handoff.to")]
    return [
        Work(
            str(span.attributes["handoff.to"]),
            str((span.outputs or {}).get("answer", "")),
            int(span.attributes.get("handoff.tokens", 0)),
            duration_ms(span),
            span.span_id,
        )
        for span in sorted(spans, key=lambda span: span.start_time_ns)
    ]
