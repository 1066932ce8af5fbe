"""Bounds that hold as often as they say, and certificates that promise no more than that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from cascade_core import ArrayError, CalibrationError
from cascade_core.calibration import Budget, Quality, RelativeQuality, Savings
from cascade_core.calibration.bounds import lower_mean, lower_ratio, upper_mean, upper_ratio
from cascade_core.calibration.certificate import (
    Certificate,
    Sample,
    Terms,
    agreed_with,
    certificate_of,
    certify,
)

MODELS = ("small", "large")


@settings(deadline=None)
@given(st.integers(1, 400), st.data(), st.sampled_from([0.9, 0.95, 0.99]))
def test_for_right_and_wrong_answers_the_bound_is_clopper_pearsons(n, data, confidence):
    right = data.draw(st.integers(0, n))
    scores = np.r_[np.ones(right), np.zeros(n - right)]
    exact_low = beta.ppf(1 - confidence, right, n - right + 1) if right else 0.0
    exact_high = beta.ppf(confidence, right + 1, n - right) if right < n else 1.0
    # the level that the bounds have by the exact distribution, which the saddlepoint formula approximates
    low, high = lower_mean(scores, confidence), upper_mean(scores, confidence, worst=1.0)
    assert low == pytest.approx(exact_low, abs=3e-3)
    assert high == pytest.approx(exact_high, abs=3e-3)
    if right:
        assert beta.cdf(low, right, n - right + 1) == pytest.approx(1 - confidence, rel=0.08)
    if right < n:
        assert beta.sf(high, right + 1, n - right) == pytest.approx(1 - confidence, rel=0.08)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from([0.9, 0.95]))
def test_bounds_lie_on_their_side_of_the_mean_and_within_the_range(values, confidence):
    values = np.array(values)
    low, high = lower_mean(values, confidence), upper_mean(values, confidence, worst=1.0)
    assert -1e-9 <= low <= values.mean() + 1e-9 <= high + 2e-9 <= 1 + 3e-9
    assert lower_mean(values, 0.99) <= low + 1e-9


def test_a_ratio_to_a_constant_is_the_mean():
    values = np.random.default_rng(0).uniform(size=100)
    whole = np.ones(100)
    assert lower_ratio(values, whole, 0.95, worst=(0.0, 1.0)) == pytest.approx(
        lower_mean(values, 0.95), rel=1e-9
    )
    high = upper_ratio(values, whole, 0.95, worst=(1.0, 1.0))
    assert high == pytest.approx(upper_mean(values, 0.95, worst=1.0), rel=1e-9)


def test_a_ratio_is_bounded_where_one_is_right_only_when_the_other_is_wrong():
    """Against the weighted sums themselves, drawn: the worst pair is among them."""
    values, reference = np.r_[np.zeros(7), np.ones(5)], np.r_[np.ones(7), np.zeros(5)]
    weights = np.random.default_rng(0).gamma(1, size=(200_000, 13))
    for bound, worst, level in ((lower_ratio, (0.0, 1.0), 0.05), (upper_ratio, (1.0, 0.0), 0.95)):
        drawn = (weights @ np.r_[values, worst[0]]) / (weights @ np.r_[reference, worst[1]])
        assert bound(values, reference, 0.95, worst=worst) == pytest.approx(
            np.quantile(drawn, level), rel=0.02
        )


def test_pairing_makes_a_ratio_sharp():
    draw = np.random.default_rng(0)
    reference = draw.binomial(1, 0.7, 300).astype(float)
    policy = np.where(draw.uniform(size=300) < 0.02, 1 - reference, reference)
    paired = lower_ratio(policy, reference, 0.95, worst=(0.0, 1.0))
    shuffled = lower_ratio(policy, draw.permutation(reference), 0.95, worst=(0.0, 1.0))
    assert paired > 0.94
    assert paired > shuffled + 0.02


@pytest.mark.parametrize("wrong", [0, 0.02, 0.1])
def test_the_relative_bound_is_violated_no_more_often_than_allowed(wrong):
    draw = np.random.default_rng(1)
    truth = ((1 - wrong) * 0.9 + wrong * 0.5) / 0.9
    violated = 0
    for _ in range(300):
        reference = draw.binomial(1, 0.9, 100).astype(float)
        flipped = draw.uniform(size=100) < wrong
        policy = np.where(flipped, draw.binomial(1, 0.5, 100), reference)
        violated += truth < lower_ratio(policy, reference, 0.9, worst=(0.0, 1.0))
    assert violated <= 300 * 0.1 + 3 * np.sqrt(300 * 0.09)


@pytest.mark.parametrize("confidence", [0, 1, 1.5, -1])
def test_impossible_confidences_are_refused(confidence):
    with pytest.raises(ArrayError, match="between 0 and 1"):
        lower_mean(np.ones(3), confidence)


def test_bad_samples_are_refused():
    with pytest.raises(ArrayError, match="finite"):
        lower_mean(np.array([np.nan]), 0.95)
    with pytest.raises(ArrayError, match="not negative"):
        lower_ratio(np.array([-1.0]), np.array([1.0]), 0.95, worst=(0, 1))


# -- certificates --------------------------------------------------------------------------------------------------


def sample(agreement: float, share_large: float, n: int = 400, seed: int = 0) -> Sample:
    """A policy that runs ``large`` on a share of the queries and else is as good with probability ``agreement``."""
    draw = np.random.default_rng(seed)
    quality = np.column_stack([draw.binomial(1, 0.6, n), draw.binomial(1, 0.9, n)]).astype(float)
    cost = np.column_stack([np.full(n, 0.001), np.full(n, 0.01)])
    large = draw.uniform(size=n) < share_large
    kept = np.where(large | (draw.uniform(size=n) < agreement), quality[:, 1], 0.0)
    return Sample(kept, 0.001 + 0.01 * large, quality, cost, MODELS, 0.011)


def terms(target=None, **other) -> Terms:
    return Terms(target, reference="large", scorer="numeric", **other)


def test_a_certificate_says_it_in_one_sentence():
    _, certificate = certify([sample(0.99, 0.3)], terms(RelativeQuality(0.9)))
    assert certificate.reached
    assert certificate.sentence.startswith("With 95 % confidence, at least 9")
    assert " of large's quality at no more than " in certificate.sentence
    assert certificate.relative_quality.bound < certificate.relative_quality.measured
    assert certificate.cost.bound > certificate.cost.measured
    assert certificate_of(certificate.model_dump(mode="json")) == certificate
    assert certificate.target == "at least 90 % of large's quality"


def test_the_sentence_never_rounds_in_its_own_favour():
    _, certificate = certify([sample(0.99, 0.3)], terms())
    changed = certificate.model_copy(
        update={
            "relative_quality": certificate.relative_quality.model_copy(update={"bound": 0.97999}),
            "relative_cost": certificate.relative_cost.model_copy(update={"bound": 0.41001}),
        }
    )
    assert "at least 97.9 % of large's quality at no more than 41.1 % of its cost" in changed.sentence


def test_more_prompts_sharpen_the_bound_as_foretold():
    _, few = certify([sample(0.95, 0.3, n=200)], terms())
    _, many = certify([sample(0.95, 0.3, n=2000)], terms())
    foretold = few.sharper[-1]
    assert foretold.prompts == 2000
    gap = many.relative_quality.measured - many.relative_quality.bound
    assert gap == pytest.approx(few.relative_quality.measured - foretold.bound, rel=0.35)


def test_the_reference_model_itself_is_certain():
    one = sample(1, 1)
    itself = Sample(
        one.single_quality[:, 1], one.single_cost[:, 1], one.single_quality, one.single_cost, MODELS, 0.01
    )
    _, certificate = certify([itself], terms(RelativeQuality(1.0)))
    assert certificate.relative_quality.bound == 1
    assert certificate.reached


def test_candidates_are_tried_from_the_safest_until_one_fails():
    safe, good, bad, lucky = sample(1, 0.9), sample(0.995, 0.3), sample(0.5, 0.1), sample(1, 0.0)
    chosen, certificate = certify([safe, good, bad, lucky], terms(RelativeQuality(0.95)))
    assert chosen == 1
    assert certificate.candidates == 4
    # what was chosen by the test is promised to reach the target, and no more
    assert certificate.relative_quality.bound == 0.95
    _, alone = certify([good], terms(RelativeQuality(0.95)))
    assert certificate.cost.bound > alone.cost.bound
    assert any("chosen among 4" in said for said in certificate.assumptions)


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        (Quality(0.5), True),
        (Quality(0.95), False),
        (RelativeQuality(0.5), True),
        (RelativeQuality(0.999), False),
        (Budget(0.009), True),
        (Budget(0.001), False),
        (Savings(0.1), True),
        (Savings(0.9), False),
        (None, None),
    ],
)
def test_a_target_is_reached_only_by_its_bound(target, reached):
    chosen, certificate = certify([sample(0.97, 0.3)], terms(target))
    assert chosen == 0
    assert certificate.reached is reached


def test_agreement_is_called_agreement():
    labels_free = Terms(RelativeQuality(0.5), reference="large", scorer="agreement:large:normalised")
    _, certificate = certify([sample(0.97, 0.3)], labels_free)
    assert certificate.agreement_with == "large"
    assert " agreement with large's answers, right or wrong, at no more than " in certificate.sentence
    assert "quality" not in certificate.sentence
    assert certificate.target == "at least 50 % agreement with large's answers"
    assert any("which is not the same as being right" in said for said in certificate.assumptions)
    other = Terms(None, reference="small", scorer="agreement:large:normalised")
    _, certificate = certify([sample(0.97, 0.3)], other)
    assert " of small's agreement with large's answers, right or wrong, at " in certificate.sentence


@pytest.mark.parametrize(
    ("scorer", "models", "expected"),
    [
        ("agreement:llama3:8b:numeric", ["llama3", "llama3:8b"], "llama3:8b"),
        ("agreement:llama3:numeric", ["llama3", "llama3:8b"], "llama3"),
        ("agreement:gone:numeric", ["small"], "gone"),
        ("agreements", ["small"], None),
    ],
)
def test_the_model_that_is_agreed_with_may_have_any_name(scorer, models, expected):
    assert agreed_with(scorer, models) == expected


def test_too_few_prompts_and_unbounded_scores_are_refused():
    with pytest.raises(CalibrationError, match="too few for a certificate"):
        certify([sample(1, 1, n=3)], terms())
    one = sample(1, 1)
    with pytest.raises(CalibrationError, match="qualities from 0 to 1"):
        certify(
            [Sample(one.quality * 5, one.cost, one.single_quality, one.single_cost, MODELS, 0.011)], terms()
        )


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_all_right_and_all_wrong_are_no_exceptions(score):
    n = 100
    flat = Sample(
        np.full(n, score), np.full(n, 0.001), np.full((n, 2), score), np.full((n, 2), 0.001), MODELS, 0.001
    )
    _, certificate = certify([flat], terms(Quality(0.9)))
    assert certificate.reached == (score == 1.0)
    assert 0 <= certificate.quality.bound <= score


def test_a_damaged_certificate_is_refused():
    with pytest.raises(CalibrationError, match="certificate cannot be read"):
        certificate_of({"confidence": 0.95})
    assert certificate_of(None) is None
    assert "sentence" not in Certificate.model_fields
