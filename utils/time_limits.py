"""Time limits for work that cannot be asked to stop."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class OutOfTime(Exception):
    """The work took longer than it may."""


def within(seconds: float, work: Callable[..., T], *arguments: Any) -> T:
    """The result of `work(*arguments)`, if it is there in time; its exception, if it raises one.

    Work that hangs stays behind in a daemon thread, which ends with the process: Python cannot stop it. The thread sees
    the caller's context variables, so that its spans find their parent.

    Raises:
        OutOfTime: it is not there after `seconds`.
    """
    done: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(work, *arguments))
        except Exception as error:  # noqa: BLE001  it is raised again where the result is asked for
            done.set_exception(error)

    threading.Thread(target=run, name="time-limited", daemon=True).start()
    try:
        return done.result(max(seconds, 0))
    except TimeoutError as error:
        if done.done():  # the work's own
            raise
        raise OutOfTime(f"nothing came back within {max(seconds, 0):.2g} seconds") from error
