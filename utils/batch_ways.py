"""Three ways to call a model from Spark, counted: a row UDF, a pandas UDF, and the mapper."""

import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.batch_journal import JobFolder
from utils.batch_mapper import Limits, OpenBatchCaller, ask_all
from utils.batch_rows import BatchRows
from utils.spark_mapper import ask

if TYPE_CHECKING:
    from pyspark.accumulators import Accumulator
    from pyspark.sql import DataFrame, SparkSession

_opened = ExitStack()
WANTED = "answer is not null"  # the harmless filter that lets a lazy column ask again


def compare_ways(
    session: "SparkSession", rows: BatchRows, open_caller: OpenBatchCaller, count: int, concurrency: int
) -> list[dict[str, Any]]:
    """Ask about `count` rows by each way and keep those with an answer: calls, seconds and rows that came out."""
    frame = rows.frame(session, count).select("text").localCheckpoint()  # made once, not once for each way
    _start_workers(frame, open_caller)
    ways = {"row UDF": _by_row_udf, "pandas UDF": _by_pandas_udf}
    found = []
    for way, by_way in ways.items():
        calls = session.sparkContext.accumulator(0)
        started = time.perf_counter()
        kept = len(by_way(frame, open_caller, calls).where(WANTED).collect())
        found.append(_row(way, frame, kept, calls.value, time.perf_counter() - started))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_scratch()) as name:
        folder = JobFolder.open(Path(name), {}, resume=False, replace=True)
        counts = ask_all(
            frame.distinct(), open_caller, str(folder.path), uuid.uuid4().hex, Limits(concurrency, rows_per_call=1)
        )
        kept = frame.join(folder.answers(session), "text", "left").where(WANTED).count()
    found.append(_row("mapper", frame, kept, counts["calls"], time.perf_counter() - started))
    return found


def _scratch() -> Path:
    """On a disk that workers on this machine see."""
    from utils.mlflow_setup import STATE_DIR

    STATE_DIR.mkdir(exist_ok=True)
    return STATE_DIR


def _start_workers(frame: "DataFrame", open_caller: OpenBatchCaller) -> None:
    """The first job would pay for the start of Python and of its libraries, whichever way it goes."""

    def open_only(batches: Iterator[Any]) -> Iterator[Any]:
        with open_caller():
            yield from batches

    from pyspark.sql import functions as F

    frame.mapInPandas(open_only, "text string").count()
    is_open = F.udf(
        lambda text: text is not None and callable(_kept_caller(open_caller)), "boolean"
    )  # UDFs have workers of their own
    frame.where(is_open("text")).count()


def _row(way: str, frame: "DataFrame", kept: int, calls: int, seconds: float) -> dict[str, Any]:
    return {"way": way, "rows": frame.count(), "answered": kept, "calls": calls, "rows/s": kept / seconds}


@cache
def _kept_caller(open_caller: OpenBatchCaller) -> Any:
    """In a worker: one client for all rows that it gets. It ends with the worker."""
    return _opened.enter_context(open_caller())


def _answer(call: Any, text: str) -> str | None:
    reply = ask(call, (text,), max_attempts=1).reply  # type: ignore[arg-type]  # an error would end the whole job
    return reply.text if reply else None


def _by_row_udf(frame: "DataFrame", open_caller: OpenBatchCaller, calls: "Accumulator[int]") -> "DataFrame":
    from pyspark.sql import functions as F

    def answer(text):  # type: ignore[no-untyped-def]  # PySpark takes hints for those of a pandas UDF, and warns
        calls.add(1)
        return _answer(_kept_caller(open_caller), text)

    return frame.withColumn("answer", F.udf(answer, "string")("text")).withColumn("length", F.length("answer"))


def _by_pandas_udf(frame: "DataFrame", open_caller: OpenBatchCaller, calls: "Accumulator[int]") -> "DataFrame":
    import pandas as pd
    from pyspark.sql import functions as F

    def answer(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        with open_caller() as call:
            for batch in batches:
                calls.add(len(batch))
                yield pd.Series([_answer(call, text) for text in batch], dtype="object")

    column: Any = F.pandas_udf(answer, "string")  # type: ignore[call-overload]
    return frame.withColumn("answer", column("text")).withColumn("length", F.length("answer"))
