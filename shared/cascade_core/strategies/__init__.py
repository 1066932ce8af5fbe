"""Strategies: which model to run next, and when to stop.

===================  ====================================================================================
`SingleModel`        always the same model
`Routing`            one model per query, chosen before anything runs
`ThresholdCascade`   fixed order, until an answer looks good enough
`MarginRule`         the same for two tiers, on the generation margin
`Cascading`          fixed order, while a longer prefix promises more than it costs
`CascadeRouting`     any set of models, planned anew after every answer
`IndexPolicy`        the model of highest reservation value, while it beats the best in hand
`LookAhead`          the model after which most is to be expected, two calls ahead
===================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade_core.errors import ConfigurationError
from cascade_core.strategies._base import STOP, PricedStrategy, Strategy
from cascade_core.strategies.cascade_routing import CascadeRouting
from cascade_core.strategies.cascading import Cascading
from cascade_core.strategies.index import IndexPolicy
from cascade_core.strategies.look_ahead import LookAhead
from cascade_core.strategies.margin import MarginRule
from cascade_core.strategies.routing import Routing
from cascade_core.strategies.single import SingleModel
from cascade_core.strategies.threshold import ThresholdCascade

__all__ = [
    "STOP",
    "STRATEGIES",
    "CascadeRouting",
    "Cascading",
    "IndexPolicy",
    "LookAhead",
    "MarginRule",
    "PricedStrategy",
    "Routing",
    "SingleModel",
    "Strategy",
    "ThresholdCascade",
    "strategy_from_dict",
]

STRATEGIES: dict[str, type[Strategy]] = {
    cls.name: cls
    for cls in (
        SingleModel,
        Routing,
        ThresholdCascade,
        MarginRule,
        Cascading,
        CascadeRouting,
        IndexPolicy,
        LookAhead,
    )
}
"""Every strategy by its name."""


def strategy_from_dict(data: Mapping[str, Any]) -> Strategy:
    """The strategy that :meth:`Strategy.to_dict` described.

    Example:
        >>> strategy_from_dict({"name": "index", "lam": 20.0}).to_dict()["lam"]
        20.0

    Raises:
        ConfigurationError: if the name or an option is unknown.
    """
    name = data.get("name")
    if name not in STRATEGIES:
        raise ConfigurationError(f"unknown strategy {name!r}; expected one of {sorted(STRATEGIES)}")
    return STRATEGIES[name].from_dict(data)
