"""From an answer table and a target to a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import numpy as np

import cascade_core
from cascade_core.belief import FloatArray, IntArray
from cascade_core.calibration.replay import replayed
from cascade_core.calibration.table import AnswerTable
from cascade_core.calibration.targets import Budget, Quality, RelativeQuality, Savings, Target
from cascade_core.checks import SelfConsistency, Verification
from cascade_core.errors import CalibrationError, ConfigurationError, InfeasibleTargetError, PolicyError
from cascade_core.estimation.fitted import FittedEstimator
from cascade_core.estimation.fitting import FEWEST as FEWEST_FITTED
from cascade_core.estimation.fitting import fit_estimator
from cascade_core.estimation.joining import add_model
from cascade_core.estimation.joint import SignalEstimates
from cascade_core.estimation.own import OwnSignals
from cascade_core.estimation.reliability import Reliability, reliability
from cascade_core.policy import Limits, ModelSpec, Policy, check_names
from cascade_core.pricing import prices_of
from cascade_core.simulate import Outcome
from cascade_core.strategies import STRATEGIES, Strategy
from cascade_core.tuning import Curve, Tuned, candidates, choose, trace, tune_curves
from cascade_core.values import Price

FEWEST = 30
"""Fewest queries with a score and a cost for every model."""


@dataclass(frozen=True, eq=False)
class Line:
    """Cost and quality of one strategy on the held-out queries, over its knob.

    Attributes:
        strategy: its name; of a single model, ``"single"``.
        cost: ``(L,)`` mean cost per query.
        quality: ``(L,)`` mean quality.
    """

    strategy: str
    cost: FloatArray
    quality: FloatArray


@dataclass(frozen=True, eq=False)
class Frontier:
    """What can be had at what price, on queries that took no part in the fit.

    Attributes:
        lines: one for each strategy.
        models: names of the single models.
        model_cost, model_quality: ``(K,)`` mean cost and quality of each model alone.
        cost, quality: of the policy that was chosen.
    """

    lines: tuple[Line, ...]
    models: tuple[str, ...]
    model_cost: FloatArray
    model_quality: FloatArray
    cost: float
    quality: float


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """How good the estimates are on the held-out queries.

    Attributes:
        ante: before any model has run, by model.
        post: after that model's own answer, by model.
    """

    ante: Mapping[str, Reliability]
    post: Mapping[str, Reliability]


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted policy and what is known about it.

    Attributes:
        policy: the policy, not yet certified.
        tuned: its strategy, with mean cost and quality on the queries it was tuned on (cross-fitted).
        curves: every strategy it was chosen from at every value of its knob, on the same queries.
        held_out: the queries that took no part in fitting, tuning or choosing, models in the policy's order.
        rows: their positions in the table that was fitted.
        outcome: what the policy does with them, ``(N,)`` and ``(N, K)``, mixture drawn as in service.
        frontier: every strategy and single model on them.
        diagnostics: the estimates' reliability on them.
    """

    policy: Policy
    tuned: Tuned
    curves: tuple[Curve, ...]
    held_out: AnswerTable
    rows: IntArray
    outcome: Outcome
    frontier: Frontier
    diagnostics: Diagnostics


def fit(
    table: AnswerTable,
    target: Target,
    *,
    strategy: str | Strategy = "auto",
    embedding: object = None,
    own: OwnSignals | None = None,
    prices: Mapping[str, Price] | None = None,
    limits: Limits | None = None,
    check: SelfConsistency | Verification | None = None,
    holdout: float = 0.3,
    seed: int = 0,
) -> Fit:
    """Fit estimators, choose and tune a strategy, and try the policy on queries held out of all that.

    Args:
        table: answers with quality and cost. Queries that lack one for any model are left out. The policy counts
            costs as the table does, with time where :meth:`AnswerTable.with_time` gave it a price.
        target: what the policy is to reach, on average.
        strategy: its name, a strategy, or ``"auto"`` to choose by cross-validation.
        embedding: embeds queries, and answers where agreement of their meanings tells most: a LangChain
            ``Embeddings``, a LlamaIndex ``BaseEmbedding`` or a function. A policy that was fitted with one must be
            given it again after loading, see :meth:`Policy.connect`.
        own: an estimator of the user's own, likewise.
        prices: price by model name, to book calls; list prices by name where there is none.
        limits: hard limits on one query, kept in the policy.
        check: how the table's answers were checked (:mod:`cascade_core.checks`). Two policies are fitted, with it and
            without, and the check is kept only if it is worth what it costs: if the policy is better at equal cost by
            more than a standard error, on queries that the choice between them had not seen. Costs with a check are
            an upper bound, as an answer is checked here always and in service only if that may change a decision.
        holdout: share of the queries that is held out.
        seed: of the split and the folds; the same table and seed give the same policy.

    Raises:
        CalibrationError: fewer than 30 queries are complete, or a check is given and no answer was checked.
        ConfigurationError: an unknown strategy, or a target or check that names an unknown model.
        InfeasibleTargetError: no strategy reaches the target; says the best that can be had and at what price.
    """
    options: dict[str, Any] = {
        "strategy": strategy,
        "embedding": embedding,
        "own": own,
        "prices": prices,
        "limits": limits,
        "holdout": holdout,
        "seed": seed,
    }
    without = _fit(table.unchecked(), target, None, **options)
    if check is None:
        return without
    check.fit_for(table.models)
    if not table.checked:
        raise CalibrationError(
            f"no answer of {list(check.of)} was checked: collect answers with the same check, or fit without it"
        )
    with suppress(InfeasibleTargetError):  # a budget may be too small for checks
        checked = _fit(table, target, check, **options)
        pair = [_curve(without), _curve(checked)]
        if choose(pair, [without.tuned.cost, checked.tuned.cost]) is pair[1]:
            return _noting(checked, "kept")
    return _noting(without, "left out, as it was not worth what it costs")


