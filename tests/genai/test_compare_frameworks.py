"""2.4 on a store of its own: one root for each framework, and the tokens that the server counted."""

import importlib.util
import json

import mlflow
import pytest
from mlflow import MlflowClient

from genai.tracing import compare_frameworks
from genai.tracing.compare_frameworks import DEFAULT, FRAMEWORKS, main, measure
from utils.errors import CheckFailed
from utils.llm_backends import open_backend
from utils.prompt_utils import get_or_register
from utils.span_tree import roots

REPEAT = 2


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--repeat", REPEAT)


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done.uri)
    return MlflowClient()


def ids(client: MlflowClient) -> list[str]:
    return [experiment.experiment_id for experiment in client.search_experiments()]


@pytest.fixture
def table(client) -> list[dict]:
    (run,) = client.search_runs(ids(client))
    table = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/frameworks.json"))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


@pytest.mark.parametrize("name", DEFAULT)
def test_each_question_is_one_trace_with_one_root_and_one_model_call(client, name):
    found = f"tags.framework = '{name}'"
    traces = mlflow.search_traces(locations=ids(client), filter_string=found, return_type="list")
    assert len(traces) == REPEAT
    for trace in traces:
        assert len(roots(trace)) == 1
        assert sum(span.span_type == "CHAT_MODEL" for span in trace.data.spans) == 1
        assert trace.info.state == "OK" and "root" in str(roots(trace)[0].outputs)


def test_tokens_are_those_of_the_server_and_the_same_for_all(table):
    assert [row["framework"] for row in table] == list(DEFAULT)
    assert {row["prompt tokens"] + row["reply tokens"] for row in table} == {table[0]["served"]}
    assert table[0]["served"] > 0 and [row["spans"] for row in table] == sorted(row["spans"] for row in table)


def test_every_trace_belongs_to_a_framework(client):
    """The first question of each, which warms up, is not traced."""
    assert len(mlflow.search_traces(locations=ids(client), return_type="list")) == REPEAT * len(DEFAULT)


def test_two_autologs_on_one_call_are_noticed(store, monkeypatch):
    mlflow.set_experiment("2-tracing")
    build, autologs = FRAMEWORKS["llamaindex"]
    monkeypatch.setitem(FRAMEWORKS, "llamaindex", (build, (*autologs, mlflow.openai.autolog)))
    prompt = get_or_register(compare_frameworks.PROMPT, compare_frameworks.TEMPLATE)
    with open_backend("mock") as llm, pytest.raises(CheckFailed, match="model_calls=2"):
        measure(llm, "llamaindex", prompt, 1)


@pytest.mark.parametrize("name", ["dspy", "pydantic-ai", "smolagents"])
def test_a_framework_that_needs_an_extra(store, run_command, refused, name):
    """Runs where the extra is installed, and names it where it is not."""
    if importlib.util.find_spec(name.replace("-", "_")):
        assert run_command(main, "--framework", name, "--repeat", 1).exit_code == 0
    else:
        assert "uv sync --extra" in refused(main, "--framework", name)


def test_a_framework_named_twice_is_asked_once(store, run_command):
    assert run_command(main, "--framework", "openai", "--framework", "openai", "--repeat", 1).exit_code == 0
    (experiment,) = [e for e in MlflowClient().search_experiments() if e.name == "2-tracing"]
    assert len(mlflow.search_traces(locations=[experiment.experiment_id], return_type="list")) == 1


@pytest.mark.parametrize("flags", [("--repeat", 0), ("--framework", "crewai"), ("--llm-type", "openai")])
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
