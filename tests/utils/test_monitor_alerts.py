"""How often a quiet day raises an alert, and which alert a planted fault raises: on figures alone, without a store."""

import random
from dataclasses import replace

import pytest
from scipy.stats import binom

from utils.monitor_alerts import KINDS, Limits, decide
from utils.monitor_requests import Served, figures_of, in_sample

DAYS, LEVEL = 100, 0.05


def day(seed: int, requests: int = 60, quality: float = 0.9, errors: float = 0.03) -> list[Served]:
    """Latencies and costs with a long tail, and now and then a failure."""
    dice = random.Random(seed)
    return [
        Served(
            f"tr-{seed}-{number}",
            begun_ms=1e12 + 1000 * number,
            latency_ms=dice.lognormvariate(6, 0.5),
            failed=dice.random() < errors,
            first_ms=dice.lognormvariate(5, 0.5),
            input_tokens=500,
            output_tokens=20,
            cost_usd=dice.lognormvariate(-9, 0.4),
            good=dice.random() < quality if dice.random() < 0.5 else None,
        )
        for number in range(requests)
    ]


def changed(kind: str, requests: list[Served]) -> list[Served]:
    """The same requests with a fault in them."""
    match kind:
        case "latency":
            return [replace(r, latency_ms=3 * r.latency_ms, first_ms=3 * (r.first_ms or 0)) for r in requests]
        case "errors":
            return [replace(r, failed=r.failed or number % 3 == 0) for number, r in enumerate(requests)]
        case "cost":
            return [replace(r, cost_usd=3 * (r.cost_usd or 0)) for r in requests]
    return [replace(r, good=None if r.good is None else False) for r in requests]


@pytest.mark.parametrize("limits", [Limits(), Limits(p95_ms=2000, error_rate=0.05, cost_usd=2e-4, quality=0.8)])
def test_a_hundred_quiet_days_raise_no_more_alerts_than_stated(limits):
    raised = sum(bool(decide(day(seed), day(10_000 + seed), limits, LEVEL)) for seed in range(DAYS))
    assert raised <= binom.ppf(0.99, DAYS, LEVEL)


def test_the_rate_is_kept_where_nothing_is_discarded_for_being_small(monkeypatch):
    """Without the least effect the tests stand alone, and on many days chance cannot hide a wrong one."""
    for name, least in (("RISE", 0), ("MORE_ERRORS", -1), ("LESS_QUALITY", -1)):
        monkeypatch.setattr(f"utils.monitor_alerts.{name}", least)
    raised = sum(bool(decide(day(seed, 30), day(10_000 + seed, 20), Limits(), 0.2)) for seed in range(300))
    assert 0.03 * 300 < raised <= binom.ppf(0.99, 300, 0.2), "tests that can say something, and not too often"


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_fault_raises_its_alert_and_only_its(kind):
    for seed in range(20):
        now = changed(kind, day(10_000 + seed))
        alerts = decide(day(seed), now, Limits(), 0.01)
        assert {alert.kind for alert in alerts} == {kind}
        named = {trace_id for alert in alerts for trace_id in alert.trace_ids}
        assert named and named <= {each.trace_id for each in now}


def test_the_named_traces_are_those_that_caused_it():
    now = changed("errors", day(1))
    (errors,) = decide(day(0), now)
    assert set(errors.trace_ids) == {each.trace_id for each in now if each.failed}
    worst = [replace(r, latency_ms=9e9) if n == 7 else r for n, r in enumerate(changed("latency", day(1, errors=0)))]
    assert decide(day(0), worst)[0].trace_ids[0] == worst[7].trace_id


def test_a_slow_twentieth_is_found_though_the_middle_is_as_before():
    now = [replace(r, latency_ms=20_000) if number % 5 == 0 else r for number, r in enumerate(day(1, 200))]
    (alert,) = decide(day(0, 400), now)
    assert alert.kind == "latency" and "p95" in alert.said


def test_a_change_that_is_sure_but_small_is_no_alert():
    now = [replace(r, latency_ms=1.15 * r.latency_ms) for r in day(0, 3000)]
    assert decide(day(0, 3000), now) == []


def test_limits_need_no_baseline():
    now = day(1, 200, quality=0.5, errors=0.3)
    limits = Limits(p95_ms=300, error_rate=0.02, cost_usd=1e-6, quality=0.9)
    assert [alert.kind for alert in decide([], now, limits)] == list(KINDS)
    assert {alert.rule for alert in decide([], now, limits)} == {"limit"}
    assert decide([], now) == [] and decide(now, []) == [] and decide([], [], limits) == []


def test_a_limit_that_is_only_just_kept_is_no_alert():
    now = [replace(r, failed=number % 20 == 0, good=number % 5 != 1) for number, r in enumerate(day(1, 100, errors=0))]
    assert decide([], now, Limits(error_rate=0.05, quality=0.75)) == []


def test_what_nobody_measured_raises_nothing():
    bare = [Served(f"tr-{n}", n, 10.0, False) for n in range(30)]
    assert decide(bare, bare, Limits(cost_usd=0, quality=1)) == []
    figures = figures_of(bare)
    assert figures.cost_per_request is None and figures.quality is None and figures.first_p50_ms is None
    assert "quality" not in figures.metrics() and figures_of([]).error_rate is None


@pytest.mark.parametrize("usd", [None, 0.0])
def test_where_a_model_has_no_price_its_tokens_are_looked_at(usd):
    before = [replace(r, cost_usd=usd) for r in day(0, errors=0)]
    now = [replace(r, cost_usd=usd, input_tokens=2000 + n) for n, r in enumerate(day(1, errors=0))]
    (alert,) = decide(before, now)
    assert alert.kind == "cost" and "tokens" in alert.said and decide(before, before) == []


def test_a_trace_is_always_in_the_sample_or_never():
    ids = [f"tr-{number:032x}" for number in range(2000)]
    half = {each for each in ids if in_sample(each, 0.5)}
    assert 900 < len(half) < 1100 and half >= {each for each in ids if in_sample(each, 0.25)}
    assert not any(in_sample(each, 0) for each in ids) and all(in_sample(each, 1) for each in ids)
