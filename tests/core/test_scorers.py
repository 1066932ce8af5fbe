"""Scorers say what they claim, and say clearly when they cannot."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from cascade_core import Answer, CalibrationError, ConfigurationError
from cascade_core.calibration import (
    Agreement,
    AnswerTable,
    Case,
    CodeTests,
    Comparison,
    Contains,
    Exact,
    JsonSchema,
    Judge,
    MultipleChoice,
    Normalised,
    Numeric,
    Prompt,
    Regex,
    Scorer,
    Similarity,
    Store,
    Weighted,
    as_scorer,
    score_table,
)
from cascade_core.calibration.scoring import checked_score


def score(scorer, answer, reference=None, model="small", **others):
    answers = {model: Answer(text=answer), **{name: Answer(text=text) for name, text in others.items()}}
    case = Case(Prompt(id="q", text="?", reference=reference), model, answers[model], answers)
    return asyncio.run(checked_score(as_scorer(scorer), case))


@pytest.mark.parametrize(
    ("scorer", "answer", "reference", "expected"),
    [
        (Exact(), " Paris\n", "Paris", 1),
        (Exact(), "paris", "Paris", 0),
        (Normalised(), "The  Eiffel Tower!", "eiffel tower", 1),
        (Normalised(), "Eiffel's", "eiffel", 0),
        (Numeric(), "2 + 2 = 4, so the answer is $1,234.", "1234", 1),
        (Numeric(), '{"reasoning": "3 * 6", "answer": "18"}', "#### 18", 1),
        (Numeric(), "It is -5", "5", 0),
        (Numeric(), "many", "5", 0),
        (Numeric(tolerance=0.01), "3.14", "3.1416", 1),
        (MultipleChoice(), "The answer is (B).", "B", 1),
        (MultipleChoice(), "b)", "B", 1),
        (MultipleChoice(), "A dog, so C", "B", 0),
        (Contains(), "It is PARIS, of course", "Paris", 1),
        (Contains("Rome"), "Paris", None, 0),
        (Regex(r"^\d{4}$"), "1999", None, 1),
        (Regex(r"^\d{4}$"), "in 1999", None, 0),
        (CodeTests(lambda code, prompt: eval(code) == 4), "Sure!\n```python\n2 + 2\n```\nDone.", None, 1),
        ("exact", "a", "a", 1),
        ("contains:b", "abc", None, 1),
        ("regex:^b", "abc", None, 0),
    ],
)
def test_what_the_deterministic_scorers_accept(scorer, answer, reference, expected):
    assert score(scorer, answer, reference) == expected


def test_json_schema():
    pytest.importorskip("jsonschema")
    schema = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
    assert score(JsonSchema(schema), '```json\n{"city": "Paris"}\n```') == 1
    assert score(JsonSchema(schema), '{"city": 7}') == 0
    assert score(JsonSchema(schema), "Paris") == 0


def test_similarity_is_the_cosine():
    vectors = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [-1.0, 0.0], "": [0.0, 0.0]}
    scorer = Similarity(lambda texts: [vectors[text] for text in texts])
    assert score(scorer, "b", "a") == pytest.approx(0.6)
    assert score(scorer, "c", "a") == 0
    assert score(scorer, "", "a") == 0


def test_agreement_needs_no_labels():
    by_number = Agreement("large", by=Numeric())
    assert score(by_number, "so 4", large="4") == 1
    assert score(by_number, "so 5", large="4") == 0
    assert score(by_number, "no idea", large="No idea.") == 1
    assert score(by_number, "4", model="large") == 1
    assert by_number.name == "agreement:large:numeric"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda answer, reference: answer == reference, 1),
        (lambda query, answer: 0.25, 0.25),
        (lambda case: case.model == "small", 1),
        (lambda model, *, strict=True: float(strict), 1),
        (lambda anything: np.float64(0.5), 0.5),
        (lambda answer: np.bool_(True), 1),
    ],
)
def test_any_function_will_do(function, expected):
    assert score(function, "x", "x") == expected


def test_an_async_function_will_do():
    async def slowly(answer):
        await asyncio.sleep(0)
        return 0.75

    assert score(slowly, "x") == 0.75


def test_weights_mix_scorers():
    mixed = as_scorer({Exact(): 3, Contains("b"): 1})
    assert score(mixed, "ab", "xy") == 0.25
    assert mixed.name == "weighted(3*exact + 1*contains:b)"
    assert isinstance(mixed, Weighted)
    with pytest.raises(ConfigurationError, match="weight above 0"):
        as_scorer({Exact(): 0})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda case: math.nan, "returned nan: expected a number from 0 to 1"),
        (lambda case: "good", "returned str 'good': expected a number"),
        (lambda case: None, "returned NoneType"),
        (lambda case: 7, "returned 7: expected a number from 0 to 1"),
        (lambda case: 1 / 0, "raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_scorer_that_fails_is_named_with_the_prompt_and_the_model(function, said):
    with pytest.raises(
        CalibrationError, match=r"the scorer .*<lambda>', on the answer of 'small' to prompt 'q'"
    ) as e:
        score(function, "x")
    assert said in str(e.value)


def test_a_missing_reference_says_what_to_do():
    with pytest.raises(
        CalibrationError, match=r"prompt 'q' has no reference.*Agreement with a model or by a Judge"
    ):
        score(Exact(), "x")
    with pytest.raises(CalibrationError, match="no number in it"):
        score(Numeric(), "4", "four")


@pytest.mark.parametrize("wrong", ["exactly", "regex:", "numeric:3", "agreement", 7])
def test_what_is_no_scorer_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="scorer"):
        as_scorer(wrong)


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="not a regular expression"):
        Regex("(")


# -- judges --------------------------------------------------------------------------------------------------------


def test_a_judge_rates_by_a_rubric():
    seen = []

    def ask(prompt):
        seen.append(prompt.text)
        return Answer(text="Rating: 8")

    assert score(Judge(ask, rubric="Is it polite?"), "Dear Sir", "Dear Madam") == 0.8
    assert all(part in seen[0] for part in ("Is it polite?", "Dear Sir", "Dear Madam"))
    with pytest.raises(CalibrationError, match="gave no number from 0 to 10, but 'excellent'"):
        score(Judge(lambda prompt: Answer(text="excellent")), "x")


def test_a_comparison_swaps_the_answers_and_reports_how_often_that_changed_its_mind():
    async def fair(prompt):
        return Answer(text="A" if "Answer A:\nbetter" in prompt.text else "B")

    def first(prompt):
        return Answer(text="A")

    assert score(Comparison(fair, of="large"), "better", large="worse") == 1
    assert score(Comparison(fair, of="large"), "worse", large="better") == 0
    biased = Comparison(first, of="large")
    assert score(biased, "better", large="worse") == 0.5
    assert biased.remarks() == {"judge_disagreement": 1.0}
    assert score(biased, "x", model="large") == 0.5


class LangChainEvaluator:
    async def aevaluate_strings(self, *, prediction, input, reference):
        return {"score": int(prediction == reference), "reasoning": "…"}


class LlamaIndexEvaluator:
    async def aevaluate(self, *, query, response, reference=None):
        return type("Result", (), {"score": 4.0, "passing": True})()


def test_framework_evaluators_are_scorers():
    from cascade_core.calibration import Evaluator

    assert score(LangChainEvaluator(), "a", "a") == 1
    assert score(Evaluator(LlamaIndexEvaluator(), scale=(1, 5)), "a") == 0.75


# -- tables --------------------------------------------------------------------------------------------------------

PROMPTS = [Prompt(id="1", text="1+1?", reference="2"), Prompt(id="2", text="2+2?", reference="4")]


def table(*rows):
    return AnswerTable.from_rows(
        {"query_id": prompt.id, "query": prompt.text, "model": model, "answer": text}
        for prompt, row in zip(PROMPTS, rows, strict=True)
        for model, text in zip(("small", "large"), row, strict=True)
        if text is not None
    )


def test_a_table_is_scored_and_a_missing_answer_has_no_score():
    scored = asyncio.run(score_table(table(("2", "3"), ("5", None)), PROMPTS, Numeric()))
    assert str(scored.quality.tolist()) == "[[1.0, 0.0], [0.0, nan]]"
    agreed = asyncio.run(score_table(table(("2", "3"), ("5", None)), PROMPTS, Agreement("large")))
    assert str(agreed.quality.tolist()) == "[[0.0, 1.0], [nan, nan]]"
    with pytest.raises(CalibrationError, match="needs answers of 'huge'"):
        asyncio.run(score_table(table(("2", "3"), ("5", "6")), PROMPTS, Agreement("huge")))


def test_a_judge_is_paid_once_even_when_it_breaks_off_half_way():
    asked = []

    def ask(prompt):
        asked.append(prompt.text)
        if len(asked) == 3:
            raise ConnectionError("down")
        return Answer(text="10")

    with Store(":memory:") as store:
        answers = table(("2", "3"), ("5", "6"))
        with pytest.raises(CalibrationError, match="ConnectionError: down"):
            asyncio.run(score_table(answers, PROMPTS, Judge(ask), store=store, concurrency=1))
        scored = asyncio.run(score_table(answers, PROMPTS, Judge(ask), store=store, concurrency=1))
        assert (scored.quality == 1).all()
        assert len(asked) == 5
        asyncio.run(score_table(answers, PROMPTS, Judge(ask), store=store))
        assert len(asked) == 5
        asyncio.run(score_table(answers, PROMPTS, Judge(ask, rubric="Another?"), store=store))
        assert len(asked) == 9


def test_a_scorer_of_ones_own():
    class Short(Scorer):
        def score(self, case):
            return 1 / (1 + len(case.answer.text))

    assert score(Short(), "abc") == 0.25
    assert Short().name == "short"
