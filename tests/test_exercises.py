"""The exercises: every start runs and its check says what is missing, every solution passes, nothing counts twice."""

import ast
import importlib
import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run, SpanType, Trace

from tests.conftest import ROOT
from tests.stub_server import closed_url
from utils import curriculum
from utils.exercise_checks.agents import REPEATS
from utils.exercise_checks.common import NOT_RUN
from utils.exercise_checks.fundamentals import BASELINE
from utils.exercise_checks.rag import FEEDBACK
from utils.exercise_checks.tracing import REVIEW_PROMPT
from utils.exercises import EXERCISES, Exercise, exercise, next_exercise
from utils.learn import main as learn
from utils.lesson_context import tagged
from utils.progress import Store
from utils.time_limits import OutOfTime

EACH = pytest.mark.parametrize("entry", EXERCISES, ids=lambda entry: entry.id)
WITH_MODEL = [
    entry
    for entry in EXERCISES
    if entry.id in ("2.1a", "2.2a", "3.1a", "4.1a", "4.2a", "4.3a", "4.4a", "5.2b", "8.1a", "8.2a", "8.3a")
]
AT_THE_START = {
    "1.1a": f"trained no regressor of your own: its parameter regressor is {BASELINE}",
    "1.1b": "has 0 logged models: log at least 3 checkpoints",
    "2.1a": "has no span of type PARSER or TOOL",
    "2.2a": "has only version 1: register your wording as the second",
    "3.1a": "is linked to no version of ticket-triage",
    "3.1b": "production points at version 2 of support-greeting, the newest",
    "4.1a": "shows no call of a tool of your own (tools called: none)",
    "4.2a": "SHARPER says the same as VAGUE: write what each tool does",
    "4.3a": f"has no feedback {REPEATS} on its first turn",
    "4.4a": "find_stock was waited for 4.0 seconds",
    "5.2a": "has 0 nested runs: start one with nested=True",
    "5.2b": f"has no feedback {FEEDBACK}",
    "5.5a": "no file was added or changed between the two runs",
    "6.1a": "there is no dataset library-complaints",
    "6.2a": "has neither a value nor an error named right_number",
    "6.7a": "the nested run same has no tag verdict",
    "8.1a": "has no hand-off to a specialist of your own",
    "8.1b": "has no attribute budget.limit, and there are 40 hand-offs below it",
    "7.2a": "version 1 of temperature carries no tag tests",
    "7.3a": "ms: halve it",
    "7.4a": "a member's number stands in the inputs of a span",
    "8.2a": "made 65 calls for 30 distinct texts",
    "8.3a": "0 rows of the run chosen-elsewhere are to choose on and 0 to report on",
    "5.3a": "ranks every question as the vectors alone do: join both rankings",
    "5.4a": "has 1 questions: write at least 10",
}


def load(path: str):
    """The command in an exercise's or a solution's file."""
    return importlib.import_module(path.removesuffix(".py").replace("/", ".")).main


def docstring(path: str) -> str:
    return ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""


def missing(number: str) -> str | None:
    """What the check says about the store in use."""
    asked = Store()
    return exercise(number).check(asked.client, asked.experiment_ids)


@pytest.fixture(scope="module")
def left_by(template_store: Path, tmp_path_factory) -> Callable[[str], tuple[Path, str]]:
    """Run a file once on a store of its own: the store, and what was printed."""
    made: dict[str, tuple[Path, str]] = {}

    def run(path: str) -> tuple[Path, str]:
        if path not in made:
            database = copy(template_store, tmp_path_factory.mktemp("exercise") / "mlflow.db")
            result = CliRunner().invoke(load(path), ["--tracking-uri", f"sqlite:///{database}"])
            assert result.exit_code == 0, (result.output, result.exception)
            made[path] = database, result.output
        return made[path]

    return run


def copy(source: Path, target: Path) -> Path:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    return target


class Left:
    """A copy of what a file left in MLflow, to take something out of it."""

    def __init__(self, database: Path) -> None:
        self.database = database
        mlflow.set_tracking_uri(f"sqlite:///{database}")
        self.client = MlflowClient()

    @property
    def ids(self) -> list[str]:
        return [experiment.experiment_id for experiment in self.client.search_experiments()]

    @property
    def runs(self) -> list[Run]:
        return self.client.search_runs(self.ids)

    @property
    def traces(self) -> list[Trace]:
        return mlflow.search_traces(locations=self.ids, return_type="list")

    def run(self, name: str) -> Run:
        (found,) = [run for run in self.runs if run.info.run_name == name]
        return found

    @property
    def models(self):
        """Logged models, best rmse first."""
        order = [{"field_name": "metrics.rmse", "ascending": True}]
        return self.client.search_logged_models(experiment_ids=self.ids, order_by=order)

    def link(self, run: str, prompt: str, version: int) -> None:
        """As if the run had loaded this version."""
        linked = json.dumps([{"name": prompt, "version": str(version)}])
        self.client.set_tag(self.run(run).info.run_id, "mlflow.linkedPrompts", linked)

    def change(self, statement: str) -> None:
        """What MLflow itself offers no way to take back."""
        with closing(sqlite3.connect(self.database)) as database:
            assert database.execute(statement).rowcount > 0
            database.commit()


