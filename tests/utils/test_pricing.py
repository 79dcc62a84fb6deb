"""Costs: every price has a source, unknown stays unknown, fictional stays apart from real."""

import importlib.metadata
import importlib.resources
import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.pricing import LLM_TYPES, PRICES, Usage, cost_usd, describe_price, price_of

REAL = [price for price in PRICES.values() if not price.fictional]
tokens = st.integers(0, 10**9)


@pytest.mark.parametrize("price", PRICES.values(), ids=lambda price: price.model)
def test_every_price_has_a_source_and_a_date(price):
    assert price.input_usd > 0
    assert price.output_usd >= 0
    assert price.source
    assert date.fromisoformat(price.date)


@pytest.mark.parametrize("price", REAL, ids=lambda price: price.model)
def test_real_prices_are_those_of_the_source_they_name(price):
    if importlib.metadata.version("mlflow") != "3.17.2":
        pytest.skip("the prices were copied from the catalog of mlflow 3.17.2")
    catalog = importlib.resources.files("mlflow.utils.model_catalog").joinpath("openai.json")
    entry = json.loads(catalog.read_text(encoding="utf-8"))["models"][price.model]
    assert entry["pricing"]["input_per_million_tokens"] == price.input_usd
    assert entry["pricing"]["output_per_million_tokens"] == price.output_usd
    assert entry["last_updated_at"] == price.date


def test_the_mocks_prices_are_fictional_and_ten_times_apart():
    small, large = PRICES["mock-small"], PRICES["mock-large"]
    assert small.fictional and large.fictional
    assert large.input_usd / small.input_usd == pytest.approx(10)
    assert large.output_usd / small.output_usd == pytest.approx(10)
    assert all(price.model.startswith("mock-") == price.fictional for price in PRICES.values())


def test_a_cost_by_hand():
    assert cost_usd(Usage(1_000_000, 0), "gpt-4o-mini", "openai") == pytest.approx(0.15)
    assert cost_usd(Usage(0, 1_000_000), "gpt-4o-mini", "openai") == pytest.approx(0.60)
    assert cost_usd(Usage(2_000, 500), "mock-large", "mock") == pytest.approx(0.004)


@given(tokens, tokens, st.sampled_from(REAL))
def test_a_cost_grows_with_the_tokens(prompt, completion, price):
    cost = cost_usd(Usage(prompt, completion), price.model, "openai")
    more = cost_usd(Usage(prompt + 1_000, completion), price.model, "openai")
    assert cost is not None and more is not None
    assert 0 <= cost < more


@pytest.mark.parametrize(
    ("model", "llm_type"),
    [
        ("no-such-model", "openai"),
        ("gpt-4o-mini-of-tomorrow", "openai"),
        ("mock-small", "openai"),
        ("gpt-4o-mini", "mock"),
        ("", "openai"),
    ],
)
def test_an_unknown_price_is_none_and_never_zero(model, llm_type):
    assert cost_usd(Usage(0, 0), model, llm_type) is None
    assert cost_usd(Usage(10, 10), model, llm_type) is None
    assert describe_price(model, llm_type) == f"the price of {model} is unknown"


@pytest.mark.parametrize("llm_type", ["local", "ollama"])
def test_own_hardware_costs_nothing_and_says_what_is_left_out(llm_type):
    assert cost_usd(Usage(10, 10), "whatever:7b", llm_type) == 0.0
    assert "electricity is not counted" in describe_price("whatever:7b", llm_type)


def test_a_fictional_price_says_so():
    assert "fictional" in describe_price("mock-small", "mock")
    assert "fictional" not in describe_price("gpt-4o", "openai")
    assert "2026-04-24" in describe_price("gpt-4o", "openai")


def test_price_of_knows_exact_names_only():
    assert price_of("gpt-4o") is PRICES["gpt-4o"]
    assert price_of("GPT-4o") is None


def test_wrong_use_raises():
    with pytest.raises(ValueError, match="no llm_type 'azure'"):
        cost_usd(Usage(1, 1), "gpt-4o", "azure")
    with pytest.raises(ValueError, match="negative"):
        Usage(-1, 0)
    assert set(LLM_TYPES) == {"mock", "local", "ollama", "openai"}
