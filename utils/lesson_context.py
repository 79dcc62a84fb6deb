"""The tags that say which lesson and which model a run, a trace or a logged model came from.

MLflow asks `LessonContext` for tags whenever it creates a run (entry point `mlflow.run_context_provider`); traces get
the same tags through `mlflow.tracing.context`. Lessons therefore never repeat them.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_current: dict[str, str] = {}


class LessonContext:
    """Adds the current lesson's tags to every run: `lesson`, and `llm_type` and `llm_model` while a backend is open.

    It has the two methods of MLflow's RunContextProvider but does not inherit from it: MLflow loads this module while
    it is itself being imported.
    """

    def in_context(self) -> bool:
        return bool(_current)

    def tags(self) -> dict[str, str]:
        return dict(_current)


def current_tags() -> dict[str, str]:
    """The tags in force now, for objects that MLflow does not tag by itself (logged models, datasets)."""
    return dict(_current)


@contextmanager
def tagged(**tags: str) -> Iterator[None]:
    """Every run and trace started inside carries these tags besides those of the enclosing blocks."""
    import mlflow

    before = dict(_current)
    _current.update(tags)
    try:
        with mlflow.tracing.context(tags=dict(tags)):
            yield
    finally:
        _current.clear()
        _current.update(before)


def tagged_in_threads(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose traces carry the tags also where another thread calls it, as mlflow.genai.evaluate's
    do: MLflow keeps the tags of traces in a context variable, and new threads begin without."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        import mlflow

        with mlflow.tracing.context(tags=current_tags()):
            return function(*args, **kwargs)

    return call
