"""Lesson 1.1: its real command against fresh stores, judged by the runs, models and files that MLflow then holds."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run

from tests.stub_server import closed_url
from tracking import simple_tracking_basic
from tracking.simple_tracking_basic import choose_store, load_data, main, regressors

EXPERIMENT = "1-fundamentals"
METRICS = {"rmse", "mae", "r2"}


def experiment_id() -> str:
    return mlflow.get_experiment_by_name(EXPERIMENT).experiment_id


def runs_by_name() -> dict[str, Run]:
    return {run.info.run_name: run for run in MlflowClient().search_runs([experiment_id()])}


def models_by_name() -> dict[str, LoggedModel]:
    found = mlflow.search_logged_models(experiment_ids=[experiment_id()], output_format="list")
    return {model.name: model for model in found}


@pytest.fixture
def done(store: str, run_command: Callable) -> dict[str, Run]:
    """The lesson's runs, by name."""
    assert run_command(main).exit_code == 0
    return runs_by_name()


def test_what_the_store_holds_after_one_run(done: dict[str, Run]) -> None:
    assert set(done) == {"autolog", *regressors()}
    assert {run.info.status for run in done.values()} == {"FINISHED"}
    assert {run.data.tags["lesson"] for run in done.values()} == {"1.1"}
    check_autolog(done.pop("autolog"))
    for name, run in done.items():
        check_run(name, run)
        check_model(run, models_by_name()[name])
    assert set(models_by_name()) == set(done)
    check_best()


def check_autolog(run: Run) -> None:
    assert run.data.params["fit_intercept"] == "True"
    assert run.data.metrics["training_root_mean_squared_error"] > 0
    (given,) = [item.dataset for item in run.inputs.dataset_inputs]
    assert json.loads(given.profile)["num_rows"] == 331


def check_run(name: str, run: Run) -> None:
    data = load_data()
    assert set(run.data.metrics) == METRICS
    assert 40 < run.data.metrics["mae"] < run.data.metrics["rmse"] < 70
    assert 0.3 < run.data.metrics["r2"] < 0.7
    regressor = regressors()[name]
    assert run.data.params["regressor"] == type(regressor).__name__
    for parameter, value in regressor.get_params().items():
        assert run.data.params[parameter] == str(value)
    by_context = {item.tags[0].value: item.dataset for item in run.inputs.dataset_inputs if item.tags}
    assert (by_context["training"].name, by_context["training"].digest) == ("diabetes-train", data.train_set.digest)
    figure = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="residuals.png")
    assert Path(figure).read_bytes().startswith(b"\x89PNG")


def check_model(run: Run, model: LoggedModel) -> None:
    data = load_data()
    assert model.source_run_id == run.info.run_id
    assert str(model.status) == "READY"
    assert model.tags["lesson"] == "1.1"
    linked = {metric.key: metric for metric in model.metrics or []}
    assert {name: metric.value for name, metric in linked.items()} == run.data.metrics
    assert {(m.dataset_name, m.dataset_digest) for m in linked.values()} == {("diabetes-test", data.test_set.digest)}
    card = mlflow.models.get_model_info(model.model_uri)
    assert card.signature.inputs.input_names() == list(data.features(data.test).columns)
    example = mlflow.models.Model.load(model.model_uri).load_input_example(model.model_uri)
    assert example.reset_index(drop=True).equals(data.features(data.test).head(3).reset_index(drop=True))
    predicted = mlflow.sklearn.load_model(model.model_uri).predict(data.features(data.test))
    assert simple_tracking_basic.measure(data.test["progression"], predicted) == pytest.approx(run.data.metrics)


def check_best() -> None:
    best = simple_tracking_basic.best_model()
    errors = {model.name: {m.key: m.value for m in model.metrics}["rmse"] for model in models_by_name().values()}
    assert errors[best.name] == min(errors.values())


