"""7.7 Tokens and cost by user, prompt version and model, and a budget that stops the calls.

New here: MLflow prices a call from its tokens and a catalog of prices, and the catalog may be yours.
Run it:   uv run mlflow-track-costs
          uv run mlflow-track-costs --requests 60 --budget-usd 0.001
          uv run mlflow-track-costs --llm-type openai --model my-model --usd-per-million 0.10 0.40
          uv run mlflow-track-costs --report 7-production --budget-usd 5
Look at:  uv run mlflow ui  ->  7-production  ->  Traces: paid-request, its tokens, its cost and its user
Change:   give LONG a fourth example; what does a request cost now, and does the budget reach as far?
Docs:     https://mlflow.org/docs/latest/genai/tracing/token-usage-cost/
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
import mlflow
from mlflow.entities import LiveSpan, SpanType, Trace
from mlflow.exceptions import MlflowException
from mlflow.tracing.constant import SpanAttributeKey

from utils.cli import Steps, lesson, show, show_table, track
from utils.errors import CheckFailed, InputError
from utils.llm_backends import Backend, open_backend
from utils.model_servers import BadReply, describe_failed_call
from utils.options import BackendOptions
from utils.price_catalog import price_catalog, price_list
from utils.pricing import PRICES, Price, Usage
from utils.prompt_utils import get_or_register
from utils.reviews import load_reviews
from utils.spending import (
    Budget,
    BudgetUsedUp,
    Call,
    Costing,
    Reservation,
    by_price_list,
    call_table,
    other_models,
    read_calls,
    sums_by,
    sums_of,
    usd_of,
    worst_usd,
)
from utils.trace_queue import wait_for_prompt_links

PROMPT = "paid-label"
LONG = (
    "You label customers' reviews for a shop. Read the whole review before you decide.\n"
    "Example: The lamp is bright and the delivery was quick. positive\n"
    "Example: It broke after a day and nobody answers. negative\n"
    "Example: It is a lamp. neutral\n\n"
    "Answer with one word: positive, negative or neutral.\n\n{{text}}"
)
SHORT = "Answer with one word: positive, negative or neutral.\n\n{{text}}"
USERS = ("ada", "ada", "ada", "bob", "bob", "cid")  # who asks how often
STRIDE = 7  # through users, models and versions: prime to their product, so that all come, and soon
MAX_TOKENS = 8  # of an answer: without a bound on it no budget can be kept
SAME_USD = 1e-12  # two sums of the same products in another order
BUDGET_SHARE = 0.6  # of what the traffic costs: the default budget, so that it is used up before the end
MOST_TRACES = 20_000


@dataclass
class Desk:
    """What asks the model. `usages`: what the server named, one for each answer, noted apart from every trace."""

    llm: Backend
    prices: dict[str, Price]
    usages: list[Usage] = field(default_factory=list)
    failed: int = 0
    refused: int = 0

    def ask(self, user: str, model: str, prompt_uri: str, text: str, part: str, budget: Budget) -> None:
        with mlflow.start_span("paid-request", span_type=SpanType.CHAIN) as root:
            root.set_inputs({"text": text})
            mlflow.update_current_trace(user=user, tags={"part": part})
            content = str(mlflow.genai.load_prompt(prompt_uri).format(text=text))  # links the trace to the version
            try:
                reserved = budget.reserve(worst_usd(content, MAX_TOKENS, self.prices[model]))
            except BudgetUsedUp as error:
                self.refused += 1
                mlflow.update_current_trace(tags={"budget": "refused"})
                root.set_outputs(f"refused: {error.problem}")
                return
            said, used = self.call(model, content, reserved)
            self.usages.append(used)
            reserved.settle(usd_of(used, self.prices[model]))
            root.set_outputs(said)

    def call(self, model: str, content: str, reserved: Reservation) -> tuple[str | None, Usage]:
        """The answer, and the tokens that its server counted."""
        from openai import APIStatusError

        try:
            reply = self.llm.openai_client(max_retries=0).chat.completions.create(
                model=model, messages=[{"role": "user", "content": content}], temperature=0, max_tokens=MAX_TOKENS
            )
        except APIStatusError:
            reserved.settle(0.0)  # the server says that there is no answer, so there is no bill
            raise
        except json.JSONDecodeError as error:  # an answer that cannot be read may be billed: its worst stays spent
            raise BadReply("its answer is no JSON") from error
        if reply.usage is None:
            raise InputError(f"{self.llm.settings.base_url} names no tokens", "a server that sends `usage`")
        return reply.choices[0].message.content, Usage(reply.usage.prompt_tokens, reply.usage.completion_tokens)


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    measured: dict[str, Any]


@contextmanager
def priced_by_mlflow(prices: dict[str, Price]) -> Iterator[None]:
    """MLflow computes a call's cost when it stores the span: from its tokens, its model and its provider's prices."""
    with price_catalog(list(prices.values())) as provider:

        def name_provider(span: LiveSpan) -> None:
            if span.get_attribute(SpanAttributeKey.CHAT_USAGE):
                span.set_attribute(SpanAttributeKey.MODEL_PROVIDER, provider)

        with mlflow.tracing.configure(span_processors=[name_provider]):
            yield
            mlflow.flush_trace_async_logging()  # what is stored later would be priced without the catalog


def serve(desk: Desk, requests: int, uris: Sequence[str], part: str, budget: Budget) -> list[Trace]:
    """The same traffic each time, told apart by `part`; its traces, once they are stored."""
    texts, mixed = load_reviews()["text"].tolist(), list(itertools.product(USERS, desk.prices, uris))
    for number in track(range(requests), part):
        user, model, uri = mixed[number * STRIDE % len(mixed)]
        try:
            desk.ask(user, model, uri, texts[number % len(texts)], part, budget)
        except Exception as error:
            if not describe_failed_call(error):
                raise
            desk.failed += 1
    mlflow.flush_trace_async_logging()
    wait_for_prompt_links()
    active = mlflow.active_run()
    return mlflow.search_traces(
        run_id=active.info.run_id, filter_string=f"tags.part = '{part}'", max_results=MOST_TRACES, return_type="list"
    )


def show_by(calls: list[Call], costing: Costing) -> None:
    """A table for each question that a bill raises, and all requests as a table in the run."""
    for name in ("user", "prompt", "model"):
        show_table([sums.row(name, value) for value, sums in sums_by(calls, name, costing).items()])
    mlflow.log_table(call_table(calls, costing), "calls.json")


def reconcile(calls: list[Call], served: Usage, prices: dict[str, Price]) -> int:
    """How many calls MLflow priced too, each to the same cost.

    Raises:
        CheckFailed: the traces do not hold the tokens that the server counted, or MLflow's cost of a call is another.
    """
    total = sums_of(calls, by_price_list(prices))
    if (total.input_tokens, total.output_tokens) != (served.prompt_tokens, served.completion_tokens):
        raise CheckFailed(
            f"the traces hold {total.input_tokens} + {total.output_tokens} tokens, the server counted "
            f"{served.prompt_tokens} + {served.completion_tokens}",
            "look for calls without a trace, or traced twice",
        )
    both = [call for call in calls if call.mlflow_usd is not None]
    gaps = {call.trace_id: abs((call.mlflow_usd or 0) - (by_price_list(prices)(call) or 0)) for call in both}
    worst = max(gaps, key=lambda trace_id: gaps[trace_id], default=None)
    if worst and gaps[worst] > SAME_USD:
        raise CheckFailed(f"MLflow's cost differs by {gaps[worst]:.2e} USD", f"mlflow.get_trace({worst!r}).info.cost")
    return len(both)


def counted(desk: Desk) -> Usage:
    """What the server counted: the mock's own books; of another server, what it named in its answers."""
    if desk.llm.server is not None:
        return Usage(desk.llm.server.counts.prompt_tokens, desk.llm.server.counts.completion_tokens)
    return Usage(sum(u.prompt_tokens for u in desk.usages), sum(u.completion_tokens for u in desk.usages))


