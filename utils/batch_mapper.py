"""Many texts in one call, every reply in a journal, and one limit for all workers together.

Beside utils/spark_mapper.py, for jobs that run for hours: see utils/batch_journal.py for what a kill costs.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils import wire
from utils.batch_journal import JournalWriter, answered_before
from utils.spark_mapper import AHEAD, Outcome, Reply, ask

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

Texts = tuple[str, ...]
COUNTS = "calls long, texts long"


@dataclass(frozen=True)
class BatchReply(Reply):
    """`text` is the reply as it came; `answers` are what it says of each text, in their order; empty if it cannot be
    told which answer belongs to which."""

    answers: Texts = ()


OpenBatchCaller = Callable[[], AbstractContextManager[Callable[[Texts], BatchReply]]]


@dataclass(frozen=True)
class Limits:
    """Over all workers together. per_minute: requests that leave, those tried again included; None: no limit."""

    concurrency: int = 16
    rows_per_call: int = 1
    per_minute: float | None = None
    max_attempts: int = 4


def ask_all(texts: "DataFrame", open_caller: OpenBatchCaller, folder: str, job: str, limits: Limits) -> dict[str, int]:
    """Ask about every text of DataFrame[text: string], which are distinct; replies go into the journals of `folder`.

    Args:
        open_caller: opened once for each task, in the worker; picklable. It is given `rows_per_call` texts at a time.
        job: an id that no earlier job had; tells a task that is tried again what its first try has paid for.

    Returns:
        calls made and texts asked about, by the tasks that ended well (a killed worker's calls are in its journal).
    """
    session = texts.sparkSession
    tasks = max(1, min(session.sparkContext.defaultParallelism, limits.concurrency))
    # By turns, not by hash: tasks that are equally long share the limits fairly from the first to the last call.
    spread = texts.repartition(tasks)
    counts = spread.mapInPandas(_task(open_caller, folder, job, limits, tasks), COUNTS)
    found = counts.selectExpr("coalesce(sum(calls), 0) as calls", "coalesce(sum(texts), 0) as texts").first()
    return {"calls": int(found["calls"]), "texts": int(found["texts"])} if found else {"calls": 0, "texts": 0}


def _task(
    open_caller: OpenBatchCaller, folder: str, job: str, limits: Limits, tasks: int
) -> Callable[[Iterator["pd.DataFrame"]], Iterator["pd.DataFrame"]]:
    def map_partition(batches: Iterator["pd.DataFrame"]) -> Iterator["pd.DataFrame"]:
        import pandas as pd
        from pyspark import TaskContext

        task = TaskContext.get()
        number = task.partitionId() if task else 0
        in_flight = limits.concurrency // tasks + (1 if number < limits.concurrency % tasks else 0)
        known = answered_before(folder, job, number)
        todo = (text for batch in batches for text in batch["text"] if text not in known)
        done = {"calls": 0, "texts": 0}
        with (
            wire.at_most_on_the_wire(in_flight, limits.per_minute / tasks if limits.per_minute else None),
            JournalWriter(folder, job, number) as journal,
            open_caller() as call,
            ThreadPoolExecutor(in_flight + AHEAD) as executor,
        ):
            waiting: deque[Future[int]] = deque()
            for chunk in chunks(todo, limits.rows_per_call):
                work = copy_context().run
                waiting.append(executor.submit(work, ask_and_keep, call, journal, chunk, limits.max_attempts))
                done["texts"] += len(chunk)
                while len(waiting) > 2 * (in_flight + AHEAD):  # few are prepared, so that memory stays flat
                    done["calls"] += waiting.popleft().result()
            done["calls"] += sum(future.result() for future in waiting)
        yield pd.DataFrame([done])

    return map_partition


def chunks(texts: Iterable[str], size: int) -> Iterator[Texts]:
    """In their order, `size` at a time; the last may be smaller."""
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield tuple(chunk)
            chunk = []
    if chunk:
        yield tuple(chunk)


def ask_and_keep(call: Callable[[Texts], BatchReply], journal: JournalWriter, texts: Texts, max_attempts: int) -> int:
    """Ask about these texts in one call, and one by one where its reply cannot be read. Returns the calls made."""
    outcome = ask(call, texts, max_attempts)  # type: ignore[arg-type]  # it hands the texts to `call` and no more
    reply: Any = outcome.reply
    if reply is None or len(reply.answers) == len(texts):
        keep(journal, texts, outcome)
        return len(outcome.calls)
    error = f"BadReply: {len(reply.answers)} answers for {len(texts)} rows"
    keep(journal, texts if len(texts) == 1 else (), outcome, error, asked=texts)
    made = len(outcome.calls)
    if len(texts) > 1:
        made += sum(ask_and_keep(call, journal, (text,), max_attempts) for text in texts)
    return made


def keep(journal: JournalWriter, texts: Texts, outcome: Outcome, error: str | None = None, asked: Texts = ()) -> None:
    reply: Any = outcome.reply
    problem = error or outcome.error
    journal.write(
        texts=list(texts),
        answers=[None] * len(texts) if problem else list(reply.answers),
        error=problem,
        calls=outcome.calls,
        prompt_tokens=reply.prompt_tokens if reply else None,
        completion_tokens=reply.completion_tokens if reply else None,
        asked=list(asked),
        reply=reply.text if asked else None,
    )
