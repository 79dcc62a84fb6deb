"""What calls cost: by user, prompt version and model, and a budget that no call goes over.

Tokens are those that the server named. Costs are USD, from a price list (utils/pricing.py); where a model has no price,
a sum that holds it is None, never 0.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.monitor_requests import COST, USAGE, outermost_calls
from utils.pricing import Price, Usage

if TYPE_CHECKING:
    from mlflow.entities import Trace

MODEL = "mlflow.llm.model"
OVERHEAD_TOKENS = 32  # of a chat's frame around its text
DATED = re.compile(r"-\d{4}-\d\d-\d\d$")  # a snapshot of a model that is in the list under its name
NOBODY, NO_PROMPT = "(no user)", "(no prompt version)"


@dataclass(frozen=True)
class Call:
    """One call to a model, from its span. mlflow_usd: the cost that MLflow wrote on it; None where it knows no price.

    prompt: `name/version`, several joined. Input tokens that a server had in its cache count as all others.
    """

    trace_id: str
    user: str
    prompt: str
    model: str
    input_tokens: int
    output_tokens: int
    mlflow_usd: float | None = None

    @property
    def usage(self) -> Usage:
        return Usage(self.input_tokens, self.output_tokens)


@dataclass(frozen=True)
class Sums:
    """Of many calls. cost_usd: None where a call has no price."""

    requests: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None

    def row(self, name: str, value: str) -> dict[str, Any]:
        """For a printed table."""
        per = None if self.cost_usd is None or not self.requests else 1000 * self.cost_usd / self.requests
        return {
            name: value,
            "requests": self.requests,
            "tokens in": self.input_tokens,
            "tokens out": self.output_tokens,
            "USD": "-" if self.cost_usd is None else f"{self.cost_usd:.6f}",
            "USD/1,000 requests": "-" if per is None else f"{per:.4f}",
        }


Costing = Callable[[Call], float | None]


def read_calls(traces: Iterable["Trace"]) -> tuple[list[Call], list[str]]:
    """The calls of these traces, and the ids of traces that asked a model whose server named no tokens."""
    calls, uncounted = [], []
    for trace in traces:
        found = list(outermost_calls(trace))
        asked = [s for s in trace.data.spans if s.span_type == "CHAT_MODEL" and s.status.status_code == "OK"]
        if asked and not found:
            uncounted.append(trace.info.trace_id)
        linked = json.loads(trace.info.tags.get("mlflow.linkedPrompts") or "[]")
        prompt = ", ".join(f"{each['name']}/{each['version']}" for each in linked) or NO_PROMPT
        user = trace.info.trace_metadata.get("mlflow.trace.user") or NOBODY
        for span in found:
            usage, cost = span.get_attribute(USAGE), span.get_attribute(COST)
            counts = int(usage["input_tokens"]), int(usage["output_tokens"])
            usd = float(cost["total_cost"]) if cost else None
            calls.append(Call(trace.info.trace_id, user, prompt, span.get_attribute(MODEL) or "?", *counts, usd))
    return calls, uncounted


def by_price_list(prices: Mapping[str, Price]) -> Costing:
    return lambda call: usd_of(call.usage, prices[call.model]) if call.model in prices else None


def usd_of(usage: Usage, price: Price) -> float:
    return (usage.prompt_tokens * price.input_usd + usage.completion_tokens * price.output_usd) / 1e6


def sums_of(calls: Sequence[Call], costing: Costing) -> Sums:
    costs = [costing(call) for call in calls]
    known = [cost for cost in costs if cost is not None]
    return Sums(
        requests=len({call.trace_id for call in calls}),
        calls=len(calls),
        input_tokens=sum(call.input_tokens for call in calls),
        output_tokens=sum(call.output_tokens for call in calls),
        cost_usd=sum(known) if len(known) == len(calls) else None,
    )


def sums_by(calls: Sequence[Call], field: str, costing: Costing) -> dict[str, Sums]:
    """Sums for each value of `user`, `prompt`, `model` or `trace_id`, the dearest first and unknown costs last."""
    groups: dict[str, list[Call]] = {}
    for call in calls:
        groups.setdefault(getattr(call, field), []).append(call)
    sums = {value: sums_of(group, costing) for value, group in groups.items()}
    return dict(sorted(sums.items(), key=lambda item: (item[1].cost_usd is None, -(item[1].cost_usd or 0), item[0])))


def call_table(calls: Sequence[Call], costing: Costing) -> dict[str, list[Any]]:
    """Columns for mlflow.log_table, a row for each call."""
    rows = [
        {"trace": call.trace_id, "user": call.user, "prompt": call.prompt, "model": call.model,
         "tokens_in": call.input_tokens, "tokens_out": call.output_tokens, "usd": costing(call)}
        for call in calls
    ]  # fmt: skip
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def other_models(calls: Sequence[Call], prices: Iterable[Price]) -> dict[str, float]:
    """What as many tokens cost with each model, the cheapest first. Another model would split the same text into other
    tokens and write answers of another length: an estimate, and the tokens are what it is made of."""
    total = sums_of(calls, lambda _: 0.0)
    usage = Usage(total.input_tokens, total.output_tokens)
    chats = [price for price in prices if price.output_usd > 0 and not DATED.search(price.model)]
    return dict(sorted(((price.model, usd_of(usage, price)) for price in chats), key=lambda item: item[1]))


class BudgetUsedUp(UserError):
    """The next call could go over the budget, so it is not made."""

    exit_status = 1


class Reservation:
    """The most that a call may cost, set aside until its real cost is known."""

    def __init__(self, budget: "Budget", worst_usd: float) -> None:
        self._budget, self.worst_usd = budget, worst_usd

    def settle(self, cost_usd: float) -> None:
        """The call came to this. One that is never settled stays at its worst: an answer that was lost on the way may
        have been billed."""
        self._budget._settle(self, cost_usd)


class Budget:
    """USD for many calls, from any thread. The sum of what was spent and what may still be never exceeds the limit."""

    def __init__(self, limit_usd: float, alert_share: float = 0.8, alarm: Callable[[float], None] = lambda _: None):
        """
        Args:
            alarm: is called once, with the USD spent, when that reaches `alert_share` of the limit.
        """
        self.limit_usd, self.alert_share, self._alarm = limit_usd, alert_share, alarm
        self.spent_usd = 0.0
        self.alerted = False
        self._reserved_usd = 0.0
        self._lock = threading.Lock()

    def reserve(self, worst_usd: float) -> Reservation:
        """Set the most aside that a call may cost.

        Raises:
            BudgetUsedUp: it does not fit any more.
        """
        with self._lock:
            if self.spent_usd + self._reserved_usd + worst_usd > self.limit_usd:
                left = self.limit_usd - self.spent_usd - self._reserved_usd
                raise BudgetUsedUp(
                    f"a call may cost {worst_usd:.6f} USD and {max(left, 0):.6f} of {self.limit_usd:.6f} are left",
                    "a larger --budget-usd, a shorter prompt, or a cheaper model",
                )
            self._reserved_usd += worst_usd
        return Reservation(self, worst_usd)

    def _settle(self, reservation: Reservation, cost_usd: float) -> None:
        with self._lock:
            self._reserved_usd -= reservation.worst_usd
            self.spent_usd += cost_usd
            now = not self.alerted and self.limit_usd > 0 and self.spent_usd >= self.alert_share * self.limit_usd
            self.alerted = self.alerted or now
        if now:
            self._alarm(self.spent_usd)


def worst_usd(text: str, max_tokens: int, price: Price) -> float:
    """The most a call with this text may cost: no tokenizer in use makes more tokens than the text has bytes."""
    return usd_of(Usage(len(text.encode()) + OVERHEAD_TOKENS, max_tokens), price)
