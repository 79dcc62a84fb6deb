"""7.2 None, staging, production: aliases that move only after the tests, and back in one step.

New here: MLflow's old stages are gone; an alias is a name that points at one version, and you write the rules.
Run it:   uv run mlflow-promote-agent
          uv run mlflow-promote-agent --candidate 2 --least-right 0.6
          uv run mlflow-promote-agent --history
          uv run mlflow-promote-agent --rollback
Look at:  uv run mlflow ui  ->  7-production  ->  Evaluation runs: gate-version-1 and gate-version-2, press Compare
Change:   set --tolerance 0.5 on a store where version 2 is in production: is version 1 still refused?
Docs:     https://mlflow.org/docs/latest/ml/model-registry/workflow/
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import SpanType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from utils.cli import Steps, lesson, show, show_table
from utils.document_files import list_documents
from utils.errors import CheckFailed, InputError
from utils.evaluation import expected_in_answer, is_declined
from utils.genai_evaluation import quiet_evaluation, read_scores
from utils.lesson_context import tagged_in_threads
from utils.promotion import Gate, Move, Verdict, read_history, with_move
from utils.questions import load_questions, spread
from utils.registry import logged_model_id

NAME, STAGING, PRODUCTION = "docs-agent", "staging", "production"
HISTORY = "history"  # tag of the registered model: who stood where, and when
BEFORE = "previous_production"  # tag of the registered model: where a rollback leads
SCORERS = ("right", "found")


@dataclass(frozen=True)
class Outcome:
    """verdicts: by version, in the order in which they were judged. rollback_ms: None where nothing was taken back."""

    run_id: str
    trace_id: str
    verdicts: list[tuple[str, Verdict]]
    in_production: str | None
    rollback_ms: float | None = None


def number_of(version: ModelVersion | None) -> str | None:
    """As tags, aliases and commands write it; a SQL store gives an int."""
    return str(version.version) if version else None


def version_of(alias: str) -> ModelVersion | None:
    """Asked of the store each time: `search_model_versions` leaves the aliases out."""
    aliases = MlflowClient().get_registered_model(NAME).aliases
    return MlflowClient().get_model_version_by_alias(NAME, alias) if alias in aliases else None


def newest_versions(number: int) -> list[ModelVersion]:
    """The newest ones, oldest first.

    Raises:
        InputError: nothing is registered yet.
    """
    found = mlflow.search_model_versions(filter_string=f"name = '{NAME}'", order_by=["version_number DESC"])
    if not found:
        raise InputError(f"no version of {NAME} is registered in this store", "uv run mlflow-register-agent")
    return list(reversed(found[:number]))


@mlflow.genai.scorer
def right(outputs: str, expectations: dict[str, Any]) -> bool:
    """The expected words are in the answer; where no document holds it, the answer says so."""
    if not expectations["gold_document"]:
        return is_declined(outputs)
    return expected_in_answer(outputs, expectations["expected_response"]) and not is_declined(outputs)


@mlflow.genai.scorer
def found(trace: Any, expectations: dict[str, Any]) -> bool:
    """The document that holds the answer is among the passages; nothing is to be found where none does."""
    (span,) = trace.search_spans(span_type=SpanType.RETRIEVER)
    documents = {page["metadata"]["doc_uri"] for page in span.outputs}
    return not expectations["gold_document"] or expectations["gold_document"] in documents


class Tests:
    """The same rows for every version, each version judged once."""

    def __init__(self, num_rows: int, questions: Path | None) -> None:
        self.num_rows, self.questions = num_rows, questions
        self.rows: list[dict[str, Any]] = []
        self.scores: dict[str, dict[str, list[bool]]] = {}

    def of(self, version: ModelVersion) -> dict[str, list[bool]]:
        if version.version not in self.scores:
            agent = mlflow.pyfunc.load_model(f"models:/{NAME}/{version.version}")
            self.rows = self.rows or self.build_rows(documents_of(version))
            self.scores[version.version] = judge(version, agent, self.rows)
        return self.scores[version.version]

    def build_rows(self, documents: set[str]) -> list[dict[str, Any]]:
        """Questions about the agent's documents; some have no answer in them."""
        known = [q for q in load_questions(self.questions) if q.gold_document is None or q.gold_document in documents]
        if not any(question.gold_document for question in known):
            problem = f"no question has its gold document among the documents of {NAME}"
            raise InputError(problem, "--questions FILE (question, gold_document, expected_answer)")
        return [
            {
                "inputs": {"row": row, "question": each.question},
                "expectations": {"expected_response": each.expected_answer, "gold_document": each.gold_document or ""},
            }
            for row, each in enumerate(spread(known, self.num_rows, seed=7))
        ]


