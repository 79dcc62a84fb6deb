"""Reviews that are sorted into boxes: one half is served to users, the other half is kept for the measurement."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from utils.errors import InputError
from utils.input_data import read_rows
from utils.options import InputOptions
from utils.paired_decision import Decision
from utils.reviews import load_reviews, sample_reviews

NAME = "review-box"
FIRST_LABELS = ("positive", "negative")  # of the sample reviews: somebody forgot that there is something between
FEWEST = 8  # reviews: four for each half
Row = dict[str, Any]


@dataclass(frozen=True)
class Boxes:
    """served, held_out: rows {"inputs": {"review"}, "expectations": {"expected_response"}}, no review in both.
    known: labels of the first prompt; one that the rows have is missing there. name: of the prompt."""

    name: str
    known: tuple[str, ...]
    labels: tuple[str, ...]
    served: list[Row]
    held_out: list[Row]

    def apart_from(self, used: Mapping[str, str]) -> list[Row]:
        """The held-out rows without those reviews that a prompt was made from, in an earlier run with another size.

        Raises:
            InputError: fewer than two are left.
        """
        rows = [row for row in self.held_out if row["inputs"]["review"] not in used]
        if len(rows) < 2:
            raise InputError(
                "the held-out reviews are among the complaints that the prompt is made from", "--num-reviews MORE"
            )
        return rows


def gold_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The right box of each review."""
    return {row["inputs"]["review"]: row["expectations"]["expected_response"] for row in rows}


def told(decision: Decision | None, mended: int | None, complaints: int) -> str:
    """What a comparison found, in a sentence; `mended` of the complaints are right with the new prompt."""
    if decision is None:
        return "Nothing to compare: no gain"
    seen = f"{mended} of the {complaints} complaints are right now, which it was made from; " if complaints else ""
    verdict = "a real gain" if decision.is_real else "no gain that could not be luck"
    return (
        f"{seen}on the held-out reviews {decision.better} better, {decision.worse} worse: "
        f"{decision.gain:+.3f} ({decision.low:+.3f} to {decision.high:+.3f}), p {decision.p:.4f}: {verdict}"
    )


def gain_of(decision: Decision) -> dict[str, float]:
    """As metrics of a run."""
    return {"gain": decision.gain, "gain_low": decision.low, "gain_high": decision.high, "p": decision.p}


def box_of(answer: str) -> str:
    """The label that a program would read: the answer is that word and no more."""
    return answer.strip().strip(".\"'*`").strip().lower()


def load_boxes(source: InputOptions, number: int, seed: int = 0) -> Boxes:
    """Sample reviews or a learner's own, each text once, both halves as balanced as the rows allow.

    Raises:
        InputError: the file cannot be used, has no label column named, fewer than two labels, or too few rows.
    """
    if source.input is None:
        name, frame = NAME, load_reviews()
    else:
        if source.label_column is None:
            raise InputError("whether an answer was right needs a label", "--label-column NAME")
        name = f"{re.sub(r'[^A-Za-z0-9_-]+', '-', source.input.stem)[:60]}-box"
        frame = read_rows(source.input, source.text_column, source.label_column).frame
    frame = frame.drop_duplicates("text")
    counts = Counter(frame["label"])
    if len(counts) < 2:
        raise InputError(f"the reviews have one label only: {next(iter(counts), 'none')}", "--label-column NAME")
    if len(frame) < FEWEST:
        raise InputError(f"{len(frame)} different reviews are too few for two halves", f"give {FEWEST} or more")
    labels = tuple(sorted(counts))
    rarest = min(labels, key=lambda label: (counts[label], label))
    known = FIRST_LABELS if source.input is None else tuple(label for label in labels if label != rarest)
    drawn, _ = sample_reviews(frame, min(number, len(frame)), seed)
    pairs = zip(drawn["text"], drawn["label"], strict=True)
    rows = [{"inputs": {"review": text}, "expectations": {"expected_response": label}} for text, label in pairs]
    half = len(rows) // 2
    return Boxes(name, known, labels, rows[:half], rows[half:])