@pytest.fixture
def solved(left_by, tmp_path, clean_environment) -> Callable[[str], Left]:
    def give(number: str) -> Left:
        database, _ = left_by(exercise(number).solution)
        left = Left(copy(database, tmp_path / "mlflow.db"))
        assert missing(number) is None
        return left

    return give


# --- the manifest and the files


def test_exercises_stand_in_order_each_beside_its_lesson_and_two_for_every_module_with_lessons():
    ids = [entry.id for entry in EXERCISES]
    assert ids == sorted(set(ids)) and all(re.fullmatch(r"\d\.\d+[a-z]", number) for number in ids)
    assert {entry.lesson.number for entry in EXERCISES} <= {entry.number for entry in curriculum.LESSONS}
    modules = [entry.lesson.module.number for entry in EXERCISES]
    assert {number: modules.count(number) >= 2 for number in modules} == {
        entry.module.number: True for entry in curriculum.LESSONS
    }
    assert [next_exercise(number) for number in ids] == [*EXERCISES[1:], None]


def test_the_files_in_the_exercise_folders_are_those_of_the_manifest():
    folders = [folder / "exercises" for folder in (ROOT / "tracking", ROOT / "spark", ROOT / "genai")]
    files = {path.relative_to(ROOT).as_posix() for folder in folders for path in folder.rglob("*.py")}
    assert {file for file in files if not file.endswith("__init__.py")} == {entry.file for entry in EXERCISES}
    solutions = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "solutions").glob("[!_]*.py")}
    assert solutions == {entry.solution for entry in EXERCISES} and len(solutions) == len(EXERCISES)


@EACH
def test_a_start_says_its_task_how_to_run_it_and_where_to_write(entry):
    text = docstring(entry.file)
    assert text.startswith(f"{entry.id} {entry.title}.\n")
    assert entry.task in " ".join(text.split())
    assert f"Run it:   uv run {entry.command}\n" in text and f"Check:    uv run mlflow-learn check {entry.id}\n" in text
    assert re.search(r"^Look at:  .*^Docs:     https://mlflow\.org/docs/", text, re.M | re.S)
    source = (ROOT / entry.file).read_text(encoding="utf-8")
    assert "# Your turn" in source and 40 <= len(source.splitlines()) <= 90
    assert "# Your turn" not in (ROOT / entry.solution).read_text(encoding="utf-8")


@EACH
def test_the_hints_of_an_exercise_rise_to_places_that_exist(entry):
    assert "?" in entry.hints[0] and "::" in entry.hints[-1] and entry.solution in entry.hints[-1]
    for hint in entry.hints:
        for file, name in re.findall(r"([\w/]+\.py)::(\w+)", hint):
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert name in {getattr(node, "name", "") for node in ast.walk(tree)}, hint


# --- starts and solutions


@EACH
def test_a_start_runs_and_its_check_says_what_is_missing(entry, left_by, run_command):
    database, printed = left_by(entry.file)
    uri = f"sqlite:///{database}"
    assert printed.splitlines()[-1] == f"Check: uv run mlflow-learn --tracking-uri {uri} check {entry.id}"
    result = run_command(learn, "--tracking-uri", uri, "check", entry.id)
    said = result.stdout.splitlines()
    assert result.exit_code == 1
    assert said[0].startswith(f"{entry.id} is open: ") and AT_THE_START[entry.id] in said[0]
    assert said[1] == f"hint: uv run mlflow-learn hint {entry.id}"
    assert said[2].startswith(f"file: {entry.file} ") and len(said) == 3


@EACH
def test_a_solution_passes_its_check_and_no_other(entry, left_by, run_command):
    uri = f"sqlite:///{left_by(entry.solution)[0]}"
    result = run_command(learn, "--tracking-uri", uri, "check", entry.id)
    assert result.exit_code == 0 and f"{entry.id} is done. Found: {entry.proof}\n" in result.stdout
    table = run_command(learn, "--tracking-uri", uri, "check").stdout
    assert dict(re.findall(r"^ (\d\.\d\w) +(done|open) ", table, re.M)) == {
        each.id: "done" if each is entry else "open" for each in EXERCISES
    }


@EACH
def test_an_exercise_is_no_evidence_of_a_lesson(entry, left_by, clean_environment):
    for path in (entry.file, entry.solution):
        mlflow.set_tracking_uri(f"sqlite:///{left_by(path)[0]}")
        found = {each.number: [finding.found for finding in Store().findings(each)] for each in curriculum.LESSONS}
        assert all(not any(counts) for counts in found.values()), found


@EACH
def test_a_later_try_that_fails_takes_nothing_away(entry, solved, run_command):
    left = solved(entry.id)
    before = len(left.runs) + len(left.traces)
    assert run_command(load(entry.file)).exit_code == 0
    assert len(left.runs) + len(left.traces) > before and missing(entry.id) is None


@EACH
def test_runs_that_did_not_end_well_and_deleted_traces_prove_nothing(entry, solved):
    left = solved(entry.id)
    for run in left.runs:
        left.client.set_terminated(run.info.run_id, "FAILED")
    for experiment_id in left.ids:
        left.client.delete_traces(experiment_id, max_timestamp_millis=2**52)
    assert missing(entry.id) == NOT_RUN


