"""Processes that do one thing and end in their own way, started from a server that has MLflow imported already."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

# `utils` first: it sets what MLflow reads when it is imported.
PRELOADED = ["utils", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "utils.mlflow_setup"]
LIFE_SECONDS = 120


def run_processes(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> list[int | None]:
    """Call `work(*arguments[i])` in process i, all of them at once.

    work: a function of a module; like its arguments it is pickled. The processes inherit the environment that the
    server was started with, so what they need is an argument.

    Returns the exit statuses in the order of the arguments, minus the number of the signal for a process that was
    killed, None for one that was still there after LIFE_SECONDS (it is killed then).
    """
    context: Any = multiprocessing.get_context("forkserver" if os.name != "nt" else "spawn")
    if os.name != "nt":
        context.set_forkserver_preload(PRELOADED)
    processes: list[BaseProcess] = [context.Process(target=work, args=own) for own in arguments]
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
