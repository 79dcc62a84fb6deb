"""Exercise 2.2a solved: improve a prompt, and move the alias only if it is better.

Begin with:  spark/exercises/better_prompt.py
Run it:      uv run python tests/solutions/better_prompt.py
"""

import mlflow
import pandas as pd

from utils.cli import show_table
from utils.evaluation import accuracy
from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.prompt_utils import get_or_register, use_alias
from utils.reviews import LABELS, load_reviews, sample_reviews
from utils.sentiment_job import parse_label

PROMPT = "review-sentiment"
FIRST = "What is the sentiment of this review?\n\n{{text}}"
SECOND = "Classify the review. Answer with one word: positive, negative or neutral.\n\nReview: {{text}}"


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

    # get_or_register: the same wording once more would be a third version.
    second = get_or_register(PROMPT, SECOND, commit_message="Names the labels and asks for one word: readable answers")
    accuracy_by_version[second.version] = measure(second.version, reviews, llm)
    if accuracy_by_version[second.version] > accuracy_by_version[1]:
        mlflow.genai.set_prompt_alias(PROMPT, "production", second.version)
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
