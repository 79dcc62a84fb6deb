"""Know where you stand in the curriculum, and what to type next.

uv run mlflow-learn               progress, proved from the MLflow store
uv run mlflow-learn tour          run every lesson with the mock model
uv run mlflow-learn run 2.2       run one lesson and see what evidence it left
uv run mlflow-learn hint 2.2      a question that leads on
uv run mlflow-learn check 2.2a    what an exercise still lacks; without its id, all of them
uv run mlflow-learn goals         what you should know and show, ticked from the store
uv run mlflow-learn ui            mlflow ui on the lessons' store, and the pages to open
uv run mlflow-learn doctor        what is missing on this machine, and its cure
"""

import sys

import click

from utils import curriculum, exercises
from utils.cli import Group
from utils.errors import InputError
from utils.options import LLM_TYPES

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group("mlflow-learn", cls=Group, invoke_without_command=True, context_settings=SETTINGS,
             help="\n\n".join("\b\n" + part for part in (__doc__ or "").split("\n\n")))  # fmt: skip
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", show_envvar=True,
              help="MLflow store; default: mlflow.db in the checkout's root.")  # fmt: skip
@click.option("--track", type=click.Choice(curriculum.TRACKS), help="Only the modules of this track.")
@click.pass_context
def main(context: click.Context, tracking_uri: str | None, track: str | None) -> None:
    context.obj = tracking_uri
    if context.invoked_subcommand is None:
        from utils.learn.status import show_status

        show_status(tracking_uri, track)


@main.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("number")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run_lesson(context: click.Context, number: str, flags: tuple[str, ...]) -> None:
    """Run lesson NUMBER, then say what evidence it left. Flags of the lesson go behind `--`."""
    from utils.learn.status import show_evidence
    from utils.learn.tour import run_here

    entry = find_lesson(number)
    store = ["--tracking-uri", context.obj] if context.obj else []
    status = run_here(entry, [*store, *flags])
    if status == 0 and not {"-h", "--help"} & set(flags):
        import mlflow

        show_evidence(entry, mlflow.get_tracking_uri())  # the store that the lesson used, whatever its flags were
    sys.exit(status)


@main.command("tour")
@click.option("--module", type=click.IntRange(1, 8), help="This module only, and what it builds on.")
@click.option("--llm-type", type=click.Choice(LLM_TYPES), default="mock", show_default=True,
              help="Which kind of server answers.")  # fmt: skip
@click.option("--lesson-timeout", type=click.IntRange(min=1), default=600, show_default=True,
              help="Seconds after which a lesson is stopped and counts as failed.")  # fmt: skip
@click.option("--at-once", type=click.IntRange(1, 16),
              help="Lessons that run at the same time.  [default: 2 with mock, 1 with a real model]")  # fmt: skip
@click.pass_context
def take_tour(
    context: click.Context, module: int | None, llm_type: str, lesson_timeout: int, at_once: int | None
) -> None:
    """Run all lessons, one line for each as it ends, and check what each left in MLflow."""
    from utils.learn.tour import run_tour

    chosen = [entry for entry in curriculum.LESSONS if module in (None, entry.module.number)]
    if not chosen:
        raise InputError(f"module {module} has no lessons yet", "uv run mlflow-learn")
    together = at_once or (2 if llm_type == "mock" else 1)  # a model on this machine has no cores to spare
    sys.exit(run_tour(curriculum.with_required(chosen), context.obj, llm_type, lesson_timeout, together))


@main.command("hint")
@click.argument("number")
@click.argument("level", type=click.IntRange(min=1), default=1)
def hint(number: str, level: int) -> None:
    """A question about lesson or exercise NUMBER; a higher LEVEL asks more, the last says where to look."""
    entry = find_exercise(number) if number[-1:].isalpha() else find_lesson(number)
    if level > len(entry.hints):
        raise InputError(
            f"{number} has {len(entry.hints)} hints",
            f"uv run mlflow-learn hint {number} {len(entry.hints)}",
        )
    click.echo(f"{number} {entry.title}\n\n{entry.hints[level - 1]}\n")
    if level < len(entry.hints):
        click.echo(f"Next hint: uv run mlflow-learn hint {number} {level + 1}")


@main.command("goals")
@click.option("--module", type=click.IntRange(1, 8), help="Only the goals of this module.")
@click.pass_context
def see_goals(context: click.Context, module: int | None) -> None:
    """Learning goals, success criteria and the production checklist; what MLflow can prove is ticked from the store."""
    from utils.learn.goals import show_goals

    show_goals(context.obj, module)


@main.command("check")
@click.argument("number", required=False)
@click.pass_context
def check(context: click.Context, number: str | None) -> None:
    """What exercise NUMBER still lacks in MLflow; without NUMBER, which exercises are done."""
    from utils.learn.check import show_check, show_exercises

    if number is None:
        show_exercises(context.obj)
    else:
        sys.exit(show_check(find_exercise(number), context.obj))


@main.command("ui")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.pass_context
def ui(context: click.Context, port: int) -> None:
    """Start mlflow ui on the store that the lessons use, and name the pages to open."""
    from utils.learn.ui import run_ui

    sys.exit(run_ui(context.obj, port))


@main.command("doctor")
@click.option("--ollama-url", default="http://localhost:11434", envvar="OLLAMA_URL", show_default=True)
@click.option("--openai-base-url", envvar="OPENAI_BASE_URL", help="Your own server of OpenAI's API.")
@click.pass_context
def see_doctor(context: click.Context, ollama_url: str, openai_base_url: str | None) -> None:
    """Look at this machine: versions, Java, store, model servers, disk. Each finding comes with its cure."""
    from utils.learn.doctor import examine, show_findings

    sys.exit(show_findings(examine(context.obj, ollama_url, openai_base_url)))


def find_lesson(number: str) -> curriculum.Lesson:
    """The lesson with this number.

    Raises:
        InputError: there is none.
    """
    try:
        return curriculum.lesson(number)
    except KeyError:
        known = ", ".join(entry.number for entry in curriculum.LESSONS)
        raise InputError(f"there is no lesson {number}", f"one of {known}") from None


def find_exercise(number: str) -> exercises.Exercise:
    """The exercise with this id.

    Raises:
        InputError: there is none.
    """
    try:
        return exercises.exercise(number)
    except KeyError:
        known = ", ".join(entry.id for entry in exercises.EXERCISES)
        raise InputError(f"there is no exercise {number}", f"one of {known}") from None
