"""Exercise 1.1a solved: log a regressor of your own, and link its score to the data.

Begin with:  tracking/exercises/own_regressor.py
Run it:      uv run python tests/solutions/own_regressor.py
"""

from importlib.metadata import version

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.base import RegressorMixin
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LassoCV
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split

from utils.cli import show_table
from utils.exercise_cli import exercise_command

SEED = 42
TARGET = "progression"  # of the disease after one year
# For log_model: named here, MLflow need not find them out by loading the model once more.
REQUIREMENTS = [f"{package}=={version(package)}" for package in ("scikit-learn", "skops")]


def make_regressor() -> RegressorMixin:
    return LassoCV(random_state=SEED)


def train(regressor: RegressorMixin, data: pd.DataFrame, held_out: pd.DataFrame) -> float:
    """Train on `data` inside one run; returns the rmse on `held_out`."""
    held_out_set = mlflow.data.from_pandas(held_out, name="diabetes-test", targets=TARGET)
    with mlflow.start_run(run_name="own-regressor"):
        mlflow.log_param("regressor", type(regressor).__name__)
        mlflow.log_input(mlflow.data.from_pandas(data, name="diabetes-train", targets=TARGET), context="training")
        mlflow.log_input(held_out_set, context="evaluation")
        regressor.fit(data.drop(columns=TARGET), data[TARGET])
        predicted = regressor.predict(held_out.drop(columns=TARGET))
        rmse = root_mean_squared_error(held_out[TARGET], predicted)

        logged = mlflow.sklearn.log_model(
            regressor,
            name="own-regressor",
            signature=infer_signature(held_out.drop(columns=TARGET), predicted),
            pip_requirements=REQUIREMENTS,
        )
        # The number is now found from the run, from the model and from the dataset.
        mlflow.log_metrics({"rmse": rmse}, model_id=logged.model_id, dataset=held_out_set)
    return rmse


@exercise_command("1.1a")
def main() -> None:
    frame = load_diabetes(as_frame=True).frame.rename(columns={"target": TARGET})
    data, held_out = train_test_split(frame, test_size=0.25, random_state=SEED)
    regressor = make_regressor()
    show_table([{"regressor": type(regressor).__name__, "rmse": train(regressor, data, held_out)}])


if __name__ == "__main__":
    main()
