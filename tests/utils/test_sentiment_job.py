"""Reading a label out of an answer, scoring rows, and what a job says about its calls."""

from pathlib import Path

import pandas as pd
import pytest

from utils.errors import InputError
from utils.options import InputOptions
from utils.reviews import LABELS
from utils.sentiment_job import (
    SAMPLE_ROWS,
    TRACE_ALL_UP_TO,
    call_figures,
    confusion_figure,
    load_job_rows,
    parse_label,
    score,
    trace_share,
)

FINE = ("very positive", "positive", "neutral", "negative", "very negative")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("positive", "positive"),
        ("Positive.", "positive"),
        ("  NEGATIVE\n", "negative"),
        ("**Neutral**", "neutral"),
        ('"positive", clearly', "positive"),
        ("Sentiment:negative", "negative"),
        ("The review is negative, quite negative.", "negative"),
        ("positive or negative", None),
        ("neither good nor bad", None),
        ("positively", None),
        ("unneutral", None),
        ("neutral_1", None),
        ("", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_an_answer_names_one_label_or_none(answer: str | None, label: str | None) -> None:
    assert parse_label(answer, LABELS) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Very positive.", "very positive"),
        ("positive", "positive"),
        ("It is very negative", "very negative"),
        ("positive, or even very positive", None),
        ("very neutral", "neutral"),
    ],
)
def test_a_label_of_several_words_is_not_its_last_word(answer: str, label: str | None) -> None:
    assert parse_label(answer, FINE) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("-1", ("-1", "0", "1"), "-1"),
        ("1", ("-1", "0", "1"), "1"),
        ("10", ("-1", "0", "1"), None),
        ("It is C++.", ("c++", "c#", "c"), "c++"),
        ("c", ("c++", "c#", "c"), "c"),
        ("(b)", ("a", "b"), "b"),
        ("größer", ("größer", "kleiner"), "größer"),
        ("a.b", ("a.b", "axb"), "a.b"),
        ("axb", ("a.b",), None),
    ],
)
def test_labels_may_be_numbers_signs_and_other_letters(answer: str, labels: tuple[str, ...], label: str | None) -> None:
    assert parse_label(answer, labels) == label


def answered(*rows: tuple[str | None, str | None, str | None]) -> pd.DataFrame:
    """Rows of (right label, answer, predicted label), as `classify` leaves them."""
    frame = pd.DataFrame(rows, columns=["label", "answer", "predicted"], dtype="str")
    return frame.assign(error=[None if answer else "APIStatusError: no" for _, answer, _ in rows])


MIXED = answered(
    ("positive", "positive", "positive"),
    ("positive", "hm", None),
    ("negative", None, None),
    ("negative", "negative", "negative"),
    ("neutral", "positive", "positive"),
)


