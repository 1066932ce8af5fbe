"""The numbers behind a report: what a policy, its rivals and the single models do with a table of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade_core.belief import BoolArray, FloatArray, IntArray
from cascade_core.calibration.bounds import lower_mean, upper_mean
from cascade_core.calibration.certificate import Certificate, certificate_of, quality_in_words
from cascade_core.calibration.evaluation import evaluate
from cascade_core.calibration.fitting import Line
from cascade_core.calibration.replay import as_counted
from cascade_core.calibration.table import AnswerTable
from cascade_core.estimation.reliability import reliability
from cascade_core.policy import Policy
from cascade_core.pricing import time_in_words
from cascade_core.simulate import Estimates, Outcome
from cascade_core.tuning import Curve

LEVEL = 0.95
"""Confidence of the intervals that are drawn."""

LABELS = {
    "linear": "Mixing single models",
    "routing": "Routing",
    "threshold": "Threshold cascade",
    "margin": "Margin rule",
    "cascading": "Cascading",
    "cascade_routing": "Cascade routing",
    "index": "Index policy",
    "look_ahead": "Look-ahead",
    "single": "Single model",
}
_ROWS, _SAMPLES, _POINTS, _SHOWN = 1000, 8, 40, 160


@dataclass(frozen=True)
class Figures:
    """What a report shows, as plain JSON values in ``data``; text of prompts is in it."""

    data: dict[str, Any]

    @property
    def strategies(self) -> list[dict[str, Any]]:
        """Name, label, costs and qualities of every strategy's frontier."""
        found: list[dict[str, Any]] = self.data["strategies"]
        return found


def figures(
    policy: Policy, table: AnswerTable, *, title: str = "Model selection report", seed: int = 0
) -> Figures:
    """Everything a report shows.

    Args:
        policy: the policy; its certificate, if it has one, is shown.
        table: answers of its models, scored: best those that the policy was not fitted on. At most 1,000 queries are
            looked at, chosen at random.
        title: of the report.
        seed: of that choice and of the sample decisions.

    Raises:
        CalibrationError: the table lacks a model, or has no query with all qualities and costs.
    """
    table = as_counted(policy, table)
    draw = np.random.default_rng(seed)
    if len(table) > _ROWS:
        table = table.subset(np.sort(draw.choice(len(table), _ROWS, replace=False)))
    own = policy.strategy
    evaluation = evaluate(policy, table)
    curves, outcome, quality, cost = (
        evaluation.curves,
        evaluation.outcome,
        evaluation.quality,
        evaluation.cost,
    )
    certificate = certificate_of(policy.certificate)
    singles = [_single(table, k) for k in range(len(table.models))]
    reference = certificate.reference if certificate else table.models[int(table.alone.mean(axis=0).argmax())]
    shown = excerpts([query.text for query in table.queries])
    picked = np.sort(draw.choice(len(table), min(_SAMPLES, len(table)), replace=False))
    points = _points(curves[own.name], table, picked) if own.name in curves else []
    chosen = {
        "name": own.name,
        "label": LABELS.get(own.name, own.name),
        "cost": float(cost.mean()),
        **_interval(quality),
        **_mix(outcome, table),
    }
    if not points:
        points = [_point(outcome, table, picked)]
    data = {
        "title": title,
        "unit": policy.unit,
        "usd_per_second": policy.usd_per_second,
        "prompts": len(table),
        "level": LEVEL,
        "lede": f"{len(table.models)} models on {len(table)} prompts, decided by {chosen['label'].lower()}."
        + (f" Quality is {_agreement(certificate)}, right or wrong." if _agreement(certificate) else ""),
        "made": _made(policy, len(table)),
        "models": singles,
        "reference": reference,
        "strategies": [_line(line) for line in evaluation.lines],
        "chosen": chosen,
        "points": points,
        "start": int(np.abs(np.array([point["cost"] for point in points]) - chosen["cost"]).argmin()),
        "samples": [shown[row] for row in picked],
        "reliability": [_reliability(evaluation.estimates, table, k) for k in range(len(table.models))],
        "failures": failures(table, shown, int(table.alone.mean(axis=0).argmin())),
        "certificate": None if certificate is None else _certified(certificate),
    }
    return Figures(data)


