"""Scores a whole table, by whatever the user hands over for a scorer."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade_core.calibration.judges import Evaluator
from cascade_core.calibration.prompts import Prompt
from cascade_core.calibration.scorers import (
    Agreement,
    Case,
    Contains,
    Exact,
    MultipleChoice,
    Normalised,
    Numeric,
    Regex,
    Scorer,
    function_name,
)
from cascade_core.calibration.store import Store
from cascade_core.calibration.table import AnswerTable
from cascade_core.errors import CalibrationError, CascadeError, ConfigurationError


@dataclass(frozen=True, eq=False)
class Function(Scorer):
    """A function of yours; see :func:`as_scorer` for what it may ask for."""

    function: Callable[..., Any]

    @property
    def name(self) -> str:
        """The function's name."""
        return function_name(self.function)

    def score(self, case: Case) -> Any:
        """What the function returns."""
        offered = {
            "query": case.prompt.text,
            "answer": case.answer.text,
            "reference": case.prompt.reference,
            "model": case.model,
        }
        try:
            parameters: Mapping[str, inspect.Parameter] = inspect.signature(self.function).parameters
        except ValueError:  # built-in functions may hide theirs
            parameters = {}
        wanted = [
            name
            for name, parameter in parameters.items()
            if parameter.default is inspect.Parameter.empty
            and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        ]
        if wanted and all(name in offered for name in wanted):
            return self.function(**{name: offered[name] for name in wanted})
        return self.function(case)


@dataclass(frozen=True, eq=False)
class Weighted(Scorer):
    """The weighted mean of several scorers.

    Example:
        >>> Weighted({Numeric(): 3, Contains("because"): 1}).name
        'weighted(3*numeric + 1*contains:because)'
    """

    parts: Mapping[Scorer, float]

    def __post_init__(self) -> None:
        """Check the weights."""
        if not self.parts or any(not weight > 0 for weight in self.parts.values()):
            raise ConfigurationError("Weighted needs at least one scorer, each with a weight above 0")

    @property
    def paid(self) -> bool:  # type: ignore[override]
        """Whether any part is."""
        return any(scorer.paid for scorer in self.parts)

    @property
    def name(self) -> str:
        """The parts' names with their weights."""
        return f"weighted({' + '.join(f'{weight:g}*{scorer.name}' for scorer, weight in self.parts.items())})"

    @property
    def needs(self) -> frozenset[str]:
        """What the parts need."""
        return frozenset().union(*(scorer.needs for scorer in self.parts))

    def check(self, prompt: Prompt) -> None:
        """As the parts do."""
        for scorer in self.parts:
            scorer.check(prompt)

    async def score(self, case: Case) -> float:
        """Weighted mean of the parts' scores."""
        total = 0.0
        for scorer, weight in self.parts.items():
            total += weight * await checked_score(scorer, case)
        return total / sum(self.parts.values())

    def remarks(self) -> Mapping[str, float]:
        """What the parts have to say."""
        return {name: value for scorer in self.parts for name, value in scorer.remarks().items()}


_BY_NAME: dict[str, Callable[..., Scorer]] = {
    "exact": Exact,
    "normalised": Normalised,
    "numeric": Numeric,
    "choice": MultipleChoice,
    "contains": Contains,
    "regex": Regex,
    "agreement": Agreement,
}


def as_scorer(scorer: object) -> Scorer:
    """Scorer from what a user may hand over.

    - a :class:`Scorer` is taken as it is;
    - a name: ``exact``, ``normalised``, ``numeric``, ``choice``, ``contains``, ``contains:TEXT``, ``regex:PATTERN``,
      ``agreement:MODEL``;
    - a framework's evaluator, see :class:`Evaluator`;
    - a mapping from any of these to weights;
    - a function, plain or async, that returns a number from 0 to 1 or a truth value. It asks by the names of its
      parameters for any of ``query``, ``answer``, ``reference`` (texts) and ``model``, or takes one :class:`Case`.

    Raises:
        ConfigurationError: it is none of these.
    """
    if isinstance(scorer, Scorer):
        return scorer
    if isinstance(scorer, str):
        kind, _, argument = scorer.partition(":")
        make = _BY_NAME.get(kind)
        takes = kind in ("contains", "regex", "agreement")
        if make is None or (argument and not takes) or (not argument and kind in ("regex", "agreement")):
            raise ConfigurationError(
                f"unknown scorer {scorer!r}: expected exact, normalised, numeric, choice, contains, contains:TEXT, "
                "regex:PATTERN or agreement:MODEL"
            )
        return make(argument) if argument else make()
    if isinstance(scorer, Mapping):
        return Weighted({as_scorer(part): float(weight) for part, weight in scorer.items()})
    if hasattr(scorer, "aevaluate_strings") or hasattr(scorer, "aevaluate"):
        return Evaluator(scorer)
    if callable(scorer):
        return Function(scorer)
    raise ConfigurationError(
        f"a scorer cannot be made of {type(scorer).__name__}: hand over a function or a name"
    )


