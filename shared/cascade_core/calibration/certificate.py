"""What a policy promises on new data, and with what confidence.

A certificate is computed on prompts that took no part in fitting or tuning. Where it also chooses among several
policies, it does so by fixed-sequence testing (Angelopoulos and others, *Learn then Test*, arXiv 2110.01052):
candidates are tried from the safest on, and the first that misses the target ends the search. That the choice reaches
the target needs no correction then, and no more than the target is promised; the other bounds are corrected for the
number of candidates (Bonferroni).

A quality bound and a cost bound are stated together, so each is computed at half the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from cascade_core.belief import FloatArray
from cascade_core.calibration.bounds import lower_mean, lower_ratio, upper_mean, upper_ratio
from cascade_core.calibration.targets import Budget, Quality, RelativeQuality, Savings, Target
from cascade_core.errors import CalibrationError, ConfigurationError
from cascade_core.pricing import time_in_words

_FAR = 1e9  # stands for a ratio to nothing, which JSON cannot say
LEAST_PROMPTS = 5
"""A certificate on fewer held-out prompts would say nothing."""


class Bound(BaseModel):
    """What was measured on the held-out prompts, and the bound on what holds for new ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measured: float
    bound: float


class Sharper(BaseModel):
    """What the quality bound would be with more held-out prompts, if they show the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: int
    bound: float


class Certificate(BaseModel):
    """What a policy promises on new data like the held-out prompts.

    Attributes:
        confidence: probability that the quality bound and the cost bound both hold, over the draw of the prompts.
        prompts: number of held-out prompts.
        scorer: what quality means here.
        agreement_with: the model whose answers stand in for right ones, so that quality is agreement with them and
            that model's own is 1; None where quality was scored.
        unit: what costs are counted in.
        usd_per_second: price of time that is in costs in US dollars.
        target: the target in words, empty without one.
        reached: whether the bound itself reaches the target; None without a target.
        reference: the model that ratios compare with.
        quality: mean quality, bounded from below.
        relative_quality: ratio to the reference model's mean quality, bounded from below.
        cost: mean cost per query, bounded from above.
        relative_cost: ratio to the reference model's mean cost, bounded from above.
        most_cost: the highest cost of one query that the cost bounds reckon with.
        candidates: policies that it chose among on the held-out prompts.
        sharper: what more prompts would buy, for the relative quality.
        assumptions: what has to be true.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float
    prompts: int
    scorer: str
    agreement_with: str | None = None
    unit: Literal["usd", "seconds"]
    usd_per_second: float = 0.0
    target: str = ""
    reached: bool | None = None
    reference: str
    quality: Bound
    relative_quality: Bound
    cost: Bound
    relative_cost: Bound
    most_cost: float
    candidates: int = 1
    sharper: tuple[Sharper, ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The certificate in one sentence."""
        quality, cost = self.relative_quality, self.relative_cost
        what = quality_in_words(self.reference, self.agreement_with)
        return (
            f"With {_percent(self.confidence)} confidence, at least {_percent(quality.bound, down=True)} {what}"
            f"{', right or wrong,' if self.agreement_with else ''} at no more than "
            f"{_percent(cost.bound, down=False)} of its "
            f"{'time' if self.unit == 'seconds' else 'cost'}{time_in_words(self.usd_per_second)} "
            f"(measured on {self.prompts} held-out prompts: {_percent(quality.measured)} at "
            f"{_percent(cost.measured)})."
        )

    def __str__(self) -> str:
        """The sentence, and what has to be true, as a list."""
        return "\n".join([self.sentence, *(f"- {said}" for said in self.assumptions)])


@dataclass(frozen=True)
class Sample:
    """What one policy did with the held-out prompts, beside the models alone.

    Attributes:
        quality: ``(n,)`` quality of the answers returned, in [0, 1].
        cost: ``(n,)`` cost of all calls.
        single_quality: ``(n, K)`` quality of every model's answer.
        single_cost: ``(n, K)`` cost of every model's call.
        models: names of the K models.
        most_cost: the most that any prompt cost the policy, held out or not; cost bounds take it for the most that
            one query can cost.
    """

    quality: FloatArray
    cost: FloatArray
    single_quality: FloatArray
    single_cost: FloatArray
    models: tuple[str, ...]
    most_cost: float


@dataclass(frozen=True)
class Terms:
    """What a certificate is to say beside the numbers.

    Attributes:
        target: what the policy is to reach, None to state bounds only.
        reference: name of the model that ratios compare with.
        scorer: name of what measured quality.
        unit: what costs are counted in.
        confidence: that both bounds hold.
        usd_per_second: price of time in the costs.
    """

    target: Target | None
    reference: str
    scorer: str
    unit: Literal["usd", "seconds"] = "usd"
    confidence: float = 0.95
    usd_per_second: float = 0.0

    def __post_init__(self) -> None:
        """Check the confidence."""
        check_confidence(self.confidence)


def check_confidence(confidence: float) -> None:
    """Refuse what is no confidence.

    Raises:
        ConfigurationError: it is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ConfigurationError(
            f"confidence is {confidence}: expected a number between 0 and 1, 0.95 is 95 %"
        )


def certify(candidates: Sequence[Sample], terms: Terms) -> tuple[int, Certificate]:
    """Choose among candidates, the safest first, and certify the choice.

    Args:
        candidates: the same held-out prompts under each policy, ordered from the one that is surest to reach the
            target to the one that reaches it on average only. One candidate is certified as it is.
        terms: what is to be certified.

    Returns:
        Position of the last candidate before the first whose bound misses the target, and its certificate. If even
        the first misses it, the last candidate, with ``reached`` false and every bound corrected for the choice.

    Raises:
        CalibrationError: too few held-out prompts, or scores outside [0, 1].
    """
    alpha = (1 - terms.confidence) / 2
    tested = _tested(terms.target)
    reaching = -1
    for sample in candidates:
        _check(sample)
        if tested is None or not _reaches(terms.target, _bound(tested, sample, terms, alpha).bound):
            break
        reaching += 1
    chosen = reaching if reaching >= 0 else len(candidates) - 1
    sample = candidates[chosen]
    numbers = {name: _bound(name, sample, terms, alpha / len(candidates)) for name in _NUMBERS}
    sharper = _sharper(_bound("relative_quality", sample, terms, alpha), sample.quality.size)
    if tested is not None and reaching >= 0:
        bound = _bound(tested, sample, terms, alpha)
        alone = len(candidates) == 1
        numbers[tested] = bound if alone else Bound(measured=bound.measured, bound=_wanted(terms.target))
    reached = None if tested is None else reaching >= 0
    agreed = agreed_with(terms.scorer, sample.models)
    return chosen, Certificate(
        confidence=terms.confidence,
        prompts=sample.quality.size,
        scorer=terms.scorer,
        agreement_with=agreed,
        unit=terms.unit,
        usd_per_second=terms.usd_per_second,
        target="" if terms.target is None else in_words(terms.target, terms.reference, agreed),
        reached=reached,
        reference=terms.reference,
        most_cost=sample.most_cost,
        candidates=len(candidates),
        sharper=sharper,
        assumptions=_assumptions(terms, agreed, sample.most_cost, len(candidates)),
        **numbers,
    )


def agreed_with(scorer: str, models: Sequence[str]) -> str | None:
    """The model whose answers a scorer of this name takes for right ones; None if it takes none.

    Example:
        >>> agreed_with("agreement:llama3:8b:numeric", ["llama3", "llama3:8b"])
        'llama3:8b'
        >>> agreed_with("numeric", ["small", "large"]) is None
        True
    """
    kind, _, rest = scorer.partition(":")
    if kind != "agreement":
        return None
    named = [model for model in models if f"{rest}:".startswith(f"{model}:")]
    return max(named, key=len) if named else rest.rpartition(":")[0] or rest


def quality_in_words(reference: str, agreed: str | None) -> str:
    """What a share of a model's quality is a share of.

    Example:
        >>> quality_in_words("large", None), quality_in_words("large", "large")
        ("of large's quality", "agreement with large's answers")
    """
    if agreed is None:
        return f"of {reference}'s quality"
    agreement = f"agreement with {agreed}'s answers"
    return agreement if agreed == reference else f"of {reference}'s {agreement}"


def in_words(target: Target, reference: str, agreed: str | None = None) -> str:
    """The target in words; ``agreed`` is the model whose answers stand in for right ones.

    Example:
        >>> in_words(RelativeQuality(0.98), "large")
        "at least 98 % of large's quality"
    """
    match target:
        case Quality(quality=wanted):
            what = "quality" if agreed is None else quality_in_words(agreed, agreed)
            return f"a mean {what} of at least {wanted:g}"
        case RelativeQuality(ratio=wanted):
            return f"at least {_percent(wanted)} {quality_in_words(reference, agreed)}"
        case Budget(cost=wanted):
            return f"at most {wanted:g} per query"
        case Savings(share=wanted):
            return f"at least {_percent(wanted)} less than {reference} costs"


_Number = Literal["quality", "relative_quality", "cost", "relative_cost"]
_NUMBERS: tuple[_Number, ...] = ("quality", "relative_quality", "cost", "relative_cost")


def _tested(target: Target | None) -> _Number | None:
    """The number that a target is about."""
    match target:
        case Quality():
            return "quality"
        case RelativeQuality():
            return "relative_quality"
        case Budget():
            return "cost"
        case Savings():
            return "relative_cost"
        case None:
            return None


def _wanted(target: Target | None) -> float:
    """What that number is to reach."""
    match target:
        case Quality(quality=wanted) | RelativeQuality(ratio=wanted) | Budget(cost=wanted):
            return wanted
        case Savings(share=share):
            return 1 - share
        case None:
            return float("nan")


def _reaches(target: Target | None, bound: float) -> bool:
    wanted = _wanted(target)
    return bound <= wanted if isinstance(target, (Budget, Savings)) else bound >= wanted


def _bound(number: _Number, sample: Sample, terms: Terms, alpha: float) -> Bound:
    """One bound, which fails with probability ``alpha``."""
    k = sample.models.index(terms.reference)
    reference_quality, reference_cost = sample.single_quality[:, k], sample.single_cost[:, k]
    if number == "quality":
        return Bound(measured=float(sample.quality.mean()), bound=lower_mean(sample.quality, 1 - alpha))
    if number == "cost":
        bound = upper_mean(sample.cost, 1 - alpha, worst=sample.most_cost)
        return Bound(measured=float(sample.cost.mean()), bound=bound)
    if (sample.quality == reference_quality).all() and (sample.cost == reference_cost).all():
        return Bound(measured=1.0, bound=1.0)  # the policy is the reference model, which needs no sample
    if number == "relative_quality":
        bound = lower_ratio(sample.quality, reference_quality, 1 - alpha, worst=(0.0, 1.0))
        return Bound(measured=_ratio(sample.quality, reference_quality), bound=min(bound, _FAR))
    bound = upper_ratio(sample.cost, reference_cost, 1 - alpha, worst=(sample.most_cost, 0.0))
    return Bound(measured=_ratio(sample.cost, reference_cost), bound=min(bound, _FAR))


def _ratio(values: FloatArray, reference: FloatArray) -> float:
    return min(float(values.sum()) / max(float(reference.sum()), np.finfo(float).tiny), _FAR)


def _check(sample: Sample) -> None:
    n = sample.quality.size
    if n < LEAST_PROMPTS:
        raise CalibrationError(
            f"{n} held-out prompts are too few for a certificate: expected at least {LEAST_PROMPTS}, and a few "
            "hundred for a sharp one"
        )
    for scores in (sample.quality, sample.single_quality):
        if not ((scores >= 0) & (scores <= 1)).all():
            raise CalibrationError("a certificate needs qualities from 0 to 1: scale the scores")


def _sharper(bound: Bound, prompts: int) -> tuple[Sharper, ...]:
    """The distance between bound and mean shrinks with the square root of the number of prompts."""
    gap = bound.measured - bound.bound
    return tuple(
        Sharper(prompts=prompts * times, bound=bound.measured - gap / float(np.sqrt(times)))
        for times in (2, 4, 10)
    )


def _assumptions(terms: Terms, agreed: str | None, most_cost: float, candidates: int) -> tuple[str, ...]:
    said = [
        "New queries come from the same source as the held-out prompts, independently of each other.",
        f"Quality is what the scorer {terms.scorer!r} says"
        + (
            "."
            if agreed is None
            else f": agreement with {agreed}'s answers, which is not the same as being right. {agreed} itself has 1 "
            "by definition, however good it is."
        ),
        f"No query costs more than {most_cost:.4g} {terms.unit}, the most that any of the prompts cost.",
        "Models, prices and prompts stay as they were.",
    ]
    if terms.usd_per_second:
        said.append(
            f"Every second that a call takes counts as ${terms.usd_per_second:g} of its cost; what is billed is less."
        )
    if candidates > 1:
        said.append(
            f"The policy was chosen among {candidates} by fixed-sequence testing; the bounds are corrected for that."
        )
    return tuple(said)


def _percent(share: float, *, down: bool | None = None) -> str:
    """In percent with one decimal, rounded to the safe side where there is one."""
    tenths = share * 1000
    if down is not None:
        tenths = np.floor(tenths + 1e-9) if down else np.ceil(tenths - 1e-9)
    return f"{round(float(tenths)) / 10:g} %"


def certificate_of(data: Mapping[str, Any] | None) -> Certificate | None:
    """The certificate in a policy, None if there is none.

    Raises:
        CalibrationError: it is damaged or of another release.
    """
    if data is None:
        return None
    from pydantic import ValidationError

    try:
        return Certificate.model_validate(data)
    except ValidationError as error:
        raise CalibrationError(
            f"the policy's certificate cannot be read ({error.errors()[0]['msg']}): fit the policy again"
        ) from error
