"""7.4 on a store of its own: what killed processes lose, what is sampled, masked in every column, and deleted."""

import re
import shutil

import mlflow
import pytest
from mlflow import MlflowClient

from genai.deployment import production_tracing
from genai.deployment.production_tracing import ALWAYS, ENDINGS, LIVES, MESSAGES, OLD_TRACES, main, redact
from utils.evaluation import wilson_interval
from utils.lite_install import Installed
from utils.mlflow_server import mlflow_server
from utils.mlflow_setup import use_store
from utils.practice_store import write_old_traces
from utils.redaction import FAILED, secrets_of

REQUESTS, RATIO = 100, 0.3
SECRETS = list(secrets_of(MESSAGES.values()))


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-requests", REQUESTS, "--sampling-ratio", RATIO)


@pytest.fixture
def opened(done) -> str:
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("7-production")
    return done.output


def named(name: str, further: str = "trace.status != 'IN_PROGRESS'"):
    wanted = f"trace.name = '{name}' AND {further}"
    return mlflow.search_traces(filter_string=wanted, max_results=1000, return_type="list")


def the_run():
    (found,) = mlflow.search_runs(filter_string="attributes.run_name = 'production-tracing'", output_format="list")
    return found


def test_a_killed_process_loses_its_traces_unless_it_flushed(opened):
    kept = {ending: len(named("request", f"tags.ending = '{ending}'")) for ending in ENDINGS}
    assert kept["kill -9"] < LIVES and kept["SIGTERM"] < LIVES
    assert kept["kill -9 after a flush"] == kept["SIGTERM, heard"] == LIVES
    metrics = the_run().data.metrics
    assert metrics["lost_kill_9"] == LIVES - kept["kill -9"] and metrics["lost_kill_9_after_a_flush"] == 0
    for trace in named("request", "tags.ending = 'SIGTERM, heard'"):
        assert trace.info.tags["lesson"] == "7.4"


def test_the_sampled_share_lies_where_chance_puts_it(opened):
    from scipy.stats import binom

    kept = len(named("request", f"tags.sampled_in = '{the_run().info.run_id}'"))
    metrics = the_run().data.metrics
    assert binom.ppf(1e-6, REQUESTS, RATIO) <= kept <= binom.ppf(1 - 1e-6, REQUESTS, RATIO)
    assert metrics["sampled_share"] == kept / REQUESTS
    assert (metrics["sampled_low"], metrics["sampled_high"]) == pytest.approx(wilson_interval(kept, REQUESTS, 0.99))


def test_a_function_with_a_ratio_of_its_own_is_traced_always_or_never(opened):
    assert len(named("refund")) == ALWAYS and named("health") == []


def test_no_secret_is_in_any_column_of_the_store(done, opened):
    assert set(secrets_of(MESSAGES.values()).values()) == {"email", "phone", "card", "key"}
    content = b"".join(file.read_bytes() for file in done.path.parent.glob("mlflow.db*"))
    assert b"customer-1" in content, "what is not masked is found"
    for secret in SECRETS:
        assert secret.encode() not in content
        assert re.sub(r"\W", "", secret).encode() not in content
    assert not any(secret in opened for secret in SECRETS), "nor is it printed"


def test_inputs_previews_and_the_error_of_a_tool_are_masked(opened):
    traces = {trace.info.tags["topic"]: trace for trace in named("support")}
    assert set(traces) == set(MESSAGES)
    delivery = traces["delivery"]
    assert "write to [email] or call [phone]." in delivery.info.request_preview.lower()
    assert [span.span_type for span in delivery.data.spans] == ["AGENT", "CHAT_MODEL"]
    assert all("[email]" in str(span.inputs) for span in delivery.data.spans)
    (tool,) = [span for span in traces["payment"].data.spans if span.name == "look_up_card"]
    (event,) = [event for event in tool.events if event.name == "exception"]
    assert "[card]" in event.attributes["exception.message"] and "[card]" in event.attributes["exception.stacktrace"]
    assert "[card]" in tool.status.description


def test_the_model_sees_what_the_store_does_not(store, run_command, monkeypatch):
    """Without the processor the same messages are in the store, and the lesson says so."""
    monkeypatch.setattr(production_tracing, "end_processes", lambda *_: dict.fromkeys(ENDINGS, LIVES))
    monkeypatch.setattr(production_tracing, "redact", lambda span: None)
    result = run_command(main, "--num-requests", 1)
    assert result.exit_code == 1 and "the store holds what should be masked: card, email, key, phone" in result.stderr
    assert not any(secret in result.output for secret in SECRETS)


