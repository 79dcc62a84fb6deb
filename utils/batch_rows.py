"""Rows for a job of any size: the learner's file, or orders with a review each that workers make up."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.options import InputOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

FIRST_ORDER = 100_000
SPREAD = 7_919  # a prime: the repeated orders are not the neighbours of the repeating rows
COLUMNS = "id string, text string, label string"
REVIEW = "regexp_replace(text, '^Order [0-9]+: ', '')"


@dataclass(frozen=True)
class BatchRows:
    """DataFrame[id, text, label (null where none is known)] by `frame`; the driver never holds made-up rows.

    fingerprint: the same for the same rows. duplicates: share of made-up rows whose text stands in an earlier row.
    drawn: the SQL expression of what was drawn independently: the review behind an order, or a text. Rows that share
    it say nothing new about the accuracy.
    """

    count: int
    description: str
    fingerprint: str
    labels: tuple[str, ...]
    duplicates: float = 0.0
    own: "pd.DataFrame | None" = None
    drawn: str = "text"

    def frame(self, session: "SparkSession", count: int | None = None) -> "DataFrame":
        """The rows, or as many of a job of `count` rows."""
        if self.own is not None:
            frame: Any = self.own.head(count) if count else self.own
            return session.createDataFrame(frame, COLUMNS)
        from utils.reviews import load_reviews

        rows, duplicates = count or self.count, self.duplicates
        reviews = load_reviews()  # here: a worker of a cluster has our code as a zip file, in which no path leads

        def make(batches: "Iterator[pd.DataFrame]") -> "Iterator[pd.DataFrame]":
            for batch in batches:
                yield made_up(batch["id"].tolist(), rows, duplicates, reviews)

        return session.range(rows).mapInPandas(make, COLUMNS)


def made_up(numbers: list[int], rows: int, duplicates: float, reviews: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with these numbers of a job of `rows` rows: an order with one of the sample reviews, and its label."""
    import pandas as pd

    distinct = max(1, rows - int(rows * duplicates))
    orders = [number if number < distinct else number * SPREAD % distinct for number in numbers]
    chosen = reviews.iloc[[order % len(reviews) for order in orders]]
    texts = [f"Order {FIRST_ORDER + order}: {text}" for order, text in zip(orders, chosen["text"], strict=True)]
    return pd.DataFrame({"id": [str(number) for number in numbers], "text": texts, "label": chosen["label"].tolist()})


def open_rows(source: InputOptions, num_rows: int, duplicates: float) -> BatchRows:
    """The learner's file, whole; without one, `num_rows` orders.

    Raises:
        InputError: the file cannot be used.
    """
    from utils.input_data import read_rows
    from utils.reviews import LABELS

    if source.input is None:
        description = f"{num_rows:,} orders with a sample review each, {duplicates:.0%} of them repeated"
        return BatchRows(num_rows, description, f"orders {num_rows} {duplicates}", LABELS, duplicates, drawn=REVIEW)
    found = read_rows(source.input, source.text_column, source.label_column)
    frame = found.frame if "label" in found.frame else found.frame.assign(label=None)
    known = tuple(sorted(found.frame["label"].unique())) if "label" in found.frame else LABELS
    with source.input.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return BatchRows(
        len(frame),
        f"{len(frame):,} rows of {source.input.name}" + (f", {found.dropped:,} without text" if found.dropped else ""),
        f"{digest} {source.text_column} {source.label_column}",
        LABELS if set(known) <= set(LABELS) else known,
        float(frame["text"].duplicated().mean()),
        own=frame[["id", "text", "label"]],
    )
