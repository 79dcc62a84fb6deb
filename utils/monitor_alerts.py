"""When figures are an alert: exact tests, so that how often nothing raises one is known before. Pure functions.

A drift rule asks whether the newest requests could well be drawn from the same as those before; a limit asks whether
they could well come from a service that keeps it. The share of looks at an unchanged service that raise any alert is
at most `false_alarms`, divided evenly among the rules (Bonferroni). It holds where requests are alike and independent;
a service whose mornings differ from its nights needs a baseline of the same hour.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from utils.monitor_requests import Served, percentiles

KINDS = ("latency", "errors", "cost", "quality")
DRIFT_RULES = 5  # latency to the end and to the first piece, errors, cost, quality
RISE = 1.3  # times as slow or as dear as before: less is no alert, however sure it is
MORE_ERRORS, LESS_QUALITY = 0.02, 0.1  # the same as differences of shares


@dataclass(frozen=True)
class Limits:
    """What a service must keep; None is no limit. cost_usd: what half of the requests may cost at most."""

    p95_ms: float | None = None
    error_rate: float | None = None
    cost_usd: float | None = None
    quality: float | None = None

    @property
    def set(self) -> int:
        return sum(getattr(self, field.name) is not None for field in fields(self))


@dataclass(frozen=True)
class Alert:
    """kind: one of KINDS. rule: `drift` or `limit`. trace_ids: of the requests that caused it, the worst first."""

    kind: str
    rule: str
    said: str
    p: float
    trace_ids: tuple[str, ...]


class _Test(NamedTuple):
    p: float
    traces: list[Served]
    said: str


def decide(
    before: Sequence[Served], now: Sequence[Served], limits: Limits = Limits(), false_alarms: float = 0.01
) -> list[Alert]:
    """The alerts of one look, in the order of KINDS.

    Args:
        before: the baseline; without one only the limits are looked at.
        false_alarms: share of looks at an unchanged service that may raise any alert; 0 < false_alarms < 1.
    """
    level = false_alarms / (DRIFT_RULES + limits.set)
    found = []
    for kind, rule, test in [*_drifts(before, now), *_over_limits(now, limits)]:
        if test is not None and test.p < level:
            found.append(Alert(kind, rule, test.said, test.p, tuple(each.trace_id for each in test.traces)))
    return sorted(found, key=lambda alert: KINDS.index(alert.kind))


def _drifts(before: Sequence[Served], now: Sequence[Served]) -> list[tuple[str, str, _Test | None]]:
    ways: list[tuple[str, Callable[[Served], float | None], str]] = [
        ("latency", lambda each: each.latency_ms, "whole answer: {} is {:,.0f} ms, was {:,.0f} ms"),
        ("latency", lambda each: each.first_ms, "first piece: {} is {:,.0f} ms, was {:,.0f} ms"),
        ("cost", lambda each: each.cost_usd, "a request: {} is {:.3g} USD, was {:.3g} USD"),
    ]
    if not any(each.cost_usd for side in (before, now) for each in side):  # no price, or none to pay
        ways[2] = ("cost", _tokens, "a request: {} is {:,.0f} tokens, was {:,.0f} tokens")
    rises = [(kind, "drift", _rise(before, now, of, said)) for kind, of, said in ways]
    return [*rises, ("errors", "drift", _more_errors(before, now)), ("quality", "drift", _less_quality(before, now))]


def _tokens(each: Served) -> float | None:
    return None if each.input_tokens is None else each.input_tokens + (each.output_tokens or 0)


def _rise(
    before: Sequence[Served], now: Sequence[Served], of: Callable[[Served], float | None], said: str
) -> _Test | None:
    """Whether too many of the newest lie above the middle, or above the largest twentieth, of those before.

    How many of n new values lie above the j-th largest of N old ones is beta-binomial when nothing changed, whatever
    the distribution: the exceedance test. Both places are tried, so the smaller p counts twice.
    """
    from scipy.stats import betabinom

    old = sorted((value for each in before if not each.failed and (value := of(each)) is not None), reverse=True)
    new = [(value, each) for each in now if not each.failed and (value := of(each)) is not None]
    if not old or not new:
        return None
    tests = []
    for name, share in (("p50", 0.5), ("p95", 0.05)):
        rank = max(1, math.ceil(share * len(old)))
        was, above = percentiles(old)[name], sorted((p for p in new if p[0] > old[rank - 1]), key=lambda pair: -pair[0])
        is_now = percentiles(value for value, _ in new)[name]
        p = float(betabinom.sf(len(above) - 1, len(new), rank, len(old) + 1 - rank))
        if is_now >= RISE * was:
            tests.append(_Test(min(1.0, 2 * p), [each for _, each in above], said.format(name, is_now, was)))
    return min(tests, key=lambda test: test.p, default=None)


def _more_errors(before: Sequence[Served], now: Sequence[Served]) -> _Test | None:
    bad, were_bad = [each for each in now if each.failed], sum(each.failed for each in before)
    if not before or not now or len(bad) / len(now) < were_bad / len(before) + MORE_ERRORS:
        return None
    said = f"{len(bad)} of {len(now)} failed, before {were_bad} of {len(before)}"
    return _Test(_fisher(len(bad), len(now), were_bad, len(before)), bad, said)


def _less_quality(before: Sequence[Served], now: Sequence[Served]) -> _Test | None:
    old, new = ([each for each in side if not each.failed and each.good is not None] for side in (before, now))
    if not old or not new:
        return None
    bad, were_bad = [each for each in new if not each.good], sum(not each.good for each in old)
    if len(bad) / len(new) < were_bad / len(old) + LESS_QUALITY:
        return None
    said = f"{len(bad)} of {len(new)} scored answers are bad, before {were_bad} of {len(old)}"
    return _Test(_fisher(len(bad), len(new), were_bad, len(old)), bad, said)


def _fisher(bad: int, count: int, were_bad: int, were: int) -> float:
    """One-sided p of Fisher's exact test: as many bad ones or more, with the same share on both sides."""
    from scipy.stats import hypergeom

    return float(hypergeom.sf(bad - 1, count + were, bad + were_bad, count))


