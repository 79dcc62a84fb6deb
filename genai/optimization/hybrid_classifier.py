"""8.3 A scikit-learn classifier that asks the LLM about the rows it is unsure of.

New here: two ways to join a classifier and an LLM, and accuracy by the share of rows that the LLM sees.
Run it:   uv run mlflow-hybrid-classifier
          uv run mlflow-hybrid-classifier --most 0.25
          uv run mlflow-hybrid-classifier --input my.csv --text-column comment --label-column verdict --held-out 60
          uv run mlflow-hybrid-classifier --llm-type ollama --ollama-model llama3.2 --held-out 40
Look at:  uv run mlflow ui  ->  8-advanced  ->  Training runs  ->  hybrid-classifier: share_of_llm.png under Artifacts
Change:   give the prompt a further number to answer with (HYBRID); it becomes a feature. Does it help?
Docs:     https://mlflow.org/docs/latest/ml/tracking/
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click
import mlflow
import pandas as pd
from mlflow.entities import SpanType, Trace
from mlflow.models import infer_signature

from utils.cascade import Step, at_shares, best_within, by_chance, curve, draw_curve, is_right, step_at
from utils.cli import Steps, lesson, show, show_table
from utils.errors import JobFailed
from utils.evaluation import accuracy, latency_percentiles, macro_f1, wilson_interval
from utils.evaluation_rows import row_key
from utils.genai_evaluation import quiet_evaluation
from utils.json_answers import Reading, read_answer
from utils.lesson_context import tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.llm_calls import Chat
from utils.options import BackendOptions, InputOptions
from utils.paired_decision import Decision, decide
from utils.pricing import Usage, cost_usd, describe_price
from utils.prompt_utils import use_alias
from utils.row_scores import read_row_scores
from utils.sentiment_job import confusion_figure
from utils.training_reviews import Parts, split_rows

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

HYBRID = """Classify the text as one of: {{labels}}.
Answer with JSON only: the label, your confidence from 0 to 1, and a score from -1 (unfavourable) to 1 (favourable).
{"label": "…", "confidence": 0.5, "score": 0.5}

Text: {{text}}"""
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
PER = 1_000  # rows that a cost is given for
REQUIREMENTS = [f"{package}=={version(package)}" for package in ("scikit-learn", "skops")]


@dataclass(frozen=True)
class Asked:
    """The LLM's readings by text, and what a row costs (None where a price or a count is not known)."""

    readings: dict[str, Reading]
    usage: Usage
    usd_per_row: float | None
    figures: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    chosen: Step
    reported: Step
    gain: Decision
    rows: list[dict[str, Any]]


def train_classifier(parts: Parts) -> tuple["Pipeline", str]:
    """Words and pairs of words into a logistic regression: text in, a probability for each label out. It costs
    nothing to ask, so it is asked about every row."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    classifier = make_pipeline(words, LogisticRegression(C=10, max_iter=1_000))
    classifier.fit(parts.train["text"], parts.train["label"])
    example = parts.train["text"].head(3)
    logged = mlflow.sklearn.log_model(
        classifier, name="classifier", pip_requirements=REQUIREMENTS, serialization_format="skops",
        signature=infer_signature(example, classifier.predict(example)),
    )  # fmt: skip
    return classifier, logged.model_id


def ask_llm(llm: Backend, rows: pd.DataFrame, labels: tuple[str, ...]) -> Asked:
    """Every row once, as an evaluation in the run that is open: the GenAI metrics beside the classic ones."""
    prompt_uri = use_alias("hybrid-classifier", "production", HYBRID, needs=("text", "labels"))

    @mlflow.genai.scorer
    def llm_right(outputs: Any, expectations: dict[str, Any]) -> bool:
        return read_answer(outputs, labels).label == expectations["label"]

    @mlflow.genai.scorer
    def in_form(outputs: Any) -> bool:
        reading = read_answer(outputs, labels)
        return reading.label is not None and bool(reading.numbers)

    with Chat(llm) as chat, quiet_evaluation():

        @tagged_in_threads
        @mlflow.trace(name="unsure-row", span_type=SpanType.CHAIN)
        def read_row(text: str) -> str:
            prompt = mlflow.genai.load_prompt(prompt_uri)
            return chat.complete(str(prompt.format(text=text, labels=", ".join(labels)))).text

        data = [{"inputs": {"text": row.text}, "expectations": {"label": row.label}} for row in rows.itertuples()]
        result = mlflow.genai.evaluate(data=data, predict_fn=read_row, scorers=[llm_right, in_form])
    keys = {row_key({"text": text}): text for text in rows["text"]}
    scores = read_row_scores(result.run_id, ["llm_right", "in_form"], list(keys))
    if len(scores.failed) == len(keys):
        raise JobFailed(f"all requests failed, first with {next(iter(scores.failed.values()))}", JobFailed.CURE)
    answers = {keys[key]: trace for key, trace in scores.traces.items() if key not in scores.failed}
    readings = {text: read_answer(answer_of(answers.get(text)), labels) for text in rows["text"]}
    took = latency_percentiles([trace.info.execution_duration for trace in answers.values()])
    unparsed = sum(reading.label is None for reading in readings.values())
    figures = {"llm_failed_rows": len(scores.failed), "llm_unparsed_rows": unparsed, "llm_p50_ms": took["p50"]}
    return Asked(readings, *measure_calls(llm, list(answers.values())), figures)


def answer_of(trace: Trace | None) -> Any:
    return None if trace is None else next(span.outputs for span in trace.data.spans if span.parent_id is None)


def measure_calls(llm: Backend, traces: list[Trace]) -> tuple[Usage, float | None]:
    """Tokens of all rows that have an answer, and USD for one of them."""
    counted = [usage for trace in traces if (usage := trace.info.token_usage)]
    usage = Usage(sum(u["input_tokens"] for u in counted), sum(u["output_tokens"] for u in counted))
    cost = cost_usd(usage, llm.model, llm.llm_type) if len(counted) == len(traces) else None
    return usage, None if cost is None else cost / len(traces)


def features(rows: pd.DataFrame, probabilities: Any, classes: list[str], asked: Asked) -> list[dict[str, Any]]:
    """For each row the classifier's probabilities, and what the LLM said: its label and its numbers."""
    return [
        {f"p({name})": float(p) for name, p in zip(classes, line, strict=True)}
        | {"llm": asked.readings[text].label or "none", **asked.readings[text].numbers}
        for text, line in zip(rows["text"], probabilities, strict=True)
    ]