def documents_of(version: ModelVersion) -> set[str]:
    """The names of the documents inside."""
    folder = mlflow.artifacts.download_artifacts(f"models:/{NAME}/{version.version}")
    return {file.name for file in list_documents(Path(folder) / "artifacts" / "documents")}


def judge(version: ModelVersion, agent: Any, rows: list[dict[str, Any]]) -> dict[str, list[bool]]:
    """One evaluation run. A row without a score ends the command, and no alias has moved.

    Raises:
        CheckFailed: not every row has a trace and a value of every scorer.
    """

    @tagged_in_threads
    @mlflow.trace(name="gate-question", span_type=SpanType.CHAIN)
    def ask(row: int, question: str) -> str:  # noqa: ARG001 `row` finds the score again
        reply = agent.predict({"input": [{"role": "user", "content": question}]})
        return str(reply["output"][0]["content"][0]["text"])

    mlflow.llama_index.autolog(disable=True)  # evaluate would switch it on, beside the agent's own spans
    with mlflow.start_run(run_name=f"gate-version-{version.version}", nested=True) as active, quiet_evaluation():
        mlflow.log_params({"version": version.version, "rows": len(rows)})
        mlflow.genai.evaluate(data=rows, predict_fn=ask, scorers=[right, found], model_id=logged_model_id(version))
    mlflow.flush_trace_async_logging()
    scores = {name: read_scores(active.info.run_id, name, len(rows)) for name in SCORERS}
    MlflowClient().set_model_version_tag(NAME, version.version, "gate_run", active.info.run_id)
    return {name: [bool(values[row]) for row in range(len(rows))] for name, values in scores.items()}


def move(alias: str, version: str, why: str) -> None:
    """One call moves the alias; what it meant, and where it pointed before, is written beside it."""
    client, came_from = MlflowClient(), number_of(version_of(alias))
    client.set_registered_model_alias(NAME, alias, version)
    if alias == PRODUCTION and came_from not in (None, version):
        client.set_registered_model_tag(NAME, BEFORE, came_from)
    made = Move(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), alias, came_from, str(version), why)
    tags = client.get_registered_model(NAME).tags
    client.set_registered_model_tag(NAME, HISTORY, with_move(tags.get(HISTORY, "[]"), made))


def roll_back() -> tuple[str, str, float]:
    """Production points at the version before: one step, without tests, since it has passed them once.

    Returns:
        The version that was left, the one in production now, and the milliseconds until the store said so.

    Raises:
        InputError: nothing was promoted yet that could be taken back.
    """
    left, begun = number_of(version_of(PRODUCTION)), time.monotonic()
    before = MlflowClient().get_registered_model(NAME).tags.get(BEFORE)
    if left is None or before is None:
        raise InputError(
            "production has pointed at one version only: there is no way back", "uv run mlflow-promote-agent"
        )
    try:
        move(PRODUCTION, before, "rolled back")
    except MlflowException as error:
        problem = f"version {before} of {NAME}, the one before, is gone"
        raise InputError(problem, "uv run mlflow-promote-agent --history, and --candidate N") from error
    now = number_of(version_of(PRODUCTION))
    took_ms = (time.monotonic() - begun) * 1000
    if now != before:
        raise CheckFailed(f"production does not point at version {before}", "uv run mlflow-promote-agent --history")
    return left, before, took_ms


def propose(version: ModelVersion, tests: Tests, gate: Gate) -> Verdict:
    """Into staging, through the tests, and only then into production."""
    move(STAGING, str(version.version), "to be tested")
    scores, current = tests.of(version), version_of(PRODUCTION)
    rival = tests.of(current)["right"] if current and current.version != version.version else None
    verdict = gate.decide(scores["right"], rival)
    MlflowClient().set_model_version_tag(NAME, version.version, "gate", "passed" if verdict.passed else "refused")
    if verdict.passed:
        move(PRODUCTION, str(version.version), verdict.reason)
    found_share = sum(scores["found"]) / len(scores["found"])
    mlflow.log_metrics(
        {f"right_version_{version.version}": verdict.share, f"found_version_{version.version}": found_share}
    )
    return verdict


def describe(version: str, verdict: Verdict) -> str:
    return f"Version {version} {'goes into production' if verdict.passed else 'is refused'}: {verdict.reason}"


