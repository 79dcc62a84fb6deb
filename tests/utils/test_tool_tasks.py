"""How a task is judged: tool, arguments and answer apart; and the tasks themselves."""

import json
from collections import Counter
from typing import Any

import pytest

from utils.agent_setup import Request, ToolCall
from utils.calculator import calculate
from utils.dates import add_days, days_between
from utils.document_search import DocumentSearch
from utils.errors import InputError
from utils.price_server import price_text
from utils.sample_documents import CORPUS
from utils.tool_tables import by_kind, by_tool, failure_rows, score_groups, share, tool_rows
from utils.tool_tasks import (  # fmt: skip
    KINDS,
    Expected,
    Scored,
    Task,
    are_right_arguments,
    is_right_answer,
    is_right_tool,
    load_tasks,
    shares,
)
from utils.unit_conversion import convert_units

TASKS = load_tasks()


def call(tool: str, failed: bool = False, **arguments: object) -> ToolCall:
    return ToolCall(tool, arguments, "error: no" if failed else "1", failed, "")


def task(*calls: Expected, kind: str = "single", answers: tuple[str, ...] = ("1500",)) -> Task:
    return Task("t", kind, "?", calls, answers)


CALCULATE = Expected("calculator", {"expression": "6000 / 4"})
ASK = Expected("ask_documents", {"question": ["truncated"]})


@pytest.mark.parametrize(
    ("expected", "called", "right"),
    [
        ((CALCULATE,), [call("calculator")], True),
        ((CALCULATE,), [], False),
        ((), [], True),
        ((), [call("calculator")], False),
        ((ASK, CALCULATE), [call("ask_documents"), call("calculator")], True),
        ((ASK, CALCULATE), [call("calculator"), call("ask_documents")], False),
        ((ASK, CALCULATE), [call("ask_documents")], False),
        ((CALCULATE,), [call("calculator", failed=True), call("calculator")], True),  # tried again after an error
        ((CALCULATE,), [call("calculator"), call("calculator")], False),
        ((CALCULATE,), [call("ask_documents", failed=True), call("calculator")], False),
    ],
)
def test_the_right_tool(expected, called, right):
    assert is_right_tool(task(*expected), called) == right


@pytest.mark.parametrize(
    ("expected", "given", "right"),
    [
        ({"expression": "6000 / 4"}, {"expression": "(6000)/4.0"}, True),
        ({"expression": "6000 / 4"}, {"expression": "4 / 6000"}, False),
        ({"expression": "5/0"}, {"expression": "5 / 0"}, True),
        ({"expression": "5/0"}, {"expression": "6 / 0"}, False),
        ({"value": 10, "from_unit": "km"}, {"value": "10.0", "from_unit": "kilometres"}, True),
        ({"value": 10, "from_unit": "km"}, {"value": 10, "from_unit": "miles"}, False),
        ({"value": 10}, {"value": "ten"}, False),
        ({"days": -10}, {"days": 10}, False),
        ({"model": "gpt-4o"}, {"model": " GPT-4o"}, True),
        ({"model": "gpt-4o"}, {"model": "gpt-4o-mini"}, False),
        ({"question": ["Port", "agentserver"]}, {"question": "Which port has AgentServer?"}, True),
        ({"question": ["port", "agentserver"]}, {"question": "Which port?"}, False),
        ({"model": "gpt-4o"}, {}, False),
        ({"model": "gpt-4o"}, {"model": "gpt-4o", "currency": "EUR"}, True),
    ],
)
def test_the_right_arguments(expected, given, right):
    assert are_right_arguments(task(Expected("tool", expected)), [call("tool", **given)]) == right
    assert not are_right_arguments(task(Expected("other", expected)), [call("tool", **given)])


def test_the_right_answer_stands_in_it_as_whole_words():
    judged = task(answers=("1500", "1.500"))
    assert is_right_answer(judged, "That makes 1500.") and is_right_answer(judged, "1,500, all in all")
    assert not is_right_answer(judged, "11500") and not is_right_answer(judged, "")


def scored(tools: tuple[str, ...], *, tool: bool, arguments: bool, answer: bool) -> Scored:
    request = Request("tr", False, "", tools, 1, 1, None, 1.0)
    return Scored(task(*(Expected(name, {}) for name in tools)), request, tool, arguments, answer)