def test_the_best_model_is_the_one_with_the_lowest_error(
    store: str, run_command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.dummy import DummyRegressor
    from sklearn.linear_model import Ridge

    # The worst first and last, so that neither the oldest nor the newest is the answer.
    chosen = {"mean": DummyRegressor(), "good": Ridge(alpha=0.1), "median": DummyRegressor(strategy="median")}
    monkeypatch.setattr(simple_tracking_basic, "regressors", lambda: chosen)
    monkeypatch.setattr(simple_tracking_basic, "TRUSTED_TYPES", ["sklearn.dummy.DummyRegressor"])
    result = run_command(main)
    assert result.exit_code == 0
    assert simple_tracking_basic.best_model().name == "good"
    assert f"Run:     {runs_by_name()['good'].info.run_id}" in result.output
    # A better one of an earlier run stays the best, also where the lesson no longer knows its name.
    monkeypatch.setattr(simple_tracking_basic, "regressors", lambda: {"mean": DummyRegressor()})
    again = run_command(main)
    assert again.exit_code == 0
    assert f"Run:     {models_by_name()['good'].source_run_id}" in again.output


def test_the_same_data_has_the_same_digest(store: str) -> None:
    first, second = load_data(), load_data()
    assert (first.train_set.digest, first.test_set.digest) == (second.train_set.digest, second.test_set.digest)
    assert first.train_set.digest != first.test_set.digest
    assert set(first.train.index).isdisjoint(first.test.index)
    assert len(first.train) + len(first.test) == 442


def test_db_path_names_the_store(
    store: str, run_command: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simple_tracking_basic, "regressors", lambda: {"linear": regressors()["linear"]})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run_command(main, "--backend", "sqlite", "--db-path", "my runs.db").exit_code == 0
    assert (tmp_path / "elsewhere" / "my runs.db").exists()
    mlflow.set_tracking_uri(store)
    assert mlflow.get_experiment_by_name(EXPERIMENT) is None
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'elsewhere' / 'my runs.db'}")
    assert set(runs_by_name()) == {"autolog", "linear"}
    artifacts = MlflowClient().get_experiment_by_name(EXPERIMENT).artifact_location
    assert Path(artifacts.removeprefix("file://")).is_relative_to(tmp_path / "elsewhere")
    mlflow.set_tracking_uri(store)


def test_a_file_store_is_refused_with_the_way_out(
    refused: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(main, "--backend", "file")
    assert "file:./mlruns is a file store" in said
    assert "mlflow migrate-filestore --source ./mlruns --target sqlite:///mlflow.db" in said
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_refused(refused: Callable, tmp_path: Path) -> None:
    url = closed_url()
    said = refused(main, "--backend", "server", "--tracking-uri", url)
    assert f"no MLflow server answers at {url}" in said
    assert "uv run mlflow server" in said
    assert list(tmp_path.iterdir()) == []


def test_a_server_without_an_address_is_looked_for_where_mlflow_starts_one(refused: Callable) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 5000)) == 0:
            pytest.skip("something listens on port 5000 of this machine")
    assert "no MLflow server answers at http://127.0.0.1:5000" in refused(main, "--backend", "server")


@pytest.mark.parametrize(
    ("backend", "db_path", "uri", "chosen"),
    [
        ("sqlite", None, None, None),
        ("sqlite", None, "sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("sqlite", Path("/tmp/b.db"), "sqlite:////tmp/a.db", "sqlite:////tmp/b.db"),
        ("server", None, "sqlite:////tmp/a.db", "http://127.0.0.1:5000"),
        ("server", None, "https://mlflow.example", "https://mlflow.example"),
        ("file", Path("/tmp/b.db"), "sqlite:////tmp/a.db", "file:./mlruns"),
    ],
)
def test_the_flags_name_one_store(backend: str, db_path: Path | None, uri: str | None, chosen: str | None) -> None:
    params = {"backend": backend, "db_path": db_path, "tracking_uri": uri, "other": 1}
    assert choose_store(params) == chosen
    assert params == {"tracking_uri": uri, "other": 1}


@pytest.mark.parametrize("wrong", [["--backend", "postgres"], ["--db-path", "/nowhere/at/all/my.db"]])
def test_wrong_use_is_refused(refused: Callable, wrong: list[str]) -> None:
    assert wrong[-1] in refused(main, *wrong)
