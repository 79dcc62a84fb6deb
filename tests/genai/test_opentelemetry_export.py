"""2.6 on a store of its own: what came by OpenTelemetry is read as if MLflow had written it, and both ends agree."""

import os

import mlflow
import pytest
from mlflow import MlflowClient

from genai.tracing import opentelemetry_export
from genai.tracing.opentelemetry_export import compare, dual_app, dual_export, main, read_back
from utils import curriculum
from utils.errors import CheckFailed
from utils.llm_backends import open_backend
from utils.local_services import in_thread, listen
from utils.progress import Store
from utils.span_tree import roots

QUESTIONS = 3


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-questions", QUESTIONS)


@pytest.fixture
def client(done) -> MlflowClient:
    mlflow.set_tracking_uri(done.uri)
    return MlflowClient()


@pytest.fixture
def traces(client) -> dict[str, list]:
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = mlflow.search_traces(locations=ids, return_type="list")
    return {name: [t for t in found if roots(t)[0].name == name] for name in {roots(t)[0].name for t in found}}


def test_both_programs_left_a_whole_trace_for_each_question(traces):
    assert {name: len(found) for name, found in traces.items()} == {"plain-app": QUESTIONS, "dual-app": QUESTIONS}
    for trace in [*traces["plain-app"], *traces["dual-app"]]:
        assert len(roots(trace)) == 1 and len(trace.data.spans) == 2
        assert trace.info.tags["lesson"] == "2.6"


def test_the_store_proves_the_lesson(client):
    assert Store().is_done(curriculum.lesson("2.6"))


def test_tokens_messages_and_types_survive_the_way_through_opentelemetry(traces):
    def tokens(name):
        return sorted(trace.info.token_usage["total_tokens"] for trace in traces[name])

    assert tokens("plain-app") == tokens("dual-app") and tokens("plain-app")[0] > 0
    for trace in traces["plain-app"]:
        (chat,) = [span for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
        assert "Passage" in str(chat.inputs) and "attributes" in str(chat.outputs) + str(chat.inputs)


def test_the_run_counts_the_spans_at_both_ends(client):
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    spans = 2 * QUESTIONS
    assert run.data.metrics == {"plain_spans": spans, "dual_spans": spans, "collected_spans": spans}


def test_after_the_lesson_nothing_goes_to_a_collector(done):
    assert not {name for name in os.environ if name.startswith("OTEL_")}
    assert "MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT" not in os.environ


def test_the_collector_has_the_spans_of_the_store_by_id(store):
    mlflow.set_experiment("2-tracing")
    collector = opentelemetry_export.Collector()
    with open_backend("mock") as llm, in_thread(collector.app()) as url:
        with dual_export(url):
            trace_ids = dual_app(llm, opentelemetry_export.TEMPLATE, ["What does a span have?"])
        collector.wait_for(2)
    mlflow.openai.autolog(disable=True)
    spans = [span for trace in read_back(trace_ids) for span in trace.data.spans]
    assert collector.spans == {span.span_id: span.name for span in spans}


@pytest.mark.parametrize(
    ("stored", "collected"), [({"1": "a"}, {}), ({}, {"1": "a"}), ({"1": "a"}, {"1": "b"}), ({"1": "a"}, {"2": "a"})]
)
def test_a_span_at_one_end_only_is_noticed(stored, collected):
    with pytest.raises(CheckFailed):
        compare(stored, collected)


def test_a_trace_that_never_arrived_is_noticed(store):
    with pytest.raises(CheckFailed, match="1 of 1"):
        read_back(["tr-" + "0" * 32])


def test_a_taken_port_is_refused(store, refused):
    with listen(0) as taken:
        assert "is taken" in refused(main, "--port", taken.getsockname()[1])


@pytest.mark.parametrize("flags", [("--num-questions", 0), ("--port", -1), ("--llm-type", "openai")])
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
