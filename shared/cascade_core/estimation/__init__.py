"""From queries and answers to beliefs and expected costs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cascade_core.errors import PolicyError
from cascade_core.estimation._base import Estimator, Evidence
from cascade_core.estimation.uncalibrated import Uncalibrated

if TYPE_CHECKING:
    from cascade_core.estimation.fitted import FittedEstimator
    from cascade_core.estimation.fitting import Estimation, fit_estimator
    from cascade_core.estimation.joining import add_model
    from cascade_core.estimation.own import OwnSignals

__all__ = [
    "Estimation",
    "Estimator",
    "Evidence",
    "FittedEstimator",
    "OwnSignals",
    "Uncalibrated",
    "add_model",
    "estimator_from_dict",
    "fit_estimator",
]


def estimator_from_dict(data: Mapping[str, Any]) -> Estimator:
    """Estimator from what its ``to_dict`` returned and its ``name``.

    Raises:
        PolicyError: if the name is unknown.
    """
    from cascade_core.estimation.fitted import FittedEstimator

    kinds: dict[str, type[Estimator]] = {kind.name: kind for kind in (Uncalibrated, FittedEstimator)}
    name = data.get("name")
    if name not in kinds:
        raise PolicyError(f"unknown estimator {name!r}, expected one of {sorted(kinds)}")
    return kinds[name].from_dict({key: value for key, value in data.items() if key != "name"})


_HOME = {
    "Estimation": "fitting",
    "FittedEstimator": "fitted",
    "OwnSignals": "own",
    "add_model": "joining",
    "fit_estimator": "fitting",
}


def __getattr__(name: str) -> Any:
    """Load what only a fit needs on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
