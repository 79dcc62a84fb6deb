"""The manifest of the exercises: what the learner writes, and the check that finds it in MLflow.

Importing it costs nothing: no MLflow, no click.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils import curriculum, exercise_checks, prompt_exercise_checks

if TYPE_CHECKING:
    from mlflow import MlflowClient

# None when the store proves it, otherwise one sentence about the first thing that is missing.
Check = Callable[["MlflowClient", list[str]], str | None]


@dataclass(frozen=True)
class Exercise:
    """Something to write in `file`, beside the lesson whose number the id begins with.

    Its runs and traces carry the tag `exercise`, never `lesson`: an exercise is no evidence that a lesson was done.
    proof: what the store holds once the check says yes.
    """

    id: str
    title: str
    file: str
    task: str
    proof: str
    hints: tuple[str, ...]
    check: Check

    @property
    def lesson(self) -> "curriculum.Lesson":
        return curriculum.lesson(self.id[:-1])

    @property
    def command(self) -> str:
        return f"python {self.file}"

    @property
    def solution(self) -> str:
        return f"tests/solutions/{self.file.split('/')[-1]}"


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="1.1a",
        title="Log a regressor of your own, and link its score to the data",
        file="tracking/exercises/own_regressor.py",
        task="Train a regressor of your own in place of the baseline, and log it as a model of the run. Give its rmse "
        "the model and the held-out dataset, so that the number is found from both.",
        proof="a logged model of your own, and its rmse on data that it was not trained on",
        hints=(
            "A run has a metric rmse. What would a reader need besides, to know whose it is and on which data?",
            "log_model returns what it logged. Which of its attributes does log_metrics ask for?",
            "MLflow refuses to store types that it does not know. What does its message tell you to pass?",
            "Look at tracking/simple_tracking_basic.py::train_one; then compare with tests/solutions/own_regressor.py.",
        ),
        check=exercise_checks.find_own_regressor,
    ),
    Exercise(
        id="1.1b",
        title="Log checkpoints of one model, find the best and tag it",
        file="tracking/exercises/best_checkpoint.py",
        task="Log the model at every stage as a checkpoint with its step, and its rmse with it. Then ask MLflow which "
        "checkpoint of this run has the lowest rmse, and give that one the tag best = true.",
        proof="at least three checkpoints of one run with their steps, and the tag on the best of them",
        hints=(
            "More trees fit the training data ever better. At which stage would you stop, and how do you know?",
            "log_model and log_metrics both take a step. What else makes a metric a checkpoint's own?",
            "search_logged_models can order by a metric. Which filter keeps checkpoints of earlier tries out?",
            "Look at tracking/simple_tracking_basic.py::best_model; then compare with "
            "tests/solutions/best_checkpoint.py.",
        ),
        check=exercise_checks.find_best_checkpoint,
    ),
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
        check=exercise_checks.find_failing_row,
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
        check=exercise_checks.find_better_prompt,
    ),
    Exercise(
        id="3.1a",
        title="Register a chat prompt with a schema, and let its answers be read by a program",
        file="genai/exercises/ticket_chat.py",
        task="Register a chat prompt with a system and a user message and the variable ticket, and with Triage as its "
        "response_format. Load it inside the run, ask the model for every ticket in that schema, and log how many "
        "answers were valid.",
        proof="a chat prompt with its schema, linked to a run in which every answer was valid",
        hints=(
            "Your program wants two fields. What may go wrong when it looks for them in a sentence?",
            "A schema in the code and a prompt in the registry can drift apart. What does response_format change?",
            "Which method of a LangChain model takes a schema, and in which form does load_prompt give it back?",
            "Look at genai/prompt_registry_example.py::ask_in_frameworks; then compare with "
            "tests/solutions/ticket_chat.py.",
        ),
        check=prompt_exercise_checks.find_ticket_chat,
    ),
    Exercise(
        id="3.1b",
        title="Roll a prompt back, and mark the version that failed",
        file="genai/exercises/roll_back.py",
        task="Two versions are registered, and the alias production points at the newer one, which users complain "
        "about. Point it back at the older one, tag the newer one status = withdrawn, and show by a run what the next "
        "call uses.",
        proof="the alias on an older version, the newest withdrawn, and a run that used what the alias says",
        hints=(
            "Nothing was deployed, and still users get another text. What decides which version they get?",
            "A version cannot be changed or taken away. What can you add to it that warns the next person?",
            "The alias moved a second ago, and a program goes on with the old text. Which argument is missing?",
            "Look at genai/prompt_registry_example.py::move_alias; then compare with tests/solutions/roll_back.py.",
        ),
        check=prompt_exercise_checks.find_roll_back,
    ),
    Exercise(
        id="5.2a",
        title="Cut the documents by a function of your own, and compare sizes",
        file="spark/exercises/own_chunks.py",
        task="Measure at least two chunk sizes, each in a run nested in the comparison. Write the function that cuts a "
        "document into chunks of whole words, none over the size and nothing left out.",
        proof="at least two chunk sizes as nested runs, no chunk over its size, no word lost, and hit@3 for each",
        hints=(
            "Compare the nested runs in mlflow ui. Does hit@3 rise or fall with the size, and what would explain it?",
            "A chunk grows word by word. What do you ask before you add the next one?",
            "Where would you rather cut: between two words, or between two sentences?",
            "Look at spark/spark_llamaindex_rag.py::chunk_partition; then compare with tests/solutions/own_chunks.py.",
        ),
        check=exercise_checks.find_own_chunks,
    ),
    Exercise(
        id="5.2b",
        title="Score every trace by a rule of your own",
        file="spark/exercises/answer_in_passages.py",
        task="Write a scorer that says whether the answer stands in the passages that were retrieved. Log what it says "
        "as feedback on the trace of every question.",
        proof="feedback of your own on the trace of every question, and it agrees with what the traces hold",
        hints=(
            "An answer may be right and yet stand in no passage. Where does it come from then?",
            "Which span of the trace holds the passages, and under which key?",
            "Two texts can differ by a comma. How does utils/evaluation.py::normalize_answer make them alike?",
            "Look at utils/evaluation.py::expected_in_answer; then compare with tests/solutions/answer_in_passages.py.",
        ),
        check=exercise_checks.find_answer_in_passages,
    ),
)


def exercise(number: str) -> Exercise:
    """The exercise with this id.

    Raises:
        KeyError: there is none.
    """
    for entry in EXERCISES:
        if entry.id == number:
            return entry
    raise KeyError(number)


def next_exercise(number: str) -> Exercise | None:
    """The exercise after this one, or None after the last."""
    ids = [entry.id for entry in EXERCISES]
    index = ids.index(number) + 1
    return EXERCISES[index] if index < len(EXERCISES) else None
