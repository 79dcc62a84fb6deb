"""LEARNING_PLAN.md and README.md promise only what is there: commands, flags, places in the source, pages, goals."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import click
import pytest

from tests.conftest import ROOT, SHARED
from utils import curriculum
from utils.curriculum import Evidence
from utils.exercises import EXERCISES
from utils.goals import GOALS, KINDS, Goal
from utils.progress import COUNTERS

PLAN = (ROOT / "LEARNING_PLAN.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The manifest's route → the name in the sidebar of mlflow ui.
PAGE_NAMES = {
    "runs": "Training runs",
    "traces": "Traces",
    "models": "Agent versions",
    "prompts": "Prompts",
    "evaluation-runs": "Evaluation runs",
    "datasets": "Datasets",
    "chat-sessions": "Sessions",
}
LESSONS = pytest.mark.parametrize("entry", curriculum.LESSONS, ids=lambda entry: entry.number)


def load_refresh_plan() -> ModuleType:
    """benchmarks/ holds scripts, not a package."""
    spec = importlib.util.spec_from_file_location("refresh_plan", ROOT / "benchmarks" / "refresh_plan.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh_plan = load_refresh_plan()

# Every lesson that the curriculum is to have.
CATALOGUE = {
    "1.1": "mlflow-tracking-example",
    "1.2": "mlflow-logged-model-lineage",
    "1.3": "mlflow-migration-check",
    "2.1": "mlflow-spark-langchain-ollama",
    "2.2": "mlflow-spark-langchain-multiple",
    "2.3": "mlflow-manual-spans",
    "2.4": "mlflow-compare-frameworks",
    "2.5": "mlflow-distributed-tracing",
    "2.6": "mlflow-opentelemetry",
    "3.1": "mlflow-prompt-registry",
    "3.2": "mlflow-prompt-iteration",
    "3.3": "mlflow-prompt-variables",
    "3.4": "mlflow-prompt-search",
    "3.5": "mlflow-prompt-ab-test",
    "4.1": "mlflow-simple-agent",
    "4.2": "mlflow-multi-tool-agent",
    "4.3": "mlflow-conversational-agent",
    "4.4": "mlflow-production-agent",
    "4.5": "mlflow-rag-agent",
    "5.1": "mlflow-sample-documents",
    "5.2": "mlflow-spark-llamaindex-rag",
    "5.3": "mlflow-tune-chunking",
    "5.4": "mlflow-library-documents",
    "5.5": "mlflow-spark-rag-at-scale",
    "6.1": "mlflow-evaluation-dataset",
    "6.2": "mlflow-evaluate-rag",
    "6.3": "mlflow-compare-prompts",
    "6.4": "mlflow-custom-judge",
    "6.5": "mlflow-compare-backends",
    "6.6": "mlflow-evaluate-conversation",
    "6.7": "mlflow-quality-gate",
    "7.1": "mlflow-register-agent",
    "7.2": "mlflow-promote-agent",
    "7.3": "mlflow-serve-agent",
    "7.4": "mlflow-production-tracing",
    "7.5": "mlflow-collect-feedback",
    "7.6": "mlflow-monitor",
    "7.7": "mlflow-track-costs",
    "7.8": "mlflow-batch-inference",
    "7.9": "mlflow-online-scoring",
    "8.1": "mlflow-multi-agent",
    "8.2": "mlflow-spark-batch-inference",
    "8.3": "mlflow-hybrid-classifier",
    "8.4": "mlflow-optimize-prompt",
    "8.5": "mlflow-semantic-cache",
    "8.6": "mlflow-route-models",
    "8.7": "mlflow-finetune-tracking",
    "8.8": "mlflow-agent-frameworks",
}
HERE = {entry.number for entry in curriculum.LESSONS}
TO_COME = {number: command for number, command in CATALOGUE.items() if number not in HERE}


def section(heading: str, text: str = PLAN) -> str:
    """From a heading to the next one of the same or a higher level."""
    level = heading.split(" ")[0]
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    after = re.search(rf"^#{{2,{len(level)}}} ", text[start:], re.M)
    return text[start : start + after.start()] if after else text[start:]


def module_section(module: curriculum.Module) -> str:
    return section(f"## Module {module.number}. {module.title}")


# --- the lessons


def test_the_table_is_the_manifest_and_what_is_to_come():
    assert {entry.number: entry.command for entry in curriculum.LESSONS}.items() <= CATALOGUE.items()
    assert len(set(CATALOGUE.values())) == len(CATALOGUE)


def test_the_table_is_the_whole_catalogue():
    path = SHARED / "CATALOGUE.md"
    if not path.exists():
        pytest.skip("the catalogue is not part of the project")
    rows = re.findall(r"^\| (\d\.\d) \| (mlflow-[\w-]+) \|", path.read_text(encoding="utf-8"), re.M)
    assert dict(rows) == CATALOGUE


@pytest.mark.parametrize("module", curriculum.MODULES, ids=lambda module: module.title)
def test_each_module_lists_exactly_the_lessons_that_are_to_come(module):
    text = module_section(module)
    expected = [number for number in TO_COME if number[0] == str(module.number)]
    assert re.findall(r"^- (\d\.\d) \(to come\): \w", text, re.M) == expected
    assert module.goal.rstrip(".").lower() in text.lower()


def test_no_command_that_is_to_come_is_promised():
    for command in TO_COME.values():
        assert not re.search(rf"{command}\b(?!-)", PLAN + README), command


@LESSONS
def test_each_lesson_says_what_to_type_where_to_look_and_what_to_change(entry):
    text = section(f"### {entry.number} {entry.title}", module_section(entry.module))
    assert re.search(rf"^```\nuv run {entry.command}( .*)?\n```$", text, re.M)
    assert re.search(rf"<!-- output: uv run {entry.command}( .*)? -->\n```text\n", text)
    assert f"`uv run mlflow-learn hint {entry.number}`" in text and f"`{entry.file}`" in text
    assert PAGE_NAMES[entry.page] in text[text.index("Look at:") :] and entry.experiment in text
    assert "**Change it.**" in text and f"<{entry.docs}>" in text
    assert re.search(r"^Reading: `[\w/]+\.py::", text, re.M)


@pytest.mark.parametrize("module", curriculum.MODULES, ids=lambda module: module.title)
def test_a_module_with_lessons_explains_its_concepts(module):
    text = module_section(module)
    has_lessons = any(entry.module is module for entry in curriculum.LESSONS)
    assert ("### Key concepts" in text) == has_lessons
    assert "### Success criteria" in text and f"<!-- goals: learning {module.number} -->" in text


def test_the_tracks_are_those_of_the_manifest():
    for track in curriculum.TRACKS:
        numbers = ", ".join(str(module.number) for module in curriculum.MODULES if module.track == track)
        assert f"| {track} | {numbers} |" in PLAN


def test_each_exercise_stands_in_its_module_with_its_start_and_its_check():
    for exercise in EXERCISES:
        text = section("### Exercises", module_section(exercise.lesson.module))
        assert f"- **{exercise.id}** {exercise.title}." in text
        assert f"`uv run {exercise.command}`" in text and f"`uv run mlflow-learn check {exercise.id}`" in text


# --- commands


def commands(text: str) -> Iterator[str]:
    """Everything to paste that begins with `uv run mlflow`: lines of code blocks, and inline code."""
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):  # each fence with its own end
        if not kind:
            yield from (line for line in block.splitlines() if line.startswith("uv run mlflow"))
    yield from re.findall(r"`(uv run mlflow[^`\n]*)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def command_of(program: str) -> click.Command:
    if program == "mlflow":
        from mlflow.cli import cli

        return cli
    scripts = entry_points(group="console_scripts", name=program)
    assert scripts, f"there is no command {program}"
    return scripts[program].load()


def parse(line: str) -> None:
    """Let the command's own parser read the line, sub-commands too; nothing is run.

    Raises:
        click.UsageError: the command knows no such sub-command, flag or value.
    """
    _uv, _run, program, *args = shlex.split(line, comments=True)
    command = command_of(program)
    context = command.make_context(program, args)
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, found, args = command.resolve_command(context, rest)
        assert found
        command, context = found, found.make_context(name, args, parent=context)


PASTED = sorted({*commands(PLAN), *commands(README), *(goal.command for goal in GOALS if goal.command)})


@pytest.mark.parametrize("line", PASTED)
def test_every_command_to_paste_is_one_that_its_program_understands(line, tmp_path, monkeypatch):
    if "./mlruns" in line:  # an old folder that a learner may have
        (tmp_path / "mlruns").mkdir()
        monkeypatch.chdir(tmp_path)
    parse(line)
    words = shlex.split(line, comments=True)
    if words[2:3] == ["mlflow-learn"] and words[3:4] in (["run"], ["hint"], ["check"]) and words[4:]:
        curriculum.lesson(words[4].rstrip("abcdefgh"))


@pytest.mark.parametrize(
    "line",
    [
        "uv run mlflow-learn no-such-thing",
        "uv run mlflow-learn tour --no-such-flag",
        "uv run mlflow-learn tour --module 9",
        "uv run mlflow-sample-documents --no-such-flag",
        "uv run mlflow no-such-thing",
        "uv run mlflow runs list --no-such-flag 1",
    ],
)
def test_a_wrong_command_would_be_found(line):
    with pytest.raises(click.UsageError):
        parse(line)


def test_each_command_that_exists_stands_in_the_quick_reference_or_in_its_lesson():
    from utils.learn import main

    for name in main.commands:
        assert f"uv run mlflow-learn {name}" in PLAN, name


# --- places in the source, links


PLACES = sorted(set(re.findall(r"`?([\w/]+\.py)::([\w.]+)`?", PLAN + README)))


@cache
def defined(path: str) -> set[str]:
    """Names of functions, classes, module constants and, as Class.method, methods."""
    file = ROOT / path
    if path.startswith("mlflow/"):
        spec = importlib.util.find_spec("mlflow")
        assert spec and spec.origin
        file = Path(spec.origin).parent.parent / path
    module = ast.parse(file.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


@pytest.mark.parametrize(("path", "name"), PLACES, ids="::".join)
def test_every_place_in_the_source_exists(path, name):
    assert name in defined(path)


def test_no_place_is_named_by_its_line():
    prose = refresh_plan.OUTPUT.sub("", PLAN)  # a checker's output names lines, of files that it has just read
    assert not re.search(r"\.py:\d|\blines? \d", prose)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", PLAN + README))))
def test_links_and_pictures_lead_to_files(target):
    assert (ROOT / target).exists()


# --- what refresh_plan writes


def test_markers_are_balanced_and_do_not_nest():
    marks = re.findall(r"<!-- (output|goals|exercises|versions|end)\b[^>]*-->", PLAN)
    assert marks[1::2] == ["end"] * (len(marks) // 2) and "end" not in marks[::2] and len(marks) % 2 == 0


def test_outputs_show_no_path_of_a_machine():
    outputs = [found["body"] for found in refresh_plan.OUTPUT.finditer(PLAN)]
    assert len(outputs) > len(curriculum.LESSONS)
    for body in outputs:
        assert len(body.strip().splitlines()) > 3, "an output that was never filled"
        assert not re.search(r"(?<![\w:/.#])/\w+/|sqlite:////|[A-Z]:\\", body), body
        assert not re.search(r"Traceback|Warning|^error:", body, re.M)


def test_the_footer_names_the_versions():
    (found,) = refresh_plan.VERSIONS.finditer(PLAN)
    assert re.search(r"^Last run on \d{4}-\d\d-\d\d: Python 3\.\d+\.\d+, mlflow 3\.\d+\.\d+, ", found["body"])


def test_a_path_and_an_id_are_tidied_and_numbers_do_not_make_an_output_stale(tmp_path):
    printed = (
        f"Documents in {tmp_path}/documents\nRun:     0123456789abcdef0123456789abcdef\n"
        f"Look at: uv run mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db, then\n"
        " p95   1,200.7\n ───────\n"
    )
    tidied = refresh_plan.tidy(printed, tmp_path)
    assert tidied.splitlines()[:3] == [
        "Documents in documents",
        "Run:     01234567…",
        "Look at: uv run mlflow ui, then",
    ]
    other = tidied.replace("01234567", "fedcba98").replace("1,200.7", "   98.6").replace("───────", "──────")
    assert refresh_plan.shape(tidied) == refresh_plan.shape(other) != refresh_plan.shape(tidied.replace("p95", "p99"))


def test_check_finds_an_output_that_lost_a_line():
    found = next(refresh_plan.OUTPUT.finditer(PLAN))
    line = found["body"].splitlines()[1]
    changed = PLAN.replace(found["body"], found["body"].replace(f"{line}\n", ""))
    assert refresh_plan.stale(PLAN, PLAN) == []
    assert refresh_plan.stale(changed, PLAN) == [f"<!-- output: {found['command']} -->"]


def test_an_output_whose_extra_is_missing_stays_and_is_named(monkeypatch, capsys):
    monkeypatch.setattr(refresh_plan.importlib.util, "find_spec", lambda name: None)
    command = "uv run mlflow-agent-frameworks"
    text = f"<!-- output: {command} -->\n```text\nas it was\n```\n<!-- end -->\n"
    assert refresh_plan.with_outputs(text) == text
    assert f"{command} (needs uv sync --extra frameworks)" in capsys.readouterr().out
    assert refresh_plan.missing_extra("uv run mlflow-multi-agent") is None
    monkeypatch.setattr(refresh_plan.importlib.util, "find_spec", lambda name: object())
    assert refresh_plan.missing_extra(command) is None


@pytest.mark.slow
@pytest.mark.timeout(2_700)  # every lesson, each a process of its own
def test_the_outputs_in_the_plan_are_what_the_commands_print(run_command):
    result = run_command(refresh_plan.main, "--check")
    assert result.exit_code == 0, result.output


def test_rows_that_are_drawn_by_chance_make_no_output_stale_and_all_else_does():
    text = "<!-- output: uv run mlflow-online-scoring -->\n```text\n[1/4] five\n a row\n```\n<!-- end -->\n"
    assert refresh_plan.stale(text, text.replace(" a row", " another\n and one more")) == []
    assert refresh_plan.stale(text, text.replace("five", "none")) == [text.splitlines()[0]]
    assert refresh_plan.stale(text, text.replace("five", "five; and more")) == []
    certain = text.replace("online-scoring", "serve-agent")
    assert refresh_plan.stale(certain, certain.replace(" a row", " another")) == [certain.splitlines()[0]]


# --- goals


def test_the_table_of_lessons_in_readme_is_the_manifest():
    assert refresh_plan.with_table(README) == README
    assert all(
        f"| {entry.number} | {entry.title} | `uv run {entry.command}` |" in README for entry in curriculum.LESSONS
    )


def test_the_lists_in_the_plan_are_the_goals():
    assert refresh_plan.with_lists(PLAN) == PLAN
    lines = [line for line in PLAN.splitlines() if line.startswith("- [ ] ")]
    assert sorted(lines) == sorted(refresh_plan.listed(goal) for goal in GOALS)


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.text)
def test_a_goal_is_proved_asked_or_to_come(goal: Goal):
    assert goal.kind in KINDS and goal.module in {module.number for module in curriculum.MODULES}
    assert goal.lesson is None or (goal.lesson in CATALOGUE and goal.lesson[0] == str(goal.module))
    assert goal.text.endswith("?") == goal.asked, "what only the learner knows is asked, everything else is stated"
    assert bool(goal.command) != goal.to_come
    if isinstance(goal.evidence, Evidence):
        assert goal.evidence.kind in COUNTERS and goal.lesson and not goal.to_come


def test_each_module_has_learning_goals_and_criteria_and_each_lesson_a_criterion():
    for module in curriculum.MODULES:
        assert {"learning", "criterion"} <= {goal.kind for goal in GOALS if goal.module == module.number}
    assert {entry.number for entry in curriculum.LESSONS} <= {g.lesson for g in GOALS if g.kind == "criterion"}
    assert len({goal.text for goal in GOALS}) == len(GOALS)
