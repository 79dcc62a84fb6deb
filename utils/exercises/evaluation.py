"""Module 6: Evaluation."""

from utils.exercise_checks import evaluation
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="6.1a",
        title="Make evaluation rows of what users complained about",
        file="genai/exercises/rows_from_complaints.py",
        task="Choose the traces with a thumb down, log on each what the answer should have been, and merge them into a "
        "dataset, so that the next version is tested on them. A second run must add no row.",
        proof="every complaint is a row once, with its expectation and its trace, and no praised answer is among them",
        hints=(
            "A complaint says that an answer was bad. What does a test need to know besides?",
            "You read the trace before you logged the expectation. What does your copy of it not hold?",
            "The second run made the same complaints again. By what does MLflow know that these rows are there?",
            "Look at genai/evaluation/evaluation_dataset.py::merge_user_traces and ::open_dataset; then compare with "
            "tests/solutions/rows_from_complaints.py.",
        ),
        check=evaluation.find_rows_from_complaints,
    ),
    Exercise(
        id="6.2a",
        title="Count what a scorer could not judge, instead of averaging it in",
        file="genai/exercises/unjudged_answers.py",
        task="A scorer compares the number in an answer with the right one. Some answers hold no number, and some hold "
        "two, so it cannot judge these. Let it raise an error there, run it over all answers with "
        "mlflow.genai.evaluate, and log the share of right answers among those that were judged, beside how many were "
        "judged and how many were not.",
        proof="a value or an error on every row, and a share over the judged ones only, beside both counts",
        hints=(
            "Somebody answers 12 and 6. Is that right, wrong, or neither, and what does a mean make of neither?",
            "What does MLflow do with a row whose scorer raised? Look at the run's own mean, then at its rows.",
            "An assessment has a value, or it has something else. Under which name?",
            "Look at utils/row_scores.py::read_row_scores and utils/rag_judgement.py::measure; then compare with "
            "tests/solutions/unjudged_answers.py.",
        ),
        check=evaluation.find_unjudged_answers,
    ),
    Exercise(
        id="6.7a",
        title="Write the rule of a gate, and let it say no to what is missing",
        file="genai/exercises/own_gate.py",
        task="Four candidates were scored on the rows of a baseline: one is the same, one differs by noise, one got "
        "worse, and one was not scored on every row. Write the rule that passes the first two and refuses the others, "
        "and leave each verdict on the run of its candidate, with the p that it rests on.",
        proof="a verdict on each of four candidates, two passed and two refused, with the p of what was compared",
        hints=(
            "The candidate lost has no wrong row at all. Why is its share of right rows no comfort?",
            "Seven rows of the candidate noise changed sides. Which of the forty rows say anything about a difference?",
            "A coin is thrown once for each row that changed sides. How often does it give so one-sided a count?",
            "Look at utils/evaluation.py::mcnemar_exact and utils/gate_decision.py::find_missing; then compare with "
            "tests/solutions/own_gate.py.",
        ),
        check=evaluation.find_own_gate,
    ),
)