@EACH
def test_a_lessons_tag_is_not_an_exercises(entry, store):
    mlflow.set_experiment(entry.lesson.experiment)
    with tagged(lesson=entry.lesson.number), mlflow.start_run(), mlflow.start_span("x"):
        pass
    mlflow.flush_trace_async_logging()
    assert missing(entry.id) == NOT_RUN


@pytest.mark.slow
@EACH
def test_a_start_runs_as_typed_and_prints_no_warning(entry, tmp_path, template_store):
    uri = f"sqlite:///{copy(template_store, tmp_path / 'mlflow.db')}"
    asked = [sys.executable, entry.file, "--tracking-uri", uri]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert answer.returncode == 0 and answer.stderr == "", answer.stderr
    assert f" check {entry.id}\n" in answer.stdout


# --- with one part removed, the sentence is about that part


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"UPDATE params SET value = '{BASELINE}'", "trained no regressor of your own"),
        ("DELETE FROM params", "its parameter regressor is None"),
        ("DELETE FROM logged_model_metrics", "own-regressor has no rmse: give mlflow.log_metrics its model_id="),
        ("UPDATE logged_model_metrics SET dataset_name = NULL, dataset_digest = NULL", "names no dataset"),
        ("DELETE FROM input_tags WHERE value = 'training'", "names no training data"),
        (
            "UPDATE logged_model_metrics SET (dataset_name, dataset_digest) ="
            " (SELECT name, digest FROM datasets WHERE name = 'diabetes-train')",
            "was measured on diabetes-train, on which it was trained",
        ),
    ],
)
def test_own_regressor_lacks(solved, statement, said):
    solved("1.1a").change(statement)
    assert said in (missing("1.1a") or "")


def test_own_regressor_lacks_the_model(solved):
    left = solved("1.1a")
    left.client.delete_logged_model(left.models[0].model_id)
    assert "the run own-regressor has no logged model" in (missing("1.1a") or "")


def test_best_checkpoint_lacks_the_tag(solved):
    left = solved("1.1b")
    best, second = left.models[:2]
    left.client.set_logged_model_tags(second.model_id, {"best": "true"})
    assert "2 checkpoints of the run checkpoints carry the tag" in (missing("1.1b") or "")
    left.client.delete_logged_model_tag(best.model_id, "best")
    assert f"{second.model_id} is tagged best (rmse 55.92), but {best.model_id} has 54.81" in (missing("1.1b") or "")
    left.client.delete_logged_model_tag(second.model_id, "best")
    assert "0 checkpoints of the run checkpoints carry the tag" in (missing("1.1b") or "")


def test_best_checkpoint_lacks_steps_scores_and_checkpoints(solved):
    left = solved("1.1b")
    last = left.models[-1].model_id
    left.change(f"DELETE FROM logged_model_metrics WHERE model_id = '{last}'")
    assert f"the checkpoint {last} has no rmse" in (missing("1.1b") or "")
    left.change("UPDATE inputs SET step = 0 WHERE destination_type = 'MODEL_OUTPUT' OR step > 0")
    assert "4 checkpoints of the run checkpoints share 1 steps" in (missing("1.1b") or "")
    for model in left.models[:2]:
        left.client.delete_logged_model(model.model_id)
    assert "has 2 logged models" in (missing("1.1b") or "")


def write_trace(*, attribute: bool = True, ok: bool = True, failed: bool = True, event: bool = True) -> None:
    """A job of two rows with one part or another left out."""
    with tagged(exercise="2.1a"), mlflow.start_span("job"):
        for fails in [False] * ok + [True] * failed:
            try:
                with mlflow.start_span("read", span_type=SpanType.PARSER) as span:
                    if attribute:
                        span.set_attribute("review.id", "a1")
                    if fails and not event:
                        span.end(status="ERROR")
                    elif fails:
                        raise ValueError("four")
            except ValueError:
                continue
    mlflow.flush_trace_async_logging()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("attribute", "has no attribute that says which review it reads"),
        ("ok", "every PARSER span of the trace"),
        ("failed", "no PARSER span of the trace"),
        ("event", "holds no event named exception"),
    ],
)
def test_failing_row_lacks(store, part, said):
    mlflow.set_experiment("2-tracing")
    write_trace(**{part: False})
    assert said in (missing("2.1a") or "")
    write_trace()
    assert missing("2.1a") is None


def test_a_root_that_is_a_parser_is_no_step_of_a_job(store):
    mlflow.set_experiment("2-tracing")
    with tagged(exercise="2.1a"), mlflow.start_span("read", span_type=SpanType.PARSER) as span:
        span.set_attribute("review.id", "a1")
    mlflow.flush_trace_async_logging()
    assert "below its root" in (missing("2.1a") or "")


def test_better_prompt_lacks_the_alias(solved):
    left = solved("2.2a")
    left.client.set_prompt_alias(REVIEW_PROMPT, "production", 1)
    assert "production points at version 1, but version 2 scored highest (0.833)" in (missing("2.2a") or "")
    left.client.delete_prompt_alias(REVIEW_PROMPT, "production")
    assert f"the alias production of {REVIEW_PROMPT} points at no version" in (missing("2.2a") or "")


def test_better_prompt_lacks_an_improvement(solved):
    left = solved("2.2a")
    left.client.log_metric(left.run("version-1").info.run_id, "accuracy", 0.9)
    assert "production points at version 2, but version 1 scored highest (0.900)" in (missing("2.2a") or "")
    left.client.set_prompt_alias(REVIEW_PROMPT, "production", 1)
    assert "no version beats version 1 (accuracy 0.900)" in (missing("2.2a") or "")


