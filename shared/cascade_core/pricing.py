"""What models cost by the token: list prices by name, with the user's own in their place.

Prices come from the package ``genai-prices``, which is imported when the first name is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from cascade_core.values import Price


@lru_cache(maxsize=1024)
def price_of(model: str) -> Price | None:
    """List price of a model by the name its provider or a framework gives it; None if it is not listed.

    A provider may come first, before a colon or a slash. Where a price depends on the prompt, it is that of
    short ones.

    Example:
        >>> price_of("gpt-4o-mini").input
        0.15
        >>> price_of("openai:gpt-4o-mini") == price_of("openai/gpt-4o-mini") == price_of("gpt-4o-mini")
        True
        >>> price_of("my-own-model") is None
        True
    """
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    provider, _, name = model.replace(":", "/", 1).partition("/")
    for ref, of in ((model, None), (name, provider or None), (name, None)):
        if not ref:
            continue
        try:
            # A thousand tokens of one kind at a time: tiered prices are then those of short prompts.
            fresh = calc_price(Tokens(input_tokens=1000), model_ref=ref, provider_id=of).total_price
            output = calc_price(Tokens(output_tokens=1000), model_ref=ref, provider_id=of).total_price
            cached = calc_price(
                Tokens(input_tokens=1000, cache_read_tokens=1000), model_ref=ref, provider_id=of
            ).total_price
        except LookupError:
            continue
        return Price(
            input=_per_million(fresh), output=_per_million(output), cached_input=_per_million(cached)
        )
    return None


def prices_of(models: Iterable[str], own: Mapping[str, Price] | None = None) -> dict[str, Price | None]:
    """Price of each model: the user's ``own`` where there is one, else the list price, else None."""
    own = own or {}
    return {model: own[model] if model in own else price_of(model) for model in models}


def _per_million(thousand: object) -> float:
    return round(float(str(thousand)) * 1000, 9)
