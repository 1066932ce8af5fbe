"""The joint belief is Bayes' rule under its model, is calibrated, and is not moved by noise."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest

from cascade_core._json import decode, encode
from cascade_core.errors import ArrayError, CalibrationError
from cascade_core.estimation.joint import CrossFitted, JointBelief, SignalEstimates, Signals
from cascade_core.simulate import sweep
from cascade_core.strategies import IndexPolicy

NODE, WEIGHT = np.polynomial.hermite_e.hermegauss(11)


def made_up(
    queries: int, models: int = 3, noise: tuple[float, float] = (1.6, 0.8), seed: int = 0, agree: bool = False
) -> tuple[Signals, np.ndarray]:
    """Answers right or wrong by skill, difficulty and luck; where two are right they agree, else seldom."""
    random = np.random.default_rng(seed)
    difficulty = random.normal(size=(queries, 1))
    skill = np.linspace(0.3, 1.8, models)
    quality = (skill + 1.3 * difficulty + random.logistic(size=(queries, models)) > 0).astype(float)
    said = np.where(quality == 1, 0, random.integers(1, 6, (queries, models)))
    same = (said[:, :, None] == said[:, None, :]).astype(np.int8)
    ante, post = (quality + random.normal(0, sd, quality.shape) for sd in noise)
    return Signals(ante, post, same if agree else None), quality


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def brute_force(
    belief: JointBelief, signals: Signals, ran: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pattern of right and wrong, one query: patterns, their probabilities, and E[s] of each pattern."""
    z = (signals.ante[0] - belief.ante_mean) / belief.ante_sd
    f = np.stack([np.ones_like(z), z, np.full_like(z, z.mean())], axis=1)
    centre, shift = (f * belief.weights).sum(axis=1), (f * belief.post_weights).sum(axis=1)
    patterns = np.array(list(product([0, 1], repeat=z.size)))
    chance = np.zeros(len(patterns))
    for node, weight in zip(NODE, WEIGHT / WEIGHT.sum(), strict=True):
        p = logistic(centre + belief.loading * node)
        chance += weight * np.where(patterns == 1, p, 1 - p).prod(axis=1)
    expected = shift + belief.post_slope * patterns
    compared = belief.agreement is not None and signals.agree is not None
    heed = belief.echo if compared else 1.0
    for i in np.flatnonzero(ran):
        chance *= np.exp(-0.5 * heed * ((signals.post[0, i] - expected[:, i]) / belief.post_sd[i]) ** 2)
    if belief.agreement is not None and signals.agree is not None:
        i, j = np.flatnonzero(ran)[:2]
        agrees = belief.agreement[i, j][patterns[:, i], patterns[:, j]]
        chance = chance * np.where(signals.agree[0, i, j] == 1, agrees, 1 - agrees)
    return patterns, chance / chance.sum(), expected


@pytest.mark.parametrize("agree", [False, True])
def test_it_is_bayes_rule(agree: bool) -> None:
    signals, quality = made_up(800, agree=agree)
    belief = JointBelief.fit(signals, quality)
    assert (belief.agreement is not None) == agree
    ran = np.array([[True, True, False]])
    for query in range(20):
        one = signals.take(np.array([query]))
        patterns, chance, _ = brute_force(belief, one, ran[0])
        np.testing.assert_allclose(belief.condition(one, ran).mean[0], chance @ patterns, atol=1e-6)


def test_the_step_is_the_covariance_with_the_next_signal() -> None:
    signals, quality = made_up(800)
    belief = JointBelief.fit(signals, quality)
    ran = np.array([[True, False, False]])
    one = signals.take(np.array([5]))
    patterns, chance, expected = brute_force(belief, one, ran[0])
    mean = chance @ patterns
    step = belief.condition(one, ran).step[0]
    assert not step[0].any()
    for i in (1, 2):
        signal = expected[:, i] - chance @ expected[:, i]
        sd = np.sqrt(chance @ signal**2 + belief.post_sd[i] ** 2)
        np.testing.assert_allclose(step[i], chance @ (signal[:, None] * (patterns - mean)) / sd, atol=1e-6)


def test_agreement_is_news_of_the_next_call() -> None:
    """With uninformative post-hoc signals a second model is a check, and by how much it moves is foreseen."""
    signals, quality = made_up(3000, models=2, noise=(1.0, 30.0), agree=True)
    belief = JointBelief.fit(signals, quality)
    first, both = np.array([[True, False]]), np.array([[True, True]])
    rows = np.arange(1000)
    before = belief.condition(signals.take(rows), np.broadcast_to(first, (1000, 2)))
    after = belief.condition(signals.take(rows), np.broadcast_to(both, (1000, 2)))
    moved = after.mean - before.mean
    for model in (0, 1):
        assert before.agree_step is not None
        predicted = np.sqrt((before.agree_step[:, 0, 1, model] ** 2).mean())
        assert moved[:, model].std() == pytest.approx(predicted, rel=0.15)
    assert signals.agree is not None
    agreeing = signals.agree[rows, 0, 1] == 1
    assert moved[agreeing].mean() > 0.1
    assert moved[~agreeing].mean() < -0.1
    assert quality[rows][agreeing].mean() == pytest.approx(after.mean[agreeing].mean(), abs=0.03)


