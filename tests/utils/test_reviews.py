"""The sample reviews keep their promises, and samples are seeded, balanced and honest about repeats."""

import csv
import subprocess
import sys
from itertools import combinations

import pandas as pd
import pytest

from utils.errors import InputError
from utils.reviews import KINDS, LABELS, REVIEWS_PATH, load_reviews, sample_reviews


@pytest.fixture(scope="module")
def reviews():
    return load_reviews()


def shared_words(first, second):
    """Jaccard similarity of the two texts' words."""
    a, b = set(first.lower().split()), set(second.lower().split())
    return len(a & b) / len(a | b)


def test_the_columns_and_ids(reviews):
    assert list(reviews.columns) == ["id", "text", "label", "kind"]
    assert list(reviews["id"]) == [f"r{number:03}" for number in range(1, len(reviews) + 1)]


def test_there_are_enough_and_each_label_is_a_third(reviews):
    assert len(reviews) >= 120
    assert reviews["label"].value_counts().to_dict() == {label: len(reviews) // 3 for label in LABELS}


def test_a_fifth_is_hard_for_every_label(reviews):
    assert set(reviews["kind"]) == set(KINDS)
    hard = reviews[reviews["kind"] != "plain"]
    assert len(hard) * 5 == len(reviews)
    assert hard["label"].value_counts().to_dict() == {label: len(hard) // 3 for label in LABELS}
    assert (hard.groupby("label")["kind"].nunique() == len(KINDS) - 1).all()


def test_no_two_reviews_are_alike(reviews):
    closest = max(combinations(reviews["text"], 2), key=lambda pair: shared_words(*pair))
    assert shared_words(*closest) < 0.5, closest


def test_reviews_have_6_to_45_words_and_no_stray_spaces(reviews):
    words = reviews["text"].str.split().str.len()
    assert words.min() >= 6
    assert words.max() <= 45
    assert (reviews["text"] == reviews["text"].str.split().str.join(" ")).all()


def test_a_review_does_not_name_its_label(reviews):
    assert not reviews["text"].str.contains("|".join(LABELS), case=False).any()


def test_the_first_rows_are_mixed(reviews):
    labels = reviews["label"].head(20)
    assert labels.value_counts().min() >= 5
    assert reviews["kind"].head(20).nunique() > 1


def test_the_file_is_utf8_and_its_rows_are_those_loaded(reviews):
    with REVIEWS_PATH.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == reviews.to_dict("records")


@pytest.mark.parametrize("num_samples", [1, 20, 149, 150])
def test_a_sample_has_no_repeats(reviews, num_samples):
    sample, replaced = sample_reviews(reviews, num_samples, seed=7)
    assert not replaced
    assert len(sample) == sample["id"].nunique() == num_samples
    assert list(sample.index) == list(range(num_samples))
    merged = sample.merge(reviews, how="left", indicator=True)
    assert (merged["_merge"] == "both").all()  # whole rows, not mixed ones


@pytest.mark.parametrize("seed", range(10))
def test_a_sample_is_balanced(reviews, seed):
    counts = sample_reviews(reviews, 20, seed)[0]["label"].value_counts()
    assert sorted(counts) == [6, 7, 7]


def test_a_rare_label_is_in_a_small_sample():
    rows = pd.DataFrame({"text": [f"text {i}" for i in range(100)], "label": ["rare"] * 2 + ["common"] * 98})
    counts = sample_reviews(rows, 20, seed=1)[0]["label"].value_counts()
    assert counts.to_dict() == {"rare": 2, "common": 18}


def test_rows_without_labels_can_be_sampled(reviews):
    sample, replaced = sample_reviews(reviews[["id", "text"]], 20, seed=1)
    assert not replaced
    assert sample["id"].nunique() == 20


def test_the_seed_decides(reviews):
    first, again, other = (sample_reviews(reviews, 40, seed)[0] for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again)
    assert list(first["id"]) != list(other["id"])
    assert list(first["id"]) != list(reviews["id"].head(40))


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(reviews):
    small, large = (list(sample_reviews(reviews, size, seed=5)[0]["id"]) for size in (20, 120))
    assert large[:20] == small


def test_more_rows_than_there_are_says_so_and_leaves_none_out(reviews):
    sample, replaced = sample_reviews(reviews, 1_000, seed=2)
    again, _ = sample_reviews(reviews, 1_000, seed=2)
    assert replaced
    assert len(sample) == 1_000
    assert sample["id"].head(len(reviews)).nunique() == len(reviews)
    assert sample["id"].iloc[len(reviews) :].nunique() > len(reviews) // 2
    pd.testing.assert_frame_equal(sample, again)


def test_the_rows_sampled_from_are_left_as_they_were(reviews):
    before = reviews.copy(deep=True)
    sample_reviews(reviews, 200, seed=2)
    pd.testing.assert_frame_equal(reviews, before)


@pytest.mark.parametrize(("num_samples", "seed"), [(0, 1), (-3, 1), (10, -1)])
def test_a_sample_that_cannot_be_drawn_is_refused(reviews, num_samples, seed):
    with pytest.raises(InputError) as caught:
        sample_reviews(reviews, num_samples, seed)
    assert str(min(num_samples, seed)) in caught.value.problem


def test_no_rows_cannot_be_sampled(reviews):
    with pytest.raises(InputError, match="no rows"):
        sample_reviews(reviews.head(0), 5, seed=1)


def test_importing_is_light():
    code = "import sys, utils.errors, utils.reviews, utils.input_data; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "numpy", "pyarrow", "mlflow"} & set(done.stdout.split())
