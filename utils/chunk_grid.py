"""A grid of chunk sizes, overlaps and embeddings; what was measured of each way to retrieve, and how it is shown."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from utils.chunking import Chunk
from utils.errors import InputError
from utils.heat_map import draw_heat_map
from utils.retrieval_scores import Comparison, Scores, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Retrieve = Callable[[str], list[Chunk]]


@dataclass(frozen=True)
class Cell:
    """Sizes in tokens."""

    embed_type: str
    chunk_tokens: int
    overlap_tokens: int

    @property
    def name(self) -> str:
        return f"{self.embed_type} {self.chunk_tokens}/{self.overlap_tokens}"

    def params(self, search: str, top_k: int, chunks: int, same_as: str = "") -> dict[str, Any]:
        """What the run of a way to retrieve is found by."""
        return {**asdict(self), "search": search, "top_k": top_k, "chunks": chunks, "same_as": same_as}


@dataclass(frozen=True)
class Result:
    """One way to retrieve, measured. same_as: the cell before it that has the very same chunks."""

    name: str
    scores: Scores
    run_id: str
    retrieve: Retrieve
    chunks: list[Chunk]
    same_as: str | None = None


def make_grid(embed_types: tuple[str, ...], sizes: tuple[int, ...], overlaps: tuple[int, ...]) -> list[Cell]:
    if wrong := [(size, overlap) for size in sizes for overlap in overlaps if overlap >= size]:
        size, overlap = wrong[0]
        raise InputError(
            f"a chunk of {size} tokens cannot overlap the next by {overlap}", f"--chunk-overlap {size // 10}"
        )
    return list(dict.fromkeys(Cell(*each) for each in product(embed_types, sorted(sizes), sorted(overlaps))))


def heat_map_of(cells: Mapping[Cell, Result], embed_type: str) -> "Figure":
    """Sizes down, overlaps across: nDCG@k with its interval."""
    own = {cell: result.scores for cell, result in cells.items() if cell.embed_type == embed_type}
    values = {(c.chunk_tokens, c.overlap_tokens): (mean(scores.gains), scores.interval) for c, scores in own.items()}
    title = f"Which chunks are found, with {embed_type} embeddings"
    return draw_heat_map(values, title, "chunk (tokens)", "overlap (tokens)", "nDCG@k")


SHOWN = {
    "hit_at_k": "hit@k", "mrr": "mrr", "ndcg_at_k": "ndcg@k", "low": "low", "high": "high", "gold_sentence": "sentence",
    "passage_tokens": "tokens", "retrieval_p50_ms": "ms",
}  # fmt: skip


def cell_row(cell: Cell, result: Result, verdict: Comparison | None) -> dict[str, Any]:
    """A cell for the terminal. Without a verdict it is the best, unless its chunks are those of another cell.

    low and high are the interval of ndcg@k; sentence: the share of questions whose gold sentence stands whole in a
    passage; tokens and ms: of the passages of a question, and of finding them.
    """
    says = "best" if verdict is None else "worse" if verdict.is_worse else "may be as good"
    if result.same_as:
        says = f"same as {result.same_as}"
    return {"cell": cell.name, "chunks": len(result.chunks), **_shown(result), "verdict": says}


def search_row(search: Result, against: Comparison | None) -> dict[str, Any]:
    """A search for the terminal, with its difference from the first one and Holm's p."""
    gain = against.difference if against else None
    difference = f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})" if gain else ""
    return {
        "search": search.name,
        **_shown(search),
        "difference": difference,
        "p": f"{against.p:.3f}" if against else "",
    }


def _shown(result: Result) -> dict[str, float]:
    metrics = result.scores.metrics()
    return {title: metrics[name] for name, title in SHOWN.items() if name in metrics}
