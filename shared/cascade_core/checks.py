"""Checks of an answer that cost calls of their own: further samples of it, or a question about it to a model.

What an answer shows of itself is free, but not every provider returns log-probabilities, and a model may be sure and
wrong. A check buys more: how often the model says the same again, or what a model thinks of the answer. It is no
verdict: estimators hear the number it comes to as one more sign of quality, calibrated like the others, and
calibration drops a check that is not worth what it costs.

A check is data: names and a text, as a policy's file holds them. :class:`Checking` is one check on its way. It says
which calls to make and never makes one, so that an episode's driver and the collection of answers to calibrate on
go the same way.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cascade_core.errors import ConfigurationError
from cascade_core.estimation.agreement import KEYS, agree
from cascade_core.values import Answer, Call, CheckCall, Query, Usage

QUESTION = (
    "Question:\n{question}\n\nProposed answer:\n{answer}\n\n"
    "Is the proposed answer correct? Reply with Yes or No and nothing else."
)
"""What a verification asks, unless it is told otherwise."""

_PLACE = re.compile(r"\{(question|answer)\}")
_VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_OPENING = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


class _Check(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    of: tuple[str, ...] = Field(min_length=1)

    def models(self, model: str) -> tuple[str, ...]:
        """Which models are called for an answer of ``model``, one for each call; none if it is not checked."""
        raise NotImplementedError

    def prompt(self, query: Query, answer: Answer) -> str | None:
        """What they are sent; None for what the answer was given to."""
        raise NotImplementedError

    def read(self, answer: Answer, replies: Sequence[Answer]) -> float | None:
        """The number in [0, 1] that the replies come to, higher for better answers; None if they tell nothing."""
        raise NotImplementedError

    def fit_for(self, names: Sequence[str]) -> None:
        """Check that it can be used among models of these names.

        Raises:
            ConfigurationError: it names an unknown model, or checks them all.
        """
        unknown = [name for name in (*self.of, *self.models(self.of[0])) if name not in names]
        if unknown:
            raise ConfigurationError(
                f"the check names the model {unknown[0]!r}: expected some of {list(names)}"
            )
        if set(names) <= set(self.of):
            raise ConfigurationError(
                f"the check is of all models, {list(names)}: leave out the dearest, which what is saved is measured "
                "against, and which nothing better could follow"
            )


class SelfConsistency(_Check):
    """Ask the model again, and see how often it says the same.

    The number is the share of the further samples that agree with the answer (Wang et al., *Self-Consistency Improves
    Chain of Thought Reasoning*, ICLR 2023). It tells nothing of a model at temperature 0, or behind a cache of
    responses: every sample is then the same.

    Attributes:
        of: names of the models whose answers are checked.
        samples: further calls for each answer.
        key: what is compared: ``"number"``, ``"choice"``, ``"words"`` or another of
            :data:`~cascade_core.estimation.agreement.KEYS`. ``"auto"``: the numbers that two answers end with where
            both hold one, else their words.

    Example:
        >>> check = SelfConsistency(of=("small",), samples=4)
        >>> said = [Answer(text=text) for text in ("It is 4.", "2 + 2 = 4", "5", "")]
        >>> round(check.read(Answer(text="4"), said), 3)  # an empty reply tells nothing
        0.667
    """

    kind: Literal["self_consistency"] = "self_consistency"
    samples: int = Field(default=3, ge=1)
    key: str = "auto"

    @field_validator("key")
    @classmethod
    def _known_key(cls, key: str) -> str:
        if key != "auto" and key not in KEYS:
            raise ValueError(f"expected 'auto' or one of {sorted(KEYS)}")
        return key

    def models(self, model: str) -> tuple[str, ...]:
        """The same model, once for each sample."""
        return (model,) * self.samples if model in self.of else ()

    def prompt(self, query: Query, answer: Answer) -> None:
        """The same input."""
        return None

    def read(self, answer: Answer, replies: Sequence[Answer]) -> float | None:
        """Share of the readable replies that agree with the answer."""
        said = [self._agree(answer.text, reply.text) for reply in replies if not reply.parse_error]
        known = [value for value in said if value >= 0]
        return sum(known) / len(known) if known else None

    def _agree(self, first: str, second: str) -> int:
        if self.key != "auto":
            return agree(KEYS[self.key](first), KEYS[self.key](second))
        words = agree(KEYS["words"](first), KEYS["words"](second))
        if words != 0 or first.lstrip().startswith("{"):  # of two objects, one number says little
            return words
        return max(agree(KEYS["number"](first), KEYS["number"](second)), 0)


class Verification(_Check):
    """Ask a model whether the answer is right.

    The number is the share of replies that say yes; where the model returns log-probabilities, the mean probability
    of yes. Asking the model about its own answer is its *self-verification* (Kadavath et al., *Language Models
    (Mostly) Know What They Know*, 2022; Aggarwal et al., *AutoMix*, NeurIPS 2024).

    Attributes:
        of: names of the models whose answers are checked.
        by: name of the model that is asked.
        samples: how often it is asked about each answer.
        question: what it is asked, with ``{question}`` and ``{answer}`` in it; it must ask for Yes or No. For the
            question stands the query's text, of a chat the last message of the user's.

    Example:
        >>> check = Verification(of=("small",), by="large", question="{question} Is {answer} right? Yes or No?")
        >>> check.prompt(Query(text="2+2?"), Answer(text="4"))
        '2+2? Is 4 right? Yes or No?'
        >>> check.read(Answer(text="4"), [Answer(text="Yes, it is.")])
        1.0
    """

    kind: Literal["verification"] = "verification"
    by: str
    samples: int = Field(default=1, ge=1)
    question: str = QUESTION

    @field_validator("question")
    @classmethod
    def _has_places(cls, question: str) -> str:
        if {"question", "answer"} - set(_PLACE.findall(question)):
            raise ValueError("expected a text with {question} and {answer} in it")
        return question

    def models(self, model: str) -> tuple[str, ...]:
        """The model that is asked, once for each sample."""
        return (self.by,) * self.samples if model in self.of else ()

    def prompt(self, query: Query, answer: Answer) -> str:
        """The question, filled in. What is filled in is not looked through again."""
        texts = {"question": query.text, "answer": answer.text}
        return _PLACE.sub(lambda place: texts[place[1]], self.question)

    def read(self, answer: Answer, replies: Sequence[Answer]) -> float | None:
        """Mean over the replies that say yes or no."""
        said = [verdict for reply in replies if (verdict := _yes(reply)) is not None]
        return sum(said) / len(said) if said else None


AnswerCheck = Annotated[SelfConsistency | Verification, Field(discriminator="kind")]
"""Any check, told by its ``kind`` in JSON."""


class Checking:
    """The check of one answer on its way: the calls still to make, and what has come back.

    Args:
        check: the check.
        model: name of the model that answered.
        query: what it was asked.
        answer: what it answered.
    """

    def __init__(
        self, check: SelfConsistency | Verification, model: str, query: Query, answer: Answer
    ) -> None:
        self.model = model
        self._check = check
        self._query = query
        self._answer = answer
        self._replies: list[Answer] = []
        # An answer without text (a tool call) leaves nothing to compare or to ask about.
        called = check.models(model) if answer.text.strip() and not answer.parse_error else ()
        prompt = check.prompt(query, answer) if called else None
        self.calls = tuple(Call(model=name, final=False, checks=model, prompt=prompt) for name in called)
        self._left = deque(self.calls)

    @property
    def call(self) -> Call | None:
        """The call to make next; None when the check has come to its end."""
        return self._left[0] if self._left else None

    def take(self, reply: Answer) -> Answer:
        """What that call returned; the same with its tokens estimated where the provider did not count them."""
        call = self._left.popleft()
        if reply.usage is None:
            sent = self._query.sent_chars if call.prompt is None else len(call.prompt)
            reply = reply.model_copy(update={"usage": Usage.estimated(sent, reply.text)})
        self._replies.append(reply)
        return reply

    def fail(self) -> None:
        """That call failed: no other is made. The replies that have come count."""
        self._left.clear()

    @property
    def checked(self) -> Answer:
        """The answer with what the check came to, and the calls that this took."""
        calls = tuple(
            CheckCall(model=call.model, usage=reply.usage, latency=reply.latency)
            for call, reply in zip(self.calls, self._replies, strict=False)
        )
        score = self._check.read(self._answer, self._replies)
        return self._answer.model_copy(update={"check": score, "check_calls": calls})


def _yes(reply: Answer) -> float | None:
    """Probability that a reply says yes; None if it says neither yes nor no, or both."""
    opening = _OPENING.match(reply.text)
    said = {verdict.lower() for verdict in ([opening[1]] if opening else _VERDICT.findall(reply.text))}
    if len(said) != 1:
        return None
    yes = float("yes" in said)
    if not opening or not reply.logprobs:
        return yes
    sure = math.exp(min(reply.logprobs[0], 0.0))
    return sure if yes else 1 - sure
