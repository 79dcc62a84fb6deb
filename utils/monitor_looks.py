"""One comparison of the newest requests with those before, and how it is told."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from utils.monitor_alerts import Alert, Limits, decide
from utils.monitor_requests import Figures, Served, figures_of

NAMED = 2  # traces of an alert that are printed; its table holds all


@dataclass(frozen=True)
class Look:
    """name: what was looked at. Times in ms since 1970. No alert: a quiet one."""

    name: str
    begun_ms: float
    ended_ms: float
    figures: Figures
    alerts: Sequence[Alert]

    @property
    def kinds(self) -> list[str]:
        """Of its alerts, each once."""
        return list(dict.fromkeys(alert.kind for alert in self.alerts))

    def row(self) -> dict[str, Any]:
        """For a printed table."""
        figures = self.figures
        cost = None if figures.cost_per_request is None else 1000 * figures.cost_per_request
        latencies = (figures.p50_ms, figures.p95_ms, figures.p99_ms)
        return {
            "look": self.name,
            "requests": figures.requests,
            "p50/p95/p99 ms": "/".join(_said(value, "{:,.0f}") for value in latencies),
            "first ms": _said(figures.first_p50_ms, "{:,.0f}"),
            "failed": _said(figures.error_rate, "{:.0%}"),
            "tokens": figures.input_tokens + figures.output_tokens,
            "USD/1,000": _said(cost, "{:.4f}"),
            "good": f"{figures.good} of {figures.scored}",
            "alerts": ", ".join(self.kinds) or "none",
        }

    def lines(self) -> Iterator[str]:
        """Two lines for each alert: what it says, and its worst traces."""
        for alert in self.alerts:
            more = f", and {len(alert.trace_ids) - NAMED} more" if len(alert.trace_ids) > NAMED else ""
            yield f"{self.name}: {alert.kind} ({alert.rule}): {alert.said}, p = {alert.p:.1e}"
            yield f"  {', '.join(alert.trace_ids[:NAMED])}{more}"


@dataclass(frozen=True)
class Watched:
    """Which traces are looked at, and how. further: a filter of MLflow's search; share: of the traces, is scored."""

    experiment: str
    further: str
    window_minutes: float
    baseline_minutes: float
    share: float
    false_alarms: float
    limits: Limits


F = TypeVar("F", bound=Callable[..., Any])


def watch_options(command: F) -> F:
    """The flags of Watched, and --watch."""
    more, share = click.FloatRange(0, min_open=True), click.FloatRange(0, 1)
    options = (
        click.option("--filter", "further", default="", metavar="FILTER", help="Only these traces (MLflow's search)."),
        click.option("--window-minutes", type=more, default=60, show_default=True, help="What is looked at."),
        click.option("--baseline-minutes", type=click.FloatRange(0), default=1440, show_default=True,
                     help="Before the window: what it is compared with."),
        click.option("--watch", "every_seconds", type=more, metavar="SECONDS",
                     help="Look again and again, until an alert fires or Ctrl-C."),
        click.option("--sample", "share", type=share, default=0.75, show_default=True, help="Share that is scored."),
        click.option("--false-alarms", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.01,
                     show_default=True, help="Share of quiet looks that may alert, over all rules."),
        click.option("--max-p95-ms", type=click.FloatRange(0), help="Limit: 95 % of answers are as quick as that."),
        click.option("--max-error-rate", type=share, help="Limit, such as 0.02."),
        click.option("--max-usd", type=click.FloatRange(0), help="Limit: half of the requests cost no more."),
        click.option("--min-quality", type=share, help="Limit: share of scored answers that are good."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def take_watched(params: dict[str, Any], experiment: str) -> tuple[float | None, Watched]:
    """Seconds of --watch, and what the other flags say."""
    every_seconds = params.pop("every_seconds")
    names = ("max_p95_ms", "max_error_rate", "max_usd", "min_quality")
    limits = Limits(*(params.pop(name) for name in names))
    return every_seconds, Watched(experiment, limits=limits, **params)


def compare(
    name: str,
    before: Sequence[Served],
    now: Sequence[Served],
    ends: tuple[float, float],
    wanted: Watched,
) -> Look:
    """Look at the requests of now; `ends`: of their time, in ms since 1970."""
    return Look(name, *ends, figures_of(now), decide(before, now, wanted.limits, wanted.false_alarms))


def alert_table(looks: Sequence[Look]) -> dict[str, list[Any]]:
    """Columns for mlflow.log_table: each alert with all its traces."""
    rows = [
        {"look": look.name, "kind": alert.kind, "rule": alert.rule, "said": alert.said, "p": alert.p,
         "traces": " ".join(alert.trace_ids)}
        for look in looks
        for alert in look.alerts
    ]  # fmt: skip
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _said(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
