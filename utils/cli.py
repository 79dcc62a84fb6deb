"""The frame of every command: flags, the two-line error, progress lines, the closing table."""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, TypeVar

import click

from utils import curriculum, llm_backends, options
from utils.errors import UserError

T = TypeVar("T")
EXIT_INTERRUPTED = 130
UI_URL = "http://127.0.0.1:5000"  # where `mlflow ui` listens


class TwoLineErrors:
    """Every refusal of a click command is two lines on stderr, `error:` and `try:`, and the error's exit status."""

    name: str | None

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        try:
            result = super().main(*args, standalone_mode=False, **kwargs)  # type: ignore[misc]
        except UserError as error:
            _refuse(error.problem, error.cure)
            sys.exit(error.exit_status)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)  # of the sub-command, where one was called
            _refuse(error.format_message(), f"uv run {context.command_path if context else self.name} --help")
            sys.exit(UserError.exit_status)
        except (click.Abort, KeyboardInterrupt):
            click.echo("stopped", err=True)
            sys.exit(EXIT_INTERRUPTED)
        if standalone_mode:
            sys.exit(result if isinstance(result, int) else 0)
        return result


class Command(TwoLineErrors, click.Command):
    """The command of a lesson."""


class Group(TwoLineErrors, click.Group):
    """A command with sub-commands."""


def lesson(
    number: str,
    *,
    llm: str | None = None,
    spark: bool = False,
    rows: bool = False,
    embed: bool = False,
    choose_store: Callable[[dict[str, Any]], str | None] = lambda params: params["tracking_uri"],
) -> Callable[[Callable[..., Any]], Command]:
    """Turn a lesson's main into its command.

    Args:
        number: of the lesson in the manifest; gives the command's name, its experiment and the `lesson` tag.
        llm: the default --llm-type, for lessons that talk to a model: main gets `backend: BackendOptions`.
        spark: main gets `spark: SparkOptions`.
        rows: main gets `source: InputOptions`.
        embed: main gets `embedding: EmbedOptions`.
        choose_store: for a lesson with flags of its own about the store: takes them out of click's parameters and
            returns the tracking URI.

    Around main the store is checked and opened, every run and trace is tagged, and traces are flushed. The command's
    help is the docstring of the lesson's file.
    """
    entry = curriculum.lesson(number)

    def decorate(function: Callable[..., Any]) -> Command:
        @functools.wraps(function)
        def body(**params: Any) -> Any:
            if llm:
                params["backend"] = options.take(options.BackendOptions, params)
            if spark:
                params["spark"] = options.take(options.SparkOptions, params)
            if rows:
                params["source"] = options.take(options.InputOptions, params)
            if embed:
                params["embedding"] = options.take(options.EmbedOptions, params)
            uri, experiment = choose_store(params), params.pop("experiment_name")
            del params["tracking_uri"]
            if llm and params["backend"].llm_type != "mock":  # the mock is part of this process
                refuse_early(uri, params["backend"])
            with lesson_session(entry, uri, experiment):
                return function(**params)

        body.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        wrapped = options.store_options(body)
        wrapped = options.embed_options(wrapped) if embed else wrapped
        wrapped = options.spark_options(wrapped) if spark else wrapped
        wrapped = options.backend_options(llm)(wrapped) if llm else wrapped
        wrapped = options.input_options(wrapped) if rows else wrapped
        return command(entry.command, function)(wrapped)

    return decorate


def command(name: str, documented: Callable[..., Any]) -> Callable[[Callable[..., Any]], Command]:
    """A click command that shows the docstring of the file in which `documented` is written as its help."""
    text = inspect.getdoc(inspect.getmodule(documented)) or ""
    # \b keeps click from joining the lines that are meant to be pasted.
    help_text = "\n\n".join(f"\b\n{paragraph}" for paragraph in text.split("\n\n"))
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
    return click.command(name, cls=Command, help=help_text, context_settings=settings)


