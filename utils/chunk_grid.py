"""A grid of chunk sizes, overlaps and embeddings; what was measured of each way to retrieve, and how it is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from utils.chunking import Chunk
from utils.errors import InputError
from utils.retrieval_scores import Comparison, Scores

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


def cell_row(cell: Cell, result: Result, verdict: Comparison | None) -> dict[str, Any]:
    shown = result.scores.metrics()
    if result.same_as:
        says = f"same chunks as {result.same_as}"
    else:
        says = "best" if verdict is None else "worse" if verdict.is_worse else "may be as good"
    names = ("hit_at_k", "mrr", "ndcg_at_k", "low", "high", "gold_sentence", "passage_tokens", "retrieval_p50_ms")
    return {"cell": cell.name, "chunks": len(result.chunks), **{n: shown[n] for n in names if n in shown}, "": says}


def search_row(search: Result, against: Comparison | None) -> dict[str, Any]:
    shown = search.scores.metrics()
    names = ("hit_at_k", "mrr", "ndcg_at_k", "low", "high", "passage_tokens", "retrieval_p50_ms")
    gain = (
        f"{against.difference.mean:+.3f} ({against.difference.low:+.3f} to {against.difference.high:+.3f})"
        if against
        else ""
    )
    p = f"p {against.p:.3f}" if against else ""
    return {"search": search.name, **{name: shown[name] for name in names}, "difference": gain, "Holm": p}
