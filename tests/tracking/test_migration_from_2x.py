"""1.3: what the pairs of calls leave in MLflow, and --check as a learner uses it."""

import json

import mlflow
import pytest
from mlflow import MlflowClient

from tests.conftest import ROOT
from tracking.migration_from_2x import main


@pytest.fixture(scope="module")
def done(run_lesson):
    left = run_lesson(main)
    client = MlflowClient(left.uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = [run for run in client.search_runs(ids) if run.info.run_name == "migration-check"]
    table = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/calls.json"))
    return left.output, run, [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_every_old_call_warns_or_fails_and_every_new_one_works(done):
    _, _, calls = done
    assert len(calls) >= 12
    assert {call["in 3.x"] for call in calls} == {"works"}
    assert {call["in 2.x"].split(":")[0] for call in calls} == {"warns", "fails"}


def test_what_failed_is_what_the_libraries_took_away(done):
    failed = {call["to"] for call in done[2] if call["in 2.x"].startswith("fails")}
    assert failed == {"name the active model", "keep runs in a folder", "parse a model's text", "build an agent"}


def test_the_run_counts_what_was_seen(done):
    output, run, calls = done
    failed = sum(call["in 2.x"].startswith("fails") for call in calls)
    assert run.data.metrics["old_calls_that_fail"] == failed
    assert run.data.metrics["old_calls_that_warn"] == len(calls) - failed
    assert run.data.metrics["findings_in_old_file"] == 4 and run.data.metrics["findings_in_new_file"] == 0
    assert run.data.tags["lesson"] == "1.3" and "old.py:5: mlflow.load_prompt" in output
    assert mlflow.get_active_model_id() is None


def test_check_names_each_place_and_says_no(store, run_command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.py").write_text("import mlflow\nmlflow.evaluate(1)\n")
    (tmp_path / "mine" / "broken.py").write_text("def (\n")
    result = run_command(main, "--check", tmp_path / "mine")
    assert result.exit_code == 1
    assert f"{tmp_path / 'mine' / 'train.py'}:2: mlflow.evaluate -> mlflow.genai.evaluate" in result.output
    assert "broken.py: not checked, SyntaxError" in result.output and "2 files, 1 findings" in result.output


def test_check_of_this_project_says_yes(store, run_command):
    result = run_command(main, "--check", ROOT)
    assert result.exit_code == 0, result.output
    assert " 0 findings, 0 not readable" in result.output


def test_check_leaves_no_run(store, run_command, tmp_path):
    (tmp_path / "new.py").write_text("x = 1\n")
    assert run_command(main, "--check", tmp_path / "new.py").exit_code == 0
    client = MlflowClient(store)
    assert client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]) == []


def test_a_path_that_is_not_there(refused, store, tmp_path):
    assert "nowhere.py" in refused(main, "--check", tmp_path / "nowhere.py")
