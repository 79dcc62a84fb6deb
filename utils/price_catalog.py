"""Prices of one's own in the form that MLflow reads, so that it computes costs itself."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from utils.errors import InputError
from utils.pricing import OWN_HARDWARE, PRICES, Price, Usage, cost_usd

VARIABLE = "MLFLOW_MODEL_CATALOG_URI"


def price_list(llm_type: str, model: str, own: tuple[float, float] | None) -> dict[str, Price]:
    """The models that can be asked there, with their prices: with mock both of its models, otherwise the one named.

    Args:
        own: the user's prices, USD for a million input and output tokens; None takes the list's.

    Raises:
        InputError: the list has no price of the model.
    """
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    if own:
        return {model: Price(model, *own, "your price", today)}
    if llm_type == "mock":
        return {name: price for name, price in PRICES.items() if price.fictional}
    if llm_type in OWN_HARDWARE:
        return {model: Price(model, 0.0, 0.0, "your own hardware, electricity is not counted", today)}
    if cost_usd(Usage(0, 0), model, llm_type) is None:
        raise InputError(f"the price of {model} is unknown", "--usd-per-million 0.10 0.40   (input, output)")
    return {model: PRICES[model]}


@contextmanager
def price_catalog(prices: Sequence[Price]) -> Iterator[str]:
    """While the block runs, MLflow finds these prices under the provider whose name it yields.

    MLflow looks for PROVIDER.json in the folder that MLFLOW_MODEL_CATALOG_URI names, and keeps what it found for some
    time: the name changes with the prices. Tokens from a server's cache cost what all others do: no discount.
    A tracking server prices what it stores by its own catalog, not by this one.

    Source: mlflow/utils/providers.py
    """
    models = {
        price.model: {
            "mode": "chat",
            "pricing": {
                "input_per_million_tokens": price.input_usd,
                "output_per_million_tokens": price.output_usd,
            },
        }
        for price in prices
    }
    text = json.dumps({"schema_version": "1.0", "models": models})
    provider, before = f"prices-{hashlib.sha256(text.encode()).hexdigest()[:8]}", os.environ.get(VARIABLE)
    with TemporaryDirectory() as folder:
        (Path(folder) / f"{provider}.json").write_text(text, encoding="utf-8")
        os.environ[VARIABLE] = Path(folder).as_uri()
        try:
            yield provider
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before
