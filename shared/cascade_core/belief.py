"""What is believed about the models' answers at one moment: the value that every strategy decides on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from cascade_core.errors import ArrayError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Belief:
    """Belief about N queries and K models, given everything observed so far.

    Attributes:
        mean: ``(N, K)`` expected quality of each model's answer: ex-ante for a model that has not run,
            post-hoc for one that has.
        step: ``(N, K, K)``; ``step[n, i, j]`` is the signed standard deviation by which ``mean[n, j]`` will
            move when model ``i`` is run next: ``mean' = mean + step[n, i] * s`` with ``s ~ N(0, 1)``. Rows of
            models that have run are zero. Its diagonal is the σ of the index policy.
        agree: ``(N, B, K)`` probability that each model's next answer agrees with one of B others: with the best in
            hand (B = 1) or, while nothing has run on any query, with the first answer, whichever model gives it
            (B = K). None where answers are not compared.
        agree_step: ``(N, B, K, K)`` as ``step``, by the news of that, which moves the means beside the answer itself:
            by ``agree_step[n, b, i] * a`` with ``a`` of mean 0 and variance 1, either ``√((1 - p) / p)`` or, with
            probability ``1 - p``, ``-√(p / (1 - p))`` (p is ``agree[n, b, i]``).

    Raises:
        ArrayError: if the shapes do not fit or a value is not finite.
    """

    mean: FloatArray
    step: FloatArray
    agree: FloatArray | None = None
    agree_step: FloatArray | None = None

    def __post_init__(self) -> None:
        """Check shapes and values."""
        if self.mean.ndim != 2:
            raise ArrayError(f"mean has shape {self.mean.shape}, expected (N, K): queries × models")
        n, k = self.mean.shape
        if self.step.shape != (n, k, k):
            raise ArrayError(f"step has shape {self.step.shape}, expected (N, K, K) = {(n, k, k)}")
        total = np.add.reduce(self.mean, axis=None) + np.add.reduce(self.step, axis=None)
        if self.agree is not None and self.agree_step is not None:
            b = self.agree.shape[1] if self.agree.ndim == 3 else 1
            if self.agree.shape != (n, b, k) or b not in (1, k) or self.agree_step.shape != (n, b, k, k):
                raise ArrayError(
                    f"agree and agree_step have shapes {self.agree.shape} and {self.agree_step.shape}, expected "
                    f"(N, B, K) and (N, B, K, K) with N, K = {n, k} and B = 1 or K"
                )
            total += np.add.reduce(self.agree, axis=None) + np.add.reduce(self.agree_step, axis=None)
        if not isfinite(total):  # one NaN or infinity makes it so
            raise ArrayError(
                "mean and step must be finite: replace NaN estimates by the model's average first"
            )

    @property
    def sd(self) -> FloatArray:
        """``(N, K)`` standard deviation of each model's own next update; 0 once it has run."""
        return np.abs(np.diagonal(self.step, axis1=1, axis2=2))

    def lead_sd(self, ran: BoolArray) -> FloatArray:
        """``(N, K)`` standard deviation of how far each model's next answer may pull ahead of the best in hand.

        A call moves the best answer in hand, ``m``, as well as the model that runs, ``i``. What it can win is
        governed by how far it moves the two apart, ``|step[i, i] - step[i, m]|``: a call that would only confirm that
        all answers are right, or all wrong, wins nothing. Before anything has run it is :attr:`sd`.
        """
        own = np.diagonal(self.step, axis1=1, axis2=2)
        if not ran.any():
            return np.abs(own)
        best = np.where(ran, self.mean, -np.inf).argmax(axis=1)
        carried = self.step[np.arange(best.size), :, best]
        return np.abs(own - np.where(ran.any(axis=1, keepdims=True), carried, 0.0))

    def take(self, rows: IntArray) -> Belief:
        """The belief about these queries."""
        agree = None if self.agree is None else self.agree[rows]
        agree_step = None if self.agree_step is None else self.agree_step[rows]
        return Belief(self.mean[rows], self.step[rows], agree, agree_step)

    @classmethod
    def assembled(cls, shape: tuple[int, ...], parts: Iterable[tuple[IntArray, Belief]]) -> Belief:
        """One belief about ``(N, K)`` queries and models from beliefs about some of the rows each.

        Where answers are compared and something has run on some of the queries only, no agreement is foreseen for
        the others.
        """
        mean, step = np.empty(shape), np.empty((*shape, shape[1]))
        agree, agree_step = None, None
        for rows, part in parts:
            mean[rows], step[rows] = part.mean, part.step
            if part.agree is None or part.agree_step is None:
                continue
            if agree is None or agree_step is None or part.agree.shape[1] < agree.shape[1]:
                agree = np.full((shape[0], *part.agree.shape[1:]), 0.5)
                agree_step = np.zeros((shape[0], *part.agree_step.shape[1:]))
            if part.agree.shape[1] == agree.shape[1]:
                agree[rows], agree_step[rows] = part.agree, part.agree_step
        return cls(mean, step, agree, agree_step)

    @classmethod
    def independent(cls, mean: FloatArray, sd: FloatArray) -> Belief:
        """Belief in which running a model teaches nothing about the others; ``mean`` and ``sd`` are ``(N, K)``."""
        mean = np.asarray(mean, dtype=float)
        sd = np.asarray(sd, dtype=float)
        if sd.shape != mean.shape:
            raise ArrayError(f"sd has shape {sd.shape}, expected that of mean, {mean.shape}")
        step = np.zeros((*mean.shape, mean.shape[-1]))
        index = np.arange(mean.shape[-1])
        step[:, index, index] = sd
        return cls(mean, step)
