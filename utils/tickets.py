"""Rows for a batch of questions: the learner's file, or tickets that ask the sample questions."""

from typing import TYPE_CHECKING

from utils.batch_rows import BatchRows, open_rows
from utils.options import InputOptions

if TYPE_CHECKING:
    import pandas as pd

REPEATED = 0.3  # of the tickets: a customer who sends the same text again
FIRST_NAMES = (
    "Ada", "Ben", "Cleo", "Dana", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jana", "Kai", "Lena", "Milo", "Nora", "Otto",
    "Pia", "Rosa", "Sami", "Tilda", "Uma", "Vera", "Wim", "Yara", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Abel", "Berg", "Costa", "Duran", "Engel", "Falk", "Gomez", "Hahn", "Ito", "Jensen", "Kovac", "Lind", "Moreau",
    "Novak", "Okoro", "Pereira", "Quist", "Rossi", "Sato", "Toth", "Ueda", "Vogel", "Weber", "Young",
)  # fmt: skip


def open_tickets(source: InputOptions, num_rows: int) -> BatchRows:
    """The learner's file, whole; without one, `num_rows` tickets.

    The label of a row, where there is one, is the document that holds its answer, in lower case.

    Raises:
        InputError: the file cannot be used.
    """
    if source.input:
        return open_rows(source, num_rows, 0.0)
    frame = made_tickets(num_rows)
    repeated = int(frame["text"].duplicated().sum())
    description = f"{num_rows:,} tickets, {repeated:,} of them repeated"
    return BatchRows(num_rows, description, f"tickets {num_rows}", (), repeated / num_rows, own=frame)


def made_tickets(num_rows: int) -> "pd.DataFrame":
    """DataFrame[id, text, label (null: the sample documents hold no answer)]: the last REPEATED share asks again."""
    import pandas as pd

    from utils.questions import load_questions

    questions = load_questions()
    distinct = max(1, num_rows - int(num_rows * REPEATED))
    rows = []
    for number in range(num_rows):
        turn, place = divmod(number % distinct, len(questions))
        first, last = FIRST_NAMES[turn % len(FIRST_NAMES)], LAST_NAMES[turn // len(FIRST_NAMES) % len(LAST_NAMES)]
        text = f"{questions[place].question}\n\nKind regards\n{first} {last}"
        rows.append((str(number), text, questions[place].gold_document))
    frame = pd.DataFrame(rows, columns=["id", "text", "label"], dtype=object)
    return frame.assign(label=frame["label"].where(frame["label"].notna(), None))
