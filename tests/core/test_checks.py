"""Checks of an answer: what they ask, how replies are read, when they are made, and that every call is booked."""

from __future__ import annotations

import json
import math
import zlib
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from cascade_core import (
    AllModelsFailedError,
    Answer,
    CalibrationError,
    Call,
    ConfigurationError,
    Limits,
    ModelSpec,
    Policy,
    PolicyError,
    Price,
    Query,
    SelfConsistency,
    Stop,
    Usage,
    Verification,
)
from cascade_core.calibration import (
    AnswerTable,
    Quality,
    RelativeQuality,
    Savings,
    Store,
    acalibrate,
    calibrate,
    calibrate_table,
    collect,
    evaluate,
    fit,
)
from cascade_core.calibration.collection import plan
from cascade_core.checks import Checking
from cascade_core.cli import app
from cascade_core.strategies import Routing
from cascade_core.values import CheckCall

PRICES = {
    "small": Price(input=1, output=1),
    "medium": Price(input=2, output=2),
    "large": Price(input=10, output=10),
}
USAGE = Usage(input_tokens=100, output_tokens=100)
SAMPLES = SelfConsistency(of=("small",), samples=3)
ASKED = Verification(of=("small",), by="medium")


def said(text: str, **about: Any) -> Answer:
    return Answer(text=text, usage=USAGE, **about)


def policy(check: SelfConsistency | Verification | None, **limits: Any) -> Policy:
    specs = [ModelSpec(name=name, price=price) for name, price in PRICES.items()]
    return replace(Policy.uncalibrated(specs, check=check), limits=Limits(**limits))


def run(episode: Any, outcomes: dict[tuple[str, str | None], list[Any]]) -> tuple[list[Call], Stop]:
    """Play what each model says, in turn, to an answer's call and to a check's; return the calls and the stop."""
    calls = []
    while isinstance(step := episode.next(), Call):
        calls.append(step)
        outcome = outcomes[step.model, step.checks].pop(0)
        if isinstance(outcome, Exception):
            episode.fail(outcome)
        else:
            episode.observe(outcome)
    return calls, step


# -- what is read -------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["4", "It is 4.", "5", "no idea", ""]), max_size=8))
def test_self_consistency_is_the_share_of_readable_samples_that_agree(texts: list[str]) -> None:
    score = SAMPLES.read(Answer(text="2 + 2 = 4"), [Answer(text=text) for text in texts])
    readable = [text for text in texts if text]
    agreeing = [text for text in readable if "4" in text]
    assert score == (None if not readable else pytest.approx(len(agreeing) / len(readable)))


@given(st.text(), st.text())
def test_a_sample_agrees_with_itself_and_agreement_has_no_direction(one: str, two: str) -> None:
    both = [
        SAMPLES.read(Answer(text=one), [Answer(text=two)]),
        SAMPLES.read(Answer(text=two), [Answer(text=one)]),
    ]
    if not one.lstrip().startswith("{") and not two.lstrip().startswith("{"):
        assert both[0] == both[1]
    assert SAMPLES.read(Answer(text=one), [Answer(text=one)]) in (1.0, None)


def test_objects_with_one_number_in_common_are_not_the_same() -> None:
    ann, bob = Answer(text='{"name": "Ann", "age": 30}'), Answer(text='{"name": "Bob", "age": 30}')
    assert SAMPLES.read(ann, [ann, bob]) == 0.5


def test_what_is_compared_may_be_named() -> None:
    first, second = Answer(text="(B) 3 apples"), Answer(text="I say B, for there are 4 of them.")
    assert SAMPLES.read(first, [second]) == 0.0
    assert SAMPLES.model_copy(update={"key": "choice"}).read(first, [second]) == 1.0
    with pytest.raises(ValidationError, match="expected 'auto' or one of"):
        SelfConsistency(of=("small",), key="colour")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Yes", 1.0),
        ("**No**, it is 5.", 0.0),
        ("The answer is correct: yes.", 1.0),
        ("No, though some say yes.", 0.0),
        ("Some say yes, some say no.", None),
        ("I cannot tell.", None),
        ("", None),
        ("Eyes on nobody", None),
    ],
)
def test_a_verdict_is_a_yes_or_a_no_that_stands_by_itself(text: str, score: float | None) -> None:
    assert ASKED.read(Answer(text="4"), [Answer(text=text)]) == score


