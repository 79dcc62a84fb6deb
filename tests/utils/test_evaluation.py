"""The metric functions against scikit-learn, SciPy, closed forms and what holds for any input."""

import math
import re
import string
import subprocess
import sys
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from utils import evaluation as ev

LABELS = ("positive", "negative", "neutral")
DOCUMENTS = [f"doc{i}" for i in range(8)]

label = st.sampled_from(LABELS)
prediction = st.sampled_from([*LABELS, None, "no such label"])
answered = st.lists(st.tuples(label, prediction), min_size=1, max_size=60).map(
    lambda rows: list(zip(*rows, strict=True))
)
ranking = st.lists(st.sampled_from(DOCUMENTS), max_size=12)
gold_set = st.sets(st.sampled_from(DOCUMENTS), min_size=1, max_size=4)
number = st.floats(-1e3, 1e3)
numbers = st.lists(number, min_size=1, max_size=30)
few = settings(max_examples=40, deadline=None)


# Classification


@given(answered)
def test_accuracy_is_scikit_learns(rows):
    truth, predicted = rows
    assert ev.accuracy(truth, predicted) == pytest.approx(metrics.accuracy_score(truth, [str(p) for p in predicted]))


def test_a_missing_prediction_is_wrong_for_every_metric():
    truth = ["positive", "negative"]
    assert ev.accuracy(truth, ["positive", None]) == 0.5
    assert ev.macro_f1(truth, ["positive", None], LABELS) == 0.5
    assert ev.confusion_matrix(truth, ["positive", "no such label"], LABELS).tolist() == [
        [1, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]


@few
@given(answered)
def test_macro_f1_is_the_mean_of_each_labels_f1(rows):
    truth, predicted = rows
    each = []
    for name in LABELS:
        right = sum(t == p == name for t, p in zip(truth, predicted, strict=True))
        used = truth.count(name) + predicted.count(name)
        if used:
            each.append(2 * right / used)
    assert ev.macro_f1(truth, predicted, LABELS) == pytest.approx(sum(each) / len(each))


@few
@given(st.lists(st.tuples(label, label), min_size=1).map(lambda rows: list(zip(*rows, strict=True))))
def test_the_confusion_matrix_is_scikit_learns_plus_an_empty_column(rows):
    truth, predicted = rows
    counts = ev.confusion_matrix(truth, predicted, LABELS)
    assert (counts[:, :-1] == metrics.confusion_matrix(truth, predicted, labels=list(LABELS))).all()
    assert not counts[:, -1].any()


@few
@given(answered)
def test_the_confusion_matrix_counts_every_row_once(rows):
    truth, predicted = rows
    counts = ev.confusion_matrix(truth, predicted, LABELS)
    assert counts.shape == (3, 4)
    assert counts.sum(axis=1).tolist() == [truth.count(name) for name in LABELS]
    assert counts[:, -1].sum() == sum(p not in LABELS for p in predicted)
    assert np.trace(counts[:, :-1]) == pytest.approx(ev.accuracy(truth, predicted) * len(truth))


def test_labels_keep_the_order_given_and_default_to_those_of_the_truth():
    truth, predicted = ["b", "a", "b"], ["b", "b", None]
    assert ev.confusion_matrix(truth, predicted).tolist() == [[0, 1, 0], [0, 1, 1]]
    assert ev.confusion_matrix(truth, predicted, ["b", "a"]).tolist() == [[1, 0, 1], [1, 0, 0]]


def test_a_right_label_outside_the_labels_is_an_error():
    for measure in (ev.macro_f1, ev.confusion_matrix):
        with pytest.raises(ValueError, match="mixed"):
            measure(["positive", "mixed"], ["positive", "positive"], LABELS)


@few
@given(st.lists(st.tuples(label, label), min_size=2).map(lambda rows: list(zip(*rows, strict=True))))
def test_kappa_is_scikit_learns_and_symmetric(rows):
    first, second = rows
    kappa = ev.cohens_kappa(first, second)
    if len({*first, *second}) == 1:
        assert math.isnan(kappa)
    else:
        assert kappa == pytest.approx(metrics.cohen_kappa_score(first, second))
        assert kappa == pytest.approx(ev.cohens_kappa(second, first))


def test_kappa_by_hand():
    # Agreement 0.7; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; (0.7 - 0.5) / (1 - 0.5).
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert ev.cohens_kappa(first, second) == pytest.approx(0.4)
    weighted = ev.cohens_kappa(["1", "2", "3", "1"], ["2", "2", "3", "1"], weights="quadratic")
    assert weighted > ev.cohens_kappa(["1", "2", "3", "1"], ["2", "2", "3", "1"])


# Retrieval


@given(ranking, gold_set, st.integers(1, 12))
def test_ndcg_is_scikit_learns(retrieved, gold, k):
    first_ranks = list(dict.fromkeys(retrieved))[:k]
    # Documents outside the first k carry no gain there, so only those inside are scored, by falling score.
    fillers = [name for name in DOCUMENTS if name not in first_ranks]
    order = first_ranks + [f"filler{i}" for i in range(k)] + fillers
    relevance = [[float(name in gold) for name in order]]
    scores = [list(range(len(order), 0, -1))]
    expected = metrics.ndcg_score(relevance, scores, k=k)
    assert ev.ndcg_at_k(retrieved, gold, k) == pytest.approx(expected)


@given(ranking, gold_set, st.integers(1, 12))
def test_retrieval_figures_agree_with_each_other(retrieved, gold, k):
    hit, ndcg = ev.hit_at_k(retrieved, gold, k), ev.ndcg_at_k(retrieved, gold, k)
    assert hit == (ndcg > 0)
    assert 0 <= ndcg <= 1 + 1e-12
    assert hit == (ev.reciprocal_rank(retrieved, gold) >= 1 / k)
    assert hit <= ev.hit_at_k(retrieved, gold, k + 1)


@given(ranking, gold_set, st.integers(1, 12))
def test_repeated_chunks_of_one_document_count_once(retrieved, gold, k):
    repeated = [name for name in retrieved for _ in range(3)]
    for measure in (ev.hit_at_k, ev.ndcg_at_k):
        assert measure(repeated, gold, k) == measure(retrieved, gold, k)
    assert ev.reciprocal_rank(repeated, gold) == ev.reciprocal_rank(retrieved, gold)


def test_ranks_by_hand():
    retrieved = ["a", "a", "b", "c"]
    assert ev.reciprocal_rank(retrieved, "b") == 0.5
    assert ev.hit_at_k(retrieved, "b", 2) and not ev.hit_at_k(retrieved, "b", 1)
    assert ev.ndcg_at_k(retrieved, "b", 3) == pytest.approx(1 / math.log2(3))
    assert ev.ndcg_at_k(["a", "b"], ["a", "b", "missing"], 3) == pytest.approx(
        (1 + 1 / math.log2(3)) / (1 + 1 / math.log2(3) + 0.5)
    )
    assert ev.mrr([retrieved, ["x"], ["b"]], ["b", "b", ["a", "b"]]) == pytest.approx((0.5 + 0 + 1) / 3)


def test_the_source_retrieval_rate_asks_for_the_right_source():
    questions = [["a", "b"], ["a"], ["c"], []]
    assert ev.source_retrieval_rate(questions, ["b", "b", ["c", "d"], "a"]) == 0.5
    assert ev.source_retrieval_rate([["a"]], ["aa"]) == 0.0


# Uncertainty and tests


def test_the_bootstrap_interval_covers_the_true_mean():
    random = np.random.default_rng(7)
    hits = 0
    for trial in range(300):
        low, high = ev.bootstrap_interval(random.exponential(2.0, 60).tolist(), resamples=400, seed=trial)
        hits += low <= 2.0 <= high
    # The percentile method undercovers a little on skewed data: about 0.93 for 60 exponential values.
    assert 0.88 <= hits / 300 <= 0.98


@few
@given(st.lists(number, min_size=2, max_size=30))
def test_the_bootstrap_interval_is_repeatable_and_inside_the_data(values):
    low, high = ev.bootstrap_interval(values, resamples=200)
    assert (low, high) == ev.bootstrap_interval(values, resamples=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_a_lower_level_gives_a_narrower_interval():
    values = np.random.default_rng(1).normal(size=50).tolist()
    narrow, wide = ev.bootstrap_interval(values, level=0.5), ev.bootstrap_interval(values, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert ev.bootstrap_interval(values, seed=1) != ev.bootstrap_interval(values, seed=2)


def test_pairing_removes_what_both_systems_share():
    random = np.random.default_rng(3)
    hardness = random.normal(scale=10, size=80)
    before, after = hardness, hardness + 0.5 + random.normal(scale=0.1, size=80)
    result = ev.paired_bootstrap_difference(before.tolist(), after.tolist(), resamples=500)
    assert 0.4 < result.low < result.mean < result.high < 0.6
    assert result.mean == pytest.approx(float(np.mean(after - before)))
    back = ev.paired_bootstrap_difference(after.tolist(), before.tolist(), resamples=500)
    assert back.mean == pytest.approx(-result.mean)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_the_wilson_interval_is_its_closed_form(trial, level):
    successes, n = trial
    z, p = stats.norm.ppf(0.5 + level / 2), successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert ev.wilson_interval(successes, n, level) == pytest.approx((middle - half, middle + half), abs=1e-9)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_tail(b, c):
    n = b + c
    tail = sum(math.comb(n, i) for i in range(min(b, c) + 1)) / 2**n
    assert ev.mcnemar_exact(b, c) == pytest.approx(min(1.0, 2 * tail))


@few
@given(st.lists(st.tuples(number, number), min_size=1, max_size=10))  # its exact p takes seconds for 25
def test_wilcoxon_is_symmetric_and_scipys(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    p = ev.wilcoxon_p(first, second)
    assert 0 <= p <= 1
    assert p == pytest.approx(ev.wilcoxon_p(second, first))
    if first != second:
        assert p == pytest.approx(stats.wilcoxon(second, first).pvalue)


def test_wilcoxon_of_equal_pairs_is_one_and_of_a_clear_gain_is_small():
    before = [0.1 * i for i in range(12)]
    assert ev.wilcoxon_p(before, before) == 1.0
    assert ev.wilcoxon_p(before, [value + 1 for value in before]) < 0.001


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_over_bonferroni(p_values):
    # Holm rejects a hypothesis where Bonferroni rejects every intersection that contains it.
    everyone = range(len(p_values))
    subsets = [set(chosen) for size in everyone for chosen in combinations(everyone, size + 1)]
    for i, corrected in enumerate(ev.holm_correction(p_values)):
        bounds = (min(1.0, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s)
        assert corrected == pytest.approx(max(bounds))


@given(numbers)
def test_latency_percentiles_rise_and_stay_inside(values):
    result = ev.latency_percentiles(values)
    assert list(result) == ["p50", "p95", "p99"]
    assert min(values) - 1e-9 <= result["p50"] <= result["p95"] <= result["p99"] <= max(values) + 1e-9
    assert result["p50"] == pytest.approx(float(np.median(values)))


# Answers


def squad_normalize(text):
    """The official SQuAD script's normalisation, as a yardstick."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(answer, expected):
    found, wanted = squad_normalize(answer).split(), squad_normalize(expected).split()
    common = sum((Counter(found) & Counter(wanted)).values())
    if not found or not wanted or not common:
        return float(found == wanted)
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


words = st.text(alphabet="abcthen .,!?'\"()$ ", max_size=40)


@given(words, words)
def test_token_f1_is_squads_on_plain_words(answer, expected):
    assert ev.normalize_answer(answer) == squad_normalize(answer)
    assert ev.token_f1(answer, expected) == pytest.approx(squad_f1(answer, expected))


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing_more_than_once_for_the_score(text):
    assert ev.token_f1(text, text) == 1.0
    assert ev.token_f1(text, ev.normalize_answer(text)) >= 0.0


@pytest.mark.parametrize(
    ("answer", "expected", "found"),
    [
        ("It takes The 30 Days.", "30 days", True),
        ("It costs 50 EUR", "5", False),
        ("At 3.5 km", "35 km", False),
        ("At 3.5 km.", "3.5 km", True),
        ("about 1,000 rows", "1000", True),
        ("It is -5 degrees", "5 degrees", False),
        ("It is \N{MINUS SIGN}5 degrees", "-5 degrees", True),
        ("use 2-3 cups", "23", False),
        ("on 2024-05-01", "2024-05-01", True),
        ("“quoted” words", "quoted words", True),
        ("", "30 days", False),
    ],
)
def test_expected_in_answer(answer, expected, found):
    assert ev.expected_in_answer(answer, expected) is found


@pytest.mark.parametrize(
    "answer",
    [
        "I do not know.",
        "I don’t know the answer to that.",
        "I'm not sure.",
        "I am not able to answer this from the passages.",
        "Sorry, I cannot answer this question.",
        "I really don't know",
        "I could not find anything about it.",
        "We do not have enough information.",
        "I am unable to determine the price.",
        "The passages do not say.",
        "The provided context does not contain the answer.",
        "The document about refunds doesn't mention shoes.",
        "There is no information about this in the documents.",
        "There is not enough information to answer.",
        "This is not mentioned in the given context.",
        "None of the documents mention a deadline.",
        "The passages are about the weather. They are long. I do not know the answer.",
        "Unknown.",
    ],
)
def test_answers_that_decline(answer):
    assert ev.is_declined(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "The refund takes 30 days.",
        "No.",
        "No information is stored on our servers.",
        "Documents do not have to be signed.",
        "The user does not know the password, so reset it.",
        "Sources cannot include personal data.",
        "You know that it is 5.",
        "It is not known to fail. The unknown error code is 42.",
        "The policy does not cover accessories.",
    ],
)
def test_answers_that_say_something(answer):
    assert not ev.is_declined(answer)


# Wrong use


@pytest.mark.parametrize(
    "call",
    [
        lambda: ev.accuracy([], []),
        lambda: ev.macro_f1([], [], LABELS),
        lambda: ev.confusion_matrix([], [], LABELS),
        lambda: ev.cohens_kappa([], []),
        lambda: ev.mrr([], []),
        lambda: ev.source_retrieval_rate([], []),
        lambda: ev.hit_at_k(["a"], [], 3),
        lambda: ev.reciprocal_rank(["a"], []),
        lambda: ev.ndcg_at_k(["a"], [], 3),
        lambda: ev.hit_at_k(["a"], "a", 0),
        lambda: ev.ndcg_at_k(["a"], "a", 0),
        lambda: ev.bootstrap_interval([]),
        lambda: ev.bootstrap_interval([1.0]),
        lambda: ev.bootstrap_interval([1.0, math.nan]),
        lambda: ev.paired_bootstrap_difference([], []),
        lambda: ev.paired_bootstrap_difference([1.0, 2.0], [1.0]),
        lambda: ev.wilson_interval(0, 0),
        lambda: ev.wilson_interval(3, 2),
        lambda: ev.mcnemar_exact(-1, 2),
        lambda: ev.wilcoxon_p([], []),
        lambda: ev.holm_correction([]),
        lambda: ev.holm_correction([0.5, 1.5]),
        lambda: ev.latency_percentiles([]),
        lambda: ev.accuracy(["a"], ["a", "b"]),
        lambda: ev.expected_in_answer("something", " . "),
    ],
)
def test_wrong_use_says_so_in_a_sentence(call):
    with pytest.raises(ValueError, match=r"^[A-Z0-9].+\.$"):
        call()


def test_importing_the_module_loads_no_heavy_library():
    heavy = ("numpy", "scipy", "sklearn", "mlflow")
    check = f"import sys, utils.evaluation; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
