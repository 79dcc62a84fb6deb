"""Module 8: Advanced."""

from utils.exercise_checks import advanced
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="8.1a",
        title="Add a specialist whose hand-off is visible",
        file="genai/exercises/own_specialist.py",
        task="Add a specialist that searches the documents, and let the coordinator know it. Its hand-off is a span of "
        "type AGENT with handoff.from, handoff.to, the request and the answer, and its own work below it.",
        proof="one trace with hand-offs to two specialists, each with what it was asked and what it did",
        hints=(
            "Open the coordinator's trace. Which half of the question did nobody answer?",
            "By what does the model choose among specialists: their code, or what it is told of them?",
            "What would you look for in the trace when the search says something wrong? Give it a span of its own.",
            "Look at genai/agents/multi_agent.py::Team; then compare with tests/solutions/own_specialist.py.",
        ),
        check=advanced.find_own_specialist,
    ),
    Exercise(
        id="8.1b",
        title="Give a loop a budget, and let it end honestly",
        file="genai/exercises/bounded_loop.py",
        task="Give the two agents a budget of six hand-offs. When it is used up, show it in the trace (a GUARDRAIL "
        "span, budget.limit and budget.steps on the root), and answer that the work was stopped.",
        proof="a trace within its budget, a guardrail that shows it, and an answer that claims nothing",
        hints=(
            "Count the spans of the trace. Who would have paid for them, had each been a model call?",
            "When is the budget looked at: before a hand-off, or after it? What is the difference for the bill?",
            "The user reads the answer only. What must it say for them to know that the ticket is still open?",
            "Look at utils/agent_budget.py::Budget; then compare with tests/solutions/bounded_loop.py.",
        ),
        check=advanced.find_bounded_loop,
    ),
    Exercise(
        id="8.2a",
        title="Go on after a kill, and pay for nothing twice",
        file="spark/exercises/paid_once.py",
        task="A job is killed in the middle and started again. Write the loop that asks each distinct text once and "
        "keeps each answer the moment it is there, so that the second run asks the rest.",
        proof="two runs, the first one killed, and no more calls in both than distinct texts and the one in flight",
        hints=(
            "Look at calls and distinct_texts of your run. Which texts were paid for twice, and by which run?",
            "The job dies between two lines of your loop. Where is the answer that came a moment before?",
            "A file that is written at the end, a file that grows by a line: which of them does a kill leave behind?",
            "Look at utils/batch_journal.py::JournalWriter; then compare with tests/solutions/paid_once.py.",
        ),
        check=advanced.find_paid_once,
    ),
    Exercise(
        id="8.3a",
        title="Choose on some rows, report on others",
        file="genai/exercises/chosen_elsewhere.py",
        task="A threshold is chosen and its accuracy reported, on the same 150 rows. Split them in two halves: "
        "choose the threshold with the best accuracy on the one, and report its accuracy on the other.",
        proof="a table with the part of every row, the best threshold of the one part, and its accuracy on the other",
        hints=(
            "You tried 150 thresholds and took the best. How good would the best of 150 coins look?",
            "Is the accuracy on the other half higher or lower than on the first? Try ten seeds: which is it mostly?",
            "The first 75 rows of a file are one half, too. What if it is sorted?",
            "Look at utils/cascade.py::best_within; then compare with tests/solutions/chosen_elsewhere.py.",
        ),
        check=advanced.find_chosen_elsewhere,
    ),
)
