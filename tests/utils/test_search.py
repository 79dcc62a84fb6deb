"""Searches by vectors, by words, and both joined: rankings of positions."""

import pytest

from utils.embeddings import open_embedding
from utils.search import HybridIndex, VectorIndex, WordIndex, reciprocal_rank_fusion, split_words

TEXTS = ["The cat sat on the mat.", "Dogs chase cats in the garden.", "mlflow.log_model(name) logs a LoggedModel.", ""]


def test_fusion_is_the_formula_of_the_paper():
    fused = reciprocal_rank_fusion([[7, 8, 9], [9, 7]])
    scores = {7: 1 / 61 + 1 / 62, 8: 1 / 62, 9: 1 / 63 + 1 / 61}
    assert fused == sorted(scores, key=lambda item: -scores[item]) == [7, 9, 8]
    assert reciprocal_rank_fusion([[1, 2], [2, 1]]) == [1, 2], "of equals the first of the first ranking"
    assert reciprocal_rank_fusion([[], []]) == [] and reciprocal_rank_fusion([]) == []
    assert reciprocal_rank_fusion([[1, 2, 3], [3]], constant=1) == [3, 1, 2]


def test_words_find_what_shares_them_and_nothing_else():
    ranked = WordIndex(TEXTS).rank(["Which cat chases?", "unheard of", "log model", ""], 3)
    assert ranked[0][0] in (0, 1) and set(ranked[0]) <= {0, 1}
    assert ranked[1:] == [[], [2], []]


def test_an_index_without_a_word_finds_nothing():
    assert WordIndex(["", "of the"]).rank(["anything"], 3) == [[]]


def test_vectors_rank_all_texts_the_nearest_first():
    (ranked,) = VectorIndex(TEXTS, open_embedding("lexical")).rank(["dogs chase cats"], 9)
    assert ranked[0] == 1 and sorted(ranked) == [0, 1, 2, 3]
    many = VectorIndex(TEXTS, open_embedding("lexical")).rank(["dogs chase cats"] * 300, 1)
    assert many == [[1]] * 300


def test_both_joined():
    index = HybridIndex(TEXTS, open_embedding("lexical"))
    (ranked,) = index.rank(["log_model"], 2)
    assert ranked[0] == 2 and len(ranked) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("log_model and LoggedModel", ["log", "model", "logged", "model"]),
        ("The classes of analysis", ["classe", "analysis"]),
        ("HTTP 404s", ["http", "404"]),
    ],
)
def test_words_of_programs_are_taken_apart(text, words):
    assert split_words(text) == words
