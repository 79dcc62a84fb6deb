"""What the hits of a cache did not cost, and how many of them were wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from utils.cache_questions import Request
from utils.evaluation import is_declined
from utils.pricing import Usage, cost_usd
from utils.semantic_cache import Entry

MODEL, IDENTICAL, SIMILAR = "model", "identical", "similar"


@dataclass(frozen=True)
class Reply:
    """An answered request.

    source: MODEL, or how the entry was found, IDENTICAL or SIMILAR. entry: what was answered, with the tokens and the
    time of the call that made it. right: whether an entry of the cache asks the same; None for the model.
    """

    request: Request
    source: str
    entry: Entry
    similarity: float
    right: bool | None
    lookup_ms: float
    trace_id: str


def count_replies(replies: Sequence[Reply], model: str, llm_type: str) -> dict[str, float]:
    """Where the answers came from; tokens, USD and seconds that were spent and saved, each hit counted as the call
    that made its entry. `hits_similar_first` and `saved_by_similar`: what a cache of identical texts would not have
    saved, which does not miss a text that is asked a second time.

    What is not known is left out: tokens where the server named none, USD where the model's price is not known.
    """
    by_source = {source: [r for r in replies if r.source == source] for source in (MODEL, IDENTICAL, SIMILAR)}
    hits = [*by_source[IDENTICAL], *by_source[SIMILAR]]
    first = _first_asked(replies)
    lookups_ms = sum(reply.lookup_ms for reply in replies)
    found: dict[str, float] = {
        "requests": len(replies),
        "answered_by_model": len(by_source[MODEL]),
        "declined_not_kept": sum(is_declined(reply.entry.answer) for reply in by_source[MODEL]),
        "hits_identical": len(by_source[IDENTICAL]),
        "hits_similar": len(by_source[SIMILAR]),
        "hits_similar_first": len(first),
        "hits_similar_wrong": sum(not reply.right for reply in by_source[SIMILAR]),
        "lookup_ms_mean": lookups_ms / len(replies),
        "model_seconds": sum(reply.entry.latency_ms for reply in by_source[MODEL]) / 1000,
        "saved_seconds": (sum(reply.entry.latency_ms for reply in hits) - lookups_ms) / 1000,
    }
    for name, some in (("spent", by_source[MODEL]), ("saved", hits), ("saved_by_similar", first)):
        found |= _bill(name, [reply.entry for reply in some], model, llm_type)
    if total := found.get("spent_tokens", 0) + found.get("saved_tokens", 0):
        known = {"spent_tokens", "saved_tokens", "saved_by_similar_tokens"} <= set(found)
        shares = {f"share_{n}": found[f"{n}_tokens"] / total for n in ("saved", "saved_by_similar")} if known else {}
        found |= shares
    if "saved_usd" in found:
        found["saved_usd_per_1000_requests"] = found["saved_usd"] / len(replies) * 1000
    return found


def _first_asked(replies: Sequence[Reply]) -> list[Reply]:
    """The similar hits on texts that nobody had asked before, unless the model declined them (that is not kept)."""
    seen: set[str] = set()
    found = []
    for reply in replies:
        if reply.source == SIMILAR and reply.request.text not in seen:
            found.append(reply)
        if reply.source != MODEL or not is_declined(reply.entry.answer):
            seen.add(reply.request.text)
    return found


def _bill(name: str, entries: Sequence[Entry], model: str, llm_type: str) -> dict[str, float]:
    if any(entry.prompt_tokens is None or entry.completion_tokens is None for entry in entries):
        return {}
    usage = Usage(sum(e.prompt_tokens or 0 for e in entries), sum(e.completion_tokens or 0 for e in entries))
    found: dict[str, float] = {f"{name}_tokens": usage.prompt_tokens + usage.completion_tokens}
    cost = cost_usd(usage, model, llm_type)
    return found if cost is None else {**found, f"{name}_usd": cost}
