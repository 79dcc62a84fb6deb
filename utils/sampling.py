"""The share of requests that MLflow traces, changed while a process runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

RATIO = "MLFLOW_TRACE_SAMPLING_RATIO"


@contextmanager
def sampling(ratio: float) -> Iterator[None]:
    """Inside, MLflow traces this share (0 to 1) of the requests whose function names no ratio of its own.

    In production MLFLOW_TRACE_SAMPLING_RATIO is set before the process starts. MLflow reads it when it makes its
    tracer, so here the tracer is made anew, and again at the end.
    """
    import mlflow

    mlflow.flush_trace_async_logging()
    before = os.environ.get(RATIO)
    os.environ[RATIO] = str(ratio)
    mlflow.tracing.reset()
    try:
        yield
    finally:
        mlflow.flush_trace_async_logging()
        del os.environ[RATIO]
        if before is not None:
            os.environ[RATIO] = before
        mlflow.tracing.reset()
