"""A model as a function from a prompt to an answer: how it is called, and how its answers are checked."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from cascade_core.calibration.prompts import Prompt
from cascade_core.checks import Checking, SelfConsistency, Verification
from cascade_core.values import Answer, Call

Ask = Callable[[Prompt], Answer | Awaitable[Answer]]
"""A model: returns the answer to a prompt, or an awaitable of it."""


def is_async(ask: Ask) -> bool:
    """Whether a model is an async function, which runs in the event loop; others get a thread."""
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(type(ask).__call__)


def asked(ask: Ask, prompt: Prompt) -> Answer:
    """The answer of a model, from a thread that may wait for it; with the seconds it took, unless it says them."""
    began = time.perf_counter()
    answer = ask(prompt)
    if inspect.isawaitable(answer):
        answer = asyncio.run(_awaited(answer))
    return _timed(answer, began)


async def aasked(ask: Ask, prompt: Prompt) -> Answer:
    """:func:`asked` for a running event loop, which a plain function does not hold up."""
    began = time.perf_counter()
    answer = ask(prompt) if is_async(ask) else await asyncio.to_thread(ask, prompt)
    if inspect.isawaitable(answer):
        answer = await answer
    return _timed(answer, began)


def with_checks(
    models: Mapping[str, Ask],
    check: SelfConsistency | Verification | None,
    checkers: Mapping[str, Ask] | None = None,
    begun: Mapping[str, Mapping[str, Answer]] | None = None,
) -> dict[str, Ask]:
    """The models, each answer of those that ``check`` names being checked before it is returned.

    A call of the check that fails is the failure of the whole, a :class:`CheckError`, so that it is made again and
    not missing for good.

    Args:
        models: the models by name.
        check: how answers are checked.
        checkers: the models as the check calls them, where that is not as for an answer: a verification's text is to
            be sent as it is, and no cache may answer for a sample. None for ``models``.
        begun: answers by model and prompt id that are there already, and only to be checked.
    """
    found = dict(models)
    for name in models:
        if check is not None and check.models(name):
            known = (begun or {}).get(name, {})
            checked = _Checked(name, check, models[name], models if checkers is None else checkers, known)
            parts = [models[name], *(checked.checkers[other] for other in check.models(name))]
            found[name] = checked.aask if any(map(is_async, parts)) else checked.ask
    return found


class CheckError(Exception):
    """A call of a check failed; the cause says how.

    Attributes:
        answer: what was to be checked.
        paid: the same with the calls that were made before one failed.
    """

    def __init__(self, answer: Answer, paid: Answer) -> None:
        super().__init__("a call that checks an answer failed")
        self.answer = answer
        self.paid = paid


@dataclass(frozen=True)
class _Checked:
    name: str
    check: SelfConsistency | Verification
    model: Ask
    checkers: Mapping[str, Ask]
    begun: Mapping[str, Answer]

    def ask(self, prompt: Prompt) -> Answer:
        answer = self.begun.get(prompt.key) or asked(self.model, prompt)
        checking = self._checking(prompt, answer)
        while (call := checking.call) is not None:
            try:
                reply = asked(self.checkers[call.model], _sent(call, prompt))
            except Exception as error:
                raise CheckError(answer, checking.checked) from error
            checking.take(reply)
        return checking.checked

    async def aask(self, prompt: Prompt) -> Answer:
        answer = self.begun.get(prompt.key) or await aasked(self.model, prompt)
        checking = self._checking(prompt, answer)
        while (call := checking.call) is not None:
            try:
                reply = await aasked(self.checkers[call.model], _sent(call, prompt))
            except Exception as error:
                raise CheckError(answer, checking.checked) from error
            checking.take(reply)
        return checking.checked

    def _checking(self, prompt: Prompt, answer: Answer) -> Checking:
        return Checking(self.check, self.name, prompt, answer)


def _sent(call: Call, prompt: Prompt) -> Prompt:
    return prompt if call.prompt is None else Prompt(text=call.prompt)


async def _awaited(answer: Awaitable[Answer]) -> Answer:
    return await answer


def _timed(answer: object, began: float) -> Answer:
    if not isinstance(answer, Answer):
        raise TypeError(f"the model returned {type(answer).__name__}, expected a cascade_core.Answer")
    if answer.latency is not None:
        return answer
    return answer.model_copy(update={"latency": time.perf_counter() - began})