def spend(desk: Desk, requests: int, uris: Sequence[str], limit_usd: float, alert_at: float) -> Budget:
    """The same traffic again, now with a budget.

    Raises:
        CheckFailed: more was spent than the budget, or a refused request reached the server.
    """
    alarms: list[float] = []
    budget, before, answers = Budget(limit_usd, alert_at, alarms.append), counted(desk), len(desk.usages)
    calls, _ = read_calls(serve(desk, requests, uris, "budget", budget))
    after, spent = counted(desk), sums_of(calls, by_price_list(desk.prices))
    used = after.prompt_tokens - before.prompt_tokens + after.completion_tokens - before.completion_tokens
    if used != spent.input_tokens + spent.output_tokens or (spent.cost_usd or 0) > limit_usd + SAME_USD:
        raise CheckFailed(f"{spent.cost_usd} of {limit_usd} USD were spent, {used} tokens served", "report this")
    if alarms:
        click.echo(f"      alert: {alarms[0]:.6f} USD are {alarms[0] / limit_usd:.0%} of the budget")
    click.echo(f"      {len(desk.usages) - answers} requests answered, {desk.refused} refused without a call")
    return budget


def run(llm: Backend, requests: int, prices: dict[str, Price], limit_usd: float | None, alert_at: float) -> Outcome:
    steps, desk = Steps(4), Desk(llm, prices)
    mlflow.openai.autolog()
    uris = [f"prompts:/{PROMPT}/{get_or_register(PROMPT, template).version}" for template in (LONG, SHORT)]
    with mlflow.start_run(run_name="track-costs") as active, priced_by_mlflow(prices):
        # 1. Traffic of three users, two prompt versions, and every model that has a price here
        traces = serve(desk, requests, uris, "bill", Budget(float("inf")))
        calls, _ = read_calls(traces)
        if not calls:
            raise CheckFailed("not one request was answered", "uv run mlflow-learn doctor")
        steps(f"{len(calls)} of {requests} requests answered; prices: {prices[llm.model].source}")
        show_by(calls, by_price_list(prices))

        # 2. Three books, one sum
        both = reconcile(calls, counted(desk), prices)
        total = sums_of(calls, by_price_list(prices))
        cost = total.cost_usd or 0.0
        steps(f"{total.input_tokens} + {total.output_tokens} tokens in the traces and in the server's count; "
              f"MLflow priced {both} of {len(calls)} calls, to the same cost")  # fmt: skip

        # 3. The same tokens at other prices
        others = other_models(calls, PRICES.values())
        steps("As many tokens with another model (it would count and answer in its own way):")
        show_table([{"model": name, "USD": f"{usd:.6f}", "times": f"{usd / cost:.1f}" if cost else "-"}
                    for name, usd in others.items()])  # fmt: skip

        # 4. A budget
        limit = BUDGET_SHARE * cost if limit_usd is None else limit_usd
        steps(f"The same requests with a budget of {limit:.6f} USD")
        budget = spend(desk, requests, uris, limit, alert_at)
        metrics = {"calls": len(calls), "tokens": total.input_tokens + total.output_tokens, "cost_usd": cost,
                   "mlflow_priced": both, "budget_usd": limit, "spent_usd": budget.spent_usd,
                   "refused": desk.refused, "failed": desk.failed, "budget_alert": float(budget.alerted)}  # fmt: skip
        mlflow.log_metrics(metrics)
    shown = {name: f"{value:.6f}" if name.endswith("usd") else int(value) for name, value in metrics.items()}
    return Outcome(active.info.run_id, calls[0].trace_id, shown)


