"""What tokens cost: USD per million tokens by model, as data with source and date.

Prices are list prices of single requests, without discounts for cached or batched tokens. A model without
an entry has an unknown price, never a price of 0. Models that run on your own hardware (`--llm-type local` or
`ollama`) cost 0 USD, because nobody sends a bill; electricity and hardware are not counted.
"""

from dataclasses import dataclass

OWN_HARDWARE = ("local", "ollama")
LLM_TYPES = ("mock", *OWN_HARDWARE, "openai")

_CATALOG = "model catalog of mlflow 3.17.2 (mlflow/utils/model_catalog/openai.json)"
_INVENTED = "invented for this curriculum"


@dataclass(frozen=True)
class Price:
    """USD per million tokens. `date` (YYYY-MM-DD) is when the source last changed the entry.

    A fictional price is one of the mock's: say so wherever a cost made from it is shown.
    """

    model: str
    input_usd: float
    output_usd: float
    source: str
    date: str
    fictional: bool = False


@dataclass(frozen=True)
class Usage:
    """Token counts of one call or of many."""

    prompt_tokens: int
    completion_tokens: int

    def __post_init__(self) -> None:
        if self.prompt_tokens < 0 or self.completion_tokens < 0:
            raise ValueError(f"Token counts cannot be negative: {self}.")


_MOCK_PRICES = (
    Price("mock-small", 0.10, 0.40, _INVENTED, "2026-11-15", fictional=True),
    Price("mock-large", 1.00, 4.00, _INVENTED, "2026-11-15", fictional=True),
)

_OPENAI_PRICES = tuple(
    Price(model, input_usd, output_usd, _CATALOG, date)
    for model, input_usd, output_usd, date in (
        ("gpt-4o", 2.50, 10.00, "2026-04-24"),
        ("gpt-4o-2024-11-20", 2.50, 10.00, "2026-08-10"),
        ("gpt-4o-mini", 0.15, 0.60, "2026-09-10"),
        ("gpt-4o-mini-2024-07-18", 0.15, 0.60, "2026-09-10"),
        ("gpt-4.1", 2.00, 8.00, "2026-08-17"),
        ("gpt-4.1-2025-04-14", 2.00, 8.00, "2026-08-17"),
        ("gpt-4.1-mini", 0.40, 1.60, "2026-08-17"),
        ("gpt-4.1-mini-2025-04-14", 0.40, 1.60, "2026-08-17"),
        ("gpt-5-mini", 0.25, 2.00, "2026-09-23"),
        ("gpt-5-nano", 0.05, 0.40, "2026-09-23"),
        ("gpt-5.4-mini", 0.75, 4.50, "2026-09-23"),
        ("gpt-5.4-mini-2026-03-17", 0.75, 4.50, "2026-09-23"),
        ("text-embedding-3-small", 0.02, 0.00, "2026-04-24"),
        ("text-embedding-3-large", 0.13, 0.00, "2026-04-24"),
    )
)

PRICES = {price.model: price for price in (*_MOCK_PRICES, *_OPENAI_PRICES)}


def price_of(model: str) -> Price | None:
    """The price entry of a model by its exact name; None when there is none."""
    return PRICES.get(model)


def cost_usd(usage: Usage, model: str, llm_type: str) -> float | None:
    """USD for the tokens; None when the price is unknown.

    0 for models on your own hardware. A fictional price counts with `mock` only, a real one with `openai`.

    Raises ValueError for an `llm_type` that does not exist.
    """
    if llm_type not in LLM_TYPES:
        raise ValueError(f"There is no llm_type {llm_type!r}: use one of {', '.join(LLM_TYPES)}.")
    if llm_type in OWN_HARDWARE:
        return 0.0
    price = price_of(model)
    if price is None or price.fictional != (llm_type == "mock"):
        return None
    return (usage.prompt_tokens * price.input_usd + usage.completion_tokens * price.output_usd) / 1e6


def describe_price(model: str, llm_type: str) -> str:
    """What to say beside a cost: where its price comes from, and what is not counted."""
    if llm_type in OWN_HARDWARE:
        return "0 USD: your own hardware; electricity is not counted"
    price = price_of(model)
    if price is None or cost_usd(Usage(0, 0), model, llm_type) is None:
        return f"the price of {model} is unknown"
    if price.fictional:
        return f"fictional price, {price.source}"
    return f"list price, {price.source}, {price.date}"
