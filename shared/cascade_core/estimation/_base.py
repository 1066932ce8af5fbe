"""What an episode asks of an estimator, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from cascade_core.belief import Belief, FloatArray
from cascade_core.values import Answer, Query


class Evidence(ABC):
    """All that is known about one query so far. Lives as long as its episode."""

    @abstractmethod
    def observe(self, model: int, answer: Answer) -> None:
        """Take in the answer of the model with this index."""

    @abstractmethod
    def belief(self) -> Belief:
        """Belief about all K models now, N = 1."""

    @abstractmethod
    def costs(self) -> FloatArray:
        """``(1, K)`` expected cost of running each model now, in the policy's unit."""

    def foreseen(self, model: int) -> Belief | None:
        """Belief once this model has run, if that is known already because its answer can teach nothing.

        None if it may teach something. A call whose outcome is foreseen can be known to be the last one.
        """
        belief = self.belief()
        teaches = belief.step[0, model].any() or belief.agree_step is not None
        return None if teaches else belief


class Estimator(ABC):
    """Turns queries and answers into beliefs and expected costs.

    Attributes:
        name: key under which it is found again when a policy is loaded.
        calibrated: whether its estimates were fitted to data.
    """

    name: ClassVar[str]
    calibrated: ClassVar[bool]

    @property
    def compares(self) -> bool:
        """Whether its beliefs hear which answers agree."""
        return False

    @property
    def waits(self) -> bool:
        """Whether evidence may have to wait for something outside, so that it is no work for an event loop."""
        return False

    def check_connected(self) -> None:  # noqa: B027 - most have nothing to connect
        """Check that it has all parts that no file can hold.

        Raises:
            PolicyError: naming the one that is missing.
        """

    @abstractmethod
    def start(self, query: Query) -> Evidence:
        """Evidence about a query before any model has run."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """All that was learned, as plain values and arrays."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimator:
        """Inverse of :meth:`to_dict`."""
