"""The one protocol that all strategies implement, offline (all queries at once) and online (one query).

A strategy is a pure function of arrays: belief, costs and what has run go in, the next model of each query comes
out, or -1 for *stop*. It keeps no state, draws no random numbers and does no I/O.

Every strategy has one number that trades quality for cost, its *knob*: λ for those that maximise
``quality - λ·cost``, the threshold for the threshold rules, the model for the single model. A knob may be an
array with one value a decision. ``rows`` says which query each decision is about, so that a whole frontier is
computed in one sweep and what does not depend on the knob is computed once a query.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any, ClassVar, TypeVar

import numpy as np

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.errors import ArrayError, ConfigurationError

STOP = -1
_ONE = np.arange(1)

AnyStrategy = TypeVar("AnyStrategy", bound="Strategy")


@dataclass(frozen=True, kw_only=True, eq=False)
class Strategy(ABC):
    """Base of all strategies.

    Attributes:
        max_models: most models that one query may run; None for no limit.
    """

    name: ClassVar[str]
    knob: ClassVar[str]
    max_models: int | None = None

    def __post_init__(self) -> None:
        """Check the limit."""
        if self.max_models is not None and not (
            isinstance(self.max_models, Integral) and self.max_models >= 1
        ):
            raise ConfigurationError(
                f"max_models is {self.max_models!r}: expected a number of models, at least 1, or None for no limit"
            )

    def next_model(
        self,
        belief: Belief,
        costs: FloatArray,
        ran: BoolArray,
        allowed: BoolArray | None = None,
        rows: IntArray | None = None,
    ) -> IntArray:
        """Next model of each decision.

        Args:
            belief: what is believed about the N queries now.
            costs: ``(N, K)`` expected cost of running each model, in the policy's unit, not negative. What has
                already been spent is sunk and plays no part.
            ran: ``(N, K)`` whether each model has run.
            allowed: ``(N, K)`` models that may be run; None allows all. A model that failed, would break a
                limit or lacks a capability is not allowed.
            rows: ``(M,)`` the query that each decision is about, where the knob is an array ``(M,)``; None for
                one decision per query.

        Returns:
            ``(M,)`` index of the model to run next, or -1 to stop. While nothing has run, a strategy always
            names a model if it may run one.

        Raises:
            ArrayError: naming the argument, its shape and the shape expected.
        """
        costs, open_ = self._checked(belief, costs, ran, allowed)
        decisions = belief.mean.shape[0] if rows is None else rows.size
        knob = np.asarray(getattr(self, self.knob))
        if knob.ndim and knob.shape != (decisions,):
            raise ArrayError(f"{self.knob} has shape {knob.shape}, expected () or (M,) = {(decisions,)}")
        some: BoolArray = np.asarray(open_.any(axis=1), dtype=bool)
        if not some.any():
            return np.full(decisions, STOP)
        choice = self._next(belief, costs, ran, open_, np.arange(decisions) if rows is None else rows)
        return np.where(some if rows is None else some[rows], choice, STOP)

    def decide(self, belief: Belief, costs: FloatArray, ran: BoolArray, allowed: BoolArray) -> int:
        """:meth:`next_model` of one query (N = 1), without a look at arrays that an episode has made itself.

        ``allowed`` marks none of the models that have run.
        """
        if self._full(ran):
            return STOP
        open_ = self._open(allowed, ran)
        return int(self._next(belief, costs, ran, open_, _ONE)[0]) if np.count_nonzero(open_) else STOP

    def is_final(
        self, costs: FloatArray, ran: BoolArray, model: int, allowed: BoolArray, foreseen: Belief | None
    ) -> bool:
        """Whether the strategy certainly stops on one query (N = 1) after running ``model``, whatever comes back.

        So it does if no other model may run afterwards, or if what will be believed then is known beforehand,
        because the answer can teach nothing: ``foreseen``, see :meth:`Evidence.foreseen`. ``allowed`` marks the
        models that may run afterwards.
        """
        after = ran.copy()
        after[0, model] = True
        if foreseen is None:
            return self._full(after) or not np.count_nonzero(self._open(allowed, after))
        return self.decide(foreseen, costs, after, allowed) == STOP

    def answer(self, belief: Belief, ran: BoolArray) -> IntArray:
        """``(N,)`` the model whose answer is returned: the best post-hoc estimate among those that ran (recall)."""
        best: IntArray = np.where(ran, belief.mean, -np.inf).argmax(axis=1)
        return best

    def with_knob(self: AnyStrategy, value: float | FloatArray | IntArray) -> AnyStrategy:
        """This strategy with another value of its knob."""
        changed: dict[str, Any] = {self.knob: value}
        return replace(self, **changed)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-compatible dictionary; :func:`strategy_from_dict` is its inverse."""
        values: dict[str, Any] = {"name": self.name}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (np.ndarray, np.generic)):
                value = value.tolist()
            values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_dict(cls: type[AnyStrategy], data: Mapping[str, Any]) -> AnyStrategy:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigurationError: if an option is unknown.
        """
        known = {field.name for field in fields(cls)}
        options = {key: value for key, value in data.items() if key != "name"}
        unknown = sorted(options.keys() - known)
        if unknown:
            raise ConfigurationError(
                f"strategy {cls.name!r} has no option {unknown}; it knows {sorted(known)}"
            )
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
        }
        return cls(**values)

    def _checked(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, allowed: BoolArray | None
    ) -> tuple[FloatArray, BoolArray]:
        """Costs and the models that may run next, after a look at every shape."""
        shape = belief.mean.shape
        costs = np.asarray(costs, dtype=float)
        for argument, array in (("costs", costs), ("ran", ran), ("allowed", allowed)):
            if array is not None and array.shape != shape:
                raise ArrayError(f"{argument} has shape {array.shape}, expected that of belief.mean, {shape}")
        if not (costs >= 0).all() or costs.max(initial=0.0) == np.inf:
            raise ArrayError("costs must be finite numbers that are not negative")
        open_ = self._open(~ran if allowed is None else allowed & ~ran, ran)
        if self.max_models is not None:
            open_ = open_ & (ran.sum(axis=1, keepdims=True) < self.max_models)
        return costs, open_

    def _full(self, ran: BoolArray) -> bool:
        """Whether one query (N = 1) has run as many models as it may."""
        return self.max_models is not None and int(np.count_nonzero(ran)) >= self.max_models

    def _open(self, allowed: BoolArray, ran: BoolArray) -> BoolArray:
        """``(N, K)`` those of the ``allowed`` models, none of which has run, that may come next in its order."""
        return allowed

    @abstractmethod
    def _next(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray
    ) -> IntArray:
        """As :meth:`next_model`, with valid arrays; ``open_`` marks the models that may run next.

        Decisions about queries without an open model may return anything.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class PricedStrategy(Strategy):
    """A strategy that maximises ``quality - λ·cost``.

    Attributes:
        lam: λ ≥ 0 in quality per unit of cost; a float, or ``(M,)`` one for each decision.
        step_factors: λ of the j-th call is ``lam * step_factors[j]``, the last factor serving all later calls. One
            λ is right for a correct belief; factors correct for a misspecified one. Empty means all 1.
    """

    knob: ClassVar[str] = "lam"
    lam: float | FloatArray
    step_factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check λ and the limit."""
        super().__post_init__()
        lam = np.asarray(self.lam)
        if not ((lam >= 0) & (lam < np.inf)).all() or not all(0 <= x < np.inf for x in self.step_factors):
            raise ConfigurationError(
                "lam and step_factors must be finite numbers that are not negative: they price the cost of a call"
            )

    def _lam(self, ran: BoolArray, rows: IntArray) -> FloatArray:
        """``(M, 1)`` λ of each decision."""
        lam = np.asarray(self.lam, dtype=float)
        if self.step_factors:
            factors = np.asarray(self.step_factors, dtype=float)
            lam = lam * factors[np.minimum(ran.sum(axis=1), factors.size - 1)][rows]
        return (lam + np.zeros(rows.size))[:, None]


def in_order(order: tuple[int, ...] | None, models: int) -> IntArray:
    """The order as indices; None is the order in which the models are listed.

    Raises:
        ConfigurationError: if it names a model twice or one that does not exist.
    """
    if order is None:
        return np.arange(models)
    if len(set(order)) != len(order) or not order or not all(0 <= model < models for model in order):
        raise ConfigurationError(
            f"order {order} must name each model once, by its index from 0 to {models - 1}"
        )
    return np.asarray(order, dtype=np.intp)


def still_ahead(order: IntArray, allowed: BoolArray, ran: BoolArray) -> BoolArray:
    """``(N, K)`` those of the ``allowed`` models that are in ``order`` and come after the last one that has run."""
    place = np.full(ran.shape[1], -1)
    place[order] = np.arange(order.size)
    last = np.where(ran, place, -1).max(axis=1, keepdims=True)
    ahead: BoolArray = allowed & (place > last)
    return ahead