def test_better_prompt_lacks_a_measurement_that_can_be_compared(solved):
    left = solved("2.2a")
    left.client.set_tag(left.run("version-1").info.run_id, "llm_model", "another")
    assert "no run measured the accuracy of version 1 on the same reviews and model" in (missing("2.2a") or "")
    left.client.delete_run(left.run("version-2").info.run_id)
    assert "no run measured the accuracy of version 2" in (missing("2.2a") or "")


def test_better_prompt_lacks_a_version_that_says_what_it_improves(solved):
    left = solved("2.2a")
    first = left.client.get_prompt_version(REVIEW_PROMPT, 1)
    mlflow.genai.register_prompt(REVIEW_PROMPT, "Positive, negative or neutral? {{text}}")
    assert "version 3 of review-sentiment has no commit_message" in (missing("2.2a") or "")
    mlflow.genai.register_prompt(REVIEW_PROMPT, first.template, commit_message="better")
    assert "version 4 of review-sentiment has the same wording as version 1" in (missing("2.2a") or "")
    for version in (4, 3, 2):
        left.client.delete_prompt_version(REVIEW_PROMPT, version)
    assert "has only version 1" in (missing("2.2a") or "")


def test_ticket_chat_lacks_its_schema_its_roles_or_its_answers(solved):
    left = solved("3.1a")
    left.change("UPDATE metrics SET value = 2 WHERE key = 'valid_answers'")
    left.change("UPDATE latest_metrics SET value = 2 WHERE key = 'valid_answers'")
    assert "2 of 3 answers of the run ticket-triage are valid" in (missing("3.1a") or "")
    for template, schema, said in (
        ([{"role": "user", "content": "{{ticket}}"}], None, "it needs a system and a user message"),
        ([{"role": "system", "content": "x"}, {"role": "user", "content": "y"}], None, "has no variable {{ticket}}"),
        ([{"role": "system", "content": "x"}, {"role": "user", "content": "{{ticket}}"}], None, "no response_format"),
    ):
        wrong = mlflow.genai.register_prompt(name="ticket-triage", template=template, response_format=schema)
        left.link("ticket-triage", "ticket-triage", wrong.version)
        assert said in (missing("3.1a") or "")


def test_roll_back_lacks_the_alias_the_tag_or_the_next_call(solved):
    left = solved("3.1b")
    left.link("next-call", "support-greeting", 2)
    assert "the newest run did not load version 1 of support-greeting" in (missing("3.1b") or "")
    mlflow.genai.delete_prompt_version_tag("support-greeting", 2, "status")
    assert "version 2 of support-greeting has no tag status = withdrawn" in (missing("3.1b") or "")
    mlflow.genai.set_prompt_alias("support-greeting", "production", 2)
    assert "production points at version 2 of support-greeting, the newest" in (missing("3.1b") or "")
    mlflow.genai.delete_prompt_alias("support-greeting", "production")
    assert "production of support-greeting points at no version" in (missing("3.1b") or "")


def ask_with(name: str, descriptions: dict[str, str], called: dict[str, str]) -> None:
    """A run whose questions need the tool papers and call the given one."""
    with tagged(exercise="4.2a"), mlflow.start_run(run_name=name):
        mlflow.log_params(descriptions)
        for question, tool in called.items():
            with mlflow.start_span("choose-tool", span_type=SpanType.AGENT) as root:
                root.set_inputs({"question": question, "needs": "papers"})
                with mlflow.start_span(tool, span_type=SpanType.TOOL):
                    pass
    mlflow.flush_trace_async_logging()


@pytest.mark.parametrize(
    ("descriptions", "called", "said"),
    [
        (
            {"papers": "Finds papers."},
            {"a": "papers", "b": "measure"},
            "1 of 2 questions reached their tool, and 1 did",
        ),
        ({"papers": "Finds papers."}, {"a": "papers"}, "no run vague asked the same questions"),
        ({"essays": "Finds papers."}, {"a": "papers", "b": "papers"}, "no run vague asked the same questions"),
        ({"papers": "?"}, {"a": "papers", "b": "papers"}, "SHARPER says the same as VAGUE"),
        ({"papers": "Finds papers."}, {}, "no question of the run sharper has left a trace"),
    ],
)
def test_sharper_tool_lacks_words_questions_or_a_gain(store, descriptions, called, said):
    mlflow.set_experiment("4-agents")
    ask_with("vague", {"papers": "?"}, {"a": "papers", "b": "measure"})
    ask_with("sharper", descriptions, called)
    assert said in (missing("4.2a") or "")
    ask_with("sharper", {"papers": "Finds papers."}, {"a": "papers", "b": "papers"})
    assert missing("4.2a") is None


def write_request(result: str, answer: str, tool: str = "count_words") -> None:
    """A request whose tool returned this and whose answer is that."""
    with tagged(exercise="4.1a"), mlflow.start_span("count-agent", span_type=SpanType.AGENT) as root:
        with mlflow.start_span(tool, span_type=SpanType.TOOL) as span:
            span.set_outputs(result)
        root.set_outputs(answer)
    mlflow.flush_trace_async_logging()


