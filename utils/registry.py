"""Small things about MLflow's model registry that its objects do not say by themselves."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def logged_model_id(version: "ModelVersion") -> str:
    """The logged model that a version was registered from: a SQL store leaves its `model_id` empty."""
    return str(version.model_id or version.source.removeprefix("models:/"))


@contextmanager
def without_notices() -> Iterator[None]:
    """Around mlflow.register_model, which repeats on stderr what the lesson says; exceptions are raised as ever."""
    with redirect_stderr(StringIO()):
        yield