@given(st.floats(-20, 0), st.booleans())
def test_with_log_probabilities_the_verdict_is_the_probability_of_yes(logprob: float, yes: bool) -> None:
    score = ASKED.read(Answer(text="4"), [Answer(text="Yes" if yes else "No", logprobs=(logprob, -1.0))])
    assert score == pytest.approx(math.exp(logprob) if yes else 1 - math.exp(logprob))


@given(st.lists(st.sampled_from(["Yes", "No", "Hm"]), max_size=6))
def test_of_several_verdicts_the_unreadable_are_left_out(texts: list[str]) -> None:
    score = ASKED.read(Answer(text="4"), [Answer(text=text) for text in texts])
    read = [text for text in texts if text != "Hm"]
    assert score == (None if not read else pytest.approx(read.count("Yes") / len(read)))


@given(st.text(), st.text())
def test_a_question_is_filled_in_once_whatever_is_in_it(question: str, answer: str) -> None:
    check = Verification(of=("small",), by="medium", question="Q: {question} A: {answer} {0} {{x}}?")
    asked = check.prompt(Query(text=question), Answer(text=answer))
    assert asked == "Q: " + question + " A: " + answer + " {0} {{x}}?"


def test_a_question_without_the_answer_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"with \{question\} and \{answer\} in it"):
        Verification(of=("small",), by="medium", question="Is it right? {question}")


# -- an episode ---------------------------------------------------------------------------------------------------


def test_a_draft_is_checked_before_it_is_decided_whether_to_go_on() -> None:
    episode = policy(SAMPLES).start("2+2?")
    calls, stop = run(
        episode, {("small", None): [said("4")], ("small", "small"): [said("4"), said("four: 4"), said("4")]}
    )
    assert stop == Stop(model="small", reason="good_enough")
    assert calls == [
        Call(model="small", final=False),
        *[Call(model="small", final=False, checks="small")] * 3,
    ]
    record = episode.record
    assert record.models == ("small",)
    assert record.calls[0].check == 1.0
    assert record.calls[0].quality == 1.0
    assert record.cost == pytest.approx(4 * 200e-6)
    assert record.cost == pytest.approx(sum(call.cost or 0 for call in record.calls))
    assert record.payload()["calls"][1] == {
        "model": "small",
        "checks": "small",
        "cost": pytest.approx(200e-6),
        "usage": {"input_tokens": 100, "output_tokens": 100, "cached_input_tokens": 0},
    }


def test_a_check_that_goes_badly_leads_on_and_is_booked_at_the_price_of_whom_it_asked() -> None:
    episode = policy(ASKED).start("2+2?")
    no = Answer(text="No", usage=Usage(input_tokens=50, output_tokens=1))
    calls, stop = run(
        episode, {("small", None): [said("5")], ("medium", "small"): [no], ("medium", None): [said("4")]}
    )
    assert [(call.model, call.checks) for call in calls] == [
        ("small", None),
        ("medium", "small"),
        ("medium", None),
    ]
    assert "2+2?" in calls[1].prompt
    assert "5" in calls[1].prompt
    assert stop.model == "medium"
    assert episode.record.cost == pytest.approx((200 * 1 + 51 * 2 + 200 * 2) / 1e6, rel=1e-12)
    assert "2+2?" not in episode.record.model_dump_json()


def test_what_a_provider_does_not_count_is_estimated() -> None:
    episode = policy(ASKED).start("2+2?")
    calls, _ = run(episode, {("small", None): [said("4")], ("medium", "small"): [Answer(text="Yes")]})
    tokens = round(len(calls[1].prompt or "") / 4) + 1 + round(len("Yes") / 4) + 1
    assert episode.record.calls[1].cost == pytest.approx(2 * tokens / 1e6)


def test_a_check_that_fails_is_missing_and_the_model_may_still_answer() -> None:
    episode = policy(ASKED).start("2+2?")
    _, stop = run(
        episode,
        {
            ("small", None): [said("4", logprobs=(-2.0,))],
            ("medium", "small"): [OSError("a secret")],
            ("medium", None): [said("4", logprobs=(-0.01,))],
        },
    )
    assert stop == Stop(model="medium", reason="good_enough")
    assert [call.error for call in episode.record.calls] == [None, "OSError", None]
    assert episode.record.calls[0].check is None
    assert "secret" not in episode.record.model_dump_json()


