"""What a batch of answers came to, computed by Spark from Parquet: nothing lost, nothing asked twice, sources."""

from typing import TYPE_CHECKING, Any

from utils.evaluation import is_declined

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from utils.batch_journal import JobFolder

ANSWER = "answer string, sources array<string>"  # JSON that a worker puts into its journal
SAID = f"from_json(answer, '{ANSWER}')"


def join_answers(rows: "DataFrame", answers: "DataFrame") -> "DataFrame":
    """Every row with the answer to its text.

    DataFrame[id, text, label, answer, sources: array<string>, error (null where there is an answer), attempts,
    latency_ms].
    """
    told = f"{SAID}.answer as answer", f"{SAID}.sources as sources"
    told_once = answers.selectExpr("text", *told, "error", "attempts", "latency_ms")
    joined = rows.join(told_once, "text", "left")
    return joined.selectExpr(
        "id", "text", "label", "answer", "sources",
        "case when attempts is null then 'no text' else error end as error", "attempts", "latency_ms",
    )  # fmt: skip


def answer_figures(session: "SparkSession", folder: "JobFolder", job: str) -> dict[str, float]:
    """Rows, lost_rows, failed_rows and declined of the whole result; calls of this job, and total_calls of all.

    asked_twice: texts that were answered more than once. found: share of labelled rows whose document is among the
    sources; left out where no row has a label.
    """
    from pyspark.sql import functions as F

    rows = session.read.parquet(folder.result)
    # PySpark would read the hints of the function itself, and warn.
    declines = F.udf(lambda answer: is_declined(answer), "boolean")  # noqa: PLW0108
    # Few distinct answers: each is read once, and joined.
    judged = rows.select("answer").where("answer is not null").distinct().withColumn("declined", declines("answer"))
    row: Any = (
        rows.join(judged.localCheckpoint(), "answer", "left")
        .agg(
            F.count("*").alias("rows"),
            F.sum(F.expr("int(answer is null)")).alias("failed_rows"),
            F.coalesce(F.sum(F.expr("int(declined)")), F.lit(0)).alias("declined"),
            F.count("label").alias("labelled"),
            F.sum(F.expr("int(label is not null and exists(sources, s -> lower(s) = label))")).alias("right_source"),
            F.count_distinct("text").alias("distinct_texts"),
            F.expr("percentile(latency_ms, 0.5)").alias("p50_ms"),
        )
        .first()
    )
    found = {name: value or 0 for name, value in row.asDict().items()}
    labelled, right = found.pop("labelled"), found.pop("right_source")
    if labelled:
        found["found"] = right / labelled
    before = session.read.parquet(folder.rows).count()
    return found | {"lost_rows": before - found["rows"]} | _calls(session, folder, job)


def _calls(session: "SparkSession", folder: "JobFolder", job: str) -> dict[str, float]:
    from pyspark.sql import functions as F

    made = F.coalesce(F.sum(F.size("calls")), F.lit(0))
    every: Any = folder.lines(session).agg(made).first()
    own: Any = folder.lines(session, job).agg(made).first()
    answered = folder.lines(session).where("error is null").selectExpr("explode(texts) as text").groupBy("text").count()
    return {"calls": int(own[0]), "total_calls": int(every[0]), "asked_twice": answered.where("count > 1").count()}
