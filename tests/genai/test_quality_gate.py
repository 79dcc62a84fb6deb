"""6.7 on stores of its own: both verdicts, what is missing never passes, and broken parts are refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from genai.evaluation import quality_gate
from genai.evaluation.quality_gate import (
    PROMPT,
    TEMPLATE,
    find_baseline,
    found,
    judge,
    main,
    parse,
    right,
)
from tests.conftest import ROOT
from utils.errors import CheckFailed
from utils.gate_decision import parse_floors
from utils.gate_rows import build_rows
from utils.questions import QUESTIONS, load_questions

# Questions that the mock answers right in a whole sentence: few rows are enough to see a fall.
SURE = ("q01", "q10", "q14", "q15", "q18", "q19", "q22", "q23", "q24", "q31")
ROWS, FEW = len(SURE), 4
WORKFLOW = ROOT / ".github" / "workflows" / "quality-gate.yml"


def all_runs(filter_string=""):
    client = MlflowClient()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, filter_string)


@pytest.fixture(scope="module")
def sure(tmp_path_factory):
    """A questions file."""
    lines = [line for line in QUESTIONS.read_text(encoding="utf-8").splitlines() if json.loads(line)["id"] in SURE]
    path = tmp_path_factory.mktemp("questions") / "sure.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(run_lesson, sure):
    """The lesson as it runs without a baseline, on few rows."""
    return run_lesson(main, "--questions", sure)


@pytest.fixture
def opened(done):
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("6-evaluation")
    return done


@pytest.fixture(scope="module")
def few(run_lesson):
    """A baseline of a few rows."""
    return run_lesson(main, "--record", "--num-rows", FEW)


@pytest.fixture
def guarded(few, tmp_path, run_command):
    """Guard with a copy of the store of a few rows."""

    def guard(*flags):
        path = tmp_path / "guarded.db"
        shutil.copy(few.path, path)
        where = ("--tracking-uri", f"sqlite:///{path}", "--baseline", "latest")
        return run_command(main, *where, "--num-rows", FEW, *flags)

    return guard


# --- both verdicts


def test_one_candidate_passes_and_one_is_refused(opened):
    (baseline,) = all_runs("tags.gate = 'baseline'")
    runs = {run.info.run_name: run for run in all_runs() if "gate.verdict" in run.data.tags}
    assert {name: run.data.tags["gate.verdict"] for name, run in runs.items()} == {
        "reworded": "passed", "shorter": "refused",
    }  # fmt: skip
    assert {run.data.tags["gate.baseline"] for run in runs.values()} == {baseline.info.run_id}
    shorter = runs["shorter"].data.metrics
    assert shorter["gate.right.p"] < 0.05 and shorter["gate.right.high"] < 0
    assert shorter["right/mean"] < baseline.data.metrics["right/mean"]
    assert shorter["found/mean"] == baseline.data.metrics["found/mean"], "the retriever is the same"
    assert "Candidate reworded: passes" in opened.output and "Candidate shorter: right fell from" in opened.output


def test_the_rows_that_fell_are_kept_and_are_those_of_the_traces(opened):
    (refused,) = all_runs("tags.`gate.verdict` = 'refused'")
    table = mlflow.load_table("worse_rows.json", run_ids=[refused.info.run_id])
    (baseline,) = all_runs("tags.gate = 'baseline'")
    right_before, right_now = (right_questions(run.info.run_id) for run in (baseline, refused))
    assert set(table[table["scorer"] == "right"]["fell"]) == right_before - right_now != set()
    assert refused.data.metrics["gate.right.worse"] == len(right_before - right_now)


def right_questions(run_id):
    traces = mlflow.search_traces(run_id=run_id, max_results=100, return_type="list")
    scored = {root(trace).inputs["question"]: value(trace, "right") for trace in traces}
    assert len(scored) == ROWS
    return {question for question, is_right in scored.items() if is_right}


def root(trace):
    (span,) = [span for span in trace.data.spans if span.parent_id is None]
    return span


def value(trace, scorer):
    (given,) = [item for item in trace.info.assessments if item.name == scorer]
    return given.value


def test_each_answer_is_a_trace_of_its_retriever_its_model_and_its_parser(opened):
    (baseline,) = all_runs("tags.gate = 'baseline'")
    for trace in mlflow.search_traces(run_id=baseline.info.run_id, max_results=100, return_type="list"):
        kinds = [span.span_type for span in trace.data.spans]
        assert sorted(kinds) == ["CHAIN", "CHAT_MODEL", "PARSER", "RETRIEVER"]
        assert trace.info.tags["lesson"] == "6.7" and f'"name": "{PROMPT}"' in trace.info.tags["mlflow.linkedPrompts"]


# --- a guard in CI: what is not there does not pass


def test_the_same_version_passes_and_says_against_what(guarded):
    result = guarded()
    assert result.exit_code == 0, result.output
    assert re.search(r"Version 1 by mock-small against baseline [0-9a-f]{32} by mock-small", result.output)
    (candidate,) = all_runs("tags.`gate.verdict` = 'passed'")
    assert candidate.info.status == "FINISHED"


def says_no(result, said):
    lines = result.stderr.strip().splitlines()
    problem, cure = lines[-2:]  # MLflow may have warned before
    assert result.exit_code == 1 and cure.startswith("try:   "), (result.output, result.stderr)
    assert problem.startswith("error: ") and said in problem, problem
    assert all_runs("tags.`gate.verdict` = 'passed'") == []


@pytest.mark.parametrize("name", ["latest", "0" * 32, "no-run"])
def test_without_a_baseline_nothing_passes(store, run_command, name):
    says_no(run_command(main, "--baseline", name, "--num-rows", FEW), "there is no baseline")


def test_a_run_that_is_no_baseline_and_one_that_was_deleted(opened):
    (baseline,) = all_runs("tags.gate = 'baseline'")
    (other,) = all_runs("tags.`gate.verdict` = 'passed'")
    assert find_baseline("latest").info.run_id == find_baseline(baseline.info.run_id).info.run_id
    with pytest.raises(CheckFailed, match="no recorded baseline"):
        find_baseline(other.info.run_id)
    mlflow.delete_run(baseline.info.run_id)
    try:
        for name in (baseline.info.run_id, "latest"):
            with pytest.raises(CheckFailed, match="baseline"):
                find_baseline(name)
    finally:
        MlflowClient().restore_run(baseline.info.run_id)


def test_missing_rows(guarded):
    says_no(guarded("--num-rows", FEW - 1), f"1 of the baseline's {FEW} rows have no score right")


def test_a_missing_scorer(guarded, monkeypatch):
    monkeypatch.setattr(quality_gate, "SCORERS", [right, found])
    says_no(guarded(), "the candidate was not scored by cited")


def test_a_scorer_that_fails_on_a_row(guarded, monkeypatch):
    @mlflow.genai.scorer(name="cited")
    def broken(outputs):
        raise ValueError("no such column")

    monkeypatch.setattr(quality_gate, "SCORERS", [right, found, broken])
    says_no(guarded(), "cited gave no value for row")


def test_a_baseline_that_lost_a_row(few, tmp_path):
    shutil.copy(few.path, tmp_path / "lost.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/lost.db")
    mlflow.set_experiment("6-evaluation")
    (run,) = all_runs("tags.gate = 'baseline'")
    assert judge(run.info.run_id, run.info.run_id, {}, 0.05).refusals == []
    (trace,) = mlflow.search_traces(run_id=run.info.run_id, max_results=1, return_type="list")
    MlflowClient().delete_traces(run.info.experiment_id, trace_ids=[trace.info.trace_id])
    with pytest.raises(CheckFailed, match=f"{FEW - 1} traces for {FEW} rows"):
        judge(run.info.run_id, run.info.run_id, {}, 0.05)


def test_a_floor(guarded):
    result = guarded("--at-least", "right=1", "--at-least", "found=0.5")
    says_no(result, "right is 0.500, below its floor of 1.000")
    assert "found" not in result.stderr


def test_nothing_is_recorded_that_was_not_scored(store, run_command):
    result = run_command(main, "--record", "--num-rows", FEW, "--mock-faults", "500:1")
    assert result.exit_code == 1 and all_runs("tags.gate = 'baseline'") == []


# --- mutations


def break_prompt(_monkeypatch):
    mlflow.genai.register_prompt(name=PROMPT, template=TEMPLATE.replace("{{passages}}\n\n", ""))
    return ("--prompt-version", max(int(v.version) for v in MlflowClient().search_prompt_versions(PROMPT)))


def break_retriever(monkeypatch):
    def worst_first(index, question):
        return [replace(each, document="bananas.md", text="Bananas are yellow.") for each in kept(index, question)]

    kept = quality_gate.retrieve
    monkeypatch.setattr(quality_gate, "retrieve", worst_first)
    return ()


def break_parser(monkeypatch):
    monkeypatch.setattr(quality_gate, "SOURCE", re.compile(r"\s*\(([^()]+)\)"))  # other brackets than the prompt asks
    return ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutation", "said"),
    [(break_prompt, "right fell"), (break_retriever, "found fell"), (break_parser, "cited fell")],
    ids=["prompt", "retriever", "parser"],
)
def test_a_broken_part_is_refused(done, sure, tmp_path, run_command, monkeypatch, mutation, said):
    shutil.copy(done.path, tmp_path / "mutated.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mutated.db")
    flags = ("--tracking-uri", f"sqlite:///{tmp_path}/mutated.db", "--baseline", "latest", "--questions", sure)
    result = run_command(main, *flags, *mutation(monkeypatch))
    assert result.exit_code == 1 and said in result.stderr, (result.output, result.stderr)
    monkeypatch.undo()
    assert run_command(main, *flags, "--prompt-version", 1).exit_code == 0, "mended, it passes again"


# --- parts


@pytest.mark.parametrize(
    ("reply", "answer", "source"),
    [
        ("It is 5000. [a.md]", "It is 5000.", "a.md"),
        ("It is 5000 [a.md].", "It is 5000.", "a.md"),
        ("Use x[0] [ a.md ]", "Use x[0]", "a.md"),
        ("It is 5000.", "It is 5000.", None),
        ("", "", None),
        ("[a.md]", "", "a.md"),
        ("[]", "[]", None),
    ],
)
def test_the_parser(reply, answer, source):
    with mlflow.tracing.context(enabled=False):
        assert parse(reply) == {"answer": answer, "source": source}


def test_rows_are_known_by_what_they_ask_and_expect():
    questions = load_questions()
    rows = build_rows(questions, None)
    numbers = [row["inputs"]["row"] for row in rows]
    assert len(set(numbers)) == len(questions) == len(rows)
    assert [row["inputs"]["row"] for row in build_rows(questions[::-1], None)] == numbers[::-1]
    changed = build_rows([replace(questions[0], expected_answer="other")], None)
    assert changed[0]["inputs"]["row"] not in numbers


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--record", "--baseline", "latest"), "do not go together"),
        (("--at-least", "right"), "--at-least right=0.5"),
        (("--at-least", "right=2"), "--at-least right=0.5"),
        (("--at-least", "other=0.5"), "--at-least other=0.5"),
        (("--at-least", "right=nan"), "not understood"),
        (("--alpha", 0), "--alpha"),
        (("--num-rows", 1), "--num-rows"),
        (("--record", "--prompt-version", 9), "no version 9"),
        (("--llm-type", "openai"), "OPENAI_API_KEY"),
        (("--docs-path", "no-such-folder"), "no-such-folder"),
    ],
)
def test_wrong_use(refused, store, flags, said):
    assert said in refused(main, *flags)
    assert all_runs() == []


def test_a_question_that_comes_twice(refused, store, tmp_path):
    (tmp_path / "twice.csv").write_text("question,gold_document,expected_answer\na?,a.md,b\na?,a.md,b\n")
    assert "comes twice" in refused(main, "--questions", tmp_path / "twice.csv")


def test_floors_of_one_and_none():
    assert parse_floors(("right=1", "found=0", "cited=0.25"), ("right", "found", "cited")) == {
        "right": 1.0,
        "found": 0.0,
        "cited": 0.25,
    }


# --- the workflow, and the gate as a test


def steps():
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert "pull_request" in workflow[True], "YAML reads the key `on` as true"
    assert workflow["permissions"] == {"contents": "read"}
    return [step for step in workflow["jobs"]["gate"]["steps"] if "run" in step]


def test_the_workflow_records_the_base_and_guards_the_change():
    lines = [line for step in steps() for line in step["run"].splitlines() if line.startswith("uv run ")]
    assert lines == ["uv run mlflow-quality-gate --record", "uv run mlflow-quality-gate --baseline latest"]
    for line in lines:
        main.make_context("mlflow-quality-gate", line.split()[3:])


@pytest.mark.slow
@pytest.mark.parametrize(("change", "status"), [("", 0), ("break", 1)])
def test_the_workflows_own_steps_pass_the_same_code_and_refuse_a_worse_one(sure, tmp_path, change, status):
    """In a clone, with a stand-in for uv that runs the clone's own files in this environment."""
    clone, tools = tmp_path / "clone", tmp_path / "bin"
    tools.mkdir()
    (tools / "uv").write_text(
        f'#!/bin/sh\nshift 2\nexec "{sys.executable}" -m genai.evaluation.quality_gate "$@" --questions {sure}\n'
    )
    (tools / "uv").chmod(0o755)
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", "clone", "-q", "--local", str(ROOT), str(clone)], check=True)
    base = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True).stdout.strip()
    if change:
        file = clone / "genai" / "evaluation" / "quality_gate.py"
        text = file.read_text(encoding="utf-8")
        file.write_text(
            text.replace('{"answer": (reply[: last.start()] + reply[last.end() :]).strip(),', '{"answer": "",')
        )
        assert file.read_text(encoding="utf-8") != text
    (clone / "note.txt").write_text("a change")
    subprocess.run([*git, "add", "-A"], cwd=clone, check=True)
    subprocess.run([*git, "commit", "-qm", "A change"], cwd=clone, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True).stdout.strip()
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("MLFLOW_", "PYTEST_"))}
    environment = {**kept, "PATH": f"{tools}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path)}
    environment |= {"BASE_SHA": base, "GITHUB_SHA": head, "GITHUB_ENV": str(tmp_path / "env")}
    for step in steps():
        answer = subprocess.run(
            ["bash", "-e", "-c", step["run"]], cwd=clone, env=environment, capture_output=True, text=True
        )
        if Path(environment["GITHUB_ENV"]).exists():
            written = Path(environment["GITHUB_ENV"]).read_text().split()
            environment |= dict(line.split("=", 1) for line in written)
        if step["name"] != "Gate":
            assert answer.returncode == 0, answer.stderr
    assert answer.returncode == status, (answer.stdout, answer.stderr)
    assert not change or "right fell" in answer.stderr


@pytest.mark.slow
def test_the_gate_as_a_test_passes_the_same_version_and_fails_a_worse_one(done, sure, tmp_path):
    shutil.copy(done.path, tmp_path / "mlflow.db")
    for version, status in (("1", 0), ("3", 1)):  # of the lesson: TEMPLATE and SHORTER
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
        environment |= {"QUALITY_GATE_PROMPT_VERSION": version, "QUALITY_GATE_QUESTIONS": str(sure)}
        asked = [sys.executable, "-m", "pytest", "-p", "mlflow.pytest.plugin", "tests/genai/gate_tests.py"]
        answer = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert answer.returncode == status, answer.stdout
    assert "right fell from" in answer.stdout
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    sessions = [run for run in all_runs() if "mlflow.test.session_id" in run.data.tags]
    assert sorted(run.info.status for run in sessions) == ["FAILED", "FINISHED"]
