"""How good an answer is, as a number from 0 (worthless) to 1 (as good as can be).

A scorer sees a :class:`Case`: the prompt, one model's answer, and what the other models answered. Comparisons with
the right answer need ``prompt.reference``; :class:`Agreement` lets a model's answer stand in for it, so that no label
is needed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from cascade_core.calibration.prompts import Prompt
from cascade_core.errors import CalibrationError, ConfigurationError
from cascade_core.extract import choice, code, normalised, number
from cascade_core.values import Answer


@dataclass(frozen=True)
class Case:
    """One answer to be scored.

    Attributes:
        prompt: what was asked, with the reference where there is one.
        model: who answered.
        answer: the answer.
        answers: what every model answered to this prompt, this one included.
    """

    prompt: Prompt
    model: str
    answer: Answer
    answers: Mapping[str, Answer]

    @property
    def reference(self) -> str:
        """The prompt's reference.

        Raises:
            CalibrationError: it has none.
        """
        if self.prompt.reference is None:
            raise CalibrationError(
                f"prompt {self.prompt.key!r} has no reference to compare answers with: add references, or score "
                "without them, by Agreement with a model or by a Judge"
            )
        return self.prompt.reference


class Scorer(ABC):
    """Base of all scorers.

    Attributes:
        paid: whether scoring costs money, so that scores are kept in the store and never asked for twice.
    """

    paid: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Says what is measured; part of the certificate and of the key of kept scores."""
        return type(self).__name__.lower()

    @property
    def needs(self) -> frozenset[str]:
        """Models whose answers must be there; a prompt without them is not scored."""
        return frozenset()

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt whose answers could not be scored, whatever they say. Called before they are paid for.

        Raises:
            CalibrationError: saying what the prompt lacks.
        """
        return

    @abstractmethod
    def score(self, case: Case) -> float | Awaitable[float]:
        """Score from 0 to 1, or an awaitable of it."""

    def remarks(self) -> Mapping[str, float]:
        """What there is to say about the scores given so far, such as a judge's disagreement with itself."""
        return {}


class Comparing(Scorer):
    """Base of those that compare with the reference: it must be one that an answer can be compared with."""

    def check(self, prompt: Prompt) -> None:
        """As the scores of no answer at all."""
        self.score(Case(prompt, "", Answer(text=""), {}))


@dataclass(frozen=True, eq=False)
class Exact(Comparing):
    """1 if the answer is the reference, letter for letter, but for spaces around it."""

    def score(self, case: Case) -> float:
        """1 or 0."""
        return float(case.answer.text.strip() == case.reference.strip())


@dataclass(frozen=True, eq=False)
class Normalised(Comparing):
    """1 if the answer is the reference, but for case, punctuation, articles and spaces."""

    def score(self, case: Case) -> float:
        """1 or 0."""
        return float(normalised(case.answer.text) == normalised(case.reference))


@dataclass(frozen=True, eq=False)
class Numeric(Comparing):
    """1 if the answer's number is the reference's, up to ``tolerance`` times the latter."""

    tolerance: float = 1e-9

    def score(self, case: Case) -> float:
        """1 or 0."""
        right, given = number(case.reference), number(case.answer.text)
        if right is None:
            raise CalibrationError(f"the reference of prompt {case.prompt.key!r} has no number in it")
        return float(given is not None and math.isclose(given, right, rel_tol=self.tolerance, abs_tol=1e-12))


@dataclass(frozen=True, eq=False)
class MultipleChoice(Comparing):
    """1 if the answer names the reference's letter, A to J."""

    def score(self, case: Case) -> float:
        """1 or 0."""
        right = choice(case.reference)
        if right is None:
            raise CalibrationError(f"the reference of prompt {case.prompt.key!r} names no letter from A to J")
        return float(choice(case.answer.text) == right)


