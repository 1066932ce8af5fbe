"""Runs the user's models on their prompts, once, and keeps every answer the moment it is there.

A model is handed over as a function from a prompt to an :class:`~cascade_core.Answer`, plain or async; retries and
rate limits are its own. Prompts are worked through in their order, each model with its own number of calls at a time,
so that wherever a run stops, the first prompts are complete. What a run does:

1. looks into the store and leaves out what is answered there;
2. calls, and commits each answer, checked if it is to be, before that worker asks for the next. Answers of plain
   functions are committed in the thread that made the call, so that Ctrl-C loses none;
3. stops before ``max_spend`` would be passed, or when a model fails several times in a row.

A rerun goes on where the last run stopped, however that was.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from cascade_core.calibration.asking import Ask, CheckError, aasked, asked, is_async, with_checks
from cascade_core.calibration.prompts import Prompt, checked_prompts
from cascade_core.calibration.store import (
    Store,
    dollars,
    estimated_usage,
    fingerprint,
    input_tokens,
    repriced,
)
from cascade_core.calibration.table import AnswerTable
from cascade_core.checks import SelfConsistency, Verification
from cascade_core.errors import CalibrationError, ConfigurationError
from cascade_core.policy import check_names
from cascade_core.values import Answer, Price, Query, Usage

_OUTPUT_TOKENS = 200

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What a run would do. ``dollars`` by model, None without a price; ``total`` None unless all have one."""

    calls: Mapping[str, int]
    dollars: Mapping[str, float | None]

    @property
    def total_calls(self) -> int:
        """Calls still to make."""
        return sum(self.calls.values())

    @property
    def total(self) -> float | None:
        """Expected US dollars of those calls."""
        known = [dollars for dollars in self.dollars.values() if dollars is not None]
        return sum(known) if len(known) == len(self.dollars) else None


@dataclass(frozen=True)
class Progress:
    """How far a run is. Counts are of this run; ``expected`` is its total in US dollars as estimated now."""

    done: int
    failed: int
    total: int
    spent: float
    expected: float | None
    seconds: float

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Collection:
    """What a run left behind.

    Attributes:
        table: every answer to these prompts in the store, not yet scored.
        prompts: the prompts, without duplicates.
        calls: calls made by this run, failed ones included.
        failed: failed calls of this run, by model.
        spent: US dollars that this run's calls cost.
        stopped: ``"complete"``, or ``"max_spend"`` when that ended it.
    """

    table: AnswerTable
    prompts: tuple[Prompt, ...]
    calls: int
    failed: Mapping[str, int]
    spent: float
    stopped: Literal["complete", "max_spend"]


def plan(
    models: Iterable[str],
    prompts: Iterable[str | Query | Mapping[str, Any]],
    store: Store,
    *,
    prices: Mapping[str, Price | None] | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    check: SelfConsistency | Verification | None = None,
) -> Plan:
    """Answers that :func:`collect` would ask for now, and what they and their checks will cost about.

    Input is taken as four characters a token, output as what the model's answers in the store have on average, or
    200 tokens.
    """
    queries = checked_prompts(prompts)
    models = tuple(models)
    keys = answer_keys(models, parameters, check)
    calls: dict[str, int] = {}
    dollars: dict[str, float | None] = {}
    for model in models:
        job = _Job.open(model, queries, store, prices or {}, keys[model], check)
        calls[model] = len(job.todo)
        dollars[model] = job.expected()
    return Plan(calls, dollars)