def test_equal_answers_count_once() -> None:
    """Three equal answers are two agreements, not three: the third pair follows from the other two."""
    signals, quality = made_up(2000, models=3, agree=True)
    belief = JointBelief.fit(signals, quality)
    ran = np.ones((1, 3), dtype=bool)
    one = signals.take(np.array([0]))
    equal = np.ones((1, 3, 3), dtype=np.int8)
    chained = equal.copy()
    chained[0, 1, 2] = chained[0, 2, 1] = -1
    full = belief.condition(Signals(one.ante, one.post, equal), ran).mean
    np.testing.assert_allclose(full, belief.condition(Signals(one.ante, one.post, chained), ran).mean)


def test_predictions_are_calibrated_at_every_stage_on_unseen_queries() -> None:
    signals, quality = made_up(1000)
    unseen, truth = made_up(20_000, seed=1)
    belief = JointBelief.fit(signals, quality)
    for ran in ([False] * 3, [True, False, False], [True] * 3):
        mean = belief.condition(unseen, np.tile(ran, (len(truth), 1))).mean
        for low, high in ((0.0, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
            inside = (mean >= low) & (mean < high)
            if inside.sum() > 500:
                assert mean[inside].mean() == pytest.approx(truth[inside].mean(), abs=0.05)


def test_a_weak_models_bad_answer_lowers_the_strong_models_estimate() -> None:
    signals, quality = made_up(2000)
    belief = JointBelief.fit(signals, quality)
    ran = np.array([[True, False, False]])
    bad, good = (
        belief.condition(Signals(np.full((1, 3), 0.7), np.array([[post, 0, 0]])), ran).mean[0, 2]
        for post in (-1.0, 2.0)
    )
    assert good - bad > 0.1


def test_signals_of_models_that_have_not_run_are_not_looked_at() -> None:
    signals, quality = made_up(500, agree=True)
    belief = JointBelief.fit(signals, quality)
    ran = np.tile([True, False, True], (500, 1))
    assert signals.agree is not None
    hidden = signals.agree.copy()
    hidden[:, 1], hidden[:, :, 1] = -1, -1
    other = Signals(signals.ante, np.where(ran, signals.post, 99.0), hidden)
    one, two = belief.condition(signals, ran), belief.condition(other, ran)
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.step, two.step)


@pytest.mark.parametrize("seed", range(3))
def test_signals_without_skill_move_next_to_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    signals, quality = made_up(1000, models=4, seed=seed)
    noise = Signals(random.normal(size=quality.shape), random.normal(size=quality.shape))
    belief = JointBelief.fit(noise, quality)
    nothing, everything = np.zeros(quality.shape, dtype=bool), np.ones(quality.shape, dtype=bool)
    assert np.abs(np.diagonal(belief.condition(noise, nothing).step, axis1=1, axis2=2)).mean() < 0.01
    moved = belief.condition(noise, everything).mean - quality.mean(axis=0)
    assert np.sqrt((moved**2).mean()) < 0.03
    estimates = SignalEstimates(belief, noise, np.full(quality.shape, 0.3))
    outcome = sweep(IndexPolicy(lam=0.0), np.array([0.5]), estimates, quality, np.full(quality.shape, 0.3))
    assert outcome.ran.sum(axis=2).max() == 1  # plain routing
    assert signals.ante.shape == noise.ante.shape


def test_permuting_the_models_permutes_the_belief() -> None:
    signals, quality = made_up(400, models=4)
    order = np.array([2, 0, 3, 1])
    permuted = Signals(signals.ante[:, order], signals.post[:, order])
    ran = np.tile([True, False, False, True], (400, 1))
    one = JointBelief.fit(signals, quality).condition(signals, ran)
    two = JointBelief.fit(permuted, quality[:, order]).condition(permuted, ran[:, order])
    np.testing.assert_allclose(two.mean, one.mean[:, order], atol=1e-9)
    np.testing.assert_allclose(two.step, one.step[:, order][:, :, order], atol=1e-9)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (20.0, -10.0)])
