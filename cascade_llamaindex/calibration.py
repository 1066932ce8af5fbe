"""From prompts to a policy, with models and evaluators of LlamaIndex's."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.evaluation import BaseEvaluator, CorrectnessEvaluator
from llama_index.core.llms.llm import LLM

from cascade_core.calibration import Calibration, Evaluator, Prompt, Scorer, Store, Target, as_scorer
from cascade_core.calibration import acalibrate as acalibrate_any
from cascade_core.calibration import calibrate as calibrate_any
from cascade_core.calibration.job import STORE
from cascade_core.calibration.prompts import checked_prompts
from cascade_core.values import Answer
from cascade_llamaindex._answer import answer_of
from cascade_llamaindex._llm import CascadeLLM
from cascade_llamaindex._members import by_name
from cascade_llamaindex._messages import copied, query_of

if TYPE_CHECKING:
    from cascade_core.calibration import Ask
    from cascade_core.checks import SelfConsistency, Verification
    from cascade_core.values import Query

MakeInput = Callable[[Prompt], "str | Sequence[ChatMessage]"]
"""From a prompt to what the models are sent: a text, or a conversation."""

_SETTINGS = ("model", "model_name", "temperature", "max_tokens", "top_p", "top_k", "seed", "reasoning_effort")
"""Fields of a model that change its answers, under the names that integrations give them."""


def calibrate(
    llms: CascadeLLM | Sequence[LLM] | Mapping[str, LLM],
    prompts: Iterable[str | Query | Mapping[str, Any]],
    scorer: object,
    target: Target,
    store: Store | str | os.PathLike[str] = STORE,
    *,
    make_input: MakeInput | None = None,
    contexts: Callable[[Prompt], Sequence[str]] | None = None,
    check: SelfConsistency | Verification | None = None,
    **options: Any,
) -> Calibration:
    """Ask all models all prompts, score the answers, fit a policy to a target, and certify it.

    Every answer is kept in the store the moment it is there: a run that was interrupted goes on where it was, and
    nothing is paid twice. Retries and rate limits are those of the models. The policy works in LangChain too, for
    models of the same names.

    Args:
        llms: as for :class:`CascadeLLM`, or one.
        prompts: texts, or mappings with ``text`` and, where the scorer compares, ``reference``. Of a RAG pipeline,
            the questions, with :func:`retrieval_features` as ``features``.
        scorer: the name of a scorer (``"exact"``, ``"numeric"``, …), an evaluator of LlamaIndex's, or a function of
            ``query``, ``answer``, ``reference`` (any of them, by name). Scores are from 0 to 1.
        target: ``Budget``, ``Quality``, ``RelativeQuality`` or ``Savings`` of :mod:`cascade_core.calibration`.
        store: file or database URL that answers are kept in.
        make_input: makes what the models are sent of a prompt, such as the question with its context; None: its text.
        contexts: the retrieved texts of a prompt, for evaluators that ask for them (faithfulness, relevancy).
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

    Examples:
        ```python
        from llama_index.llms.openai import OpenAI

        from cascade_core.calibration import RelativeQuality
        from cascade_llamaindex import CascadeLLM, calibrate

        models = [OpenAI(model="gpt-4.1-nano", logprobs=True), OpenAI(model="gpt-5")]
        prompts = [{"text": f"What is {n} + {n * n}?", "reference": str(n + n * n)} for n in range(40)]
        found = calibrate(models, prompts, "exact", RelativeQuality(0.98, of="gpt-5"))
        print(found.certificate)
        found.policy.save("policy.json")
        llm = CascadeLLM(models, "policy.json")
        ```
    """
    members = _members(llms)
    # Threads, not an event loop of our own: clients keep their connections for the loop they were first used in.
    asks = {name: _ask(llm, make_input) for name, llm in members.items()}
    verifiers = {name: _ask(llm, None) for name, llm in members.items()}
    return calibrate_any(
        asks,
        _measured(prompts, make_input),
        scorer_of(scorer, contexts),
        target,
        store=store,
        parameters=_parameters(members),
        check=check,
        checkers=verifiers if check is not None and check.kind == "verification" else asks,
        **options,
    )


async def acalibrate(
    llms: CascadeLLM | Sequence[LLM] | Mapping[str, LLM],
    prompts: Iterable[str | Query | Mapping[str, Any]],
    scorer: object,
    target: Target,
    store: Store | str | os.PathLike[str] = STORE,
    *,
    make_input: MakeInput | None = None,
    contexts: Callable[[Prompt], Sequence[str]] | None = None,
    check: SelfConsistency | Verification | None = None,
    **options: Any,
) -> Calibration:
    """:func:`calibrate` for a running event loop."""
    members = _members(llms)
    asks = {name: _aask(llm, make_input) for name, llm in members.items()}
    verifiers = {name: _aask(llm, None) for name, llm in members.items()}
    return await acalibrate_any(
        asks,
        _measured(prompts, make_input),
        scorer_of(scorer, contexts),
        target,
        store=store,
        parameters=_parameters(members),
        check=check,
        checkers=verifiers if check is not None and check.kind == "verification" else asks,
        **options,
    )


def scorer_of(scorer: object, contexts: Callable[[Prompt], Sequence[str]] | None = None) -> Scorer:
    """A scorer of what a user hands over, evaluators of LlamaIndex's among it.

    An evaluator's score is taken as it is, from 0 to 1; that of ``CorrectnessEvaluator``, from 1 to 5, is mapped.
    """
    if isinstance(scorer, BaseEvaluator):
        scale = (1.0, 5.0) if isinstance(scorer, CorrectnessEvaluator) else (0.0, 1.0)
        return Evaluator(scorer, scale=scale, contexts=contexts)
    return as_scorer(scorer)


def ask_with(llm: LLM) -> Ask:
    """A model as :func:`cascade_core.calibration.collect` and the judges of that package take it.

    Example:
        >>> from cascade_core.calibration import Prompt
        >>> from llama_index.core.llms import MockLLM
        >>> ask_with(MockLLM())(Prompt(text="well said")).text
        'user: well said\\nassistant: '
    """
    return _ask(llm, None)


def _members(llms: CascadeLLM | Sequence[LLM] | Mapping[str, LLM]) -> dict[str, LLM]:
    return dict(llms.llms) if isinstance(llms, CascadeLLM) else by_name(llms)


def _parameters(members: Mapping[str, LLM]) -> dict[str, Mapping[str, Any]]:
    """What tells a model's answers from those of the same model otherwise set; holds no key."""
    return {
        name: {"class": llm.class_name(), **{field: getattr(llm, field, None) for field in _SETTINGS}}
        for name, llm in members.items()
    }


