"""The estimator that was fitted to answers: everything it learned as arrays, and predicting with numpy alone.

A query goes through three stages, each fitted on out-of-fold predictions of the one before:

1. *ex-ante*: n-grams, form and the user's own features, through a ridge regression per model and a logistic
   regression on top, to the log odds that each model's answer is good (:mod:`.encoder`);
2. *post-hoc*: from those odds and what an answer shows of itself to the odds given the answer (:mod:`.answer`);
3. *joint*: all of these, and which answers agree, as evidence about all models at once (:mod:`.joint`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cascade_core.belief import Belief, BoolArray, FloatArray, IntArray
from cascade_core.errors import CalibrationError, PolicyError
from cascade_core.estimation._base import Estimator, Evidence
from cascade_core.estimation.agreement import Key, agree, agreements, keys_of
from cascade_core.estimation.answer import figures
from cascade_core.estimation.costs import CostModel, log_length
from cascade_core.estimation.encoder import Embed, Encoded, Encoder, as_embed, embed_texts
from cascade_core.estimation.joint import JointBelief, SignalEstimates, Signals
from cascade_core.estimation.neighbours import Neighbours, places
from cascade_core.estimation.own import OwnSignals
from cascade_core.estimation.text import read
from cascade_core.values import Answer, Query

if TYPE_CHECKING:
    from cascade_core.calibration.table import AnswerTable

_log = logging.getLogger("cascade_core")


@dataclass(frozen=True, eq=False)
class Linear:
    """T linear functions of an encoded text, the n-grams' weights in eight bits.

    Attributes:
        grams: ``(2**bits, T)``; times ``scale`` ``(T,)`` they are the weights.
        dense: ``(E, T)`` weights of the dense features.
        intercept: ``(T,)``.
    """

    grams: NDArray[np.int8]
    scale: FloatArray
    dense: FloatArray
    intercept: FloatArray

    @classmethod
    def of(cls, weights: FloatArray, intercept: FloatArray, bits: int) -> Linear:
        """Round the weights ``(2**bits + E, T)`` of the n-grams."""
        grams, dense = weights[: 1 << bits], weights[1 << bits :]
        scale = np.maximum(np.abs(grams).max(axis=0), 1e-12) / 127
        return cls(np.rint(grams / scale).astype(np.int8), scale, dense, intercept)

    def __call__(self, encoded: Encoded) -> FloatArray:
        """``(T,)`` of one text."""
        sparse = (encoded.value @ self.grams[encoded.where]) * self.scale
        value: FloatArray = sparse + encoded.dense @ self.dense + self.intercept
        return value


@dataclass(frozen=True, eq=False)
class AnteModel:
    """Ex-ante estimates of a query.

    Attributes:
        encoder: from the query to numbers.
        linear: from the numbers to K expected qualities and K drifts of cost.
        neighbours: queries of the table and how they were answered.
        centre, spread: ``(S,)`` by which the stacked signals are standardised: the K expected qualities, those of the
            neighbours and, where there are any, the log odds of the user's own estimator.
        stack: ``(K, d)`` logistic regression on a model's signals and their means over the models.
    """

    encoder: Encoder
    linear: Linear
    neighbours: Neighbours
    centre: FloatArray
    spread: FloatArray
    stack: FloatArray

    def __call__(
        self, query: Query, embedding: FloatArray | None, own: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Log odds ``(K,)`` and drifts of cost ``(K,)`` of one query."""
        models = self.stack.shape[0]
        encoded = self.encoder.encode(query, embedding)
        raw = self.linear(encoded)
        scores = (raw[:models] - self.centre[:models]) / self.spread[:models]
        near = self.neighbours(places(scores[None, :], encoded.form[None, :]))[0]
        parts = [raw[:models], near] if own is None else [raw[:models], near, own]
        signals = np.concatenate(parts)
        x = stack_features(((signals - self.centre) / self.spread)[None, :], models)[0]
        logits: FloatArray = (x * self.stack[:, :-1]).sum(axis=1) + self.stack[:, -1]
        return logits, raw[models:]


def stack_features(signals: FloatArray, models: int) -> FloatArray:
    """``(N, K, 2·S/K)`` each model's own signals and their means over the models, from ``(N, S)`` of all models."""
    kinds = np.minimum(np.maximum(signals, -6), 6).reshape(len(signals), -1, models)
    own_and_mean: FloatArray = np.empty((len(signals), 2 * kinds.shape[1], models))
    own_and_mean[:, : kinds.shape[1]] = kinds
    own_and_mean[:, kinds.shape[1] :] = kinds.sum(axis=2, keepdims=True) / models
    return np.swapaxes(own_and_mean, 1, 2)