def run(tests: Tests, gate: Gate) -> Outcome:
    """Both verdicts, on the two newest versions: the newer replaces the older, and the older may not come back."""
    versions = newest_versions(2)
    order = [*versions, *versions[:1]] if len(versions) == 2 else versions
    steps = Steps(len(order) + 2)
    with mlflow.start_run(run_name="promote-agent") as active:
        # 1. Each through staging and its tests, into production or not
        verdicts = []
        for version in order:
            verdicts.append((str(version.version), propose(version, tests, gate)))
            steps(describe(*verdicts[-1]))

        # 2. Back in one step, and forward again: an alias does not care which way it moves
        rollback_ms = None
        if BEFORE in MlflowClient().get_registered_model(NAME).tags:
            left, now, rollback_ms = roll_back()
            mlflow.log_metric("rollback_ms", rollback_ms)
            steps(f"Rolled back from version {left} to version {now} in {rollback_ms:.0f} ms, and forward again")
            roll_back()
        else:
            steps("Production has pointed at one version only: nothing to roll back to")

        # 3. Who stood where is written in the registry, not remembered
        steps("The history, as the registry has it")
        show_history()
        in_production = number_of(version_of(PRODUCTION))
        mlflow.log_metrics(
            {"promoted": sum(v.passed for _, v in verdicts), "refused": sum(not v.passed for _, v in verdicts)}
        )
        mlflow.log_param("in_production", in_production)
    return Outcome(active.info.run_id, first_trace(versions[-1]), verdicts, in_production, rollback_ms)


def judge_one(number: str, tests: Tests, gate: Gate) -> Outcome:
    """A candidate of your own against what is in production."""
    try:
        version = MlflowClient().get_model_version(NAME, number)
    except MlflowException as error:
        raise InputError(f"there is no version {number} of {NAME}", "uv run mlflow-register-agent") from error
    with mlflow.start_run(run_name="promote-agent") as active:
        verdict = propose(version, tests, gate)
        click.echo(describe(number, verdict))
        mlflow.log_metrics({"promoted": int(verdict.passed), "refused": int(not verdict.passed)})
    return Outcome(active.info.run_id, first_trace(version), [(number, verdict)], number_of(version_of(PRODUCTION)))


def first_trace(version: ModelVersion) -> str:
    run_id = MlflowClient().get_model_version(NAME, version.version).tags["gate_run"]
    return str(mlflow.search_traces(run_id=run_id, max_results=1, return_type="list")[0].info.trace_id)


def show_history() -> None:
    moves = read_history(MlflowClient().get_registered_model(NAME).tags.get(HISTORY, "[]"))
    show_table([{**asdict(each), "at": each.at.replace("T", " ").rstrip("Z")} for each in moves])


@lesson("7.2")
@click.option("--candidate", metavar="VERSION", help="Test this version; exit 1 when it is refused.")
@click.option("--num-rows", type=click.IntRange(min=2), default=30, show_default=True, help="Questions of the tests.")
@click.option("--questions", type=click.Path(path_type=Path), metavar="FILE", help="Your own questions, CSV or JSONL.")
@click.option("--least-right", type=click.FloatRange(0, 1), default=0.4, show_default=True,
              help="Share of the rows that every version must have right.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Share of the rows by which a candidate may be behind production.")  # fmt: skip
@click.option("--rollback", is_flag=True, help="Only point production back at the version before.")
@click.option("--history", is_flag=True, help="Only show who stood where, and when.")
def main(
    candidate: str | None, num_rows: int, questions: Path | None, least_right: float, tolerance: float,
    rollback: bool, history: bool,
) -> int:  # fmt: skip
    newest_versions(1)  # or there is nothing to promote
    if rollback:
        left, now, took_ms = roll_back()
        click.echo(f"{PRODUCTION} of {NAME}: back from version {left} to version {now} in {took_ms:.0f} ms")
        return 0
    if history:
        show_history()
        return 0
    tests, gate = Tests(num_rows, questions), Gate(least_right, tolerance)
    outcome = judge_one(candidate, tests, gate) if candidate else run(tests, gate)
    measured: dict[str, Any] = {f"right, version {number}": verdict.share for number, verdict in outcome.verdicts}
    measured |= {"in production": outcome.in_production, "rollback_ms": outcome.rollback_ms}
    show("7.2", measured, run_id=outcome.run_id, trace_id=outcome.trace_id, trace_ids=num_rows)
    refused = candidate is not None and not outcome.verdicts[0][1].passed
    return 1 if refused else 0


if __name__ == "__main__":
    main()
