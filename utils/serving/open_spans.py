"""Spans that nobody ends: what an agent had begun when its caller went away."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import LiveSpan


def end_open_spans(root: "LiveSpan") -> int:
    """End what is still open in a trace, the innermost first and the root last; how many there were.

    Autologs end the span of a stream when the stream ends, and not when its reader leaves; a root that is cleaned up
    outside of its request cannot end by itself. MLflow (3.17) holds a trace back until all of its spans have ended, so
    without this such a trace is never stored.
    """
    from mlflow.tracing.trace_manager import InMemoryTraceManager

    with InMemoryTraceManager.get_instance().get_trace(root.trace_id) as trace:
        spans = list(trace.span_dict.values()) if trace else []  # none: it is on its way to the store
    still_open = [span for span in reversed(spans) if span.end_time_ns is None]
    for span in still_open:
        span.end()
    return len(still_open)


@contextmanager
def noting_departure(root: "LiveSpan | None") -> Iterator[None]:
    """The caller went away in the middle: whoever reads the trace of a half answer should know why it is one."""
    try:
        yield
    except (GeneratorExit, asyncio.CancelledError):
        if root:
            root.set_attribute("caller_left", True)
        raise