def collect(
    models: Mapping[str, Ask],
    prompts: Iterable[str | Query | Mapping[str, Any]],
    store: Store,
    *,
    prices: Mapping[str, Price | None] | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    concurrency: int | Mapping[str, int] = 8,
    max_spend: float | None = None,
    max_failures: int = 5,
    progress: Callable[[Progress], None] | bool = False,
    check: SelfConsistency | Verification | None = None,
    checkers: Mapping[str, Ask] | None = None,
) -> Collection:
    """Collect the answers of models to prompts.

    Args:
        models: the models by name.
        prompts: texts, queries, :class:`Prompt` or mappings, see :func:`checked_prompts`.
        store: where answers are kept and looked for.
        prices: prices by model name, for the costs and for ``max_spend``.
        parameters: each model's parameters (temperature, …), part of its answers' key.
        concurrency: calls at a time, for each model or by name.
        max_spend: most US dollars that this run may cost, by expected costs of the calls in flight.
        max_failures: failures of one model in a row after which the run stops.
        progress: called after every answer; True shows a bar.
        check: how answers are checked (:mod:`cascade_core.checks`). An answer and its check are kept together, once
            both are there, and counted as one call; of an answer whose check failed the next run makes only that.
        checkers: the models as a check calls them, see :func:`~cascade_core.calibration.asking.with_checks`; None for
            ``models``.

    Returns:
        What was collected. A prompt that a model failed on has no answer of it; the next run tries again.

    Raises:
        CalibrationError: bad prompts, a model that keeps failing (its name and last error are in the message and the
            store keeps what was collected), a full disk, or another collector at work on the store.
        ConfigurationError: fewer than two models, or ``max_spend`` without the price of every model.
    """
    work = acollect(
        models,
        prompts,
        store,
        prices=prices,
        parameters=parameters,
        concurrency=concurrency,
        max_spend=max_spend,
        max_failures=max_failures,
        progress=progress,
        check=check,
        checkers=checkers,
    )
    return run_blocking(work)


async def acollect(
    models: Mapping[str, Ask],
    prompts: Iterable[str | Query | Mapping[str, Any]],
    store: Store,
    *,
    prices: Mapping[str, Price | None] | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    concurrency: int | Mapping[str, int] = 8,
    max_spend: float | None = None,
    max_failures: int = 5,
    progress: Callable[[Progress], None] | bool = False,
    check: SelfConsistency | Verification | None = None,
    checkers: Mapping[str, Ask] | None = None,
) -> Collection:
    """:func:`collect` for a running event loop."""
    check_names(tuple(models))
    queries = checked_prompts(prompts)
    prices = prices or {}
    unpriced = [model for model in models if prices.get(model) is None]
    if max_spend is not None and unpriced:
        raise ConfigurationError(
            f"max_spend needs the price of every model, and {unpriced[0]!r} has none: pass it in prices"
        )
    if check is not None:
        check.fit_for(tuple(models))
    names = answer_keys(models, parameters, check)
    with store.collecting():
        store.add_prompts(queries)
        jobs = [_Job.open(model, queries, store, prices, names[model], check) for model in models]
        asks = with_checks(models, check, checkers, {job.model: job.begun for job in jobs})
        run = _Run(store, jobs, max_spend, max_failures)
        with _reporter(progress) as report:
            await run.all(asks, concurrency, report)
    found = [model for model in models if store.answered(model, parameters=names[model])]
    if len(found) < len(models):
        missing = next(model for model in models if model not in found)
        raise CalibrationError(f"model {missing!r} has not answered a single prompt: {run.why(missing)}")
    return Collection(
        table=store.table(list(models), parameters=names, prompts=queries),
        prompts=tuple(queries),
        calls=run.done,
        failed={job.model: job.failed for job in jobs if job.failed},
        spent=run.spent,
        stopped="max_spend" if run.over_spend else "complete",
    )


def answer_keys(
    models: Iterable[str],
    parameters: Mapping[str, Mapping[str, Any]] | None,
    check: SelfConsistency | Verification | None,
) -> dict[str, str]:
    """Fingerprint of each model's parameters; the check of its answers, and whom that asks, are part of them."""
    given = {model: dict((parameters or {}).get(model) or {}) for model in models}
    keys = {}
    for model, own in given.items():
        called = () if check is None else check.models(model)
        if check is not None and called:
            own = {
                **own,
                "check": check.model_dump(mode="json", exclude={"of"}),
                "called": {name: given.get(name) for name in called},
            }
        keys[model] = fingerprint(own)
    return keys


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where a loop is running already (a notebook): then in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


