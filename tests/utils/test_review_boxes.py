"""Two halves that share no review, and what a learner's own file must have."""

import pytest

from utils.errors import InputError
from utils.options import InputOptions
from utils.paired_decision import decide
from utils.review_boxes import FIRST_LABELS, box_of, gold_of, load_boxes, told


def texts(rows):
    return [row["inputs"]["review"] for row in rows]


def own_file(tmp_path, *rows):
    path = tmp_path / "our notes.csv"
    path.write_text("note,verdict\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return InputOptions(path, "note", "verdict")


@pytest.mark.parametrize("number", [8, 41, 150, 900])
def test_the_halves_share_no_review_and_no_review_comes_twice(number):
    boxes = load_boxes(InputOptions(), number)
    both = [*texts(boxes.served), *texts(boxes.held_out)]
    assert len(both) == len(set(both)) == min(number, 150)
    assert len(boxes.held_out) - len(boxes.served) in (0, 1)
    assert boxes.known == FIRST_LABELS and set(boxes.labels) == {*FIRST_LABELS, "neutral"}


def test_reviews_that_a_prompt_was_made_from_are_not_held_out():
    """A run with 150 reviews serves the first 75, and a later one with 40 would hold 20 of them out."""
    large, small = load_boxes(InputOptions(), 150), load_boxes(InputOptions(), 40)
    used = gold_of(large.served[:30])
    left = small.apart_from(used)
    assert texts(left) == [text for text in texts(small.held_out) if text not in used] and len(left) == 10
    with pytest.raises(InputError, match="held-out"):
        small.apart_from(gold_of(large.served))


def test_an_own_file_counts_each_text_once_and_the_first_prompt_lacks_its_rarest_label(tmp_path):
    rows = [(f"note {n}", ["late", "broken", "late", "lost"][n % 4]) for n in range(12)]
    boxes = load_boxes(own_file(tmp_path, *rows, rows[0], ("note 12", "lost")), 100)
    assert boxes.name == "our-notes-box" and boxes.labels == ("broken", "late", "lost")
    assert boxes.known == ("late", "lost")
    assert len(boxes.served) + len(boxes.held_out) == 13


def test_what_an_own_file_must_have(tmp_path):
    with pytest.raises(InputError, match="too few"):
        load_boxes(own_file(tmp_path, *[("same text", "late")] * 20, ("b", "lost")), 100)
    with pytest.raises(InputError, match="one label only: late"):
        load_boxes(own_file(tmp_path, *[(f"note {n}", "late") for n in range(20)]), 100)
    with pytest.raises(InputError, match="label"):
        load_boxes(InputOptions(tmp_path / "our notes.csv", "note", None), 100)


@pytest.mark.parametrize(
    ("answer", "box"),
    [
        ("Neutral.", "neutral"),
        (' "positive" ', "positive"),
        ("**Negative**\n", "negative"),
        ("It is bad.", "it is bad"),
    ],
)
def test_an_answer_is_a_box_only_when_it_is_that_word(answer, box):
    assert box_of(answer) == box


def test_what_is_told_of_a_comparison():
    real = decide([False] * 20, [True] * 18 + [False] * 2)
    assert told(real, 3, 4).startswith("3 of the 4 complaints") and told(real, 3, 4).endswith("a real gain")
    luck = decide([True, False] * 10, [False, True] * 10)
    assert told(luck, None, 0).endswith("no gain that could not be luck") and "complaints" not in told(luck, None, 0)
    assert told(None, None, 5) == "Nothing to compare: no gain"
