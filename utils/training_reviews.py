"""Short reviews to train a classifier on, written and labelled by hand for this project, and learners' own rows.

They are plainer than the sample reviews (utils/reviews.py) and share no text with them.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import InputError
from utils.input_data import read_rows
from utils.options import InputOptions
from utils.reviews import load_reviews, sample_reviews

if TYPE_CHECKING:
    import pandas as pd

TRAINING_PATH = Path(__file__).parent / "data" / "training_reviews.csv"
FEWEST = 5  # rows of each label that own rows need: some to learn from, some in each half


@dataclass(frozen=True)
class Parts:
    """Three sets of rows, DataFrame[id: str, text: str, label: str], no text in two of them: to learn from, to choose
    on, and to report on. description: where they come from, for the learner and for the run."""

    train: "pd.DataFrame"
    choose: "pd.DataFrame"
    report: "pd.DataFrame"
    labels: tuple[str, ...]
    description: str

    def digest(self) -> str:
        """The same for the same rows in the same parts: 16 hex digits."""
        rows = [part[["text", "label"]].to_numpy().tolist() for part in (self.train, self.choose, self.report)]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def load_training_reviews() -> "pd.DataFrame":
    """DataFrame[id: str, text: str, label: str] in the file's order, each label as often."""
    import pandas as pd

    return pd.read_csv(TRAINING_PATH, dtype=str, keep_default_na=False, encoding="utf-8")


def split_rows(source: InputOptions, held_out: int, seed: int) -> Parts:
    """The training reviews and the sample reviews, or the learner's rows in three; every part has every label.

    held_out: rows that are not learnt from, half of them to choose on and half to report on.

    Raises:
        InputError: the file cannot be used, has no labels, only one, or too few rows of one of them.
    """
    from sklearn.model_selection import train_test_split

    if source.input is None:
        train, pool = load_training_reviews(), load_reviews()
        held, _ = sample_reviews(pool, min(held_out, len(pool)), seed)
        name = "the training reviews and the sample reviews"
    else:
        pool, name = _own_rows(source), source.input.name
        if held_out >= len(pool):
            raise InputError(f"{name} has {len(pool):,} different texts, none left to learn from", "--held-out 40")
        _check_size(held_out, pool["label"].nunique(), len(pool) - held_out)
        train, held = train_test_split(pool, test_size=held_out, stratify=pool["label"], random_state=seed)
        if missing := sorted(set(pool["label"]) - set(train["label"])):
            problem = f"of the {len(train)} rows left to learn from none has the label {missing[0]}"
            raise InputError(problem, "--held-out N, fewer")
    labels = tuple(sorted(pool["label"].unique()))
    counts = held["label"].value_counts().reindex(labels, fill_value=0)
    if counts.min() < 2:
        problem = (
            f"of the {len(held)} rows held out {counts.min()} have the label {counts.idxmin()}, and each half needs one"
        )
        raise InputError(problem, f"--held-out {4 * held_out}")
    choose, report = train_test_split(held, test_size=0.5, stratify=held["label"], random_state=seed)
    note = f"{len(train):,} rows to learn from, {len(choose)} to choose on, {len(report)} to report on, of {name}"
    train, choose, report = (part.reset_index(drop=True) for part in (train, choose, report))
    return Parts(train, choose, report, labels, note)


def _own_rows(source: InputOptions) -> "pd.DataFrame":
    if source.input is None or source.label_column is None:
        raise InputError("without labels nothing is learnt, and no answer is right or wrong", "--label-column NAME")
    # A text that is in two parts would be known beforehand.
    pool = read_rows(source.input, source.text_column, source.label_column).frame.drop_duplicates("text")
    counts = pool["label"].value_counts()
    if len(counts) < 2:
        raise InputError(f"{source.input.name} has one label, {counts.index[0]}", "rows of at least two labels")
    if counts.min() < FEWEST:
        problem = f"{source.input.name} has {counts.min()} rows of the label {counts.index[-1]}"
        raise InputError(problem, f"at least {FEWEST} rows of each label, or leave its rows out")
    return pool


def _check_size(held_out: int, labels: int, left: int) -> None:
    if held_out < 2 * labels or left < labels:
        raise InputError(f"{held_out} rows held out and {left} left are too few for {labels} labels", "--held-out 40")
