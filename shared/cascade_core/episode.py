"""One query on its way: a state machine that decides and never calls a model.

A driver alternates between asking and telling::

    episode = policy.start(query)
    while isinstance(step := episode.next(), Call):
        try:
            answer = ...                # the framework calls step.model
        except Exception as error:
            episode.fail(error)         # the episode re-plans without that model
        else:
            episode.observe(answer)
    ...                                 # step is a Stop: return the answer of step.model
    episode.record                      # what ran, why, what it cost

States and what they allow:

    ========  ============================  ==========================
    state     allowed                       leads to
    ========  ============================  ==========================
    deciding  ``next()``                    calling, or stopped
    calling   ``observe()``, ``fail()``     deciding
    stopped   ``next()`` (the same Stop),   stopped
              ``record``
    ========  ============================  ==========================

Rules that hold for every strategy:

- A model that failed is never asked again; an answer in hand is never lost.
- An answer that cannot be used (a structured answer that does not parse, or nothing at all) counts as a failure for
  planning, and is returned only if no other model has a better one.
- The first call is always made, however tight the limits; later ones only within them.
- A policy may have answers checked by further calls, which come as steps like any other (``Call.checks``). They are
  made only where the next decision is still open: after a usable answer to a call that was not final, by models that
  may be used for the query, and if the limits leave room for another model after them. A check that fails is
  missing, and nothing else. An answer that was checked before it is told (one from a table) is not checked again.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_core.checks import Checking
from cascade_core.errors import AllModelsFailedError, CascadeError
from cascade_core.strategies import STOP
from cascade_core.values import Answer, Call, CallRecord, DecisionRecord, Query, Stop, StopReason, Usage

if TYPE_CHECKING:
    from cascade_core.belief import Belief, BoolArray
    from cascade_core.policy import Policy


class Episode:
    """One query on its way through a policy. Made by :meth:`Policy.start`; not shared between threads."""

    def __init__(self, policy: Policy, query: Query, allowed: Collection[str]) -> None:
        self._policy = policy
        self._query = query
        self._names = policy.names
        self._strategy = policy.strategy_for(query)
        self._evidence = policy.estimator.start(query)
        self._costs = self._evidence.costs()
        self._first_costs = self._costs
        self._untried: BoolArray = np.array([[name in allowed for name in self._names]])
        self._usable: BoolArray = np.zeros((1, len(self._names)), dtype=bool)
        self._answered: list[int] = []
        self._unusable: list[int] = []
        self._failures: dict[str, BaseException] = {}
        self._calls: list[CallRecord] = []
        self._expected: dict[str, Any] = {}
        self._calling: int | None = None
        self._checking: Checking | None = None
        self._final = False
        self._known: Belief | None = None
        self._released: int | None = None
        self._spent = 0.0
        self._stop: Stop | None = None

    def next(self) -> Call | Stop:
        """The next step.

        Raises:
            AllModelsFailedError: if no model is left to call and none has answered.
            CascadeError: if the outcome of the last call was not told yet.
        """
        if self._stop is not None:
            return self._stop
        if self._calling is not None:
            raise CascadeError(
                f"the outcome of the call to {self._names[self._calling]!r} is not known yet: "
                "call observe(answer) or fail(error) before next()"
            )
        if self._checking is not None and (check := self._checking.call) is not None:
            self._calling = self._names.index(check.model)
            return check
        if self._released is not None:
            return self._end(self._released, "released")
        belief = self._belief()
        self._costs = self._evidence.costs()
        open_ = self._open()
        model = STOP if self._final else self._strategy.decide(belief, self._costs, self._usable, open_)
        if model == STOP:
            return self._end(*self._best(belief, open_))
        self._calling = model
        self._expected = {
            "model": self._names[model],
            "expected_quality": float(belief.mean[0, model]),
            "expected_cost": float(self._costs[0, model]) if self._policy.priced else None,
        }
        self._final = self._is_final(model)
        return _call(self._names[model], self._final)

    def observe(self, answer: Answer, *, released: bool = False) -> None:
        """Tell what the model called last returned.

        Args:
            answer: its answer.
            released: the answer has been shown to the user already (a final call streamed live), so the
                episode must stop with it.
        """
        model = self._take_call("observe")
        if self._checking is not None:
            self._observe_check(self._checking, model, answer)
            return
        self._untried[0, model] = False
        cost = self._policy.cost_of(model, answer)
        if cost is None and self._policy.priced:
            cost = float(self._costs[0, model])  # the provider did not say: book what was expected
        self._spent += cost or 0.0
        quality = None
        usable = released or answer.usable
        if usable:
            self._usable[0, model] = True
            self._answered.append(model)
            if self._policy.check is not None and not self._final and not answer.check_calls:
                self._checking = self._check_of(model, answer, cost)
            if self._checking is None:
                quality = self._hear(model, answer)
        else:
            self._unusable.append(model)
            self._final = False
        self._calls.append(
            CallRecord(
                **self._expected,
                quality=quality,
                check=answer.check,
                cost=cost,
                billed=self._policy.billed(model, answer) if self._policy.usd_per_second else None,
                usage=answer.usage,
                latency=answer.latency,
                error=None if usable else "unusable answer",
            )
        )
        for call in answer.check_calls:
            if self._policy.check is not None and call.model in self._names:
                reply = Answer(text="", usage=call.usage, latency=call.latency)
                self._book_check(self._names.index(call.model), self._names[model], reply)
        if released:
            self._released = model

    def fail(self, error: BaseException) -> None:
        """Tell that the model called last raised ``error``. The episode goes on without that model."""
        model = self._take_call("fail")
        if self._checking is not None:
            self._checking.fail()
            failed = CallRecord(
                model=self._names[model], checks=self._checking.model, error=type(error).__name__
            )
            self._calls.append(failed)
            self._conclude(self._checking)
            return
        self._failures[self._names[model]] = error
        self._untried[0, model] = False
        self._final = False
        # The record keeps the error's type only: a provider's message may quote the prompt or a key.
        self._calls.append(CallRecord(**self._expected, error=type(error).__name__))

    @property
    def record(self) -> DecisionRecord:
        """What ran, why, and what it cost.

        Raises:
            CascadeError: if the episode has not stopped yet.
        """
        if self._stop is None:
            raise CascadeError(
                "the episode has not stopped yet: its record is complete after next() returned a Stop"
            )
        costs = self._first_costs[0]
        if self._policy.check is not None:  # a cheap model is not the dearest for being checked
            checked = [bool(self._policy.check.models(name)) for name in self._names]
            costs = np.where(checked, -np.inf, costs)
        dearest = int(costs.argmax())
        name = self._names[dearest]
        billed = [
            call.cost
            for call in self._calls
            if call.model == name and call.cost is not None and call.checks is None
        ]
        expected = float(self._first_costs[0, dearest]) if self._policy.priced else None
        return DecisionRecord(
            query=self._query.key,
            strategy=self._strategy.name,
            model=self._stop.model,
            reason=self._stop.reason,
            calls=tuple(self._calls),
            cost=self._spent,
            unit=self._policy.unit,
            usd_per_second=self._policy.usd_per_second or None,
            reference_model=name,
            reference_cost=billed[0] if billed else expected,
            calibrated=self._policy.estimator.calibrated,
        )

    # -- checking ------------------------------------------------------------------------------------------------

    def _check_of(self, model: int, answer: Answer, cost: float | None) -> Checking | None:
        """The check of an answer that has just come, if it has one that may be made."""
        policy = self._policy
        assert policy.check is not None
        checking = Checking(policy.check, self._names[model], self._query, answer)
        asked = {self._names.index(call.model) for call in checking.calls}
        if not asked or not all((self._untried | self._usable)[0, other] for other in asked):
            return None
        limits = policy.limits
        calls = len(self._calls) + 1 + len(checking.calls)
        if limits.max_calls is not None and calls >= limits.max_calls:
            return None
        if limits.max_cost is not None and policy.priced:
            expected = sum(self._expected_check(call, cost) for call in checking.calls)
            within = self._spent + expected + self._costs <= limits.max_cost
            if not (within & self._untried).any():
                return None
        return checking

    def _expected_check(self, call: Call, cost: float | None) -> float:
        """What a check's call will cost: as much as the answer, or what its own prompt and a word in reply do."""
        price = self._policy.models[self._names.index(call.model)].price
        if call.prompt is None or price is None or self._policy.unit == "seconds":
            return cost or 0.0
        return price.dollars(Usage.estimated(len(call.prompt), "yes"))

    def _observe_check(self, checking: Checking, model: int, reply: Answer) -> None:
        self._book_check(model, checking.model, checking.take(reply))
        if checking.call is None:
            self._conclude(checking)

    def _book_check(self, model: int, checks: str, reply: Answer) -> None:
        cost = self._policy.cost_of(model, reply)
        self._spent += cost or 0.0
        self._calls.append(
            CallRecord(
                model=self._names[model],
                checks=checks,
                cost=cost,
                billed=self._policy.billed(model, reply) if self._policy.usd_per_second else None,
                usage=reply.usage,
                latency=reply.latency,
            )
        )

    def _conclude(self, checking: Checking) -> None:
        """Hear the answer with what its check came to, and put both on the record of the call that brought it."""
        self._checking = None
        answer = checking.checked
        quality = self._hear(self._names.index(checking.model), answer)
        place = next(n for n, call in enumerate(self._calls) if _answered_by(call, checking.model))
        told = {"quality": quality, "check": answer.check}
        self._calls[place] = self._calls[place].model_copy(update=told)

    # -- deciding ------------------------------------------------------------------------------------------------

    def _hear(self, model: int, answer: Answer) -> float:
        """Take an answer into the evidence; the quality that it is then believed to have."""
        self._evidence.observe(model, answer)
        self._known = None
        return float(self._belief().mean[0, model])

    def _belief(self) -> Belief:
        """What is believed now: it changes with what is observed and with nothing else."""
        if self._known is None:
            self._known = self._evidence.belief()
        return self._known

    def _open(self, called: int | None = None) -> BoolArray:
        """Models that may be called now, or after ``called`` has been."""
        open_, calls, spent = self._untried, len(self._calls), self._spent
        if called is not None:
            open_ = open_.copy()
            open_[0, called] = False
            calls += 1
            spent += float(self._costs[0, called])
        elif not self._answered:
            return open_
        limits = self._policy.limits
        if limits.max_calls is not None and calls >= limits.max_calls:
            return np.zeros_like(open_)
        if limits.max_cost is not None and self._policy.priced:
            return open_ & (spent + self._costs <= limits.max_cost)
        return open_

    def _is_final(self, model: int) -> bool:
        most = self._strategy.max_models
        if most is not None and len(self._answered) + 1 >= most:
            return True
        after = self._open(called=model)
        if not np.count_nonzero(after):
            return True
        foreseen = self._evidence.foreseen(model)
        return self._strategy.is_final(self._costs, self._usable, model, after, foreseen)

    # -- stopping ------------------------------------------------------------------------------------------------

    def _best(self, belief: Belief, open_: BoolArray) -> tuple[int, StopReason]:
        if self._answered:
            model = self._answered[0]
            if len(self._answered) > 1:
                model = int(self._strategy.answer(belief, self._usable)[0])
            if np.count_nonzero(open_):
                return model, "good_enough"
            last = next(call for call in reversed(self._calls) if call.checks is None)
            if last.error is not None:
                return model, "failed"
            return model, "limit" if self._untried.any() else "exhausted"
        if self._unusable:
            return self._unusable[-1], "failed"
        if not self._failures:
            raise CascadeError(
                "no model may be called for this query: every model is excluded. Allow at least one of "
                f"{list(self._names)}"
            )
        raise AllModelsFailedError(self._failures)

    def _end(self, model: int, reason: StopReason) -> Stop:
        self._stop = _stop(self._names[model], reason)
        return self._stop

    def _take_call(self, method: str) -> int:
        if self._calling is None:
            raise CascadeError(
                f"{method}() without an outstanding call: next() must have returned a Call first"
            )
        model, self._calling = self._calling, None
        return model


def _answered_by(call: CallRecord, model: str) -> bool:
    return call.model == model and call.checks is None and call.error is None


# There are few different steps, and they never change: each is made once.


@lru_cache(maxsize=256)
def _call(model: str, final: bool) -> Call:
    return Call(model=model, final=final)


@lru_cache(maxsize=256)
def _stop(model: str, reason: StopReason) -> Stop:
    return Stop(model=model, reason=reason)
