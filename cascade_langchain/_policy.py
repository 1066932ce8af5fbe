"""Which policy a composite decides by, and which of its members a query may use."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from cascade_core.errors import ConfigurationError
from cascade_core.values import Price

if TYPE_CHECKING:
    from cascade_core.policy import Policy
    from cascade_langchain._members import Members

Prices = Mapping[str, Price]
"""Price of each member by name, in US dollars per million tokens."""


class UncalibratedWarning(UserWarning):
    """A composite works without a policy, by a rule that nothing has been fitted to."""


def policy_for(
    names: Iterable[str], policy: Policy | str | os.PathLike[str] | None, prices: Prices | None
) -> Policy:
    """The policy for members of these names: the one given, the one in a file, or the uncalibrated default.

    Raises:
        ConfigurationError: the policy is of another type, or prices are given beside it.
        PolicyError: the file cannot be used, or the policy was made for other members.
    """
    from cascade_core.policy import ModelSpec, Policy
    from cascade_core.pricing import prices_of

    names = tuple(names)
    if policy is None:
        warnings.warn(
            "no policy: models run in the order given until an answer looks sure of itself, which promises nothing "
            "about quality or cost. Fit a policy with cascade_langchain.calibrate",
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
        return Policy.load(policy, models=names)
    if not isinstance(policy, Policy):
        raise ConfigurationError(
            f"policy is of type {type(policy).__name__}: expected a Policy, the path of one saved, or nothing"
        )
    policy.check_models(names)
    return policy


def _check_prices(names: tuple[str, ...], prices: Prices) -> None:
    for name, price in prices.items():
        if name not in names:
            raise ConfigurationError(f"a price for {name!r}, which is none of {list(names)}")
        if not isinstance(price, Price):
            raise ConfigurationError(f"the price of {name!r} is {price!r}: expected a Price")


def allowed_for(policy: Policy, members: Members, pinned: object, needs: frozenset[str]) -> list[str]:
    """Names of the members that may answer a query.

    Args:
        policy: knows them all.
        members: of which some are able.
        pinned: the one the caller asks for, or None.
        needs: keys of a model's profile that must not be denied.

    Raises:
        ConfigurationError: if there is none.
    """
    if pinned is not None:
        if pinned not in policy.names:
            raise ConfigurationError(f"unknown model {pinned!r}: expected one of {list(policy.names)}")
        return [str(pinned)]
    able = [name for name in policy.names if name in members.able]
    denied = members.denying(needs) if needs else {}
    allowed = [name for name in able if name not in denied]
    if not allowed:
        lacking = ", ".join(f"{name} lacks {need}" for name, need in denied.items())
        raise ConfigurationError(
            f"no model can take this query: {lacking}. Add a model that can, or correct the profile of one (its "
            "argument `profile`)"
        )
    return allowed
