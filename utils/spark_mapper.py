"""LLM calls from Spark: every distinct text asked once, a bounded number in flight, a failed row, not a failed job.

The lesson brings the call itself as a context manager that a worker opens once per partition:

    @contextmanager
    def open_caller() -> Iterator[Callable[[str], Reply]]:
        client = settings.openai_client(max_retries=0)
        yield lambda prompt: ...

Answers are written to Parquet before anything else is done with them: a filter or a sort on a lazy answer column would
ask the model again.
"""

import re
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.wait import wait_base

from utils import wire
from utils.model_servers import BadReply

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame

RETRY_STATUS = {408, 409, 425, 429}  # besides all of 500 and above
LONGEST_WAIT_S = 60.0  # a server's Retry-After is honoured up to here
AHEAD = 4  # threads of a task beyond its calls in flight: they keep the wire full (benchmarks/spark_llm.py)
ERROR_CHARACTERS = 300
SECRET = re.compile(r"\b(sk-|Bearer )\S+")
CALL = "struct<started_ns: long, ended_ns: long, error: string>"
ANSWER_COLUMNS = (
    "answer string, error string, attempts int, latency_ms double, prompt_tokens long, completion_tokens long, "
    f"calls array<{CALL}>"
)


@dataclass(frozen=True)
class Reply:
    """What one call brought: the text, and the tokens that the server counted (None where it does not count)."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


Caller = Callable[[str], Reply]
OpenCaller = Callable[[], AbstractContextManager[Caller]]


@dataclass
class Outcome:
    """One prompt's answer or error, and every call that was made for it."""

    reply: Reply | None = None
    error: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)


def map_prompts(
    frame: "DataFrame",
    open_caller: OpenCaller,
    output: Path | str,
    *,
    concurrency: int = 16,
    max_attempts: int = 4,
    ahead: int = 0,
) -> "DataFrame":
    """Ask the model every distinct prompt of a DataFrame once and keep the answers in Parquet.

    Args:
        frame: DataFrame[text: string, …]; null and blank prompts are not asked.
        open_caller: opened once per partition, in the worker; picklable.
        output: Parquet folder that is written (and replaced if it exists).
        concurrency: calls in flight over all partitions together.
        max_attempts: calls per prompt; 429, 5xx, time-outs and replies that are none are tried again.
        ahead: threads of each task beyond its calls in flight, which prepare requests and read replies meanwhile. Only
            for callers whose clients come from utils.llm_backends: these count what is on the wire.

    Returns:
        DataFrame[text: string, answer: string, error: string, attempts: int, latency_ms: double (last call),
        prompt_tokens: long, completion_tokens: long, calls: array<struct<started_ns, ended_ns, error>>], one row per
        distinct prompt, read back from `output`. Exactly one of answer and error is null.
    """
    session = frame.sparkSession
    # No more tasks than run at the same time: then the sum of their pools is what is in flight.
    tasks = max(1, min(session.sparkContext.defaultParallelism, concurrency))
    pools = [concurrency // tasks + (1 if i < concurrency % tasks else 0) for i in range(tasks)]
    # Spread by the text itself, equal texts meet in one task: `distinct` needs no second shuffle.
    prompts = frame.select("text").where(r"text rlike r'\S'").repartition(tasks, "text").distinct()
    mapped = prompts.mapInPandas(
        _partition_mapper(open_caller, pools, max_attempts, ahead), f"text string, {ANSWER_COLUMNS}"
    )
    mapped.write.mode("overwrite").parquet(str(output))
    return session.read.schema(mapped.schema).parquet(str(output))  # without a schema Spark opens a file to find it


def join_answers(frame: "DataFrame", answers: "DataFrame") -> "DataFrame":
    """Every row of `frame` with the columns of its prompt's answer: rows in = rows out, duplicates included."""
    from pyspark.sql import functions as F

    joined = frame.join(answers, on="text", how="left")
    return joined.withColumn("error", F.when(F.col("attempts").isNull(), "empty prompt").otherwise(F.col("error")))


def is_sampled(text: str, share: float) -> bool:
    """Whether this text belongs to the traced sample; the same answer in every process."""
    return zlib.crc32(text.encode()) < share * 2**32


def _partition_mapper(
    open_caller: OpenCaller, pools: list[int], max_attempts: int, ahead: int
) -> Callable[[Iterator["pd.DataFrame"]], Iterator["pd.DataFrame"]]:
    def map_partition(batches: Iterator["pd.DataFrame"]) -> Iterator["pd.DataFrame"]:
        from pyspark import TaskContext

        task = TaskContext.get()
        in_flight = pools[task.partitionId() % len(pools)] if task else pools[0]
        with (
            wire.at_most_on_the_wire(in_flight),
            open_caller() as call,
            ThreadPoolExecutor(in_flight + ahead) as executor,
        ):
            waiting: deque[tuple[pd.DataFrame, list[Future[Outcome]]]] = deque()
            for batch in batches:
                # copy_context: spans that the call makes find the parent that open_caller set in this thread.
                futures = [executor.submit(copy_context().run, ask, call, p, max_attempts) for p in batch["text"]]
                waiting.append((batch, futures))
                # The next batch is submitted before the last one is waited for, so the pool never runs dry.
                while len(waiting) > 2:
                    yield _collect(*waiting.popleft())
            while waiting:
                yield _collect(*waiting.popleft())

    return map_partition


def ask(call: Caller, prompt: str, max_attempts: int) -> Outcome:
    """Call until there is an answer, the error is final, or the attempts are used up. Never raises."""
    outcome = Outcome()
    retrying = Retrying(
        stop=stop_after_attempt(max_attempts),
        wait=WaitAsTold(),
        retry=retry_if_exception(worth_another_try),
        reraise=True,
    )
    try:
        outcome.reply = retrying(_timed_call, call, prompt, outcome.calls)
    except Exception as error:  # noqa: BLE001 a failed row, with its reason, instead of a failed job
        outcome.error = describe(error)
    return outcome


def _timed_call(call: Caller, prompt: str, calls: list[dict[str, Any]]) -> Reply:
    record: dict[str, Any] = {"started_ns": time.time_ns(), "ended_ns": None, "error": None}
    calls.append(record)
    wire.forget_sent()
    try:
        reply = call(prompt)
        if not isinstance(reply.text, str) or not reply.text.strip():
            raise BadReply("the reply holds no text")
        return reply
    except Exception as error:
        record["error"] = describe(error)
        raise
    finally:
        record["ended_ns"] = time.time_ns()
        # A call that had to wait for its place took no longer for that.
        record["started_ns"] = wire.sent_ns() or record["started_ns"]


def worth_another_try(error: BaseException) -> bool:
    """False only where the server says that this request is wrong (4xx); a fault of the moment may pass."""
    # A 200 that holds garbage may also arrive as an exception that carries its status.
    status = status_of(error) or 0
    return isinstance(error, Exception) and (status in RETRY_STATUS or not 400 <= status < 500)


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that an exception of the OpenAI SDK, of Ollama's client or of httpx carries, if any."""
    status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) and status >= 100 else None