async def checked_score(scorer: Scorer, case: Case) -> float:
    """One score, checked to be a number from 0 to 1.

    Raises:
        CalibrationError: the scorer raised, or returned anything else; names scorer, prompt and model.
    """
    where = f"the scorer {scorer.name!r}, on the answer of {case.model!r} to prompt {case.prompt.key!r},"
    try:
        given = scorer.score(case)
        value = await given if inspect.isawaitable(given) else given
    except CascadeError:
        raise
    except Exception as error:
        raise CalibrationError(f"{where} raised {type(error).__name__}: {error}") from error
    if isinstance(value, (bool, np.bool_)):
        return float(value)
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= float(value) <= 1:
        shown = (
            value if isinstance(value, (int, float, np.number)) else f"{type(value).__name__} {value!r:.60}"
        )
        raise CalibrationError(f"{where} returned {shown}: expected a number from 0 to 1, or true or false")
    return float(value)


def check_scorer(scorer: Scorer, models: Iterable[str], prompts: Iterable[Prompt] = ()) -> None:
    """Refuse a scorer that could not score these models' answers to these prompts, whatever they say.

    Raises:
        CalibrationError: it needs a model that is not there, or a prompt lacks what it compares with.
    """
    names = list(models)
    missing = sorted(scorer.needs - set(names))
    if missing:
        raise CalibrationError(
            f"the scorer {scorer.name!r} needs answers of {missing[0]!r}, which is not among the models {names}"
        )
    for prompt in prompts:
        scorer.check(prompt)


async def score_table(
    table: AnswerTable,
    prompts: Sequence[Prompt] | None,
    scorer: Scorer,
    *,
    store: Store | None = None,
    parameters: Mapping[str, str] | None = None,
    concurrency: int = 8,
) -> AnswerTable:
    """The table with the quality of every answer in it.

    Args:
        table: the answers.
        prompts: the table's prompts with their references, in its order. None: its queries, which have references if
            the table is from a store.
        scorer: what scores them.
        store: where the scores of a paid scorer are kept, each as soon as it is there.
        parameters: fingerprints of the models' parameters, the key of kept scores.
        concurrency: scores asked for at a time.

    Raises:
        CalibrationError: as :func:`checked_score`, or the scorer needs a model that is not in the table.
    """
    check_scorer(scorer, table.models)
    if prompts is None:
        prompts = [q if isinstance(q, Prompt) else Prompt(**q.model_dump()) for q in table.queries]
    kept = store.scores(scorer.name, parameters=parameters) if store is not None and scorer.paid else {}
    quality = np.full(table.quality.shape, np.nan)
    todo: deque[tuple[int, int, Case]] = deque()
    for n, (prompt, row) in enumerate(zip(prompts, table.answers, strict=True)):
        answers = {
            model: answer for model, answer in zip(table.models, row, strict=True) if answer is not None
        }
        for k, model in enumerate(table.models):
            if (prompt.key, model) in kept:
                quality[n, k] = kept[prompt.key, model]
            elif model in answers and scorer.needs <= answers.keys():
                todo.append((n, k, Case(prompt, model, answers[model], answers)))

    async def work() -> None:
        while todo:
            n, k, case = todo.popleft()
            try:
                quality[n, k] = await checked_score(scorer, case)
            except BaseException:
                todo.clear()  # nothing more is asked for; what is under way is waited for and kept
                raise
            if store is not None and scorer.paid:
                key = (case.prompt.key, case.model)
                store.put_scores(scorer.name, {key: float(quality[n, k])}, parameters=parameters)

    workers = await asyncio.gather(*(work() for _ in range(concurrency)), return_exceptions=True)
    for outcome in workers:
        if isinstance(outcome, BaseException):
            raise outcome
    return table.with_quality(quality)