def test_a_span_that_cannot_be_masked_is_emptied(store, monkeypatch):
    use_store(store, "7-production")
    monkeypatch.setattr(production_tracing, "mask", lambda _: 1 / 0)
    mlflow.tracing.configure(span_processors=[redact])
    try:
        with pytest.raises(LookupError), mlflow.start_span("odd") as span:
            span.set_inputs({"message": SECRETS[0]})
            raise LookupError(SECRETS[0])
    finally:
        mlflow.tracing.configure(span_processors=[])
    mlflow.flush_trace_async_logging()
    (odd,) = mlflow.get_trace(span.trace_id).data.spans
    assert odd.inputs == FAILED and odd.events == []
    assert odd.status.status_code == "ERROR" and odd.status.description == FAILED
    assert SECRETS[0] not in mlflow.get_trace(span.trace_id).to_json()


def test_found_by_tag_and_by_user(opened):
    assert (
        len(named("support", "tags.topic = 'payment'")) == len(named("support", "tags.fallback LIKE 'no order%'")) == 1
    )
    (trace,) = named("support", "metadata.`mlflow.trace.user` = 'customer-2'")
    assert trace.info.tags["release"] == "1.4"


def test_old_traces_go_from_the_copy_only_and_ratings_of_the_others_stay(opened):
    metrics = the_run().data.metrics
    assert metrics["old_traces_left"] == metrics["old_traces_to_keep"] == OLD_TRACES - metrics["deleted"] > 0
    assert metrics["ratings_left"] == metrics["ratings_to_keep"] > 0
    assert metrics["mb_vacuumed"] < metrics["mb_deleted"] and metrics["mb_deleted"] >= metrics["mb_before"] * 0.99
    assert named("old-request") == []


def test_the_own_store_is_touched_only_with_apply(store, tmp_path, run_command):
    experiment = use_store(store, "7-production")
    written = write_old_traces(20, 40)
    young = {trace.trace_id for trace in written if trace.age < 30}
    dataset = mlflow.genai.create_dataset(name="from-old", experiment_id=[experiment.experiment_id])
    dataset.merge_records([mlflow.get_trace(written[-1].trace_id)])
    before = (tmp_path / "mlflow.db").stat().st_size
    result = run_command(main, "--apply", "--keep-days", 30)
    assert result.exit_code == 0 and "5 traces deleted" in result.output
    found = named("old-request")
    assert {trace.info.trace_id for trace in found} == young and len(young) == 15
    assert sum(len(trace.info.assessments) for trace in found) == 2
    assert (tmp_path / "mlflow.db").stat().st_size < before
    assert len(mlflow.genai.get_dataset(dataset_id=dataset.dataset_id).to_df()) == 1, "a row outlives its trace"
    (run,) = MlflowClient().search_runs([found[0].info.experiment_id], "metrics.deleted = 5")
    assert run.data.tags["lesson"] == "7.4"


def test_the_light_package_is_measured_beside_the_full_one(store, run_command, monkeypatch):
    sizes = {"mlflow-tracing": 45.0, "mlflow": 800.0}
    asked = []

    def measure(requirement: str, module: str) -> Installed:
        asked.append((requirement, module))
        return Installed(requirement, 30, sizes[requirement.split("==")[0]], 1.5)

    monkeypatch.setattr(production_tracing, "measure_install", measure)
    result = run_command(main, "--measure-lite")
    assert result.exit_code == 0
    assert asked == [(f"{name}=={mlflow.__version__}", "mlflow") for name in sizes]
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert (run.data.metrics["lite_megabytes"], run.data.metrics["full_megabytes"]) == (45.0, 800.0)


def test_uv_is_needed_to_measure(store, refused, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "uv" in refused(main, "--measure-lite")


@pytest.mark.parametrize(
    "flags",
    [
        ("--num-requests", 0),
        ("--sampling-ratio", 1.1),
        ("--keep-days", 0),
        ("--message", "Nothing personal in here."),
        ("--llm-type", "openai"),
    ],
)
def test_wrong_use(store, refused, flags):
    refused(main, *flags)
    assert MlflowClient().search_experiments(filter_string="name = '7-production'") == [] or not named("support")


@pytest.mark.slow
def test_a_store_behind_a_server_is_read_back_and_a_small_one_of_its_own_is_cleaned(store, run_command):
    with mlflow_server(store) as address:
        result = run_command(main, "--tracking-uri", address, "--num-requests", 20)
        assert result.exit_code == 0, result.output
        mlflow.set_experiment("7-production")
        assert mlflow.get_tracking_uri() == address
        metrics = the_run().data.metrics
        assert metrics["lost_kill_9"] > metrics["lost_sigterm_heard"] == 0 and metrics["masked"] == 4
        assert metrics["deleted"] + metrics["old_traces_left"] == OLD_TRACES and named("old-request") == []
        result = run_command(main, "--tracking-uri", address, "--apply")
        assert result.exit_code == 0 and "0 traces deleted; size not known here" in result.output
