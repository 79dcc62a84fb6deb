"""Requests as their traces tell them, and the figures of many. Pure functions over what the store gave back."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from utils.evaluation import latency_percentiles
from utils.span_tree import duration_ms, roots

if TYPE_CHECKING:
    from mlflow.entities import Span, Trace

USAGE, COST = "mlflow.chat.tokenUsage", "mlflow.llm.cost"
CHUNK, CHUNK_VALUE = "mlflow.chunk.item.", "mlflow.chunk.value"  # the event that each piece of a stream leaves
SHOWN = 300  # characters of a text


@dataclass(frozen=True)
class Served:
    """One request.

    begun_ms: since 1970. latency_ms: of the root span. first_ms: from its start to the first text of a stream; None
    where nothing was streamed. Tokens are None where no call named them, cost_usd where a call has no known price.
    good: whether every scorer said yes; None where one has not spoken.
    """

    trace_id: str
    begun_ms: float
    latency_ms: float
    failed: bool
    first_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    good: bool | None = None
    question: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Figures:
    """Of many requests. Latencies, cost and quality are of the answered ones; None where nothing was.

    Percentiles in milliseconds; cost_usd: of the `priced` requests together; good: of the `scored` ones.
    """

    requests: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    first_p50_ms: float | None
    first_p95_ms: float | None
    input_tokens: int
    output_tokens: int
    priced: int
    cost_usd: float
    scored: int
    good: int

    @property
    def error_rate(self) -> float | None:
        return self.failed / self.requests if self.requests else None

    @property
    def cost_per_request(self) -> float | None:
        return self.cost_usd / self.priced if self.priced else None

    @property
    def quality(self) -> float | None:
        return self.good / self.scored if self.scored else None

    def metrics(self) -> dict[str, float]:
        """What is known of it, by name, for mlflow.log_metrics."""
        rates = {
            "error_rate": self.error_rate,
            "usd_per_request": self.cost_per_request,
            "quality": self.quality,
        }
        return {name: float(value) for name, value in {**asdict(self), **rates}.items() if value is not None}


def figures_of(served: Sequence[Served]) -> Figures:
    answered = [each for each in served if not each.failed]
    whole = percentiles(each.latency_ms for each in answered)
    first = percentiles(each.first_ms for each in answered)
    costs = [each.cost_usd for each in answered if each.cost_usd is not None]
    verdicts = [each.good for each in answered if each.good is not None]
    return Figures(
        requests=len(served),
        failed=len(served) - len(answered),
        p50_ms=whole.get("p50"),
        p95_ms=whole.get("p95"),
        p99_ms=whole.get("p99"),
        first_p50_ms=first.get("p50"),
        first_p95_ms=first.get("p95"),
        input_tokens=sum(each.input_tokens or 0 for each in served),
        output_tokens=sum(each.output_tokens or 0 for each in served),
        priced=len(costs),
        cost_usd=sum(costs),
        scored=len(verdicts),
        good=sum(verdicts),
    )


def in_sample(trace_id: str, share: float) -> bool:
    """Always the same for a trace, so that a look that comes back to it decides as the first one did."""
    return int.from_bytes(hashlib.sha256(trace_id.encode()).digest()[:8]) < share * 2**64


def percentiles(values: Iterable[float | None]) -> dict[str, float]:
    known = [value for value in values if value is not None]
    return latency_percentiles(known) if known else {}


def read_served(traces: Iterable["Trace"], scorers: Collection[str] = ()) -> list[Served]:
    """Requests in the order in which they began; a trace that has not ended is none yet."""
    found = [_read(trace, scorers) for trace in traces if trace.info.state in ("OK", "ERROR")]
    return sorted(found, key=lambda each: (each.begun_ms, each.trace_id))


def _read(trace: "Trace", scorers: Collection[str]) -> Served:
    root = roots(trace)[0]
    calls = list(outermost_calls(trace))
    usages = [span.get_attribute(USAGE) for span in calls]
    costs = [cost["total_cost"] for span in calls if (cost := span.get_attribute(COST))]
    starts = [ns for span in trace.data.spans if (ns := first_text_ns(span)) is not None]
    return Served(
        trace_id=trace.info.trace_id,
        begun_ms=root.start_time_ns / 1e6,
        latency_ms=duration_ms(root),
        failed=trace.info.state == "ERROR",
        first_ms=(min(starts) - root.start_time_ns) / 1e6 if starts else None,
        input_tokens=sum(int(usage["input_tokens"]) for usage in usages) if usages else None,
        output_tokens=sum(int(usage["output_tokens"]) for usage in usages) if usages else None,
        cost_usd=sum(costs) if costs and len(costs) == len(calls) else None,
        good=verdict(trace, scorers),
        question=readable(root.inputs),
        answer=root.status.description if trace.info.state == "ERROR" else readable(root.outputs),
    )


def outermost_calls(trace: "Trace") -> Iterator["Span"]:
    """Spans with token counts that lie in no other such span: two autologs write one call twice."""
    spans = {span.span_id: span for span in trace.data.spans}

    def inside(span: "Span") -> bool:
        above = spans.get(span.parent_id or "")
        return above is not None and (bool(above.get_attribute(USAGE)) or inside(above))

    return (span for span in trace.data.spans if span.get_attribute(USAGE) and not inside(span))


def first_text_ns(span: "Span") -> int | None:
    """When the first piece of a stream came that holds text; a server's first piece often only names the role."""
    pieces = sorted((event for event in span.events if event.name.startswith(CHUNK)), key=lambda event: event.timestamp)
    return next((event.timestamp for event in pieces if _has_text(event.attributes.get(CHUNK_VALUE))), None)


def _has_text(value: Any) -> bool:
    try:
        piece = json.loads(value)
    except (TypeError, ValueError):
        return bool(value)
    if not isinstance(piece, dict) or "choices" not in piece:
        return bool(piece)
    return any((choice.get("delta") or {}).get("content") for choice in piece["choices"] or ())


def verdict(trace: "Trace", scorers: Collection[str]) -> bool | None:
    """No where one scorer says no, yes where all say yes, None otherwise: half a judgement is none."""
    newest = {item.name: item.value for item in trace.info.assessments if item.name in scorers}
    if any(value is False for value in newest.values()):
        return False
    return True if newest and set(newest) == set(scorers) and all(v is True for v in newest.values()) else None


def readable(value: Any) -> str:
    """The text of what went in or came out, cut short: plain, or inside the shapes that agents use."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, dict) and len(value) == 1:
        return readable(next(iter(value.values())))
    else:
        text = " ".join(_texts(value)) or json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} …"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name in ("text", "content", "output", "input", "message", "request"):
            inner = value.get(name)
            if isinstance(inner, str):
                yield inner
            else:
                yield from _texts(inner)
