"""The rows to learn from share nothing with the sample reviews, and own rows are split without a leak."""

import pytest

from utils.errors import InputError
from utils.options import InputOptions
from utils.reviews import LABELS, load_reviews
from utils.training_reviews import TRAINING_PATH, load_training_reviews, split_rows


def words(text):
    return set(text.lower().replace(",", "").strip(".").split())


def test_each_label_as_often_no_text_twice_and_none_of_the_sample_reviews():
    rows = load_training_reviews()
    assert rows["label"].value_counts().to_dict() == {label: len(rows) // 3 for label in LABELS}
    assert rows["text"].is_unique and rows["id"].is_unique and len(rows) >= 200
    others = [words(text) for text in load_reviews()["text"]]
    closest = max(len(a & b) / len(a | b) for a in map(words, rows["text"]) for b in others)
    assert closest < 0.5
    assert not rows["text"].str.contains("|".join(LABELS), case=False).any()
    assert TRAINING_PATH.read_bytes().decode("utf-8").count("\n") == len(rows) + 1


def test_the_halves_have_every_label_and_no_row_in_common():
    parts = split_rows(InputOptions(), 120, seed=7)
    texts = [set(part["text"]) for part in (parts.train, parts.choose, parts.report)]
    assert [len(each) for each in texts] == [210, 60, 60] and len(set.union(*texts)) == 330
    assert all(set(part["label"]) == set(LABELS) for part in (parts.train, parts.choose, parts.report))
    assert split_rows(InputOptions(), 120, seed=8).report["text"].tolist() != parts.report["text"].tolist()


def own(tmp_path, lines):
    (tmp_path / "my.csv").write_text("\n".join(["comment,verdict", *lines, ""]), encoding="utf-8")
    return InputOptions(tmp_path / "my.csv", "comment", "verdict")


def test_own_rows_in_three_parts_a_text_that_comes_twice_in_one_only(tmp_path):
    lines = [f"text {number},{label}" for number in range(20) for label in ("spam", "ham")]
    lines = [f"{label} {line}" for line in lines for label in line.split(",")[1:]]
    parts = split_rows(own(tmp_path, [*lines, *lines]), 16, seed=1)
    texts = [set(part["text"]) for part in (parts.train, parts.choose, parts.report)]
    assert [len(each) for each in texts] == [24, 8, 8] and len(set.union(*texts)) == 40
    assert parts.labels == ("ham", "spam")


@pytest.mark.parametrize(
    ("lines", "held_out", "said"),
    [
        (["a,x", "b,x"], 8, "one label"),
        ([f"{n},x" for n in range(20)] + ["other,y"], 8, "1 rows of the label y"),
        ([f"{n},{'xy'[n % 2]}" for n in range(12)], 12, "none left to learn from"),
        ([f"{n},{'xyzuv'[n % 5]}" for n in range(50)], 8, "too few for 5 labels"),
        ([f"{n},{'xyz'[n % 3]}" for n in range(20)], 19, "too few for 3 labels"),
        ([f"{n},{'y' if n < 5 else 'x'}" for n in range(100)], 10, "each half needs one"),
    ],
)
def test_rows_that_cannot_be_split_are_refused(tmp_path, lines, held_out, said):
    with pytest.raises(InputError, match=said):
        split_rows(own(tmp_path, lines), held_out, seed=0)


def test_a_rare_label_that_would_all_be_held_out_is_refused(tmp_path):
    counts = {"a": 100, "b": 20, "c": 5}
    lines = [f"text {label} {number},{label}" for label, count in counts.items() for number in range(count)]
    with pytest.raises(InputError, match="none has the label c"):
        split_rows(own(tmp_path, lines), 120, seed=7)


def test_rows_without_labels_are_refused(tmp_path):
    source = own(tmp_path, ["a,x"])
    with pytest.raises(InputError, match="--label-column"):
        split_rows(InputOptions(source.input, "comment"), 8, seed=0)
