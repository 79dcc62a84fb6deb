"""8.7 on stores of its own: curves, checkpoints and the registered version; and a training that was killed."""

import os
import signal
import subprocess
import sys
import time

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from genai.optimization import finetune_tracking
from genai.optimization.finetune_tracking import NAME, main, new_head, train_epoch
from tests.conftest import ROOT
from utils.evaluation import wilson_interval
from utils.options import EmbedOptions, InputOptions
from utils.training_parts import Settings, has_stopped, measure
from utils.training_reviews import split_rows

CURVES = ("train_loss", "held_out_loss", "train_accuracy", "held_out_accuracy")


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--hidden", 8, "--max-epochs", 20)


def only_run(client):
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()], "params.hidden != ''")
    return run


def models():
    return sorted(mlflow.search_logged_models(output_format="list"), key=lambda model: int(model.params["epoch"]))


def values(model):
    return {metric.key: metric.value for metric in model.metrics or []}


def curve(run_id, name):
    """By epoch; an epoch that was done again after a kill has to have the same value."""
    found: dict[int, float] = {}
    for point in MlflowClient().get_metric_history(run_id, name):
        assert found.setdefault(point.step, point.value) == point.value, (name, point.step)
    return found


@pytest.fixture
def run(done):
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("8-advanced")
    return only_run(MlflowClient())


@pytest.fixture
def unbroken(run):
    """The curves of the training that nobody broke off, read before a test opens a store of its own."""
    return {name: curve(run.info.run_id, name) for name in CURVES}


@pytest.fixture(scope="module")
def data():
    return finetune_tracking.prepare(split_rows(InputOptions(), 120, seed=7), EmbedOptions())


def test_each_epoch_is_on_the_curves_and_the_early_stop_is_where_it_must_be(run):
    losses = curve(run.info.run_id, "held_out_loss")
    last = int(run.data.metrics["last_epoch"])
    for name in CURVES:
        assert list(curve(run.info.run_id, name)) == list(range(1, last + 1))
    kept = [losses[epoch] for epoch in range(3, last + 1, 3)]
    assert last == 20 or has_stopped(kept, 3)
    assert not any(has_stopped(kept[:length], 3) for length in range(len(kept)))
    assert curve(run.info.run_id, "train_loss")[1] > curve(run.info.run_id, "train_loss")[last]


def test_checkpoints_are_logged_models_with_their_step_and_their_metrics(run):
    losses, found = curve(run.info.run_id, "held_out_loss"), models()
    assert [int(model.params["epoch"]) for model in found] == list(range(3, int(run.data.metrics["last_epoch"]) + 1, 3))
    steps = {output.model_id: output.step for output in run.outputs.model_outputs}
    for model in found:
        epoch = int(model.params["epoch"])
        assert steps[model.model_id] == epoch and model.tags["lesson"] == "8.7"
        assert values(model)["held_out_loss"] == losses[epoch]
        assert all(metric.dataset_name == "finetune-choose" for metric in model.metrics if metric.key in CURVES)


def test_the_best_by_the_held_out_rows_is_the_registered_one_and_only_it_is_reported(run, data):
    best = min(models(), key=lambda model: values(model)["held_out_loss"])
    version = MlflowClient().get_model_version_by_alias(NAME, "best")
    assert version.tags["epoch"] == best.params["epoch"] and best.model_id in f"{version.model_id} {version.source}"
    assert run.data.metrics["best_epoch"] == int(best.params["epoch"])
    loaded = mlflow.sklearn.load_model(f"models:/{NAME}@best")
    right = int((loaded.predict(data.report.inputs) == data.report.labels).sum())
    expected = (right / 60, *wilson_interval(right, 60))
    reported = tuple(values(best)[f"report_accuracy{end}"] for end in ("", "_low", "_high"))
    assert reported == pytest.approx(expected)
    assert [model.model_id for model in models() if "report_accuracy" in values(model)] == [best.model_id]
    assert "curves.png" in {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}


def test_a_checkpoint_that_is_loaded_goes_on_exactly_as_the_head_it_was_made_from(run, data):
    """Weights, optimiser and order of the rows: the next epochs are the same to the last digit."""
    settings = Settings("lexical", 8, 0.003, 16, 7, 3, "", "")
    loaded, fresh = mlflow.sklearn.load_model(models()[0].model_uri), new_head(settings)
    for epoch in range(1, 4):
        train_epoch(fresh, data, settings, epoch)
    for epoch in (4, 5):
        train_epoch(fresh, data, settings, epoch)
        train_epoch(loaded, data, settings, epoch)
        assert measure(loaded, data) == measure(fresh, data)
        assert measure(loaded, data)["held_out_loss"] == curve(run.info.run_id, "held_out_loss")[epoch]