def test_rows_that_failed_or_name_no_label_are_wrong_and_counted() -> None:
    scores = score(MIXED, LABELS)
    assert scores["rows"] == 5
    assert scores["failed_rows"] == 1
    assert scores["unparsed_rows"] == 1
    assert scores["accuracy"] == pytest.approx(2 / 5)
    # positive: precision 1/2, recall 1/2; negative: 1 and 1/2; neutral: 0.
    assert scores["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)


def test_hard_and_plain_rows_are_scored_apart_where_the_kind_is_known() -> None:
    scores = score(MIXED.assign(kind=["plain", "irony", "negation", "plain", "plain"]), LABELS)
    assert scores["accuracy_plain"] == pytest.approx(2 / 3)
    assert scores["accuracy_hard"] == 0
    only_plain = score(MIXED.assign(kind="plain"), LABELS)
    assert "accuracy_hard" not in only_plain
    assert "accuracy_plain" not in score(MIXED, LABELS)


def test_without_labels_there_are_shares_and_no_accuracy() -> None:
    scores = score(MIXED.drop(columns="label"), LABELS)
    assert scores == {
        "rows": 5, "failed_rows": 1, "unparsed_rows": 1,
        "share_positive": 0.4, "share_negative": 0.2, "share_neutral": 0.0,
    }  # fmt: skip


def test_the_figure_counts_what_has_no_label_in_a_column_of_its_own() -> None:
    axes = confusion_figure(MIXED, LABELS).axes[0]
    cells = {
        tuple(map(round, text.get_position())): text.get_text() for text in axes.texts
    }  # (column, row): what is written there
    assert [label.get_text() for label in axes.get_yticklabels()] == list(LABELS)
    assert [label.get_text() for label in axes.get_xticklabels()] == [*LABELS, "no label"]
    right, unparsed, failed = cells[0, 0], cells[3, 0], cells[3, 1]
    assert (right, unparsed, failed) == ("1", "1", "1")
    assert cells[0, 2] == "1"  # neutral taken for positive
    assert sum(map(int, cells.values())) == len(MIXED)


def test_calls_tokens_and_latencies_come_from_the_answers() -> None:
    answers = pd.DataFrame(
        {
            "answer": ["positive", None, "negative"],
            "attempts": [1, 4, 2],
            "latency_ms": [10.0, 9000.0, 30.0],
            "prompt_tokens": [20.0, float("nan"), 22.0],
            "completion_tokens": [1.0, float("nan"), 1.0],
        }
    )
    figures = call_figures(answers, seconds=2.0, rows=6)
    assert figures["llm_calls"] == 7
    assert figures["prompt_tokens"] == 42
    assert figures["completion_tokens"] == 2
    assert figures["rows_per_second"] == 3
    assert figures["latency_p50_ms"] == 20  # of calls that brought an answer
    uncounted = call_figures(answers.assign(prompt_tokens=None, completion_tokens=None), seconds=2.0, rows=6)
    assert not any("tokens" in name for name in uncounted)


@pytest.mark.parametrize("rows", [1, 10, SAMPLE_ROWS, TRACE_ALL_UP_TO, TRACE_ALL_UP_TO + 1, 1_000_000])
def test_the_share_of_traced_calls_is_a_share(rows: int) -> None:
    assert trace_share("off", rows) == 0
    assert trace_share("all", rows) == (1 if rows <= TRACE_ALL_UP_TO else SAMPLE_ROWS / rows)
    assert trace_share("sample", rows) == min(1, SAMPLE_ROWS / rows)


def own_file(tmp_path: Path, text: str) -> InputOptions:
    path = tmp_path / "own.csv"
    path.write_text(text, encoding="utf-8")
    return InputOptions(path, "comment", "verdict" if "verdict" in text else None)


def test_a_learners_labels_are_those_of_the_whole_file(tmp_path: Path) -> None:
    rows = load_job_rows(own_file(tmp_path, "comment,verdict\nfine,Good\nawful,BAD\nso so,meh\n"), 2, 7)
    assert rows.labels == ("bad", "good", "meh")
    assert len(rows.frame) == 2
    assert rows.labelled
    assert rows.description == "2 of 3 rows of own.csv"


def test_labels_among_the_three_stay_the_three(tmp_path: Path) -> None:
    rows = load_job_rows(own_file(tmp_path, "comment,verdict\nfine,positive\nawful,negative\n,neutral\n"), 5, 7)
    assert rows.labels == LABELS
    assert len(rows.frame) == 5
    assert "1 rows without text left out" in rows.description
    assert "drawn again" in rows.description


def test_rows_without_labels_are_asked_for_the_three(tmp_path: Path) -> None:
    rows = load_job_rows(own_file(tmp_path, "comment\nfine\nawful\n"), 2, 7)
    assert rows.labels == LABELS
    assert not rows.labelled


def test_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_job_rows(InputOptions(tmp_path / "nowhere.csv"), 2, 7)


def test_the_sample_reviews_are_seeded_and_balanced() -> None:
    rows = load_job_rows(InputOptions(), 30, 7)
    assert rows.frame["label"].value_counts().to_dict() == dict.fromkeys(LABELS, 10)
    assert rows.frame.equals(load_job_rows(InputOptions(), 30, 7).frame)
    assert not rows.frame.equals(load_job_rows(InputOptions(), 30, 8).frame)
