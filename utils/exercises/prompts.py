"""Module 3: Prompts."""

from utils.exercise_checks import prompts
from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = (
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
        check=prompts.find_ticket_chat,
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
        check=prompts.find_roll_back,
    ),
)