def _over_limits(now: Sequence[Served], limits: Limits) -> list[tuple[str, str, _Test | None]]:
    answered = [each for each in now if not each.failed]
    slow = sorted((e for e in answered if e.latency_ms > (limits.p95_ms or 0)), key=lambda each: -each.latency_ms)
    priced = [each for each in answered if each.cost_usd is not None]
    dear = sorted((e for e in priced if (e.cost_usd or 0) > (limits.cost_usd or 0)), key=lambda e: -(e.cost_usd or 0))
    scored = [each for each in answered if each.good is not None]
    counts = [
        ("latency", limits.p95_ms, slow, answered, 0.05, "slower than {:,.0f} ms"),
        ("errors", limits.error_rate, [e for e in now if e.failed], now, limits.error_rate, "failed; {:.0%} may"),
        ("cost", limits.cost_usd, dear, priced, 0.5, "dearer than {:.3g} USD"),
        ("quality", limits.quality, [e for e in scored if not e.good], scored, 1 - (limits.quality or 0),
         "scored answers are bad, at least {:.0%} must be good"),
    ]  # fmt: skip
    return [
        (kind, "limit", _over(bad, of, float(share), said.format(limit)))
        for kind, limit, bad, of, share, said in counts
        if limit is not None and share is not None
    ]


def _over(bad: list[Served], of: Sequence[Served], allowed: float, said: str) -> _Test:
    """Whether more are bad than a service would have that just keeps the limit: an exact binomial test."""
    from scipy.stats import binom

    return _Test(float(binom.sf(len(bad) - 1, len(of), allowed)) if of else 1.0, bad, f"{len(bad)} of {len(of)} {said}")
