"""1.1b Log checkpoints of one model, find the best and tag it.

Log the model at every stage as a checkpoint with its step, and its rmse with it. Then ask MLflow which checkpoint of
this run has the lowest rmse, and give that one the tag best = true.

Run it:   uv run python tracking/exercises/best_checkpoint.py
Check:    uv run mlflow-learn check 1.1b
Look at:  uv run mlflow ui  ->  1-fundamentals  ->  Training runs  ->  checkpoints  ->  the curve of rmse
Docs:     https://mlflow.org/docs/latest/ml/tracking/
"""

from importlib.metadata import version

import mlflow
import pandas as pd
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
    with mlflow.start_run(run_name="checkpoints"):
        for trees in STAGES:
            regressor.set_params(n_estimators=trees).fit(data.drop(columns="target"), data["target"])
            predicted = regressor.predict(held_out.drop(columns="target"))
            rmse = root_mean_squared_error(held_out["target"], predicted)

            # Your turn (1): log the regressor as it is now, with its step, and let the rmse belong to that checkpoint.
            mlflow.log_metric("rmse", rmse, step=trees)
            stages.append({"trees": trees, "rmse": rmse})

        # Your turn (2): find the checkpoint of this run with the lowest rmse, and give it the tag best = true.
    return stages


@exercise_command("1.1b")
def main() -> None:
    data, held_out = train_test_split(load_diabetes(as_frame=True).frame, test_size=0.25, random_state=SEED)
    show_table(train_in_stages(data, held_out))


if __name__ == "__main__":
    main()