def refuse_early(tracking_uri: str | None, backend: options.BackendOptions) -> None:
    """Look for a store and a server that are not there before the seconds that opening a store takes."""
    from utils import mlflow_setup

    mlflow_setup.check_store(tracking_uri or mlflow_setup.default_tracking_uri())
    llm_backends.check_backend(backend)


@contextmanager
def lesson_session(entry: "curriculum.Lesson", tracking_uri: str | None, experiment_name: str | None) -> Iterator[None]:
    """The store is open, runs and traces carry `lesson`, and at the end every trace is in the store."""
    from utils import genai_setup, lesson_context, mlflow_setup

    mlflow_setup.use_store(tracking_uri, experiment_name or entry.experiment)
    with lesson_context.tagged(lesson=entry.number):
        try:
            with genai_setup.traces_flushed():
                yield
        finally:
            mlflow_setup.switch_autolog_off()


class Steps:
    """Numbered progress lines: `steps = Steps(4); steps("Chunked 12 documents")` prints `[1/4] Chunked …`."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0

    def __call__(self, text: str) -> None:
        self.done += 1
        click.echo(f"[{self.done}/{self.total}] {text}")


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar; in a file or a pipe, without one."""
    if not sys.stdout.isatty():
        yield from items
        return
    from rich.progress import track as rich_track

    yield from rich_track(items, description=label, total=total, transient=True)


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """A moving line while something runs that cannot say how far it is; in a file or a pipe, nothing."""
    if not sys.stdout.isatty():
        yield
        return
    from rich.console import Console

    with Console().status(label):
        yield


def typed_lines(prompt: str) -> Iterator[str]:
    """What is typed, line by line without empty ones, up to Ctrl-D or to Ctrl-C at the prompt; a pipe works, too."""
    with suppress(ImportError):  # not there on Windows
        import readline  # noqa: F401  arrow keys, and what was typed before
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            line = input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if line:
            yield line


def show_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print rows as a table; its columns are the keys of the first row, numbers aligned right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(format_value(value)) for value in row.values()))
    # A pipe has no width of its own; 80 columns would cut ids in two.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def show(
    number: str,
    measured: Mapping[str, Any],
    *,
    run_id: str,
    trace_id: str | None = None,
    trace_ids: int | None = None,
) -> None:
    """End a lesson: what it measured, where MLflow keeps it, which page shows it, and what to type next."""
    import mlflow

    entry = curriculum.lesson(number)
    show_table([{"measured": name, "value": value} for name, value in measured.items()])
    click.echo(f"Run:     {run_id}")
    if trace_id:
        more = f"   (one of {trace_ids})" if trace_ids and trace_ids > 1 else ""
        click.echo(f"Trace:   {trace_id}{more}")
    uri, experiment_id = mlflow.get_tracking_uri(), mlflow.get_run(run_id).info.experiment_id
    server, start = (uri, "") if uri.startswith("http") else (UI_URL, f"{ui_command(uri)}, then ")
    click.echo(f"Look at: {start}{server}/#/experiments/{experiment_id}/{entry.page}   ({entry.look})")
    following = curriculum.next_lesson(number)
    click.echo(f"Next:    {following.typed if following else 'uv run mlflow-learn'}")


def ui_command(uri: str) -> str:
    """The command that shows this store: plain `mlflow ui` for the one in the checkout."""
    from utils.mlflow_setup import ROOT

    default = uri == f"sqlite:///{ROOT / 'mlflow.db'}"
    return "uv run mlflow ui" if default else f"uv run mlflow ui --backend-store-uri {uri}"


def format_value(value: Any) -> str:
    """Numbers as people read them: 3 decimals for shares, thousands separated, nothing made up for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3f}"
    return str(value)


def _refuse(problem: str, cure: str) -> None:
    # A library's message inside the problem may have several lines.
    click.echo(f"error: {' '.join(problem.split())}\ntry:   {cure.strip()}", err=True)