@dataclass
class _Job:
    """What one model still has to do, and what its calls cost on average."""

    model: str
    parameters: str
    prices: Mapping[str, Price | None]
    called: tuple[str, ...]  # models that check an answer
    todo: deque[Prompt]
    begun: Mapping[str, Answer]  # by prompt id, answers that are there already and only to be checked
    input_tokens: int
    more_input_tokens: float = 0.0  # that a call takes on average beyond a quarter of its prompt's characters
    output_tokens: float = _OUTPUT_TOKENS
    check_dollars: float = 0.0
    seen: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    last_error: BaseException | None = None

    @property
    def price(self) -> Price | None:
        """The model's price."""
        return self.prices.get(self.model)

    @classmethod
    def open(
        cls,
        model: str,
        prompts: list[Prompt],
        store: Store,
        prices: Mapping[str, Price | None],
        parameters: str,
        check: SelfConsistency | Verification | None,
    ) -> _Job:
        """Look up what is answered already."""
        answered = store.answered(model, parameters=parameters)
        todo = deque(prompt for prompt in prompts if prompt.key not in answered)
        called = () if check is None else check.models(model)
        begun = store.begun(model, parameters=parameters)
        job = cls(model, parameters, prices, called, todo, begun, input_tokens=sum(map(input_tokens, todo)))
        if answered and job.price is not None:
            table = store.table([model], parameters={model: parameters}, prices=prices)
            for query, (answer,) in zip(table.queries, table.answers, strict=True):
                if answer is not None:
                    job.learn(query, answer)
        return job

    def next(self) -> Prompt:
        """Take the next prompt."""
        prompt = self.todo.popleft()
        self.input_tokens -= input_tokens(prompt)
        return prompt

    def cost(self, prompt: Prompt, answer: Answer) -> float | None:
        """What a call cost."""
        return None if self.price is None else dollars(prompt, answer, self.price)

    def spent(self, prompt: Prompt, answer: Answer) -> float:
        """What this run has paid for an answer: all that it cost, less what an earlier run had paid."""
        paid = self.begun.get(prompt.key)
        return (self.cost(prompt, answer) or 0.0) - ((self.cost(prompt, paid) or 0.0) if paid else 0.0)

    def priced(self, answer: Answer) -> Answer:
        """The answer, with what the calls that checked it cost."""
        return repriced(answer, self.prices)

    def expected(self) -> float | None:
        """What all calls that are left will cost."""
        return self._dollars(self.input_tokens, len(self.todo))

    def expected_next(self) -> float:
        """What the next call will cost; 0 without a price."""
        return self._dollars(input_tokens(self.todo[0]), 1) or 0.0

    def learn(self, query: Query, answer: Answer) -> None:
        """Take an answer's tokens into the averages."""
        self.seen += 1
        usage = estimated_usage(query, answer)
        more = usage.input_tokens - input_tokens(query)
        self.more_input_tokens += (more - self.more_input_tokens) / self.seen
        self.output_tokens += (usage.output_tokens - self.output_tokens) / self.seen
        self.check_dollars += (answer.check_dollars - self.check_dollars) / self.seen

    def _dollars(self, input_tokens: int, calls: int) -> float | None:
        if self.price is None:
            return None
        usage = Usage(
            input_tokens=max(round(input_tokens + calls * self.more_input_tokens), 0),
            output_tokens=round(calls * self.output_tokens),
        )
        checks = calls * self.check_dollars
        if not self.seen:  # as if each call of the check took what the answer takes
            checks = sum(price.dollars(usage) for name in self.called if (price := self.prices.get(name)))
        return self.price.dollars(usage) + checks


