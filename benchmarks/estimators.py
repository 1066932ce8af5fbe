"""What fitted estimators are worth on any table of answers: each strategy's frontier, the estimates' reliability.

For each seed the queries are split in two. Estimators are fitted to the first part (out of fold for whatever is
fitted on top), strategies are traced over their knob on the second. ``auto`` is chosen on the first part alone.

    auc             area under the quality-cost curve between the cheapest and the dearest model, × 100
    q25, q50, q75   quality at that share of the dearest model's cost, × 100
    cost95, cost98  cost at that share of the dearest model's quality, relative to its cost; NaN if never reached
    ece, brier_skill, auroc   of the ex-ante and post-hoc estimates (post: given the model's own answer)

With ``--claims`` it prints instead how much of the gap between two models is recovered (``_gap.py``), what fitted
policies make of ladders with a plain rule (``_ladders.py``), and what predicting takes.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from _answers import load
from _gap import gaps
from _ladders import ladders
from _tables import DATA, parser, report

from cascade_core._json import encode
from cascade_core.calibration import AnswerTable
from cascade_core.estimation import Estimation, fit_estimator
from cascade_core.estimation.reliability import reliability
from cascade_core.evaluation import area, hull
from cascade_core.tuning import Curve, candidates, choose, trace

TABLES = (
    "routerbench/routerbench_0shot_3tasks.parquet",
    "routellm/gsm8k_gpt4_mixtral.parquet",
    "zeroeval_gsm8k/gsm8k_9models.parquet",
    "routellm/mmlu_gpt4_mixtral.parquet",
)
"""The tables in the data folder; the last has no answers."""

BUDGETS = 8


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--table", type=Path, nargs="*", help="answer tables, long or wide; default: all")
    options.add_argument("--data", type=Path, default=DATA, help="folder of the default tables")
    options.add_argument("--models", help="names of the models, separated by commas")
    options.add_argument("--train", type=float, default=0.5, help="share, or number, of queries fitted to")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--claims", action="store_true", help="gap, ladders, latency and size instead")
    arguments = options.parse_args()
    for path in arguments.table or [arguments.data / name for name in TABLES]:
        table = load(path, arguments.models.split(",") if arguments.models else None)
        rows = claims(table) if arguments.claims else run(table, arguments.train, arguments.seeds)
        for row in rows:
            report({"table": path.stem, "models": len(table.models), **row}, arguments.json)


def claims(table: AnswerTable) -> list[dict[str, object]]:
    """Rows of the claims that a table can show."""
    rows = gaps(table) if len(table.models) == 2 else []
    return [*rows, *ladders(table), prediction(table)]


def prediction(table: AnswerTable, models: int = 5, train: int = 1000, repeats: int = 7) -> dict[str, object]:
    """Microseconds to estimate one query before any call, and bytes of the policy's estimator."""
    table = table.select(table.models[:models])
    fitted, unseen = table.split(min(train / len(table), 0.8))
    estimator = fit_estimator(fitted).estimator
    queries = unseen.queries[:200]
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        for query in queries:
            estimator.start(query)
        taken.append((time.process_time() - start) / len(queries))
    size = len(json.dumps(encode(estimator.to_dict())))
    return {
        "case": "prediction",
        "query_us": 1e6 * min(taken),
        "bytes": size,
        "policy_models": len(table.models),
    }


def run(table: AnswerTable, train: float, seeds: int) -> list[dict[str, object]]:
    """Rows of the report: one for each strategy, and two for the estimates."""
    order = np.argsort(table.cost.mean(axis=0), kind="stable")  # cascades run the cheaper models first
    table = table.select([table.models[k] for k in order])
    share = train if train < 1 else train / len(table)
    figures: dict[str, list[dict[str, float]]] = {}
    estimates: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"ante": [], "post": []}
    for seed in range(seeds):
        fitted, unseen = table.split(share, seed=seed)
        start = time.process_time()
        estimation = fit_estimator(fitted, seed=seed)
        seconds = time.process_time() - start
        curves, chosen = trace_all(estimation, fitted, unseen)
        for name, curve in [*curves.items(), ("auto", curves[chosen])]:
            figures.setdefault(name, []).append({**figures_of(curve, unseen), "fit_s": seconds})
        for stage, belief in beliefs(estimation, unseen).items():
            estimates[stage].append((belief, unseen.quality))
    rows: list[dict[str, object]] = []
    for name, runs in figures.items():
        mean = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        spread = float(np.std([run["auc"] for run in runs], ddof=1)) if seeds > 1 else 0.0
        rows.append({"strategy": name, "auc": mean.pop("auc"), "sd": spread, **mean})
    for stage, pairs in estimates.items():
        measured = [
            [reliability(belief[:, k], quality[:, k]) for k in range(belief.shape[1])]
            for belief, quality in pairs
        ]
        pooled = reliability(*(np.concatenate(part) for part in zip(*pairs, strict=True)))
        rows.append(
            {
                "strategy": stage,
                "ece": pooled.ece,
                "ece_by_model": float(np.mean([[one.ece for one in run] for run in measured])),
                "brier_skill": float(np.mean([[one.brier_skill for one in run] for run in measured])),
                "auroc": float(np.nanmean([[one.auroc for one in run] for run in measured])),
                "train": round(share * len(table)),
            }
        )
    return rows


def trace_all(
    estimation: Estimation, fitted: AnswerTable, unseen: AnswerTable
) -> tuple[dict[str, Curve], str]:
    """Each strategy's curve on the unseen queries, and the name of the one chosen on the fitted ones."""
    estimates = estimation.estimator.estimates(unseen)
    seen, curves = {}, {}
    for strategy in candidates(agreement=estimation.estimator.compares):
        name = "linear" if strategy.name == "single" else strategy.name
        seen[name] = trace(strategy, estimation.estimates, fitted.quality, fitted.cost)
        curves[name] = trace(strategy, estimates, unseen.quality, unseen.cost)
    single = fitted.cost.mean(axis=0)
    budgets = [float(budget) for budget in np.linspace(single.min(), single.max(), BUDGETS)]
    chosen = choose(list(seen.values()), budgets)
    return curves, next(name for name, curve in seen.items() if curve is chosen)


def figures_of(curve: Curve, table: AnswerTable) -> dict[str, float]:
    cost, quality = table.cost.mean(axis=0), table.quality.mean(axis=0)
    dearest = int(cost.argmax())
    x, y = hull(curve.cost, curve.quality)
    row = {"auc": 100 * area(curve.cost, curve.quality, cost, quality)}
    for percent in (25, 50, 75):
        row[f"q{percent}"] = 100 * float(np.interp(percent / 100 * cost[dearest], x, y))
    for percent in (95, 98):
        wanted = percent / 100 * quality[dearest]
        reached = float(np.interp(wanted, y, x)) if y[-1] >= wanted else float("nan")
        row[f"cost{percent}"] = reached / cost[dearest]
    return row


def beliefs(estimation: Estimation, table: AnswerTable) -> dict[str, np.ndarray]:
    """``(N, K)`` expected quality before anything has run, and of each model after it alone has."""
    estimates = estimation.estimator.estimates(table)
    queries, shape = np.arange(len(table)), table.quality.shape
    before = estimates(queries, np.zeros(shape, dtype=bool))[0].mean
    after = np.empty(shape)
    for k in range(shape[1]):
        alone = np.zeros(shape, dtype=bool)
        alone[:, k] = True
        after[:, k] = estimates(queries, alone)[0].mean[:, k]
    return {"ante": before, "post": after}


if __name__ == "__main__":
    main()
