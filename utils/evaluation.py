"""Pure metric functions: no files, no MLflow. Right answers come first, predictions second.

Labels and predictions are strings; a prediction that failed or was unparsed is None. `retrieved` are the
document ids of one question's chunks, best first: several chunks of a document count once, at its best rank.
`gold` is one document id or several. Empty input raises ValueError: a figure of nothing must not be logged.
SciPy and scikit-learn are imported by the functions that need them, so importing this module is cheap.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

Predictions = Sequence[str | None]
Interval = tuple[float, float]
_UNPARSED = "\0"  # no learner's label
_NUMBERS_PER_BATCH = 2_000_000  # 16 MB of resampled values at a time, however many rows there are


class Difference(NamedTuple):
    """Mean of `second - first` over pairs, with its interval: above 0 the second is better."""

    mean: float
    low: float
    high: float


def accuracy(truth: Sequence[str], predicted: Predictions) -> float:
    """Share of rows predicted right; None is wrong."""
    _require_pairs(truth, predicted, "labels", "predictions")
    return sum(p == t for t, p in zip(truth, predicted, strict=True)) / len(truth)


def macro_f1(truth: Sequence[str], predicted: Predictions, labels: Sequence[str] | None = None) -> float:
    """Mean F1 of the labels (default: those in `truth`); one that neither side uses is left out.

    Raises ValueError when `truth` holds a label that is not in `labels`.
    """
    from sklearn.metrics import f1_score

    labels, parsed = _parsed(truth, predicted, labels)
    return float(f1_score(truth, parsed, labels=list(labels), average="macro", zero_division=math.nan))


def confusion_matrix(truth: Sequence[str], predicted: Predictions, labels: Sequence[str] | None = None) -> "np.ndarray":
    """Counts as an int array [right label, predicted label] of shape (labels, labels + 1).

    Rows and columns are in the order given; the last column is what is unparsed: None, or outside the labels.
    """
    from sklearn.metrics import confusion_matrix as count

    labels, parsed = _parsed(truth, predicted, labels)
    return count(truth, parsed, labels=[*labels, _UNPARSED])[:-1]


def cohens_kappa(first: Sequence[str], second: Sequence[str], weights: str | None = None) -> float:
    """Agreement of two raters beyond chance: 1 is perfect, 0 is chance; NaN when both only say one thing.

    `weights` is None, `linear` or `quadratic`; the last two need labels that sort by their rank (numbers).
    """
    from sklearn.metrics import cohen_kappa_score

    _require_pairs(first, second, "ratings of the first rater", "ratings of the second rater")
    if len(set(first) | set(second)) == 1:
        return math.nan
    return float(cohen_kappa_score(list(first), list(second), weights=weights))


def hit_at_k(retrieved: Sequence[str], gold: str | Collection[str], k: int) -> bool:
    """Whether a gold document is among the first k different documents."""
    wanted = _gold(gold)
    return any(document in wanted for document in _top(retrieved, k))


def reciprocal_rank(retrieved: Sequence[str], gold: str | Collection[str]) -> float:
    """1 / rank of the first gold document; 0 when none was retrieved."""
    wanted = _gold(gold)
    ranks = (rank for rank, document in enumerate(dict.fromkeys(retrieved), start=1) if document in wanted)
    return 1 / next(ranks, math.inf)


def mrr(retrieved: Sequence[Sequence[str]], gold: Sequence[str | Collection[str]]) -> float:
    """Mean reciprocal rank over questions."""
    _require_pairs(retrieved, gold, "retrieved lists", "gold documents")
    return sum(map(reciprocal_rank, retrieved, gold)) / len(gold)


def ndcg_at_k(retrieved: Sequence[str], gold: str | Collection[str], k: int) -> float:
    """Binary nDCG@k: 1 when the gold documents come first, discounted by log2(rank + 1) otherwise.

    The ideal ranking holds all gold documents (at most k), so one that was never retrieved costs its share.
    Source: Järvelin and Kekäläinen, 2002, doi 10.1145/582415.582418.
    """
    wanted = _gold(gold)
    discounts = [1 / math.log2(rank + 1) for rank in range(1, k + 1)]
    gain = sum(discounts[i] for i, name in enumerate(_top(retrieved, k)) if name in wanted)
    return gain / sum(discounts[: len(wanted)])


def source_retrieval_rate(retrieved: Sequence[Sequence[str]], gold: Sequence[str | Collection[str]]) -> float:
    """Share of questions with a gold source among the retrieved ones."""
    _require_pairs(retrieved, gold, "retrieved lists", "gold documents")
    return sum(not _gold(wanted).isdisjoint(ids) for ids, wanted in zip(retrieved, gold, strict=True)) / len(gold)


def bootstrap_interval(values: Sequence[float], level: float = 0.95, resamples: int = 5_000, seed: int = 0) -> Interval:
    """Percentile bootstrap interval (low, high) of the mean of per-item values.

    Raises ValueError for fewer than two values: one value says nothing about how far its mean may be off.
    """
    import numpy as np
    from scipy.stats import bootstrap

    numbers = np.asarray(_finite(values), dtype=float)
    if len(numbers) < 2:
        raise ValueError("A bootstrap interval needs at least two values.")
    how = {
        "n_resamples": resamples,
        "batch": max(1, _NUMBERS_PER_BATCH // len(numbers)),
        "method": "percentile",
    }
    result = bootstrap((numbers,), np.mean, confidence_level=level, rng=np.random.default_rng(seed), **how)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def paired_bootstrap_difference(
    first: Sequence[float],
    second: Sequence[float],
    level: float = 0.95,
    resamples: int = 5_000,
    seed: int = 0,
) -> Difference:
    """How much better the second system is on the same items: mean difference and its percentile interval."""
    differences = _differences(first, second)
    low, high = bootstrap_interval(differences, level, resamples, seed)
    return Difference(sum(differences) / len(differences), low, high)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval (low, high) of a share of n trials; it stays inside 0 and 1 for small n."""
    from scipy.stats import binomtest

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"A share needs 0 <= successes <= n and n >= 1, not {successes} of {n}.")
    interval = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p of McNemar's test: b rows right only in the first system, c only in the second."""
    from scipy.stats import binomtest

    if b < 0 or c < 0:
        raise ValueError(f"Counts of disagreeing rows cannot be negative: {b} and {c}.")
    return float(binomtest(b, b + c).pvalue) if b + c else 1.0


