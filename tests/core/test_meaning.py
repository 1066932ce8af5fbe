"""Agreement by meaning: answers that say the same in other words, told by the user's own embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade_core import Answer, Call, Policy, PolicyError, Query
from cascade_core.calibration import AnswerTable, RelativeQuality, evaluate, fit
from cascade_core.estimation import FittedEstimator, fit_estimator
from cascade_core.estimation.agreement import MEANING, agree, agreements, best_comparison
from cascade_core.estimation.reliability import reliability
from cascade_core.policy import ModelSpec
from cascade_core.strategies import LookAhead
from tests.core.answers import sums

THINGS = ("violin", "tractor", "lighthouse", "penguin", "sandwich", "glacier", "umbrella", "volcano")
PHRASES = {
    "small": "In my opinion the thing that you are looking for must be the {}",
    "medium": "{}, or that is what all of the evidence seems to point at in the end",
    "large": "One would have to say, having weighed the matter, that a {} was meant",
}
RIGHT = {"small": 0.55, "medium": 0.65, "large": 0.9}


def riddles(queries: int, *, seed: int = 0) -> AnswerTable:
    """Each model says what it has found in words of its own; wrong ones are seldom wrong in the same way."""
    random = np.random.default_rng(seed)
    rows = []
    for n in range(queries):
        text, thing = f"Riddle number {random.integers(10**6)}: what am I?", random.choice(THINGS)
        for cost, (model, phrase) in enumerate(PHRASES.items(), start=1):
            good = random.random() < RIGHT[model]
            said = thing if good else random.choice([other for other in THINGS if other != thing])
            rows.append(
                {
                    "query_id": f"{seed}-{n}",
                    "query": text,
                    "model": model,
                    "answer": phrase.format(said),
                    "quality": float(good),
                    "cost": 10.0**cost,
                }
            )
    return AnswerTable.from_rows(rows)


class Counted:
    """An embedding in which texts are alike that share words, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.asked.append(texts)
        return np.array(
            [
                np.sum([_word(word.strip(":;,.?")) for word in text.split()] or [_word("")], 0)
                for text in texts
            ]
        )


def _word(word: str) -> np.ndarray:
    seed = int(hashlib.sha256(word.lower().encode()).hexdigest()[:8], 16)
    return np.random.default_rng(seed).normal(size=64) * (5.0 if word.lower() in THINGS else 1.0)


@pytest.fixture(scope="module")
def embedding() -> Counted:
    return Counted()


@pytest.fixture(scope="module")
def estimator(embedding: Counted) -> FittedEstimator:
    return fit_estimator(riddles(300), embedding=embedding).estimator


def believed(estimator: FittedEstimator, table: AnswerTable, ran: Sequence[bool]) -> np.ndarray:
    history = np.broadcast_to(np.array(ran), table.quality.shape)
    return estimator.estimates(table)(np.arange(len(table)), history)[0].mean


# -- what is learned -----------------------------------------------------------------------------------------------


def _wordllama() -> Callable[[list[str]], np.ndarray]:
    wordllama = pytest.importorskip("wordllama")
    vectors = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    return lambda texts: vectors.embed(texts, norm=True)


def test_sentence_vectors_tell_where_no_word_for_word_comparison_does() -> None:
    """With an embedding that knows nothing of this test, on answers that it was not fitted to."""
    table, unseen = riddles(300), riddles(400, seed=1)
    assert best_comparison(table.answers, table.quality).key == ""
    estimator = fit_estimator(table, embedding=_wordllama()).estimator
    assert estimator.post is not None
    assert estimator.post.key == MEANING
    told = reliability(believed(estimator, unseen, [True, True, False])[:, 0], unseen.quality[:, 0])
    alone = reliability(believed(estimator, unseen, [True, False, False])[:, 0], unseen.quality[:, 0])
    assert told.auroc > alone.auroc + 0.2
    assert told.ece < 0.08


def test_the_threshold_parts_paraphrases_from_other_answers(
    estimator: FittedEstimator, embedding: Counted
) -> None:
    unseen = riddles(200, seed=2)
    assert estimator.post is not None
    assert estimator.post.key == MEANING
    seen = agreements(unseen.answers, MEANING, estimator.post.threshold, embedding)
    same = [
        [next(thing for thing in THINGS if thing in answer.text) for answer in row if answer]
        for row in unseen.answers
    ]
    truth = np.array([[[one == other for other in row] for one in row] for row in same])
    apart = ~np.eye(3, dtype=bool)
    assert (seen[:, apart] == truth[:, apart]).mean() > 0.98


def test_where_answers_are_numbers_they_are_compared_as_numbers() -> None:
    table = sums(200)
    without = best_comparison(table.answers, table.quality)
    with_meaning = best_comparison(table.answers, table.quality, Counted())
    assert with_meaning.key == without.key
    assert with_meaning.key in ("number", "short or number")
    assert with_meaning.seen.tolist() == without.seen.tolist()


def test_meanings_that_tell_nothing_are_hardly_ever_taken_for_a_sign() -> None:
    """The threshold is chosen among nineteen; that is not to make something of nothing."""
    table = riddles(80)
    taken = 0
    for seed in range(40):
        shuffled = table.quality[np.random.default_rng(seed).permutation(len(table))]
        taken += best_comparison(table.answers, shuffled, Counted()).key == MEANING
    assert taken <= 8  # the best of the thresholds, taken at its word, would be in more than half


