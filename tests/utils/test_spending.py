"""A budget that many threads together do not exceed, sums against pandas', and what is not known staying unknown."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import InputError
from utils.price_catalog import price_list
from utils.pricing import PRICES, Price, Usage
from utils.spending import (
    Budget,
    BudgetUsedUp,
    Call,
    by_price_list,
    call_table,
    other_models,
    sums_by,
    sums_of,
    usd_of,
    worst_usd,
)

SMALL = PRICES["mock-small"]
CALLS = [
    Call(f"tr-{n // 2}", ("ada", "bob")[n % 2], f"p/{n % 3}", ("mock-small", "mock-large")[n % 2], 100 + n, n)
    for n in range(20)
]
COSTING = by_price_list(PRICES)


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 1)), max_size=40), st.floats(0, 10))
def test_no_order_of_calls_goes_over_the_budget(calls, limit):
    """Each call costs a share of the most that it may cost."""
    budget, spent = Budget(limit), 0.0
    for worst, share in calls:
        try:
            reservation = budget.reserve(worst)
        except BudgetUsedUp:
            continue
        spent += worst * share
        reservation.settle(worst * share)
    assert spent <= limit + 1e-9 and budget.spent_usd == pytest.approx(spent)


def test_threads_that_look_at_once_spend_no_more_than_one_after_the_other():
    budget, gate, refused = Budget(10.0), threading.Barrier(16), []

    def work(_: int) -> None:
        gate.wait()
        for _ in range(50):
            try:
                budget.reserve(0.1).settle(0.1)
            except BudgetUsedUp:
                refused.append(1)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert budget.spent_usd == pytest.approx(10.0, abs=0.1) and budget.spent_usd <= 10.0 + 1e-9
    assert len(refused) == 16 * 50 - round(budget.spent_usd / 0.1)


def test_what_is_never_settled_stays_spent_at_its_worst():
    budget = Budget(1.0)
    budget.reserve(0.7)
    with pytest.raises(BudgetUsedUp, match=r"0\.300000 of 1\.000000 are left"):
        budget.reserve(0.4)
    budget.reserve(0.3).settle(0.0)
    budget.reserve(0.3)


def test_the_alarm_rings_once_when_its_share_is_reached():
    heard: list[float] = []
    budget = Budget(10.0, 0.5, heard.append)
    for _ in range(8):
        budget.reserve(1.0).settle(1.0)
    assert heard == [5.0] and budget.alerted
    free = Budget(0.0, 0.5, heard.append)
    free.reserve(0.0).settle(0.0)
    assert len(heard) == 1, "a model that costs nothing uses no budget up"


@pytest.mark.parametrize("field", ["user", "prompt", "model", "trace_id"])
def test_sums_are_those_of_pandas(field):
    frame = pd.DataFrame([vars(call) for call in CALLS])
    price = {name: (p.input_usd, p.output_usd) for name, p in PRICES.items()}
    frame["usd"] = [
        (i * price[m][0] + o * price[m][1]) / 1e6
        for i, o, m in zip(frame.input_tokens, frame.output_tokens, frame.model, strict=True)
    ]
    grouped, sums = frame.groupby(field), sums_by(CALLS, field, COSTING)
    assert set(sums) == set(frame[field])
    for value, group in grouped:
        found = sums[str(value)]
        assert found.cost_usd == pytest.approx(group.usd.sum())
        assert (found.input_tokens, found.output_tokens) == (group.input_tokens.sum(), group.output_tokens.sum())
        assert found.requests == group.trace_id.nunique() and found.calls == len(group)
    costs = [each.cost_usd or 0 for each in sums.values()]
    assert costs == sorted(costs, reverse=True)


def test_a_model_without_a_price_makes_its_sum_unknown_and_no_other():
    calls = [*CALLS, Call("tr-x", "eve", "p/0", "who-knows", 5, 5)]
    by_model = sums_by(calls, "model", COSTING)
    assert by_model["who-knows"].cost_usd is None and by_model["mock-small"].cost_usd
    assert sums_of(calls, COSTING).cost_usd is None and list(by_model)[-1] == "who-knows"
    assert by_model["who-knows"].row("model", "who-knows")["USD"] == "-"
    assert call_table(calls, COSTING)["usd"][-1] is None and call_table([], COSTING) == {}


def test_other_models_pay_for_the_same_tokens():
    found = other_models(CALLS, PRICES.values())
    assert list(found.values()) == sorted(found.values()) and "gpt-4o" in found
    assert "text-embedding-3-small" not in found and "gpt-4o-2024-11-20" not in found
    tokens = sum(call.input_tokens for call in CALLS), sum(call.output_tokens for call in CALLS)
    assert found["gpt-4o"] == pytest.approx((tokens[0] * 2.5 + tokens[1] * 10) / 1e6)


@settings(max_examples=30)
@given(st.text(max_size=300))
def test_the_worst_case_is_never_below_the_real_cost(text):
    from utils.mock_llm.tokens import count_tokens

    assert usd_of(Usage(count_tokens(text), 8), SMALL) <= worst_usd(text, 8, SMALL)


def test_the_prices_of_a_backend():
    assert set(price_list("mock", "mock-small", None)) == {"mock-small", "mock-large"}
    assert price_list("openai", "qwen", (1.0, 2.0))["qwen"].output_usd == 2.0
    assert price_list("ollama", "llama3.2", None)["llama3.2"] == Price(
        "llama3.2", 0.0, 0.0, "your own hardware, electricity is not counted",
        price_list("ollama", "llama3.2", None)["llama3.2"].date,
    )  # fmt: skip
    assert price_list("openai", "gpt-4o", None) == {"gpt-4o": PRICES["gpt-4o"]}
    for unknown in ("qwen", "mock-small"):
        with pytest.raises(InputError, match="unknown"):
            price_list("openai", unknown, None)
