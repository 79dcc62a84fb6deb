"""Users who rate what they get: simulated, since a curriculum has none. They know the right answer.

Some say nothing, and some press the wrong thumb, as people do.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

UP = ("Went into the right box.", "Thank you.", "Good.")
DOWN = ("This is in the wrong box.", "I had to move it by hand.", "Please look at this one again.")


@dataclass(frozen=True)
class Opinion:
    """One user's thumb on answer number `place`, with his comment."""

    place: int
    user: str
    thumbs_up: bool
    comment: str


def rate(
    right: Sequence[bool], *, users: int = 8, share: float = 0.8, mistaken: float = 0.08, seed: int = 7
) -> list[Opinion]:
    """Thumbs on about `share` of the answers; a share `mistaken` of the thumbs says the opposite of what is true."""
    rng = random.Random(seed)
    opinions = []
    for place, is_right in enumerate(right):
        speaks, errs, words = rng.random() < share, rng.random() < mistaken, rng.randrange(len(UP))
        if speaks:
            thumbs_up = is_right != errs
            comment = (UP if thumbs_up else DOWN)[words]
            opinions.append(Opinion(place, f"user-{1 + place % users}", thumbs_up, comment))
    return opinions
