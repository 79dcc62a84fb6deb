"""1.3 MLflow 2.x and 3.x side by side, and what your own files still hold of 2.x.

New here: which old calls still work with a warning, which fail, and what takes their place.
Run it:   uv run mlflow-migration-check
          uv run mlflow-migration-check --check my_project/
          uv run mlflow-migration-check --check train.py
Look at:  uv run mlflow ui  ->  1-fundamentals  ->  Training runs  ->  migration-check  ->  Artifacts  ->  calls.json
Change:   save one of your older scripts as old.py and check it; which findings would only fail at run time?
Docs:     https://mlflow.org/docs/latest/genai/mlflow-3/

--check reads Python files, executes nothing, prints file:line for each finding and ends with status 1 when there is
one. A line that ends in the comment `# mlflow-2x: on purpose` is left out.
"""

import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow import MlflowClient

from utils.cli import Steps, lesson, show, show_table
from utils.migration import Finding, Report, check_path

NAME = "migration-check"  # of the prompt and of the registered model that the calls make
SCORES = pd.DataFrame({"x": [1.0, 2.0], "truth": [1.0, 2.0], "guess": [1.0, 2.5]})
SCORED: dict[str, Any] = {"data": SCORES, "targets": "truth", "predictions": "guess"}
OLD_FILE = """import mlflow
from langchain.schema.output_parser import StrOutputParser

mlflow.set_tracking_uri("file:./mlruns")
prompt = mlflow.load_prompt("prompts:/summary/1")
mlflow.sklearn.log_model(model, artifact_path="model")
"""
NEW_FILE = """import mlflow
from langchain_core.output_parsers import StrOutputParser

mlflow.set_tracking_uri("sqlite:///mlflow.db")
prompt = mlflow.genai.load_prompt("prompts:/summary/1")
mlflow.sklearn.log_model(model, name="model")
"""


@dataclass(frozen=True)
class Pair:
    """The same wish in 2.x and in 3.x."""

    wish: str
    old: Callable[[], Any]
    new: Callable[[], Any]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    calls: list[dict[str, str]]
    findings: dict[str, int]  # of the old and of the new example


def pairs(model: Any, folder: Path) -> list[Pair]:
    """Each pair is run as it stands: first the old call, then the one that takes its place."""
    client = MlflowClient()
    return [
        Pair(
            "log a model",
            lambda: mlflow.sklearn.log_model(model, artifact_path="old", pip_requirements=[]),  # mlflow-2x: on purpose
            lambda: mlflow.sklearn.log_model(model, name="new", pip_requirements=[]),
        ),
        Pair(
            "register a prompt",
            lambda: mlflow.register_prompt(NAME, "Say {{what}}"),  # mlflow-2x: on purpose
            lambda: mlflow.genai.register_prompt(NAME, "Say {{what}}"),
        ),
        Pair(
            "load a prompt",
            lambda: mlflow.load_prompt(f"prompts:/{NAME}/1"),  # mlflow-2x: on purpose
            lambda: mlflow.genai.load_prompt(f"prompts:/{NAME}/1"),
        ),
        Pair(
            "search for prompts",
            mlflow.search_prompts,  # mlflow-2x: on purpose
            lambda: mlflow.genai.search_prompts(f"name = '{NAME}'"),
        ),
        Pair(
            "name the active model",
            lambda: mlflow.genai.set_active_model(model_name=NAME),  # mlflow-2x: on purpose
            lambda: mlflow.set_active_model(name=NAME),
        ),
        Pair(
            "say which version is in use",
            lambda: client.transition_model_version_stage(f"{NAME}-model", "1", "Staging"),  # mlflow-2x: on purpose
            lambda: client.set_registered_model_alias(f"{NAME}-model", "production", "1"),
        ),
        Pair(
            "search for traces",
            lambda: mlflow.search_traces(experiment_ids=["0"]),  # mlflow-2x: on purpose
            lambda: mlflow.search_traces(locations=["0"]),
        ),
        Pair(
            "score predictions",
            lambda: mlflow.evaluate(**SCORED, model_type="regressor"),  # mlflow-2x: on purpose
            lambda: mlflow.genai.evaluate(data=rows_to_score(), scorers=[exact_scorer()]),
        ),
        Pair(
            "grade answers by a model",
            mlflow.metrics.genai.answer_similarity,  # mlflow-2x: on purpose
            mlflow.genai.scorers.Correctness,
        ),
        Pair(
            "keep runs in a folder",
            lambda: MlflowClient(f"file:{folder / 'mlruns'}").search_experiments(),
            lambda: MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments(),
        ),
        Pair("parse a model's text", import_old_parser, import_new_parser),
        Pair("build an agent", import_old_agent, import_new_agent),
    ]


def rows_to_score() -> list[dict[str, Any]]:
    return [
        {"inputs": {"x": row.x}, "outputs": row.guess, "expectations": {"expected_response": str(row.truth)}}
        for row in SCORES.itertuples()
    ]


def exact_scorer() -> Any:
    @mlflow.genai.scorer
    def same_number(outputs: float, expectations: dict[str, str]) -> bool:
        return float(expectations["expected_response"]) == outputs

    return same_number


def import_old_parser() -> Any:
    from langchain.schema.output_parser import StrOutputParser  # mlflow-2x: on purpose

    return StrOutputParser