def _sent(prompt: Prompt, make_input: MakeInput | None) -> list[ChatMessage]:
    made = prompt.text if make_input is None else make_input(prompt)
    return [ChatMessage(made)] if isinstance(made, str) else [copied(message) for message in made]


def _measured(
    prompts: Iterable[str | Query | Mapping[str, Any]], make_input: MakeInput | None
) -> list[Prompt]:
    """The prompts, with the length of what is sent: costs are estimated by it, here as in service."""
    return [
        prompt
        if prompt.prompt_chars is not None
        else prompt.model_copy(update={"prompt_chars": query_of(_sent(prompt, make_input)).prompt_chars})
        for prompt in checked_prompts(prompts)
    ]


def _ask(llm: LLM, make_input: MakeInput | None) -> Callable[[Prompt], Answer]:
    def ask(prompt: Prompt) -> Answer:
        messages, started = _sent(prompt, make_input), perf_counter()
        return answer_of(llm.chat(messages), perf_counter() - started)

    return ask


def _aask(llm: LLM, make_input: MakeInput | None) -> Callable[[Prompt], Awaitable[Answer]]:
    async def ask(prompt: Prompt) -> Answer:
        messages, started = _sent(prompt, make_input), perf_counter()
        return answer_of(await llm.achat(messages), perf_counter() - started)

    return ask