def test_arguments_count_only_where_the_right_tool_was_called():
    rows = [
        scored(("a",), tool=True, arguments=True, answer=True),
        scored(("a", "b"), tool=True, arguments=False, answer=False),
        scored(("b",), tool=False, arguments=False, answer=True),
        scored((), tool=True, arguments=True, answer=True),
    ]
    assert shares(rows) == {"right_tool": 0.75, "right_arguments": 0.5, "right_answer": 0.75}
    table = {row["tasks"]: row for row in score_groups(rows, by_tool(rows, ["a", "b", "c"]))}
    assert table["a"]["right arguments"].startswith("0.50") and table["b"]["right tool"].startswith("0.50")
    assert table["c"]["right tool"] == "-" and table["(none)"]["right arguments"] == "-"
    assert table["all"]["right tool"].endswith("n 4") and sum(map(len, by_kind(rows).values())) == 4
    assert [(row["needs"], row["calls"]) for row in tool_rows(rows, ["a", "c"])] == [
        ("a", 2), ("c", 0), ("b", 2), ("(none)", None), ("all", None),
    ]  # fmt: skip
    assert [row["called"] for row in failure_rows(rows)] == ["a, b", "b"]
    assert share([True] * 3 + [False]) == "0.75 (0.30 to 0.95), n 4"


# --- the tasks


def test_there_are_enough_tasks_of_each_kind_and_for_each_tool():
    kinds = Counter(each.kind for each in TASKS)
    assert len(TASKS) >= 40 and set(kinds) == set(KINDS) and min(kinds.values()) >= 5
    assert len({each.question for each in TASKS}) == len({each.id for each in TASKS}) == len(TASKS)
    assert min(Counter(tool for each in TASKS for tool in each.tools).values()) >= 5
    for each in TASKS:
        assert (each.kind == "no-tool") == (not each.calls) and (each.kind == "two-step") == (len(each.calls) == 2)


def run_tool(expected: Expected) -> str | None:
    """What the real tool returns for exact arguments; None where only words of the argument are known."""
    search, given = DocumentSearch(CORPUS), expected.arguments
    if expected.tool == "find_documents":
        return " ".join(hit.document for hit in search.search(" ".join(given["keywords"])))
    if expected.tool == "ask_documents":
        return None
    tools: dict[str, Any] = {"calculator": calculate, "days_between": days_between, "add_days": add_days}
    return {**tools, "convert_units": convert_units, "model_price": price_text}[expected.tool](**given)


@pytest.mark.parametrize("each", [t for t in TASKS if t.kind in ("single", "bad-arguments")], ids=lambda t: t.id)
def test_the_expected_call_gives_the_expected_answer(each):
    """Holds the gold answers against the tools, so that no task expects what no tool can say."""
    result = run_tool(each.calls[0])
    if result is None:
        assert any(each.answers[0].lower() in text.lower() for text in DocumentSearch(CORPUS).texts.values())
    elif each.kind == "bad-arguments":
        assert result.startswith("error: ")
    else:
        assert is_right_answer(each, result), result


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "{}",
        json.dumps({"id": "1", "kind": "odd", "question": "q", "calls": [], "answer": ["a"]}),
        json.dumps({"id": "1", "kind": "single", "question": " ", "calls": [], "answer": ["a"]}),
        json.dumps({"id": "1", "kind": "single", "question": "q", "calls": [{"tool": "x"}], "answer": ["a"]}),
        json.dumps({"id": "1", "kind": "single", "question": "q", "calls": [], "answer": [" "]}),
        json.dumps({"id": "1", "kind": "single", "question": "q", "calls": [], "answer": []}),
        "",
    ],
)
def test_a_file_that_holds_no_tasks(tmp_path, line):
    path = tmp_path / "mine.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError) as raised:
        load_tasks(path)
    assert "mine.jsonl" in raised.value.problem


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes("é".encode("latin-1"))
    for name in ("nowhere.jsonl", "latin.jsonl", "."):
        with pytest.raises(InputError):
            load_tasks(tmp_path / name)
