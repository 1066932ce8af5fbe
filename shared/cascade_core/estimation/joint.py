"""One belief over the qualities of all models, moved by every signal that any of them gives.

Theory. The models' qualities on one query hang together because queries differ in difficulty. So, given the query's
ex-ante signals ``x`` and one latent difficulty ``θ ~ N(0, 1)``, the qualities are independent::

    binary quality      P(q_i = 1 | x, θ) = logistic(w_i · f_i(x) + β_i θ)
    graded quality      q_i | x, θ ~ N(w_i · f_i(x) + β_i θ, τ_i²)

with ``f_i(x) = (1, own ex-ante signal, mean of all ex-ante signals)``. This is item response theory with covariates
(Bock and Aitkin, *Marginal maximum likelihood estimation of item parameters*, Psychometrika 1981), fitted by the EM
algorithm they describe, θ on Gauss-Hermite nodes. ``x`` enters as a condition, not as evidence: however strongly the
ex-ante signals of the models repeat one another, they are not counted twice.

Once model ``i`` has run, its post-hoc signal is evidence about ``q_i``, and through θ about every other model::

    s_i | q_i, x ~ N(c_i · f_i(x) + b_i q_i, v_i)

and so is whether its answer agrees with another's: ``P(agree_ij | q_i, q_j)``. There are K regressors of each kind
for K models, none for the subsets of models that may have run. An answer that looks right is also one that others
agree with, and would be counted twice: where answers are compared, post-hoc evidence counts to the power ``echo``.

What cannot be told from noise moves nothing: each slope is multiplied by ``(1 - χ²/W)⁺`` of its Wald statistic ``W``,
the positive-part James-Stein factor with the 95 % point of its null distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.errors import ArrayError, CalibrationError
from cascade_core.estimation.difficulty import (
    LOG_WEIGHT,
    NODE,
    features,
    fit_agreement,
    fit_post,
    fit_response,
)
from cascade_core.estimation.regression import logistic, moments

_MOST_COMPARED = 6
"""Most models whose agreement is weighed at once: the patterns of right and wrong double with each."""

_BLOCK = 1 << 20
"""Most numbers held at once for a block of queries."""

_TEMPERS = (1.0, 0.85, 0.7, 0.5, 0.35, 0.2)

_ECHO, _ECHO_SD = 0.5, 0.25
"""What is expected of :attr:`JointBelief.echo` before a table is seen, and how surely."""


@dataclass(frozen=True, slots=True)
class Signals:
    """Signals about N queries and K models. NaN where a signal is missing.

    Attributes:
        ante: ``(N, K)`` ex-ante, larger for better, on any scale (a calibrated logit serves best).
        post: ``(N, K)`` post-hoc, from each model's answer, likewise.
        agree: ``(N, K, K)`` whether two answers agree: 1 yes, 0 no, -1 unknown; None without such a signal.
    """

    ante: FloatArray
    post: FloatArray
    agree: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        """Check shapes."""
        if self.ante.ndim != 2:
            raise ArrayError(f"ante has shape {self.ante.shape}, expected (N, K): queries × models")
        n, k = self.ante.shape
        if self.post.shape != (n, k):
            raise ArrayError(f"post has shape {self.post.shape}, expected that of ante, {(n, k)}")
        if self.agree is not None and self.agree.shape != (n, k, k):
            raise ArrayError(f"agree has shape {self.agree.shape}, expected (N, K, K) = {(n, k, k)}")

    def take(self, rows: IntArray) -> Signals:
        """The signals of these queries."""
        return Signals(self.ante[rows], self.post[rows], None if self.agree is None else self.agree[rows])


@dataclass(frozen=True, slots=True, eq=False)
class JointBelief:
    """A fitted joint belief; :meth:`fit` makes one, :meth:`condition` uses it.

    Attributes:
        low, high: range of the qualities it was fitted to; means are kept within it.
        binary: whether only these two values occurred.
        ante_mean, ante_sd: ``(K,)`` by which ex-ante signals are standardised.
        weights: ``(K, 3)`` w, of intercept, own signal and mean signal.
        loading: ``(K,)`` β.
        spread: ``(K,)`` τ, 0 for binary quality.
        post_weights: ``(K, 3)`` c.
        post_slope: ``(K,)`` b; 0 for a post-hoc signal without skill.
        post_sd: ``(K,)`` √v.
        agreement: ``(K, K, 2, 2)`` P(agree | q_i, q_j), or None.
        echo: part of the post-hoc evidence that still counts once answers are compared, as both tell partly the same.
        step_scale: factor on the steps, under 1 where what they promise turned out not to be had.
    """

    low: float
    high: float
    binary: bool
    ante_mean: FloatArray
    ante_sd: FloatArray
    weights: FloatArray
    loading: FloatArray
    spread: FloatArray
    post_weights: FloatArray
    post_slope: FloatArray
    post_sd: FloatArray
    agreement: FloatArray | None = None
    echo: float = 1.0
    step_scale: float = 1.0

    @classmethod
    def fit(cls, signals: Signals, quality: FloatArray) -> JointBelief:
        """Learn from N queries that every model has answered.

        Args:
            signals: of the same N queries; where they come from fitted estimators, out-of-fold ones.
            quality: ``(N, K)`` quality of every answer, on any bounded scale.

        Raises:
            ArrayError: if quality does not fit the signals or is not finite.
            CalibrationError: if there are fewer than two queries.
        """
        quality = np.asarray(quality, dtype=float)
        if quality.shape != signals.ante.shape:
            raise ArrayError(
                f"quality has shape {quality.shape}, expected that of ante, {signals.ante.shape}"
            )
        if not np.isfinite(quality).all():
            raise ArrayError("quality must be finite: leave out the queries that lack a score")
        if len(quality) < 2:
            raise CalibrationError(
                f"a belief cannot be learned from {len(quality)} queries; label at least 30"
            )
        low, high = float(quality.min()), float(quality.max())
        binary = bool(np.isin(quality, (low, high)).all())
        y = (quality - low) / (high - low) if high > low else np.zeros(quality.shape)

        ante_mean, ante_sd = moments(signals.ante)
        ante_sd = np.where(ante_sd > 1e-12, ante_sd, 1.0)
        f = features(signals.ante, ante_mean, ante_sd)
        weights, loading, spread = fit_response(f, y, binary)
        post_weights, slope, sd = fit_post(f, y, signals.post)
        belief = cls(low, high, binary, ante_mean, ante_sd, weights, loading, spread, post_weights, slope, sd)
        belief = belief._tempered(signals, y)
        if binary and high > low and signals.agree is not None:
            belief = belief._with_agreement(signals, y)
        return belief

    def condition(self, signals: Signals, ran: BoolArray) -> Belief:
        """Belief about N queries, of which the models in ``ran`` ``(N, K)`` have answered.

        Post-hoc signals and agreement of other models are not looked at. Of more than six models, nothing is said
        about agreement before the first answer.

        Raises:
            ArrayError: if the shapes do not fit.
        """
        if ran.shape != signals.ante.shape or ran.shape[1] != self.loading.size:
            raise ArrayError(
                f"ran has shape {ran.shape}, expected that of ante, {signals.ante.shape}, with "
                f"{self.loading.size} models as fitted"
            )
        first = not ran.any()
        if len(ran) == 1:
            return self._condition(signals, ran, self._compared(signals, ran[0]), first)
        return Belief.assembled(ran.shape, self._parts(signals, ran, first))

    def _parts(self, signals: Signals, ran: BoolArray, first: bool) -> Iterator[tuple[IntArray, Belief]]:
        """Rows and the belief about them, in blocks that fit into memory; ``first``: nothing has run on any query."""
        for rows, compared in self._alike(signals, ran):
            block = max(1, _BLOCK // (NODE.size * ran.shape[1] << compared.size))
            for start in range(0, rows.size, block):
                some = rows[start : start + block]
                yield some, self._condition(signals.take(some), ran[some], compared, first)

    def _alike(self, signals: Signals, ran: BoolArray) -> Iterator[tuple[IntArray, IntArray]]:
        """Rows whose answers to compare are those of the same models, and these models."""
        if self.agreement is None or signals.agree is None:
            yield np.arange(len(ran)), np.arange(0)
            return
        sets, member = np.unique(ran, axis=0, return_inverse=True)
        for i in range(len(sets)):
            yield np.flatnonzero(member.ravel() == i), self._compared(signals, sets[i])

    def _compared(self, signals: Signals, ran: BoolArray) -> IntArray:
        """The models whose agreement is weighed: the best of those that ran, none if there are not two."""
        models = np.flatnonzero(ran)
        if self.agreement is None or signals.agree is None or models.size < 2:
            return models[:0]
        best = np.argsort(-self.weights[models, 0], kind="stable")[:_MOST_COMPARED]
        return np.sort(models[best])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and arrays by field name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JointBelief:
        """Inverse of :meth:`to_dict`."""
        return cls(**data)

    def _condition(self, signals: Signals, ran: BoolArray, compared: IntArray, first: bool) -> Belief:
        f = features(signals.ante, self.ante_mean, self.ante_sd)
        weight, response = self._posterior(f, signals.post, ran, self.echo if compared.size else 1.0)
        if compared.size and signals.agree is not None:
            weight, response = self._weigh_agreement(weight, response, signals.agree, compared)
        mean = np.matmul(weight[:, None, :], response)[:, 0]
        covariance = np.matmul((response * weight[:, :, None]).transpose(0, 2, 1), response)
        covariance -= mean[:, :, None] * mean[:, None, :]
        models = np.arange(mean.shape[1])
        if self.binary:
            covariance[:, models, models] = mean * (1 - mean)
        else:
            covariance[:, models, models] += self._remaining(ran)
        own = covariance[:, models, models]
        sd = np.sqrt(self.post_slope**2 * own + self.post_sd**2)
        step = covariance * (self.post_slope / sd)[:, :, None]
        agree, agree_step = None, None
        compares = self.agreement is not None and signals.agree is not None
        if compares and (not first or models.size <= _MOST_COMPARED):
            best = np.where(ran, mean, -np.inf).argmax(axis=1)[:, None]
            others = np.broadcast_to(models, mean.shape) if first else best
            each = np.repeat(np.arange(len(ran)), others.shape[1])
            agree, agree_step = self._news_of_agreement(
                others.ravel(), step[each], mean[each], covariance[each], sd[each]
            )
            agree = agree.reshape(*others.shape, models.size)
            agree_step = agree_step.reshape(*others.shape, models.size, models.size)
            tells = ~ran & ran.any(axis=1, keepdims=True)
            known = ~np.eye(models.size, dtype=bool)[None] if first else tells[:, None]
            agree_step *= known[..., None] * self.step_scale * (self.high - self.low)
        step[ran] = 0.0
        step *= self.step_scale * (self.high - self.low)
        return Belief(self.low + (self.high - self.low) * np.clip(mean, 0, 1), step, agree, agree_step)

    def _posterior(
        self, f: FloatArray, post: FloatArray, ran: BoolArray, heed: float = 1.0
    ) -> tuple[FloatArray, FloatArray]:
        """Weights ``(N, G)`` of the nodes of θ, and the expected qualities ``(N, G, K)`` at each.

        The post-hoc evidence about binary quality counts to the power of ``heed``.
        """
        centre = np.einsum("nkd,kd->nk", f, self.weights)
        prior = centre[:, None, :] + self.loading * NODE[:, None]
        residual = post - np.einsum("nkd,kd->nk", f, self.post_weights)
        residual = np.where(ran & np.isfinite(residual), residual, np.nan)
        slope, variance = self.post_slope, self.post_sd**2
        if self.binary:
            evidence = heed * np.nan_to_num((residual - slope / 2) * slope / variance)
            prior = logistic(prior)
            odds = prior * np.exp(np.clip(evidence, -30, 30))[:, None, :]
            likelihood = odds + (1 - prior)
            response = odds / likelihood
            log_likelihood = np.log(likelihood)
        else:
            heard = np.where(np.isfinite(residual), slope, 0.0)[:, None, :]
            total = heard**2 * self.spread**2 + variance
            surprise = np.nan_to_num(residual)[:, None, :] * (heard != 0) - heard * prior
            response = prior + heard * self.spread**2 / total * surprise
            log_likelihood = -0.5 * surprise**2 / total
        log_weight = LOG_WEIGHT + log_likelihood.sum(axis=2)
        weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True), response

    def _remaining(self, ran: BoolArray) -> FloatArray:
        """``(N, K)`` variance of a graded quality once θ is known."""
        heard = np.where(ran, self.post_slope, 0.0)
        return self.spread**2 * self.post_sd**2 / (heard**2 * self.spread**2 + self.post_sd**2)

    def _weigh_agreement(
        self, weight: FloatArray, response: FloatArray, agree: NDArray[np.int8], compared: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Split each node by which of the compared answers are right, and weigh the splits by their agreement."""
        queries, models = response.shape[0], response.shape[2]
        right = _patterns(compared.size)
        seen = agree[:, compared[:, None], compared]
        log_odds = np.zeros((queries, len(right)))
        leads = np.ones((queries, compared.size), dtype=bool)
        for j in range(1, compared.size):
            for i in range(j):
                log_odds += self._log_agreement(
                    seen[:, i, j], leads[:, i], compared[[i, j]], right[:, [i, j]]
                )
            # one answer speaks for a group of equal ones: agreement is transitive, and counts once
            leads[:, j] = ~((seen[:, :j, j] == 1) & leads[:, :j]).any(axis=1)
        chosen = response[:, :, None, compared]
        split = np.where(right == 1, chosen, 1 - chosen).prod(axis=3)
        weight = (
            weight[:, :, None] * split * np.exp(log_odds - log_odds.max(axis=1, keepdims=True))[:, None, :]
        )
        weight = weight / weight.sum(axis=(1, 2), keepdims=True)
        response = np.repeat(response[:, :, None, :], len(right), axis=2)
        response[..., compared] = right
        return weight.reshape(queries, -1), response.reshape(queries, -1, models)

    def _log_agreement(
        self, seen: NDArray[np.int8], leads: BoolArray, pair: IntArray, right: IntArray
    ) -> FloatArray:
        """``(N, patterns)`` log-likelihood of whether one pair of answers agrees."""
        assert self.agreement is not None
        chance = self.agreement[pair[0], pair[1]][right[:, 0], right[:, 1]]
        said_yes, said_no = (leads & (seen == 1))[:, None], (leads & (seen == 0))[:, None]
        return np.where(said_yes, np.log(chance), 0.0) + np.where(said_no, np.log1p(-chance), 0.0)

    def _news_of_agreement(
        self,
        other: IntArray,
        step: FloatArray,
        mean: FloatArray,
        covariance: FloatArray,
        sd: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """P(agree) ``(N, K)`` of each model's next answer with that of ``other`` ``(N,)``, and how far it moves all.

        ``(N, K, K)``: the part of the news that the next answer's own signal does not tell already.
        """
        assert self.agreement is not None
        queries, models = mean.shape
        each, k = np.arange(queries), np.arange(models)
        # P(agree | q_i, q_other) = a + b·q_i + c·q_other + d·q_i·q_other
        chance = self.agreement[:, other].transpose(1, 0, 2, 3)
        a, both = chance[..., 0, 0], chance[..., 1, 1]
        b, c = chance[..., 1, 0] - a, chance[..., 0, 1] - a
        d = both - a - b - c
        m_other = mean[each, other][:, None]
        joint = covariance[each, :, other] + mean * m_other
        expected = np.clip(a + b * mean + c * m_other + d * joint, 0.005, 0.995)
        # covariance of all qualities with the agreement: the product linearised, but for the two concerned exact
        moved = (b + d * m_other)[:, :, None] * covariance
        moved += (c + d * mean)[:, :, None] * covariance[each, other][:, None, :]
        moved[:, k, k] = a * mean + b * mean + c * joint + d * joint - mean * expected
        moved[each, :, other] = (a + c) * m_other + (b + d) * joint - m_other * expected
        shared = self.post_slope * moved[:, k, k] / sd
        left = np.maximum(expected * (1 - expected) - shared**2, 1e-9)
        return expected, (moved - shared[:, :, None] * step) / np.sqrt(left)[:, :, None]

    def _tempered(self, signals: Signals, y: FloatArray) -> JointBelief:
        """Widen the post-hoc noise as far as makes the belief most likely: a guard against signals that repeat
        one another more than the model says."""
        if not self.post_slope.any():
            return self
        f = features(signals.ante, self.ante_mean, self.ante_sd)
        everything = np.ones(y.shape, dtype=bool)
        candidates = [replace(self, post_sd=self.post_sd / np.sqrt(temper)) for temper in _TEMPERS]
        scores = []
        for candidate in candidates:
            weight, response = candidate._posterior(f, signals.post, everything)
            mean = np.matmul(weight[:, None, :], response)[:, 0]
            scores.append(_brier(mean, y))
        return candidates[int(np.argmin(scores))]

    def _with_agreement(self, signals: Signals, y: FloatArray) -> JointBelief:
        """Learn how agreement depends on being right; kept only if it makes the belief better."""
        agreement = fit_agreement(signals.agree, y)
        if agreement is None:
            return self
        candidate = replace(self, agreement=agreement)
        candidate = replace(candidate, echo=candidate._fit_echo(signals, y))
        everything = np.ones(y.shape, dtype=bool)
        without = _brier(self.condition(signals, everything).mean, self.low + (self.high - self.low) * y)
        with_it = _brier(candidate.condition(signals, everything).mean, self.low + (self.high - self.low) * y)
        return candidate if with_it < without else self

    def _fit_echo(self, signals: Signals, y: FloatArray) -> float:
        """What is left of the post-hoc evidence once answers are compared, by maximum a posteriori.

        The slope, in [0, 1], of the evidence about an answer beside the log odds from its agreement with another.
        """
        f = features(signals.ante, self.ante_mean, self.ante_sd)
        residual = signals.post - np.einsum("nkd,kd->nk", f, self.post_weights)
        evidence = np.nan_to_num((residual - self.post_slope / 2) * self.post_slope / self.post_sd**2)
        deaf = replace(self, post_slope=np.zeros_like(self.post_slope))
        odds, told, right = [], [], []
        for i in range(y.shape[1]):  # each answer beside that of the model before: twice in all
            pair = [i - 1, i]
            ran = np.zeros(y.shape, dtype=bool)
            ran[:, pair] = True
            mean = (deaf.condition(signals, ran).mean - self.low) / (self.high - self.low)
            p = np.clip(mean[:, pair], 1e-3, 1 - 1e-3)
            odds.append(np.log(p / (1 - p)))
            told.append(evidence[:, pair])
            right.append(y[:, pair])
        offset, x, target = np.array(odds), np.array(told), np.array(right)
        slopes = np.linspace(0, 1, 21)
        fit = [
            float((target * z - np.logaddexp(0, z)).sum()) for z in (offset + slope * x for slope in slopes)
        ]
        believed = 0.5 * np.array(fit) - 0.5 * ((slopes - _ECHO) / _ECHO_SD) ** 2
        return float(slopes[believed.argmax()])


def _brier(mean: FloatArray, y: FloatArray) -> float:
    return float(((mean - y) ** 2).mean())


def _patterns(models: int) -> IntArray:
    """``(2**models, models)`` of 0 and 1."""
    return (np.arange(1 << models)[:, None] >> np.arange(models)) & 1


@dataclass(frozen=True, slots=True, eq=False)
class CrossFitted:
    """Beliefs about the queries that they are learned from, each by a belief fitted without it.

    Conditions like a :class:`JointBelief`, but on rows of the table it was made from.

    Attributes:
        folds: one belief per fold.
        fold: ``(N,)`` the fold of each query.
    """

    folds: tuple[JointBelief, ...]
    fold: IntArray

    @classmethod
    def fit(cls, signals: Signals, quality: FloatArray, folds: int = 5) -> CrossFitted:
        """Fit one belief per fold on the queries outside it; fold ``n % folds`` has query ``n``."""
        fold = np.arange(len(quality)) % max(2, min(folds, len(quality) // 2))
        beliefs = []
        for held_out in range(int(fold.max(initial=1)) + 1):
            rows = np.flatnonzero(fold != held_out)
            beliefs.append(JointBelief.fit(signals.take(rows), np.asarray(quality, dtype=float)[rows]))
        return cls(tuple(beliefs), fold)

    def condition(self, signals: Signals, ran: BoolArray, queries: IntArray) -> Belief:
        """Belief about some ``queries`` ``(n,)``, given their signals and what has run."""
        return Belief.assembled(ran.shape, self._parts(signals, ran, queries))

    def _parts(
        self, signals: Signals, ran: BoolArray, queries: IntArray
    ) -> Iterator[tuple[IntArray, Belief]]:
        first = not ran.any()
        for held_out, belief in enumerate(self.folds):
            rows = np.flatnonzero(self.fold[queries] == held_out)
            for some, part in belief._parts(signals.take(rows), ran[rows], first):
                yield rows[some], part


@dataclass(frozen=True, slots=True, eq=False)
class SignalEstimates:
    """Beliefs and expected costs about a table of signals, as :func:`cascade_core.simulate.simulate` asks for them.

    Attributes:
        belief: fitted to other queries, or cross-fitted to these.
        signals: of the N queries.
        costs: ``(N, K)`` expected costs, or a function of queries ``(n,)`` and models run ``(n, K)`` returning
            ``(n, K)``, where what has run says more about the cost of what has not.
    """

    belief: JointBelief | CrossFitted
    signals: Signals
    costs: FloatArray | Callable[[IntArray, BoolArray], FloatArray]

    def __call__(self, queries: IntArray, ran: BoolArray) -> tuple[Belief, FloatArray]:
        """Belief about these queries and their expected costs, given what has run."""
        signals = self.signals.take(queries)
        if isinstance(self.belief, CrossFitted):
            belief = self.belief.condition(signals, ran, queries)
        else:
            belief = self.belief.condition(signals, ran)
        return belief, self.costs(queries, ran) if callable(self.costs) else self.costs[queries]
