"""`mlflow-learn tour` and `run`: lessons run as the commands they are, each in a process of its own.

Lessons that do not build on each other run at once, as many as the caller says. A child of a preloaded fork server
starts in a second, where a cold process would import everything again.
"""

import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import entry_points
from multiprocessing.process import BaseProcess
from pathlib import Path

import click

from utils import curriculum
from utils.cli import Command, show_table
from utils.learn.status import open_store, where_to_look
from utils.mlflow_setup import ROOT, default_tracking_uri
from utils.short_lives import prepared_process
from utils.trace_queue import quick_flushes

PRELOADED = ["utils.learn.preloaded"]
TAIL_LINES = 15
STOP_SECONDS = 60  # for a lesson that is stopped to end its servers
EXTRA_MODULES = {
    "local": "xllamacpp",
    "optimize": "dspy",
    "frameworks": "pydantic_ai",
    "huggingface": "torch",
}


@dataclass(frozen=True)
class Stop:
    """One lesson of the tour: `done`, `failed` or `skipped`, and why."""

    entry: curriculum.Lesson
    state: str
    seconds: float
    note: str = ""


def run_here(entry: curriculum.Lesson, flags: list[str]) -> int:
    """Run a lesson's command in this process and return its exit status."""
    try:
        _load(entry).main(args=flags, prog_name=entry.command)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def run_tour(
    lessons: list[curriculum.Lesson], tracking_uri: str | None, llm_type: str, timeout_s: int, at_once: int = 1
) -> int:
    """Run the lessons in order, print a line for each and a table at the end. Returns the exit status."""
    uri = tracking_uri or default_tracking_uri()
    click.echo(f"{len(lessons)} lessons with {llm_type}, {at_once} at once, into {uri}")
    stops = []
    with tempfile.TemporaryDirectory(prefix="mlflow-learn-tour-") as folder:
        for stop in _stops(lessons, at_once, lambda entry: _visit(entry, uri, llm_type, timeout_s, Path(folder))):
            came_to = f"{stop.state}, {stop.seconds:.1f} s" if stop.state == "done" else f"{stop.state}: {stop.note}"
            click.echo(f"{stop.entry.number}  {stop.entry.command:<34}{came_to}")
            stops.append(stop)
    stops.sort(key=lambda stop: lessons.index(stop.entry))
    show_table(
        [{"lesson": s.entry.number, "title": s.entry.title, "state": s.state, "seconds": s.seconds} for s in stops]
    )
    failed = [stop for stop in stops if stop.state == "failed"]
    click.echo(f"{len(failed)} failed; uv run mlflow-learn doctor" if failed else f"Look at: {where_to_look(uri)}")
    click.echo("Next:    uv run mlflow-learn")
    return 1 if failed else 0


def _stops(
    lessons: list[curriculum.Lesson], at_once: int, visit: Callable[[curriculum.Lesson], Stop]
) -> Iterator[Stop]:
    """Each lesson as it ends. They begin in order, each after those that it builds on; one that mostly waits takes no
    place from the others."""
    waiting, running = list(lessons), dict[Future[Stop], curriculum.Lesson]()
    with ThreadPoolExecutor(len(lessons)) as pool:
        while waiting or running:
            open_numbers = {entry.number for entry in (*waiting, *running.values())}
            places = at_once - sum(not entry.mostly_waits for entry in running.values())
            for entry in [entry for entry in waiting if open_numbers.isdisjoint(entry.requires)]:
                if not (places or entry.mostly_waits):
                    break
                places -= not entry.mostly_waits
                waiting.remove(entry)
                running[pool.submit(visit, entry)] = entry
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                del running[ended]
                yield ended.result()


def _visit(entry: curriculum.Lesson, uri: str, llm_type: str, timeout_s: int, folder: Path) -> Stop:
    """Run one lesson in a child process, then ask the store for its evidence."""
    if entry.extra and not importlib.util.find_spec(EXTRA_MODULES[entry.extra]):
        return Stop(entry, "skipped", 0.0, f"needs uv sync --extra {entry.extra}")
    flags = ["--tracking-uri", uri, *entry.tour_args]
    if entry.uses_llm:
        flags += ["--llm-type", llm_type]
    log = folder / f"{entry.command}.log"
    started, since_ms = time.perf_counter(), int(time.time() * 1000)
    child = prepared_process(_child, (entry.number, flags, str(log)), PRELOADED)
    child.start()
    child.join(timeout_s)
    seconds = time.perf_counter() - started
    if child.is_alive():
        end(child)
        return Stop(entry, "failed", seconds, f"stopped after {timeout_s} s\n{_tail(log)}")
    if child.exitcode != 0:
        return Stop(entry, "failed", seconds, f"exit status {child.exitcode}\n{_tail(log)}")
    missing = _missing_evidence(entry, uri, since_ms)
    return Stop(entry, "failed" if missing else "done", seconds, f"left no {missing}" if missing else "")


def end(child: BaseProcess) -> None:
    """As by Ctrl-C, so that a lesson ends the servers that it has started; by force what does not obey."""
    if child.pid is not None:
        os.kill(child.pid, signal.SIGINT)
    child.join(STOP_SECONDS)
    if child.is_alive():
        child.kill()
        child.join()


def _child(number: str, flags: list[str], log: str) -> None:
    """In the child: everything that the lesson prints goes into its log, also what Spark's JVM prints."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background may have it ignored
    with Path(log).open("wb", buffering=0) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    entry = curriculum.lesson(number)
    main_module = sys.modules["__main__"]
    # A fork server's child may have a main module without a file. PySpark takes such a process for its own doctests,
    # finds no optional package missing, and exits with 0 in the middle of the lesson.
    if not hasattr(main_module, "__file__"):
        main_module.__file__ = str(ROOT / entry.file)
    with quick_flushes():
        sys.exit(run_here(entry, flags))


def _missing_evidence(entry: curriculum.Lesson, uri: str, since_ms: int) -> str:
    """What the store does not hold of this run of the lesson: an earlier one proves nothing."""
    store = open_store(uri, since_ms)
    missing = [finding.evidence.what for finding in store.findings(entry) if not finding.proved] if store else ["store"]
    return "; ".join(missing)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"      {line}" for line in lines[-TAIL_LINES:])


def _load(entry: curriculum.Lesson) -> Command:
    """The lesson's command, as pyproject.toml installs it."""
    (script,) = entry_points(group="console_scripts", name=entry.command)
    return script.load()
