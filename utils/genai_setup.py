"""The GenAI side of the set-up: traces that are complete before a command ends, and where they can be seen."""

from collections.abc import Iterator
from contextlib import contextmanager

from utils.trace_queue import wait_for_prompt_links


@contextmanager
def traces_flushed() -> Iterator[None]:
    """Leave only when every trace is in the store: spans are written by a background queue.

    terminate: after it spans are written as they end. Without it the queue is opened again, and closing that one waits
    a second for spans that will not come (measured with MLflow 3.17).

    Source: https://mlflow.org/docs/latest/genai/tracing/prod-tracing/ (a killed process loses what is in the queue).
    """
    import mlflow

    try:
        yield
    finally:
        mlflow.flush_trace_async_logging(terminate=True)
        wait_for_prompt_links()
