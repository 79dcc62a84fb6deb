"""6.5 on a store of its own: candidates on the same tasks, their costs from the price list, and the frontier."""

import json
from itertools import pairwise

import mlflow
import pytest
from mlflow import MlflowClient

from genai.evaluation.compare_backends import main
from tests.spark.fake_ollama import fake_ollama
from tests.stub_server import closed_url
from utils.evaluation_rows import row_key
from utils.mock_llm import MockServer
from utils.pricing import PRICES
from utils.row_scores import read_row_scores

ROWS = 24


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-rows", ROWS, "--ollama-url", closed_url())


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("6-evaluation")
    return MlflowClient()


def runs(client, wanted=""):
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, wanted, order_by=["start_time ASC"])


def candidates(client):
    return {run.data.params["candidate"]: run for run in runs(client, "params.candidate != ''")}


def traces_of(run):
    return mlflow.search_traces(run_id=run.info.run_id, max_results=200, return_type="list")


def test_both_mocks_answered_the_same_tasks_one_after_the_other(client, done):
    found = candidates(client)
    assert list(found) == ["mock:mock-small", "mock:mock-large"]
    asked = []
    for name, run in found.items():
        traces = traces_of(run)
        roots = [trace.search_spans(name="compared-task")[0] for trace in traces]
        asked.append(sorted(str(root.inputs) for root in roots))
        assert len(traces) == ROWS and {root.inputs["task"] for root in roots} == {"label", "answer"}
        times = sorted((root.start_time_ns, root.end_time_ns) for root in roots)
        assert all(end <= start for (_, end), (start, _) in pairwise(times)), "one at a time"
        assert {trace.info.tags["llm_model"] for trace in traces} == {name.split(":")[1]}
        assert run.data.tags["llm_model"] == name.split(":")[1]
    assert asked[0] == asked[1] and "Ollama does not answer" in done.output


def test_quality_cost_and_latency_are_those_of_the_traces(client):
    for name, run in candidates(client).items():
        metrics, price = run.data.metrics, PRICES[name.split(":")[1]]
        traces = traces_of(run)
        keys = [row_key(trace.search_spans(name="compared-task")[0].inputs) for trace in traces]
        right = read_row_scores(run.info.run_id, ["right"], keys).of("right")
        assert metrics["quality"] == pytest.approx(sum(right.values()) / ROWS)
        assert metrics["quality_low"] <= metrics["quality"] <= metrics["quality_high"]
        tokens = [trace.info.token_usage for trace in traces]
        assert metrics["prompt_tokens"] == sum(each["input_tokens"] for each in tokens) > 0
        assert metrics["completion_tokens"] == sum(each["output_tokens"] for each in tokens) > 0
        paid = metrics["prompt_tokens"] * price.input_usd + metrics["completion_tokens"] * price.output_usd
        assert metrics["cost_usd_per_1000"] == pytest.approx(1000 * paid / 1e6 / ROWS)
        assert 0 < metrics["p50_ms"] <= metrics["p95_ms"]
        assert run.data.params["price_source"] == price.source and run.data.params["price_date"] == price.date


def test_the_large_mock_is_better_and_dearer_and_both_are_in_the_picture(client, done):
    found = candidates(client)
    small, large = (found[f"mock:mock-{size}"].data.metrics for size in ("small", "large"))
    assert large["quality"] > small["quality"] and large["cost_usd_per_1000"] > 5 * small["cost_usd_per_1000"]
    (parent,) = runs(client, "metrics.candidates = 2")
    assert parent.data.tags["frontier"] == "mock:mock-small, mock:mock-large"
    assert {"frontier.png", "candidates.json"} <= {item.path for item in client.list_artifacts(parent.info.run_id)}
    table = json.loads(mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/candidates.json"))
    assert len(table["data"]) == 2 and all("fictional price" in str(row) for row in table["data"])
    assert "fictional price" in done.output


def test_an_ollama_that_answers_is_asked_too_and_costs_nothing(store, run_command):
    with fake_ollama() as ollama:
        result = run_command(main, "--num-rows", 4, "--ollama-url", ollama.url)
    assert result.exit_code == 0, result.stderr
    found = candidates(MlflowClient())
    assert list(found) == ["mock:mock-small", "mock:mock-large", "ollama:llama3.2"]
    assert found["ollama:llama3.2"].data.metrics["cost_usd_per_1000"] == 0
    assert "your own hardware; electricity is not counted" in result.output


def test_a_price_that_nobody_knows_is_no_price_of_nothing(store, run_command):
    """A server that speaks OpenAI's API, with a model that stands in no price list."""
    with MockServer() as server:
        named = ("--candidate", "mock:mock-large", "--candidate", "openai:mock-small")
        result = run_command(main, "--num-rows", 4, *named, "--openai-base-url", server.base_url)
    assert result.exit_code == 0, result.stderr
    own = candidates(MlflowClient())["openai:mock-small"]
    assert "price_source" not in own.data.params, "the mock's price is not this server's"
    assert "cost_usd_per_1000" not in own.data.metrics and "the price of mock-small is unknown" in result.output
    (parent,) = runs(MlflowClient(), "metrics.candidates = 2")
    assert parent.data.tags["frontier"] == "mock:mock-large"


def test_a_row_that_failed_is_wrong_and_counted(store, run_command):
    result = run_command(main, "--num-rows", 12, "--candidate", "mock:mock-large", "--mock-faults", "500:0.4")
    assert result.exit_code == 0, result.stderr
    metrics = candidates(MlflowClient())["mock:mock-large"].data.metrics
    assert 0 < metrics["failed"] < 12 and metrics["quality"] <= 1 - metrics["failed"] / 12
    assert "nothing to be compared with" in result.output


def test_a_candidate_that_never_answers_is_a_failed_job(store, run_command):
    result = run_command(main, "--num-rows", 2, "--candidate", "mock:mock-large", "--mock-faults", "500:1")
    assert result.exit_code == 2 and "all requests failed" in result.stderr
    assert {run.info.status for run in runs(MlflowClient()) if "candidate" not in run.data.params} == {"FAILED"}


@pytest.mark.parametrize(
    "flags",
    [
        ("--candidate", "mock"),
        ("--candidate", "mock:gpt-4o"),
        ("--candidate", "nobody:x"),
        ("--candidate", "openai:gpt-4o-mini"),
        ("--candidate", "mock:mock-small", "--candidate", "ollama:llama3.2", "--ollama-url", "http://127.0.0.1:9"),
        ("--num-rows", 1),
        ("--input", "nowhere.csv"),
        ("--llm-type", "openai"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_asked(store, refused, flags):
    refused(main, *flags)
    assert runs(MlflowClient()) == []


def test_rows_without_labels(store, refused, tmp_path):
    (tmp_path / "my.csv").write_text("text\na\nb\n")
    assert "--label-column" in refused(main, "--input", tmp_path / "my.csv")
