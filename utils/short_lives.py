"""Processes that do one thing and end in their own way, started from a server that has MLflow imported already."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# `utils` first: it sets what MLflow reads when it is imported.
PRELOADED = ("utils", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "utils.mlflow_setup")
LIFE_SECONDS = 120


def prepared_process(
    work: Callable[..., None], arguments: tuple[Any, ...], preloaded: Sequence[str] = PRELOADED
) -> BaseProcess:
    """A process that will call `work(*arguments)` in the environment and the folder of the caller.

    It is a child of a fork server, of which a program has one: the first call starts it, with the modules that this
    call names. Where there is none (Windows), the process imports everything itself.

    work: a function of a module; like its arguments it is pickled.
    """
    context: Any = multiprocessing.get_context("forkserver" if os.name != "nt" else "spawn")
    if os.name != "nt":
        context.set_forkserver_preload(list(preloaded))
    return context.Process(target=_live, args=(dict(os.environ), Path.cwd(), work, arguments))


def _live(environment: dict[str, str], folder: Path, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """In the child, which has the environment that the fork server was started with: it may be an old one."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    work(*arguments)


def run_processes(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> list[int | None]:
    """Call `work(*arguments[i])` in process i, all of them at once.

    Returns the exit statuses in the order of the arguments, minus the number of the signal for a process that was
    killed, None for one that was still there after LIFE_SECONDS (it is killed then).
    """
    processes = [prepared_process(work, own) for own in arguments]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(LIFE_SECONDS)
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            if process.pid is not None and process.is_alive():
                process.kill()
                process.join()