def train_stacked(rows: pd.DataFrame, described: list[dict[str, Any]]) -> "Pipeline":
    """The LLM as feature maker: a second classifier decides from both. A number that is not there counts as 0."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(DictVectorizer(sparse=False), LogisticRegression(max_iter=1_000)).fit(described, rows["label"])


@dataclass(frozen=True)
class Scored:
    """One half of the rows: how sure the classifier is, its labels, and the LLM's; `cheap`, `dear`: which are right."""

    rows: pd.DataFrame
    probabilities: Any
    sure: list[float]
    predicted: list[str]
    said: list[str | None]

    @property
    def cheap(self) -> list[bool]:
        return [label == right for label, right in zip(self.predicted, self.rows["label"], strict=True)]

    @property
    def dear(self) -> list[bool]:
        return [label == right for label, right in zip(self.said, self.rows["label"], strict=True)]

    def hybrid(self, threshold: float) -> list[str | None]:
        pairs = zip(self.sure, self.predicted, self.said, strict=True)
        return [said if sure < threshold else predicted for sure, predicted, said in pairs]


def score_half(rows: pd.DataFrame, classifier: "Pipeline", asked: Asked) -> Scored:
    probabilities = classifier.predict_proba(rows["text"])
    labels = [classifier.classes_[place] for place in probabilities.argmax(axis=1)]
    said = [asked.readings[text].label for text in rows["text"]]
    return Scored(rows, probabilities, probabilities.max(axis=1).tolist(), labels, said)


def line(way: str, share: float, truth: list[str], labels: list[str | None], asked: Asked) -> dict[str, Any]:
    right = sum(label == wanted for label, wanted in zip(labels, truth, strict=True))
    low, high = wilson_interval(right, len(truth))
    cost = 0.0 if share == 0 else None if asked.usd_per_row is None else PER * share * asked.usd_per_row
    return {
        "way": way, "share to the LLM": f"{share:.2f}", "accuracy": accuracy(truth, labels),
        "95 % interval": f"{low:.3f} to {high:.3f}", "macro F1": macro_f1(truth, labels),
        f"USD/{PER:,} rows": "-" if cost is None else f"{cost:.4f}",
    }  # fmt: skip


def log_results(reported: Step, gain: Decision, half: Scored, asked: Asked, labels: tuple[str, ...]) -> list[dict]:
    """The curve on the rows that the threshold was not chosen on, as a table, a picture and metrics."""
    steps = curve(half.sure, half.cheap, half.dear)
    mlflow.log_figure(draw_curve(steps, reported, ("classifier", "the LLM")), "share_of_llm.png")
    frame = pd.DataFrame({"label": half.rows["label"], "predicted": half.hybrid(reported.threshold)})
    mlflow.log_figure(confusion_figure(frame, labels), "confusion.png")
    table = [
        {"share to the LLM": step.share, "accuracy": step.quality,
         "95 % interval": f"{step.interval[0]:.3f} to {step.interval[1]:.3f}",
         "by lot": by_chance(half.cheap, half.dear, step.share)}
        for step in dict.fromkeys(at_shares(steps, SHARES))
    ]  # fmt: skip
    mlflow.log_table({name: [row[name] for row in table] for name in table[0]}, "share_of_llm.json")
    mlflow.log_metrics({
        "share_to_llm": reported.share, "accuracy": reported.quality, "accuracy_low": reported.interval[0],
        "accuracy_high": reported.interval[1], "gain": gain.gain, "gain_low": gain.low, "gain_high": gain.high,
        "prompt_tokens": asked.usage.prompt_tokens, "completion_tokens": asked.usage.completion_tokens, **asked.figures,
    })  # fmt: skip
    return table


