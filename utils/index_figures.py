"""What a job that brought an index up to date has done, as figures for MLflow. All are measured or absent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils.document_files import KINDS_CURE
from utils.errors import InputError
from utils.incremental_index import Changes, Content, DocumentIndex
from utils.memory import jvm_peak_mb, own_peak_mb

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

STAGES = ("load", "chunk", "embed", "write")
INDEXED = (
    "document string, chunks int, error string, failed string, "
    "load_s double, chunk_s double, embed_s double, write_s double, worker_mb double"
)


@dataclass(frozen=True)
class Indexed:
    """found: name → content hash. rows: DataFrame of INDEXED, one for each document that was tried. left_out: name →
    why. metrics: seconds and memory of the job as a whole."""

    found: dict[str, str]
    changes: Changes
    rows: "pd.DataFrame"
    left_out: dict[str, str]
    metrics: dict[str, float]


def indexed_rows(contents: Sequence[Content], failed: str | None, embed_s: float, write_s: float) -> "pd.DataFrame":
    """DataFrame of INDEXED. embed_s, write_s: of all these documents together; each gets its share."""
    import pandas as pd

    shares = {"embed_s": embed_s / len(contents), "write_s": write_s / len(contents), "worker_mb": own_peak_mb()}
    return pd.DataFrame(
        [
            {"document": each.name, "chunks": len(each.texts), "error": each.error, "failed": failed,
             "load_s": each.load_s, "chunk_s": each.chunk_s, **shares}
            for each in contents
        ]
    )  # fmt: skip


def no_rows() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(columns=[column.split()[0] for column in INDEXED.split(", ")])


def reasons(rows: "pd.DataFrame", name: str) -> dict[str, str]:
    """Why documents were not used: DataFrame[error: str | None, …], named by the column `name`."""
    return dict(rows.loc[rows["error"].notna(), [name, "error"]].itertuples(index=False))


def memory(session: "SparkSession", rows: "pd.DataFrame") -> dict[str, float]:
    """Peaks in megabytes: the driver, its Java process, and the largest worker."""
    worker = rows["worker_mb"].max() if rows["worker_mb"].notna().any() else None
    peaks = {"driver_peak_mb": own_peak_mb(), "jvm_peak_mb": jvm_peak_mb(session), "worker_peak_mb": worker}
    return {name: value for name, value in peaks.items() if value is not None}


def figures(indexed: Indexed, index: DocumentIndex) -> dict[str, float]:
    """Counts of documents, what the index holds as read back from it, and seconds by stage, summed over the workers.

    Raises:
        InputError: there is no document that could be read.
        CheckFailed: the index does not hold exactly the documents that could be read.
    """
    rows, changes = indexed.rows, indexed.changes
    readable = rows[rows["error"].isna()]
    documents = set(indexed.found) - set(indexed.left_out)
    if not documents:
        raise InputError("none of the documents could be read", KINDS_CURE)
    counts: dict[str, float] = {
        "documents": len(documents), "new": len(changes.new), "changed": len(changes.changed),
        "removed_documents": len(changes.removed), "unchanged_documents": len(changes.unchanged),
        "embedded_documents": len(readable), "embedded_chunks": int(readable["chunks"].sum()),
        "left_out": len(indexed.left_out), "chunks": index.verify(documents), "index_mb": index.megabytes(),
    }  # fmt: skip
    if not rows.empty:
        counts |= {f"worker_seconds_{name}": float(rows[f"{name}_s"].sum()) for name in STAGES}
        counts["documents_per_second"] = len(rows) / indexed.metrics["seconds_index"]
    return counts | indexed.metrics
