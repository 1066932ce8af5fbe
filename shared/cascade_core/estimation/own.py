"""The user's own estimator: two methods, whatever is behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cascade_core.values import Answer, Query


class OwnSignals(Protocol):
    """An estimator of the user's own, heard beside the built-in signals and calibrated with them.

    A judge, a trained classifier, a rule: what it costs is the user's affair. (A verification question to one of the
    models and the agreement of several samples are there with their cost booked: :mod:`cascade_core.checks`.) Neither
    method has to be calibrated, only to say more for better answers.

    Example:
        >>> class Arithmetic:
        ...     '''Sums are easy for the large model alone, and a good answer to one is short.'''
        ...
        ...     def ex_ante(self, query):
        ...         return [0.3, 0.9] if "+" in query.text else [0.5, 0.5]
        ...
        ...     def post_hoc(self, query, model, answer):
        ...         return -len(answer.text)
        >>> own = Arithmetic()
        >>> own.ex_ante(Query(text="2+2?"))
        [0.3, 0.9]
    """

    def ex_ante(self, query: Query) -> Sequence[float]:
        """K probabilities, one per model in the table's order, that its answer will be good."""

    def post_hoc(self, query: Query, model: str, answer: Answer) -> float:
        """A number that is higher for better answers; NaN if there is nothing to say."""
