"""What MLflow stores behind the back of a program: its queue of traces, and the links from traces to prompts."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from utils.errors import CheckFailed

LOOKS_EVERY_S = 0.05
LINKS = "link_prompts_from_exporter"
LINK_SECONDS = 60


class AttentiveQueue(queue.Queue):
    """Looks twenty times a second whether it was told to stop; MLflow (3.17) looks once, and a flush waits for it."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block, timeout if timeout is None else min(timeout, LOOKS_EVERY_S))


def wait_for_prompt_links() -> None:
    """After a flush: MLflow (3.17) writes which prompts a trace used in threads that a flush does not wait for.

    Raises:
        CheckFailed: one of them is at work after a minute.
    """
    for thread in threading.enumerate():
        if thread.name.startswith(LINKS):
            thread.join(LINK_SECONDS)
            if thread.is_alive():
                raise CheckFailed("a trace is not linked to its prompt yet", "the store's log: does it answer?")


@contextmanager
def quick_flushes() -> Iterator[None]:
    """For programs that flush hundreds of times, the tour and the tests: a flush does what it always does, and up to a
    second sooner, in queues that are opened meanwhile."""
    from mlflow.tracing.export import async_export_queue

    before = async_export_queue.Queue
    async_export_queue.Queue = AttentiveQueue
    try:
        yield
    finally:
        async_export_queue.Queue = before
