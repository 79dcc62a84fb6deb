"""Scores question by question, and comparisons with the best."""

import pytest

from utils.chunking import Chunk
from utils.questions import Question
from utils.retrieval_scores import Scores, compare, quote_share, score_passages


def question(gold: str, sentence: str | None = None) -> Question:
    return Question(gold, "?", gold, sentence, "x", "own")


def scores(gains: list[float]) -> Scores:
    return Scores(gains, gains, gains, [], [10] * len(gains), [1.0] * len(gains))


def test_each_question_has_its_values():
    asked = [question("a", "One sentence."), question("b", "Another one.")]
    passages = [[Chunk("c", "no"), Chunk("a", "Here: One\n sentence.")], [Chunk("a", "Another one."), Chunk("a", "x")]]
    found = score_passages(asked, passages, [2.0, 4.0], 2)
    assert (found.hits, found.ranks, found.sentences) == ([1, 0], [0.5, 0], [1, 1])
    assert found.gains == [pytest.approx(0.631, abs=0.001), 0]
    assert found.metrics()["retrieval_p50_ms"] == 3 and found.passage_tokens[0] > found.passage_tokens[1]


def test_without_a_gold_sentence_nothing_is_said_about_it():
    assert score_passages([question("a")] * 2, [[], []], [1, 1], 3).metrics().get("gold_sentence") is None


def test_a_real_difference_is_told_and_a_small_one_is_not():
    best = scores([1.0] * 30 + [0.5] * 10)
    worse, equal = compare(best, [scores([0.0] * 15 + [1.0] * 15 + [0.5] * 10), scores([1.0] * 29 + [0.5] * 11)])
    assert worse.is_worse and worse.difference.mean == pytest.approx(-15 / 40)
    assert not equal.is_worse and equal.p > 0.3
    assert compare(best, []) == []


def test_of_many_comparisons_each_must_be_clearer():
    better = [1.0] * 6 + [0.5] * 34
    other = scores([0.5] * 40)
    alone, *_ = compare(scores(better), [other])
    among, *_ = compare(scores(better), [other] * 10)
    assert alone.is_worse and not among.is_worse


@pytest.mark.parametrize(
    ("quote", "share"),
    [
        ("The cat sat on the mat.", 1),
        ("the cat sat under a tree", 0.25),
        ("", 0),
        ("Dogs bark at night", 0),
        ("cat", 1),
    ],
)
def test_a_quote_stands_in_a_text_or_not(quote, share):
    assert quote_share(quote, "Today the cat  sat on\nthe mat. It slept.") == share
