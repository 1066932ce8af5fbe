"""From prompts to a policy, with models, chains and evaluators of LangChain's."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from cascade_core.calibration import Calibration, Case, Prompt, Scorer, Store, Target, as_scorer
from cascade_core.calibration import acalibrate as acalibrate_any
from cascade_core.calibration import calibrate as calibrate_any
from cascade_core.calibration.prompts import checked_prompts
from cascade_core.values import Answer
from cascade_langchain._members import as_checker, can_check, chat_model_of, chat_models, identity_of
from cascade_langchain._model_log import ModelLog
from cascade_langchain.chat_model import ChatCascade
from cascade_langchain.runnable import ReadAnswer, answer_from, query_in, runnables

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from cascade_core.calibration import Ask
    from cascade_core.checks import SelfConsistency, Verification
    from cascade_core.values import Query

STORE = "calibration.sqlite"
"""File that answers are kept in where the user names none."""

MakeInput = Callable[[Prompt], Any]
"""From a prompt to what the models or chains are called with."""


def calibrate(
    models: ChatCascade | Mapping[str, Any] | Sequence[Any],
    prompts: Iterable[str | Query | Mapping[str, Any]],
    scorer: object,
    target: Target,
    store: Store | str | os.PathLike[str] = STORE,
    *,
    make_input: MakeInput | None = None,
    read_answer: ReadAnswer | None = None,
    config: RunnableConfig | None = None,
    check: SelfConsistency | Verification | None = None,
    **options: Any,
) -> Calibration:
    """Ask all models all prompts, score the answers, fit a policy to a target, and certify it.

    Every answer is kept in the store the moment it is there: a run that was interrupted goes on where it was, and
    nothing is paid twice. Retries and rate limits are those of the models.

    Args:
        models: as for :class:`ChatCascade`, or one; or a dictionary from name to any runnable as for
            :class:`RunnableCascade`; cheapest first.
        prompts: texts, or mappings with ``text`` and, where the scorer compares, ``reference``.
        scorer: the name of a scorer (``"exact"``, ``"numeric"``, …); an evaluator with ``evaluate_strings``; a
            function of ``query``, ``answer``, ``reference`` (any of them, by name); an evaluator in LangSmith's form,
            of ``inputs``, ``outputs``, ``reference_outputs`` or of ``run``, ``example``. Scores are from 0 to 1.
        target: ``Budget``, ``Quality``, ``RelativeQuality`` or ``Savings`` of :mod:`cascade_core.calibration`.
        store: file or database URL that answers are kept in.
        make_input: makes the models' input of a prompt; None: its text. In service, the policy reads the last message
            of the user's: instructions are best kept out of it, in a system message or within the arms.
        read_answer: reads an output; None: as :class:`RunnableCascade` does.
        config: for every call, such as callbacks and tags.
        check: how answers are checked by further calls (:mod:`cascade_core.checks`); the policy keeps the check if it
            is worth what it costs.
        **options: of :func:`cascade_core.calibration.calibrate`: ``prices``, ``concurrency``, ``max_spend``,
            ``progress``, ``unit``, ``usd_per_second``, ``confidence``, ``strategy``, ``embedding``, ``limits``,
            ``seed``, …

    Returns:
        The policy, its certificate, the frontier on held-out prompts, and the table of answers.

    Raises:
        ConfigurationError: models, scorer or target are not what they should be.
        CalibrationError: the prompts are unusable or a model keeps failing; what was collected stays in the store.
        InfeasibleTargetError: the target is beyond reach; says the best that can be had and at what price.

    Example:
        ```python
        from langchain_openai import ChatOpenAI

        from cascade_core.calibration import RelativeQuality
        from cascade_langchain import ChatCascade, calibrate

        models = [ChatOpenAI(model="gpt-4.1-nano"), ChatOpenAI(model="gpt-5")]
        prompts = [{"text": f"What is {n} + {n}?", "reference": str(2 * n)} for n in range(60)]
        calibration = calibrate(models, prompts, "numeric", RelativeQuality(0.95, of="gpt-5"))

        print(calibration.certificate, calibration.frontier)
        calibration.policy.save("policy.json")
        model = ChatCascade(models, policy="policy.json")
        ```
    """
    members = _members(models)
    # Threads, not an event loop of our own: clients keep their connections for the loop they were first used in.
    asks: dict[str, Ask] = {
        name: _Asking(member, make_input, read_answer, config).invoke for name, member in members.items()
    }
    checkers = {name: one.invoke for name, one in _checkers(members, check, make_input, read_answer, config)}
    return calibrate_any(
        asks,
        _measured(prompts, members, make_input),
        _scorer(scorer),
        target,
        store=store,
        parameters=_parameters(members),
        check=check,
        checkers=checkers,
        **options,
    )


async def acalibrate(
    models: ChatCascade | Mapping[str, Any] | Sequence[Any],
    prompts: Iterable[str | Query | Mapping[str, Any]],
    scorer: object,
    target: Target,
    store: Store | str | os.PathLike[str] = STORE,
    *,
    make_input: MakeInput | None = None,
    read_answer: ReadAnswer | None = None,
    config: RunnableConfig | None = None,
    check: SelfConsistency | Verification | None = None,
    **options: Any,
) -> Calibration:
    """:func:`calibrate` for a running event loop."""
    members = _members(models)
    asks: dict[str, Ask] = {
        name: _Asking(member, make_input, read_answer, config).ainvoke for name, member in members.items()
    }
    checkers = {name: one.ainvoke for name, one in _checkers(members, check, make_input, read_answer, config)}
    return await acalibrate_any(
        asks,
        _measured(prompts, members, make_input),
        _scorer(scorer),
        target,
        store=store,
        parameters=_parameters(members),
        check=check,
        checkers=checkers,
        **options,
    )


def ask_with(model: Runnable[Any, Any]) -> Ask:
    """A model as the judges of :mod:`cascade_core.calibration` take it.

    Example:
        >>> from cascade_core.calibration import Judge
        >>> from langchain_core.language_models.fake_chat_models import FakeListChatModel
        >>> judge = Judge(ask_with(FakeListChatModel(responses=["9"])))
    """
    return _Asking(model, None, None, None).invoke


@dataclass(frozen=True)
class _Asking:
    """One member as a function from a prompt to an answer."""

    member: Runnable[Any, Any]
    make_input: MakeInput | None
    read_answer: ReadAnswer | None
    config: RunnableConfig | None

    def invoke(self, prompt: Prompt) -> Answer:
        log, started = ModelLog(), perf_counter()
        output = self.member.invoke(self._input(prompt), self._config(log))
        return answer_from(output, perf_counter() - started, log, self.read_answer)

    async def ainvoke(self, prompt: Prompt) -> Answer:
        log, started = ModelLog(), perf_counter()
        output = await self.member.ainvoke(self._input(prompt), self._config(log))
        return answer_from(output, perf_counter() - started, log, self.read_answer)

    def _input(self, prompt: Prompt) -> Any:
        return prompt.text if self.make_input is None else self.make_input(prompt)

    def _config(self, log: ModelLog) -> RunnableConfig:
        return merge_configs(self.config, {"callbacks": [log]})


def _checkers(
    members: Mapping[str, Runnable[Any, Any]],
    check: SelfConsistency | Verification | None,
    make_input: MakeInput | None,
    read_answer: ReadAnswer | None,
    config: RunnableConfig | None,
) -> Iterator[tuple[str, _Asking]]:
    """The members as a check calls them: a sample has the input of the answer, a verification's text is its own."""
    if check is None:
        return
    check.fit_for(tuple(members))
    can_check(check, members)
    if check.kind == "verification":
        make_input = read_answer = None
    for name in {called for checked in check.of for called in check.models(checked)}:
        yield name, _Asking(as_checker(members[name]), make_input, read_answer, config)


