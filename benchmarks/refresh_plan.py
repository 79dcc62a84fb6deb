"""Keeps LEARNING_PLAN.md and README.md true: runs commands, and writes what they print between markers.

    uv run python benchmarks/refresh_plan.py            # all of it: every lesson with the mock model, some minutes
    uv run python benchmarks/refresh_plan.py --check    # exits 1 when an output has other lines than the plan shows
    uv run python benchmarks/refresh_plan.py --only mlflow-prompt-ab-test    # the outputs of one command; repeatable
    uv run python benchmarks/refresh_plan.py --lists    # only goals, exercises, README's table; runs nothing

Markers: `<!-- output: COMMAND -->`, `<!-- goals: KIND MODULE -->` (or `all`), `<!-- exercises: MODULE -->` and
`<!-- versions -->`; in README.md `<!-- lessons -->`; each up to the next `<!-- end -->`. The commands run in the order
in which they stand, in a store that is thrown away. A lesson whose extra is not installed is named and keeps its
output.
"""

import importlib.util
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from utils import curriculum
from utils.exercises import EXERCISES
from utils.goals import Goal, goals_of
from utils.learn.doctor import PACKAGES
from utils.learn.tour import EXTRA_MODULES
from utils.mlflow_setup import ROOT, use_store
from utils.sample_documents import write_documents

PLAN, README = ROOT / "LEARNING_PLAN.md", ROOT / "README.md"
OUTPUT = re.compile(r"<!-- output: (?P<command>.+?) -->\n(?P<body>.*?)<!-- end -->", re.S)
GOALS = re.compile(r"<!-- goals: (?P<kind>\w+) (?P<module>\d|all) -->\n(?P<body>.*?)<!-- end -->", re.S)
EXERCISE_LIST = re.compile(r"<!-- exercises: (?P<module>\d) -->\n(?P<body>.*?)<!-- end -->", re.S)
LESSON_TABLE = re.compile(r"<!-- lessons -->\n(?P<body>.*?)<!-- end -->", re.S)
VERSIONS = re.compile(r"<!-- versions -->\n(?P<body>.*?)<!-- end -->", re.S)
ID = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24}\b")
# Lessons that write or read documents use a copy: a learner may have changed those of the checkout. An index is new.
FOLDER_FLAGS = {
    "mlflow-sample-documents": ("--output-dir", "documents"),
    "mlflow-spark-llamaindex-rag": ("--docs-path", "documents"),
    "mlflow-spark-rag-at-scale": ("--index-dir", "index"),
}
LESSON_SECONDS = 600
# Programs whose tables have other rows each time, since a sample is drawn by chance or a clock is read: of these, the
# other lines are compared, each up to its first semicolon.
BY_CHANCE = ("mlflow-online-scoring", "mlflow-monitor")
# What a developer has set for real servers must not change what the plan shows.
IGNORED = re.compile(r"^(OPENAI_|OLLAMA_|LLM_|SPARK_MASTER$|MLFLOW_EXPERIMENT_|MLFLOW_TRACKING_)")


