"""Scores from a model's judgement, or from a framework's evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cascade_core.calibration.asking import Ask, aasked
from cascade_core.calibration.prompts import Prompt
from cascade_core.calibration.scorers import Case, Scorer, digest
from cascade_core.errors import CalibrationError
from cascade_core.extract import choice, number

_RUBRIC = "Is the answer correct, complete and to the point?"


@dataclass(frozen=True, eq=False)
class Judge(Scorer):
    """A model of yours rates each answer from 0 to 10 by a rubric; the score is a tenth of it.

    Attributes:
        ask: the judging model. Its calls cost what they cost; scores are kept in the store.
        rubric: what to look for.
        label: names the judge in certificates and in the store; change it when you change the model.
    """

    ask: Ask
    rubric: str = _RUBRIC
    label: str = "judge"

    paid: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """With a fingerprint of the rubric."""
        return f"{self.label}:{digest(self.rubric)}"

    async def score(self, case: Case) -> float:
        """A tenth of the rating."""
        known = "" if case.prompt.reference is None else f"\n\nReference answer:\n{case.prompt.reference}"
        said = await _said(
            self.ask,
            f"Rate an answer to a question. {self.rubric}\nReply with one whole number from 0 (useless) to 10 "
            f"(perfect) and nothing else.\n\nQuestion:\n{case.prompt.text}{known}\n\n"
            f"Answer:\n{case.answer.text}\n\nRating:",
        )
        rating = number(said)
        if rating is None or not 0 <= rating <= 10:
            raise CalibrationError(f"the judge {self.label!r} gave no number from 0 to 10, but {said[:80]!r}")
        return rating / 10


@dataclass(frozen=True, eq=False)
class Comparison(Scorer):
    """A model of yours compares each answer with that of a reference model, in both orders.

    1 is better in both, 0 worse in both; 0.5 is a tie or a judge who contradicts itself when the answers change
    places, and what the reference model scores. ``remarks()`` tells how often it did contradict itself.

    Attributes:
        ask: the judging model.
        of: name of the reference model.
        rubric: what to look for.
        label: as of :class:`Judge`.
    """

    ask: Ask
    of: str
    rubric: str = _RUBRIC
    label: str = "comparison"
    _seen: list[bool] = field(default_factory=list, repr=False, compare=False)

    paid: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """With the reference model and a fingerprint of the rubric."""
        return f"{self.label}:{self.of}:{digest(self.rubric)}"

    @property
    def needs(self) -> frozenset[str]:
        """The reference model."""
        return frozenset({self.of})

    async def score(self, case: Case) -> float:
        """Mean of the verdicts of both orders."""
        if case.model == self.of:
            return 0.5
        mine, other = case.answer.text, case.answers[self.of].text
        first = await self._prefers_first(case.prompt, mine, other)
        second = 1 - await self._prefers_first(case.prompt, other, mine)
        self._seen.append(first != second)
        return (first + second) / 2

    def remarks(self) -> Mapping[str, float]:
        """Share of comparisons whose verdict changed with the order."""
        return {"judge_disagreement": sum(self._seen) / len(self._seen)} if self._seen else {}

    async def _prefers_first(self, prompt: Prompt, one: str, two: str) -> float:
        said = await _said(
            self.ask,
            f"Compare two answers to a question. {self.rubric}\nReply with A, B, or C for a tie, and nothing else."
            f"\n\nQuestion:\n{prompt.text}\n\nAnswer A:\n{one}\n\nAnswer B:\n{two}\n\nBetter answer:",
        )
        letter = choice(said)
        if letter not in ("A", "B", "C"):
            raise CalibrationError(f"the judge {self.label!r} answered neither A, B nor C, but {said[:80]!r}")
        return {"A": 1.0, "B": 0.0, "C": 0.5}[letter]


@dataclass(frozen=True, eq=False)
class Evaluator(Scorer):
    """An evaluator object of a framework: LangChain's ``evaluate_strings`` or LlamaIndex's ``evaluate``.

    Attributes:
        evaluator: the object.
        scale: lowest and highest score it gives, mapped to 0 and 1.
        contexts: the retrieved texts of a prompt, for an evaluator of LlamaIndex's that asks for them.
        label: tells scores in the store from those of an evaluator of the same type; change it when you change that.
    """

    evaluator: Any
    scale: tuple[float, float] = (0.0, 1.0)
    contexts: Callable[[Prompt], Sequence[str]] | None = None
    label: str = ""

    paid: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """With the evaluator's type and label."""
        return f"evaluator:{type(self.evaluator).__name__}" + (f":{self.label}" if self.label else "")

    async def score(self, case: Case) -> float:
        """The evaluator's score, mapped to 0..1."""
        question, answer, reference = case.prompt.text, case.answer.text, case.prompt.reference
        if hasattr(self.evaluator, "aevaluate_strings"):
            result = await self.evaluator.aevaluate_strings(
                prediction=answer, input=question, reference=reference
            )
            given = result.get("score")
        else:
            known: dict[str, Any] = {} if reference is None else {"reference": reference}
            if self.contexts is not None:
                known["contexts"] = list(self.contexts(case.prompt))
            result = await self.evaluator.aevaluate(query=question, response=answer, **known)
            given = result.score if result.score is not None else result.passing
        if given is None:
            raise CalibrationError(
                f"{type(self.evaluator).__name__} gave no score for prompt {case.prompt.key!r}"
            )
        low, high = self.scale
        return (float(given) - low) / (high - low)


async def _said(ask: Ask, text: str) -> str:
    return (await aasked(ask, Prompt(text=text))).text
