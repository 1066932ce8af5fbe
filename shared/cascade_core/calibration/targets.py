"""What a user wants of a policy: a price per query, or a quality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from cascade_core.errors import ConfigurationError


@dataclass(frozen=True)
class Budget:
    """The best quality for at most ``cost`` a query on average, in the policy's unit.

    Example:
        >>> Budget(0.002)
        Budget(cost=0.002)
    """

    cost: float

    def __post_init__(self) -> None:
        """Check that it is a price."""
        _check("a budget", self.cost, 0, math.inf)


@dataclass(frozen=True)
class Quality:
    """The lowest cost for an average quality of at least ``quality``, on the scale of the scores."""

    quality: float

    def __post_init__(self) -> None:
        """Check that it is a number."""
        _check("a quality", self.quality, -math.inf, math.inf)


@dataclass(frozen=True)
class RelativeQuality:
    """The lowest cost for at least ``ratio`` times the average quality of a model.

    Attributes:
        ratio: 0.98 means 98 % of it.
        of: the model's name; None is the model of the best average quality.
    """

    ratio: float
    of: str | None = None

    def __post_init__(self) -> None:
        """Check that it is a ratio."""
        _check("a relative quality", self.ratio, 0, 10, ", such as 0.98 for 98 %")


@dataclass(frozen=True)
class Savings:
    """The best quality for a ``share`` less than what a model costs.

    Attributes:
        share: 0.6 means 60 % less.
        of: the model's name; None is the dearest model.
    """

    share: float
    of: str | None = None

    def __post_init__(self) -> None:
        """Check that it is a share."""
        _check("savings", self.share, 0, 1, ", such as 0.6 for 60 %")


Target = Budget | Quality | RelativeQuality | Savings
"""Any of the targets."""


def _check(what: str, value: float, low: float, high: float, such: str = "") -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not (low < value < high):
        raise ConfigurationError(f"{what} of {value!r}: expected a number between {low} and {high}{such}")
