"""What a batch job measured, computed by Spark from Parquet: no row passes the driver."""

from typing import TYPE_CHECKING, Any

from utils.evaluation import wilson_interval
from utils.memory import own_peak_mb
from utils.pricing import Usage, cost_usd
from utils.sentiment_job import parse_label

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from utils.batch_journal import JobFolder
    from utils.batch_rows import BatchRows
    from utils.llm_backends import BackendSettings


def figures(
    session: "SparkSession", folder: "JobFolder", job: str, settings: "BackendSettings", rows: "BatchRows",
    seconds: float,
) -> dict[str, float]:  # fmt: skip
    """Rows, calls, tokens, cost (USD), seconds, and the accuracy of labelled rows with its interval.

    `total_…` counts all jobs of the folder, those that were interrupted, too; the rest is this job's. A row that
    failed, or whose answer names no label, counts as wrong. Tokens and costs are left out where the server did not
    count the tokens of every call, costs also where the price is not known.
    """
    found = quality(session, folder, rows) | {"seconds": seconds} | spent(session, folder, job)
    counted = not found.pop("uncounted")
    tokens = {name: found.pop(name) for name in list(found) if name.endswith("_tokens")}
    if counted:
        found |= {name: count for name, count in tokens.items() if not name.startswith("row_")}
        spendings = {"cost_usd": "", "total_cost_usd": "total_", "cost_without_deduplication_usd": "row_"}
        for name, of in spendings.items():
            usd = cost(tokens[f"{of}prompt_tokens"], tokens[f"{of}completion_tokens"], settings)
            found |= {} if usd is None else {name: usd}
    peak = own_peak_mb()
    return found | ({"driver_peak_mb": peak} if peak else {})


def cost(prompt_tokens: float, completion_tokens: float, settings: "BackendSettings") -> float | None:
    return cost_usd(Usage(round(prompt_tokens), round(completion_tokens)), settings.model, settings.llm_type)


def quality(session: "SparkSession", folder: "JobFolder", asked: "BatchRows") -> dict[str, float]:
    """Of every row of the result. row_…_tokens: what they would have taken, had no two rows shared an answer.

    The interval is Wilson's for as many independent rows as there are (Kish's effective number, n² / Σ nᵢ² over what
    was drawn): a text that stands in a hundred rows is right or wrong in all of them.
    """
    from pyspark.sql import functions as F

    labels = asked.labels
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
        groups = rows.where("label is not null").groupBy(F.expr(asked.drawn)).count()
        squares: Any = groups.agg(F.sum(F.col("count") * F.col("count"))).first()
        effective = max(1, round(labelled**2 / squares[0]))
        low, high = wilson_interval(round(right / labelled * effective), effective)
        found |= {"accuracy": right / labelled, "accuracy_low": low, "accuracy_high": high}
        found["independent_rows"] = effective
    return found


def spent(session: "SparkSession", folder: "JobFolder", job: str) -> dict[str, float]:
    """Calls and tokens of this job, and `total_…` of all jobs of the folder. uncounted: replies without tokens."""
    from pyspark.sql import functions as F

    def sums(lines: "DataFrame") -> dict[str, int]:
        wanted = {
            "calls": "size(calls)", "unreadable_batches": "int(size(texts) = 0)", "prompt_tokens": "prompt_tokens",
            "completion_tokens": "completion_tokens",
            "uncounted": "int(error is null and prompt_tokens is null)",
        }  # fmt: skip
        row: Any = lines.agg(*(F.expr(f"coalesce(sum({sql}), 0)").alias(name) for name, sql in wanted.items())).first()
        return row.asDict()

    own, total = sums(folder.lines(session, job)), sums(folder.lines(session))
    own["llm_calls"] = own.pop("calls")
    totals = {f"total_{name}": total[name] for name in ("calls", "prompt_tokens", "completion_tokens")}
    return {**own, **totals, "uncounted": total["uncounted"]}
