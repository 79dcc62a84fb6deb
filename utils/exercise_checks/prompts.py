"""Module 3: prompts in the registry."""

from typing import TYPE_CHECKING

from utils.exercise_checks.common import NOT_RUN, exercise_runs, first_lack, linked_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import PromptVersion

TICKETS, GREETING, IN_USE = "ticket-triage", "support-greeting", "production"
FIELDS = {"sentiment", "reason"}


def find_ticket_chat(client: "MlflowClient", experiments: list[str]) -> str | None:
    """3.1a: a chat prompt with a schema, loaded inside a run that counts its valid answers."""

    def lacks(run: "Run") -> str | None:
        version = linked_version(run, TICKETS)
        if version is None:
            return f"the run {run.info.run_name} is linked to no version of {TICKETS}: load the prompt inside it"
        prompt = client.get_prompt_version(TICKETS, str(version))
        if wrong := _lacks_chat(prompt):
            return wrong
        tickets, valid = (run.data.metrics.get(name, 0) for name in ("tickets", "valid_answers"))
        if not tickets or valid < tickets:
            return f"{valid:.0f} of {tickets:.0f} answers of the run {run.info.run_name} are valid"
        return None

    return first_lack(exercise_runs(client, experiments, "3.1a"), lacks)


def find_roll_back(client: "MlflowClient", experiments: list[str]) -> str | None:
    """3.1b: the alias on an older version, the newest one withdrawn, and a run that used what the alias says."""
    from mlflow.exceptions import MlflowException

    runs = exercise_runs(client, experiments, "3.1b")
    if not runs:
        return NOT_RUN
    try:
        in_use = client.get_prompt_version_by_alias(GREETING, IN_USE)
    except MlflowException:
        return f"the alias {IN_USE} of {GREETING} points at no version"
    newest = max(client.search_prompt_versions(GREETING), key=lambda version: int(version.version))
    if int(in_use.version) == int(newest.version):
        return f"{IN_USE} points at version {newest.version} of {GREETING}, the newest: point it at the one before"
    if newest.tags.get("status") != "withdrawn":
        return f"version {newest.version} of {GREETING} has no tag status = withdrawn"
    if linked_version(runs[0], GREETING) != int(in_use.version):
        return f"the newest run did not load version {in_use.version} of {GREETING}, at which {IN_USE} points"
    return None


def _lacks_chat(prompt: "PromptVersion") -> str | None:
    where = f"version {prompt.version} of {TICKETS}"
    if prompt.is_text_prompt:
        return f"{where} is a text prompt: give register_prompt a list of messages"
    roles = [message["role"] for message in prompt.template]
    if not {"system", "user"} <= set(roles):
        return f"{where} has the roles {', '.join(roles)}: it needs a system and a user message"
    if "ticket" not in prompt.variables:
        return f"{where} has no variable {{{{ticket}}}}"
    schema = prompt.response_format or {}
    if not set(schema.get("properties", {})) >= FIELDS:
        return f"{where} has no response_format with the fields {' and '.join(sorted(FIELDS))}"
    return None
