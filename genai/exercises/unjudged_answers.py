"""6.2a Count what a scorer could not judge, instead of averaging it in.

A scorer compares the number in an answer with the right one. Some answers hold no number, and some hold two, so it
cannot judge these. Let it raise an error there, run it over all answers with mlflow.genai.evaluate, and log the share
of right answers among those that were judged, beside how many were judged and how many were not.

Run it:   uv run python genai/exercises/unjudged_answers.py
Check:    uv run mlflow-learn check 6.2a
Look at:  uv run mlflow ui  ->  6-evaluation  ->  Evaluation runs: unjudged-answers, the rows with an error
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/scorers/custom/
"""

from typing import Any

import click
import mlflow
from mlflow.genai.scorers import Scorer

from utils.exercise_cli import exercise_command
from utils.genai_evaluation import quiet_evaluation

NAME = "right_number"
# What was asked, what was answered (by somebody, some day), and the right number.
ANSWERS = (
    ("How many days may a book be kept?", "A book may be kept for 21 days.", 21),
    ("What does a lost card cost, in euros?", "It costs 4 euros.", 4),
    ("At what hour does the library open?", "It opens in the morning.", 9),
    ("How many books may be borrowed at once?", "Adults may borrow 12, children 6.", 12),
    ("How often may a loan be extended?", "Up to 3 times.", 2),
    ("For how many days is a reserved book kept?", "For 7 days.", 7),
    ("How many seats has the reading room?", "I do not know.", 80),
)


def rows() -> list[dict[str, Any]]:
    """Answers that are there already: evaluate needs no predict_fn for them."""
    return [{"inputs": {"question": q}, "outputs": a, "expectations": {"number": n}} for q, a, n in ANSWERS]


def build_scorers() -> list[Scorer]:
    # Your turn (1): write a scorer with @mlflow.genai.scorer(name=NAME) that takes outputs and expectations. It returns
    #                True or False where the answer holds exactly one number, and raises ValueError otherwise.
    return []


def figures(run_id: str) -> dict[str, float]:  # noqa: ARG001
    """right_share, judged and not_judged."""
    # Your turn (2): read the traces of the run. An assessment named NAME has either a value or an error; count both,
    #                and take the share of True among the values only.
    return {}


@exercise_command("6.2a")
def main() -> None:
    with mlflow.start_run(run_name="unjudged-answers") as run:
        with quiet_evaluation():
            mlflow.genai.evaluate(data=rows(), scorers=build_scorers())
        mlflow.log_metrics(found := figures(run.info.run_id))
    click.echo(f"{len(ANSWERS)} answers: {found or 'no figures yet'}")


if __name__ == "__main__":
    main()
