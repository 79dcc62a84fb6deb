"""A trace's spans as an indented tree of text, read from what the store gave back."""

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Span, Trace


def roots(trace: "Trace") -> list["Span"]:
    """Spans without a parent in this trace, in the order in which they began; a whole trace has exactly one."""
    known = {span.span_id for span in trace.data.spans}
    return sorted((s for s in trace.data.spans if s.parent_id not in known), key=lambda span: span.start_time_ns)


def tree_lines(trace: "Trace") -> list[str]:
    """One line for each span, children indented below their parent: `CHAT_MODEL  answer  12 ms  ERROR`."""
    children = defaultdict(list)
    for span in sorted(trace.data.spans, key=lambda span: span.start_time_ns):
        children[span.parent_id].append(span)

    def lines(span: "Span", depth: int) -> list[str]:
        own = "  " * depth + f"{span.span_type or 'UNKNOWN'}  {span.name}  {duration_ms(span):,.0f} ms"
        failed = "  ERROR" if span.status.status_code == "ERROR" else ""
        return [own + failed, *(line for child in children[span.span_id] for line in lines(child, depth + 1))]

    return [line for root in roots(trace) for line in lines(root, 0)]


def duration_ms(span: "Span") -> float:
    """Milliseconds from start to end."""
    return ((span.end_time_ns or span.start_time_ns) - span.start_time_ns) / 1e6
