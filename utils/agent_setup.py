"""What all agents share: what a request cost, and what its trace says about the tools that were called."""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.errors import JobFailed
from utils.llm_backends import Backend
from utils.model_servers import describe_failed_call
from utils.pricing import Usage, cost_usd
from utils.span_tree import duration_ms, roots

if TYPE_CHECKING:
    from mlflow.entities import LiveSpan, Trace

USAGE, COST, MODEL = "mlflow.chat.tokenUsage", "mlflow.llm.cost", "mlflow.llm.model"
ROOT_TOKENS, ROOT_COST, ROOT_CALLS = "agent.total_tokens", "agent.cost_usd", "agent.model_calls"


@contextmanager
def priced_spans(llm: Backend) -> Iterator[None]:
    """Every span with token counts gets its cost in USD, and every root the sums of its trace.

    MLflow adds the costs of the spans up to `trace.info.cost`. The root's own attributes (agent.total_tokens,
    agent.cost_usd, agent.model_calls) are the same sums where a reader of the trace first looks; they have other names
    than the spans', because MLflow would take a root with usage for the call itself. A model whose price is
    unknown gets tokens and no cost.

    Source: https://mlflow.org/docs/latest/genai/tracing/token-usage-cost/
    """
    import mlflow

    parents: dict[str, dict[str, str | None]] = defaultdict(dict)  # by trace: span → parent
    calls: dict[str, dict[str, tuple[int, float | None]]] = defaultdict(dict)  # by trace: span → tokens, cost

    def price(span: "LiveSpan") -> None:
        parents[span.trace_id][span.span_id] = span.parent_id
        if usage := span.get_attribute(USAGE):
            sent, said = int(usage["input_tokens"]), int(usage["output_tokens"])
            calls[span.trace_id][span.span_id] = sent + said, _price_span(span, llm, sent, said)
        if span.parent_id is None:
            above = parents.pop(span.trace_id)
            made = calls.pop(span.trace_id, {})
            outermost = [made[each] for each in made if not _has_ancestor_in(each, made, above)]
            span.set_attributes({ROOT_CALLS: len(outermost), ROOT_TOKENS: sum(tokens for tokens, _ in outermost)})
            costs = [cost for _, cost in outermost if cost is not None]
            if costs and len(costs) == len(outermost):
                span.set_attribute(ROOT_COST, sum(costs))

    with mlflow.tracing.configure(span_processors=[price]):
        yield


def _price_span(span: "LiveSpan", llm: Backend, sent: int, said: int) -> float | None:
    """Write the cost of one call on its span; None where the price is unknown."""
    model = span.get_attribute(MODEL) or llm.model
    paid_in = cost_usd(Usage(sent, 0), model, llm.llm_type)
    paid_out = cost_usd(Usage(0, said), model, llm.llm_type)
    if paid_in is None or paid_out is None:
        return None
    span.set_attribute(COST, {"input_cost": paid_in, "output_cost": paid_out, "total_cost": paid_in + paid_out})
    return paid_in + paid_out


def _has_ancestor_in(span_id: str, those: Collection[str], parents: Mapping[str, str | None]) -> bool:
    """Two autologs write one call twice, one span inside the other: only the outer one counts."""
    parent = parents.get(span_id)
    while parent is not None:
        if parent in those:
            return True
        parent = parents.get(parent)
    return False


@dataclass(frozen=True)
class ToolCall:
    """One TOOL span. `failed`: the tool raised, or its result says `error: …`."""

    name: str
    arguments: dict[str, Any]
    result: str
    failed: bool
    span_id: str


def tool_calls(trace: "Trace") -> list[ToolCall]:
    """The tools that a trace shows, in the order in which they were called."""
    spans = sorted((span for span in trace.data.spans if span.span_type == "TOOL"), key=lambda span: span.start_time_ns)
    found = []
    for span in spans:
        result = _result_text(span.outputs)
        failed = span.status.status_code == "ERROR" or result.startswith("error:")
        found.append(ToolCall(span.name, _arguments(span.inputs), result, failed, span.span_id))
    return found


def ask_once(ask: Callable[[str], object], question: str) -> str:
    """Serve one request and give back the id of its trace.

    Where the model's server fails on it, the trace says so (state ERROR) and the next request can be served: small
    models break off their own tool calls, and one request is no reason to end a job. Any other exception is raised.
    """
    import mlflow

    try:
        ask(question)
    except Exception as error:
        if not describe_failed_call(error):
            raise
    trace_id = mlflow.get_last_active_trace_id()
    assert trace_id, "the agent's root opens a trace"
    return trace_id


@dataclass(frozen=True)
class Request:
    """What one request took, read from its trace. tools: names in the order of the calls. cost_usd: None if unknown.

    answer: empty where the request failed.
    """

    trace_id: str
    failed: bool
    answer: str
    tools: tuple[str, ...]
    model_calls: int
    tokens: int
    cost_usd: float | None
    latency_ms: float


def read_request(trace: "Trace") -> Request:
    """Read a trace that was made inside priced_spans; a trace with two roots raises ValueError."""
    (root,) = roots(trace)
    return Request(
        trace_id=trace.info.trace_id,
        failed=trace.info.state == "ERROR",
        answer="" if root.outputs is None else str(root.outputs),
        tools=tuple(call.name for call in tool_calls(trace)),
        model_calls=root.get_attribute(ROOT_CALLS),
        tokens=root.get_attribute(ROOT_TOKENS),
        cost_usd=root.get_attribute(ROOT_COST),
        latency_ms=duration_ms(root),
    )


def check_answered(asked: int, failed: int) -> None:
    """No score of answers where there is no answer.

    Raises:
        JobFailed: the model's server failed on every request.
    """
    if failed == asked:
        raise JobFailed(f"the model's server failed on all {asked} requests", JobFailed.CURE)


def sum_requests(requests: Sequence[Request]) -> dict[str, float]:
    """Metrics over at least one request: sums, and the median latency; a cost only when each answered one has it.

    Raises:
        JobFailed: the model's server failed on every request.
    """
    check_answered(len(requests), sum(request.failed for request in requests))
    metrics: dict[str, float] = {
        "requests": len(requests),
        "failed_requests": sum(request.failed for request in requests),
        "model_calls": sum(request.model_calls for request in requests),
        "tool_calls": sum(len(request.tools) for request in requests),
        "tokens": sum(request.tokens for request in requests),
        "p50_ms": statistics.median(request.latency_ms for request in requests),
    }
    costs = [request.cost_usd for request in requests if not request.failed and request.cost_usd is not None]
    known = len(costs) == sum(not request.failed for request in requests)
    return metrics | ({"cost_usd": sum(costs)} if known else {})


def _arguments(inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, str):
        try:
            inputs = json.loads(inputs)
        except ValueError:
            return {"input": inputs}
    return dict(inputs) if isinstance(inputs, dict) else {"input": inputs}


def _result_text(outputs: Any) -> str:
    """What the model read: LangChain's autolog stores the message, whose content may come in parts (MCP)."""
    content = outputs.get("content", outputs) if isinstance(outputs, dict) else outputs
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", part)) if isinstance(part, dict) else str(part) for part in content)
    return "" if content is None else content if isinstance(content, str) else json.dumps(content, default=str)
