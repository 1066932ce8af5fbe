"""A policy: everything that was fitted or chosen, as one JSON file that is data and nothing but data."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascade_core._json import decode, encode
from cascade_core.checks import AnswerCheck, SelfConsistency, Verification
from cascade_core.draw import draw
from cascade_core.episode import Episode
from cascade_core.errors import ConfigurationError, PolicyError
from cascade_core.estimation import Estimator, Uncalibrated, estimator_from_dict
from cascade_core.pricing import check_price_of_time
from cascade_core.strategies import Strategy, ThresholdCascade, strategy_from_dict
from cascade_core.values import Answer, Price, Query

if TYPE_CHECKING:
    from cascade_core.estimation import OwnSignals

SCHEMA_VERSION = 1
Unit = Literal["usd", "seconds"]


class ModelSpec(BaseModel):
    """A model as a policy knows it: by name, with its price where the policy counts in US dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    price: Price | None = None


class Limits(BaseModel):
    """Hard limits on one query. The first call is always made; later ones only within the limits.

    Attributes:
        max_calls: most model calls, failed ones included while another answer is in hand.
        max_cost: most that may be spent, in the policy's unit and with time where it has a price, judged by
            expected costs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_calls: int | None = Field(default=None, ge=1)
    max_cost: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class _File(BaseModel):
    """The JSON file's outline; the parts check themselves."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["cascade-routing policy"] = "cascade-routing policy"
    schema_version: int = SCHEMA_VERSION
    models: tuple[ModelSpec, ...]
    unit: Unit
    usd_per_second: float = 0.0
    limits: Limits
    check: AnswerCheck | None = None
    estimator: dict[str, Any]
    strategy: dict[str, Any]
    alternative: dict[str, Any] | None = None
    gamma: float = Field(default=0.0, ge=0, le=1)
    provenance: dict[str, Any] = Field(default_factory=dict)
    certificate: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Decides, for models known by name, which to run on a query and when to stop.

    Attributes:
        models: the models in the order of the estimator's and strategy's indices.
        estimator: turns queries and answers into beliefs and expected costs.
        strategy: decides on them.
        alternative: strategy used instead for a fraction ``gamma`` of the queries, so that the expected cost
            meets a budget exactly; which queries is drawn from their ids.
        gamma: that fraction, in [0, 1].
        unit: what costs are counted in: US dollars or seconds.
        usd_per_second: price of time that is in costs in US dollars: what a second of waiting is worth.
        limits: hard limits on one query.
        check: how answers are checked by further calls before it is decided whether to go on
            (:mod:`cascade_core.checks`); None: not at all.
        provenance: where the policy comes from, as plain JSON values.
        certificate: what the policy promises on new data, as plain JSON values.

    Raises:
        ConfigurationError: no models, one model, or two with one name; a price of time that is no price; a check
            that names other models, or all.
    """

    models: tuple[ModelSpec, ...]
    estimator: Estimator
    strategy: Strategy
    alternative: Strategy | None = None
    gamma: float = 0.0
    unit: Unit = "usd"
    usd_per_second: float = 0.0
    limits: Limits = field(default_factory=Limits)
    check: SelfConsistency | Verification | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the models' names, the price of time and the check."""
        check_names(self.names)
        check_price_of_time(self.usd_per_second, self.unit)
        if self.check is not None:
            self.check.fit_for(self.names)

    @classmethod
    def uncalibrated(
        cls, models: Sequence[ModelSpec], *, check: SelfConsistency | Verification | None = None
    ) -> Policy:
        """The default while nothing has been fitted: a cascade in the order given, cheapest first.

        A model's answer is kept if it looks sure of itself: the geometric mean of its token probabilities is
        at least 0.8, or, where the provider returns no log-probabilities, it is neither empty, cut off, nor a
        refusal. With a ``check``, what that comes to takes the place of the token probabilities. Nothing is promised
        about quality or cost until a policy is fitted.
        """
        priced = all(model.price is not None for model in models)
        return cls(
            models=tuple(models),
            estimator=Uncalibrated(prices=tuple(model.price for model in models)),
            strategy=ThresholdCascade(threshold=0.8),
            unit="usd" if priced else "seconds",
            check=check,
        )

    def __deepcopy__(self, memo: object) -> Policy:
        """The same: a policy never changes, and what it is connected to may not be copyable."""
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The models' names, in order."""
        return tuple(model.name for model in self.models)

    @cached_property
    def priced(self) -> bool:
        """Whether expected costs mean something in the policy's unit."""
        return self.estimator.calibrated or (
            self.unit == "usd" and all(model.price is not None for model in self.models)
        )

    def start(
        self,
        query: Query | str,
        *,
        only: Collection[str] | None = None,
        excluded: Collection[str] = (),
        down: Collection[str] = (),
    ) -> Episode:
        """Begin an episode.

        Args:
            query: the query, or its text.
            only: names of the models that may be used; None for all.
            excluded: names of models to leave out, because they lack a capability.
            down: names of models that are failing at the moment, to leave out unless nothing else is left.

        Raises:
            ConfigurationError: a name is not one of the policy's models, or nothing is left.
        """
        known = self.names
        unknown = [name for name in (*(only or ()), *excluded, *down) if name not in known]
        if unknown:
            raise ConfigurationError(f"unknown model {unknown[0]!r}: this policy knows {list(known)}")
        allowed = [name for name in known if (only is None or name in only) and name not in excluded]
        if not allowed:
            raise ConfigurationError(
                f"no model is left for this query: of {list(known)}, only={only if only is None else list(only)}, "
                f"excluded={sorted(excluded)}"
            )
        allowed = [name for name in allowed if name not in down] or allowed
        return Episode(self, Query(text=query) if isinstance(query, str) else query, allowed)

    def strategy_for(self, query: Query) -> Strategy:
        """The strategy that decides this query: ``alternative`` with probability ``gamma``, drawn from its key."""
        if self.alternative is not None and draw(query.key) < self.gamma:
            return self.alternative
        return self.strategy

    def cost_of(self, model: int, answer: Answer) -> float | None:
        """What an answer cost in the policy's unit, time included; None if that is not known."""
        if self.unit == "seconds":
            return answer.latency
        billed = self.billed(model, answer)
        if billed is None or not self.usd_per_second:
            return billed
        return None if answer.latency is None else billed + self.usd_per_second * answer.latency

    def billed(self, model: int, answer: Answer) -> float | None:
        """US dollars that an answer's tokens cost; None if the provider did not say."""
        price = self.models[model].price
        if price is None or answer.usage is None:
            return None
        return price.dollars(answer.usage)

    def connect(self, *, embedding: object = None, own: OwnSignals | None = None) -> Policy:
        """This policy with the parts that no file can hold: the embedding and the estimator of the user's own.

        Raises:
            PolicyError: the policy was not fitted to data, so it uses neither.
        """
        from cascade_core.estimation.fitted import FittedEstimator

        if not isinstance(self.estimator, FittedEstimator):
            raise PolicyError("this policy was not fitted to data: there is nothing to connect")
        return replace(self, estimator=self.estimator.connect(embedding=embedding, own=own))

    def check_models(self, names: Iterable[str]) -> None:
        """Check that the policy was made for models of these names.

        Raises:
            PolicyError: naming the models that are missing or unknown.
        """
        given = tuple(names)
        if set(given) != set(self.names):
            raise PolicyError(
                f"this policy was made for the models {list(self.names)}, but it is given {list(given)}: hand over "
                "models of those names, or fit a policy for these"
            )

    # -- files ---------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The policy as JSON text."""
        file = _File(
            models=self.models,
            unit=self.unit,
            usd_per_second=self.usd_per_second,
            limits=self.limits,
            check=self.check,
            estimator={"name": self.estimator.name, **self.estimator.to_dict()},
            strategy=self.strategy.to_dict(),
            alternative=None if self.alternative is None else self.alternative.to_dict(),
            gamma=self.gamma,
            provenance=dict(self.provenance),
            certificate=None if self.certificate is None else dict(self.certificate),
        )
        plain = {name: encode(getattr(file, name)) for name in _File.model_fields}
        plain["models"] = [model.model_dump(mode="json") for model in file.models]
        plain["limits"] = file.limits.model_dump(mode="json")
        plain["check"] = None if file.check is None else file.check.model_dump(mode="json")
        return json.dumps(plain, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Inverse of :meth:`to_json`. Runs no code of the text's.

        Raises:
            PolicyError: truncated or damaged text, another schema version, unknown parts.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise PolicyError(
                f"the policy is not valid JSON ({error}): the file is truncated or damaged; save the policy again"
            ) from error
        if not isinstance(data, dict) or data.get("format") != "cascade-routing policy":
            raise PolicyError(
                'this is not a policy: expected a JSON object with "format": "cascade-routing policy"'
            )
        if data.get("schema_version") != SCHEMA_VERSION:
            raise PolicyError(
                f"the policy has schema version {data.get('schema_version')!r}, this release reads version "
                f"{SCHEMA_VERSION}: install the release that wrote it, or fit the policy again"
            )
        try:
            file = _File.model_validate(data)
            return cls(
                models=file.models,
                estimator=estimator_from_dict(decode(file.estimator)),
                strategy=strategy_from_dict(decode(file.strategy)),
                alternative=None
                if file.alternative is None
                else strategy_from_dict(decode(file.alternative)),
                gamma=file.gamma,
                unit=file.unit,
                usd_per_second=file.usd_per_second,
                limits=file.limits,
                check=file.check,
                provenance=file.provenance,
                certificate=file.certificate,
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise PolicyError(f"the policy's field {where!r} is not valid: {first['msg']}") from error
        except ConfigurationError as error:
            raise PolicyError(f"the policy cannot be used: {error}") from error
        except (KeyError, TypeError) as error:
            raise PolicyError(f"the policy is damaged: {type(error).__name__}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the policy to a JSON file, whole or not at all."""
        target = Path(path)
        handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.to_json())
            os.replace(scratch, target)
        except BaseException:
            os.unlink(scratch)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, models: Iterable[str] | None = None) -> Policy:
        """Read a policy from a JSON file.

        Args:
            path: the file.
            models: names of the models that it will be used with, to be checked.

        Raises:
            PolicyError: the file cannot be used; the message says why and what to do.
        """
        try:
            policy = cls.from_json(Path(path).read_text(encoding="utf-8"))
        except PolicyError as error:
            raise PolicyError(f"{os.fspath(path)}: {error}") from error
        except OSError as error:
            raise PolicyError(
                f"{os.fspath(path)}: {error.strerror or error}. Expected the file that Policy.save wrote"
            ) from error
        except UnicodeDecodeError as error:
            raise PolicyError(f"{os.fspath(path)}: not a text file, so not a policy") from error
        if models is not None:
            policy.check_models(models)
        return policy


def check_names(names: Sequence[str]) -> None:
    """Check that there are at least two models, each with a name of its own.

    Raises:
        ConfigurationError: saying how many there are or which name is there twice.
    """
    if len(names) < 2:
        have = "no models" if not names else f"only one model, {names[0]!r}"
        raise ConfigurationError(f"{have}: there is nothing to choose from. Hand over two models or more")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"two models are named {twice[0]!r}: each needs a name of its own. "
            "Hand the models over as a dictionary from name to model"
        )