def log_classifier(half: Scored, classifier: "Pipeline", model_id: str) -> None:
    """The classic metrics belong to the logged model and to the rows they were measured on."""
    from sklearn.metrics import log_loss

    rows = mlflow.data.from_pandas(half.rows, name="hybrid-report", targets="label")
    truth = half.rows["label"].tolist()
    metrics = {
        "classifier_accuracy": accuracy(truth, half.predicted),
        "classifier_macro_f1": macro_f1(truth, half.predicted),
        "classifier_log_loss": float(log_loss(truth, half.probabilities, labels=list(classifier.classes_))),
    }
    mlflow.log_metrics(metrics, model_id=model_id, dataset=rows)


def run(llm: Backend, parts: Parts, most: float, seed: int) -> Outcome:
    steps = Steps(4)
    mlflow.openai.autolog()
    with mlflow.start_run(run_name="hybrid-classifier") as active:
        mlflow.log_params({"rows": parts.description, "most": most, "seed": seed})
        mlflow.log_input(mlflow.data.from_pandas(parts.train, name="hybrid-train", targets="label"), context="training")
        # 1. The classifier learns from rows that the LLM never sees
        classifier, model_id = train_classifier(parts)
        steps(parts.description)

        # 2. The LLM reads the others, once each; both ways of joining use the same answers
        asked = ask_llm(llm, pd.concat([parts.choose, parts.report]), parts.labels)
        choose, report = (score_half(half, classifier, asked) for half in (parts.choose, parts.report))
        log_classifier(report, classifier, model_id)
        steps(f"{len(asked.readings)} rows read by {llm.llm_type} {llm.model}: "
              f"{asked.figures['llm_unparsed_rows']} answers without a label, which count as wrong")  # fmt: skip

        # 3. The threshold is chosen on one half, and so is what the second classifier learns
        chosen = best_within(curve(choose.sure, choose.cheap, choose.dear), most)
        mlflow.log_params({"threshold": chosen.threshold, "accuracy_where_chosen": chosen.quality})
        described = [
            features(half.rows, half.probabilities, list(classifier.classes_), asked) for half in (choose, report)
        ]
        stacked = train_stacked(choose.rows, described[0])
        steps(f"Below a probability of {chosen.threshold:.3f} the LLM decides: {chosen.share:.0%} of these rows, "
              f"{chosen.quality:.3f} right where it was chosen")  # fmt: skip

        # 4. Reported on the other half
        reported = step_at(report.sure, report.cheap, report.dear, chosen.threshold)
        gain = decide(report.cheap, is_right(report.sure, report.cheap, report.dear, chosen.threshold))
        table = log_results(reported, gain, report, asked, parts.labels)
        truth = report.rows["label"].tolist()
        ways = [
            line("classifier alone", 0.0, truth, list(report.predicted), asked),
            line("LLM for unsure rows", reported.share, truth, report.hybrid(chosen.threshold), asked),
            line("LLM's answers as features", 1.0, truth, list(stacked.predict(described[1])), asked),
            line("LLM alone", 1.0, truth, report.said, asked),
        ]  # fmt: skip
        mlflow.log_table({name: [row[name] for row in ways] for name in ways[0]}, "ways.json")
        mlflow.log_metrics({"accuracy_llm": ways[3]["accuracy"], "accuracy_features": ways[2]["accuracy"]})
        steps(f"On the {len(truth)} rows that nothing was chosen on:")
    show_table(ways)
    show_table(table)
    click.echo(f"Cost:    {describe_price(llm.model, llm.llm_type)}")
    verdict = "is real" if gain.is_real else "is not told apart from chance"
    click.echo(f"Gain:    {gain.gain:+.3f} over the classifier ({gain.low:+.3f} to {gain.high:+.3f}), which {verdict}")
    trace = mlflow.search_traces(run_id=active.info.run_id, max_results=1, return_type="list")[0]
    return Outcome(active.info.run_id, trace.info.trace_id, chosen, reported, gain, ways)


@lesson("8.3", llm="mock", rows=True)
@click.option("--held-out", type=click.IntRange(min=8), default=120, show_default=True,
              help="Rows for the LLM, in two halves: choose, report. The rest of --input is learnt.")  # fmt: skip
@click.option("--most", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Largest share of rows that the LLM may decide.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Which rows go where.")
def main(held_out: int, most: float, seed: int, source: InputOptions, backend: BackendOptions) -> None:
    parts = split_rows(source, held_out, seed)
    with open_backend(backend) as llm:
        outcome = run(llm, parts, most, seed)
    measured = {row["way"]: row["accuracy"] for row in outcome.rows} | {"share to the LLM": outcome.reported.share}
    show("8.3", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
