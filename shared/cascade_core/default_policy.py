"""Which policy a composite decides by: the one given, the one in a file, or the uncalibrated default."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping

from cascade_core.errors import ConfigurationError
from cascade_core.policy import ModelSpec, Policy
from cascade_core.values import Price

Prices = Mapping[str, Price]
"""Price of each model by name, in US dollars per million tokens."""


class UncalibratedWarning(UserWarning):
    """A composite works without a policy, by a rule that nothing has been fitted to."""


def policy_for(
    names: Iterable[str], policy: Policy | str | os.PathLike[str] | None, prices: Prices | None = None
) -> Policy:
    """The policy for models of these names. Called by a composite's constructor, whose caller a warning is shown.

    Args:
        names: of the models, cheapest first where there is no policy.
        policy: a policy, the path of its file, or None for the uncalibrated default, which warns.
        prices: where there is no policy; list prices by name for models that are not in it.

    Raises:
        ConfigurationError: the policy is of another type, or prices are given beside it.
        PolicyError: the file cannot be used, or the policy was made for other models, or with an embedding that it is
            not connected to.
    """
    names = tuple(names)
    if policy is None:
        from cascade_core.pricing import prices_of

        warnings.warn(
            "no policy: models run in the order given until an answer looks sure of itself, which promises nothing "
            "about quality or cost. Fit a policy with calibrate, or pass Policy.uncalibrated(...) if this is meant",
            UncalibratedWarning,
            stacklevel=3,
        )
        _check_prices(names, prices or {})
        return Policy.uncalibrated(
            [ModelSpec(name=name, price=price) for name, price in prices_of(names, prices).items()]
        )
    if prices is not None:
        raise ConfigurationError("prices are part of the policy: leave them out, or hand over no policy")
    if isinstance(policy, (str, os.PathLike)):
        policy = Policy.load(policy, models=names)
    if not isinstance(policy, Policy):
        raise ConfigurationError(
            f"policy is of type {type(policy).__name__}: expected a Policy, the path of one saved, or nothing"
        )
    policy.check_models(names)
    policy.estimator.check_connected()
    return policy


def _check_prices(names: tuple[str, ...], prices: Prices) -> None:
    if not isinstance(prices, Mapping):
        raise ConfigurationError(
            f"prices is of type {type(prices).__name__}: expected a dictionary from name to Price"
        )
    for name, price in prices.items():
        if name not in names:
            raise ConfigurationError(f"a price for {name!r}, which is none of {list(names)}")
        if not isinstance(price, Price):
            raise ConfigurationError(f"the price of {name!r} is {price!r}: expected a Price")
