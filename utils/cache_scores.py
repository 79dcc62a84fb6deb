"""What a semantic cache would do at each threshold: pure functions, no MLflow and no files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from utils.cache_questions import CacheQuestion
from utils.evaluation import Interval, wilson_interval

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

_interval = cache(wilson_interval)  # a curve asks for the same counts again and again
GRID = tuple(round(0.5 + step / 100, 2) for step in range(51))  # 0.50 to 1.00


@dataclass(frozen=True)
class Probe:
    """A question asked while the cache holds every `question`, and nothing else.

    kind: `rewording`, `paraphrase` or `look_alike`; entry: the nearest question's place; right: it asks the same.
    """

    text: str
    kind: str
    difference: str
    entry: int
    similarity: float
    right: bool


@dataclass(frozen=True)
class CacheScores:
    """At one threshold, of `same` questions that are in the cache in other words and `other` ones that are not.

    right_hits: the same ones answered from the right entry; wrong_hits: those answered from another one;
    false_hits: the others that were answered at all.
    """

    threshold: float
    same: int
    other: int
    right_hits: int
    wrong_hits: int
    false_hits: int

    @property
    def hit_rate(self) -> float:
        return self.right_hits / self.same

    @property
    def false_hit_rate(self) -> float:
        return self.false_hits / self.other

    @property
    def hits(self) -> int:
        return self.right_hits + self.wrong_hits + self.false_hits

    @property
    def precision(self) -> float | None:
        """Share of the hits that are right; None without a hit. It depends on how many of each kind are asked."""
        return self.right_hits / self.hits if self.hits else None

    def intervals(self) -> dict[str, Interval | None]:
        """Wilson's 95 % intervals of the three."""
        return {
            "hit_rate": _interval(self.right_hits, self.same),
            "false_hit_rate": _interval(self.false_hits, self.other),
            "precision": _interval(self.right_hits, self.hits) if self.hits else None,
        }

    def metrics(self) -> dict[str, float]:
        """The three with the ends of their intervals; precision only where something was hit."""
        values = {"hit_rate": self.hit_rate, "false_hit_rate": self.false_hit_rate, "precision": self.precision}
        found = {name: value for name, value in values.items() if value is not None}
        for name, interval in self.intervals().items():
            if interval:
                found |= {f"{name}_low": interval[0], f"{name}_high": interval[1]}
        return found


def embed_all(embed: Callable[[Sequence[str]], Any], questions: Sequence[CacheQuestion]) -> dict[str, Any]:
    """Every wording's vector, float32 array (size,) of length 1, by text. embed: texts to as many vectors."""
    import numpy as np

    texts = [text for each in questions for text in each.wordings().values()]
    vectors = np.asarray(embed(texts), dtype=np.float32)
    return dict(zip(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))


def probe(questions: Sequence[CacheQuestion], vectors: "dict[str, np.ndarray]") -> list[Probe]:
    """Look every wording up among the questions. vectors: float array (size,) of length 1 by text."""
    import numpy as np

    entries = np.stack([vectors[each.question] for each in questions])
    found = []
    for place, each in enumerate(questions):
        for kind, text in each.wordings().items():
            if kind == "question":
                continue
            similarities = entries @ vectors[text]
            nearest = int(similarities.argmax())
            right = nearest == place and kind != "look_alike"
            found.append(Probe(text, kind, each.difference, nearest, round(float(similarities[nearest]), 6), right))
    return found


def score(probes: Sequence[Probe], threshold: float) -> CacheScores:
    """Raises ValueError where there is nothing of one kind: a rate of nothing is no rate."""
    same = [each for each in probes if each.kind != "look_alike"]
    other = [each for each in probes if each.kind == "look_alike"]
    if not same or not other:
        raise ValueError("A cache is judged by questions that ask the same and by some that do not.")
    hits = [each for each in same if each.similarity >= threshold]
    right = sum(each.right for each in hits)
    false = sum(each.similarity >= threshold for each in other)
    return CacheScores(threshold, len(same), len(other), right, len(hits) - right, false)


def score_row(each: CacheScores) -> dict[str, Any]:
    """One threshold for a table, each figure with its interval."""
    row: dict[str, Any] = {"threshold": f"{each.threshold:.2f}", "hits": each.hits}
    for name, interval in each.intervals().items():
        value = getattr(each, name)
        shown = f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "no hit"
        row[name.replace("_", " ").replace("false hit", "false-hit")] = shown
    return row


def choose(scores: Sequence[CacheScores], max_false_hit_rate: float) -> CacheScores | None:
    """The highest hit rate among those with few enough false hits; of equal ones the highest threshold.

    None where every threshold lets too many through, or those that do not have no hit at all.
    """
    allowed = [each for each in scores if each.false_hit_rate <= max_false_hit_rate and each.right_hits]
    return max(allowed, key=lambda each: (each.hit_rate, each.threshold), default=None)


def by_difference(probes: Sequence[Probe], threshold: float) -> list[dict[str, Any]]:
    """By what the look-alikes differ, and how many of each kind were answered; most often answered first."""
    kinds: dict[str, list[bool]] = {}
    for each in probes:
        if each.kind == "look_alike":
            kinds.setdefault(each.difference, []).append(each.similarity >= threshold)
    rows = [
        {"differs by": kind, "look-alikes": len(hits), "answered": sum(hits), "share": sum(hits) / len(hits)}
        for kind, hits in kinds.items()
    ]
    return sorted(rows, key=lambda row: (-row["share"], row["differs by"]))


def draw_curve(scores: Sequence[CacheScores], chosen: float | None) -> "Figure":
    """The three by threshold with their intervals as bands, and the chosen threshold as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, label in (
        ("hit_rate", "hit rate: asked in other words, found"),
        ("false_hit_rate", "false-hit rate: look-alikes, answered"),
        ("precision", "precision: share of right hits"),
    ):
        points = [each for each in scores if each.intervals()[name]]
        across = [each.threshold for each in points]
        ends = [each.metrics() for each in points]
        (line,) = axes.plot(across, [each[name] for each in ends], label=label)
        low, high = [each[f"{name}_low"] for each in ends], [each[f"{name}_high"] for each in ends]
        axes.fill_between(across, low, high, alpha=0.15, color=line.get_color())
    if chosen is not None:
        axes.axvline(chosen, color="black", linestyle="--", label=f"chosen: {chosen:.2f}")
    axes.set(xlabel="threshold of the similarity", ylabel="share, with 95 % interval", ylim=(-0.02, 1.02))
    axes.legend(loc="best")
    return figure