def retry_after_s(error: BaseException | None) -> float | None:
    """What the server asked for in retry-after-ms or in Retry-After (seconds or a date), 0 to LONGEST_WAIT_S."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    for name, to_seconds in (("retry-after-ms", _milliseconds), ("retry-after", float), ("retry-after", _until)):
        try:
            # In this order what is no number at all (nan) ends as 0, too.
            return min(max(0.0, to_seconds(headers[name])), LONGEST_WAIT_S)
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _milliseconds(value: str) -> float:
    return float(value) / 1000


def _until(date: str) -> float:
    """Seconds from now to an HTTP date, which is always in GMT."""
    return parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp() - datetime.now(UTC).timestamp()


class WaitAsTold(wait_base):
    """Exponential back-off with jitter, and never less than the server's Retry-After."""

    backoff = wait_random_exponential(multiplier=0.25, max=8)  # seconds

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        return (retry_after_s(error) or 0.0) + self.backoff(retry_state)


def describe(error: BaseException) -> str:
    """One line for the error column, without anything that looks like a key."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    # A gateway's key may look like anything: the one that was sent stands in the request.
    headers = getattr(getattr(error, "request", None), "headers", None) or {}
    if key := headers.get("authorization", "").removeprefix("Bearer "):
        text = text.replace(key, "…")
    return SECRET.sub(r"\1…", text)[:ERROR_CHARACTERS]


def _collect(batch: "pd.DataFrame", futures: "list[Future[Outcome]]") -> "pd.DataFrame":
    import pandas as pd

    rows = [_row(prompt, future.result()) for prompt, future in zip(batch["text"], futures, strict=True)]
    frame = pd.DataFrame(rows)
    # Pandas would turn a column of counts with a gap into floats, which Spark refuses for a long.
    return frame.astype({"prompt_tokens": "Int64", "completion_tokens": "Int64"})


def _row(prompt: str, outcome: Outcome) -> dict[str, Any]:
    last = outcome.calls[-1]
    reply = outcome.reply
    return {
        "text": prompt,
        "answer": reply.text if reply else None,
        "error": outcome.error,
        "attempts": len(outcome.calls),
        "latency_ms": (last["ended_ns"] - last["started_ns"]) / 1e6,
        "prompt_tokens": reply.prompt_tokens if reply else None,
        "completion_tokens": reply.completion_tokens if reply else None,
        "calls": outcome.calls,
    }
