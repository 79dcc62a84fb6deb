"""Module 7: versions that were tested before they went into production."""

from typing import TYPE_CHECKING

from utils.exercise_checks.common import NOT_RUN, exercise_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

TEMPERATURE, ALIAS = "temperature", "production"


def find_gated_alias(client: "MlflowClient", experiments: list[str]) -> str | None:
    """7.2a: every version has a run of its tests and a tag that is true of it; the newest that passed is in use."""
    runs = exercise_runs(client, experiments, "7.2a")
    models = client.search_registered_models(filter_string=f"name = '{TEMPERATURE}'")
    if not runs or not models:
        return NOT_RUN
    found = client.search_model_versions(f"name = '{TEMPERATURE}'")
    versions = sorted(found, key=lambda version: int(version.version))
    passed = []
    for version in versions:
        number = str(version.version)
        own = [run for run in runs if run.data.params.get("version") == number and "right" in run.data.metrics]
        says = version.tags.get("tests")
        if says not in ("passed", "failed"):
            return f"version {number} of {TEMPERATURE} carries no tag tests: passed or failed"
        if not own:
            return f"no run has the param version = {number} and the metric right"
        right = own[0].data.metrics["right"]
        if (says == "passed") != (right == 1):
            return f"version {number} is tagged {says}, but its run says that {right:.2f} of the cases are right"
        passed += [number] if says == "passed" else []
    if len(passed) == len(versions):
        return "every version passed: one of them gives wrong answers, so look at what the runs measured"
    in_use = str(models[0].aliases.get(ALIAS, "none"))
    if not passed or in_use != passed[-1]:
        return f"{ALIAS} points at version {in_use}, and the newest that passed is {passed[-1] if passed else 'none'}"
    return None