def test_of_a_check_that_breaks_off_the_replies_that_came_count() -> None:
    episode = policy(SAMPLES).start("2+2?")
    outcomes: dict[Any, list[Any]] = defaultdict(list)
    outcomes["small", None] = [said("4")]
    outcomes["small", "small"] = [said("4"), OSError(), said("never asked")]
    calls, _ = run(episode, outcomes)
    assert len(calls) == 3
    assert episode.record.calls[0].check == 1.0


def test_an_answer_in_hand_survives_a_failed_check_and_every_later_failure() -> None:
    outcomes = {
        ("small", None): [said("4")],
        ("medium", "small"): [said("No")],
        ("medium", None): [OSError()],
        ("large", None): [OSError()],
    }
    _, stop = run(policy(ASKED).start("2+2?"), outcomes)
    assert stop == Stop(model="small", reason="failed")


@pytest.mark.parametrize(
    "answer",
    [said("", tool_calls=1), said(" "), said("{oops", parse_error=True)],
    ids=["tool", "empty", "unparsed"],
)
def test_an_answer_without_text_is_not_checked(answer: Answer) -> None:
    calls, _ = run(policy(SAMPLES).start("q"), {("small", None): [answer], ("medium", None): [said("4")]})
    assert all(call.checks is None for call in calls)


def test_a_final_call_is_not_checked() -> None:
    episode = replace(policy(SAMPLES), strategy=Routing(lam=1e9)).start("q")
    calls, _ = run(episode, {("small", None): [said("4")]})
    assert calls == [Call(model="small", final=True)]


def test_a_model_that_may_not_be_used_for_a_query_is_not_asked_either() -> None:
    both = {("small", None): [said("4")]}
    calls, _ = run(policy(ASKED).start("q", only=["small", "large"]), both)
    assert len(calls) == 1


def test_a_check_leaves_room_for_a_model_after_it_or_is_not_made() -> None:
    unsure = {"logprobs": (-2.0,)}
    for most, checked in ((4, False), (5, True)):
        outcomes = {
            ("small", None): [said("4", **unsure)],
            ("small", "small"): [said(text) for text in ("5", "6", "7")],
            ("medium", None): [said("4", **unsure)],
            ("large", None): [said("4")],
        }
        episode = policy(SAMPLES, max_calls=most).start("q")
        calls, stop = run(episode, outcomes)
        assert any(call.checks for call in calls) is checked
        assert len(calls) <= most
        assert calls[-1].model != "small"
        assert stop.model != "small"


def test_what_a_check_will_cost_counts_against_the_limit() -> None:
    # small 0.0002, three samples 0.0006, then medium is expected at 0.0004 more (200 output tokens at 2)
    for limit, checked in ((0.0011, False), (0.0013, True)):
        outcomes = {
            ("small", None): [said("4", logprobs=(-2.0,))],
            ("small", "small"): [said(text) for text in ("5", "6", "7")],
            ("medium", None): [said("4")],
        }
        episode = policy(SAMPLES, max_cost=limit).start("q")
        calls, _ = run(episode, outcomes)
        assert any(call.checks for call in calls) is checked
        assert episode.record.cost <= limit


OUTCOMES = st.sampled_from(
    [
        said("4"),
        said("5", logprobs=(-2.0,)),
        said("Yes"),
        said("No"),
        said(" "),
        said("", tool_calls=1),
        said("{", parse_error=True),
        OSError("a secret"),
    ]
)


@given(
    st.sampled_from([SAMPLES, ASKED, Verification(of=("small", "medium"), by="large", samples=2)]),
    st.lists(OUTCOMES, min_size=12, max_size=12),
    st.sampled_from([None, 1, 2, 4, 6]),
    st.sampled_from([None, 5e-4, 2e-3]),
)
def test_whatever_comes_back_the_bill_adds_up_and_the_limits_hold(
    check: SelfConsistency | Verification,
    outcomes: list[Any],
    most_calls: int | None,
    most_cost: float | None,
) -> None:
    episode = policy(check, max_calls=most_calls, max_cost=most_cost).start("2+2?")
    left = list(outcomes)
    try:
        while isinstance(step := episode.next(), Call):
            outcome = left.pop()
            if isinstance(outcome, Exception):
                episode.fail(outcome)
            else:
                episode.observe(outcome)
    except AllModelsFailedError:
        assert len(left) == len(outcomes) - 3
        return
    record = episode.record
    assert record.cost == pytest.approx(sum(call.cost or 0.0 for call in record.calls))
    assert len(record.calls) == len(outcomes) - len(left)
    assert step.model in record.models
    assert "secret" not in record.model_dump_json()
    for place, call in enumerate(record.calls):
        if call.checks is not None:  # it follows the answer that it checks, and room for another is left
            answers = [one for one in record.calls[:place] if one.checks is None]
            assert answers[-1].model == call.checks
            assert most_calls is None or place + 1 < most_calls


