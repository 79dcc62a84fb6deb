"""1.2 on a store of its own: what links a model to all behind it, and what is said when a link is gone."""

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from tests.conftest import ROOT
from tracking.logged_model_lineage import MISSING, PROMPT, VARIANTS, best_checkpoint, lineage, main

SAMPLES = 9
BRANCHES = ("model", "run", "traces", "code", "prompt", "dataset", "metrics")


@pytest.fixture(scope="module")
def left(run_lesson) -> Path:
    """The database that one run of the lesson left."""
    done = run_lesson(main, "--num-samples", SAMPLES)
    for line in lineage(best().model_id):
        assert line in done.output
    return done.path


@pytest.fixture
def database(left, tmp_path) -> Path:
    """A copy of it, to take links out of."""
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(left)) as old, closing(sqlite3.connect(path)) as new:
        old.backup(new)
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    return path


def experiment_ids() -> list[str]:
    return [experiment.experiment_id for experiment in MlflowClient().search_experiments()]


def all_runs():
    return MlflowClient().search_runs(experiment_ids())


def best():
    (parent,) = [run for run in all_runs() if run.info.run_name == "lineage"]
    return best_checkpoint(parent.info.run_id)


def branch(lines: list[str], name: str) -> str:
    (line,) = [line for line in lines if line.lstrip("├└─ ").startswith(f"{name} ")]
    return line


def test_two_runs_with_two_checkpoints_each(database):
    nested = [run for run in all_runs() if "mlflow.parentRunId" in run.data.tags]
    assert len(nested) == len(VARIANTS) == 2
    for run in nested:
        assert sorted(output.step for output in run.outputs.model_outputs) == [0, 1]


def test_every_model_has_its_own_traces_params_and_accuracy(database):
    models = MlflowClient().search_logged_models(experiment_ids())
    assert len(models) == 4
    for model in models:
        traces = mlflow.search_traces(locations=experiment_ids(), model_id=model.model_id, return_type="list")
        assert len(traces) == SAMPLES
        assert {trace.info.tags["lesson"] for trace in traces} == {"1.2"} == {model.tags["lesson"]}
        for trace in traces:
            assert [span.span_type for span in trace.data.spans] == ["AGENT", "CHAT_MODEL"]
        (metric,) = model.metrics
        assert (metric.key, metric.step) == ("accuracy", int(model.params["step"]))
        assert metric.dataset_name == "sample-reviews"


def test_the_best_checkpoint_is_the_one_with_the_highest_accuracy(database):
    scores = {model.model_id: model.metrics[0].value for model in MlflowClient().search_logged_models(experiment_ids())}
    assert scores[best().model_id] == max(scores.values()) > min(scores.values())


def test_the_lineage_names_what_the_store_holds(database):
    model, lines = best(), lineage(best().model_id)
    assert [line.lstrip("├└─ ").split()[0] for line in lines] == list(BRANCHES)
    assert not any(MISSING in line for line in lines if "code" not in line)
    assert model.source_run_id in branch(lines, "run") and f"step {model.params['step']}" in branch(lines, "run")
    assert branch(lines, "traces").split()[2] == f"{SAMPLES},"
    assert model.params["prompt"] in branch(lines, "prompt") and PROMPT in model.params["prompt"]
    assert f"accuracy {model.metrics[0].value:.3f}" in branch(lines, "metrics")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no git checkout")
def test_the_commit_is_that_of_the_checkout(database):
    assert "commit" in branch(lineage(best().model_id), "code")


CUTS = {
    "run": "UPDATE logged_models SET source_run_id = NULL WHERE model_id = :model",
    "traces": "DELETE FROM trace_request_metadata WHERE key = 'mlflow.modelId' AND value = :model",
    "prompt": "DELETE FROM logged_model_tags WHERE tag_key = 'mlflow.linkedPrompts' AND model_id = :model",
    "dataset": "UPDATE logged_model_metrics SET dataset_digest = NULL, dataset_name = NULL WHERE model_id = :model",
    "metrics": "DELETE FROM logged_model_metrics WHERE model_id = :model",
}


@pytest.mark.parametrize("name", CUTS)
def test_a_link_that_is_gone_is_missing_and_the_others_are_not(database, name):
    model_id = best().model_id
    before = lineage(model_id)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(CUTS[name], {"model": model_id}).rowcount > 0
        connection.commit()
    after = lineage(model_id)
    assert MISSING not in branch(before, name) and MISSING in branch(after, name)
    # Without a run nobody says which dataset went in, and without traces nobody knows the commit.
    follow = {"run": {"dataset"}, "traces": {"code"}, "metrics": {"dataset"}}.get(name, set())
    for other in {*BRANCHES} - {name, *follow}:
        assert branch(after, other) == branch(before, other)


def test_only_the_lineage_of_a_model_is_printed(database, run_command):
    model_id = best().model_id
    runs_before = len(all_runs())
    result = run_command(main, "--tracking-uri", f"sqlite:///{database}", "--model-id", model_id)
    assert result.exit_code == 0 and result.output.splitlines() == lineage(model_id)
    assert len(all_runs()) == runs_before


@pytest.mark.parametrize("flags", [("--model-id", "m-nowhere"), ("--num-samples", 0), ("--llm-type", "openai")])
def test_wrong_use(refused, store, flags):
    refused(main, *flags)
