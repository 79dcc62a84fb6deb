"""What a batch job measured, computed by Spark from Parquet: no row passes the driver."""

from typing import TYPE_CHECKING, Any

from utils.evaluation import wilson_interval
from utils.memory import own_peak_mb
from utils.pricing import Usage, cost_usd
from utils.sentiment_job import parse_label

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from utils.batch_journal import JobFolder
    from utils.llm_backends import BackendSettings


def figures(
    session: "SparkSession", folder: "JobFolder", job: str, settings: "BackendSettings", labels: tuple[str, ...],
    seconds: float,
) -> dict[str, float]:  # fmt: skip
    """Rows, calls of this job, tokens, cost (USD), speed, and the accuracy of labelled rows with its interval.

    A row that failed, or whose answer names no label, counts as wrong. Costs are left out where tokens are not counted
    or the price is not known.
    """
    found = quality(session, folder, labels) | spent(session, folder, job)
    found |= {"seconds": seconds, "rows_per_second": found["rows"] / seconds}
    if not found.pop("uncounted"):
        paid = cost(found["prompt_tokens"], found["completion_tokens"], settings)
        alone = cost(found["row_prompt_tokens"], found["row_completion_tokens"], settings)
        if paid is not None and alone is not None:
            found |= {"cost_usd": paid, "cost_without_deduplication_usd": alone}
    found.pop("row_prompt_tokens"), found.pop("row_completion_tokens")
    peak = own_peak_mb()
    return found | ({"driver_peak_mb": peak} if peak else {})


def cost(prompt_tokens: float, completion_tokens: float, settings: "BackendSettings") -> float | None:
    return cost_usd(Usage(round(prompt_tokens), round(completion_tokens)), settings.model, settings.llm_type)


def quality(session: "SparkSession", folder: "JobFolder", labels: tuple[str, ...]) -> dict[str, float]:
    """Of every row of the result. row_…_tokens: what they would have taken, had no two rows shared an answer."""
    from pyspark.sql import functions as F

    named = F.udf(lambda answer: parse_label(answer, labels), "string")
    rows = session.read.parquet(folder.result)
    # Few distinct answers: their label is read once each, and joined.
    read = rows.select("answer").where("answer is not null").distinct().withColumn("predicted", named("answer"))
    joined = rows.join(read.localCheckpoint(), "answer", "left")
    row: Any = joined.agg(
        F.count("*").alias("rows"),
        F.sum(F.expr("int(answer is null)")).alias("failed_rows"),
        F.sum(F.expr("int(answer is not null and predicted is null)")).alias("unparsed_rows"),
        F.count("label").alias("labelled"),
        F.sum(F.expr("int(label <=> predicted and label is not null)")).alias("right"),
        F.count_distinct("text").alias("distinct_texts"),
        F.coalesce(F.sum("prompt_tokens"), F.lit(0)).alias("row_prompt_tokens"),
        F.coalesce(F.sum("completion_tokens"), F.lit(0)).alias("row_completion_tokens"),
    ).first()
    found = {name: value or 0 for name, value in row.asDict().items()}
    right, labelled = int(found.pop("right")), int(found.pop("labelled"))
    if labelled:
        low, high = wilson_interval(right, labelled)
        found |= {"accuracy": right / labelled, "accuracy_low": low, "accuracy_high": high}
    return found


def spent(session: "SparkSession", folder: "JobFolder", job: str) -> dict[str, float]:
    """Calls and tokens of this job alone; `total_calls` of those before it in the folder, too."""
    from pyspark.sql import functions as F

    lines = folder.lines(session, job)
    row: Any = lines.agg(
        F.coalesce(F.sum(F.size("calls")), F.lit(0)).alias("llm_calls"),
        F.coalesce(F.sum(F.expr("int(size(texts) = 0)")), F.lit(0)).alias("unreadable_batches"),
        F.coalesce(F.sum("prompt_tokens"), F.lit(0)).alias("prompt_tokens"),
        F.coalesce(F.sum("completion_tokens"), F.lit(0)).alias("completion_tokens"),
        F.coalesce(F.sum(F.expr("int(error is null and prompt_tokens is null)")), F.lit(0)).alias("uncounted"),
    ).first()
    total: Any = folder.lines(session).agg(F.coalesce(F.sum(F.size("calls")), F.lit(0))).first()
    return {**row.asDict(), "total_calls": int(total[0])}