@dataclass(frozen=True, eq=False)
class PostModel:
    """Post-hoc estimates from an answer.

    Attributes:
        encoder: from the answer's text to numbers.
        linear: from these to how much better than expected answers that read like it are.
        centre, spread: ``(K, F)`` by which the figures of an answer are standardised, for each model.
        weights: ``(K, F + 1)`` logistic regression on the figures, on top of the ex-ante log odds.
        key: name of what an answer comes to, for its agreement with others; empty if agreement tells nothing.
        threshold: least cosine between two answers of the same meaning, where that is the key.
        checked: whether what a check of the answer came to is among the figures, the last.
    """

    encoder: Encoder
    linear: Linear
    centre: FloatArray
    spread: FloatArray
    weights: FloatArray
    key: str
    threshold: float = 0.0
    checked: bool = False

    def __call__(self, model: int, ante: float, answer: Answer, own: float | None) -> float:
        """Log odds that this model's answer is good, given those before it had run."""
        x = standardised(self.raw(answer, own), self.centre[model], self.spread[model])
        return float(ante + x @ self.weights[model, :-1] + self.weights[model, -1])

    def raw(self, answer: Answer, own: float | None) -> FloatArray:
        """``(F,)`` figures of an answer, NaN where there is none."""
        reading = read(answer.text)
        text = self.linear(self.encoder.encode(Query(text=answer.text), reading=reading))
        parts = [figures(answer, reading), text]
        return np.concatenate([*parts, *further_figures(answer, own, self.checked)])


def further_figures(answer: Answer, own: float | None, checked: bool) -> list[list[float]]:
    """Figures of an answer that not every policy has: that of the user's own estimator, and that of a check."""
    parts = [] if own is None else [[own]]
    if checked:
        parts.append([np.nan if answer.check is None else answer.check])
    return parts


def standardised(raw: FloatArray, centre: FloatArray, spread: FloatArray) -> FloatArray:
    """Figures in standard deviations, within ±4; 0 where one is missing."""
    x = np.clip((raw - centre) / spread, -4, 4)
    return np.where(np.isfinite(x), x, 0.0)


