"""The whole job in one call: from prompts to a policy, its frontier and its certificate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cascade_core.calibration.collection import Ask, Progress, acollect, run_blocking
from cascade_core.calibration.scoring import as_scorer, score_table
from cascade_core.calibration.store import Store, fingerprint
from cascade_core.calibration.table import AnswerTable
from cascade_core.calibration.targets import Target
from cascade_core.policy import Policy
from cascade_core.values import Price, Query

if TYPE_CHECKING:
    from cascade_core.calibration.certificate import Certificate

STORE = "calibration.sqlite"
"""File that answers are kept in where the user names none."""


@dataclass(frozen=True)
class Calibration:
    """What a calibration comes to.

    Attributes:
        policy: decides from now on; its certificate is in it.
        certificate: what it promises on new data.
        frontier: cost and quality of every strategy and single model on the held-out prompts.
        table: all answers, scored.
    """

    policy: Policy
    certificate: Certificate
    frontier: Any
    table: AnswerTable


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
    strategy: str = "auto",
    confidence: float = 0.95,
    holdout: float = 0.3,
    unit: Literal["usd", "seconds"] = "usd",
    seed: int = 0,
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
        max_spend: most US dollars that collecting may cost.
        progress: called after every call; True shows a bar.
        strategy: which strategy; ``"auto"`` chooses by cross-validation.
        confidence: of the certificate.
        holdout: share of the prompts that is kept for the certificate.
        unit: what costs are counted in.
        seed: of the split and whatever else is drawn.

    Raises:
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
            strategy=strategy,
            confidence=confidence,
            holdout=holdout,
            unit=unit,
            seed=seed,
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
    strategy: str = "auto",
    confidence: float = 0.95,
    holdout: float = 0.3,
    unit: Literal["usd", "seconds"] = "usd",
    seed: int = 0,
) -> Calibration:
    """:func:`calibrate` for a running event loop."""
    raise NotImplementedError
