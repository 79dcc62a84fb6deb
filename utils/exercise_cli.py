"""The frame of an exercise: like that of a lesson, but what it leaves in MLflow is tagged `exercise`."""

import functools
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from utils import exercises, options
from utils.cli import Command, command


class ExerciseCommand(Command):
    """Calls itself by what a learner types, which for an exercise is its file."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("prog_name", self.name)
        return super().main(*args, **kwargs)


def exercise_command(number: str, *, llm: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Turn an exercise's main into a command that ends by naming its check.

    Args:
        number: id in the manifest of exercises; gives the experiment and the `exercise` tag.
        llm: the default --llm-type, for exercises that talk to a model: main gets `backend: BackendOptions`.
    """
    entry = exercises.exercise(number)

    def decorate(function: Callable[..., Any]) -> Command:
        @functools.wraps(function)
        def body(**params: Any) -> None:
            if llm:
                params["backend"] = options.take(options.BackendOptions, params)
            uri, experiment = params.pop("tracking_uri"), params.pop("experiment_name")
            following = check_command(entry, uri)  # asked first: opening a store makes it the default
            with exercise_session(entry, uri, experiment):
                function(**params)
            click.echo(f"Check: {following}")

        body.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        wrapped = options.store_options(body)
        wrapped = options.backend_options(llm)(wrapped) if llm else wrapped
        made = command(entry.command, function)(wrapped)
        return ExerciseCommand(
            made.name,
            callback=made.callback,
            params=made.params,
            help=made.help,
            context_settings=made.context_settings,
        )

    return decorate


@contextmanager
def exercise_session(entry: "exercises.Exercise", uri: str | None, experiment_name: str | None) -> Iterator[None]:
    """The store is open, runs and traces carry `exercise`, and at the end every trace is in the store."""
    from utils import genai_setup, lesson_context, mlflow_setup

    mlflow_setup.use_store(uri, experiment_name or entry.lesson.experiment)
    with lesson_context.tagged(exercise=entry.id):
        try:
            with genai_setup.traces_flushed():
                yield
        finally:
            mlflow_setup.switch_autolog_off()


def check_command(entry: "exercises.Exercise", uri: str | None) -> str:
    """The command that checks this exercise in the store that it was run on."""
    from utils.mlflow_setup import default_tracking_uri

    store = f"--tracking-uri {shlex.quote(uri)} " if uri and uri != default_tracking_uri() else ""
    return f"uv run mlflow-learn {store}check {entry.id}"