def test_the_reference_is_a_model_that_is_not_checked_and_its_price_that_of_its_answer() -> None:
    check = Verification(of=("small",), by="large")
    episode = policy(check).start("2+2?")
    outcomes = {("small", None): [said("4")], ("large", "small"): [said("Yes")]}
    run(episode, outcomes)
    record = episode.record
    assert record.reference_model == "large"
    assert record.reference_cost == pytest.approx(10 * 202 / 1e6)  # expected: it has not answered


def test_an_answer_from_a_table_brings_its_check_with_it() -> None:
    check = CheckCall(model="medium", usage=Usage(input_tokens=50, output_tokens=1), latency=1.0, cost=1.0)
    episode = policy(ASKED).start("2+2?")
    calls, stop = run(episode, {("small", None): [said("4", check=0.9, check_calls=(check,))]})
    assert stop == Stop(model="small", reason="good_enough")
    assert len(calls) == 1
    assert episode.record.calls[0].check == 0.9
    assert episode.record.cost == pytest.approx((200 * 1 + 51 * 2) / 1e6)  # at the policy's prices


# -- a policy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [
        SAMPLES,
        SelfConsistency(of=("small", "medium"), samples=5, key="choice"),
        Verification(of=("small",), by="large", samples=2, question="{answer}? {question}?"),
        None,
    ],
)
def test_a_policy_keeps_its_check_in_its_file(check: SelfConsistency | Verification | None) -> None:
    assert Policy.from_json(policy(check).to_json()).check == check


def test_a_file_from_before_there_were_checks_is_read() -> None:
    old = json.loads(policy(None).to_json())
    del old["check"]
    assert Policy.from_json(json.dumps(old)).check is None


