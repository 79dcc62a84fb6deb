"""7.2a Let a version into production only after its tests.

Two versions are registered, and the newest went into production because it is the newest. Test both on CASES, log the
share of right answers as the metric right in a run of each version, tag the versions tests = passed or tests =
failed, and point the alias production at the newest version that passed.

Run it:   uv run python genai/exercises/gate_first.py
Check:    uv run mlflow-learn check 7.2a
Look at:  uv run mlflow ui  ->  Models  ->  temperature: its versions, their tags and the alias
Docs:     https://mlflow.org/docs/latest/ml/model-registry/workflow/
"""

from collections.abc import Callable
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.pyfunc.utils import pyfunc

from utils.exercise_cli import exercise_command
from utils.registry import without_notices

NAME, ALIAS = "temperature", "production"
CASES = {0.0: 32.0, 10.0: 50.0, 100.0: 212.0}  # Celsius → Fahrenheit


@pyfunc
def exact(model_input: list[float]) -> list[float]:
    return [celsius * 9 / 5 + 32 for celsius in model_input]


@pyfunc
def quick(model_input: list[float]) -> list[float]:
    return [celsius * 2 + 30 for celsius in model_input]


def register(function: Callable[[list[float]], list[float]]) -> None:
    with mlflow.start_run(run_name=function.__name__), without_notices():
        info = mlflow.pyfunc.log_model(name=NAME, python_model=function, pip_requirements=["mlflow"])
        mlflow.register_model(info.model_uri, NAME)


def release() -> None:
    """What happened before you came. A second time it changes nothing."""
    client = MlflowClient()
    if not mlflow.search_registered_models(filter_string=f"name = '{NAME}'"):
        register(exact)
        register(quick)
        client.set_registered_model_alias(NAME, ALIAS, "2")


def load(version: str) -> Any:
    return mlflow.pyfunc.load_model(f"models:/{NAME}/{version}")


@exercise_command("7.2a")
def main() -> None:
    release()
    # Your turn (1): for each version a run of its own, with the param version and the metric right over CASES.
    # Your turn (2): the tag tests of each version: passed only if every case is right.
    # Your turn (3): the alias production on the newest version that passed.
    with mlflow.start_run(run_name="next-call"):
        version = MlflowClient().get_model_version_by_alias(NAME, ALIAS).version
        click.echo(f"100 °C are {load(str(version)).predict([100.0])[0]:g} °F, says version {version} in production")


if __name__ == "__main__":
    main()
