"""From queries and answers to beliefs and expected costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade_core.errors import PolicyError
from cascade_core.estimation._base import Estimator, Evidence
from cascade_core.estimation.uncalibrated import Uncalibrated

__all__ = ["Estimator", "Evidence", "Uncalibrated", "estimator_from_dict"]

_ESTIMATORS: dict[str, type[Estimator]] = {Uncalibrated.name: Uncalibrated}


def estimator_from_dict(data: Mapping[str, Any]) -> Estimator:
    """Estimator from what its ``to_dict`` returned and its ``name``.

    Raises:
        PolicyError: if the name is unknown.
    """
    name = data.get("name")
    if name not in _ESTIMATORS:
        raise PolicyError(f"unknown estimator {name!r}, expected one of {sorted(_ESTIMATORS)}")
    return _ESTIMATORS[name].from_dict({key: value for key, value in data.items() if key != "name"})