@dataclass(frozen=True, eq=False)
class FittedEstimator(Estimator):
    """Estimates learned from an answer table; made by :func:`~cascade_core.estimation.fit_estimator`.

    Attributes:
        models: names of the K models.
        ante, post, costs, belief: what was learned; ``post`` is None if the table had no answers.
        uses_own: whether it must be given the user's own estimator.
        guests: ``(G, 2)`` the last G models joined later (:mod:`.joining`): slope and offset of their ex-ante log
            odds over the mean of those of the models before.
        embed, own: what no file can hold, see :meth:`connect`.
    """

    name: ClassVar[str] = "fitted"
    calibrated: ClassVar[bool] = True

    models: tuple[str, ...]
    ante: AnteModel
    post: PostModel | None
    costs: CostModel
    belief: JointBelief
    uses_own: bool = False
    guests: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    embed: Embed | None = None
    own: OwnSignals | None = None

    @property
    def uses_embedding(self) -> bool:
        """Whether it must be given the embedding it was fitted with."""
        return self.ante.encoder.embedding_size > 0

    @property
    def waits(self) -> bool:
        """Whether it asks the user's embedding or own estimator, which may be a service."""
        return self.uses_embedding or self.uses_own

    @property
    def compares(self) -> bool:
        """Whether its beliefs hear which answers agree."""
        return self.belief.agreement is not None

    @property
    def compared_by(self) -> str:
        """What answers are compared by, :attr:`PostModel.key`; empty where nobody hears which agree."""
        return self.post.key if self.post is not None and self.compares else ""

    @property
    def heard(self) -> BoolArray:
        """``(K,)`` models whose answers are listened to: that teach something about quality.

        Of the others not even the length is, which might tell about costs, so that a call to one is known to be
        the last before it is made, and can be streamed live.
        """
        heard: BoolArray = (self.belief.post_slope != 0) | (self.belief.agreement is not None)
        return heard

    def connect(self, *, embedding: object = None, own: OwnSignals | None = None) -> FittedEstimator:
        """The estimator with the parts that no file can hold: the user's embedding and own estimator."""
        return replace(
            self,
            embed=self.embed if embedding is None else as_embed(embedding),
            own=self.own if own is None else own,
        )

    def check_connected(self) -> None:
        """Check that the user's embedding and own estimator are there, if it was fitted with them."""
        lacks_embedding = self.uses_embedding and self.embed is None
        if lacks_embedding or (self.uses_own and self.own is None):
            part, name = ("embedding", "embedding") if lacks_embedding else ("own", "estimator")
            raise PolicyError(
                f"this policy was fitted with your own {name}, "
                f"which no file can hold: hand it over, as in Policy.load(path).connect({part}=...)"
            )

    def start(self, query: Query) -> Evidence:
        """Evidence about a query before any model has run.

        Raises:
            PolicyError: if it was fitted with an embedding or an estimator of the user's that is not connected.
        """
        ante, drift = self.ahead([query])
        return _Gathered(self, query, ante, drift)

    def estimates(self, table: AnswerTable) -> SignalEstimates:
        """Estimates about a table's queries, as episodes would have them, for simulation.

        Raises:
            CalibrationError: if the table has other models.
        """
        if table.models != self.models:
            raise CalibrationError(
                f"the table has the models {list(table.models)}, the estimator was fitted to "
                f"{list(self.models)}: select these, in this order"
            )
        ante, drift = self.ahead(table.queries)
        post = np.full(ante.shape, np.nan)
        lengths = np.full(ante.shape, np.nan)
        if self.post is not None:
            for n, (query, row) in enumerate(zip(table.queries, table.answers, strict=True)):
                for k, answer in enumerate(row):
                    if answer is not None:
                        post[n, k] = self._after(query, k, float(ante[n, k]), answer)
                        lengths[n, k] = log_length(answer)
        agree_ = None
        if self.post is not None and (key := self.compared_by):
            size = self.ante.encoder.embedding_size
            agree_ = agreements(table.answers, key, self.post.threshold, self.embed, size)
        chars = np.array([query.sent_chars for query in table.queries], dtype=float)
        return SignalEstimates(
            self.belief,
            Signals(ante, post, agree_),
            CostsOf(self.costs, chars, drift, lengths, self.heard),
        )

    def to_dict(self) -> dict[str, Any]:
        """All that was learned, as plain values and arrays."""
        return {
            "models": list(self.models),
            "ante": _plain(self.ante),
            "post": None if self.post is None else _plain(self.post),
            "costs": self.costs.to_dict(),
            "belief": self.belief.to_dict(),
            "uses_own": self.uses_own,
            "guests": self.guests,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FittedEstimator:
        """Inverse of :meth:`to_dict`."""
        ante, post = data["ante"], data["post"]
        return cls(
            models=tuple(data["models"]),
            ante=AnteModel(**_parts(ante)),
            post=None if post is None else PostModel(**_parts(post)),
            costs=CostModel.from_dict(data["costs"]),
            belief=JointBelief.from_dict(data["belief"]),
            uses_own=data["uses_own"],
            guests=data["guests"],
        )

    # -- stages ------------------------------------------------------------------------------------------

    def signals(self, queries: Sequence[Query]) -> Signals:
        """What is known about queries before any model has run."""
        ante, _ = self.ahead(queries)
        return Signals(ante, np.full_like(ante, np.nan))

    def ahead(self, queries: Sequence[Query]) -> tuple[FloatArray, FloatArray]:
        """Ex-ante log odds and drifts of cost, ``(N, K)`` each."""
        self.check_connected()
        vectors = None
        if self.embed is not None and self.uses_embedding:
            size = self.ante.encoder.embedding_size
            vectors = embed_texts(self.embed, [query.text for query in queries], size)
        hosts = len(self.models) - len(self.guests)
        ante, drift = np.empty((2, len(queries), len(self.models)))
        for n, query in enumerate(queries):
            own = own_logits(self.own, query, hosts) if self.own and self.uses_own else None
            vector = None if vectors is None else vectors[n]
            ante[n, :hosts], drift[n, :hosts] = self.ante(query, vector, own)
        for guest, (slope, offset) in enumerate(self.guests, start=hosts):
            ante[:, guest] = slope * ante[:, :guest].mean(axis=1) + offset
            drift[:, guest] = drift[:, :guest].mean(axis=1)
        return ante, drift

    def _after(self, query: Query, model: int, ante: float, answer: Answer) -> float:
        assert self.post is not None
        own = None
        if self.own is not None and self.uses_own:
            own = float(self.own.post_hoc(query, self.models[model], answer))
        return self.post(model, ante, answer, own)


def own_logits(own: OwnSignals, query: Query, models: int) -> FloatArray:
    """``(K,)`` log odds from the user's own ex-ante probabilities.

    Raises:
        CalibrationError: if there is not one probability for each model.
    """
    from cascade_core.estimation.regression import logit

    p = np.asarray(own.ex_ante(query), dtype=float)
    if p.shape != (models,) or not ((p >= 0) & (p <= 1)).all():
        raise CalibrationError(
            f"ex_ante returned {p.tolist()}, expected {models} probabilities, one per model in order"
        )
    return logit(p)


class _Gathered(Evidence):
    """What is known about one query."""

    def __init__(self, estimator: FittedEstimator, query: Query, ante: FloatArray, drift: FloatArray) -> None:
        models = ante.shape[1]
        self._estimator = estimator
        self._query = query
        self._drift = drift
        compares = bool(estimator.compared_by)
        agree_ = np.full((1, models, models), -1, dtype=np.int8) if compares else None
        self._signals = Signals(ante, np.full_like(ante, np.nan), agree_)
        self._lengths = np.full_like(ante, np.nan)
        self._keys: dict[int, Key] = {}
        self._unread: dict[int, str] = {}
        self._ran = np.zeros((1, models), dtype=bool)
        self._ahead = estimator.costs.ahead(np.array([float(query.sent_chars)]), drift)

    def observe(self, model: int, answer: Answer) -> None:
        self._ran[0, model] = True
        post = self._estimator.post
        if post is None:
            return
        signals = self._signals
        signals.post[0, model] = self._estimator._after(
            self._query, model, float(signals.ante[0, model]), answer
        )
        self._lengths[0, model] = log_length(answer)
        if signals.agree is not None:
            self._unread[model] = answer.text
            self._compare(post, signals.agree)

    def _compare(self, post: PostModel, seen: NDArray[np.int8]) -> None:
        """Which answers agree. What an answer comes to may be paid for: the first has none to agree with yet."""
        if len(self._keys) + len(self._unread) < 2:
            return
        size = self._estimator.ante.encoder.embedding_size
        try:
            keys = keys_of(list(self._unread.values()), post.key, self._estimator.embed, size)
        except Exception as error:  # of the embedding: the answers are there and must not be lost by it
            _log.warning("answers are not compared: the embedding failed with %s", type(error).__name__)
            return
        for model, key in zip(self._unread, keys, strict=True):
            for other, known in self._keys.items():
                seen[0, model, other] = seen[0, other, model] = agree(key, known, post.threshold)
            self._keys[model] = key
        self._unread.clear()

    def belief(self) -> Belief:
        return self._estimator.belief.condition(self._signals, self._ran)

    def costs(self) -> FloatArray:
        costs = self._estimator.costs
        heard = self._ran & self._estimator.heard
        return costs.given(self._ahead, costs.surprise(self._lengths, self._drift), heard)

    def foreseen(self, model: int) -> Belief | None:
        if self._estimator.heard[model]:
            return None
        ran = self._ran.copy()
        ran[0, model] = True
        return self._estimator.belief.condition(self._signals, ran)


class CostsOf:
    """Expected costs of a table's queries, given what has run."""

    def __init__(
        self, model: CostModel, chars: FloatArray, drift: FloatArray, lengths: FloatArray, heard: BoolArray
    ) -> None:
        self._model = model
        self._heard = heard
        self._ahead = model.ahead(chars, drift)
        self._surprise = model.surprise(lengths, drift)

    def __call__(self, queries: IntArray, ran: BoolArray) -> FloatArray:
        """``(n, K)``."""
        return self._model.given(self._ahead[queries], self._surprise[queries], ran & self._heard)


def _plain(model: AnteModel | PostModel) -> dict[str, Any]:
    values = {part.name: getattr(model, part.name) for part in fields(model)}
    values["encoder"] = model.encoder.to_dict()
    if isinstance(model, AnteModel):
        values["neighbours"] = {
            part.name: getattr(model.neighbours, part.name) for part in fields(Neighbours)
        }
    values["linear"] = {part.name: getattr(model.linear, part.name) for part in fields(Linear)}
    return values


def _parts(data: Mapping[str, Any]) -> dict[str, Any]:
    parts = {**data, "encoder": Encoder.from_dict(data["encoder"]), "linear": Linear(**data["linear"])}
    if "neighbours" in data:
        parts["neighbours"] = Neighbours(**data["neighbours"])
    return parts