@dataclass(frozen=True, eq=False)
class LangSmithEvaluator(Scorer):
    """An evaluator in LangSmith's form.

    It is offered ``inputs``, ``outputs`` and ``reference_outputs`` (dictionaries with the text under the usual keys)
    or ``run`` and ``example``, and returns a score, a truth value, or a result that holds a ``score``.
    """

    evaluator: Callable[..., Any]

    @property
    def name(self) -> str:
        """The evaluator's name."""
        return getattr(self.evaluator, "__qualname__", type(self.evaluator).__name__)

    async def score(self, case: Case) -> float:
        """What the evaluator returns."""
        inputs = dict.fromkeys(("input", "question", "query"), case.prompt.text)
        outputs = dict.fromkeys(("output", "answer", "response"), case.answer.text)
        reference = dict.fromkeys(("output", "answer", "response"), case.prompt.reference)
        offered = {
            "inputs": inputs,
            "outputs": outputs,
            "reference_outputs": reference,
            "run": SimpleNamespace(inputs=inputs, outputs=outputs),
            "example": SimpleNamespace(inputs=inputs, outputs=reference),
        }
        result = self.evaluator(**{name: offered[name] for name in _langsmith_names(self.evaluator)})
        if isinstance(result, Awaitable):
            result = await result
        if isinstance(result, Mapping):
            result = result.get("score")
        score: float = getattr(result, "score", result)
        return score


def _langsmith_names(evaluator: object) -> frozenset[str]:
    """Names of LangSmith's that a function asks for; empty if it asks for any other."""
    if not callable(evaluator):
        return frozenset()
    try:
        parameters = inspect.signature(evaluator).parameters.values()
    except (TypeError, ValueError):
        return frozenset()
    named = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    known = frozenset({"inputs", "outputs", "reference_outputs"}), frozenset({"run", "example"})
    return next((frozenset(named & names) for names in known if named and named <= names), frozenset())


def _scorer(scorer: object) -> Scorer:
    return LangSmithEvaluator(scorer) if _langsmith_names(scorer) else as_scorer(scorer)  # type: ignore[arg-type]


def _members(models: ChatCascade | Mapping[str, Any] | Sequence[Any]) -> dict[str, Runnable[Any, Any]]:
    if isinstance(models, ChatCascade):
        return dict(models.models)
    if isinstance(models, Mapping) and not all(chat_model_of(model) for model in models.values()):
        return runnables(models)
    return chat_models(models)


def _measured(
    prompts: Iterable[str | Query | Mapping[str, Any]],
    members: Mapping[str, Runnable[Any, Any]],
    make_input: MakeInput | None,
) -> list[Prompt]:
    """The prompts, with the length of what is sent: costs are estimated by it, here as in service."""
    checked = checked_prompts(prompts)
    if make_input is None:
        return checked
    models = [chat_model_of(member) for member in members.values()]

    def sent(prompt: Prompt) -> int:
        made = make_input(prompt)
        if None not in models:  # as ChatCascade reads it; else as RunnableCascade does
            made = cast("BaseChatModel", models[0])._convert_input(made)
        return query_in(made).sent_chars

    return [
        prompt
        if prompt.prompt_chars is not None
        else prompt.model_copy(update={"prompt_chars": sent(prompt)})
        for prompt in checked
    ]


def _parameters(members: Mapping[str, Runnable[Any, Any]]) -> dict[str, Mapping[str, Any]]:
    """What tells a model's answers from those of the same model otherwise set."""
    return {
        name: identity_of(member) for name, member in members.items() if chat_model_of(member) is not None
    }