def test_empty_and_missing_answers_agree_with_nothing() -> None:
    answers = [[Answer(text="the violin"), Answer(text=" "), None, Answer(text="the violin")]]
    seen = agreements(answers, MEANING, 0.5, Counted())
    assert seen[0].tolist() == [[-1, -1, -1, 1], [-1, -1, -1, -1], [-1, -1, -1, -1], [1, -1, -1, -1]]
    assert agree(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 0.5) == 0
    silent = [[Answer(text=""), Answer(text="")]] * 20
    assert best_comparison(silent, np.ones((20, 2)), Counted()).key == ""


# -- online and offline --------------------------------------------------------------------------------------------


def test_episodes_believe_what_the_table_said(estimator: FittedEstimator) -> None:
    unseen = riddles(25, seed=3)
    estimates = estimator.estimates(unseen)
    for n, query in enumerate(unseen.queries):
        evidence, ran = estimator.start(query), np.zeros((1, 3), dtype=bool)
        for model in (1, 0, 2):
            answer = unseen.answers[n][model]
            assert answer is not None
            evidence.observe(model, answer)
            ran[0, model] = True
            belief, _ = estimates(np.array([n]), ran)
            assert evidence.belief().mean == pytest.approx(belief.mean, abs=1e-9)
            assert evidence.belief().step == pytest.approx(belief.step, abs=1e-9)


def test_an_answer_is_embedded_once_and_only_if_there_is_another(estimator: FittedEstimator) -> None:
    counted = Counted()
    evidence = estimator.connect(embedding=counted).start(Query(text="What am I?"))
    counted.asked.clear()  # the query's own
    texts = [phrase.format("violin") for phrase in PHRASES.values()]
    evidence.observe(0, Answer(text=texts[0]))
    assert counted.asked == []
    evidence.observe(1, Answer(text=texts[1]))
    assert counted.asked == [texts[:2]]
    evidence.observe(2, Answer(text=texts[2]))
    assert counted.asked == [texts[:2], texts[2:]]


def test_an_embedding_that_fails_loses_no_answer(
    estimator: FittedEstimator, caplog: pytest.LogCaptureFixture
) -> None:
    counted = Counted()

    def failing(texts: list[str]) -> np.ndarray:
        if len(counted.asked) == 1:
            counted.asked.append(texts)
            raise ConnectionError("no route to violin")
        return counted(texts)

    evidence = estimator.connect(embedding=failing).start(Query(text="What am I?"))
    texts = [phrase.format("violin") for phrase in PHRASES.values()]
    for model, text in enumerate(texts[:2]):
        evidence.observe(model, Answer(text=text))
    before = evidence.belief().mean[0, 0]
    assert "the embedding failed with ConnectionError" in caplog.text
    assert "violin" not in caplog.text
    evidence.observe(2, Answer(text=texts[2]))
    assert counted.asked[-1] == texts, "all are asked for again when there is another answer"
    assert evidence.belief().mean[0, 0] > before


def test_answers_are_not_embedded_where_nobody_hears_which_agree(estimator: FittedEstimator) -> None:
    counted = Counted()
    deaf = replace(estimator, belief=replace(estimator.belief, agreement=None)).connect(embedding=counted)
    deaf.estimates(riddles(5))
    assert len(counted.asked) == 1  # the queries
    evidence = deaf.start(Query(text="What am I?"))
    counted.asked.clear()
    for model, phrase in enumerate(PHRASES.values()):
        evidence.observe(model, Answer(text=phrase.format("violin")))
    assert counted.asked == []


def test_a_table_is_embedded_in_batches(estimator: FittedEstimator) -> None:
    counted = Counted()
    fit_estimator(riddles(40), embedding=counted)
    assert len(counted.asked) == 2  # the queries, the answers
    counted.asked.clear()
    deciding = estimator.connect(embedding=counted)
    deciding.estimates(riddles(40))
    assert len(counted.asked) == 2
    counted.asked.clear()
    models = tuple(ModelSpec(name=name) for name in PHRASES)
    evaluate(Policy(models=models, estimator=deciding, strategy=LookAhead(lam=1e-3)), riddles(40))
    assert len(counted.asked) == 2


def test_without_an_embedding_nothing_is_asked_of_one() -> None:
    post = fit_estimator(riddles(60)).estimator.post
    assert post is not None
    assert post.key != MEANING


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_policy_keeps_the_threshold_and_needs_its_embedding(embedding: Counted, tmp_path: Path) -> None:
    table = riddles(150)
    policy = fit(table, RelativeQuality(0.9), embedding=embedding, strategy="index").policy
    assert isinstance(policy.estimator, FittedEstimator)
    assert policy.estimator.post is not None
    assert policy.estimator.post.key == MEANING
    policy.save(tmp_path / "policy.json")
    loaded = Policy.load(tmp_path / "policy.json")
    with pytest.raises(PolicyError, match=r"connect\(embedding="):
        loaded.start("What am I?")
    connected = loaded.connect(embedding=embedding)
    assert connected.to_json() == policy.to_json()
    for query, row in zip(table.queries[:20], table.answers, strict=False):
        records = []
        for each in (policy, connected):
            episode = each.start(query)
            while isinstance(step := episode.next(), Call):
                answer = row[table.models.index(step.model)]
                assert answer is not None
                episode.observe(answer)
            records.append(episode.record)
        assert records[0] == records[1]
