"""Step 3: every way to choose a model, on questions that none of them was fitted on."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from cascade_core.belief import FloatArray
from cascade_core.calibration import AnswerTable, Budget, Calibration, RelativeQuality, Target, fit
from cascade_core.errors import InfeasibleTargetError

STRATEGIES = {
    "single": "linear interpolation",
    "routing": "routing",
    "threshold": "threshold cascade",
    "index": "index policy",
    "look_ahead": "look-ahead",
}
MILLION = 1e6


def show(calibration: Calibration, holdout: float, console: Console) -> None:
    """The table, and what the policy saves."""
    held_out = calibration.fit.held_out
    quality, cost = held_out.quality, held_out.cost
    best = int(np.nanmean(calibration.table.quality, axis=0).argmax())
    best_model = calibration.table.models[best]
    column = held_out.models.index(best_model)

    table = Table(title=f"On {len(held_out)} questions held out of the fit, with 95 % intervals")
    table.add_column("")
    table.add_column("quality", justify="right")
    table.add_column("$ per million queries", justify="right")
    for k, name in enumerate(held_out.models):
        table.add_row(f"only {name}", *_cells(quality[:, k], cost[:, k]))
    aims: dict[str, Target] = {
        f"tuned to the quality of {best_model}": RelativeQuality(1.0, of=best_model),
        f"tuned to the cost of {best_model}": Budget(float(np.nanmean(calibration.table.cost[:, best]))),
    }
    for aim, target in aims.items():
        table.add_section()
        table.add_row(f"[italic]{aim}[/]")
        for strategy, label in STRATEGIES.items():
            try:
                cells = _cells(*_tried(calibration.table, target, strategy, holdout))
            except InfeasibleTargetError:
                cells = ("does not reach it", "")
            table.add_row(label, *cells)
    console.print(table)

    policy = calibration.policy
    outcome = calibration.fit.outcome
    gain = outcome.quality - quality[:, column]
    low, high = _interval(gain)  # paired: both answered the same questions
    share = outcome.cost.sum() / cost[:, column].sum()
    console.print(
        f"The policy ({policy.strategy.name}) costs {share:.0%} of what {best_model} alone costs. Its quality "
        f"differs by {gain.mean():+.3f}, 95 % interval {low:+.3f} to {high:+.3f}."
    )
    console.print(f"Certificate: {calibration.certificate.sentence}")


def _tried(
    table: AnswerTable, target: Target, strategy: str, holdout: float
) -> tuple[FloatArray, FloatArray]:
    """Quality and cost of each held-out question, as expected over the draw of a mixture."""
    fitted = fit(table, target, strategy=strategy, holdout=holdout)
    estimates = fitted.policy.estimator.estimates(fitted.held_out)
    return fitted.tuned.expected(estimates, fitted.held_out.quality, fitted.held_out.cost)


def _cells(quality: FloatArray, cost: FloatArray) -> tuple[str, str]:
    low, high = _interval(quality)
    cheap, dear = (MILLION * end for end in _interval(cost))
    return (
        f"{quality.mean():.3f} ({low:.3f}–{high:.3f})",
        f"{MILLION * cost.mean():.1f} ({cheap:.1f}–{dear:.1f})",
    )


def _interval(values: FloatArray) -> tuple[float, float]:
    """95 % interval of the mean, by the normal approximation."""
    error = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - error), float(values.mean() + error)
