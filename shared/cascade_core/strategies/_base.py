"""The one protocol that all strategies implement, offline (all queries at once) and online (one query).

A strategy is a pure function of arrays: belief, costs and what has run go in, the next model of each query comes
out, or -1 for *stop*. It keeps no state, draws no random numbers and does no I/O. Every strategy but the
threshold rules maximises ``quality - λ·cost``; λ is a field, and may be an array with one value a query, which is
how a whole frontier is computed in one sweep and how γ mixing is expressed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.errors import ArrayError

STOP = -1


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """Base of all strategies.

    Attributes:
        max_models: most models that one query may run; None for no limit.
    """

    name: ClassVar[str]
    max_models: int | None = None

    def next_model(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, allowed: BoolArray | None = None
    ) -> IntArray:
        """Next model of each query.

        Args:
            belief: what is believed about the N queries now.
            costs: ``(N, K)`` expected cost of running each model, in the policy's unit, > 0 or 0. What has
                already been spent is sunk and plays no part.
            ran: ``(N, K)`` whether each model has run.
            allowed: ``(N, K)`` models that may be run; None allows all. A model that failed, would break a
                limit or lacks a capability is not allowed.

        Returns:
            ``(N,)`` index of the model to run next, or -1 to stop. While nothing has run, a strategy always
            names a model if one is allowed.

        Raises:
            ArrayError: naming the argument, its shape and the shape expected.
        """
        shape = belief.mean.shape
        costs = np.asarray(costs, dtype=float)
        for argument, array in (("costs", costs), ("ran", ran), ("allowed", allowed)):
            if array is not None and array.shape != shape:
                raise ArrayError(f"{argument} has shape {array.shape}, expected that of belief.mean, {shape}")
        if not (np.isfinite(costs).all() and (costs >= 0).all()):
            raise ArrayError("costs must be finite and not negative")
        open_ = ~ran if allowed is None else ~ran & allowed
        if self.max_models is not None:
            open_ = open_ & (ran.sum(axis=1, keepdims=True) < self.max_models)
        chosen = np.full(shape[0], STOP, dtype=np.intp)
        rows = np.flatnonzero(open_.any(axis=1))
        if rows.size:
            chosen[rows] = self._next(belief, costs, ran, open_)[rows]
        return chosen

    @abstractmethod
    def _next(self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray) -> IntArray:
        """As :meth:`next_model`, with valid arrays; ``open_`` marks the models that may run next.

        Rows without an open model may return anything.
        """

    def answer(self, belief: Belief, ran: BoolArray) -> IntArray:
        """``(N,)`` the model whose answer is returned: the best post-hoc estimate among those that ran (recall)."""
        return np.where(ran, belief.mean, -np.inf).argmax(axis=1)