def output_of(command: str, folder: Path) -> str:
    """What a command of the project prints, in a store below `folder`.

    Raises:
        click.ClickException: it ended with another status than 0.
    """
    uv, run, program, *flags = shlex.split(command)
    if (uv, run) != ("uv", "run") or not program.startswith("mlflow-"):
        raise click.ClickException(f"only commands of this project are run, not: {command}")
    if program in FOLDER_FLAGS:
        flag, name = FOLDER_FLAGS[program]
        flags += [flag, str(folder / name)]
    environment = {name: value for name, value in os.environ.items() if not IGNORED.match(name)}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "LLM_TYPE": "mock"}
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *flags],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LESSON_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise click.ClickException(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return tidy(done.stdout, folder)


def tidy(text: str, folder: Path) -> str:
    """As a learner with the default store sees it: no path of this machine, ids cut to eight characters."""
    store = f"sqlite:///{folder}/mlflow.db"
    text = text.replace(f" --backend-store-uri {store}", "").replace(store, "sqlite:///mlflow.db")
    text = text.replace(f"{folder}/", "").replace(f"{ROOT}/", "")
    lines = "\n".join(line.rstrip() for line in ID.sub(r"\1…", text).strip().splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines)


def shape(text: str) -> list[str]:
    """The lines without what differs from run to run: numbers and their sign, ids, times, and the width of columns."""
    text = re.sub(r"\b[0-9a-f]{8}…", "ID", text)
    text = re.sub(r"(?<![A-Za-z_\d])-?\d[\d,.]*", "0", text)
    return [re.sub(r"[ ─]+", " ", line).strip() for line in text.splitlines()]


def listed(goal: Goal) -> str:
    """A goal as a line of the plan."""
    if goal.to_come:
        return f"- [ ] {goal.text} (to come: lesson {goal.lesson})"
    whose = " (yours to answer)" if goal.asked else ""
    return f"- [ ] {goal.text}{whose} `{goal.command}`"


def goal_list(found: re.Match[str]) -> str:
    module = None if found["module"] == "all" else int(found["module"])
    return "".join(f"{listed(goal)}\n" for goal in goals_of(found["kind"], module))


def exercise_list(found: re.Match[str]) -> str:
    return "".join(
        f"- **{exercise.id}** {exercise.title}. {exercise.task} "
        f"Write in `{exercise.file}`, run `uv run {exercise.command}`; "
        f"`uv run mlflow-learn check {exercise.id}` says what is missing. Done when it finds: {exercise.proof}.\n"
        for exercise in EXERCISES
        if exercise.lesson.module.number == int(found["module"])
    )


def with_lists(text: str) -> str:
    """What the manifests of goals and exercises say."""
    return fill(fill(text, GOALS, goal_list), EXERCISE_LIST, exercise_list)


def lesson_table(_found: re.Match[str]) -> str:
    rows = [
        f"| {entry.number} | {entry.title} | `uv run {entry.command}` | [{Path(entry.file).name}]({entry.file}) |\n"
        for entry in curriculum.LESSONS
    ]
    return "| n | lesson | command | file |\n|---|---|---|---|\n" + "".join(rows)


def with_table(text: str) -> str:
    """README with the lessons of the manifest."""
    return fill(text, LESSON_TABLE, lesson_table)


def versions(_found: re.Match[str]) -> str:
    names = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"Last run on {datetime.now(UTC):%Y-%m-%d}: Python {platform.python_version()}, {names}.\n"


def fill(text: str, marker: re.Pattern[str], content: Callable[[re.Match[str]], str]) -> str:
    """Replace what stands between a marker and its end."""
    return marker.sub(
        lambda found: found[0][: found.start("body") - found.start()] + content(found) + "<!-- end -->", text
    )


def missing_extra(command: str) -> str | None:
    """The extra that a lesson's command needs and that is not installed here."""
    program = shlex.split(command)[2]
    extra = next((entry.extra for entry in curriculum.LESSONS if entry.command == program), None)
    return extra if extra and not importlib.util.find_spec(EXTRA_MODULES[extra]) else None


def with_outputs(text: str, only: Collection[str] = ()) -> str:
    """Run every command of the plan, or those of some programs, one after the other in one new store."""
    with tempfile.TemporaryDirectory(prefix="plan-") as name:
        folder = Path(name).resolve()
        write_documents(folder / "documents")  # a checkout has them
        for module in curriculum.MODULES:  # so that their ids, which addresses hold, do not depend on what is run
            use_store(f"sqlite:///{folder}/mlflow.db", module.experiment)

        def block(found: re.Match[str]) -> str:
            if only and not set(only) & set(found["command"].split()):
                return found["body"]
            if extra := missing_extra(found["command"]):
                click.echo(f"not run, its output stays as it is: {found['command']} (needs uv sync --extra {extra})")
                return found["body"]
            click.echo(f"running {found['command']}")
            return f"```text\n{output_of(found['command'], folder)}\n```\n"

        return fill(text, OUTPUT, block)


def stale(old: str, new: str) -> list[str]:
    """What has other lines in the new text: commands, and lists."""
    changed = []
    for marker in (OUTPUT, GOALS, EXERCISE_LIST):
        for before, after in zip(marker.finditer(old), marker.finditer(new), strict=True):
            bodies = [found["body"] for found in (before, after)]
            if any(f"uv run {program}" in before[0].splitlines()[0] for program in BY_CHANCE):
                kept = [[line.split(";")[0] for line in body.splitlines() if line[:1] != " "] for body in bodies]
                bodies = ["\n".join(lines) for lines in kept]
            if shape(bodies[0]) != shape(bodies[1]):
                changed.append(before[0].splitlines()[0])
    return changed


@click.command()
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing; exit 1 when an output or a list has other lines (those of a missing extra are named).",
)
@click.option("--lists", "only_lists", is_flag=True, help="Only the lists of goals and exercises; runs nothing.")
@click.option("--only", multiple=True, metavar="PROGRAM", help="Run the commands of this program; the rest stays.")
def main(check: bool, only_lists: bool, only: tuple[str, ...]) -> None:
    """Refresh the outputs, the lists and the versions in LEARNING_PLAN.md."""
    old = PLAN.read_text(encoding="utf-8")
    new = with_lists(old)
    if not only_lists:
        new = with_outputs(new, only)
        new = new if only else fill(new, VERSIONS, versions)
    changed = stale(old, new)
    for marker in changed:
        click.echo(f"{'stale' if check else 'changed'}: {marker}")
    if check:
        sys.exit(1 if changed else 0)
    PLAN.write_text(new, encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    click.echo(f"wrote {PLAN.name} and {README.name}")


if __name__ == "__main__":
    main()