def report(experiment_name: str, further: str, limit_usd: float | None, alert_at: float) -> Outcome:
    """The bill of traces that are there, at MLflow's own costs.

    Raises:
        CheckFailed: the budget is used up to the share at which somebody wants to know.
    """
    if (experiment := mlflow.get_experiment_by_name(experiment_name)) is None:
        raise InputError(f"there is no experiment {experiment_name}", "uv run mlflow-learn")
    try:
        traces = mlflow.search_traces(
            locations=[experiment.experiment_id], filter_string=further, max_results=MOST_TRACES, return_type="list"
        )
    except MlflowException as error:
        raise InputError(f"MLflow cannot search for {further}: {error}", "--filter \"tags.lesson = '7.3'\"") from error
    calls, uncounted = read_calls(traces)
    if not calls:
        raise InputError(f"no trace of {experiment_name} names tokens", "uv run mlflow-track-costs")
    priced = [call for call in calls if call.mlflow_usd is not None]
    spent = sum(call.mlflow_usd or 0 for call in priced)
    with mlflow.start_run(run_name="cost-report") as active:
        show_by(calls, lambda call: call.mlflow_usd)
        click.echo(f"{len(priced)} of {len(calls)} calls have a price; {len(uncounted)} traces name no tokens")
        mlflow.log_metrics({"calls": len(calls), "priced": len(priced), "spent_usd": spent})
    if limit_usd is not None and spent >= alert_at * limit_usd:
        dearest = [t for t, s in sums_by(priced, "trace_id", lambda call: call.mlflow_usd).items()][:3]
        raise CheckFailed(
            f"{spent:.6f} of {limit_usd:.6f} USD are spent, dearest: {', '.join(dearest)}",
            f"calls.json of the run {active.info.run_id}",
        )
    return Outcome(active.info.run_id, calls[0].trace_id, {"calls": len(calls), "spent_usd": f"{spent:.6f}"})


@lesson("7.7", llm="mock")
@click.option("--requests", type=click.IntRange(2), default=60, show_default=True, help="Of the traffic made here.")
@click.option("--budget-usd", type=click.FloatRange(0), help="Default: 60 % of what the traffic cost without one.")
@click.option("--alert-at", type=click.FloatRange(0, 1, min_open=True), default=0.8, show_default=True,
              help="Share of the budget at which somebody is told.")  # fmt: skip
@click.option("--usd-per-million", type=(click.FloatRange(0), click.FloatRange(0)), metavar="IN OUT",
              help="Your price of the model, for a million input and output tokens.")  # fmt: skip
@click.option("--report", "experiment", metavar="EXPERIMENT", help="The bill of these traces; exit 1 near the budget.")
@click.option("--filter", "further", default="", metavar="FILTER", help="Only these of its traces (MLflow's search).")
def main(
    requests: int, budget_usd: float | None, alert_at: float, usd_per_million: tuple[float, float] | None,
    experiment: str | None, further: str, backend: BackendOptions,
) -> None:  # fmt: skip
    if experiment:
        outcome = report(experiment, further, budget_usd, alert_at)
    else:
        with open_backend(backend) as llm:
            outcome = run(llm, requests, price_list(llm.llm_type, llm.model, usd_per_million), budget_usd, alert_at)
    show("7.7", outcome.measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
