"""From prompts to a policy with LangChain's own models, chains and evaluators."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter

from cascade_core import CalibrationError, ConfigurationError, Policy, PolicyError, Usage
from cascade_core.calibration import Judge, RelativeQuality
from cascade_langchain import ChatCascade, RunnableCascade, acalibrate, ask_with, calibrate
from tests.langchain.support import PRICES, Scripted, cascading, chat
from tests.support.openai_server import HttpError, OpenAIServer, Reply, Request

PROMPTS = [
    {"text": f"{'hard' if n % 3 == 0 else 'easy'} question {n}", "reference": f"answer {n}"}
    for n in range(60)
]
TARGET = RelativeQuality(0.9, of="large")
OPTIONS: dict[str, Any] = {"prices": PRICES, "guarantee": False, "strategy": "threshold"}


def _small(request: Request) -> Reply:
    """Right on easy questions, and less sure of itself on hard ones."""
    number = request.text.split()[-1]
    if "hard" in request.text:
        return Reply("wrong", logprobs=-1.5)
    return Reply(f"answer {number}", logprobs=-0.05)


def _large(request: Request) -> Reply:
    return Reply(f"answer {request.text.split()[-1]}", logprobs=-0.05)


@pytest.fixture
def models(openai_server: OpenAIServer) -> list[Any]:
    openai_server.models = {"small": _small, "large": _large}
    return [chat(openai_server, "small", logprobs=True), chat(openai_server, "large", logprobs=True)]


def test_prompts_become_a_policy_that_the_composite_takes(
    openai_server: OpenAIServer, models: list[Any], tmp_path: Path
) -> None:
    seen: list[Any] = []
    usage = UsageMetadataCallbackHandler()
    calibration = calibrate(
        models,
        PROMPTS,
        "exact",
        TARGET,
        tmp_path / "answers.sqlite",
        progress=seen.append,
        config={"callbacks": [usage]},
        **OPTIONS,
    )
    assert len(openai_server.requests) == 2 * len(PROMPTS)
    assert usage.usage_metadata["large"]["output_tokens"] == openai_server.tokens["large"].output_tokens
    assert seen[-1].done == 2 * len(PROMPTS)
    assert calibration.policy.names == ("small", "large")
    assert calibration.certificate is not None
    assert calibration.frontier is not None
    calibration.policy.save(tmp_path / "policy.json")
    composite = ChatCascade(models, policy=tmp_path / "policy.json")
    answer = composite.invoke("hard question 3")
    assert answer.text == "answer 3"
    assert answer.response_metadata["cascade"]["calibrated"] is True


def test_a_run_that_broke_off_goes_on_and_asks_nothing_twice(
    openai_server: OpenAIServer, models: list[Any], tmp_path: Path
) -> None:
    store = tmp_path / "answers.sqlite"
    openai_server.models["large"] = HttpError(500)
    with pytest.raises(CalibrationError, match="large"):
        calibrate(models, PROMPTS, "exact", TARGET, store, **OPTIONS)
    asked = {request.text for request in openai_server.requests_to("small")}
    openai_server.models["large"] = _large
    calibrate(models, PROMPTS, "exact", TARGET, store, **OPTIONS)
    small = [request.text for request in openai_server.requests_to("small")]
    assert asked
    assert len(small) == len(set(small)) == len(PROMPTS)
    before = len(openai_server.requests)
    calibrate(models, PROMPTS, "exact", TARGET, store, **OPTIONS)
    assert len(openai_server.requests) == before


def test_a_composite_that_exists_is_calibrated(
    openai_server: OpenAIServer, models: list[Any], tmp_path: Path
) -> None:
    """It asks each of its models itself, not the composite, and pays for nothing twice if they are handed over."""
    composite = ChatCascade(models, policy=cascading())
    found = calibrate(composite, PROMPTS, "exact", TARGET, tmp_path / "s.sqlite", **OPTIONS)
    assert len(openai_server.requests_to("small")) == len(openai_server.requests_to("large")) == len(PROMPTS)
    calibrate(models, PROMPTS, "exact", TARGET, tmp_path / "s.sqlite", **OPTIONS)
    assert len(openai_server.requests) == 2 * len(PROMPTS)
    better = composite.model_copy(update={"policy": found.policy})
    assert better.invoke("hard question 3").response_metadata["cascade"]["calibrated"] is True


async def test_the_async_form_gives_the_same_policy(
    openai_server: OpenAIServer, models: list[Any], tmp_path: Path
) -> None:
    one = calibrate(models, PROMPTS, "exact", TARGET, tmp_path / "one.sqlite", **OPTIONS)
    other = await acalibrate(models, PROMPTS, "exact", TARGET, tmp_path / "other.sqlite", **OPTIONS)
    assert one.policy.strategy.to_dict() == other.policy.strategy.to_dict()


def test_a_model_otherwise_set_is_asked_anew(openai_server: OpenAIServer, tmp_path: Path) -> None:
    openai_server.models = {"small": _small, "large": _large}
    store = tmp_path / "answers.sqlite"
    for temperature in (0.0, 0.0, 1.0):
        models = [
            chat(openai_server, name, logprobs=True, temperature=temperature) for name in ("small", "large")
        ]
        calibrate(models, PROMPTS, "exact", TARGET, store, **OPTIONS)
    assert len(openai_server.requests) == 4 * len(PROMPTS)


def test_costs_are_estimated_by_the_length_that_is_sent_in_service_too(
    openai_server: OpenAIServer, models: list[Any], tmp_path: Path
) -> None:
    def sent(prompt: Any) -> list[tuple[str, str]]:
        return [("system", "Answer the question, and say nothing else. " * 9), ("human", prompt.text)]

    found = calibrate(models, PROMPTS, "exact", TARGET, tmp_path / "s.sqlite", make_input=sent, **OPTIONS)
    for query in (found.table.queries[0], found.table.queries[-1]):
        cascade = ChatCascade(models, policy=found.policy)
        record = cascade.invoke(sent(query)).response_metadata["cascade"]
        index = found.policy.names.index(record["calls"][0]["model"])
        fitted = found.policy.start(query)._costs[0, index]
        assert record["calls"][0]["expected_cost"] == pytest.approx(fitted)


async def test_chains_are_calibrated_as_models_are(openai_server: OpenAIServer, tmp_path: Path) -> None:
    openai_server.models = {"small": _small, "large": _large}
    prompt = ChatPromptTemplate.from_template("{question}")
    arms = {name: prompt | chat(openai_server, name) | StrOutputParser() for name in ("small", "large")}
    calibration = await acalibrate(
        arms,
        PROMPTS,
        "exact",
        TARGET,
        tmp_path / "answers.sqlite",
        make_input=lambda given: {"question": given.text},
        **OPTIONS,
    )
    # The chains return texts: what was used is what the models inside reported.
    billed = sum(PRICES[name].dollars(Usage(**_tokens(openai_server, name))) for name in arms)
    assert calibration.table.cost.sum() == pytest.approx(billed)
    cascade = RunnableCascade(arms, policy=calibration.policy)
    assert cascade.invoke({"question": "easy question 1"}).startswith("answer")


def _tokens(server: OpenAIServer, model: str) -> dict[str, int]:
    count = server.tokens[model]
    return {"input_tokens": count.input_tokens, "output_tokens": count.output_tokens}


class StringEvaluator:
    """What LangChain's string evaluators look like."""

    def evaluate_strings(self, *, prediction: str, reference: Any = None, input: Any = None, **_: Any) -> Any:
        return {"score": float(prediction == reference)}

    async def aevaluate_strings(self, **given: Any) -> Any:
        return self.evaluate_strings(**given)


