"""4.2 on a store of its own: a task is a typed trace with three scores; a tool taken away, and a server down."""

import json

import mlflow
import pytest
from mlflow import MlflowClient

from genai.agents.multi_tool_agent import AGENT_PROMPT, ANSWER_PROMPT, main
from utils.agent_setup import ROOT_CALLS, ROOT_TOKENS, tool_calls
from utils.genai_evaluation import read_rows
from utils.span_tree import roots
from utils.tool_tasks import TASKS, are_right_arguments, is_right_answer, is_right_tool, load_tasks

CHOSEN = (
    "What is 12 * (3",
    "On which port does",
    "What does gpt-4o cost",
    "How many characters may",
    "Hello",
    "What is 5 / 0?",
)
SCORERS = ("right_tool", "right_arguments", "right_answer")


def experiments() -> list[str]:
    return [experiment.experiment_id for experiment in MlflowClient().search_experiments()]


def runs() -> dict:
    return {run.info.run_name: run for run in MlflowClient().search_runs(experiments())}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A few of the tasks: each costs a third of a second."""
    path = tmp_path_factory.mktemp("tasks") / "few.jsonl"
    lines = [line for line in TASKS.read_text().splitlines() if json.loads(line)["question"].startswith(CHOSEN)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def done(run_lesson, chosen):
    return run_lesson(main, "--tasks", chosen, "--model", "mock-large", "--user", "bob")


@pytest.fixture
def rows(done, chosen):
    """By task: its trace and its scores, from the store."""
    mlflow.set_tracking_uri(done.uri)
    tasks = load_tasks(chosen)
    found = read_rows(runs()["all-tools"].info.run_id, SCORERS, len(tasks))
    return [(task, *found[row]) for row, task in enumerate(tasks)]


def test_each_task_is_one_trace_with_one_agent_at_its_root(rows):
    assert len(rows) == len(CHOSEN)
    for task, trace, _ in rows:
        (root,) = roots(trace)
        assert trace.info.tags["lesson"] == "4.2"
        assert (root.name, root.span_type, trace.info.state) == ("answer-task", "AGENT", "OK")
        calls = [span for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
        assert root.get_attribute(ROOT_CALLS) == len(calls), "a second autolog would write each call twice"
        assert root.get_attribute(ROOT_TOKENS) == trace.info.token_usage["total_tokens"] > 0
        assert trace.info.cost["total_cost"] > 0
        metadata = trace.info.trace_metadata
        assert metadata["mlflow.trace.user"] == "bob" and metadata["mlflow.trace.session"].startswith(
            "multi-tool-agent"
        )
        linked = {prompt["name"] for prompt in json.loads(trace.info.tags["mlflow.linkedPrompts"])}
        assert linked == {AGENT_PROMPT} | ({ANSWER_PROMPT} if "ask_documents" in task.tools else set())


def test_the_rag_tool_has_its_retriever_and_its_model_call_below_it(rows):
    (trace,) = [trace for task, trace, _ in rows if task.tools == ("ask_documents",)]
    names = {span.span_id: span.name for span in trace.data.spans}
    below = {span.span_type for span in trace.data.spans if names.get(span.parent_id) == "ask_documents"}
    assert below == {"RETRIEVER", "CHAT_MODEL"}
    (call,) = tool_calls(trace)
    assert "serving.md" in json.loads(call.result)["sources"] and "8000" in json.loads(call.result)["answer"]


def test_the_scores_are_what_the_traces_say(rows):
    for task, trace, scores in rows:
        calls = tool_calls(trace)
        assert scores["right_tool"] == is_right_tool(task, calls)
        assert scores["right_arguments"] == are_right_arguments(task, calls)
        assert scores["right_answer"] == is_right_answer(task, str(roots(trace)[0].outputs))


def test_the_large_model_chains_two_tools_and_reads_an_error(rows):
    answers = {task.kind: (tool_calls(trace), str(roots(trace)[0].outputs)) for task, trace, _ in rows}
    calls, answer = answers["two-step"]
    assert [call.name for call in calls] == ["ask_documents", "calculator"] and "1500" in answer
    (failed,), answer = answers["bad-arguments"]
    assert failed.failed and failed.result == "error: division by zero" and "division by zero" in answer
    assert answers["no-tool"][0] == []


def test_calls_are_counted_and_the_versions_are_linked(rows):
    (lesson,) = [run for name, run in runs().items() if name == "multi-tool-agent"]
    for name in ("calculator", "ask_documents", "model_price", "convert_units"):
        counted = sum(call.name == name for _, trace, _ in rows for call in tool_calls(trace))
        assert lesson.data.metrics[f"calls/{name}"] == counted
    models = MlflowClient().search_logged_models(experiment_ids=experiments())
    by_tools = {model.params["tools"]: model for model in models}
    whole = max(by_tools, key=len)
    assert {trace.info.trace_metadata["mlflow.modelId"] for _, trace, _ in rows} == {by_tools[whole].model_id}
    assert whole.split()[-1] == "model_price" and len(models) == 1 + sum(name.startswith("without-") for name in runs())


def test_without_a_tool_its_tasks_are_asked_again_and_it_is_never_called(rows):
    found = {name.removeprefix("without-"): run for name, run in runs().items() if name.startswith("without-")}
    assert set(found) == {"calculator", "ask_documents", "model_price"}
    for gone, run in found.items():
        traces = mlflow.search_traces(run_id=run.info.run_id, return_type="list")
        needed = [task for task, trace, _ in rows if gone in (*task.tools, *(c.name for c in tool_calls(trace)))]
        assert len(traces) == len(needed)
        assert gone not in {call.name for trace in traces for call in tool_calls(trace)}
    assert runs()["multi-tool-agent"].data.metrics["lost/model_price"] == 1


def test_the_server_is_down_and_the_rest_works(store, run_command, chosen):
    result = run_command(main, "--tasks", chosen, "--mcp-down", "--no-ablation", "--model", "mock-large")
    assert result.exit_code == 0 and "The price server is down" in result.stderr
    found = read_rows(runs()["all-tools"].info.run_id, SCORERS, len(CHOSEN))
    wrong = [task for row, task in enumerate(load_tasks(chosen)) if not found[row][1]["right_tool"]]
    assert [task.tools for task in wrong] == [("model_price",)]
    assert "model_price" not in runs()["all-tools"].data.params["tools"]


def test_the_small_model_gets_no_two_step_task_right(store, run_command, tmp_path):
    lines = [line for line in TASKS.read_text().splitlines() if json.loads(line)["kind"] == "two-step"]
    (tmp_path / "two.jsonl").write_text("\n".join(lines[2:4]))
    right = {}
    for model in ("mock-small", "mock-large"):
        flags = ("--tasks", tmp_path / "two.jsonl", "--no-ablation", "--mcp-down", "--model", model)
        assert run_command(main, *flags).exit_code == 0
        right[model] = runs()["multi-tool-agent"].data.metrics["right_answer"]
        for run in runs().values():
            MlflowClient().delete_run(run.info.run_id)
    assert right["mock-small"] == 0 < right["mock-large"]


def test_requests_on_which_the_server_fails_are_counted(store, run_command, chosen):
    flags = ("--tasks", chosen, "--no-ablation", "--mcp-down", "--mock-faults", "500:0.6")
    result = run_command(main, *flags)
    failed = runs()["multi-tool-agent"].data.metrics["failed_requests"] if result.exit_code == 0 else len(CHOSEN)
    assert 0 < failed <= len(CHOSEN)
    traces = mlflow.search_traces(run_id=runs()["all-tools"].info.run_id, return_type="list")
    assert sum(trace.info.state == "ERROR" for trace in traces) == failed and len(traces) == len(CHOSEN)


@pytest.mark.parametrize(
    "flags",
    [
        ("--num-tasks", 0),
        ("--tasks", "nowhere.jsonl"),
        ("--docs-path", "nowhere"),
        ("--llm-type", "openai"),
        ("--model", "x"),
    ],
)
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
    assert runs() == {}
