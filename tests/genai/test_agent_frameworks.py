"""8.8 on a store of its own: three frameworks, the same tasks, one root each; and two lines without the extra."""

import importlib.util
import json
import sys

import mlflow
import pytest
from mlflow import MlflowClient

from genai.agents import agent_frameworks
from genai.agents.agent_frameworks import FRAMEWORKS, choose_tasks, main
from utils.errors import InputError
from utils.span_tree import roots

LIMIT = 6
INSTALLED = all(importlib.util.find_spec(name) for name in ("pydantic_ai", "smolagents"))
NEEDS_EXTRA = pytest.mark.skipif(not INSTALLED, reason="needs uv sync --extra frameworks")


@pytest.mark.parametrize("package", ["pydantic_ai", "smolagents"])
def test_without_the_extra_it_says_so_in_two_lines_and_leaves_nothing(store, refused, monkeypatch, package):
    for name in ("pydantic_ai", "smolagents"):
        monkeypatch.setitem(sys.modules, name, None if name == package else mlflow)
    said = refused(main)
    assert f"error: the package {package} is not installed\n" in said and "uv sync --extra frameworks" in said
    client = MlflowClient()
    assert client.search_runs([each.experiment_id for each in client.search_experiments()]) == []


def test_tasks_are_those_that_the_two_tools_can_solve(tmp_path):
    tasks = choose_tasks(None, 100)
    assert len(tasks) >= 10 and {agent for task in tasks for agent in task.parts} == {"calculator", "search"}
    (tmp_path / "own.jsonl").write_text(json.dumps({"question": "q", "parts": {"rag": "x"}}))
    with pytest.raises(InputError, match="holds no task for calculator and search"):
        choose_tasks(tmp_path / "own.jsonl", 5)


@pytest.fixture(scope="module")
def done(run_lesson):
    if not INSTALLED:
        pytest.skip("needs uv sync --extra frameworks")
    return run_lesson(main, "--limit", LIMIT)


@pytest.fixture
def run(done):
    mlflow.set_tracking_uri(done.uri)
    client = MlflowClient()
    (found,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return found


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_task_is_one_trace_with_one_root_its_session_model_prompt_and_typed_spans(run, name):
    found = f"tags.framework = '{name}'"
    traces = mlflow.search_traces(locations=[run.info.experiment_id], filter_string=found, return_type="list")
    assert len(traces) == LIMIT
    for trace in traces:
        (root,) = roots(trace)
        assert root.name == "frameworks-agent" and root.span_type == "AGENT" and trace.info.state == "OK"
        assert trace.info.trace_metadata["mlflow.trace.session"].startswith("frameworks-")
        assert trace.info.trace_metadata["mlflow.trace.user"] and trace.info.trace_metadata["mlflow.modelId"]
        assert "frameworks-agent" in trace.info.tags["mlflow.linkedPrompts"]
        assert root.attributes["agent.cost_usd"] > 0
        assert {span.span_type for span in trace.data.spans} & {"CHAT_MODEL", "LLM"}
    with_tool = [trace for trace in traces if any(span.span_type == "TOOL" for span in trace.data.spans)]
    assert len(with_tool) >= LIMIT - 1, "the mock has no rule for one of the tasks"


def test_the_table_holds_what_the_server_counted(run):
    table = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/frameworks.json"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["framework"] for row in rows] == list(FRAMEWORKS)
    for row in rows:
        assert row["prompt tokens"] + row["reply tokens"] == row["served"] > 0
        assert row["right"] == f"{round(run.data.metrics[row['framework'] + '.right'] * LIMIT)} of {LIMIT}"
        assert run.data.metrics[f"{row['framework']}.right"] >= 0.6 and row["spans"] >= 3 * LIMIT
    tokens = [run.data.metrics[f"{name}.tokens"] for name in FRAMEWORKS]
    assert tokens[2] > 2 * max(tokens[:2]), "smolagents brings a long system prompt of its own"


@NEEDS_EXTRA
def test_without_the_second_autolog_the_calls_of_smolagents_are_missed(store, run_command, monkeypatch):
    build, _ = FRAMEWORKS["smolagents"]
    monkeypatch.setattr(agent_frameworks, "FRAMEWORKS", {"smolagents": (build, (mlflow.smolagents.autolog,))})
    result = run_command(main, "--limit", 1)
    assert result.exit_code == 1 and "smolagents:" in result.stderr and "one autolog" in result.stderr


@NEEDS_EXTRA
def test_a_server_that_fails_on_everything_is_no_result(store, run_command):
    result = run_command(main, "--limit", 1, "--mock-faults", "500:1.0")
    assert result.exit_code == 2 and "failed on all 3 requests" in result.stderr and "0 of 1" in result.stdout


@NEEDS_EXTRA
@pytest.mark.parametrize("flags", [("--limit", 0), ("--llm-type", "openai"), ("--docs-path", "no-such-folder")])
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