def _curve(fitted: Fit) -> Curve:
    """What the strategy that was chosen does at every value of its knob."""
    return next(curve for curve in fitted.curves if curve.strategy.name == fitted.tuned.strategy.name)


def _noting(fitted: Fit, check: str) -> Fit:
    policy = fitted.policy
    return replace(fitted, policy=replace(policy, provenance={**policy.provenance, "check": check}))


def _fit(
    table: AnswerTable,
    target: Target,
    check: SelfConsistency | Verification | None,
    *,
    strategy: str | Strategy,
    embedding: object,
    own: OwnSignals | None,
    prices: Mapping[str, Price] | None,
    limits: Limits | None,
    holdout: float,
    seed: int,
) -> Fit:
    check_request(table.models, target, strategy=strategy, holdout=holdout)
    complete = np.flatnonzero(np.isfinite(table.quality).all(axis=1) & np.isfinite(table.cost).all(axis=1))
    if complete.size < FEWEST:
        raise CalibrationError(
            f"{complete.size} of {len(table)} queries have a quality and a cost for every model; at least {FEWEST} "
            "are needed, and some hundred make a good policy. Score more answers, or give prices"
            + (", and the seconds that calls took" if table.usd_per_second else "")
        )
    by_cost = np.argsort(table.cost[complete].mean(axis=0), kind="stable")
    ordered = table.select([table.models[model] for model in by_cost])
    shuffled = np.random.default_rng(seed).permutation(complete)
    cut = max(round(holdout * complete.size), 1)
    held_rows, fit_rows = np.sort(shuffled[:cut]), np.sort(shuffled[cut:])
    if fit_rows.size < FEWEST_FITTED:
        raise CalibrationError(
            f"a holdout of {holdout:g} leaves {fit_rows.size} of {complete.size} queries to fit to: hold out less, "
            f"so that {FEWEST_FITTED} are left, or score more answers"
        )
    fitted, held_out = ordered.subset(fit_rows), ordered.subset(held_rows)

    estimation = fit_estimator(fitted, embedding=embedding, own=own, seed=seed)
    budget, quality = resolve(target, fitted)
    answers = (estimation.estimates, fitted.quality, fitted.cost)
    strategies = _strategies(strategy, agreement=estimation.estimator.compares)
    curves = tuple(trace(each, *answers) for each in strategies)
    tuned = tune_curves(curves, *answers, budget=budget, target=quality)
    known_prices = prices_of(ordered.models, prices)
    policy = Policy(
        models=tuple(ModelSpec(name=name, price=known_prices[name]) for name in ordered.models),
        estimator=estimation.estimator,
        strategy=tuned.strategy,
        alternative=tuned.alternative,
        gamma=tuned.gamma,
        unit=table.unit,
        usd_per_second=table.usd_per_second,
        limits=limits or Limits(),
        check=check,
        provenance=_provenance(table, target, fitted, held_out, tuned, seed),
    )
    estimates = estimation.estimator.estimates(held_out)
    outcome, _, _ = replayed(policy, held_out, estimates)
    return Fit(
        policy=policy,
        tuned=tuned,
        curves=curves,
        held_out=held_out,
        rows=held_rows,
        outcome=outcome,
        frontier=_frontier(estimates, held_out, outcome, candidates(agreement=policy.estimator.compares)),
        diagnostics=_diagnostics(estimates, held_out),
    )


