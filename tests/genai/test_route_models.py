"""8.6 on a store of its own: costs, qualities and thresholds again, from the traces."""

import json

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import SpanType

from genai.optimization.route_models import main, read_confidence
from tests.stub_server import closed_url
from utils.cascade import curve
from utils.mixed_tasks import Task, load_mixed_tasks
from utils.mock_llm import MockServer
from utils.options import InputOptions
from utils.pricing import PRICES
from utils.routing import Requests, Router, cheapest_keeping, route

TASKS = 40


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-tasks", TASKS)


def only_run(client):
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()], "params.keep != ''")
    return run


@pytest.fixture
def run(done):
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("8-advanced")
    return only_run(MlflowClient())


def traces(run, name):
    found = mlflow.search_traces(run_id=run.info.run_id, max_results=500, return_type="list")
    return [trace for trace in found if trace.data.spans[0].name == name]


def paid(trace, model):
    """USD for what this model was asked in the trace, from its own call's tokens."""
    (parent,) = trace.search_spans(name=model)
    (call,) = [span for span in trace.search_spans(span_type=SpanType.CHAT_MODEL) if span.parent_id == parent.span_id]
    usage, price = call.get_attribute("mlflow.chat.tokenUsage"), PRICES[model]
    return (usage["input_tokens"] * price.input_usd + usage["output_tokens"] * price.output_usd) / 1e6


@pytest.fixture
def again(run):
    """Requests and the small model's confidence, in the lesson's order, from the store."""
    tasks, _ = load_mixed_tasks(InputOptions(), TASKS, seed=7)
    found = {}
    for trace in traces(run, "both-models"):
        root = trace.data.spans[0]
        found[root.inputs["text"], root.inputs["question"]] = trace
    assert len(found) == TASKS, "each request once, with one root"
    ordered = [found[task.text, task.question] for task in tasks]
    outputs = [trace.data.spans[0].outputs for trace in ordered]
    sure = [trace.search_spans(name="mock-small")[0].get_attribute("router.sure") for trace in ordered]
    small, large = ([paid(trace, model) for trace in ordered] for model in ("mock-small", "mock-large"))
    right = [[bool(output[name]) for output in outputs] for name in ("small_right", "large_right")]
    return Requests(right[0], right[1], small, large), sure


def test_threshold_from_the_first_half_figures_from_the_second(run, again):
    requests, sure = again
    half = TASKS // 2
    before, after = requests.part(slice(half)), requests.part(slice(half, None))
    wanted = 0.95 * sum(before.large) / half
    threshold = cheapest_keeping(curve(sure[:half], before.small, before.large), wanted).threshold
    assert float(run.data.params["threshold_confidence"]) == threshold
    expected, metrics = route(Router("by confidence", sure[half:], True), after, threshold), run.data.metrics
    assert metrics["confidence_quality"] == pytest.approx(expected.quality)
    assert metrics["confidence_share_to_large"] == pytest.approx(expected.share)
    assert metrics["confidence_cost"] == pytest.approx(expected.cost)
    assert metrics["confidence_saved"] == pytest.approx(expected.saved)
    assert (metrics["confidence_saved_low"], metrics["confidence_saved_high"]) == pytest.approx(expected.saved_interval)
    assert metrics["small_quality"] == sum(after.small) / half and metrics["large_quality"] == sum(after.large) / half


def test_the_table_sets_routers_between_the_models_and_the_picture_is_there(run, done):
    content = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/routes.json"))
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    assert [row["way"] for row in rows] == ["mock-small", "by confidence", "by classifier", "mock-large"]
    assert "routes.png" in {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}
    assert "arXiv 2406.18665" in done.output and "fictional price" in done.output


def test_the_router_by_classifier_is_a_model_with_its_metrics(run):
    (model,) = mlflow.search_logged_models(filter_string="name = 'router'", output_format="list")
    assert model.params["threshold"] == run.data.params["threshold_classifier"]
    metrics = {metric.key: metric.value for metric in model.metrics}
    assert metrics["classifier_quality"] == run.data.metrics["classifier_quality"]
    loaded = mlflow.sklearn.load_model(model.model_uri)
    assert set(loaded.predict(["label a fine thing", "answer what is it"])) <= {0, 1}


def test_a_routed_request_asks_the_large_model_only_below_the_threshold(run):
    found, threshold = traces(run, "routed-request"), float(run.data.params["threshold_confidence"])
    assert len(found) == 5
    for trace in found:
        root = trace.data.spans[0]
        (small,) = trace.search_spans(name="mock-small")
        assert root.get_attribute("router.escalated") == (small.get_attribute("router.sure") < threshold)
        assert bool(trace.search_spans(name="mock-large")) == root.get_attribute("router.escalated")
        assert root.outputs and trace.info.tags["lesson"] == "8.6"


@pytest.mark.parametrize(
    ("kind", "reply", "sure"),
    [
        ("label", "positive, 0.85", 0.85),
        ("label", "positive (confidence: 1)", 1.0),
        ("label", "positive, 0.95.", 0.95),
        ("label", "negative, 1.", 1.0),
        ("label", "version 1.2.3", 0.0),
        ("label", "positive, .5", 0.5),
        ("label", "positive, 85 %", 0.0),
        ("label", "positive", 0.0),
        ("answer", "It is 0.3 metres.", 1.0),
        ("answer", "I do not know.", 0.0),
    ],
)
def test_how_sure_a_reply_is(kind, reply, sure):
    assert read_confidence(Task(kind, "", "", ""), reply) == sure


def test_models_whose_price_nobody_knows_are_compared_by_seconds(store, run_command, tmp_path):
    pd.DataFrame([(f"nice thing {n}", "positive") for n in range(20)]).to_csv(
        tmp_path / "my.csv", index=False, header=["text", "label"]
    )
    with MockServer() as server:
        flags = ("--llm-type", "openai", "--openai-base-url", server.base_url, "--small-model", "mock-small")
        result = run_command(main, *flags, "--large-model", "mock-large", "--input", tmp_path / "my.csv",
                             "--label-column", "label", "--num-tasks", 20)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "seconds stand for it" in result.output and "price of mock-large is unknown" in result.output
    assert only_run(MlflowClient()).data.metrics["large_cost"] > 0


@pytest.mark.parametrize(
    "flags",
    [
        ("--num-tasks", 10),
        ("--model", "mock-large"),
        ("--small-model", "mock-large"),
        ("--large-model", "gpt-4o"),
        ("--keep", 2),
        ("--llm-type", "ollama", "--small-model", "a", "--ollama-url", closed_url()),
        ("--llm-type", "openai", "--openai-base-url", closed_url(), "--small-model", "a", "--large-model", "b"),
    ],
)
def test_wrong_use_is_refused_and_leaves_no_run(store, refused, flags):
    refused(main, *flags)
    client = MlflowClient()
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


def test_a_model_that_never_answers_is_a_failed_job(store, refused):
    assert "all requests to mock-small failed" in refused(main, "--num-tasks", 20, "--mock-faults", "garbage:1")
