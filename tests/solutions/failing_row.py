"""Exercise 2.1a solved: give a step a span of its own, and let a failing row show.

Begin with:  spark/exercises/failing_row.py
Run it:      uv run python tests/solutions/failing_row.py
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
    with mlflow.start_span("read-stars", span_type=SpanType.PARSER) as span:
        span.set_attribute("review.id", review.id)
        span.set_inputs({"stars": review.stars})
        stars = int(review.stars)  # an exception ends the span as an error, and goes on to the loop
        span.set_outputs(stars)
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
