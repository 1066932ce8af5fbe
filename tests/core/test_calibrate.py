"""From prompts to a certified policy in one call, and what happens when the data do not allow it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from cascade_core import (
    Answer,
    CalibrationError,
    ConfigurationError,
    InfeasibleTargetError,
    Policy,
    Price,
    Query,
    Usage,
)
from cascade_core.calibration import (
    Agreement,
    AnswerTable,
    Budget,
    Calibration,
    Numeric,
    Quality,
    RelativeQuality,
    Savings,
    Store,
    acalibrate,
    calibrate,
    calibrate_table,
    check,
    collect,
    evaluate,
)
from cascade_core.calibration.replay import Replay, complete, estimates_of, replayed, unseen
from cascade_core.cli.sample import MODELS, sample_table

PRICES = dict(MODELS)
USAGE = Usage(input_tokens=10**6, output_tokens=0)


@pytest.fixture(scope="module")
def table():
    return sample_table(400)


@pytest.fixture(scope="module")
def calibration(table) -> Calibration:
    return calibrate_table(table, RelativeQuality(0.9, of="large"), scorer="numeric", prices=PRICES)


class Models:
    """The imaginary models as functions, and how often each was called."""

    def __init__(self, table: AnswerTable):
        self.table = table
        self.calls = 0
        self.answers = {query.text: n for n, query in enumerate(table.queries)}

    def ask(self, k: int):
        def answer(prompt: Query) -> Answer:
            self.calls += 1
            found = self.table.answers[self.answers[prompt.text]][k]
            assert found is not None
            return found

        return answer

    def __call__(self):
        return {name: self.ask(k) for k, name in enumerate(self.table.models)}


def prompts(table: AnswerTable):
    """The prompts with the right answer of each, read off whichever model was right."""
    found = []
    for query, answers, quality in zip(table.queries, table.answers, table.quality, strict=True):
        right = [answer.text for answer, score in zip(answers, quality, strict=True) if answer and score == 1]
        found.append({"query": query.text, "reference": right[0] if right else "0"})
    return found


def test_from_prompts_to_a_certificate_in_one_call(tmp_path):
    made_up = sample_table(100)
    models = Models(made_up)
    arguments = (models(), prompts(made_up), "numeric", RelativeQuality(0.8, of="large"))
    first = calibrate(*arguments, store=tmp_path / "s.sqlite", prices=PRICES)
    assert models.calls == 300
    assert first.certificate.scorer == "numeric"
    assert first.certificate.sentence.startswith("With 95 % confidence")
    assert first.policy.certificate == first.certificate.model_dump(mode="json")
    assert np.array_equal(first.table.quality, made_up.quality)
    again = asyncio.run(acalibrate(*arguments, store=tmp_path / "s.sqlite", prices=PRICES))
    assert models.calls == 300  # nothing is paid for twice
    assert again.certificate == first.certificate
    loaded = Policy.from_json(first.policy.to_json())
    assert loaded.start(made_up.queries[0]).next() == first.policy.start(made_up.queries[0]).next()


def test_without_labels_the_certificate_says_that_it_measures_agreement(tmp_path):
    made_up = sample_table(80)
    result = calibrate(
        Models(made_up)(),
        [query.text for query in made_up.queries],
        Agreement("large", by=Numeric()),
        RelativeQuality(0.7),
        store=tmp_path / "s.sqlite",
        prices=PRICES,
    )
    assert result.certificate.reference == "large"
    assert any("agreement with large" in said for said in result.certificate.assumptions)


def test_what_was_collected_stays_when_the_scorer_fails(tmp_path):
    made_up = sample_table(40)
    models = Models(made_up)
    with pytest.raises(CalibrationError, match="returned nan"):
        calibrate(
            models(),
            prompts(made_up),
            lambda case: np.nan,
            Quality(0.5),
            store=tmp_path / "s.sqlite",
            prices=PRICES,
        )
    assert models.calls == 120
    calibrate(
        models(),
        prompts(made_up),
        "numeric",
        Quality(0.3),
        store=tmp_path / "s.sqlite",
        prices=PRICES,
        guarantee=False,
    )
    assert models.calls == 120


def test_prices_given_later_count(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        collect({name: lambda prompt: Answer(text="2", usage=USAGE) for name in "ab"}, ["1+1"], store)
        assert np.isnan(store.table().cost).all()
        assert store.table(prices={"a": Price(input=1, output=1)}).cost[0, 0] == 1.0


def test_a_changed_parameter_is_another_answer(tmp_path):
    made_up = sample_table(40)
    models = Models(made_up)
    common = (models(), prompts(made_up), "numeric", Quality(0.3))
    store = tmp_path / "s.sqlite"
    calibrate(*common, store=store, prices=PRICES, parameters={"small": {"temperature": 0}})
    calibrate(*common, store=store, prices=PRICES, parameters={"small": {"temperature": 1}})
    assert models.calls == 160


def test_a_gap_in_the_answers_leaves_its_prompt_out(tmp_path):
    made_up = sample_table(60)
    models = Models(made_up)()
    small = models["small"]
    refused = {made_up.queries[n].text for n in (3, 8, 21)}

    def sometimes(prompt):
        if prompt.text in refused:
            raise ValueError("refused")
        return small(prompt)

    result = calibrate(
        {**models, "small": sometimes},
        prompts(made_up),
        "numeric",
        Quality(0.3),
        store=tmp_path / "s",
        prices=PRICES,
    )
    assert result.policy.provenance["queries_fitted"] + result.policy.provenance["queries_held_out"] == 57


def test_too_few_labels_are_refused_with_how_many_there_are():
    with pytest.raises(CalibrationError, match=r"29 of 29 queries .* at least 30"):
        calibrate_table(sample_table(29), Quality(0.3))


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        (
            {"prompts": [f"{n} + 1" for n in range(29)] * 2},
            CalibrationError,
            "29 different prompts: at least 30",
        ),
        (
            {"prices": {}},
            ConfigurationError,
            r"the price of 'small' is not known: pass prices=\{'small': Price\(",
        ),
        ({"target": RelativeQuality(0.9, of="huge")}, ConfigurationError, "names the model 'huge', but"),
        ({"target": 0.9}, ConfigurationError, r"target is 0\.9: expected Budget, Quality"),
        ({"scorer": "numerical"}, ConfigurationError, "unknown scorer 'numerical'"),
        (
            {"prompts": [f"{n} + 1" for n in range(40)]},
            CalibrationError,
            "has no reference to compare answers",
        ),
        ({"scorer": {"choice": 1, "exact": 1}}, CalibrationError, "names no letter from A to J"),
        (
            {"scorer": "agreement:huge"},
            CalibrationError,
            "needs answers of 'huge', which is not among the models",
        ),
        ({"strategy": "magic"}, ConfigurationError, "unknown strategy 'magic'"),
        ({"holdout": 30}, ConfigurationError, "holdout is 30, expected a share"),
        ({"confidence": 95}, ConfigurationError, r"confidence is 95: expected .* 0\.95 is 95 %"),
        ({"unit": "eur"}, ConfigurationError, "unit is 'eur': expected 'usd' or 'seconds'"),
        ({"target": Quality(90)}, ConfigurationError, r"a quality of 90: scores are from 0 to 1"),
        ({"confidance": 0.9}, ConfigurationError, "no option 'confidance': expected some of .*strategy"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_found_before_anything_is_paid_for(tmp_path, mistake, error, message):
    made_up = sample_table(40)
    models = Models(made_up)
    right = {"prompts": prompts(made_up), "scorer": "numeric", "target": Quality(0.3), "prices": PRICES}
    with pytest.raises(error, match=message):
        calibrate(models(), **{**right, **mistake}, store=tmp_path / "s.sqlite")
    assert models.calls == 0


@pytest.mark.parametrize("percent", [lambda: RelativeQuality(98), lambda: Savings(60), lambda: Budget("1")])
def test_what_is_no_share_is_refused(percent):
    with pytest.raises(ConfigurationError, match=r"expected a number between 0 and"):
        percent()


def test_seconds_need_no_price(tmp_path):
    made_up = sample_table(100)
    result = calibrate(
        Models(made_up)(), prompts(made_up), "numeric", Savings(0.3), store=tmp_path / "s", unit="seconds"
    )
    assert result.policy.unit == result.certificate.unit == "seconds"


def test_targets_beyond_reach_say_the_best_there_is_and_its_price():
    table = sample_table(80)
    with pytest.raises(InfeasibleTargetError, match=r"the best reaches 0\.\d+, at 0\.\d+ a query"):
        calibrate_table(table, Quality(0.9999))
    with pytest.raises(InfeasibleTargetError, match="cheapest way to answer"):
        calibrate_table(table, Budget(1e-9))
    with pytest.raises(ConfigurationError, match="'huge'"):
        calibrate_table(table, RelativeQuality(0.9, of="huge"))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_all_right_or_all_wrong(score):
    flat = sample_table(100)
    result = calibrate_table(flat.with_quality(flat.quality * 0 + score), RelativeQuality(0.9))
    assert result.certificate.quality.measured == score
    # with nothing to choose by quality, nothing is paid for it
    assert result.certificate.cost.measured < 3 * float(flat.cost.min(axis=1).mean())


def test_scores_outside_0_to_1_get_no_certificate():
    table = sample_table(80)
    with pytest.raises(CalibrationError, match="qualities from 0 to 1"):
        calibrate_table(table.with_quality(table.quality * 5), RelativeQuality(0.9))


def test_a_guarantee_costs_more_and_is_kept(calibration, table):
    plain = calibrate_table(table, RelativeQuality(0.9, of="large"), guarantee=False)
    sure = calibration
    assert plain.certificate.candidates == 1
    assert plain.policy.strategy.to_dict() == plain.fit.policy.strategy.to_dict()
    assert sure.certificate.reached
    assert sure.certificate.relative_quality.bound == 0.9
    assert sure.certificate.cost.measured >= plain.certificate.cost.measured
    assert sure.certificate.cost.measured < sure.fit.frontier.model_cost[-1]


# -- replaying -----------------------------------------------------------------------------------------------------


def test_the_replay_decides_as_the_policy_does_online(calibration, table):
    whole = complete(table, calibration.policy.names)
    outcome, quality, cost = replayed(calibration.policy, whole)
    for n in range(0, len(whole), 10):
        episode = calibration.policy.start(whole.queries[n])
        while (step := episode.next()).__class__.__name__ == "Call":
            answer = whole.answers[n][whole.models.index(step.model)]
            assert answer is not None
            episode.observe(answer)
        assert whole.models[outcome.model[n]] == episode.record.model
        ran = {name for name, did in zip(whole.models, outcome.ran[n], strict=True) if did}
        assert ran == set(episode.record.models)
    assert quality.mean() == pytest.approx(outcome.quality.mean(), abs=0.05)
    assert cost.mean() == pytest.approx(outcome.cost.mean(), rel=0.2)


def test_estimates_one_by_one_are_those_of_the_whole_table(calibration, table):
    few = complete(table, calibration.policy.names).subset(range(12))
    one_by_one, at_once = (
        Replay(calibration.policy.estimator, few),
        estimates_of(calibration.policy.estimator, few),
    )
    ran = np.zeros((12, 3), dtype=bool)
    ran[::2, 0] = ran[::3, 1] = True
    for (first, costs), (second, other) in [(one_by_one(np.arange(12), ran), at_once(np.arange(12), ran))]:
        np.testing.assert_allclose(first.mean, second.mean, atol=1e-9)
        np.testing.assert_allclose(first.step, second.step, atol=1e-9)
        np.testing.assert_allclose(costs, other, rtol=1e-9)


def test_a_policy_knows_what_it_was_fitted_on_by_fingerprint_alone(calibration, table):
    new = unseen(calibration.policy, table)
    assert set(new.ids) == set(calibration.fit.held_out.ids)
    assert not any(query.text in calibration.policy.to_json() for query in table.queries)
    assert len(unseen(calibration.policy, sample_table(50, seed=9))) == 50


def test_evaluation_has_every_strategy_and_the_policy(calibration, table):
    result = evaluate(calibration.policy, unseen(calibration.policy, table))
    assert result.lines[0].strategy == "linear"
    assert {"routing", "cascading", "index", "threshold", "cascade_routing"} <= result.auc.keys()
    assert result.auc["index"] > result.auc["linear"]
    assert result.quality.mean() == pytest.approx(calibration.certificate.quality.measured)


def test_a_certificate_is_checked_against_new_answers(calibration):
    new = sample_table(400, seed=3)
    assert check(calibration.policy, new).status != "broken"
    worse = new.quality.copy()
    worse[:, :2] = 0
    broken = check(calibration.policy, new.with_quality(worse))
    assert broken.status == "broken"
    assert {number.number for number in broken.numbers if number.status == "broken"} >= {"quality"}
    dearer = AnswerTable(new.queries, new.models, new.answers, new.quality, new.cost * 3)
    by_cost = {number.number: number.status for number in check(calibration.policy, dearer).numbers}
    assert by_cost["cost"] == "broken"
    with pytest.raises(CalibrationError, match="too few"):
        check(calibration.policy, new.subset(range(3)))
    bare = Policy(
        models=calibration.policy.models,
        estimator=calibration.policy.estimator,
        strategy=calibration.policy.strategy,
    )
    with pytest.raises(CalibrationError, match="no certificate"):
        check(bare, new)


def test_usage_and_price_make_the_cost():
    with Store(":memory:") as store:
        asks = {name: lambda prompt: Answer(text="2", usage=USAGE) for name in "ab"}
        collect(asks, ["1+1"], store, prices={name: Price(input=1, output=1) for name in "ab"})
        assert store.table().cost.tolist() == [[1.0, 1.0]]