def check_request(models: Sequence[str], target: Target, **options: Any) -> None:
    """Refuse what :func:`fit` would refuse whatever the answers are, before anybody pays for them.

    Args:
        models: names of the models.
        target: what the policy is to reach.
        **options: of :func:`fit`.

    Raises:
        ConfigurationError: the target, an option or the models cannot be meant.
    """
    check_names(models)
    if not isinstance(target, Target):
        raise ConfigurationError(
            f"target is {target!r}: expected Budget, Quality, RelativeQuality or Savings, such as Budget(0.002)"
        )
    of = target.of if isinstance(target, (RelativeQuality, Savings)) else None
    if of is not None and of not in models:
        raise ConfigurationError(f"the target names the model {of!r}, but the models are {list(models)}")
    known = [name for name, each in signature(fit).parameters.items() if each.kind is each.KEYWORD_ONLY]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ConfigurationError(f"there is no option {unknown[0]!r}: expected some of {known}")
    holdout = options.get("holdout", 0.3)
    if not 0 < holdout < 1:
        raise ConfigurationError(f"holdout is {holdout}, expected a share between 0 and 1")
    _strategies(options.get("strategy", "auto"), agreement=True)


def join(policy: Policy, table: AnswerTable, *, price: Price | None = None) -> Policy:
    """The policy with a new model, from a few dozen of its answers; the other models' estimates stay as they are.

    The strategy and what a unit of cost is worth stay, too: fit again once there are some hundred answers.

    Args:
        policy: a fitted policy.
        table: at least 12 queries that the new model, the table's only one, has answered.
        price: the new model's price; its list price by name where there is none.

    Raises:
        CalibrationError: the answers do not suffice, or the model is known already.
        PolicyError: the policy was not fitted to data, or runs its models in a fixed order that has no place for it.
    """
    if not isinstance(policy.estimator, FittedEstimator):
        raise PolicyError("this policy was not fitted to data: fit one to answers of all models")
    strategies = [policy.strategy, policy.alternative]
    if any(getattr(one, "order", "free") != "free" for one in strategies if one is not None):
        raise PolicyError(
            f"the strategy {policy.strategy.name!r} runs the models in a fixed order, in which the new one has no "
            "place: fit a policy to answers of all models"
        )
    estimator = add_model(policy.estimator, table.with_time(policy.usd_per_second))
    (name,) = table.models
    spec = ModelSpec(name=name, price=prices_of([name], None if price is None else {name: price})[name])
    return replace(policy, models=(*policy.models, spec), estimator=estimator, certificate=None)


def resolve(target: Target, table: AnswerTable) -> tuple[float | None, float | None]:
    """A target as a budget or a mean quality on this table; the other is None.

    The target has passed :func:`check_request`.
    """
    if isinstance(target, Budget):
        return target.cost, None
    if isinstance(target, Quality):
        return None, target.quality
    if isinstance(target, RelativeQuality):
        quality = table.quality.mean(axis=0)
        best = int(quality.argmax()) if target.of is None else table.models.index(target.of)
        return None, target.ratio * float(quality[best])
    cost = table.alone.mean(axis=0)
    dearest = int(cost.argmax()) if target.of is None else table.models.index(target.of)
    return (1 - target.share) * float(cost[dearest]), None


def _strategies(strategy: str | Strategy, *, agreement: bool) -> list[Strategy]:
    if isinstance(strategy, Strategy):
        return [strategy]
    if strategy == "auto":
        return list(candidates(agreement=agreement))
    named = {candidate.name: candidate for candidate in candidates(agreement=True)}
    if strategy not in named:
        hint = " as an object, not by name" if strategy in STRATEGIES else ""
        raise ConfigurationError(
            f"unknown strategy {strategy!r}: expected 'auto', one of {sorted(named)}, or a Strategy{hint}"
        )
    return [named[strategy]]


def _provenance(
    table: AnswerTable, target: Target, fitted: AnswerTable, held_out: AnswerTable, tuned: Tuned, seed: int
) -> dict[str, Any]:
    return {
        "version": cascade_core.__version__,
        "target": f"{target}",
        "queries": len(table),
        "queries_fitted": len(fitted),
        "queries_held_out": len(held_out),
        "seed": seed,
        "expected_cost": tuned.cost,
        "expected_quality": tuned.quality,
    }


def _frontier(
    estimates: SignalEstimates, table: AnswerTable, outcome: Outcome, strategies: Sequence[Strategy]
) -> Frontier:
    lines = []
    for strategy in strategies:
        curve = trace(strategy, estimates, table.quality, table.cost)
        lines.append(Line(strategy.name, curve.cost, curve.quality))
    return Frontier(
        lines=tuple(lines),
        models=table.models,
        model_cost=table.alone.mean(axis=0),
        model_quality=table.quality.mean(axis=0),
        cost=float(outcome.cost.mean()),
        quality=float(outcome.quality.mean()),
    )


def _diagnostics(estimates: SignalEstimates, table: AnswerTable) -> Diagnostics:
    queries = np.arange(len(table))
    before = estimates(queries, np.zeros(table.quality.shape, dtype=bool))[0].mean
    ante, post = {}, {}
    for k, name in enumerate(table.models):
        ran = np.zeros(table.quality.shape, dtype=bool)
        ran[:, k] = True
        after = estimates(queries, ran)[0].mean[:, k]
        ante[name] = reliability(before[:, k], table.quality[:, k])
        post[name] = reliability(after, table.quality[:, k])
    return Diagnostics(ante, post)
