"""A copy of the store in use to try things on that cannot be taken back, and old traces to try them with."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from utils.store_size import copy_store, store_file

DAY = 86_400  # seconds
NAME = "old-request"
PASSAGE = "Passage {number} of a handbook, which the answer was read from. " * 300  # 19 kB


@dataclass(frozen=True)
class OldTrace:
    """age: days between its beginning and now."""

    trace_id: str
    age: float
    rated: bool


@contextmanager
def copied_store(experiment_id: str) -> Iterator[None]:
    """MLflow points at a copy of its SQLite store, which is thrown away; where the store is no file, at an empty one.

    experiment_id: the one in use; inside, the experiment of the same name is.

    Raises:
        InputError: the disk has no room for a copy.
    """
    import mlflow

    mlflow.flush_trace_async_logging()
    uri, name = mlflow.get_tracking_uri(), mlflow.get_experiment(experiment_id).name
    with TemporaryDirectory(prefix="copied-store-") as folder:
        copy = Path(folder) / "copy.db"
        if path := store_file(uri):
            copy_store(path, copy)
        mlflow.set_tracking_uri(f"sqlite:///{copy}")
        try:
            if mlflow.get_experiment_by_name(name) is None:
                mlflow.create_experiment(name, artifact_location=(Path(folder) / "artifacts").as_uri())
            mlflow.set_experiment(name)
            yield
        finally:
            mlflow.flush_trace_async_logging()
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment(experiment_id=experiment_id)


def write_old_traces(number: int, days: int) -> list[OldTrace]:
    """Traces of 19 kB, evenly over the last `days` days, every tenth one with a user's thumb up.

    The client API takes any time as the beginning of a span, and the trace begins with its root.
    """
    import mlflow
    from mlflow.entities import AssessmentSource

    written = []
    for place in range(number):
        age = (place + 0.5) * days / number
        started_ns = time.time_ns() - int(age * DAY * 1e9)
        inputs = {"passage": PASSAGE.format(number=place)}
        span = mlflow.start_span_no_context(NAME, inputs=inputs, start_time_ns=started_ns)
        span.end(outputs="yes", end_time_ns=started_ns + 1_000_000)
        written.append(OldTrace(span.trace_id, age, place % 10 == 0))
    mlflow.flush_trace_async_logging()
    for trace in written:
        if trace.rated:
            source = AssessmentSource(source_type="HUMAN", source_id="customer-1")
            mlflow.log_feedback(trace_id=trace.trace_id, name="helpful", value=True, source=source)
    return written