def wilcoxon_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test on pairs; 1 when no pair differs."""
    from scipy.stats import wilcoxon

    differences = _differences(first, second)
    return float(wilcoxon(differences).pvalue) if any(differences) else 1.0


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """P values corrected for having tested all of them (Holm, 1979), in the order given."""
    p = _finite(p_values)
    if min(p) < 0 or max(p) > 1:
        raise ValueError("P values lie between 0 and 1.")
    corrected, largest = [0.0] * len(p), 0.0
    for done, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - done) * p[index]))
        corrected[index] = largest
    return corrected


def latency_percentiles(latencies_ms: Sequence[float]) -> dict[str, float]:
    """`p50`, `p95` and `p99` in the unit of the input, interpolated linearly between measured values."""
    import numpy as np

    p50, p95, p99 = np.percentile(_finite(latencies_ms), (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_KEPT = re.compile(r"(?<=\d)\.(?=\d)|(?<!\S)-(?=\d)")
_BETWEEN_NUMBERS = re.compile(r"(?<=\d)[-–/:](?=\d)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_NOT = r"(?:(?:do |can |could |am |are |was |were )?not|don't|can't|cannot|couldn't)"
_KNOW = r"(?:know|answer|find|tell|say|determine|sure|certain|aware|able to|have (?:\w+ )?information)"
_TEXTS = r"(?:context|documents?|passages?|sources?|texts?|excerpts?|(?:provided|given|available) information)"
_SAY = r"(?:say|contain|mention|include|provide|answer|state|specify|give|cover|tell|describe|address)"
_SAID = r"(?:mentioned|stated|specified|given|provided|covered|found|described|contained)"
_DECLINES = re.compile(
    rf"\b(?:i|we)(?:'m|'re)?(?: \w+)? {_NOT} (?:\w+ )?{_KNOW}\b|\bi(?:'m| am) (?:\w+ )?(?:unable|unsure)\b"
    rf"|\b{_TEXTS}(?: \w+){{0,4}} (?:do not|does not|don't|doesn't|did not|didn't) (?:\w+ )?{_SAY}\b"
    rf"|\b(?:none|nothing) (?:of|in) (?:\w+ )*{_TEXTS}\b|\bnot {_SAID} (?:in|by) (?:\w+ ){{0,3}}{_TEXTS}\b"
    r"|\bno (?:relevant )?information (?:about|on|regarding|in|available)\b"
    r"|\b(?:not enough|insufficient) information\b|^(?:unknown|no idea|not known|unanswerable)\W*$"
)


def normalize_answer(text: str) -> str:
    """SQuAD's normalisation: lower case, without punctuation, articles and extra spaces.

    Beyond SQuAD, numbers stay what they are: 3.5 does not become 35, -5 keeps its sign, 2-3 is two numbers.
    Source: the official SQuAD 1.1 evaluation script (Rajpurkar et al., 2016).
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("\N{MINUS SIGN}", "-")
    text = _BETWEEN_NUMBERS.sub(" ", text)
    kept = {match.start() for match in _KEPT.finditer(text)}
    plain = "".join(c for i, c in enumerate(text) if i in kept or unicodedata.category(c)[0] not in "PS")
    return " ".join(_ARTICLES.sub(" ", plain).split())


