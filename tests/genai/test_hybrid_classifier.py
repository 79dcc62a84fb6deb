"""8.3 on a store of its own: every figure again, from the traces and from the logged classifier."""

import json

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from genai.optimization.hybrid_classifier import HYBRID, main
from tests.stub_server import closed_url
from utils.cascade import curve, is_right
from utils.evaluation import wilson_interval
from utils.json_answers import read_answer
from utils.options import InputOptions
from utils.pricing import PRICES
from utils.reviews import LABELS
from utils.training_reviews import split_rows

HELD_OUT = 40


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--held-out", HELD_OUT)


def only_run(client):
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()], "params.most != ''")
    return run


@pytest.fixture
def run(done):
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("8-advanced")
    return only_run(MlflowClient())


@pytest.fixture
def half(run):
    """The rows reported on: which the logged classifier has right, how sure it is, and which the LLM's traces do."""
    rows = split_rows(InputOptions(), HELD_OUT, seed=7).report
    (model,) = mlflow.search_logged_models(filter_string="name = 'classifier'", output_format="list")
    classifier = mlflow.sklearn.load_model(model.model_uri)
    said = {}
    for trace in mlflow.search_traces(run_id=run.info.run_id, max_results=200, return_type="list"):
        (root,) = [span for span in trace.data.spans if span.parent_id is None]
        said[root.inputs["text"]] = read_answer(root.outputs, LABELS).label
    assert len(said) == HELD_OUT, "each row is read once"
    sure = classifier.predict_proba(rows["text"]).max(axis=1).tolist()
    return [
        sure,
        list(classifier.predict(rows["text"]) == rows["label"]),
        list(rows["text"].map(said) == rows["label"]),
    ]


def table(run, name):
    content = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{name}"))
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def test_accuracy_and_share_are_those_of_the_threshold_on_the_other_half(run, half):
    threshold = float(run.data.params["threshold"])
    sure, cheap, dear = half
    right, metrics = is_right(sure, cheap, dear, threshold), run.data.metrics
    assert metrics["accuracy"] == pytest.approx(sum(right) / len(right))
    assert (metrics["accuracy_low"], metrics["accuracy_high"]) == pytest.approx(wilson_interval(sum(right), len(right)))
    assert metrics["share_to_llm"] == pytest.approx(sum(each < threshold for each in sure) / len(right))
    assert metrics["gain"] == pytest.approx((sum(right) - sum(half[1])) / len(right))
    assert metrics["gain_low"] <= metrics["gain"] <= metrics["gain_high"]


def test_the_threshold_comes_from_the_half_that_is_not_reported(run):
    chosen = split_rows(InputOptions(), HELD_OUT, seed=7).choose
    (model,) = mlflow.search_logged_models(filter_string="name = 'classifier'", output_format="list")
    classifier = mlflow.sklearn.load_model(model.model_uri)
    sure = classifier.predict_proba(chosen["text"]).max(axis=1)
    threshold = float(run.data.params["threshold"])
    assert (sure < threshold).mean() <= 0.5
    assert min(abs(value - threshold) for value in sure) < 1e-9, "it is a confidence of one of the rows chosen on"


def test_the_curve_in_the_table_ends_with_classifier_and_llm(run, half):
    rows, steps = table(run, "share_of_llm.json"), curve(*half)
    assert rows[0]["accuracy"] == pytest.approx(steps[0].quality) and rows[0]["share to the LLM"] == 0
    assert rows[-1]["accuracy"] == pytest.approx(steps[-1].quality) and rows[-1]["share to the LLM"] == 1
    assert {row["accuracy"] for row in rows} <= {step.quality for step in steps}
    artifacts = {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}
    assert {"share_of_llm.png", "confusion.png", "ways.json", "share_of_llm.json"} <= artifacts


def test_classic_and_genai_metrics_are_in_one_run(run, half):
    metrics = run.data.metrics
    assert metrics["classifier_accuracy"] == pytest.approx(sum(half[1]) / len(half[1]))
    assert metrics["classifier_log_loss"] > 0 and 0 < metrics["llm_right/mean"] < 1 and metrics["in_form/mean"] == 1
    assert metrics["accuracy_llm"] == pytest.approx(sum(half[2]) / len(half[2]))
    (model,) = mlflow.search_logged_models(filter_string="metrics.classifier_accuracy >= 0", output_format="list")
    assert model.source_run_id == run.info.run_id and model.tags["lesson"] == "8.3"


def test_costs_are_the_tokens_of_the_traces(run):
    traces = mlflow.search_traces(run_id=run.info.run_id, max_results=200, return_type="list")
    tokens = [trace.info.token_usage for trace in traces]
    metrics, price = run.data.metrics, PRICES["mock-small"]
    assert metrics["prompt_tokens"] == sum(each["input_tokens"] for each in tokens) > 0
    usd = metrics["prompt_tokens"] * price.input_usd + metrics["completion_tokens"] * price.output_usd
    rows = {row["way"]: row for row in table(run, "ways.json")}
    assert float(rows["LLM alone"]["USD/1,000 rows"]) == pytest.approx(usd / 1e6 / HELD_OUT * 1000, abs=1e-4)
    assert float(rows["classifier alone"]["USD/1,000 rows"]) == 0


def test_own_rows_with_labels_that_are_no_sentiments(store, run_command, tmp_path):
    """A number that the learner adds to the prompt becomes a feature; the alias is theirs."""
    mlflow.set_experiment("8-advanced")
    mlflow.genai.register_prompt("hybrid-classifier", HYBRID.replace('"score": 0.5', '"score": 0.5, "rating": 1'))
    mlflow.genai.set_prompt_alias("hybrid-classifier", "production", 1)
    frame = pd.DataFrame([(f"the {word} costs {n} euros", word) for n in range(8) for word in ("bread", "train")])
    frame.to_csv(tmp_path / "my.csv", index=False, header=["comment", "kind"])
    flags = ("--input", tmp_path / "my.csv", "--text-column", "comment", "--label-column", "kind")
    result = run_command(main, *flags, "--held-out", 8)
    assert result.exit_code == 0, result.stderr
    assert only_run(MlflowClient()).data.metrics["classifier_accuracy"] == 1


def test_rows_whose_call_fails_are_wrong_and_counted(store, run_command):
    result = run_command(main, "--held-out", 12, "--mock-faults", "garbage:0.5", "--most", 1, "--seed", 3)
    assert result.exit_code == 0, result.stderr
    metrics = only_run(MlflowClient()).data.metrics
    lost = metrics["llm_failed_rows"]
    assert 0 < lost < 12 and metrics["llm_unparsed_rows"] >= lost


@pytest.mark.parametrize(
    "flags",
    [
        ("--held-out", 4),
        ("--most", 1.5),
        ("--input", "nowhere.csv", "--label-column", "label"),
        ("--llm-type", "openai", "--openai-base-url", closed_url()),
        ("--model", "gpt-4o"),
    ],
)
def test_wrong_use_is_refused_and_leaves_nothing(store, refused, flags):
    refused(main, *flags)
    client = MlflowClient()
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


def test_a_model_that_never_answers_is_a_failed_job(store, refused):
    assert "all requests failed" in refused(main, "--held-out", 8, "--mock-faults", "garbage:1")
