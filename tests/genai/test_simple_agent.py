"""4.1 on a store of its own: a request is a trace with one root, typed steps, sums, session, version and prompt."""

import json

import mlflow
import pytest
from mlflow import MlflowClient

from genai.agents import simple_agent
from genai.agents.simple_agent import GAVE_UP, PROMPT, TWO_STEPS, build_agent, explain, main, make_ask
from utils.document_index import open_index
from utils.llm_backends import open_backend
from utils.options import EmbedOptions
from utils.prompt_utils import get_or_register
from utils.sample_documents import CORPUS
from utils.span_tree import roots


def experiments(client: MlflowClient) -> list[str]:
    return [experiment.experiment_id for experiment in client.search_experiments()]


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-questions", 2, "--model", "mock-large", "--user", "bob", "--session", "monday")


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done.uri)
    return MlflowClient()


@pytest.fixture
def traces(client):
    """Oldest first; the last one is the question that needs two tools."""
    return mlflow.search_traces(locations=experiments(client), order_by=["timestamp_ms ASC"], return_type="list")


def test_each_request_is_one_trace_with_one_agent_at_its_root(traces):
    assert len(traces) == 3
    for trace in traces:
        (root,) = roots(trace)
        assert (root.name, root.span_type, trace.info.state) == ("answer-question", "AGENT", "OK")
        assert {"CHAT_MODEL", "TOOL", "RETRIEVER"} <= {span.span_type for span in trace.data.spans}
        names = {span.span_id: span.name for span in trace.data.spans}
        parents = [names[span.parent_id] for span in trace.data.spans if span.span_type == "RETRIEVER"]
        assert set(parents) == {"search_passages"}


def test_session_user_version_and_prompt_are_on_every_trace(client, traces):
    (model,) = client.search_logged_models(experiment_ids=experiments(client))
    for trace in traces:
        metadata = trace.info.trace_metadata
        assert metadata["mlflow.trace.session"] == "monday" and metadata["mlflow.trace.user"] == "bob"
        assert metadata["mlflow.modelId"] == model.model_id
        assert json.loads(trace.info.tags["mlflow.linkedPrompts"]) == [{"name": PROMPT, "version": "1"}]
    assert model.params["prompt"] == f"prompts:/{PROMPT}/1" and model.tags["lesson"] == "4.1"
    found = mlflow.search_traces(locations=experiments(client), model_id=model.model_id, return_type="list")
    assert len(found) == len(traces)


def test_metrics_are_the_sums_of_the_traces_and_belong_to_the_version(client, traces):
    (run,) = client.search_runs(experiments(client))
    calls = [span for trace in traces for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
    metrics = run.data.metrics
    assert metrics["model_calls"] == len(calls) and metrics["requests"] == 3
    assert metrics["tokens"] == sum(trace.info.token_usage["total_tokens"] for trace in traces) > 0
    assert metrics["cost_usd"] == pytest.approx(sum(trace.info.cost["total_cost"] for trace in traces))
    assert metrics["tool_calls"] == sum(s.span_type == "TOOL" for trace in traces for s in trace.data.spans)
    (model,) = client.search_logged_models(experiment_ids=experiments(client))
    assert {metric.key for metric in model.metrics} == set(metrics)


def test_the_second_tool_uses_what_the_first_found_and_the_steps_say_so(traces):
    said = list(explain(traces[-1]))
    assert [line for line in said if "asks for" in line] == [
        "the model asks for search_passages",
        "the model asks for calculator",
    ]
    assert "1500" in said[-1] and any("6000 / 4" in line for line in said)


def test_the_small_model_stops_after_one_tool(store):
    mlflow.set_experiment("4-agents")
    with open_backend("mock") as llm:
        agent = build_agent(llm, open_index(CORPUS, llm, EmbedOptions()), 3)
        ask = make_ask(agent, get_or_register(PROMPT, simple_agent.SYSTEM).uri, "s", "u")
        answer = ask(TWO_STEPS.question)
    assert "6000" in answer and "1500" not in answer


def test_a_request_that_takes_too_many_steps_ends_and_says_so(store, monkeypatch):
    monkeypatch.setattr(simple_agent, "MAX_STEPS", 2)
    mlflow.set_experiment("4-agents")
    mlflow.langchain.autolog()
    try:
        with open_backend("mock") as llm:
            agent = build_agent(llm, open_index(CORPUS, llm, EmbedOptions()), 3)
            ask = make_ask(agent, get_or_register(PROMPT, simple_agent.SYSTEM).uri, "s", "u")
            assert ask("What is 6 * 7?") == GAVE_UP
    finally:
        mlflow.langchain.autolog(disable=True)
    mlflow.flush_trace_async_logging()
    (root,) = roots(mlflow.get_trace(mlflow.get_last_active_trace_id()))
    assert root.outputs == GAVE_UP


def test_own_documents_and_an_own_question(store, run_command, tmp_path):
    (tmp_path / "soup.md").write_text("# Soup\n\nThe onions are boiled for ten minutes.")
    result = run_command(main, "--docs-path", tmp_path, "--query", "How long are the onions boiled?", "--top-k", 1)
    assert result.exit_code == 0 and "ten minutes" in result.output
    (run,) = MlflowClient().search_runs(experiments(MlflowClient()))
    assert run.data.metrics["requests"] == 1 and "right" not in run.data.metrics


@pytest.mark.parametrize(
    "flags",
    [
        ("--top-k", 0),
        ("--num-questions", 0),
        ("--llm-type", "openai"),
        ("--model", "gpt-4o"),
        ("--docs-path", "nowhere"),
    ],
)
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
    assert MlflowClient().search_runs(experiments(MlflowClient())) == []


def test_documents_without_questions_and_questions_that_are_none(refused, store, tmp_path):
    (tmp_path / "soup.md").write_text("# Soup\n\nBoil the onions.")
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    assert "--query" in refused(main, "--docs-path", tmp_path)
    assert "mine.csv" in refused(main, "--questions", tmp_path / "mine.csv")
