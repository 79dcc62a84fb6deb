"""Module 2: Tracing."""

from utils.exercise_checks import tracing
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="2.1a",
        title="Give a step a span of its own, and let a failing row show",
        file="spark/exercises/failing_row.py",
        task="Put the reading of the stars into a span of type PARSER with an attribute that names the review. The "
        "review that cannot be read must show there as an error with its exception, while the job goes on.",
        proof="one trace with spans of your own, one of them failed, with its exception",
        hints=(
            "Open the job's trace in mlflow ui. Can you tell from it which review failed, and why?",
            "A span is a with block. What does MLflow note when an exception leaves that block?",
            "Where must the except stand, so that the span sees the exception and the loop goes on?",
            "Look at spark/spark_langchain_ollama.py::open_classifier; then compare with "
            "tests/solutions/failing_row.py.",
        ),
        check=tracing.find_failing_row,
    ),
    Exercise(
        id="2.2a",
        title="Improve a prompt, and move the alias only if it is better",
        file="spark/exercises/better_prompt.py",
        task="Register a better wording as a second version, with a commit message that says what it improves. Measure "
        "it on the same reviews as the first, and move the alias production only if it scored higher.",
        proof="two versions measured on the same reviews, and the alias production on the better one",
        hints=(
            "Read some answers to the first wording in mlflow ui. Which of them can no program read, and why?",
            "What must a prompt say so that every answer is one of three words?",
            "How does a run know which version it measured? See what load_prompt does inside a run.",
            "Look at spark/spark_langchain_multiple_mode.py::run; then compare with tests/solutions/better_prompt.py.",
        ),
        check=tracing.find_better_prompt,
    ),
)
