"""8.3a Choose on some rows, report on others.

A threshold is chosen and its accuracy reported, on the same 150 rows. Split them in two halves: choose the threshold
with the best accuracy on the one, and report its accuracy on the other.

Run it:   uv run python genai/exercises/chosen_elsewhere.py
Check:    uv run mlflow-learn check 8.3a
Look at:  uv run mlflow ui  ->  8-advanced  ->  Training runs  ->  chosen-elsewhere: rows.json under Artifacts
Docs:     https://mlflow.org/docs/latest/ml/tracking/
"""

import click
import mlflow
import pandas as pd

from utils.cascade import Step, best_within, curve, step_at
from utils.cli import show_table
from utils.exercise_cli import exercise_command
from utils.llm_backends import open_backend
from utils.llm_calls import Chat
from utils.options import BackendOptions
from utils.reviews import load_reviews
from utils.sentiment_job import parse_label
from utils.training_reviews import load_training_reviews

PROMPT = "Answer with one word, one of: positive, negative, neutral.\n\nReview: {text}"
LABELS = ("positive", "negative", "neutral")
MOST = 0.5  # share of rows that the LLM may decide


def steps_of(rows: pd.DataFrame) -> list[Step]:
    """Accuracy at every threshold; rows: DataFrame[sure: float, cheap: bool, dear: bool]."""
    return curve(rows["sure"].tolist(), rows["cheap"].tolist(), rows["dear"].tolist())


def accuracy_at(rows: pd.DataFrame, threshold: float) -> float:
    return step_at(rows["sure"].tolist(), rows["cheap"].tolist(), rows["dear"].tolist(), threshold).quality


def choose_and_report(rows: pd.DataFrame) -> tuple[list[str], float, float]:
    """The part of each row, `choose` or `report`; the threshold; and the accuracy to report for it."""
    # Your turn: split the rows in two halves by chance, choose on the one, and report on the other.
    chosen = best_within(steps_of(rows), MOST)
    return ["both"] * len(rows), chosen.threshold, chosen.quality


def answer_rows(backend: BackendOptions) -> pd.DataFrame:
    """How sure a classifier is of each sample review, whether it is right (cheap), and whether the LLM is (dear)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, rows = load_training_reviews(), load_reviews()
    classifier = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=1_000))
    classifier.fit(train["text"], train["label"])
    with open_backend(backend) as llm, Chat(llm) as chat:
        said = [parse_label(chat.complete(PROMPT.format(text=text)).text, LABELS) for text in rows["text"]]
    sure = classifier.predict_proba(rows["text"]).max(axis=1)
    cheap, dear = classifier.predict(rows["text"]) == rows["label"], pd.Series(said) == rows["label"]
    return pd.DataFrame({"id": rows["id"], "sure": sure, "cheap": cheap, "dear": dear})


@exercise_command("8.3a", llm="mock")
def main(backend: BackendOptions) -> None:
    rows = answer_rows(backend)
    with mlflow.start_run(run_name="chosen-elsewhere"):
        part, threshold, accuracy = choose_and_report(rows)
        mlflow.log_table({**rows.to_dict("list"), "part": part}, "rows.json")
        mlflow.log_metrics({"threshold": threshold, "accuracy": accuracy})
    show_table([{"threshold": threshold, "accuracy": accuracy, "rows": len(rows)}])
    click.echo(f"Parts: {', '.join(f'{part.count(name)} {name}' for name in sorted(set(part)))}")


if __name__ == "__main__":
    main()
