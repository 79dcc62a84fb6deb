"""2.2a Improve a prompt, and move the alias only if it is better.

Register a better wording as a second version, with a commit message that says what it improves. Measure it on the same
reviews as the first, and move the alias production only if it scored higher.

Run it:   uv run python spark/exercises/better_prompt.py
          uv run python spark/exercises/better_prompt.py --llm-type ollama
Check:    uv run mlflow-learn check 2.2a
Look at:  uv run mlflow ui  ->  Prompts  ->  review-sentiment; 2-tracing  ->  Training runs  ->  version-1
Docs:     https://mlflow.org/docs/latest/genai/prompt-registry/
"""

import mlflow
import pandas as pd

from utils.cli import show_table
from utils.evaluation import accuracy
from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.prompt_utils import use_alias
from utils.reviews import LABELS, load_reviews, sample_reviews
from utils.sentiment_job import parse_label

PROMPT = "review-sentiment"
FIRST = "What is the sentiment of this review?\n\n{{text}}"


def measure(version: int, reviews: pd.DataFrame, llm: Backend) -> float:
    """One run for one version of the prompt; returns its accuracy. An answer that names no label is wrong."""
    with mlflow.start_run(run_name=f"version-{version}"):
        # Loaded inside the run, so that MLflow links the run to this version.
        prompt = mlflow.genai.load_prompt(f"prompts:/{PROMPT}/{version}")
        mlflow.log_input(mlflow.data.from_pandas(reviews, name="reviews", targets="label"), context="evaluation")
        answers = llm.chat_model().batch([prompt.format(text=text) for text in reviews["text"]])
        predicted = [parse_label(answer.text, LABELS) for answer in answers]
        score = accuracy(reviews["label"].tolist(), predicted)
        mlflow.log_metrics({"accuracy": score, "unparsed": predicted.count(None)})
    return score


def run(llm: Backend, reviews: pd.DataFrame) -> dict[int, float]:
    """Accuracy of every version that was measured."""
    use_alias(PROMPT, "production", FIRST, needs=("text",), commit_message="The first idea")
    accuracy_by_version: dict[int, float] = {}
    accuracy_by_version[1] = measure(1, reviews, llm)

    # Your turn (1): register a better wording as the second version; its commit message says what it improves.
    # Your turn (2): measure it on the same reviews.
    # Your turn (3): move the alias production to it, but only if it scored higher.
    return accuracy_by_version


@exercise_command("2.2a", llm="mock")
def main(backend: BackendOptions) -> None:
    reviews, _ = sample_reviews(load_reviews(), 30, seed=7)
    with open_backend(backend) as llm:
        mlflow.langchain.autolog(silent=True)
        scores = run(llm, reviews)
    show_table([{"version": version, "accuracy": score} for version, score in scores.items()])


if __name__ == "__main__":
    main()