def failures(table: AnswerTable, shown: Sequence[str], model: int) -> dict[str, Any]:
    """Groups of prompts that share words, those on which a model scores under one half most often first.

    ``shown`` are the queries' excerpts.
    """
    failed = table.quality[:, model] < 0.5
    found: dict[str, Any] = {"model": table.models[model], "rate": float(failed.mean()), "clusters": []}
    texts = [query.text for query in table.queries]
    if len(texts) < 20 or failed.all() or not failed.any():
        return found
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(max_features=2000, min_df=2, max_df=0.6, stop_words="english", sublinear_tf=True)
    try:
        matrix = words.fit_transform(texts)
    except ValueError:  # no word is shared by two prompts
        return found
    groups = KMeans(n_clusters=int(np.clip(len(texts) // 40, 2, 10)), n_init=3, random_state=0).fit_predict(
        matrix
    )
    names, centre = words.get_feature_names_out(), np.asarray(matrix.mean(axis=0)).ravel()
    for group in range(groups.max() + 1):
        inside = groups == group
        wrong = inside & failed
        rate = float(failed[inside].mean())
        if inside.sum() < 8 or wrong.sum() < 3 or rate <= found["rate"]:
            continue
        weight = np.asarray(matrix[inside].mean(axis=0)).ravel() - centre
        found["clusters"].append(
            {
                "words": [str(names[i]) for i in weight.argsort()[::-1][:5] if weight[i] > 0],
                "prompts": int(inside.sum()),
                "rate": rate,
                "examples": [shown[row] for row in np.flatnonzero(wrong)[:3]],
            }
        )
    found["clusters"].sort(key=lambda cluster: -cluster["rate"])
    del found["clusters"][4:]
    return found


def _single(table: AnswerTable, k: int) -> dict[str, Any]:
    return {
        "name": table.models[k],
        "cost": float(table.alone[:, k].mean()),
        **_interval(table.quality[:, k]),
    }


def _interval(quality: FloatArray) -> dict[str, float]:
    """Mean quality with a two-sided interval."""
    level = (1 + LEVEL) / 2
    mean, inside = float(quality.mean()), bool((quality >= 0).all() and (quality <= 1).all())
    if inside:
        low, high = lower_mean(quality, level), upper_mean(quality, level, worst=1.0)
    else:
        error = 1.96 * float(quality.std()) / np.sqrt(quality.size)
        low, high = mean - error, mean + error
    return {"quality": mean, "low": float(low), "high": float(high)}


def _mix(outcome: Outcome, table: AnswerTable) -> dict[str, Any]:
    """Shares of the answers returned, of calls and of the bill, by model."""
    models = np.arange(len(table.models))
    bill = (outcome.ran * table.cost).sum(axis=0)
    return {
        "mix": (outcome.model[:, None] == models).mean(axis=0).tolist(),
        "calls": outcome.ran.mean(axis=0).tolist(),
        "bill": (bill / max(float(bill.sum()), np.finfo(float).tiny)).tolist(),
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": line.strategy,
        "label": LABELS.get(line.strategy, line.strategy),
        "cost": line.cost.tolist(),
        "quality": line.quality.tolist(),
    }


def _points(curve: Curve, table: AnswerTable, picked: IntArray) -> list[dict[str, Any]]:
    """Settings of the strategy that are worth having, by rising cost."""
    order = np.lexsort((-curve.quality, curve.cost))
    best, worth = -np.inf, []
    for i in order:
        if curve.quality[i] > best:
            best = curve.quality[i]
            worth.append(i)
    if len(worth) > _POINTS:
        worth = [worth[i] for i in np.unique(np.linspace(0, len(worth) - 1, _POINTS).round().astype(int))]
    whole = curve.outcome
    return [
        _point(Outcome(whole.model[i], whole.ran[i], whole.quality[i], whole.cost[i]), table, picked)
        for i in worth
    ]


def _point(outcome: Outcome, table: AnswerTable, picked: IntArray) -> dict[str, Any]:
    return {
        "cost": float(outcome.cost.mean()),
        **_interval(outcome.quality),
        **_mix(outcome, table),
        "samples": [
            {
                "ran": sorted(
                    np.flatnonzero(outcome.ran[row]).tolist(), key=lambda k: int(k) == outcome.model[row]
                ),
                "kept": int(outcome.model[row]),
                "quality": float(outcome.quality[row]),
                "cost": float(outcome.cost[row]),
            }
            for row in picked
        ],
    }


def _reliability(estimates: Estimates, table: AnswerTable, k: int) -> dict[str, Any]:
    """Expected and observed quality of a model's answers by tenths, before it ran and after its own was seen."""
    rows = np.arange(len(table))
    phases: dict[str, Any] = {}
    for phase, ran in (("before", False), ("after", True)):
        history: BoolArray = np.zeros(table.quality.shape, dtype=bool)
        history[:, k] = ran
        expected = estimates(rows, history)[0].mean[:, k]
        told = reliability(expected, table.quality[:, k])
        bins = zip(told.expected.tolist(), told.actual.tolist(), told.count.astype(int).tolist(), strict=True)
        phases[phase] = {"bins": list(bins), "ece": told.ece}
    return {"model": table.models[k], **phases}


def _agreement(certificate: Certificate | None) -> str:
    agreed = None if certificate is None else certificate.agreement_with
    return "" if agreed is None else quality_in_words(agreed, agreed)


def _certified(certificate: Certificate) -> dict[str, Any]:
    return {**certificate.model_dump(mode="json"), "sentence": certificate.sentence}


def _made(policy: Policy, prompts: int) -> str:
    from cascade_core import __version__

    checked = ""
    if policy.check is not None:
        checked = (
            f" Answers of {', '.join(policy.check.of)} are checked by further calls, which is in the costs."
        )
    return (
        f"Made by cascade-routing {__version__} from {prompts} prompts. "
        f"Costs in {_UNITS[policy.unit]}{time_in_words(policy.usd_per_second)}.{checked}"
    )


_UNITS = {"usd": "US dollars", "seconds": "seconds"}


def excerpts(texts: Sequence[str]) -> list[str]:
    """Each text on one line, cut at its end, or at its beginning where others begin alike, as few-shot prompts do."""
    lines = [" ".join(text.split()) for text in texts]
    alike = Counter(line[:_SHOWN] for line in lines)
    return [
        line
        if len(line) <= _SHOWN
        else f"…{line[1 - _SHOWN :]}"
        if alike[line[:_SHOWN]] > 1
        else f"{line[: _SHOWN - 1]}…"
        for line in lines
    ]
