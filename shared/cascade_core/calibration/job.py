"""The whole job in one call: from prompts, or from a table of answers, to a policy with its certificate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from cascade_core.calibration.asking import Ask
from cascade_core.calibration.certificate import Certificate, Terms, agreed_with, certify, check_confidence
from cascade_core.calibration.collection import Plan, Progress, acollect, answer_keys, plan, run_blocking
from cascade_core.calibration.fitting import FEWEST, Fit, Frontier, check_request, fit
from cascade_core.calibration.prompts import checked_prompts
from cascade_core.calibration.replay import complete, estimates_of, mark, sample
from cascade_core.calibration.scorers import Scorer
from cascade_core.calibration.scoring import as_scorer, check_scorer, score_table
from cascade_core.calibration.store import GIVEN, Store
from cascade_core.calibration.table import AnswerTable
from cascade_core.calibration.targets import Budget, Quality, RelativeQuality, Savings, Target
from cascade_core.checks import SelfConsistency, Verification
from cascade_core.errors import CalibrationError, ConfigurationError
from cascade_core.policy import Policy
from cascade_core.pricing import check_price_of_time, prices_of
from cascade_core.tuning import Curve, choose
from cascade_core.values import Price, Query

STORE = "calibration.sqlite"
"""File that answers are kept in where the user names none."""

_CHEAPER = (0.6, 0.7, 0.78, 0.85, 0.91, 0.96)
"""Costs of the careful versions for a budget, as parts of the tuned policy's, the surest first."""
_WORTH = 0.95
_BETTER = (1.0, 0.8, 0.6, 0.42, 0.27, 0.13)
"""Costs of those for a quality, as parts of the way, in logarithms, from the tuned policy's to the best quality's."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a calibration comes to.

    Attributes:
        policy: decides from now on; its certificate is in it.
        certificate: what it promises on new data.
        fit: how it was fitted, and what it does with the held-out prompts.
        table: all answers, scored.
        remarks: what the scorer had to say, such as a judge's disagreement with itself.
    """

    policy: Policy
    certificate: Certificate
    fit: Fit
    table: AnswerTable
    remarks: Mapping[str, float]

    @property
    def frontier(self) -> Frontier:
        """Cost and quality of every strategy and single model on the held-out prompts."""
        return self.fit.frontier


def calibrate(
    models: Mapping[str, Ask],
    prompts: Iterable[str | Query | Mapping[str, Any]],
    scorer: object,
    target: Target,
    *,
    store: Store | str | os.PathLike[str] = STORE,
    prices: Mapping[str, Price | None] | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    concurrency: int | Mapping[str, int] = 8,
    max_spend: float | None = None,
    progress: Callable[[Progress], None] | bool = False,
    unit: Literal["usd", "seconds"] = "usd",
    usd_per_second: float = 0.0,
    confidence: float = 0.95,
    guarantee: bool = True,
    check: SelfConsistency | Verification | None = None,
    checkers: Mapping[str, Ask] | None = None,
    **options: Any,
) -> Calibration:
    """Collect, score, fit and certify.

    Args:
        models: the models by name, each a function from a prompt to an answer, plain or async.
        prompts: texts, queries, :class:`~cascade_core.calibration.Prompt` or mappings.
        scorer: a scorer, its name, a framework's evaluator, or any function; see
            :func:`~cascade_core.calibration.as_scorer`.
        target: what the policy is to reach.
        store: where answers are kept, and found again by the next run.
        prices: prices by model name; list prices by name where there is none.
        parameters: each model's parameters, part of its answers' key in the store.
        concurrency: calls at a time, for each model or by name.
        max_spend: most US dollars that collecting may cost. What was collected by then is fitted to.
        progress: called after every call; True shows a bar.
        unit: what costs are counted in.
        usd_per_second: what a second of waiting is worth, where costs are in US dollars: a call costs its dollars
            plus this for every second. ``max_spend`` is about dollars that are paid and leaves it out.
        confidence: of the certificate.
        guarantee: as of :func:`calibrate_table`.
        check: how answers are checked by further calls (:mod:`cascade_core.checks`). What that costs is part of what
            the checked models' answers cost and counts against ``max_spend``; the policy has the check if it is worth
            it, as of :func:`~cascade_core.calibration.fit`.
        checkers: the models as a check calls them, by name: functions that send the text of a verification as it is,
            and that no cache answers for; None for ``models``.
        **options: of :func:`~cascade_core.calibration.fit`: ``strategy``, ``embedding``, ``own``, ``limits``,
            ``holdout``, ``seed``.

    Raises:
        ConfigurationError: the models, the target or an option cannot be meant, or a price is missing; nothing was
            called.
        CalibrationError: the prompts, models or scorer are unusable; what was collected stays in the store.
        InfeasibleTargetError: the target is beyond reach; says the best that can be had and at what price.
    """
    return run_blocking(
        acalibrate(
            models,
            prompts,
            scorer,
            target,
            store=store,
            prices=prices,
            parameters=parameters,
            concurrency=concurrency,
            max_spend=max_spend,
            progress=progress,
            unit=unit,
            usd_per_second=usd_per_second,
            confidence=confidence,
            guarantee=guarantee,
            check=check,
            checkers=checkers,
            **options,
        )
    )