def test_a_damaged_check_is_named() -> None:
    damaged = json.loads(policy(SAMPLES).to_json())
    damaged["check"]["samples"] = 0
    with pytest.raises(PolicyError, match=r"check.*samples"):
        Policy.from_json(json.dumps(damaged))


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (SelfConsistency(of=("tiny",)), "'tiny'"),
        (Verification(of=("small",), by="judge"), "'judge'"),
        (SelfConsistency(of=tuple(PRICES)), "leave out the dearest"),
    ],
)
def test_a_check_must_suit_the_models(check: SelfConsistency | Verification, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        policy(check)


def test_one_check_is_made_the_same_way_everywhere() -> None:
    checking = Checking(SAMPLES, "small", Query(text="2+2?"), said("4"))
    while checking.call is not None:
        checking.take(said("4" if len(checking.checked.check_calls) < 2 else "5"))
    assert checking.checked.check == pytest.approx(2 / 3)
    assert [call.model for call in checking.checked.check_calls] == ["small"] * 3
    assert Checking(SAMPLES, "large", Query(text="2+2?"), said("4")).calls == ()


# -- calibration --------------------------------------------------------------------------------------------------


class Sums:
    """A model that knows the easy queries, which look like all others, and one that knows all.

    What the small one says to a hard query is drawn anew each time; asked whether an answer is right, medium knows.
    ``steady`` makes the small one say the same wrong thing each time, and medium say yes to everything.
    """

    def __init__(self, queries: int = 150, *, steady: bool = False, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.right = {
            f"What is the value of item {n}?": str(int(random.integers(100, 1000))) for n in range(queries)
        }
        self.easy = {text: bool(random.random() < 0.5) for text in self.right}
        self.steady = steady
        self.asked: dict[tuple[str, str], int] = defaultdict(int)
        self.prompts = [{"text": text, "reference": right} for text, right in self.right.items()]

    def ask(self, model: str) -> Any:
        def answer(prompt: Query) -> Answer:
            times = self.asked[model, prompt.text] = self.asked[model, prompt.text] + 1
            usage = Usage(input_tokens=len(prompt.text), output_tokens=10)
            if "Proposed answer:" in prompt.text:
                question, _, rest = prompt.text.partition("\n\nProposed answer:\n")
                right = rest.split("\n")[0] == self.right[question.removeprefix("Question:\n")]
                return Answer(text="Yes" if right or self.steady else "No", usage=usage, latency=0.5)
            text = self.right[prompt.text]
            if model == "small" and not self.easy[prompt.text]:
                key = prompt.text if self.steady else f"{prompt.text} {times}"
                text = str(100 + zlib.crc32(key.encode()) % 900)  # by its looks as good as a right one
            return Answer(text=text, usage=usage, latency=2.0 if model == "large" else 0.5)

        return answer

    def models(self) -> dict[str, Any]:
        return {"small": self.ask("small"), "large": self.ask("large")}

    def all(self) -> dict[str, Any]:
        return {name: self.ask(name) for name in PRICES}


TWO = {"small": Price(input=1, output=1), "large": Price(input=30, output=30)}
OPTIONS: dict[str, Any] = {"store": ":memory:", "concurrency": 2, "guarantee": False}


@pytest.fixture(scope="module")
def informative() -> Any:
    sums = Sums(200)
    return sums, calibrate(
        sums.models(), sums.prompts, "exact", Quality(0.99), prices=TWO, check=SAMPLES, **OPTIONS
    )


def test_a_check_that_tells_is_kept_and_saves_what_it_promises(informative: Any) -> None:
    _, found = informative
    assert found.policy.check == SAMPLES
    assert found.policy.provenance["check"] == "kept"
    without = calibrate_table(found.table, Quality(0.99), prices=TWO, guarantee=False)
    assert without.policy.check is None
    assert found.fit.outcome.cost.mean() < 0.8 * without.fit.outcome.cost.mean()
    assert found.fit.outcome.quality.mean() >= without.fit.outcome.quality.mean() - 0.02
    rows = [n for n, row in enumerate(found.table.answers) if row[0].check == 1]
    assert found.table.quality[rows, 0].mean() == 1


def test_every_call_is_booked_to_the_cent(informative: Any) -> None:
    sums, found = informative
    for n, query in enumerate(found.table.queries):
        each = (len(query.text) + 10) * 1e-6
        assert found.table.cost[n].tolist() == pytest.approx([4 * each, 30 * each], rel=1e-12)
        assert found.table.check_cost[n].tolist() == pytest.approx([3 * each, 0], rel=1e-12)
        assert found.table.alone[n].tolist() == pytest.approx([each, 30 * each], rel=1e-12)
    assert sum(sums.asked.values()) == 200 * 5
    assert found.frontier.model_cost[found.frontier.models.index("small")] == pytest.approx(
        found.fit.held_out.alone[:, 0].mean()
    )


def test_the_policy_makes_in_service_the_calls_it_was_tuned_on(informative: Any) -> None:
    sums, found = informative
    policy = Policy.from_json(found.policy.to_json())
    models = sums.models()
    held_out = {query.text for query in found.fit.held_out.queries}
    spent, right = [], []
    for text in held_out:
        episode = policy.start(text)
        answers = {}
        while isinstance(step := episode.next(), Call):
            answer = models[step.model](Query(text=step.prompt or text))
            if step.checks is None:
                answers[step.model] = answer
            episode.observe(answer)
        spent.append(episode.record.cost)
        right.append(answers[step.model].text == sums.right[text])
    assert np.mean(right) >= 0.95
    # an upper bound: what is certainly the last call is not checked in service
    assert np.mean(spent) <= found.fit.outcome.cost.mean() * 1.05


def test_a_check_that_tells_nothing_is_left_out_and_costs_the_policy_nothing() -> None:
    sums = Sums(steady=True)
    found = calibrate(
        sums.models(), sums.prompts, "exact", Quality(0.9), prices=TWO, check=SAMPLES, **OPTIONS
    )
    assert found.policy.check is None
    assert found.policy.provenance["check"].startswith("left out")
    without = calibrate_table(found.table.unchecked(), Quality(0.9), prices=TWO, guarantee=False)
    assert found.fit.outcome.cost.tolist() == without.fit.outcome.cost.tolist()
    assert found.certificate.cost == without.certificate.cost
    assert found.certificate.quality == without.certificate.quality


def test_a_check_that_tells_nothing_has_next_to_no_weight() -> None:
    sums = Sums(steady=True)
    check = Verification(of=("small",), by="medium")
    with Store(":memory:") as store:
        kept = collect(sums.all(), sums.prompts, store, prices=PRICES, check=check).table
    random = np.random.default_rng(1)
    answers = tuple(
        (row[0].model_copy(update={"check": float(random.random())}), *row[1:]) for row in kept.answers
    )
    quality = np.array(
        [
            [row[k].text == sums.right[q.text] for k in range(3)]
            for q, row in zip(kept.queries, answers, strict=True)
        ]
    )
    table = replace(kept, answers=answers, quality=quality.astype(float))
    from cascade_core.estimation.fitting import fit_estimator

    post = fit_estimator(table).estimator.post
    assert post is not None
    assert post.checked
    assert abs(post.weights[0, -2]) < 0.15


def test_a_rerun_pays_nothing_twice_and_another_check_is_other_answers(tmp_path: Any) -> None:
    sums = Sums(40)
    options = {"prices": PRICES, "check": ASKED, "concurrency": 2}
    with Store(tmp_path / "kept.sqlite") as store:
        before = plan(PRICES, sums.prompts, store, prices=PRICES, check=ASKED)
        first = collect(sums.all(), sums.prompts, store, **options)
        assert first.calls == before.total_calls == 120
        assert before.total is not None
        assert sum(sums.asked.values()) == 160
        assert first.spent == pytest.approx(first.table.cost.sum(), rel=1e-12)
        again = collect(sums.all(), sums.prompts, store, **options)
        assert again.calls == 0
        assert again.table.cost.sum() == pytest.approx(first.spent, rel=1e-12)
        other = collect(sums.all(), sums.prompts, store, prices=PRICES, check=SAMPLES, concurrency=2)
        assert other.calls == 40  # the small model's alone
    dearer = {name: Price(input=2 * price.input, output=2 * price.output) for name, price in PRICES.items()}
    with Store(tmp_path / "kept.sqlite") as store:
        from cascade_core.calibration.collection import answer_keys

        table = store.table(list(PRICES), parameters=answer_keys(PRICES, None, ASKED), prices=dearer)
    assert table.cost.sum() == pytest.approx(2 * first.spent, rel=1e-12)


def test_what_checks_cost_counts_against_max_spend() -> None:
    sums = Sums(40)
    whole = collect(sums.all(), sums.prompts, Store(":memory:"), prices=PRICES, check=SAMPLES).spent
    part = collect(
        sums.all(),
        sums.prompts,
        Store(":memory:"),
        prices=PRICES,
        check=SAMPLES,
        max_spend=whole / 2,
        concurrency=1,
    )
    assert part.stopped == "max_spend"
    assert part.spent <= whole / 2


def test_a_check_that_fails_while_collecting_is_made_again_by_the_next_run_and_its_answer_is_kept() -> None:
    sums = Sums(30)
    models = sums.all()
    reliable, broken, small = models["medium"], {"verdicts": 3}, models["small"]
    asked: list[str] = []

    def counted(prompt: Query) -> Answer:
        asked.append(prompt.key)
        return small(prompt)

    def medium(prompt: Query) -> Answer:
        if "Proposed answer" in prompt.text and broken["verdicts"]:
            broken["verdicts"] -= 1
            raise ConnectionError("come back later")
        return reliable(prompt)

    options: dict[str, Any] = {"check": ASKED, "prices": PRICES}
    with Store(":memory:") as store:
        models = {**models, "small": counted, "medium": medium}
        first = collect(models, sums.prompts, store, concurrency=1, **options)
        assert first.failed == {"small": 3}
        assert store.failures() == {"small": {"ConnectionError": 3}}
        assert len(first.table) == 30
        assert sum(row[0] is None for row in first.table.answers) == 3, (
            "an answer without its check is none yet"
        )
        second = collect(models, sums.prompts, store, **options)
    assert second.calls == 3
    assert sorted(asked) == sorted(set(asked)), "no answer is asked for twice"
    assert first.spent + second.spent == pytest.approx(second.table.cost.sum()), "nor paid for"
    assert all(row[0].check is not None for row in second.table.answers)


async def test_async_models_are_checked_in_the_event_loop() -> None:
    sums = Sums(40)

    def awaited(model: str) -> Any:
        plain = sums.ask(model)

        async def ask(prompt: Query) -> Answer:
            return plain(prompt)

        return ask

    mixed = {"small": sums.ask("small"), "medium": awaited("medium"), "large": awaited("large")}
    found = await acalibrate(
        mixed, sums.prompts, "exact", RelativeQuality(0.9, of="large"), prices=PRICES, check=ASKED, **OPTIONS
    )
    assert all(row[found.table.models.index("small")].check in (0.0, 1.0) for row in found.table.answers)


def test_time_that_checks_take_is_cost_where_time_is() -> None:
    sums = Sums(40)
    found = collect(sums.models(), sums.prompts, Store(":memory:"), prices=TWO, check=SAMPLES).table
    assert found.latency[0].tolist() == [2.0, 2.0]  # four calls of half a second, and one of two
    timed = found.with_time(0.01)
    assert (timed.cost - found.cost)[0].tolist() == pytest.approx([0.02, 0.02])
    assert (timed.alone - found.alone)[0].tolist() == pytest.approx([0.005, 0.02])
    assert timed.unchecked().latency[0].tolist() == [0.5, 2.0]


def test_savings_are_of_what_a_model_costs_without_checks() -> None:
    sums = Sums(60)
    check = SelfConsistency(of=("small",), samples=40)  # dearer than the large model
    found = calibrate(sums.models(), sums.prompts, "exact", Savings(0.3), prices=TWO, check=check, **OPTIONS)
    assert found.policy.check is None
    assert found.certificate.reference == "large"


def test_command_line_and_report_tell_of_the_check(informative: Any, tmp_path: Any) -> None:
    _, found = informative
    found.policy.save(tmp_path / "policy.json")
    found.table.write(tmp_path / "table.jsonl")
    query = found.fit.held_out.queries[0].text
    shown = CliRunner().invoke(app, ["policy", "show", str(tmp_path / "policy.json")])
    assert "self_consistency (of small, samples 3, key auto)" in shown.output
    explained = CliRunner().invoke(
        app,
        ["explain", str(tmp_path / "policy.json"), query, "--table", str(tmp_path / "table.jsonl"), "--json"],
    )
    from cascade_core.report.figures import figures

    made = figures(found.policy, found.fit.held_out).data["made"]
    assert made.endswith("Answers of small are checked by further calls, which is in the costs.")
    record = json.loads(explained.output)["record"]
    assert record["calls"][0]["check"] == found.fit.held_out.answers[0][0].check
    assert len([call for call in record["calls"] if call.get("checks")]) == 3


# -- tables -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> AnswerTable:
    sums = Sums(30)
    return collect(sums.all(), sums.prompts, Store(":memory:"), prices=PRICES, check=ASKED).table


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "frame", "store"])
def test_checks_come_back_from_every_format(table: AnswerTable, suffix: str, tmp_path: Any) -> None:
    if suffix == "frame":
        back = AnswerTable.from_frame(table.to_frame())
    elif suffix == "store":
        with Store(tmp_path / "kept.sqlite") as store:
            store.add(table)
            back = store.table(list(table.models))
    else:
        table.write(tmp_path / f"table.{suffix}")
        back = AnswerTable.read(tmp_path / f"table.{suffix}")
    assert back.answers == table.answers
    assert back.cost.tolist() == table.cost.tolist()
    assert back.check_cost.tolist() == table.check_cost.tolist()
    assert back.latency.tolist() == table.latency.tolist()
    assert back.unchecked().cost.tolist() == table.unchecked().cost.tolist()


def test_a_damaged_check_is_named_by_row_and_column() -> None:
    row = {"query_id": 1, "query": "2+2?", "model": "small", "answer": "4"}
    with pytest.raises(CalibrationError, match="row 1, column 'check'"):
        AnswerTable.from_rows([{**row, "check": 2}])
    with pytest.raises(CalibrationError, match="row 1, column 'check_calls'"):
        AnswerTable.from_rows([{**row, "check_calls": [{"usage": None}]}])


def test_a_policy_with_a_check_is_not_judged_by_answers_without_one(informative: Any) -> None:
    _, found = informative
    cost = evaluate(found.policy, found.fit.held_out).cost.mean()  # over the draw, not as drawn
    assert cost == pytest.approx(found.fit.outcome.cost.mean(), rel=0.05)
    with pytest.raises(CalibrationError, match=r"collect answers with check=policy\.check"):
        evaluate(found.policy, found.fit.held_out.unchecked())
    with pytest.raises(CalibrationError, match="no answer of \\['small'\\] was checked"):
        fit(found.table.unchecked(), Quality(0.9), prices=TWO, check=SAMPLES)