@pytest.mark.parametrize(
    ("tool", "result", "answer", "said"),
    [
        ("calculator", "350", "It has 350 words.", "(tools called: calculator)"),
        ("count_words", "error: no such document", "It failed.", "count_words failed in the trace"),
        ("count_words", "350", "It has many words.", "holds no number that count_words returned"),
        ("count_words", "350", "It has 1350 words.", "holds no number that count_words returned"),
    ],
)
def test_own_tool_lacks_a_call_a_result_or_its_number(store, tool, result, answer, said):
    mlflow.set_experiment("4-agents")
    write_request(result, answer, tool)
    assert said in (missing("4.1a") or "")
    write_request("350", "The document has 350 words.")
    assert missing("4.1a") is None


def test_session_scorer_lacks_a_verdict_that_is_true(solved):
    left = solved("4.3a")
    for trace in (trace for trace in left.traces if trace.info.assessments):
        (given,) = trace.info.assessments
        session = trace.info.trace_metadata["mlflow.trace.session"]
        mlflow.log_feedback(trace_id=trace.info.trace_id, name=REPEATS, value=not given.value)
        truth = "an answer comes twice" if given.value else "no answer comes twice"
        assert f"of the session {session} is {not given.value}, but in its 3 turns {truth}" in (missing("4.3a") or "")
        mlflow.log_feedback(trace_id=trace.info.trace_id, name=REPEATS, value="yes")
        assert "is 'yes', neither True nor False" in (missing("4.3a") or "")
        mlflow.log_feedback(trace_id=trace.info.trace_id, name=REPEATS, value=given.value)
        assert missing("4.3a") is None


def write_tool(error: str = "x", *, seconds: float = 0.5, answer: str = "It failed.", called: bool = True) -> None:
    """A request whose tool took this long and raised that, or nothing."""
    began = time.time_ns()
    with tagged(exercise="4.4a"), mlflow.start_span("stock-question", span_type=SpanType.AGENT) as root:
        if called:
            span = mlflow.start_span_no_context("t", span_type=SpanType.TOOL, parent_span=root, start_time_ns=began)
            if error:
                span.record_exception(OutOfTime(error))
            span.end(end_time_ns=began + int(seconds * 1e9))
        root.set_outputs(answer)
    mlflow.flush_trace_async_logging()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"called": False}, "shows no call of a tool"),
        ({"error": "", "seconds": 4}, "t was waited for 4.0 seconds"),
        ({"seconds": 4}, "t was given up"),
        ({"answer": ""}, "was not answered"),
    ],
)
def test_time_limit_lacks(store, parts, said):
    mlflow.set_experiment("4-agents")
    write_tool(**parts)
    assert said in (missing("4.4a") or "")
    write_tool()
    assert missing("4.4a") is None


def test_session_scorer_lacks_a_session(solved):
    left = solved("4.3a")
    ben = [t.info.trace_id for t in left.traces if t.info.trace_metadata["mlflow.trace.session"].startswith("ben")]
    left.client.delete_traces(left.traces[0].info.experiment_id, trace_ids=ben)
    assert "holds the traces of 1 sessions: two are to be judged" in (missing("4.3a") or "")


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("longest_chunk_tokens", 65, "the longest chunk of the run 64-tokens has 65 tokens, over 64"),
        ("words_kept", 0.925, "the chunks of the run 64-tokens hold only 92.5% of the documents' words"),
    ],
)
def test_own_chunks_lack_soundness(solved, metric, value, said):
    left = solved("5.2a")
    left.client.log_metric(left.run("64-tokens").info.run_id, metric, value)
    assert said in (missing("5.2a") or "")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM latest_metrics WHERE key = 'hit_at_3'", "has no metric hit_at_3"),
        ("UPDATE params SET value = '64'", "all runs nested in own-chunks have the chunk size 64"),
        ("UPDATE params SET value = 'small'", "no parameter chunk_tokens that is a whole number"),
        ("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = '64-tokens'", "has 1 nested runs"),
    ],
)
def test_own_chunks_lack(solved, statement, said):
    solved("5.2a").change(statement)
    assert said in (missing("5.2a") or "")


def test_answer_in_passages_lacks_feedback_that_is_true(solved):
    left = solved("5.2b")
    for trace in left.traces:
        (given,) = trace.info.assessments
        right = given.value
        mlflow.log_feedback(trace_id=trace.info.trace_id, name=FEEDBACK, value=not right)
        mlflow.delete_assessment(trace_id=trace.info.trace_id, assessment_id=given.assessment_id)
        where = f"the feedback of the trace {trace.info.trace_id} is {not right}, but its answer stands in"
        assert where in (missing("5.2b") or "")
        change = mlflow.get_trace(trace.info.trace_id).info.assessments[0].assessment_id
        mlflow.delete_assessment(trace_id=trace.info.trace_id, assessment_id=change)
        assert f"the trace {trace.info.trace_id} has no feedback {FEEDBACK}" in (missing("5.2b") or "")
        mlflow.log_feedback(trace_id=trace.info.trace_id, name=FEEDBACK, value="yes")
        assert "is 'yes', neither True nor False" in (missing("5.2b") or "")
        change = mlflow.get_trace(trace.info.trace_id).info.assessments[0].assessment_id
        mlflow.delete_assessment(trace_id=trace.info.trace_id, assessment_id=change)
        mlflow.log_feedback(trace_id=trace.info.trace_id, name=FEEDBACK, value=right)
        assert missing("5.2b") is None