async def acalibrate(
    models: Mapping[str, Ask],
    prompts: Iterable[str | Query | Mapping[str, Any]],
    scorer: object,
    target: Target,
    *,
    store: Store | str | os.PathLike[str] = STORE,
    prices: Mapping[str, Price | None] | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    concurrency: int | Mapping[str, int] = 8,
    max_spend: float | None = None,
    progress: Callable[[Progress], None] | bool = False,
    unit: Literal["usd", "seconds"] = "usd",
    usd_per_second: float = 0.0,
    confidence: float = 0.95,
    guarantee: bool = True,
    check: SelfConsistency | Verification | None = None,
    checkers: Mapping[str, Ask] | None = None,
    **options: Any,
) -> Calibration:
    """:func:`calibrate` for a running event loop."""
    scoring = as_scorer(scorer)
    queries = checked_prompts(prompts)
    _check_amounts(len(queries), target, unit, usd_per_second)
    own = {model: price for model, price in (prices or {}).items() if price is not None}
    known = prices_of(models, own)
    check_request(tuple(models), target, **options)
    check_scorer(scoring, models, queries)
    check_confidence(confidence)
    opened = store if isinstance(store, Store) else Store(store)
    try:
        if unit == "usd" and any(known[model] is None for model in models):
            _check_priced(plan(models, queries, opened, prices=known, parameters=parameters, check=check))
        collected = await acollect(
            models,
            queries,
            opened,
            prices=known,
            parameters=parameters,
            concurrency=concurrency,
            max_spend=max_spend,
            progress=progress,
            check=check,
            checkers=checkers,
        )
        names = answer_keys(models, parameters, check)
        table = opened.table(list(models), parameters=names, prompts=queries, prices=known, unit=unit)
        most = concurrency if isinstance(concurrency, int) else max(concurrency.values(), default=8)
        scored = await score_table(
            table, collected.prompts, scoring, store=opened, parameters=names, concurrency=most
        )
    finally:
        if opened is not store:
            opened.close()
    return calibrate_table(
        scored.with_time(usd_per_second),
        target,
        scorer=scoring.name,
        confidence=confidence,
        guarantee=guarantee,
        remarks=scoring.remarks(),
        prices=own,
        check=check,
        **options,
    )


def calibrate_table(
    table: AnswerTable,
    target: Target,
    *,
    scorer: Scorer | str = GIVEN,
    confidence: float = 0.95,
    guarantee: bool = True,
    remarks: Mapping[str, float] | None = None,
    **options: Any,
) -> Calibration:
    """Fit and certify on answers that are there already.

    Args:
        table: the answers, with cost and, unless a scorer is to find it, quality in [0, 1]. For costs with time in
            them, see :meth:`AnswerTable.with_time`.
        target: what the policy is to reach.
        scorer: a scorer, to score the answers with, such as ``Agreement("large")`` where nobody knows the right ones;
            or the name of what has scored them, for the certificate.
        confidence: of the certificate.
        guarantee: choose, among the tuned policy and more careful versions of it, the one that gains most while its
            *bound* reaches the target. Where none does, and without a guarantee, the tuned policy is taken, which
            reaches the target on average, and the certificate says what is certain.
        remarks: kept in the result and in the policy.
        **options: of :func:`~cascade_core.calibration.fit`, such as the ``check`` that the table's answers had.

    Raises:
        CalibrationError: fewer than 30 complete queries, or qualities outside [0, 1].
        InfeasibleTargetError: the target is beyond reach; says the best that can be had and at what price.

    Example:
        >>> from cascade_core.cli.sample import sample_table
        >>> calibration = calibrate_table(sample_table(400), RelativeQuality(0.9, of="large"))
        >>> calibration.certificate.reached
        True
    """
    if isinstance(scorer, Scorer):
        table = run_blocking(score_table(table, None, scorer))
        remarks, scorer = {**scorer.remarks(), **(remarks or {})}, scorer.name
    fitted = fit(table, target, **options)
    whole = complete(table if fitted.policy.check else table.unchecked(), fitted.policy.names)
    ids = set(fitted.held_out.ids)
    rows = np.array([n for n, key in enumerate(whole.ids) if key in ids])
    reference = _reference(target, fitted.held_out, agreed_with(scorer, table.models))
    policies = [fitted.policy]
    if guarantee:
        alone = float(np.delete(whole.alone[:, whole.models.index(reference)], rows).mean())
        policies = [*careful_versions(fitted.policy, fitted.curves, target, alone), fitted.policy]
    estimates = estimates_of(fitted.policy.estimator, whole)
    samples = [sample(policy, whole, rows, estimates) for policy in policies]
    terms = Terms(target, reference, scorer, table.unit, confidence, table.usd_per_second)
    chosen, certificate = certify(samples, terms)
    policy = replace(
        policies[chosen],
        certificate=certificate.model_dump(mode="json"),
        provenance={
            **policies[chosen].provenance,
            **({"remarks": dict(remarks)} if remarks else {}),
            "fitted_on": sorted(mark(key) for key in table.ids if key not in ids),
        },
    )
    return Calibration(policy, certificate, fitted, table, remarks or {})


