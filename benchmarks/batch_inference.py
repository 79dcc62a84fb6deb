"""How fast the resumable mapper of lesson 8.2 asks, and what its driver needs, against a stub of 100 ms.

    uv run python benchmarks/batch_inference.py
    uv run python benchmarks/batch_inference.py --rows 6000 --repeat 3

The figure is a ratio within one run: texts per second over concurrency ÷ latency. The stub is a process of its own,
and the workers are started before the clock is. `busy cores` says when the machine, not the mapper, is the limit.
"""

import json
import os
import statistics
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path

import click
from spark_llm import LABELS, WARM_ROWS, stub

from spark.spark_batch_inference import BATCH_TEMPLATE, Question, open_caller
from utils.batch_journal import JobFolder
from utils.batch_mapper import Limits, ask_all
from utils.cli import show_table
from utils.llm_backends import BackendSettings
from utils.sentiment_job import TEMPLATE
from utils.spark_utils import spark_session


def busy_s() -> float:
    """CPU seconds that the whole machine has used so far."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return (sum(map(int, fields)) - int(fields[3]) - int(fields[4])) / os.sysconf("SC_CLK_TCK")


@click.command()
@click.option("--rows", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option("--concurrency", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--latency-ms", type=float, default=100.0, show_default=True)
@click.option("--repeat", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here, too.")
def main(rows: int, concurrency: int, latency_ms: float, repeat: int, json_path: Path | None) -> None:
    ideal = concurrency / (latency_ms / 1000)
    with (
        tempfile.TemporaryDirectory() as name,
        stub(latency_ms) as base_url,
        spark_session("local[2]", "benchmark") as session,
    ):
        question = Question(BackendSettings("mock", "mock-small", base_url), TEMPLATE, BATCH_TEMPLATE, LABELS)
        folder = JobFolder.open(Path(name) / "job", {}, resume=False, replace=True)

        def seconds(count: int) -> float:
            job = uuid.uuid4().hex
            texts = session.createDataFrame([(f"Parcel {i} of {job} was fine.",) for i in range(count)], "text string")
            started = time.perf_counter()
            counts = ask_all(texts, partial(open_caller, question), str(folder.path), job, Limits(concurrency))
            assert counts == {"calls": count, "texts": count}, counts
            return time.perf_counter() - started

        seconds(WARM_ROWS)
        taken, cores = [], []
        for _ in range(repeat):
            before = busy_s()
            taken.append(seconds(rows))
            cores.append((busy_s() - before) / taken[-1])
    speed = rows / statistics.median(taken)
    figures = {"rows/s": speed, "of the ideal": speed / ideal, "busy cores": statistics.median(cores)}
    show_table([figures], title=f"{rows} rows, {concurrency} in flight, {latency_ms:g} ms, {os.cpu_count()} cores")
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
