"""What several checks do: find the tries of an exercise, and say what the newest lacks."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run, Trace

T = TypeVar("T")

NOT_RUN = "no finished run of the exercise is in this store yet"
TRIES = 50  # how far back a check looks


def first_lack(tries: Iterable[T], lacks: Callable[[T], str | None]) -> str | None:
    """None when one of the tries lacks nothing, else what the first lacks."""
    found = []
    for each in tries:
        problem = lacks(each)
        if problem is None:
            return None
        found.append(problem)
    return found[0] if found else NOT_RUN


def exercise_runs(client: "MlflowClient", experiments: list[str], number: str) -> list["Run"]:
    """Runs of the exercise that ended well, newest first."""
    wanted = f"tags.exercise = '{number}' AND attributes.status = 'FINISHED'"
    order = ["attributes.start_time DESC"]
    return list(client.search_runs(experiments, wanted, order_by=order, max_results=TRIES)) if experiments else []


def exercise_traces(client: "MlflowClient", experiments: list[str], number: str) -> list["Trace"]:
    """Traces of the exercise with their spans, newest first."""
    if not experiments:
        return []
    found = client.search_traces(
        locations=experiments,
        filter_string=f"tags.exercise = '{number}'",
        order_by=["timestamp_ms DESC"],
        max_results=TRIES,
    )
    return list(found)


def models_of(client: "MlflowClient", run: "Run") -> list["LoggedModel"]:
    wanted = f"source_run_id = '{run.info.run_id}'"
    return list(client.search_logged_models(experiment_ids=[run.info.experiment_id], filter_string=wanted))


def linked_version(run: "Run", name: str) -> int | None:
    """The version of the prompt that the run loaded last; None when it loaded none."""
    linked = json.loads(run.data.tags.get("mlflow.linkedPrompts", "[]"))
    versions = [int(prompt["version"]) for prompt in linked if prompt["name"] == name]
    return versions[-1] if versions else None
