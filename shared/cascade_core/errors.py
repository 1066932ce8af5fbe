"""Every error that this project raises on purpose.

All derive from :class:`CascadeError`, so ``except CascadeError`` catches whatever the library itself has to
say and nothing else. A message says what was wrong, what was expected and what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping


class CascadeError(Exception):
    """Base of every error raised by cascade-routing."""


class ConfigurationError(CascadeError, ValueError):
    """The models, prices or options handed over do not fit together."""


class ArrayError(CascadeError, ValueError):
    """An array has the wrong shape, type or values; the message names it, what it is and what it should be."""


class PolicyError(CascadeError, ValueError):
    """A policy file cannot be used: truncated, of another schema version, or made for other models."""


class InfeasibleTargetError(CascadeError, ValueError):
    """No strategy reaches the target; the message states the nearest one that can be had."""


class CalibrationError(CascadeError, ValueError):
    """Calibration data are unusable: too few labels, no quality, a scorer that does not return a number."""


class AllModelsFailedError(CascadeError, RuntimeError):
    """Every model that could have answered raised an error.

    ``failures`` maps the model's name to the exception it raised.
    """

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        """Name every model and what it said."""
        self.failures = dict(failures)
        said = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in self.failures.items())
        super().__init__(
            f"no model answered this query. {said}. Check the models' credentials and addresses, or add a model."
        )
