"""How often certificates are violated, and how tight they are.

For each of several fits, a policy and its more careful versions are fitted to some queries of a table. The other
queries are the population, whose mean is known exactly: from it a held-out sample is drawn for each split, with
replacement, as fresh traffic would be; the certificate chooses and bounds on the sample alone, and is violated where
the population's mean is on the wrong side.

Rows: ``number`` is what the bound is on; ``guarantee`` whether the certificate chose among careful versions so that
its bound reaches the target. ``violation_rate`` counts bounds that are wrong, each allowed half of
``1 - confidence``; ``joint_violation_rate`` counts certificates of which the quality or the cost bound is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _answers import load
from _tables import DATA, parser, report

from cascade_core.calibration import AnswerTable, Budget, RelativeQuality, Savings, Target
from cascade_core.calibration.certificate import Sample, Terms, certify, in_words
from cascade_core.calibration.fitting import resolve
from cascade_core.calibration.job import careful_versions
from cascade_core.calibration.replay import estimates_of, sample
from cascade_core.errors import InfeasibleTargetError
from cascade_core.estimation.fitting import fit_estimator
from cascade_core.policy import ModelSpec, Policy
from cascade_core.tuning import candidates, trace, tune_curves

TABLES = (
    "routerbench/routerbench_0shot_3tasks.parquet",
    "routellm/mmlu_gpt4_mixtral.parquet",
    "routellm/gsm8k_gpt4_mixtral.parquet",
    "zeroeval_gsm8k/gsm8k_9models.parquet",
    *(
        f"reference_parity/K{models}_{noise}.npz"
        for models in (3, 5, 11)
        for noise in ("low", "medium", "high")
    ),
)
MOST_QUERIES = 4000
NUMBERS = {"relative_quality": "low", "quality": "low", "relative_cost": "high", "cost": "high"}


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument(
        "--table", action="append", help="an answer table; by default all of the data folder"
    )
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--models", help="comma-separated names; by default all of the table")
    options.add_argument("--splits", type=int, default=300)
    options.add_argument("--fits", type=int, default=3, help="fits that the splits are shared among")
    options.add_argument("--fitted", type=int, default=300, help="queries that a policy is fitted to")
    options.add_argument("--held-out", type=int, default=200, help="queries in a certificate's sample")
    options.add_argument("--confidence", type=float, default=0.95)
    given = options.parse_args()
    for table in given.table or [given.data / name for name in TABLES if (given.data / name).exists()]:
        answers = load(table, given.models.split(",") if given.models else None)
        if len(answers) > MOST_QUERIES:
            answers = answers.subset(np.random.default_rng(0).permutation(len(answers))[:MOST_QUERIES])
        for row in coverage(answers, given):
            report({"table": f"{Path(table).parent.name}/{Path(table).name}", **row}, given.json)


def coverage(table: AnswerTable, given: Any) -> list[dict[str, Any]]:
    """Rows of one table. Scores on another scale than 0 to 1 are brought there."""
    low, high = float(table.quality.min()), float(table.quality.max())
    if low < 0 or high > 1:
        table = table.with_quality((table.quality - low) / (high - low))
    table = table.select([table.models[k] for k in table.cost.mean(axis=0).argsort(kind="stable")])
    best = table.models[int(table.quality.mean(axis=0).argmax())]
    middle = float(np.mean([table.cost.mean(axis=0).min(), table.cost.mean(axis=0).max()]))
    targets: tuple[Target, ...] = (RelativeQuality(0.95, best), Savings(0.5), Budget(middle))
    seen: dict[tuple[Target, bool], list[tuple[Any, dict[str, float]]]] = {}
    for number in range(given.fits):
        draw = np.random.default_rng(number)
        fitted = min(given.fitted, len(table) // 2)
        order = draw.permutation(len(table))
        train = table.subset(order[:fitted])
        estimation = fit_estimator(train, seed=number)
        estimates = estimates_of(estimation.estimator, table)
        known = (estimation.estimates, train.quality, train.cost)
        strategies = candidates(agreement=estimation.estimator.compares)
        curves = [trace(strategy, *known) for strategy in strategies]
        for target in targets:
            budget, quality = resolve(target, train)
            try:
                tuned = tune_curves(curves, *known, budget=budget, target=quality)
            except InfeasibleTargetError:
                continue
            policy = Policy(
                models=tuple(ModelSpec(name=name) for name in table.models),
                estimator=estimation.estimator,
                strategy=tuned.strategy,
                alternative=tuned.alternative,
                gamma=tuned.gamma,
                provenance={"expected_cost": tuned.cost, "expected_quality": tuned.quality},
            )
            reference = best if isinstance(target, RelativeQuality) else table.models[-1]
            terms = Terms(target, reference, "given", confidence=given.confidence)
            alone = float(train.cost[:, train.models.index(reference)].mean())
            for guarantee in (False, True):
                versions = (
                    [*careful_versions(policy, curves, target, alone), policy] if guarantee else [policy]
                )
                whole = [sample(version, table, order, estimates) for version in versions]
                for _ in range(given.splits // given.fits):
                    rows = draw.integers(fitted, len(table), size=given.held_out)
                    chosen, certificate = certify([_drawn(one, rows, fitted) for one in whole], terms)
                    truth = _truth(whole[chosen], reference, fitted)
                    seen.setdefault((target, guarantee), []).append((certificate, truth))
    return [
        row
        for (target, guarantee), results in seen.items()
        for row in _summary(target, guarantee, results, given, _named(target, best, table.models[-1]))
    ]


def _summary(
    target: Target, guarantee: bool, results: list[tuple[Any, dict[str, float]]], given: Any, name: str
) -> list[dict[str, Any]]:
    wrong, rows = {}, []
    for number, side in NUMBERS.items():
        bound = np.array([getattr(certificate, number).bound for certificate, _ in results])
        truth = np.array([truth[number] for _, truth in results])
        slack = 1e-9 * np.abs(truth)
        wrong[number] = bound > truth + slack if side == "low" else bound < truth - slack
        rows.append(
            {
                "target": name,
                "guarantee": guarantee,
                "number": number,
                "confidence": given.confidence,
                "violation_rate": float(wrong[number].mean()),
                "mean_bound": float(bound.mean()),
                "mean_truth": float(truth.mean()),
                "splits": len(results),
                "held_out": given.held_out,
            }
        )
    joint = float((wrong["relative_quality"] | wrong["relative_cost"]).mean())
    missed = float(np.mean([certificate.reached is False for certificate, _ in results]))
    return [{**row, "joint_violation_rate": joint, "target_not_certified": missed} for row in rows]


def _drawn(whole: Sample, rows: np.ndarray, fitted: int) -> Sample:
    """A held-out sample; the most that a query cost is known from it and from the queries fitted to."""
    most = max(whole.cost[:fitted].max(), whole.cost[rows].max())
    return Sample(
        whole.quality[rows],
        whole.cost[rows],
        whole.single_quality[rows],
        whole.single_cost[rows],
        whole.models,
        float(most),
    )


def _truth(whole: Sample, reference: str, fitted: int) -> dict[str, float]:
    """Means over the population: all queries that were not fitted to."""
    k = whole.models.index(reference)
    quality, cost = float(whole.quality[fitted:].mean()), float(whole.cost[fitted:].mean())
    return {
        "quality": quality,
        "relative_quality": quality / float(whole.single_quality[fitted:, k].mean()),
        "cost": cost,
        "relative_cost": cost / float(whole.single_cost[fitted:, k].mean()),
    }


def _named(target: Target, best: str, dearest: str) -> str:
    return in_words(target, best if isinstance(target, RelativeQuality) else dearest)


if __name__ == "__main__":
    main()
