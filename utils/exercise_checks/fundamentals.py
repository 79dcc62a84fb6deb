"""Module 1: models with an honest score, and checkpoints."""

from typing import TYPE_CHECKING

from utils.exercise_checks.common import exercise_runs, first_lack, models_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric, Run

LEAST_CHECKPOINTS = 3
BASELINE = "DummyRegressor"


def find_own_regressor(client: "MlflowClient", experiments: list[str]) -> str | None:
    """1.1a: a logged model of the learner's own, and its rmse on data that it was not trained on."""

    def lacks(run: "Run") -> str | None:
        name, regressor = run.info.run_name, run.data.params.get("regressor")
        if regressor in (None, BASELINE):
            return f"the run {name} trained no regressor of your own: its parameter regressor is {regressor}"
        models = models_of(client, run)
        if not models:
            return f"the run {name} has no logged model: call mlflow.sklearn.log_model inside it"
        return first_lack(models, lambda model: _lacks_honest_rmse(model, run))

    return first_lack(exercise_runs(client, experiments, "1.1a"), lacks)


def find_best_checkpoint(client: "MlflowClient", experiments: list[str]) -> str | None:
    """1.1b: checkpoints of one run with their steps and rmse, and the tag best on the one with the lowest."""

    def lacks(run: "Run") -> str | None:
        models, name = models_of(client, run), run.info.run_name
        if len(models) < LEAST_CHECKPOINTS:
            return f"the run {name} has {len(models)} logged models: log at least {LEAST_CHECKPOINTS} checkpoints in it"
        steps = {output.step for output in run.outputs.model_outputs}
        if len(steps) < len(models):
            return (
                f"{len(models)} checkpoints of the run {name} share {len(steps)} steps: give log_model each its step="
            )
        scores = {model.model_id: rmse.value for model in models if (rmse := _rmse(model))}
        if without := [model.model_id for model in models if model.model_id not in scores]:
            return f"the checkpoint {without[0]} has no rmse: give mlflow.log_metric its model_id="
        tagged = [model.model_id for model in models if model.tags.get("best", "").lower() == "true"]
        return _lacks_best_tag(tagged, scores, str(name))

    return first_lack(exercise_runs(client, experiments, "1.1b"), lacks)


def _rmse(model: "LoggedModel") -> "Metric | None":
    return next((metric for metric in model.metrics or [] if metric.key == "rmse"), None)


def _lacks_honest_rmse(model: "LoggedModel", run: "Run") -> str | None:
    rmse = _rmse(model)
    if rmse is None:
        return f"the logged model {model.name} has no rmse: give mlflow.log_metrics its model_id="
    if rmse.dataset_digest is None:
        return f"the rmse of {model.name} names no dataset: give mlflow.log_metrics the held-out one as dataset="
    inputs = [(item.dataset.digest, {tag.value for tag in item.tags}) for item in run.inputs.dataset_inputs]
    trained_on = {digest for digest, contexts in inputs if "training" in contexts}
    if not trained_on:
        return f"the run {run.info.run_name} names no training data: mlflow.log_input(…, context='training')"
    if rmse.dataset_digest in trained_on:
        return f"the rmse of {model.name} was measured on {rmse.dataset_name}, on which it was trained"
    return None


def _lacks_best_tag(tagged: list[str], scores: dict[str, float], run_name: str) -> str | None:
    if len(tagged) != 1:
        return f"{len(tagged)} checkpoints of the run {run_name} carry the tag best = true: tag one"
    best = min(scores, key=scores.__getitem__)
    if scores[tagged[0]] > scores[best]:
        return f"{tagged[0]} is tagged best (rmse {scores[tagged[0]]:.2f}), but {best} has {scores[best]:.2f}"
    return None
