"""What models cost by the token: list prices by name, with the user's own in their place; and what waiting costs.

Prices come from the package ``genai-prices``, which is imported when the first name is looked up. Time has the price
that the user gives it: a call then costs its dollars plus ``usd_per_second`` for every second it takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache

from cascade_core.errors import ConfigurationError
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


def check_price_of_time(usd_per_second: float, unit: str) -> None:
    """Check a price of time, which belongs to costs in US dollars.

    Raises:
        ConfigurationError: it is negative or not finite, or costs are counted in seconds.
    """
    if not (math.isfinite(usd_per_second) and usd_per_second >= 0):
        raise ConfigurationError(
            f"usd_per_second is {usd_per_second}: expected what a second of waiting is worth, 0 US dollars or more"
        )
    if usd_per_second and unit == "seconds":
        raise ConfigurationError(
            f"usd_per_second is {usd_per_second:g}, but costs are counted in seconds already: a price of time goes "
            'with unit="usd"'
        )


def time_in_words(usd_per_second: float) -> str:
    """What to say after "cost" where time is part of it; nothing where it is not.

    Example:
        >>> f"cost{time_in_words(0.01)}", f"cost{time_in_words(0)}"
        ('cost, time at $0.01 a second included', 'cost')
    """
    return f", time at ${usd_per_second:g} a second included" if usd_per_second else ""


def _per_million(thousand: object) -> float:
    return round(float(str(thousand)) * 1000, 9)