def import_new_parser() -> Any:
    from langchain_core.output_parsers import StrOutputParser

    return StrOutputParser


def import_old_agent() -> Any:
    from langchain.agents import AgentExecutor  # type: ignore[attr-defined]  # mlflow-2x: on purpose

    return AgentExecutor


def import_new_agent() -> Any:
    from langchain.agents import create_agent

    return create_agent


@contextmanager
def heard() -> Iterator[list[str]]:
    """What MLflow says during a call: most old calls warn, some only write to the log."""
    said: list[str] = []
    logger, handler = logging.getLogger("mlflow"), logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    kept, logger.handlers = logger.handlers, [handler]
    try:
        # Evaluations also print a notice of several lines.
        with warnings.catch_warnings(record=True) as caught, redirect_stdout(io.StringIO()):
            warnings.simplefilter("always", FutureWarning)
            yield said
            said += [
                str(warning.message)
                for warning in caught
                if "mlflow" in str(warning.message).lower() or "deprecated" in str(warning.message)
            ]
    finally:
        logger.handlers = kept


def try_call(call: Callable[[], Any]) -> str:
    """`works`, `warns: …` or `fails: …`, as it is with the libraries that are installed here."""
    with heard() as said:
        try:
            call()
        except Exception as error:  # noqa: BLE001 that a call fails is what the lesson shows
            return f"fails: {type(error).__name__}: {first_sentence(str(error))}"
    old = [text for text in said if "deprecated" in text or "moved to" in text]
    return f"warns: {first_sentence(old[0])}" if old else "works"


def first_sentence(text: str) -> str:
    """Without the file names that Python adds to an ImportError."""
    return " ".join(text.replace("`", "").split()).split(". ")[0].split(" (/")[0][:120]


def run_pairs() -> list[dict[str, str]]:
    from sklearn.dummy import DummyRegressor

    model = DummyRegressor().fit(SCORES[["x"]], SCORES["truth"])
    client = MlflowClient()
    if not client.search_registered_models(f"name = '{NAME}-model'"):
        client.create_registered_model(f"{NAME}-model")
        client.create_model_version(f"{NAME}-model", mlflow.get_artifact_uri("new"))
    with tempfile.TemporaryDirectory() as folder:
        tried = [
            {"to": pair.wish, "in 2.x": try_call(pair.old), "in 3.x": try_call(pair.new)}
            for pair in pairs(model, Path(folder))
        ]
    mlflow.clear_active_model()  # one of the calls set it
    return tried


def check_examples() -> dict[str, Report]:
    """The check on a file of 2.x and on the same file after the move."""
    with tempfile.TemporaryDirectory() as folder:
        reports = {}
        for name, text in (("old.py", OLD_FILE), ("new.py", NEW_FILE)):
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            reports[name] = check_path(path)
    return reports


def finding_text(finding: Finding) -> str:
    return f"{finding.line}: {finding.old} -> {finding.new}"


def lines_of(report: Report) -> list[str]:
    """file:line, what stands there, and what takes its place; unreadable files last."""
    found = [f"{f.path}:{finding_text(f)}" for f in report.findings]
    return [*found, *(f"{path}: not checked, {reason}" for path, reason in report.unreadable)]


def run() -> Outcome:
    steps = Steps(2)
    with mlflow.start_run(run_name="migration-check") as active:
        # 1. Old and new calls, each run as it stands
        calls = run_pairs()
        verdicts = [call["in 2.x"].split(":")[0] for call in calls]
        steps(f"{len(calls)} calls of 2.x: {verdicts.count('warns')} warn, {verdicts.count('fails')} fail")
        show_table(calls)
        mlflow.log_table(pd.DataFrame(calls), "calls.json")

        # 2. The check, on a file of its own that has to move and on one that has moved
        reports = check_examples()
        findings = {name: len(report.findings) for name, report in reports.items()}
        listed = "\n".join(f"      old.py:{finding_text(f)}" for f in reports["old.py"].findings)
        steps(f"--check on an example: {findings['old.py']} findings before, {findings['new.py']} after\n{listed}")
        mlflow.log_metrics(
            {"old_calls_that_warn": verdicts.count("warns"), "old_calls_that_fail": verdicts.count("fails")}
        )
        mlflow.log_metrics({"findings_in_old_file": findings["old.py"], "findings_in_new_file": findings["new.py"]})
    return Outcome(active.info.run_id, calls, findings)


def check(path: Path) -> int:
    """Print what --check found. Returns the exit status: 1 where something has to move or could not be read."""
    report = check_path(path)
    for line in lines_of(report):
        click.echo(line)
    click.echo(f"{report.files} files, {len(report.findings)} findings, {len(report.unreadable)} not readable")
    return int(bool(report.findings or report.unreadable))


@lesson("1.3")
@click.option("--check", "path", type=click.Path(path_type=Path), help="Check your own file or folder, and do no more.")
def main(path: Path | None) -> int:
    if path:
        return check(path)
    outcome = run()
    measured = {f"findings_{name.removesuffix('.py')}_file": number for name, number in outcome.findings.items()}
    failing = sum(call["in 2.x"].startswith("fails") for call in outcome.calls)
    show("1.3", {"calls": len(outcome.calls), "old_calls_that_fail": failing, **measured}, run_id=outcome.run_id)
    return 0


if __name__ == "__main__":
    main()
