"""Exercise 1.1b solved: log checkpoints of one model, find the best and tag it.

Begin with:  tracking/exercises/best_checkpoint.py
Run it:      uv run python tests/solutions/best_checkpoint.py
"""

from importlib.metadata import version

import mlflow
import pandas as pd
from mlflow.entities import LoggedModel
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split

from utils.cli import show_table
from utils.exercise_cli import exercise_command

SEED = 42
STAGES = (5, 20, 80, 320)  # trees; each stage goes on where the one before stopped
# For log_model: the packages, and the types that are no part of skops' own list of what is safe to load.
REQUIREMENTS = [f"{package}=={version(package)}" for package in ("scikit-learn", "skops")]
TRUSTED_TYPES = ["sklearn.tree._tree.Tree"]


def train_in_stages(data: pd.DataFrame, held_out: pd.DataFrame) -> list[dict[str, float]]:
    """One run with a stage for each number of trees; a row of trees and rmse for each."""
    regressor = GradientBoostingRegressor(warm_start=True, random_state=SEED)
    stages = []
    with mlflow.start_run(run_name="checkpoints") as run:
        for trees in STAGES:
            regressor.set_params(n_estimators=trees).fit(data.drop(columns="target"), data["target"])
            predicted = regressor.predict(held_out.drop(columns="target"))
            rmse = root_mean_squared_error(held_out["target"], predicted)
            checkpoint = mlflow.sklearn.log_model(
                regressor,
                name=f"boosting-{trees}",
                step=trees,
                pip_requirements=REQUIREMENTS,
                skops_trusted_types=TRUSTED_TYPES,
            )
            mlflow.log_metric("rmse", rmse, step=trees, model_id=checkpoint.model_id)
            stages.append({"trees": trees, "rmse": rmse})
    best = find_best(run.info.run_id)
    mlflow.set_logged_model_tags(best.model_id, {"best": "true"})
    return stages


def find_best(run_id: str) -> LoggedModel:
    """The checkpoint with the lowest rmse, of this run only: earlier tries have checkpoints, too."""
    return mlflow.search_logged_models(
        filter_string=f"source_run_id = '{run_id}'",
        order_by=[{"field_name": "metrics.rmse", "ascending": True}],
        max_results=1,
        output_format="list",
    )[0]


@exercise_command("1.1b")
def main() -> None:
    data, held_out = train_test_split(load_diabetes(as_frame=True).frame, test_size=0.25, random_state=SEED)
    show_table(train_in_stages(data, held_out))


if __name__ == "__main__":
    main()