def test_answer_in_passages_counts_the_newest_of_several_verdicts(solved):
    left = solved("5.2b")
    trace = left.traces[0]
    right = trace.info.assessments[0].value
    mlflow.log_feedback(trace_id=trace.info.trace_id, name=FEEDBACK, value=not right)
    assert f"the feedback of the trace {trace.info.trace_id} is {not right}" in (missing("5.2b") or "")
    mlflow.log_feedback(trace_id=trace.info.trace_id, name=FEEDBACK, value=right)
    assert missing("5.2b") is None


def test_answer_in_passages_lacks_traces(solved):
    left = solved("5.2b")
    doomed = [trace.info.trace_id for trace in left.traces[:2]]
    left.client.delete_traces(left.traces[0].info.experiment_id, trace_ids=doomed)
    assert "holds 4 traces: ask at least 5 questions" in (missing("5.2b") or "")


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("embedded_documents", 14, "the run second embedded 14 documents, but 2 were new or changed"),
        ("embedded_documents", 1, "the run second embedded 1 documents, but 2 were new or changed"),
        ("wrong_in_index", 1, "after the run second the index is wrong about 1 documents"),
        ("new_or_changed", 0, "no file was added or changed between the two runs"),
        ("new_or_changed", 14, "every file was changed between the two runs"),
        ("gone", 0, "no file was deleted between the two runs"),
    ],
)
def test_index_again_lacks(solved, metric, value, said):
    left = solved("5.5a")
    left.client.log_metric(left.run("second").info.run_id, metric, value)
    assert said in (missing("5.5a") or "")


def test_index_again_lacks_a_metric_or_a_run(solved):
    left = solved("5.5a")
    left.change("DELETE FROM latest_metrics WHERE key = 'gone'")
    assert "the nested run second has no metric gone" in (missing("5.5a") or "")
    left.change("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'second'")
    assert "has not the nested runs first and second" in (missing("5.5a") or "")


def write_hand_offs(names=("calculator", "search"), sender="coordinator", answer="x", below=True) -> None:
    with tagged(exercise="8.1a"), mlflow.start_span("coordinator", span_type=SpanType.AGENT):
        for name in names:
            with mlflow.start_span(name, span_type=SpanType.AGENT) as span:
                span.set_inputs({"request": "x"})
                span.set_attributes({"handoff.to": name} | ({"handoff.from": sender} if sender else {}))
                if below:
                    with mlflow.start_span("tool", span_type=SpanType.TOOL):
                        pass
                if answer:
                    span.set_outputs({"answer": answer})
    mlflow.flush_trace_async_logging()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"names": ("calculator",)}, "has no hand-off to a specialist of your own"),
        ({"names": ("search",)}, "has no hand-off to the calculator any more"),
        ({"sender": ""}, "has no attribute handoff.from"),
        ({"answer": ""}, "lacks its request or its answer"),
        ({"below": False}, "nothing stands below the hand-off to search"),
    ],
)
def test_own_specialist_lacks(store, part, said):
    mlflow.set_experiment("8-advanced")
    write_hand_offs(**part)
    assert said in (missing("8.1a") or "")
    write_hand_offs()
    assert missing("8.1a") is None


def write_loop(hand_offs=3, limit=3, steps=3, guardrail=True, answer="I stopped.") -> None:
    with tagged(exercise="8.1b"), mlflow.start_span("handle-ticket", span_type=SpanType.AGENT) as root:
        for kind in [SpanType.AGENT] * hand_offs + [SpanType.GUARDRAIL] * guardrail:
            with mlflow.start_span("step", span_type=kind):
                pass
        root.set_attributes({"budget.limit": limit, "budget.steps": steps})
        root.set_outputs({"answer": answer})
    mlflow.flush_trace_async_logging()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"limit": "3"}, "has no attribute budget.limit"),
        ({"hand_offs": 4, "steps": 4}, "has 4 hand-offs, over its budget of 3"),
        ({"steps": 2}, "has 3 hand-offs, but budget.steps is 2"),
        ({"guardrail": False}, "has no span of type GUARDRAIL"),
        ({"answer": "The ticket is done."}, "does not say that the work was stopped: the ticket is done."),
    ],
)
def test_bounded_loop_lacks(store, part, said):
    mlflow.set_experiment("8-advanced")
    write_loop(**part)
    assert said in (missing("8.1b") or "")
    write_loop()
    assert missing("8.1b") is None


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE latest_metrics SET value = 0 WHERE key = 'differs_from_words'", "as the words alone do"),
        ("DELETE FROM latest_metrics WHERE key = 'gain_low'", "the run own-fusion has no metric gain_low"),
        ("UPDATE latest_metrics SET value = 0.5 WHERE key = 'gain'", "the gain of the run own-fusion is 0.500, but"),
        ("UPDATE latest_metrics SET value = 0.9 WHERE key LIKE 'gain_%'", "is not one of a gain of"),
    ],
)
def test_own_fusion_lacks(solved, statement, said):
    solved("5.3a").change(statement)
    assert said in (missing("5.3a") or "")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE latest_metrics SET value = 9 WHERE key = 'questions'", "has 9 questions: write at least 10"),
        ("UPDATE latest_metrics SET value = 2 WHERE key = 'unknown_documents'", "2 questions of the run own-questions"),
        ("UPDATE latest_metrics SET value = 1 WHERE key = 'copied_questions'", "use the words of their document"),
        ("DELETE FROM latest_metrics WHERE key = 'hit_at_5'", "has no metric hit_at_5"),
        ("DELETE FROM inputs", "has no dataset own-questions among its inputs"),
    ],
)
def test_own_questions_lack(solved, statement, said):
    solved("5.4a").change(statement)
    assert said in (missing("5.4a") or "")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE tags SET value = 'yes' WHERE key = 'verdict'", "the nested run same has no tag verdict"),
        ("UPDATE tags SET value = 'passed' WHERE key = 'verdict'", "the candidate worse is passed, with a p of 0.0"),
        ("UPDATE tags SET value = 'refused' WHERE key = 'verdict'", "the candidate same is refused, with a p of 1.000"),
        ("UPDATE latest_metrics SET value = 0.01 WHERE key = 'p'", "which a p of 0.010 does not say"),
        ("UPDATE latest_metrics SET value = 7 WHERE key = 'p'", "has no metric p between 0 and 1"),
        ("DELETE FROM latest_metrics WHERE key = 'p'", "has no metric p between 0 and 1"),
        ("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'lost'", "has no nested run lost"),
    ],
)
def test_own_gate_lacks(solved, statement, said):
    solved("6.7a").change(statement)
    assert said in (missing("6.7a") or "")


