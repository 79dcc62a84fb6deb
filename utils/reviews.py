"""The sample reviews: texts written and labelled by hand for this project, a fifth of them hard."""

from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("positive", "negative", "neutral")
KINDS = ("plain", "negation", "irony", "mixed")  # all but the first are the hard cases
REVIEWS_PATH = Path(__file__).parent / "data" / "reviews.csv"


def load_reviews() -> "pd.DataFrame":
    """DataFrame[id: str, text: str, label: str, kind: str] in the file's order, each label as often."""
    import pandas as pd

    # A review may be the word "None" or "NA": no text is ever read as a missing value.
    return pd.read_csv(REVIEWS_PATH, dtype=str, keep_default_na=False, encoding="utf-8")


def sample_reviews(
    reviews: "pd.DataFrame", num_samples: int, seed: int, *, balanced: bool = True
) -> tuple["pd.DataFrame", bool]:
    """`num_samples` rows in a seeded random order, and whether some were drawn with replacement.

    With `balanced`, labels take turns where there is a column `label`, so that a sample is as balanced as the rows
    allow, even where the rows are not; without it a sample has the distribution of the rows. The same seed gives the
    same rows, and a smaller sample begins a larger one. Where more rows are asked for than there are, each comes once
    and the others are drawn with replacement, so that ids repeat.

    Raises:
        InputError: fewer than one row is asked for, the seed is negative, or there are no rows to draw from.
    """
    import numpy as np

    _check(len(reviews), num_samples, seed)
    rng = np.random.default_rng(seed)
    shuffled = reviews.iloc[rng.permutation(len(reviews))]
    if balanced and "label" in shuffled:
        turn = shuffled.groupby("label", sort=False, dropna=False).cumcount()
        shuffled = shuffled.iloc[np.argsort(turn.to_numpy(), kind="stable")]
    missing = max(0, num_samples - len(shuffled))
    drawn_again = rng.integers(0, len(shuffled), size=missing)
    positions = np.concatenate([np.arange(num_samples - missing), drawn_again])
    return shuffled.iloc[positions].reset_index(drop=True), missing > 0


def _check(available: int, num_samples: int, seed: int) -> None:
    if available == 0:
        raise InputError("there are no rows to draw a sample from", "give rows that have a text")
    if num_samples < 1:
        raise InputError(f"a sample of {num_samples} rows holds nothing", "ask for 1 row or more")
    if seed < 0:
        raise InputError(f"the seed {seed} is negative", "use 0 or a positive whole number as the seed")