def _by_outputs(outputs: dict[str, Any], reference_outputs: dict[str, Any]) -> bool:
    return bool(outputs["answer"] == reference_outputs["answer"])


def _by_run(run: Any, example: Any) -> dict[str, Any]:
    return {"key": "right", "score": float(run.outputs["output"] == example.outputs["output"])}


async def _by_result(*, inputs: Any, outputs: Any, reference_outputs: Any) -> Any:
    assert "question" in inputs
    return SimpleNamespace(score=float(outputs["answer"] == reference_outputs["answer"]))


def _by_texts(answer: str, reference: str) -> float:
    return float(answer == reference)


@pytest.mark.parametrize("scorer", [StringEvaluator(), _by_outputs, _by_run, _by_result, _by_texts, "exact"])
def test_evaluators_of_every_form_agree(models: list[Any], tmp_path: Path, scorer: Any) -> None:
    table = calibrate(models, PROMPTS, scorer, TARGET, tmp_path / "answers.sqlite", **OPTIONS).table
    assert table.quality.mean(axis=0).tolist() == pytest.approx([2 / 3, 1.0])


def test_without_right_answers_it_is_agreement_that_is_promised(models: list[Any], tmp_path: Path) -> None:
    """Prompts alone, and a model's name: the right answers that the prompts could have had are not looked at."""
    texts = [str(prompt["text"]) for prompt in PROMPTS]
    found = calibrate(
        models, texts, "agreement:large", RelativeQuality(0.9), tmp_path / "s.sqlite", **OPTIONS
    )
    assert found.table.quality.mean(axis=0).tolist() == pytest.approx([2 / 3, 1.0])
    assert "agreement with large's answers, right or wrong, at no more than" in found.certificate.sentence
    assert found.certificate.reference == "large"
    cascade = ChatCascade(models, policy=found.policy)
    assert cascade.invoke("hard question 3").text == "answer 3"