@dataclass
class _Run:
    """One run: the workers and what they share. Lives in one event loop."""

    store: Store
    jobs: list[_Job]
    max_spend: float | None
    max_failures: int
    done: int = 0
    spent: float = 0.0
    in_flight: float = 0.0
    over_spend: bool = False
    dead: _Job | None = None
    began: float = field(default_factory=time.monotonic)

    async def all(
        self,
        models: Mapping[str, Ask],
        concurrency: int | Mapping[str, int],
        report: Callable[[Progress], None],
    ) -> None:
        """Run every worker until the work is done or one stops the run."""
        total = sum(len(job.todo) for job in self.jobs)
        sizes = {
            job.model: concurrency if isinstance(concurrency, int) else concurrency.get(job.model, 8)
            for job in self.jobs
        }
        if min(sizes.values()) < 1:
            raise ConfigurationError("concurrency must be at least 1")
        report(self._progress(total))
        # One thread per call of a plain function, and one that commits the answers of async models.
        with ThreadPoolExecutor(sum(sizes.values())) as calls, ThreadPoolExecutor(1) as commits:
            workers = [
                asyncio.ensure_future(self._work(job, models[job.model], calls, commits, total, report))
                for job in self.jobs
                for _ in range(min(sizes[job.model], len(job.todo)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if self.dead is not None:
            raise CalibrationError(
                f"model {self.dead.model!r} {self.why(self.dead.model)}. What was collected is in the store "
                f"{self.store.name}; mend or leave out the model and run again"
            ) from self.dead.last_error

    def why(self, model: str) -> str:
        """What a model's failures say."""
        job = next(job for job in self.jobs if job.model == model)
        if job.last_error is None:
            return "was not called" + (", because max_spend was reached" if self.over_spend else "")
        said = f"{type(job.last_error).__name__}: {job.last_error}"
        return f"failed {job.failed_in_a_row} times in a row, the last time with {said}"

    async def _work(
        self,
        job: _Job,
        ask: Ask,
        calls: ThreadPoolExecutor,
        commits: ThreadPoolExecutor,
        total: int,
        report: Callable[[Progress], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        while job.todo and self.dead is None and not self.over_spend:
            expected = job.expected_next()
            if self.max_spend is not None and self.spent + self.in_flight + expected > self.max_spend:
                self.over_spend = True
                return
            prompt = job.next()
            self.in_flight += expected
            try:
                if is_async(ask):
                    answer = job.priced(await aasked(ask, prompt))
                    await loop.run_in_executor(commits, self._keep, job, prompt, answer)
                else:
                    answer = await loop.run_in_executor(calls, self._ask_and_keep, job, ask, prompt)
            except CalibrationError:
                raise  # the store's: without it there is no point in going on
            except Exception as error:
                cause: BaseException = error
                begun = None
                if isinstance(error, CheckError):
                    self.spent += job.spent(prompt, job.priced(error.paid))
                    cause, begun = error.__cause__ or error, error.answer
                job.failed += 1
                job.failed_in_a_row += 1
                job.last_error = cause
                self.store.fail(prompt.key, job.model, cause, parameters=job.parameters, begun=begun)
                if job.failed_in_a_row >= self.max_failures:
                    self.dead = job
            else:
                job.failed_in_a_row = 0
                job.learn(prompt, answer)
                self.spent += job.spent(prompt, answer)
            finally:
                self.in_flight -= expected
                self.done += 1
            report(self._progress(total))

    def _ask_and_keep(self, job: _Job, ask: Ask, prompt: Prompt) -> Answer:
        answer = job.priced(asked(ask, prompt))
        self._keep(job, prompt, answer)
        return answer

    def _keep(self, job: _Job, prompt: Prompt, answer: Answer) -> None:
        self.store.put(
            prompt.key, job.model, answer, cost=job.cost(prompt, answer), parameters=job.parameters
        )

    def _progress(self, total: int) -> Progress:
        left = [job.expected() for job in self.jobs]
        known = [dollars for dollars in left if dollars is not None]
        return Progress(
            done=self.done,
            failed=sum(job.failed for job in self.jobs),
            total=total,
            spent=self.spent,
            expected=self.spent + self.in_flight + sum(known) if len(known) == len(left) else None,
            seconds=time.monotonic() - self.began,
        )


def _reporter(progress: Callable[[Progress], None] | bool) -> Any:
    from contextlib import nullcontext

    if progress is True:
        from cascade_core.calibration.progress import Bar

        return Bar()
    return nullcontext(progress or (lambda _: None))
