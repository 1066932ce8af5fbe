"""Look-ahead: run the model after whose answer, and the best that could follow it, the most is to be expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cascade_core._normal import loss
from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.strategies._base import STOP, PricedStrategy

_TINY = 1e-100
_ROUNDING = 1e-12

_MOST = 1 << 22
"""Most numbers held at once."""

_THREE = (np.array([-np.sqrt(3), 0.0, np.sqrt(3)]), np.array([1, 4, 1]) / 6)
"""News of an answer and their probabilities: Gauss-Hermite nodes of N(0, 1)."""

_TWO = (np.array([-1.0, 1.0]), np.array([0.5, 0.5]))
"""The same where whether answers agree is told apart as well."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LookAhead(PricedStrategy):
    """Look two calls ahead, at what the first may say of every model.

    The value of calling model ``i`` is the expectation, over what its answer may say, of the best in hand
    then, ``h``, or of one more call where that is worth more::

        V_i = E[max(h, max_j E[max(h, q_j)] - λ·ĉ_j)] - λ·ĉ_i

    Run the highest while it exceeds the best in hand. An answer is news twice: by itself (normal) and by agreeing
    or not with the best in hand (one or the other), and both move all models. So a second cheap model may be run to
    *check* the first, though its own answer would not be returned: what it is worth is that the dearest is called
    only where they differ, which looking one call ahead does not see. The first call is valued with the best check
    of it, too, so three calls ahead, by the news of agreement alone (of up to six models, for which a joint belief
    foretells it). One step further than the knowledge gradient
    (Frazier, Powell and Dayanik, *INFORMS J. Computing* 2009), in O(K²) for each of K models that may be called.

    The one to use where answers can be compared: numbers, choices, short texts. Where they cannot, it comes to no
    more than the index policy, which is quicker.
    """

    name: ClassVar[str] = "look_ahead"

    def _next(
        self, belief: Belief, costs: FloatArray, ran: BoolArray, open_: BoolArray, rows: IntArray
    ) -> IntArray:
        lam = self._lam(ran, rows)
        most = max(1, _MOST // (4 * ran.shape[1] ** (2 if ran.any() else 3)))
        if max(len(ran), rows.size) <= most:
            return self._some(belief, costs, ran, open_, rows, lam)
        choice = np.empty(rows.size, dtype=np.intp)
        order = np.argsort(rows, kind="stable")
        for start in range(0, rows.size, most):
            some = order[start : start + most]
            queries, row = np.unique(rows[some], return_inverse=True)
            choice[some] = self._some(
                belief.take(queries), costs[queries], ran[queries], open_[queries], row, lam[some]
            )
        return choice

    def _some(
        self,
        belief: Belief,
        costs: FloatArray,
        ran: BoolArray,
        open_: BoolArray,
        rows: IntArray,
        lam: FloatArray,
    ) -> IntArray:
        value = self._value(belief, costs, ran, open_, rows, lam)
        if belief.agree is not None and belief.agree.shape[1] > 1 and self.max_models != 1:
            value = np.maximum(value, self._value_of_pairs(belief, costs, open_, rows, lam))
        choice: IntArray = value.argmax(axis=1)
        now = np.where(ran, belief.mean, -np.inf).max(axis=1)[rows]
        return np.where(value[np.arange(choice.size), choice] > now + _ROUNDING, choice, STOP)

    def _value(
        self,
        belief: Belief,
        costs: FloatArray,
        ran: BoolArray,
        open_: BoolArray,
        rows: IntArray,
        lam: FloatArray,
    ) -> FloatArray:
        """``(M, K)`` V of each model; -inf for those that may not run."""
        chance, in_hand, gain = _after(belief, ran, open_)
        if self.max_models is not None:
            gain[ran.sum(axis=1) + 2 > self.max_models] = -np.inf
        price = lam * costs[rows]
        follow = np.maximum((gain[rows] - price[:, None, None, :]).max(axis=3), 0.0)
        value = (chance[rows] * (in_hand[rows] + follow)).sum(axis=2)
        value = np.maximum(value, _at_once(belief, ran)[rows]) - price
        return np.where(open_[rows], value, -np.inf)

    def _value_of_pairs(
        self, belief: Belief, costs: FloatArray, open_: BoolArray, rows: IntArray, lam: FloatArray
    ) -> FloatArray:
        """``(M, K)`` value of starting with each model and going on with the best check of its answer.

        As :meth:`_value` of the second call, on a belief in which the first model has run and said nothing yet.
        """
        assert belief.agree is not None
        assert belief.agree_step is not None
        queries, models = belief.mean.shape
        each = np.repeat(np.arange(queries), models)
        started = Belief(
            belief.mean[each],
            belief.step[each],
            belief.agree.reshape(-1, 1, models),
            belief.agree_step.reshape(-1, 1, models, models),
        )
        ran = np.tile(np.eye(models, dtype=bool), (queries, 1))
        row = (rows[:, None] * models + np.arange(models)).ravel()
        going_on = self._value(
            started, costs[each], ran, open_[each] & ~ran, row, np.repeat(lam, models, axis=0)
        )
        value = going_on.max(axis=1).reshape(-1, models) - lam * costs[rows]
        return np.where(open_[rows], value, -np.inf)


def _at_once(belief: Belief, ran: BoolArray) -> FloatArray:
    """``(N, K)`` what is expected to be in hand after one call and no more: exact, where few nodes miss the tails."""
    some: BoolArray = np.asarray(ran.any(axis=1, keepdims=True), dtype=bool)
    in_hand = np.where(some[:, 0], np.where(ran, belief.mean, -np.inf).max(axis=1), 0.0)[:, None]
    sd = np.maximum(belief.lead_sd(ran), _TINY)
    return np.where(some, in_hand + sd * loss((in_hand - belief.mean) / sd), belief.mean)


def _after(belief: Belief, ran: BoolArray, open_: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What may be after each model's answer, whatever λ is.

    Returns:
        ``(N, K, G)`` probability of each kind of news that the answer may bring, the best in hand then, and
        ``(N, K, G, K)`` what each further model would add to it, -inf for those that may not run.
    """
    queries, models = ran.shape
    node, weight = _THREE if belief.agree_step is None else _TWO
    moved = belief.mean[:, None, None, :] + belief.step[:, :, None, :] * node[:, None]
    chance = np.broadcast_to(weight, (queries, models, weight.size))
    if belief.agree is not None and belief.agree_step is not None and belief.agree.shape[1] == 1:
        yes, no = belief.agree[:, 0], 1 - belief.agree[:, 0]
        news = np.stack([np.sqrt(no / yes), -np.sqrt(yes / no)], axis=2)
        by_news = belief.agree_step[:, 0, :, None, :] * news[..., None]
        moved = (moved[:, :, :, None, :] + by_news[:, :, None, :, :]).reshape(queries, models, -1, models)
        both = np.stack([yes, no], axis=2)
        chance = (chance[..., None] * both[:, :, None, :]).reshape(queries, models, -1)
    itself = np.eye(models, dtype=bool)
    held = np.where((ran[:, None, :] | itself)[:, :, None, :], moved, -np.inf)
    best = held.argmax(axis=3)
    in_hand = np.take_along_axis(held, best[..., None], axis=3)[..., 0]
    # how far the further answer may pull ahead of the best then: its own step less what it moves of that
    carried = belief.step[np.arange(queries)[:, None, None], :, best]
    own = np.diagonal(belief.step, axis1=1, axis2=2)[:, None, None, :]
    sd = np.maximum(np.abs(own - carried), _TINY)
    gain = sd * loss((in_hand[..., None] - moved) / sd)
    further = (open_[:, None, :] & ~itself)[:, :, None, :]
    return chance, in_hand, np.where(further, gain, -np.inf)