@dataclass(frozen=True, eq=False)
class Contains(Comparing):
    """1 if the answer contains ``text``, by default the reference, in any case of letters."""

    text: str | None = None

    @property
    def name(self) -> str:
        """With the text."""
        return "contains" if self.text is None else f"contains:{self.text}"

    def score(self, case: Case) -> float:
        """1 or 0."""
        wanted = case.reference if self.text is None else self.text
        return float(wanted.strip().casefold() in case.answer.text.casefold())


@dataclass(frozen=True, eq=False)
class Regex(Scorer):
    """1 if the pattern is found in the answer."""

    pattern: str

    def __post_init__(self) -> None:
        """Check the pattern."""
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigurationError(
                f"the pattern {self.pattern!r} is not a regular expression: {error}"
            ) from error

    @property
    def name(self) -> str:
        """With the pattern."""
        return f"regex:{self.pattern}"

    def score(self, case: Case) -> float:
        """1 or 0."""
        return float(re.search(self.pattern, case.answer.text) is not None)


@dataclass(frozen=True, eq=False)
class JsonSchema(Scorer):
    """1 if the answer, or the block it fences, is JSON that the schema accepts. Needs the extra ``scorers``."""

    schema: Mapping[str, Any]

    @property
    def name(self) -> str:
        """With a fingerprint of the schema."""
        return f"json-schema:{digest(self.schema)}"

    def score(self, case: Case) -> float:
        """1 or 0."""
        try:
            from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
        except ImportError as error:
            raise ConfigurationError(
                'JsonSchema needs a package: pip install "cascade-routing[scorers]"'
            ) from error
        try:
            value = json.loads(code(case.answer.text))
        except ValueError:
            return 0.0
        return float(Draft202012Validator(dict(self.schema)).is_valid(value))


@dataclass(frozen=True, eq=False)
class CodeTests(Scorer):
    """What your function says of the answer's code: the share of its tests that pass, or true or false.

    The function runs code that a model wrote; running it apart from everything of value is up to it. It gets the code
    (of the answer's fenced blocks, if it has some) and the prompt.
    """

    run: Callable[[str, Prompt], float | bool]

    @property
    def name(self) -> str:
        """With the function's name."""
        return f"code-tests:{function_name(self.run)}"

    def score(self, case: Case) -> float:
        """What the function returns."""
        return self.run(code(case.answer.text), case.prompt)


@dataclass(frozen=True, eq=False)
class Similarity(Scorer):
    """Cosine of the embeddings of answer and reference, 0 where it is negative.

    Attributes:
        embed: from a list of texts to a list of vectors; any framework's embedding method of that shape.
    """

    embed: Callable[[list[str]], Sequence[Sequence[float]]]

    def score(self, case: Case) -> float:
        """From 0 to 1."""
        one, other = (
            np.asarray(vector, dtype=float) for vector in self.embed([case.answer.text, case.reference])
        )
        length = float(np.linalg.norm(one) * np.linalg.norm(other))
        return min(max(float(one @ other) / length, 0.0), 1.0) if length > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Agreement(Scorer):
    """Label-free: how well an answer agrees with that of a reference model.

    This measures agreement and not quality: the reference model scores 1 by definition, and a certificate says so.

    Attributes:
        of: name of the reference model.
        by: how answers are compared.
    """

    of: str
    by: Scorer = field(default_factory=Normalised)

    @property
    def name(self) -> str:
        """With the model's name."""
        return f"agreement:{self.of}:{self.by.name}"

    @property
    def needs(self) -> frozenset[str]:
        """The reference model."""
        return frozenset({self.of})

    def score(self, case: Case) -> float | Awaitable[float]:
        """As the comparison says, with the reference model's answer for a reference."""
        if case.model == self.of:
            return 1.0
        told = case.prompt.model_copy(update={"reference": case.answers[self.of].text})
        try:
            return self.by.score(replace(case, prompt=told))
        except CalibrationError:  # the stand-in has no number or letter to compare with
            return Normalised().score(replace(case, prompt=told))


def digest(value: object) -> str:
    """Short fingerprint of a JSON value, for names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def function_name(function: object) -> str:
    """Name of a function or of a callable object's type."""
    return getattr(function, "__qualname__", type(function).__name__)
