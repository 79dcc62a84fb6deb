"""Tables about scored tasks: by tool, by kind, what went wrong, and what was called."""

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from textwrap import shorten
from typing import Any

from utils.evaluation import wilson_interval
from utils.tool_tasks import KINDS, Scored

NO_TOOL = "(none)"


def share(right: Sequence[bool]) -> str:
    """`0.75 (0.51 to 0.90), n 16`: a share with its 95 % Wilson interval; "-" for no trials."""
    if not right:
        return "-"
    low, high = wilson_interval(sum(right), len(right))
    return f"{sum(right) / len(right):.2f} ({low:.2f} to {high:.2f}), n {len(right)}"


def score_groups(scored: Sequence[Scored], groups: dict[str, Sequence[Scored]]) -> list[dict[str, Any]]:
    """Rows of a table: each group, and all; arguments are judged where the right tool was called."""
    return [
        {
            "tasks": name,
            "right tool": share([one.right_tool for one in group]),
            "right arguments": share([one.right_arguments for one in group if one.right_tool and one.task.calls]),
            "right answer": share([one.right_answer for one in group]),
        }
        for name, group in {**groups, "all": scored}.items()
    ]


def tool_rows(scored: Sequence[Scored], names: Sequence[str]) -> list[dict[str, Any]]:
    """By the tool that a task needs (also one that nobody serves), with its calls, counted in the traces."""
    tools = list(dict.fromkeys([*names, *(tool for one in scored for tool in one.task.tools)]))
    called = Counter(name for one in scored for name in one.request.tools)
    rows = score_groups(scored, by_tool(scored, tools))
    return [
        {"needs": row.pop("tasks"), "calls": called[tool] if tool else None, **row}
        for row, tool in zip_longest(rows, tools)
    ]


def kind_rows(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    return [{"kind": row.pop("tasks"), **row} for row in score_groups(scored, by_kind(scored))]


def failure_rows(scored: Sequence[Scored]) -> list[dict[str, str]]:
    """What a person reads before changing a description: tasks with a wrong tool or a wrong answer."""
    return [
        {
            "task": shorten(one.task.question, 44, placeholder=" …"),
            "should call": ", ".join(one.task.tools) or "none",
            "called": ", ".join(one.request.tools) or "none",
            "answer": shorten(one.request.answer, 24, placeholder=" …"),
        }
        for one in scored
        if not (one.right_tool and one.right_answer)
    ]


def describe_calls(scored: Sequence[Scored], number: int) -> str:
    """`ask_documents 6, find_documents 1`: the tools that were called most."""
    called = Counter(name for one in scored for name in one.request.tools)
    return ", ".join(f"{name} {times}" for name, times in called.most_common(number)) or "none"


def by_tool(scored: Sequence[Scored], tools: Sequence[str]) -> dict[str, Sequence[Scored]]:
    """The tasks that expect a tool; one of two steps counts for both."""
    groups: dict[str, Sequence[Scored]] = {tool: [one for one in scored if tool in one.task.tools] for tool in tools}
    return groups | {NO_TOOL: [one for one in scored if not one.task.tools]}


def by_kind(scored: Sequence[Scored]) -> dict[str, Sequence[Scored]]:
    return {kind: [one for one in scored if one.task.kind == kind] for kind in KINDS}
