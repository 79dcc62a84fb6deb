"""2.1a Give a step a span of its own, and let a failing row show.

Put the reading of the stars into a span of type PARSER with an attribute that names the review. The review that cannot
be read must show there as an error with its exception, while the job goes on.

Run it:   uv run python spark/exercises/failing_row.py
          uv run python spark/exercises/failing_row.py --llm-type ollama
Check:    uv run mlflow-learn check 2.1a
Look at:  uv run mlflow ui  ->  2-tracing  ->  Traces  ->  stars-and-words
Docs:     https://mlflow.org/docs/latest/genai/tracing/app-instrumentation/manual-tracing/
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import SpanType

from utils.cli import show_table
from utils.exercise_cli import exercise_command
from utils.llm_backends import open_backend
from utils.options import BackendOptions

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

PROMPT = "Classify the sentiment of this review with one word: positive, negative or neutral.\n\nReview: {text}"


@dataclass(frozen=True)
class Review:
    id: str
    text: str
    stars: str  # as customers typed them


REVIEWS = (
    Review("a1", "A wonderful little lamp, warm light and solid as a rock.", "5"),
    Review("a2", "It arrived broken and nobody answers my messages.", "1"),
    Review("a3", "Great sound, and the battery lasts for days.", "four"),
    Review("a4", "The lid is awful. It leaks whenever the bottle falls over.", "2"),
)


def compare(review: Review, chat_model: "BaseChatModel") -> dict[str, object]:
    """One review: what the model reads in its words, beside the stars that were given."""
    answer = chat_model.invoke(PROMPT.format(text=review.text)).text
    # Your turn: a span of type PARSER around the next line, with an attribute that names the review.
    stars = int(review.stars)
    return {"review": review.id, "stars": stars, "words": answer}


def run_job(chat_model: "BaseChatModel") -> list[dict[str, object]]:
    """All reviews in one trace; a row that fails is reported, and the next one begins."""
    rows = []
    with mlflow.start_span("stars-and-words", span_type=SpanType.CHAIN) as root:
        for review in REVIEWS:
            try:
                rows.append(compare(review, chat_model))
            except ValueError as error:
                rows.append({"review": review.id, "stars": None, "words": f"failed: {error}"})
        root.set_outputs(rows)
    return rows


@exercise_command("2.1a", llm="mock")
def main(backend: BackendOptions) -> None:
    with open_backend(backend) as llm:
        mlflow.langchain.autolog(silent=True)
        show_table(run_job(llm.chat_model()))


if __name__ == "__main__":
    main()
