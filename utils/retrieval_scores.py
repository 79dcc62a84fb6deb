"""Retrieval scored question by question, so that two ways to retrieve can be compared on the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from utils.chunking import Chunk, tokens
from utils.evaluation import (
    Difference,
    Interval,
    bootstrap_interval,
    hit_at_k,
    holm_correction,
    ndcg_at_k,
    paired_bootstrap_difference,
    reciprocal_rank,
    wilcoxon_p,
)
from utils.questions import Question

ALPHA = 0.05  # how often, of all comparisons together, an equal way may be called worse


@dataclass(frozen=True)
class Scores:
    """One value a question, in their order: shares, ranks and gains between 0 and 1, tokens, milliseconds.

    sentences: whether the gold sentence stands whole in a passage; empty where some question has none.
    """

    hits: list[float]
    ranks: list[float]
    gains: list[float]
    sentences: list[float]
    passage_tokens: list[int]
    latency_ms: list[float]

    @cached_property
    def interval(self) -> Interval:
        """Of the mean gain (nDCG@k), by bootstrap at 95 %."""
        return bootstrap_interval(self.gains)

    def metrics(self) -> dict[str, float]:
        """hit_at_k, mrr, ndcg_at_k with low and high, passage_tokens (mean) and retrieval_p50_ms."""
        low, high = self.interval
        found = {"hit_at_k": mean(self.hits), "mrr": mean(self.ranks), "ndcg_at_k": mean(self.gains)}
        kept = {"gold_sentence": mean(self.sentences)} if self.sentences else {}
        cost = {"passage_tokens": mean(self.passage_tokens), "retrieval_p50_ms": median(self.latency_ms)}
        return {**found, "low": low, "high": high, **kept, **cost}


@dataclass(frozen=True)
class Comparison:
    """Against the best: mean difference of the gains with its interval, and Wilcoxon's p corrected by Holm."""

    difference: Difference
    p: float

    @property
    def is_worse(self) -> bool:
        return self.p < ALPHA and self.difference.high < 0


def score_passages(
    questions: Sequence[Question], passages: Sequence[Sequence[Chunk]], latency_ms: Sequence[float], k: int
) -> Scores:
    """Score what was retrieved; all questions have a gold document.

    Args:
        passages: for each question the chunks that the model would read, best first, at most k.
        latency_ms: for each question how long that took.
    """
    gold = [str(question.gold_document) for question in questions]
    found = [[chunk.document for chunk in chunks] for chunks in passages]
    wanted = [" ".join((question.gold_sentence or "").split()) for question in questions]
    texts = [[" ".join(chunk.text.split()) for chunk in chunks] for chunks in passages]
    return Scores(
        hits=[float(hit_at_k(ids, name, k)) for ids, name in zip(found, gold, strict=True)],
        ranks=list(map(reciprocal_rank, found, gold)),
        gains=[ndcg_at_k(ids, name, k) for ids, name in zip(found, gold, strict=True)],
        sentences=[float(any(s in t for t in ts)) for s, ts in zip(wanted, texts, strict=True)] if all(wanted) else [],
        passage_tokens=[sum(len(tokens(chunk.text)) for chunk in chunks) for chunks in passages],
        latency_ms=list(latency_ms),
    )  # fmt: skip


def compare(best: Scores, others: Sequence[Scores]) -> list[Comparison]:
    """Each of the others against the best on the same questions (Wilcoxon's signed ranks, Holm over all of them)."""
    if not others:
        return []
    corrected = holm_correction([wilcoxon_p(best.gains, other.gains) for other in others])
    return [
        Comparison(paired_bootstrap_difference(best.gains, other.gains), p)
        for other, p in zip(others, corrected, strict=True)
    ]


def quote_share(quote: str, text: str) -> float:
    """How much of a quote stands in a text, in runs of three words: 1 for a quote word for word, 0 for an empty one."""
    words, other = quote.lower().split(), f" {' '.join(text.lower().split())} "
    runs = [" ".join(words[start : start + 3]) for start in range(max(1, len(words) - 2))]
    return sum(f" {run} " in other for run in runs) / len(runs) if words else 0.0


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