def test_own_gate_compares_nothing_where_rows_are_missing(solved):
    left = solved("6.7a")
    left.client.set_tag(left.run("lost").info.run_id, "verdict", "passed")
    assert "passed, although rows of it have no score" in (missing("6.7a") or "")
    left.client.set_tag(left.run("lost").info.run_id, "verdict", "refused")
    left.client.log_metric(left.run("lost").info.run_id, "p", 0.5)
    assert "its rows cannot be compared" in (missing("6.7a") or "")


# --- mlflow-learn check and hint


def test_without_a_store_all_are_open_and_none_is_made(run_command, tmp_path):
    result = run_command(learn, "check")
    assert result.exit_code == 0 and len(re.findall(r"^ \d\.\d\w +open ", result.stdout, re.M)) == len(EXERCISES)
    assert f"Next:  {EXERCISES[0].id} " in result.stdout and f"uv run {EXERCISES[0].command}" in result.stdout
    asked = run_command(learn, "check", "1.1a")
    assert asked.exit_code == 1 and "1.1a is open: there is no store yet" in asked.stdout
    assert list(tmp_path.iterdir()) == []


@EACH
def test_in_an_empty_store_nothing_was_run(entry, store):
    assert missing(entry.id) == NOT_RUN
    MlflowClient().delete_experiment("0")
    assert missing(entry.id) == NOT_RUN


@pytest.mark.parametrize("call", ["check", "hint"])
@pytest.mark.parametrize("number", ["9.9a", "1.1c", "a"])
def test_an_exercise_that_there_is_not(refused, call, number):
    said = refused(learn, call, number)
    assert f"there is no exercise {number}" in said and "one of 1.1a, 1.1b, " in said


def test_hints_of_an_exercise(run_command, refused):
    entry = exercise("2.1a")
    shown = [run_command(learn, "hint", "2.1a", level).stdout for level in (1, 2, 3, 4)]
    assert all(f"2.1a {entry.title}\n\n{hint}\n" in text for hint, text in zip(entry.hints, shown, strict=True))
    assert "mlflow-learn hint 2.1a 2" in shown[0] and "Next hint" not in shown[3]
    assert "2.1a has 4 hints" in refused(learn, "hint", "2.1a", 5)


def test_in_the_default_store_the_check_needs_no_address(store, run_command):
    result = run_command(load(exercise("1.1b").file))
    assert result.stdout.endswith("Check: uv run mlflow-learn check 1.1b\n")
    assert run_command(learn, "check", "1.1b").exit_code == 1


@EACH
def test_wrong_use_of_an_exercise_is_two_lines_that_can_be_pasted(entry: Exercise, refused):
    assert f"try:   uv run python {entry.file} --help" in refused(load(entry.file), "--no-such-flag")


@pytest.mark.parametrize("entry", WITH_MODEL, ids=lambda entry: entry.id)
def test_an_exercise_without_its_model_server_claims_nothing(entry, store, refused):
    assert "ollama serve" in refused(load(entry.file), "--llm-type", "ollama", "--ollama-url", closed_url())
    assert missing(entry.id) == NOT_RUN


def test_the_help_of_an_exercise_is_its_docstring(run_command):
    for entry in EXERCISES:
        shown = run_command(load(entry.file), "--help").stdout
        assert f"Usage: {entry.command} [OPTIONS]" in shown and "--tracking-uri" in shown
        assert " ".join(docstring(entry.file).split()) in " ".join(shown.split())


# --- module 6


def complaints() -> "mlflow.genai.datasets.EvaluationDataset":
    (found,) = mlflow.genai.search_datasets(filter_string="name = 'library-complaints'")
    return found