def _check_amounts(prompts: int, target: Target, unit: str, usd_per_second: float) -> None:
    """Refuse numbers that would come to nothing once all is paid for."""
    if unit not in ("usd", "seconds"):
        raise ConfigurationError(f"unit is {unit!r}: expected 'usd' or 'seconds'")
    check_price_of_time(usd_per_second, unit)
    if prompts < FEWEST:
        raise CalibrationError(
            f"{prompts} different prompts: at least {FEWEST} are needed, and some hundred make a good policy"
        )
    if isinstance(target, Quality) and target.quality > 1:
        raise ConfigurationError(f"a quality of {target.quality:g}: scores are from 0 to 1, 0.9 is 90 %")


def _check_priced(planned: Plan) -> None:
    """Refuse to pay for answers whose costs nobody would know."""
    unpriced = [model for model, calls in planned.calls.items() if calls and planned.dollars[model] is None]
    if unpriced:
        raise ConfigurationError(
            f"the price of {unpriced[0]!r} is not known: pass prices={{{unpriced[0]!r}: Price(input=…, output=…)}}, "
            'in US dollars per million tokens and 0 for a free model, or unit="seconds" to count time'
        )


def careful_versions(policy: Policy, curves: Sequence[Curve], target: Target, alone: float) -> list[Policy]:
    """The policy tuned to more than the target asks for, the surest to reach it first.

    They are spaced by cost, because that is what being surer is paid in.

    Args:
        policy: the policy that reaches the target on average.
        curves: every strategy that it was chosen from, on the queries that it was tuned on.
        target: the target.
        alone: mean cost of the reference model on those queries. A version that costs as much is not worth trying.
    """
    spent, least = float(policy.provenance["expected_cost"]), min(float(curve.cost.min()) for curve in curves)
    if isinstance(target, (Budget, Savings)):
        costs = [max(spent * part, least) for part in _CHEAPER]
    else:
        best = max(curves, key=lambda curve: float(curve.quality.max()))
        most = max(min(float(best.cost[best.quality.argmax()]), _WORTH * alone), spent)
        costs = [spent * (most / spent) ** part if spent > 0 else most for part in _BETTER]
    versions = []
    for cost in costs:
        able = [curve for curve in curves if curve.cost.min() <= cost]
        tuned = choose(able, [cost]).at_budget(cost)
        expected = {"expected_cost": tuned.cost, "expected_quality": tuned.quality}
        versions.append(
            replace(
                policy,
                strategy=tuned.strategy,
                alternative=tuned.alternative,
                gamma=tuned.gamma,
                provenance={**policy.provenance, **expected},
            )
        )
    return versions


def _reference(target: Target, table: AnswerTable, agreed: str | None) -> str:
    """The model that ratios compare with: the target's, else that of the right answers, else that of the best."""
    if isinstance(target, (RelativeQuality, Savings)) and target.of is not None:
        return target.of
    if isinstance(target, Savings):
        return table.models[int(table.alone.mean(axis=0).argmax())]
    if agreed in table.models:
        return agreed
    return table.models[int(table.quality.mean(axis=0).argmax())]