def test_rate_limits_and_retries_are_the_models_own(openai_server: OpenAIServer, tmp_path: Path) -> None:
    class Counting(InMemoryRateLimiter):
        acquired: int = 0

        def acquire(self, *, blocking: bool = True) -> bool:
            self.acquired += 1
            return True

    openai_server.models = {"small": _small, "large": _large}
    openai_server.fail_next(HttpError(429), model="large", times=2)
    limiter = Counting(requests_per_second=1)
    small = chat(openai_server, "small", logprobs=True, rate_limiter=limiter)
    large = chat(openai_server, "large").with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    found = calibrate([small, large], PROMPTS, "exact", TARGET, tmp_path / "answers.sqlite", **OPTIONS)
    assert found.table.quality[:, 1].tolist() == [1.0] * len(PROMPTS), "no call failed for good"
    assert len(openai_server.requests_to("large")) == len(PROMPTS) + 2
    assert limiter.acquired == len(openai_server.requests_to("small")) == len(PROMPTS)


def test_time_that_has_a_price_is_in_the_cost_and_not_in_the_bill(models: list[Any], tmp_path: Path) -> None:
    found = calibrate(
        models, PROMPTS, "exact", TARGET, tmp_path / "s.sqlite", usd_per_second=1.0, max_spend=0.1, **OPTIONS
    )
    assert "time at $1 a second included" in found.certificate.sentence
    record = ChatCascade(models, policy=found.policy).invoke("hard question 3").response_metadata["cascade"]
    assert record["usd_per_second"] == 1.0
    for call in record["calls"]:
        assert call["cost"] == pytest.approx(call["billed"] + call["latency"])
        assert call["billed"] == pytest.approx(PRICES[call["model"]].dollars(Usage(**call["usage"])))


def test_an_embedding_goes_with_the_policy_or_is_asked_for_at_construction(
    models: list[Any], tmp_path: Path
) -> None:
    embedding = DeterministicFakeEmbedding(size=8)
    found = calibrate(models, PROMPTS, "exact", TARGET, tmp_path / "s.sqlite", embedding=embedding, **OPTIONS)
    found.policy.save(tmp_path / "policy.json")
    with pytest.raises(PolicyError, match=r"your own embedding.*connect\(embedding=...\)"):
        ChatCascade(models, policy=tmp_path / "policy.json")
    loaded = Policy.load(tmp_path / "policy.json").connect(embedding=embedding)
    for policy in (found.policy, loaded, copy.deepcopy(loaded)):
        answer = ChatCascade(models, policy=policy).invoke("hard question 3")
        assert answer.response_metadata["cascade"]["calibrated"] is True


def test_a_model_judges(models: list[Any], tmp_path: Path) -> None:
    judge = Judge(ask_with(Scripted(say=lambda text: "3" if "wrong" in text else "9")))
    table = calibrate(models, PROMPTS, judge, TARGET, tmp_path / "answers.sqlite", **OPTIONS).table
    assert sorted(set(table.quality[:, 0].tolist())) == [0.3, 0.9]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": ["gpt-4o", "gpt-4o-mini"]}, "'gpt-4o' is not a chat model"),
        ({"models": {"a": str}}, "only one model, 'a'"),
        ({"scorer": "exactly"}, "unknown scorer 'exactly'"),
        ({"scorer": 3}, "a scorer cannot be made of int"),
        ({"target": RelativeQuality(0.9, of="medium")}, "medium"),
        ({"prompts": []}, "no prompts"),
    ],
)
def test_bad_arguments_are_one_clear_error(
    models: list[Any], tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"models": models, "prompts": PROMPTS, "scorer": "exact", "target": TARGET}
    with pytest.raises((ConfigurationError, CalibrationError), match=message):
        calibrate(**{**arguments, **given}, store=tmp_path / "answers.sqlite", **OPTIONS)


def test_no_text_and_no_key_is_in_the_policy(models: list[Any], tmp_path: Path) -> None:
    policy = calibrate(models, PROMPTS, "exact", TARGET, tmp_path / "answers.sqlite", **OPTIONS).policy
    text = policy.to_json()
    assert "question 1" not in text
    assert '"none"' not in text
    assert isinstance(Policy.from_json(text), Policy)