def test_rows_from_complaints_lacks_a_row_an_expectation_or_its_trace(solved):
    left = solved("6.1a")
    rows = complaints().to_df()
    assert len(rows) >= 2
    complaints().merge_records([{"inputs": {"question": "When does the library open?"}}])
    assert "about which nobody complained" in (missing("6.1a") or "")
    complaints().delete_records(
        [row.dataset_record_id for row in complaints().to_df().itertuples() if row.source_type != "TRACE"]
    )
    assert missing("6.1a") is None
    left.change("UPDATE evaluation_dataset_records SET source = NULL, source_type = 'CODE'")
    assert "does not say from which trace it came" in (missing("6.1a") or "")
    left.change("UPDATE evaluation_dataset_records SET expectations = NULL")
    assert "has no expectation expected_response" in (missing("6.1a") or "")
    complaints().delete_records([rows["dataset_record_id"][0]])
    assert "has no row for the complaint" in (missing("6.1a") or "")


def test_rows_from_complaints_lacks_nothing_after_a_second_run_and_one_dataset_is_enough(solved, run_command):
    solved("6.1a")
    before = len(complaints().to_df())
    assert run_command(load(exercise("6.1a").solution)).exit_code == 0
    assert missing("6.1a") is None and len(complaints().to_df()) == before
    mlflow.genai.create_dataset(name="library-complaints", experiment_id=complaints().experiment_ids)
    assert "there are 2 datasets named library-complaints" in (missing("6.1a") or "")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE latest_metrics SET value = 0.4 WHERE key = 'right_share'", "right_share of the run"),
        ("UPDATE latest_metrics SET value = 7 WHERE key = 'judged'", "judged of the run"),
        ("DELETE FROM latest_metrics WHERE key = 'not_judged'", "has no metric not_judged"),
        ("UPDATE assessments SET value = 'false' WHERE name = 'right_number' AND value = 'true'", "says False to"),
        (
            "UPDATE assessments SET value = 'true', error = NULL WHERE name = 'right_number'",
            "raise where not one number",
        ),
        ("UPDATE assessments SET name = 'other' WHERE name = 'right_number'", "neither a value nor an error"),
    ],
)
def test_unjudged_answers_lacks(solved, statement, said):
    solved("6.2a").change(statement)
    assert said in (missing("6.2a") or "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda client: client.set_registered_model_alias("temperature", "production", "2"), "points at version 2"),
        (lambda client: client.set_model_version_tag("temperature", "2", "tests", "passed"), "is tagged passed, but"),
        (lambda client: client.set_model_version_tag("temperature", "1", "tests", "failed"), "is tagged failed, but"),
        (lambda client: client.delete_model_version_tag("temperature", "1", "tests"), "carries no tag tests"),
        (lambda client: client.delete_registered_model_alias("temperature", "production"), "points at version none"),
    ],
)
def test_a_gate_lacks(solved, change, said):
    change(solved("7.2a").client)
    assert said in (missing("7.2a") or "")


def test_a_gate_lacks_the_figures(solved):
    solved("7.2a").change("DELETE FROM latest_metrics WHERE key = 'right'")
    assert "no run has the param version = 1" in (missing("7.2a") or "")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE latest_metrics SET value = 1 WHERE key = 'requests_per_second'", "double them"),
        ("UPDATE latest_metrics SET value = 900 WHERE key = 'p95_ms'", "halve it"),
        ("DELETE FROM latest_metrics WHERE key = 'requests'", "do not both hold"),
    ],
)
def test_a_faster_service_lacks(solved, statement, said):
    solved("7.3a").change(statement)
    assert said in (missing("7.3a") or "")


def test_a_faster_service_lacks_its_traces(solved):
    left = solved("7.3a")
    for experiment_id in left.ids:
        left.client.delete_traces(experiment_id, max_timestamp_millis=2**52)
    assert "the run after has 0 traces of 24 requests" in (missing("7.3a") or "")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE spans SET content = replace(content, 'there is no such', 'M-7777-13 is no')",
            "in the status of a span",
        ),
        ("UPDATE spans SET content = replace(content, '[member]', 'somebody')", "mask the number only"),
        ("UPDATE trace_info SET request_preview = 'What has M-4821-77 borrowed?'", "attributes or previews"),
        ("UPDATE spans SET content = replace(content, 'STATUS_CODE_ERROR', 'STATUS_CODE_OK')", "must raise"),
    ],
)
def test_masked_members_lack(solved, statement, said):
    solved("7.4a").change(statement)
    assert said in (missing("7.4a") or "")


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("first_calls", 0, "it was not killed in the middle"),
        ("calls", 32, "made 32 calls for 30 distinct texts"),
        ("answered_rows", 44, "44 of 45 rows"),
        ("wrong_rows", 3, "3 rows of the run paid-once have the answer of another text"),
    ],
)
def test_paid_once_lacks(solved, metric, value, said):
    left = solved("8.2a")
    left.client.log_metric(left.run("paid-once").info.run_id, metric, value)
    assert said in (missing("8.2a") or "")


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("accuracy", 0.99, "reports an accuracy of 0.990; on the rows to report on it is"),
        ("threshold", 0.0, "is not the best one of the rows to choose on"),
        ("threshold", 1.0, "is not the best one of the rows to choose on"),
    ],
)
def test_chosen_elsewhere_lacks(solved, metric, value, said):
    left = solved("8.3a")
    left.client.log_metric(left.run("chosen-elsewhere").info.run_id, metric, value)
    assert said in (missing("8.3a") or "")
