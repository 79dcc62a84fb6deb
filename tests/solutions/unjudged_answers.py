"""Exercise 6.2a solved: count what a scorer could not judge, instead of averaging it in.

Begin with:  genai/exercises/unjudged_answers.py
Run it:      uv run python tests/solutions/unjudged_answers.py
"""

import re
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
    @mlflow.genai.scorer(name=NAME)
    def right_number(outputs: str, expectations: dict[str, Any]) -> bool:
        found = re.findall(r"\d+", outputs)
        if len(found) != 1:
            raise ValueError(f"{len(found)} numbers in the answer: which one is meant?")
        return int(found[0]) == expectations["number"]

    return [right_number]


def figures(run_id: str) -> dict[str, float]:
    """right_share, judged and not_judged."""
    traces = mlflow.search_traces(run_id=run_id, return_type="list")
    given = [item for trace in traces for item in trace.search_assessments(NAME)]
    judged = [item.value for item in given if item.error is None]
    return {
        "right_share": sum(judged) / len(judged),
        "judged": len(judged),
        "not_judged": len(given) - len(judged),
    }


@exercise_command("6.2a")
def main() -> None:
    with mlflow.start_run(run_name="unjudged-answers") as run:
        with quiet_evaluation():
            mlflow.genai.evaluate(data=rows(), scorers=build_scorers())
        mlflow.log_metrics(found := figures(run.info.run_id))
    click.echo(f"{len(ANSWERS)} answers: {found or 'no figures yet'}")


if __name__ == "__main__":
    main()