def test_graded_quality_in_any_range(scale: float, shift: float) -> None:
    random = np.random.default_rng(0)
    easy = random.normal(size=(2000, 1))
    quality = np.clip(0.5 + 0.15 * easy + 0.1 * random.normal(size=(2000, 3)), 0, 1) * scale + shift
    signals = Signals(
        quality / scale + random.normal(0, 0.3, (2000, 3)), quality / scale + random.normal(0, 0.1, (2000, 3))
    )
    belief = JointBelief.fit(signals.take(np.arange(500)), quality[:500])
    rest, truth = signals.take(np.arange(500, 2000)), quality[500:]
    assert not belief.binary
    errors = []
    for ran in ([False] * 3, [True, False, False], [True] * 3):
        conditioned = belief.condition(rest, np.tile(ran, (1500, 1)))
        assert conditioned.mean.min() >= quality.min()
        assert conditioned.mean.max() <= quality.max()
        errors.append(np.sqrt(((conditioned.mean - truth) ** 2).mean(axis=0)) / scale)
    assert errors[0][0] > 1.3 * errors[1][0]  # its own answer tells
    assert errors[0][2] > 1.05 * errors[1][2]  # and that of another
    assert errors[1][2] > 1.3 * errors[2][2]
    first = belief.condition(rest, np.zeros((1500, 3), dtype=bool))
    after = belief.condition(rest, np.tile([True, False, False], (1500, 1)))
    for model in (0, 1):
        moved = (after.mean - first.mean)[:, model].std()
        assert moved == pytest.approx(np.sqrt((first.step[:, 0, model] ** 2).mean()), rel=0.2)


def test_thirty_labels_missing_signals_and_a_model_that_is_always_right_do_no_harm() -> None:
    signals, quality = made_up(30)
    quality[:, 2] = 1.0
    ante, post = signals.ante.copy(), signals.post.copy()
    ante[:10, 0], post[5:, 1] = np.nan, np.nan
    holes = Signals(ante, post)
    belief = JointBelief.fit(holes, quality)
    for ran in (np.zeros(quality.shape, dtype=bool), np.ones(quality.shape, dtype=bool)):
        conditioned = belief.condition(holes, ran)
        assert ((conditioned.mean >= 0) & (conditioned.mean <= 1)).all()
        assert (conditioned.mean[:, 2] > 0.9).all()
    missing = belief.condition(Signals(ante, np.full_like(post, np.nan)), np.ones(quality.shape, dtype=bool))
    nothing = belief.condition(holes, np.zeros(quality.shape, dtype=bool))
    np.testing.assert_allclose(missing.mean, nothing.mean, atol=1e-12)


@pytest.mark.parametrize("quality", [np.ones((20, 2)), np.zeros((20, 1)), np.full((20, 2), -3.5)])
def test_constant_quality_is_believed(quality: np.ndarray) -> None:
    signals = Signals(np.zeros(quality.shape), np.zeros(quality.shape))
    belief = JointBelief.fit(signals, quality).condition(signals, np.ones(quality.shape, dtype=bool))
    np.testing.assert_array_equal(belief.mean, quality)
    assert not belief.step.any()


def test_agreement_of_answers_of_one_quality_tells_nothing() -> None:
    """Also in a fold, where the only wrong answers may be left out."""
    signals, quality = made_up(40, agree=True)
    almost = np.ones_like(quality)
    assert JointBelief.fit(signals, almost).agreement is None
    almost[7] = 0.0
    rows = np.arange(40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        belief = CrossFitted.fit(signals, almost).condition(signals, np.ones(quality.shape, dtype=bool), rows)
    assert (belief.mean[rows % 5 == 2] == 1.0).all()  # those folds have seen nothing else


def test_it_survives_json_bit_for_bit() -> None:
    signals, quality = made_up(200, agree=True)
    belief = JointBelief.fit(signals, quality)
    again = JointBelief.from_dict(decode(encode(belief.to_dict())))
    ran = np.tile([True, True, False], (200, 1))
    np.testing.assert_array_equal(again.condition(signals, ran).step, belief.condition(signals, ran).step)


def test_a_cross_fitted_belief_has_not_seen_the_query() -> None:
    signals, quality = made_up(100)
    flipped = quality.copy()
    flipped[7] = 1 - flipped[7]
    ran = np.ones((1, 3), dtype=bool)
    one, two = (
        CrossFitted.fit(signals, q).condition(signals.take(np.array([7])), ran, np.array([7])).mean
        for q in (quality, flipped)
    )
    np.testing.assert_array_equal(one, two)


def test_what_does_not_fit_is_said() -> None:
    signals, quality = made_up(10)
    with pytest.raises(ArrayError, match=r"post has shape \(10, 2\), expected that of ante, \(10, 3\)"):
        Signals(signals.ante, signals.post[:, :2])
    with pytest.raises(ArrayError, match=r"agree has shape \(10, 3\), expected \(N, K, K\)"):
        Signals(signals.ante, signals.post, np.zeros((10, 3), dtype=np.int8))
    with pytest.raises(ArrayError, match=r"quality has shape \(9, 3\), expected that of ante, \(10, 3\)"):
        JointBelief.fit(signals, quality[:9])
    with pytest.raises(ArrayError, match="quality must be finite"):
        JointBelief.fit(signals, np.full((10, 3), np.nan))
    with pytest.raises(CalibrationError, match="1 queries"):
        JointBelief.fit(signals.take(np.array([0])), quality[:1])
    with pytest.raises(ArrayError, match=r"ran has shape \(9, 3\)"):
        JointBelief.fit(signals, quality).condition(signals, np.zeros((9, 3), dtype=bool))
