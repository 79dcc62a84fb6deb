"""What agents' tools stand on: dates, units, a search that never leaves its folder, an index, and sums at the root."""

from datetime import date
from pathlib import Path

import mlflow
import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool

from utils.agent_setup import ROOT_CALLS, ROOT_COST, ROOT_TOKENS, priced_spans, tool_calls
from utils.calculator import calculate
from utils.dates import add_days, days_between
from utils.document_index import open_index
from utils.document_search import DocumentSearch
from utils.errors import InputError
from utils.llm_backends import open_backend
from utils.options import EmbedOptions
from utils.pricing import Usage, cost_usd
from utils.sample_documents import CORPUS
from utils.span_tree import roots
from utils.unit_conversion import convert_units


@pytest.mark.parametrize(
    ("value", "source", "target", "said"),
    [
        (10, "km", "miles", "6.21371 miles"),
        (25, "degrees Celsius", "F", "77 F"),
        (0, "C", "kelvin", "273.15 kelvin"),
        (100, "kmh", "mph", "62.1371 mph"),
        (90, "minutes", "hours", "1.5 hours"),
        (3, "GB", "MB", "3000 MB"),
    ],
)
def test_units(value, source, target, said):
    assert convert_units(value, source, target) == said


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        (1, "kg", "km"),
        (1, "blurbs", "km"),
        (1, "m**9**9**9", "km"),
        (1, "__class__", "m"),
        (1, "", "m"),
        (float("nan"), "km", "m"),
        (float("inf"), "km", "m"),
        (1e308, "km", "mm"),
        (1, "m" * 10_000, "km"),
    ],
)
def test_units_that_do_not_fit_are_an_error_text(value, source, target):
    said = convert_units(value, source, target)
    assert said.startswith("error: ") and len(said) < 200


def test_dates():
    assert days_between("2026-01-01", "2026-03-03") == "61 days"
    assert days_between("2026-03-03", "2026-01-01") == "-61 days"
    assert days_between("today", "today") == "0 days"
    assert add_days("2028-02-28", 1) == "2028-02-29 (Tuesday)"
    assert add_days("today", 0).startswith(date.today().isoformat())
    for said in (add_days("2026-02-30", 1), add_days("2026-01-01", 10**12), days_between("x" * 999, "2026-01-01")):
        assert said.startswith("error: ") and len(said) < 200


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text)
    return folder


def test_the_search_never_leaves_its_folder(tmp_path):
    (tmp_path / "secret.md").write_text("# Secret\n\nThe password is swordfish.")
    inside = write(tmp_path / "inside", soup="# Soup\n\nBoil the onions for ten minutes.")
    (inside / "link.md").symlink_to(tmp_path / "secret.md")
    (inside / "up").symlink_to(tmp_path)
    search = DocumentSearch(inside)
    assert set(search.texts) == {"soup.md"}
    for query in ("swordfish", "../secret.md", "password secret", str(tmp_path / "secret.md"), "link"):
        assert search.search(query) == []
    for name in ("../secret.md", "link.md", "up/secret.md", str(tmp_path / "secret.md"), "", "."):
        assert search.read(name).startswith("error: ")
    assert "onions" in search.read("soup.md")


def test_the_search_gives_titles_and_snippets_best_first(tmp_path):
    long = "Onions. " + "Broth and salt belong to it. " * 40
    folder = write(tmp_path / "docs", a=f"# Soup\n\n{long}", b="# Bread\n\nFlour, water and salt.")
    hits = DocumentSearch(folder).search("onions")
    assert [(hit.document, hit.title) for hit in hits] == [("a.md", "Soup")] and len(hits[0].snippet) < 260
    hits = DocumentSearch(folder).search("salt flour")
    assert [hit.document for hit in hits] == ["b.md", "a.md"] and hits[0].score > hits[1].score
    assert len(DocumentSearch(folder).search("salt", limit=1)) == 1
    for nothing in ("", "the of and", "zebra", "🦓"):
        assert DocumentSearch(folder).search(nothing) == []


def test_a_folder_without_readable_documents(tmp_path):
    write(tmp_path / "docs", a="")
    with pytest.raises(InputError):
        DocumentSearch(tmp_path / "docs")
    with open_backend("mock") as llm, pytest.raises(InputError):
        open_index(tmp_path / "docs", llm, EmbedOptions())


def test_the_index_finds_the_passage():
    with open_backend("mock") as llm:
        index = open_index(CORPUS, llm, EmbedOptions())
    found = index.retrieve("When should a budget alert fire?", top_k=2)
    assert found[0].document == "costs.txt" and "80 percent" in found[0].text and len(found) == 2
    assert found[0].as_page()["metadata"]["doc_uri"] == "costs.txt" and index.documents >= 12


@tool
def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression."""
    return calculate(expression)


def ask(llm, question: str):
    """One request to a small agent; its trace as the store gives it back."""
    agent = create_agent(llm.chat_model(), [calculator])
    agent.invoke({"messages": [{"role": "user", "content": question}]})
    mlflow.flush_trace_async_logging()
    return mlflow.get_trace(mlflow.get_last_active_trace_id())


@pytest.fixture
def autologged(store):
    mlflow.set_experiment("agents")
    mlflow.langchain.autolog()
    yield
    mlflow.langchain.autolog(disable=True)


def test_tokens_and_cost_are_summed_at_the_root(autologged):
    with open_backend("mock", model="mock-large") as llm, priced_spans(llm):
        trace = ask(llm, "What is 6 * 7?")
    calls = [span for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
    usage = [span.get_attribute("mlflow.chat.tokenUsage") for span in calls]
    (root,) = roots(trace)
    assert root.get_attribute(ROOT_CALLS) == len(calls) == 2
    assert (
        root.get_attribute(ROOT_TOKENS)
        == sum(u["total_tokens"] for u in usage)
        == trace.info.token_usage["total_tokens"]
    )
    sent, said = sum(u["input_tokens"] for u in usage), sum(u["output_tokens"] for u in usage)
    assert root.get_attribute(ROOT_COST) == pytest.approx(cost_usd(Usage(sent, said), "mock-large", "mock"))
    assert trace.info.cost["total_cost"] == pytest.approx(root.get_attribute(ROOT_COST))


def test_a_tool_call_is_read_back_with_its_arguments_and_its_failure(autologged):
    with open_backend("mock") as llm:
        (good,) = tool_calls(ask(llm, "What is 6 * 7?"))
        (bad,) = tool_calls(ask(llm, "What is 6 / 0?"))
    assert (good.name, good.arguments, good.result, good.failed) == ("calculator", {"expression": "6 * 7"}, "42", False)
    assert bad.failed and bad.result == "error: division by zero"


def test_an_unknown_price_is_no_cost(autologged, monkeypatch):
    monkeypatch.setattr("utils.agent_setup.cost_usd", lambda *_: None)
    with open_backend("mock") as llm, priced_spans(llm):
        trace = ask(llm, "What is 6 * 7?")
    (root,) = roots(trace)
    assert root.get_attribute(ROOT_TOKENS) > 0 and root.get_attribute(ROOT_COST) is None