def test_a_training_that_breaks_off_goes_on_and_its_curves_are_those_of_an_unbroken_one(
    unbroken, store, run_command, monkeypatch
):
    flags = ("--hidden", 8, "--max-epochs", 20)
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("8-advanced")

    def breaks_in_epoch_8(head, data, settings, epoch):
        if epoch == 8:
            raise KeyboardInterrupt
        train_epoch(head, data, settings, epoch)

    monkeypatch.setattr(finetune_tracking, "train_epoch", breaks_in_epoch_8)
    assert run_command(main, *flags).exit_code == 130
    broken = only_run(MlflowClient()).info.run_id
    assert [int(model.params["epoch"]) for model in models()] == [3, 6]
    monkeypatch.setattr(finetune_tracking, "train_epoch", train_epoch)
    result = run_command(main, *flags, "--resume", broken)
    assert result.exit_code == 0, result.stderr
    resumed = only_run(MlflowClient())
    assert resumed.info.run_id == broken and resumed.info.status == "FINISHED"
    assert {name: curve(broken, name) for name in CURVES} == unbroken
    epochs = [int(model.params["epoch"]) for model in models()]
    assert len(epochs) == len(set(epochs)), "no checkpoint twice"
    again = run_command(main, *flags, "--resume", broken)
    assert again.exit_code == 2 and "is done" in again.stderr


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_resume_with_other_settings_is_refused(store, run_command, refused, monkeypatch):
    flags = ("--hidden", 4, "--checkpoint-every", 1)
    monkeypatch.setattr(finetune_tracking, "train_epoch", interrupt)
    assert run_command(main, *flags).exit_code == 130
    broken = only_run(MlflowClient()).info.run_id
    assert "hidden 4, not with 5" in refused(main, "--hidden", 5, "--checkpoint-every", 1, "--resume", broken)
    assert "seed 7" in refused(main, *flags, "--seed", 8, "--resume", broken)
    assert "left no checkpoint" in refused(main, *flags, "--resume", broken)
    assert only_run(MlflowClient()).info.status != "FINISHED"


def test_a_resume_on_other_rows_is_refused(store, run_command, refused, tmp_path, monkeypatch):
    """The file has the same name and as many rows: only one label in it is another."""
    file = tmp_path / "own.csv"
    lines = ["comment,verdict", *(f"Lamp {n} is {n % 3},{'abc'[n % 3]}" for n in range(60))]
    file.write_text("\n".join(lines))
    own = ("--input", file, "--text-column", "comment", "--label-column", "verdict", "--held-out", 20)
    flags = (*own, "--hidden", 4, "--checkpoint-every", 1)
    monkeypatch.setattr(finetune_tracking, "register_best", interrupt)
    assert run_command(main, *flags, "--max-epochs", 2).exit_code == 130
    broken = only_run(MlflowClient()).info.run_id
    file.write_text("\n".join([*lines[:-1], "Lamp 59 is 2,a"]))
    assert "rows_digest" in refused(main, *flags, "--max-epochs", 2, "--resume", broken)


def test_a_training_killed_after_its_last_epoch_is_reported_with_it(store, run_command, monkeypatch):
    flags = ("--hidden", 4, "--checkpoint-every", 1, "--max-epochs", 2)
    with monkeypatch.context() as patch:
        patch.setattr(finetune_tracking, "register_best", interrupt)
        assert run_command(main, *flags).exit_code == 130
    broken = only_run(MlflowClient()).info.run_id
    result = run_command(main, *flags, "--resume", broken)
    assert "Trained up to epoch 2\n" in result.stdout, "and not by an early stop"
    assert only_run(MlflowClient()).data.metrics["last_epoch"] == 2


@pytest.mark.parametrize(
    ("losses", "patience", "stopped"),
    [
        ([3, 2, 1], 1, False),
        ([3, 2, 2], 1, True),
        ([1, 2], 2, False),
        ([1, 2, 3], 2, True),
        ([1, 2, 0.5], 2, False),
        ([], 1, False),
        ([2, 3, 1, 1.5], 1, True),
    ],
)
def test_when_a_training_stops(losses, patience, stopped):
    assert has_stopped(losses, patience) == stopped


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--max-epochs", 2), "leave no checkpoint"),
        (("--resume", "0" * 32), "there is no run"),
        (("--held-out", 4), ""),
        (("--learning-rate", 0), ""),
        (("--embed-type", "fastembed", "--embed-model", "./nowhere"), "there is no folder"),
        (("--input", "nowhere.csv", "--label-column", "x"), "there is no file"),
    ],
)
def test_wrong_use_is_refused_and_leaves_nothing(store, refused, flags, said):
    assert said in refused(main, *flags)
    client = MlflowClient()
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


def test_a_run_of_another_lesson_is_no_training(store, refused):
    mlflow.set_experiment("8-advanced")
    with mlflow.start_run() as other:
        pass
    assert "no training of this lesson" in refused(main, "--resume", other.info.run_id)


def test_a_training_that_diverges_says_so(store, refused):
    assert "smaller --learning-rate" in refused(main, "--learning-rate", 1e300)
    assert only_run(MlflowClient()).info.status == "FAILED"


@pytest.mark.slow
def test_a_killed_process_is_resumed_from_its_newest_whole_checkpoint(store, run_command):
    """kill -9 between two checkpoints, in a process of its own."""
    mlflow.set_experiment("8-advanced")
    flags = ["--hidden", "8", "--patience", "5000"]
    command = [sys.executable, "-m", "genai.optimization.finetune_tracking", *flags, "--max-epochs", "5000"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"MLFLOW_TRACKING_URI": store}, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(models()) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    killed, epochs = only_run(MlflowClient()), [
        int(m.params["epoch"]) for m in models() if "held_out_loss" in values(m)
    ]
    assert killed.info.status == "RUNNING" and len(epochs) >= 2
    result = run_command(main, *flags, "--max-epochs", max(epochs) + 7, "--resume", killed.info.run_id)
    assert result.exit_code == 0, result.stderr
    assert set(curve(killed.info.run_id, "held_out_loss")) == set(range(1, max(epochs) + 8))
    whole = [int(model.params["epoch"]) for model in models() if "held_out_loss" in values(model)]
    assert np.array_equal(whole, range(3, max(epochs) + 8, 3))
