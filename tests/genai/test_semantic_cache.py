"""8.5 on stores of its own: the threshold's figures, the traces of hits and misses, and what the file keeps."""

import json

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from genai.optimization.semantic_cache import main
from utils.cache_questions import halves, load_cache_questions, meanings
from utils.cache_scores import embed_all, probe, score
from utils.lexical import embed_lexically

FLAGS = ("--num-requests", 40, "--max-false-hits", 0.3)


@pytest.fixture(scope="module")
def cache_file(tmp_path_factory):
    return tmp_path_factory.mktemp("cache") / "kept.sqlite"


@pytest.fixture(scope="module")
def done(run_lesson, cache_file):
    return run_lesson(main, *FLAGS, "--cache", cache_file)


@pytest.fixture
def client(done):
    mlflow.set_tracking_uri(done.uri)
    return MlflowClient()


def the_run(client):
    (experiment,) = [each for each in client.search_experiments() if each.name == "8-advanced"]
    return client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])[0]


def traces_of(client, further=""):
    ids = [each.experiment_id for each in client.search_experiments()]
    found = f"trace.name = 'cached-answer'{further}"
    return mlflow.search_traces(locations=ids, filter_string=found, max_results=200, return_type="list")


def test_the_threshold_is_chosen_on_one_half_and_reported_on_the_other(client):
    run = the_run(client)
    first, second = halves(load_cache_questions(), 7)
    chosen = run.data.metrics["threshold"]
    for half, name, step in ((second, "", None), (first, "curve/", round(chosen * 100))):
        vectors = embed_all(embed_lexically, half)
        expected = score(probe(half, vectors), chosen).metrics()
        for figure, value in expected.items():
            logged = client.get_metric_history(run.info.run_id, name + figure)
            assert [m.value for m in logged if step is None or m.step == step] == [pytest.approx(value)], name + figure
    curve = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "curve/false_hit_rate")}
    hits = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "curve/hit_rate")}
    assert len(curve) == 51 and curve[round(chosen * 100)] <= 0.3
    assert all(hits[step] < hits[round(chosen * 100)] for step in curve if curve[step] <= 0.3 and step > chosen * 100)


def test_the_curve_is_a_picture_and_a_table(client, done):
    run = the_run(client)
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {"thresholds.png", "thresholds.json"}
    table = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/thresholds.json"))
    assert len(table["data"]) == 51 and "false-hit rate" in table["columns"]
    assert "no threshold" not in done.output


def test_each_request_is_one_trace_and_only_a_miss_calls_the_model(client):
    traces = traces_of(client)
    metrics = the_run(client).data.metrics
    assert len(traces) == metrics["requests"] == 40
    by_source = {"model": 0, "identical": 0, "similar": 0}
    for trace in traces:
        source = trace.info.tags["answered_by"]
        by_source[source] += 1
        assert len(trace.search_spans(span_type="CHAT_MODEL")) == (source == "model")
        (lookup,) = trace.search_spans(name="cache-lookup")
        assert lookup.outputs["found"] == source and trace.info.tags["lesson"] == "8.5"
        if source == "similar":
            assert lookup.outputs["similarity"] >= metrics["threshold"]
            assert lookup.outputs["nearest"] != lookup.inputs["question"]
    logged = {"model": "answered_by_model", "identical": "hits_identical", "similar": "hits_similar"}
    assert by_source == {source: metrics[name] for source, name in logged.items()}
    assert min(by_source.values()) > 0


def test_feedback_says_which_hits_answered_another_question(client):
    meaning = meanings(load_cache_questions())
    verdicts = []
    for trace in traces_of(client, " AND tags.answered_by = 'similar'"):
        (lookup,) = trace.search_spans(name="cache-lookup")
        (said,) = [each for each in trace.info.assessments if each.name == "right_entry"]
        assert said.value == (meaning[lookup.outputs["nearest"]] == meaning[lookup.inputs["question"]])
        assert said.metadata["lesson"] == "8.5" and lookup.outputs["nearest"] in said.rationale
        verdicts.append(said.value)
    assert verdicts.count(False) == the_run(client).data.metrics["hits_similar_wrong"]


def test_what_was_saved_is_the_tokens_of_the_calls_that_were_not_made(client):
    """Counted again from the spans: each hit is worth what the model's call to the entry's question had used."""
    used, saved = {}, 0
    for trace in sorted(traces_of(client), key=lambda each: each.info.request_time):
        (lookup,) = trace.search_spans(name="cache-lookup")
        if calls := trace.search_spans(span_type="CHAT_MODEL"):
            used[lookup.inputs["question"]] = calls[0].get_attribute("mlflow.chat.tokenUsage")["total_tokens"]
        else:
            saved += used[lookup.outputs["nearest"]]
    metrics = the_run(client).data.metrics
    assert saved == metrics["saved_tokens"] > metrics["saved_by_similar_tokens"] > 0
    assert metrics["share_saved"] == pytest.approx(saved / (saved + metrics["spent_tokens"]))


def test_the_next_run_finds_the_entries_unless_something_that_decides_the_answers_changed(
    done, cache_file, run_command
):
    def again(*flags):
        result = run_command(
            main, "--tracking-uri", done.uri, "--cache", cache_file, *FLAGS[2:], "--num-requests", 3, *flags
        )
        assert result.exit_code == 0, result.stderr
        return result.output

    assert "held 0 entries" in done.output
    kept = int(done.output.split("Opened again: ")[1].split()[0])
    assert kept > 5 and f"held {kept} entries before" in again()
    assert "held 0 entries before" in again("--model", "mock-large"), "another model's answers are not given out"
    assert "held 0 entries before" in again("--temperature", 0.5)
    mlflow.set_tracking_uri(done.uri)
    version = mlflow.genai.register_prompt("cached-answer", "Facts: {{facts}}\n\nQuestion: {{question}}").version
    mlflow.genai.set_prompt_alias("cached-answer", "production", version)
    assert "held 0 entries before" in again(), "nor those of another version of the prompt"


def test_where_no_threshold_is_safe_only_identical_texts_are_answered(store, run_command):
    result = run_command(main, "--max-false-hits", 0, "--num-requests", 15)
    assert result.exit_code == 0, result.stderr
    assert (
        "no threshold has a right hit" in result.output and "answers a text that it has, and no other" in result.output
    )
    metrics = the_run(MlflowClient()).data.metrics
    assert metrics["hits_similar"] == 0 < metrics["hits_identical"] and "false_hit_rate" not in metrics


def test_a_threshold_of_ones_own_and_a_small_cache(store, run_command):
    result = run_command(main, "--threshold", 0.5, "--num-requests", 20, "--max-entries", 5)
    assert result.exit_code == 0, result.stderr
    metrics = the_run(MlflowClient()).data.metrics
    assert metrics["threshold"] == 0.5 and metrics["entries_opened_again"] <= 5
    assert np.isclose(metrics["entries_expired"], metrics["entries_opened_again"])
    assert "Wrong answers" in result.output, "at half the similarity look-alikes come through"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--questions", "nowhere.csv"), "nowhere.csv"),
        (("--questions", "README.md"), "neither .csv nor .jsonl"),
        (("--threshold", 1.5), "--threshold"),
        (("--expire-hours", 0), "--expire-hours"),
        (("--cache", "README.md"), "README.md"),
        (("--cache", "tests"), "tests"),
        (("--embed-type", "fastembed", "--embed-model", "/nowhere"), "/nowhere"),
        (("--llm-type", "openai"), "OPENAI_API_KEY"),
    ],
)
def test_wrong_use(store, refused, flags, said):
    assert said in refused(main, *flags)
