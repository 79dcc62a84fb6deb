"""What the two sentiment jobs share: their rows, reading a label out of an answer, and scoring."""

import re
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.errors import JobFailed
from utils.mlflow_setup import STATE_DIR
from utils.options import InputOptions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from pyspark.sql import SparkSession

    from utils.spark_mapper import OpenCaller

PROMPT = "sentiment"
TEMPLATE = """Classify the sentiment of the review below.
Answer with one word, one of: {{labels}}.

Review: {{text}}"""
TRACE_ALL_UP_TO = 2_000  # rows; larger jobs trace a sample, whose share is logged
SAMPLE_ROWS = 500  # how many rows such a sample holds, about
HARD_KINDS = ("negation", "irony", "mixed")


@dataclass(frozen=True)
class JobRows:
    """Rows to classify: DataFrame[id: str, text: str, label: str (if known), kind: str (sample reviews only)]."""

    frame: "pd.DataFrame"
    labels: tuple[str, ...]
    description: str  # where they come from, for the learner and for the run

    @property
    def labelled(self) -> bool:
        return "label" in self.frame


def load_job_rows(source: InputOptions, num_samples: int, seed: int) -> JobRows:
    """The learner's rows or the sample reviews, a seeded sample of them.

    Raises:
        InputError: the file cannot be used.
    """
    from utils.input_data import read_rows
    from utils.reviews import LABELS, load_reviews, sample_reviews

    if source.input is None:
        pool, name, dropped = load_reviews(), "the sample reviews", 0
    else:
        rows = read_rows(source.input, source.text_column, source.label_column)
        pool, name, dropped = rows.frame, source.input.name, rows.dropped
    # A learner's own sample keeps the distribution of the file: its accuracy speaks for the whole file.
    frame, replaced = sample_reviews(pool, num_samples, seed, balanced=source.input is None)
    labels = tuple(sorted(pool["label"].unique())) if "label" in pool else LABELS
    labels = LABELS if set(labels) <= set(LABELS) else labels
    notes = [f"{len(frame):,} of {len(pool):,} rows of {name}"]
    notes += [f"{dropped:,} rows without text left out"] if dropped else []
    notes += ["more than there are: drawn again after each was taken once"] if replaced else []
    return JobRows(frame.reset_index(drop=True), labels, "; ".join(notes))


def trace_share(mode: str, rows: int) -> float:
    """Which share of the calls gets a span: `all` (of up to 2,000 rows), `sample` or `off`."""
    if mode == "off":
        return 0.0
    if mode == "all" and rows <= TRACE_ALL_UP_TO:
        return 1.0
    return min(1.0, SAMPLE_ROWS / rows)


def parse_label(answer: str | None, labels: tuple[str, ...]) -> str | None:
    """The one label that the answer names. None when it names none, or several: that is no classification."""
    text = answer.lower() if isinstance(answer, str) else ""
    # The longest first: "very positive" names that label, and not "positive" as well.
    names = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    found = set(re.findall(rf"(?<!\w)(?:{names})(?!\w)", text))
    return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class Classified:
    """`rows`: every row with answer, error and predicted label. `answers`: one row per distinct text, as the mapper
    wrote them. `seconds`: how long the calls took, workers already started or not."""

    rows: "pd.DataFrame"
    answers: "pd.DataFrame"
    seconds: float


def classify(
    session: "SparkSession", rows: JobRows, open_caller: "OpenCaller", concurrency: int, run_id: str, ahead: int = 0
) -> Classified:
    """Ask the model about every distinct text once, inside Spark.

    ahead: as in map_prompts. 0 where spans are written around the call: they would show its wait for a place.

    Raises:
        JobFailed: no row got an answer; before anything is logged as a result.
    """
    from utils.cli import waiting
    from utils.spark_mapper import join_answers, map_prompts

    folder = STATE_DIR / "sentiment" / run_id
    frame = session.createDataFrame(rows.frame)
    started = time.perf_counter()
    with waiting(f"Asking about {len(rows.frame):,} rows"):
        answers = map_prompts(frame, open_caller, folder, concurrency=concurrency, ahead=ahead)
    seconds = time.perf_counter() - started
    answered: Any = join_answers(frame, answers).toPandas()
    asked: Any = answers.toPandas()
    shutil.rmtree(folder)  # the answers go into the run as a table
    if answered["answer"].isna().all():
        raise JobFailed(
            f"all {len(answered):,} rows failed, the first with: {answered['error'].iloc[0]}",
            JobFailed.CURE,
        )
    answered["predicted"] = [parse_label(answer, rows.labels) for answer in answered["answer"]]
    order = {identifier: place for place, identifier in enumerate(rows.frame["id"])}
    return Classified(answered.sort_values("id", key=lambda ids: ids.map(order)), asked, seconds)


def score(answered: "pd.DataFrame", labels: tuple[str, ...]) -> dict[str, float]:
    """Quality of DataFrame[label, predicted, answer, error, kind?], every row counted.

    A row that failed, or whose answer names no label, counts as wrong; both are also counted apart.
    """
    from utils.evaluation import accuracy, macro_f1

    counts = {
        "rows": len(answered),
        "failed_rows": int(answered["answer"].isna().sum()),
        "unparsed_rows": int((answered["answer"].notna() & answered["predicted"].isna()).sum()),
    }
    if "label" not in answered:
        return {
            **counts,
            **{f"share_{name}": float((answered["predicted"] == name).mean()) for name in labels},
        }
    truth = answered["label"].tolist()
    predicted = _with_none(answered["predicted"])
    scores = {"accuracy": accuracy(truth, predicted), "macro_f1": macro_f1(truth, predicted, labels)}
    if "kind" in answered:
        hard = answered["kind"].isin(HARD_KINDS)
        right = answered["label"] == answered["predicted"]
        scores |= {
            name: float(right[rows].mean())
            for name, rows in (("accuracy_plain", ~hard), ("accuracy_hard", hard))
            if rows.any()
        }
    return {**scores, **counts}


def call_figures(answers: "pd.DataFrame", seconds: float, rows: int) -> dict[str, float]:
    """Calls, tokens, latency percentiles (ms) and rows per second, from the mapper's one row per distinct text."""
    from utils.evaluation import latency_percentiles

    figures: dict[str, float] = {"llm_calls": int(answers["attempts"].sum()), "rows_per_second": rows / seconds}
    # A server that counts no tokens leaves no number, rather than a zero.
    counted = [name for name in ("prompt_tokens", "completion_tokens") if answers[name].notna().any()]
    figures |= {name: int(answers[name].sum()) for name in counted}
    answered = answers.loc[answers["answer"].notna(), "latency_ms"]
    return figures | {f"latency_{name}_ms": value for name, value in latency_percentiles(answered.tolist()).items()}


def confusion_figure(answered: "pd.DataFrame", labels: tuple[str, ...]) -> "Figure":
    """Right labels down, predicted across; a last column for rows without a usable answer."""
    from matplotlib.figure import Figure

    from utils.evaluation import confusion_matrix

    counts = confusion_matrix(answered["label"].tolist(), _with_none(answered["predicted"]), labels)
    columns = [*labels, "no label"]
    figure = Figure(figsize=(1.6 + 1.1 * len(columns), 1.6 + 0.8 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="the model's answer", ylabel="right label")
    middle = max(max(row) for row in counts) / 2
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            axes.text(j, i, str(count), ha="center", va="center", color="white" if count > middle else "black")
    return figure


def _with_none(column: Any) -> list[str | None]:
    """Pandas marks what is missing as NaN; the metrics want None."""
    return [value if isinstance(value, str) else None for value in column]
