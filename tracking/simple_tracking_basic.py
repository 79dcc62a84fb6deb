"""1.1 Track an experiment: autolog first, then by hand, then find the best model.

New here: a run is what happened, a logged model is what came out of it, and metrics are linked to both.
Run it:   uv run mlflow-tracking-example
          uv run mlflow-tracking-example --backend sqlite --db-path my.db
          uv run mlflow-tracking-example --backend server --tracking-uri http://127.0.0.1:5000
          uv run mlflow-tracking-example --backend file      (what MLflow says to that today)
Look at:  uv run mlflow ui  ->  1-fundamentals  ->  Training runs; Agent versions lists the models
Change:   give RandomForestRegressor max_depth=3 in regressors(); which model comes first now?
Docs:     https://mlflow.org/docs/latest/ml/tracking/
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.entities import LoggedModel
from mlflow.models import infer_signature

from utils.cli import Steps, lesson, show, show_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from sklearn.base import RegressorMixin

SEED = 42
TARGET = "progression"  # of the disease after one year
BACKENDS = ("sqlite", "file", "server")
# Named here, MLflow need not load the model once more in a process of its own to find them out.
REQUIREMENTS = [f"{package}=={version(package)}" for package in ("scikit-learn", "skops")]
# MLflow 3 stores scikit-learn models with skops, not pickle: a type outside its list must be vouched for.
TRUSTED_TYPES = ["sklearn.tree._tree.Tree"]


@dataclass(frozen=True)
class Data:
    """442 patients of scikit-learn's diabetes data, a quarter held out, as frames and as MLflow datasets."""

    train: pd.DataFrame
    test: pd.DataFrame
    train_set: PandasDataset
    test_set: PandasDataset

    def features(self, part: pd.DataFrame) -> pd.DataFrame:
        return part.drop(columns=TARGET)


@dataclass(frozen=True)
class Outcome:
    run_ids: dict[str, str]
    best: LoggedModel
    prediction: float


def regressors() -> "dict[str, RegressorMixin]":
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression, Ridge

    return {
        "linear": LinearRegression(),
        "ridge": Ridge(alpha=0.1),
        "forest": RandomForestRegressor(n_estimators=100, max_depth=5, random_state=SEED),
    }


def load_data() -> Data:
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    frame = load_diabetes(as_frame=True).frame.rename(columns={"target": TARGET})
    train, test = train_test_split(frame, test_size=0.25, random_state=SEED)
    return Data(
        train,
        test,
        mlflow.data.from_pandas(train, name="diabetes-train", targets=TARGET),
        mlflow.data.from_pandas(test, name="diabetes-test", targets=TARGET),
    )


def train_with_autolog(data: Data) -> str:
    """One line before the fit; parameters, training metrics and the dataset are logged by it."""
    from sklearn.linear_model import LinearRegression

    mlflow.sklearn.autolog(log_models=False, silent=True)
    with mlflow.start_run(run_name="autolog") as run:
        LinearRegression().fit(data.features(data.train), data.train[TARGET])
    mlflow.sklearn.autolog(disable=True)
    return run.info.run_id


def train_one(name: str, regressor: "RegressorMixin", data: Data) -> str:
    """The same by hand: every call says what goes where."""
    with mlflow.start_run(run_name=name) as run:
        mlflow.log_params({"regressor": type(regressor).__name__, **regressor.get_params()})
        mlflow.log_input(data.train_set, context="training")
        regressor.fit(data.features(data.train), data.train[TARGET])

        features = data.features(data.test)
        predicted = regressor.predict(features)
        logged = mlflow.sklearn.log_model(
            regressor,
            name=name,
            signature=infer_signature(features, predicted),
            input_example=features.head(3),
            pip_requirements=REQUIREMENTS,
            skops_trusted_types=TRUSTED_TYPES,
        )
        # model_id and dataset say whose numbers these are, and on which data, also where a run holds several models.
        mlflow.log_metrics(measure(data.test[TARGET], predicted), model_id=logged.model_id, dataset=data.test_set)
        mlflow.log_figure(residual_plot(data.test[TARGET], predicted, name), "residuals.png")
    return run.info.run_id


def measure(truth: pd.Series, predicted: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "rmse": root_mean_squared_error(truth, predicted),
        "mae": mean_absolute_error(truth, predicted),
        "r2": r2_score(truth, predicted),
    }


def residual_plot(truth: pd.Series, predicted: np.ndarray, name: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(predicted, truth - predicted, s=14, alpha=0.7)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title=f"Residuals of {name}", xlabel=f"predicted {TARGET}", ylabel="right minus predicted")
    return figure


def best_model() -> LoggedModel:
    """Asked of the models, not of the runs; without experiment_ids the search covers the active experiment."""
    return mlflow.search_logged_models(
        filter_string="tags.lesson = '1.1' AND metrics.rmse > 0",
        order_by=[{"field_name": "metrics.rmse", "ascending": True}],
        max_results=1,
        output_format="list",
    )[0]


def run() -> Outcome:
    steps = Steps(4)
    data = load_data()
    steps(f"{len(data.train)} rows to train on, {len(data.test)} held out; digest {data.train_set.digest}")

    # 1. Autolog: nothing to write
    run_ids = {"autolog": train_with_autolog(data)}
    logged = mlflow.get_run(run_ids["autolog"]).data
    steps(f"Autolog wrote {len(logged.params)} params and {len(logged.metrics)} metrics")

    # 2. By hand: choose what is logged, and on which data it was measured
    run_ids |= {name: train_one(name, regressor, data) for name, regressor in regressors().items()}
    steps(f"Trained {', '.join(regressors())}")

    # 3. The best one, found by its metric and loaded by its id
    best = best_model()
    loaded = mlflow.sklearn.load_model(best.model_uri)
    prediction = float(loaded.predict(data.features(data.test).head(1))[0])
    steps(f"Best of all logged models: {best.name}, loaded from {best.model_uri}")
    return Outcome(run_ids, best, prediction)


def choose_store(params: dict[str, Any]) -> str | None:
    """--backend and --db-path as a tracking URI; a file store is passed on, so that MLflow's own refusal is seen."""
    backend, db_path, uri = params.pop("backend"), params.pop("db_path"), params["tracking_uri"]
    if backend == "file":
        return "file:./mlruns"
    if backend == "server" and not (uri or "").startswith("http"):
        return "http://127.0.0.1:5000"
    if db_path:
        return f"sqlite:///{db_path.absolute()}"
    return uri


@lesson("1.1", choose_store=choose_store)
@click.option("--backend", type=click.Choice(BACKENDS), default="sqlite", show_default=True, help="Kind of store.")
@click.option("--db-path", type=click.Path(path_type=Path), help="SQLite file; default: mlflow.db in the checkout.")
def main() -> None:
    outcome = run()
    show_table(
        [
            {"model": name, **mlflow.get_run(run_id).data.metrics}
            for name, run_id in outcome.run_ids.items()
            if name != "autolog"
        ]
    )
    show("1.1", {"best model": outcome.best.name, "first held-out patient, predicted": outcome.prediction},
         run_id=outcome.best.source_run_id)  # fmt: skip


if __name__ == "__main__":
    main()
