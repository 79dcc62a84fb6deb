"""A second model that judges what the first one answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import click

from utils.lesson_context import tagged
from utils.llm_backends import Backend, open_backend
from utils.options import LLM_TYPES, BackendOptions

F = TypeVar("F", bound=Callable[..., Any])
MOCK_JUDGE = "mock-large"  # the better reader of the two


def judge_options(command: F) -> F:
    """--judge-llm-type and --judge-model."""
    command = click.option("--judge-model", help="Default: the model that answers; with mock, mock-large.")(command)
    return click.option(
        "--judge-llm-type", type=click.Choice(LLM_TYPES), help="Which kind of server judges; default: as --llm-type."
    )(command)


@contextmanager
def open_judge(
    backend: BackendOptions, llm: Backend, judge_llm_type: str | None = None, judge_model: str | None = None
) -> Iterator[Backend]:
    """Inside, OPENAI_BASE_URL and its kin point at the judge, where MLflow's built-in scorers look for it; runs and
    traces carry the tags of the model that answers, and `judge_model`.

    Args:
        llm: what answers, open already. The judge is reached by the same flags, except for its kind and its name.

    Raises:
        BackendUnavailable: no such server or model, or no key.
    """
    kind = judge_llm_type or llm.llm_type
    same_kind = kind == llm.llm_type
    name = judge_model or (MOCK_JUDGE if kind == "mock" else backend.model if same_kind else None)
    if same_kind and (name or llm.model) == llm.model and kind != "mock":
        with tagged(judge_model=llm.model):
            yield llm
        return
    asked = replace(backend, llm_type=kind, model=name, mock_faults="")  # faults on demand are for what answers
    with (
        open_backend(asked) as judge,
        tagged(llm_type=llm.llm_type, llm_model=llm.model, judge_model=judge.model),
    ):
        yield judge