def token_f1(answer: str, expected: str) -> float:
    """F1 of the words that both share (SQuAD). Where one of them has no word: 1 if both have none, else 0."""
    found, wanted = normalize_answer(answer).split(), normalize_answer(expected).split()
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


def expected_in_answer(answer: str, expected: str) -> bool:
    """Whether the normalised expected answer stands in the answer as whole words: `5` is not in `50`."""
    wanted = normalize_answer(expected)
    if not wanted:
        raise ValueError("The expected answer is empty.")
    return f" {wanted} " in f" {normalize_answer(answer)} "


def is_declined(answer: str) -> bool:
    """Whether the answer says that it does not know, in its first or its last sentence.

    A rule for English. One that guesses after saying so ("I am not sure, but it is 42") counts as declined.
    """
    plain = unicodedata.normalize("NFKC", answer).lower().replace("’", "'")
    sentences = [s.strip() for s in _SENTENCE_END.split(plain) if s.strip()]
    return any(_DECLINES.search(sentence) for sentence in {*sentences[:1], *sentences[-1:]})


def _parsed(
    truth: Sequence[str], predicted: Predictions, labels: Sequence[str] | None
) -> tuple[Sequence[str], list[str]]:
    _require_pairs(truth, predicted, "labels", "predictions")
    labels = labels or sorted(set(truth))
    unknown = sorted(set(truth) - set(labels))
    if unknown:
        raise ValueError(f"The right labels hold {', '.join(unknown)}, none of {', '.join(labels)}.")
    return labels, [p if p in labels else _UNPARSED for p in predicted]  # type: ignore[misc]


def _require_pairs(first: Sequence, second: Sequence, first_name: str, second_name: str) -> None:
    if not len(first) or not len(second):
        raise ValueError(f"There are no {first_name if not len(first) else second_name} to measure.")
    if len(first) != len(second):
        raise ValueError(f"{len(first)} {first_name} do not pair with {len(second)} {second_name}.")


def _differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    _require_pairs(first, second, "values of the first system", "values of the second system")
    return [after - before for before, after in zip(_finite(first), _finite(second), strict=True)]


def _finite(values: Sequence[float]) -> list[float]:
    numbers = [float(value) for value in values]
    if not numbers:
        raise ValueError("There are no values to measure.")
    if not all(map(math.isfinite, numbers)):
        raise ValueError("A value is missing or infinite; leave such items out and count them apart.")
    return numbers


def _gold(gold: str | Collection[str]) -> frozenset[Hashable]:
    wanted = frozenset([gold] if isinstance(gold, str) else gold)
    if not wanted:
        raise ValueError("The question has no gold document.")
    return wanted


def _top(retrieved: Sequence[str], k: int) -> list[str]:
    if k < 1:
        raise ValueError(f"The cut-off k is at least 1, not {k}.")
    return list(dict.fromkeys(retrieved))[:k]
