"""The fitted estimator: calibrated, harmless without signal, alike online and offline, and numpy alone to predict."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_core import Answer, Query
from cascade_core._json import decode, encode
from cascade_core.calibration.table import AnswerTable
from cascade_core.errors import CalibrationError, ConfigurationError, PolicyError
from cascade_core.estimation import FittedEstimator, fit_estimator
from cascade_core.estimation.agreement import KEYS, agreements, best_comparison
from cascade_core.estimation.answer import FIGURES, figures
from cascade_core.estimation.costs import fit_costs
from cascade_core.estimation.encoder import Encoder, as_embed
from cascade_core.estimation.regression import fit_logistic, fit_ridge, folds, logistic, logit
from cascade_core.estimation.reliability import reliability
from cascade_core.estimation.text import FORM, read
from tests.core.answers import sums


@pytest.fixture(scope="module")
def fitted() -> FittedEstimator:
    return fit_estimator(sums(400)).estimator


def before(estimator: FittedEstimator, table: AnswerTable) -> np.ndarray:
    nothing = np.zeros(table.quality.shape, dtype=bool)
    return estimator.estimates(table)(np.arange(len(table)), nothing)[0].mean


def after_own(estimator: FittedEstimator, table: AnswerTable, model: int) -> np.ndarray:
    ran = np.zeros(table.quality.shape, dtype=bool)
    ran[:, model] = True
    return estimator.estimates(table)(np.arange(len(table)), ran)[0].mean[:, model]


# -- what it knows ---------------------------------------------------------------------------------------------


def test_estimates_of_new_queries_are_calibrated_and_tell_good_from_bad(fitted: FittedEstimator) -> None:
    unseen = sums(1000, seed=1)
    ante = before(fitted, unseen)
    for model in range(3):
        ahead = reliability(ante[:, model], unseen.quality[:, model])
        later = reliability(after_own(fitted, unseen, model), unseen.quality[:, model])
        assert ahead.ece < 0.08
        assert later.ece < 0.08
        assert later.auroc > ahead.auroc + 0.03
    assert reliability(ante[:, 0], unseen.quality[:, 0]).auroc > 0.65


def test_an_answer_moves_estimates_to_neither_side_on_average(fitted: FittedEstimator) -> None:
    unseen = sums(1000, seed=2)
    moved = after_own(fitted, unseen, 0) - before(fitted, unseen)[:, 0]
    assert abs(moved.mean()) < 0.03
    assert moved.std() > 0.1


def test_agreement_raises_both_and_difference_lowers_them(fitted: FittedEstimator) -> None:
    query = Query(text="What is 12 plus 30 plus 9?")
    means = {}
    for second in ("51", "57"):
        evidence = fitted.start(query)
        evidence.observe(0, Answer(text="The sum is 51."))
        evidence.observe(1, Answer(text=f"The sum is {second}."))
        means[second] = evidence.belief().mean[0, 0]
    assert means["51"] > means["57"] + 0.2


def test_signals_without_skill_leave_the_average() -> None:
    table = sums(300)
    shuffled = table.with_quality(table.quality[np.random.default_rng(0).permutation(300)])
    estimator = fit_estimator(shuffled).estimator
    spread = before(estimator, sums(200, seed=1)).std(axis=0)
    assert (spread < 0.06).all()


def gain_over_the_labels_mean(estimate: np.ndarray, labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """By how much estimates err less than each model's mean label, as a share of the latter's squared error."""
    gain: np.ndarray = 1 - ((estimate - truth) ** 2).mean(axis=0) / ((labels.mean(axis=0) - truth) ** 2).mean(
        axis=0
    )
    return gain


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thirty_labels_are_worth_their_mean_and_three_hundred_much_more(seed: int) -> None:
    """Few labels shrink to what they say on average, and are never worth less than that."""
    unseen, few, many = sums(500, seed=100), sums(30, seed=seed), sums(300, seed=seed)
    scarce, plenty = fit_estimator(few).estimator, fit_estimator(many).estimator
    at_30, at_300 = before(scarce, unseen), before(plenty, unseen)
    assert (gain_over_the_labels_mean(at_30, few.quality, unseen.quality) > -0.05).all()
    assert at_30.mean(axis=0) == pytest.approx(few.quality.mean(axis=0), abs=0.08)
    assert (gain_over_the_labels_mean(at_300, many.quality, unseen.quality) > 0.15).all()
    assert (at_30.std(axis=0) < at_300.std(axis=0) / 2).all()
    answered = np.column_stack([after_own(plenty, unseen, model) for model in range(3)])
    assert (gain_over_the_labels_mean(answered, many.quality, unseen.quality) > 0.9).all()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.7])
def test_answers_all_alike_are_no_error(value: float) -> None:
    table = sums(40)
    estimator = fit_estimator(table.with_quality(np.full(table.quality.shape, value))).estimator
    assert before(estimator, table) == pytest.approx(value, abs=0.1)


def test_graded_quality_keeps_its_scale() -> None:
    table = sums(200)
    graded = table.with_quality(
        2 + 6 * table.quality + np.random.default_rng(0).uniform(0, 2, table.quality.shape)
    )
    estimate = before(fit_estimator(graded).estimator, table)
    assert estimate.mean(axis=0) == pytest.approx(graded.quality.mean(axis=0), abs=0.5)


def test_answers_may_be_missing() -> None:
    estimator = fit_estimator(sums(60, answers=False)).estimator
    evidence = estimator.start(Query(text="What is 1 plus 1?"))
    assert evidence.foreseen(0) is not None
    evidence.observe(0, Answer(text="2"))
    assert not evidence.belief().step[0, 0].any()


def test_too_few_queries_and_gaps_are_errors() -> None:
    with pytest.raises(CalibrationError, match="at least"):
        fit_estimator(sums(10))
    table = sums(30)
    table.quality[4, 1] = np.nan
    with pytest.raises(CalibrationError, match="quality of 'medium' on query 'q0-4' is missing"):
        fit_estimator(table)


# -- what it costs ---------------------------------------------------------------------------------------------


def test_expected_costs_meet_the_average_and_follow_the_query(fitted: FittedEstimator) -> None:
    unseen = sums(500, seed=1)
    nothing = np.zeros(unseen.quality.shape, dtype=bool)
    expected = fitted.estimates(unseen)(np.arange(500), nothing)[1]
    assert expected.mean(axis=0) == pytest.approx(unseen.cost.mean(axis=0), rel=0.1)
    assert (expected >= 0).all()


def test_a_long_answer_makes_others_expected_to_be_longer() -> None:
    random = np.random.default_rng(0)
    length = random.normal(5, 1, 400)
    lengths = np.column_stack([length, length]) + random.normal(0, 0.1, (400, 2))
    model = fit_costs(np.full(400, 50.0), np.exp(lengths), np.zeros((400, 2)), lengths)
    ahead = model.ahead(np.array([50.0]), np.zeros((1, 2)))
    ran = np.array([[True, False]])
    longer = model.given(ahead, model.surprise(np.array([[6.5, np.nan]]), np.zeros((1, 2))), ran)
    assert longer[0, 1] > 1.5 * ahead[0, 1]


@given(st.lists(st.floats(0, 1e3), min_size=15, max_size=30), st.floats(0, 1e4))
@settings(max_examples=30, deadline=None)
def test_expected_costs_are_never_negative(costs: list[float], chars: float) -> None:
    size = len(costs)
    given_chars = np.arange(1.0, size + 1)
    cost = np.column_stack([costs, costs[::-1]])
    model = fit_costs(given_chars, cost, np.zeros((size, 2)), np.full((size, 2), np.nan))
    expected = model.ahead(np.array([chars]), np.zeros((1, 2)))
    assert (expected >= 0).all()
    assert np.isfinite(expected).all()


# -- the user's own parts --------------------------------------------------------------------------------------


class Oracle:
    """Knows how many terms a sum has, and recognises right answers."""

    def ex_ante(self, query: Query) -> Sequence[float]:
        hard = query.text.count("plus") / 6
        return [1 - hard, 1 - hard / 2, 1 - hard / 4]

    def post_hoc(self, query: Query, model: str, answer: Answer) -> float:
        terms = [int(word.strip("?")) for word in query.text.split() if word.strip("?").isdigit()]
        return float(f"The sum is {sum(terms)}." in answer.text)


def test_the_users_own_estimator_is_heard() -> None:
    unseen = sums(300, seed=1)
    estimator = fit_estimator(sums(300, logprobs=False), own=Oracle()).estimator
    assert reliability(after_own(estimator, unseen, 0), unseen.quality[:, 0]).brier_skill > 0.8


def test_what_no_file_can_hold_must_be_connected_again() -> None:
    def embedding(texts: list[str]) -> np.ndarray:
        return np.array([[text.count("plus"), 1.0, len(text)] for text in texts])

    estimator = fit_estimator(sums(60), embedding=embedding, own=Oracle()).estimator
    loaded = FittedEstimator.from_dict(decode(json.loads(json.dumps(encode(estimator.to_dict())))))
    with pytest.raises(PolicyError, match="embedding"):
        loaded.start(Query(text="What is 1 plus 1?"))
    connected = loaded.connect(embedding=embedding, own=Oracle())
    table = sums(20, seed=1)
    assert before(connected, table).tolist() == before(estimator, table).tolist()
    with pytest.raises(CalibrationError, match="shape"):
        loaded.connect(embedding=lambda texts: np.ones((len(texts), 2)), own=Oracle()).start(Query(text="?"))


def test_embeddings_of_both_frameworks_and_functions_are_understood() -> None:
    class LangChain:
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0] for _ in texts]

    class LlamaIndex:
        def get_text_embedding_batch(self, texts: list[str]) -> list[list[float]]:
            return [[1.0] for _ in texts]

    for embedding in (LangChain(), LlamaIndex(), lambda texts: [[1.0] for _ in texts]):
        assert as_embed(embedding)(["a", "b"]) == [[1.0], [1.0]]
    with pytest.raises(ConfigurationError, match="of type str"):
        as_embed("text-embedding-3")


def test_features_of_the_query_are_learned_from() -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0, 1, 300)
    rows = [
        {
            "query_id": n,
            "query": "Who?",
            "model": model,
            "quality": float(random.random() < score),
            "cost": cost,
        }
        | {"features": {"retrieval": score}}
        for n, score in enumerate(scores)
        for model, cost in (("a", 1.0), ("b", 2.0))
    ]
    estimator = fit_estimator(AnswerTable.from_rows(rows)).estimator
    good, bad = (Query(text="Who?", features={"retrieval": score}) for score in (0.95, 0.05))
    assert estimator.start(good).belief().mean[0, 0] > estimator.start(bad).belief().mean[0, 0] + 0.4


# -- online and offline ----------------------------------------------------------------------------------------


def test_evidence_online_is_the_estimates_offline(fitted: FittedEstimator) -> None:
    table = sums(30, seed=3)
    estimates = fitted.estimates(table)
    for n, query in enumerate(table.queries):
        evidence, ran = fitted.start(query), np.zeros((1, 3), dtype=bool)
        for model in (1, 0, 2):
            belief, costs = estimates(np.array([n]), ran)
            assert evidence.belief().mean == pytest.approx(belief.mean, abs=1e-9)
            assert evidence.belief().step == pytest.approx(belief.step, abs=1e-9)
            assert evidence.costs() == pytest.approx(costs, rel=1e-9)
            answer = table.answers[n][model]
            assert answer is not None
            evidence.observe(model, answer)
            ran[0, model] = True


def test_a_file_keeps_every_estimate_to_the_last_bit(fitted: FittedEstimator) -> None:
    loaded = FittedEstimator.from_dict(decode(json.loads(json.dumps(encode(fitted.to_dict())))))
    table = sums(50, seed=4)
    assert before(loaded, table).tolist() == before(fitted, table).tolist()


def test_the_same_table_gives_the_same_estimator() -> None:
    one, other = (fit_estimator(sums(60)).estimator.to_dict() for _ in range(2))
    assert json.dumps(encode(one)) == json.dumps(encode(other))


def test_predicting_loads_neither_scikit_learn_nor_scipy(fitted: FittedEstimator, tmp_path: object) -> None:
    program = (
        "import json, sys\n"
        "from cascade_core import Answer, Query\n"
        "from cascade_core._json import decode\n"
        "from cascade_core.estimation import FittedEstimator\n"
        "estimator = FittedEstimator.from_dict(decode(json.load(sys.stdin)))\n"
        "evidence = estimator.start(Query(text='What is 1 plus 2?'))\n"
        "evidence.observe(0, Answer(text='3'))\n"
        "evidence.belief(), evidence.costs()\n"
        "print([name for name in ('sklearn', 'scipy', 'pandas') if name in sys.modules])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(encode(fitted.to_dict())),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "[]"


# -- parts -----------------------------------------------------------------------------------------------------


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    reading = read(text)
    assert reading.form.shape == (FORM,)
    assert np.isfinite(reading.form).all()


def test_n_grams_do_not_depend_on_where_they_stand() -> None:
    alone, later = read("Blue whales"), read("there: blue whales")
    assert set(alone.hashes.tolist()) <= set(later.hashes.tolist())


@given(st.text(), st.lists(st.floats(-30, 0), max_size=5))
def test_any_answer_has_its_figures(text: str, logprobs: list[float]) -> None:
    row = figures(Answer(text=text, logprobs=tuple(logprobs) or None), read(text))
    assert row.shape == (FIGURES,)
    assert not np.isinf(row).any()


def test_the_key_that_tells_most_is_found() -> None:
    table = sums(200)
    found = best_comparison(table.answers, table.quality)
    assert found.key in ("number", "short or number")
    assert best_comparison(table.answers, np.ones_like(table.quality)).seen is None
    letters = agreements([[Answer(text="(B)"), Answer(text="The answer is B."), None]], "choice")
    assert letters[0].tolist() == [[-1, 1, -1], [1, -1, -1], [-1, -1, -1]]
    assert set(KEYS) >= {"number", "choice", "words"}


def test_ridge_out_of_fold_has_not_seen_the_query() -> None:
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(0)
    features = csr_matrix(random.normal(size=(80, 200)) / 14)
    noise = random.normal(size=(80, 1))
    ridge = fit_ridge(features, noise, np.zeros(1, int), folds(80, 0))
    assert np.corrcoef(ridge.out_of_fold[:, 0], noise[:, 0])[0, 1] < 0.3


def test_logistic_regression_finds_each_models_slope() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 2, 1))
    slopes = np.array([0.5, 2.0])
    y = (random.random((4000, 2)) < logistic(x[:, :, 0] * slopes - 0.3)).astype(float)
    fitted = fit_logistic(x, y, folds(4000, 0))
    assert fitted.weights[:, 0] == pytest.approx(slopes, abs=0.25)
    assert fitted.weights[:, 1] == pytest.approx(-0.3, abs=0.15)


def test_logit_and_logistic_are_inverse() -> None:
    p = np.linspace(0.01, 0.99, 9)
    assert logistic(logit(p)) == pytest.approx(p)


def test_rare_words_weigh_more() -> None:
    encoder = Encoder.fit(
        [Query(text=f"the sum of {word}") for word in ("one", "two", "three", "four", "five", "six")]
    )
    encoded = encoder.encode(Query(text="the three"))
    assert encoded.value.max() > 1.3 * encoded.value.min()
    assert encoded.value @ encoded.value == pytest.approx(1)


def test_reliability_counts_equal_estimates_as_one_bin() -> None:
    quality = np.array([0.0, 1.0] * 50)
    assert reliability(np.full(100, 0.5), quality).ece == pytest.approx(0)
    assert reliability(np.full(100, 0.7), quality).ece == pytest.approx(0.2)
    assert reliability(quality[::-1], quality).auroc == 0
    assert np.isnan(reliability(quality, np.ones(100)).auroc)
