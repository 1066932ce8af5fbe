"""calibrate: from prompts, models and an evaluator of LlamaIndex's to a policy that works in either framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from llama_index.core.evaluation import (
    CorrectnessEvaluator,
    FaithfulnessEvaluator,
    SemanticSimilarityEvaluator,
)
from llama_index.core.llms import ChatMessage

from cascade_core import Price
from cascade_core.calibration import Budget, Case, Prompt, RelativeQuality
from cascade_core.errors import CalibrationError
from cascade_core.values import Answer, Usage
from cascade_llamaindex import CascadeLLM, acalibrate, calibrate, scorer_of
from tests.llamaindex.conftest import SECRET, CascadeOf, MemberOf
from tests.support.openai_server import HttpError, OpenAIServer, Reply, Request

PRICES = {"small": Price(input=1, output=2), "large": Price(input=20, output=40)}


def prompts(count: int) -> list[dict[str, Any]]:
    """Sums of one and of two digits; the reference is the sum."""
    return [
        {"text": f"{a}+{b}?", "reference": str(a + b)}
        for a, b in ((7 * n % 10, 3 * n % 8) if n % 2 else (10 + n, 23 + n) for n in range(count))
    ]


def solves(request: Request) -> Reply:
    left, right = request.text.rstrip("?").split("\n")[-1].split("+")
    return Reply(str(int(left) + int(right)), logprobs=-0.02)


def solves_the_short_ones(request: Request) -> Reply:
    return solves(request) if len(request.text) == 4 else Reply("99", logprobs=-1.5)


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    openai_server.models = {"small": solves_the_short_ones, "large": solves}
    return openai_server


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {"store": tmp_path / "answers.sqlite", "prices": PRICES, "concurrency": 4}


def test_a_fitted_policy_sends_each_query_where_it_belongs(
    server: OpenAIServer, cascade: CascadeOf, options: dict[str, Any], tmp_path: Path
) -> None:
    llm = cascade()
    found = calibrate(llm, prompts(120), "exact", RelativeQuality(0.97, of="large"), **options)
    assert found.policy.names == ("small", "large")
    llm.policy = found.policy
    for text, model in (("4+5?", "small"), ("41+52?", "large")):
        response = llm.chat([ChatMessage(text)])
        assert response.additional_kwargs["cascade"]["model"] == model
        assert response.additional_kwargs["cascade"]["calibrated"] is True
    found.policy.save(tmp_path / "policy.json")
    assert SECRET not in (tmp_path / "policy.json").read_text()
    assert SECRET.encode() not in (tmp_path / "answers.sqlite").read_bytes()


def test_without_right_answers_it_is_agreement_that_is_promised(
    server: OpenAIServer, cascade: CascadeOf, options: dict[str, Any]
) -> None:
    """Prompts alone, and a model's name: the right answers that the prompts could have had are not looked at."""
    llm, texts = cascade(), [str(prompt["text"]) for prompt in prompts(120)]
    found = calibrate(llm, texts, "agreement:large", RelativeQuality(0.9), **options)
    assert found.table.quality[:, found.table.models.index("large")].min() == 1
    assert "agreement with large's answers, right or wrong, at no more than" in found.certificate.sentence
    assert found.certificate.reference == "large"
    llm.policy = found.policy
    assert llm.chat([ChatMessage("41+52?")]).additional_kwargs["cascade"]["model"] == "large"


def test_time_that_has_a_price_is_in_the_cost_and_not_in_the_bill(
    server: OpenAIServer, cascade: CascadeOf, options: dict[str, Any]
) -> None:
    llm = cascade()
    found = calibrate(
        llm, prompts(60), "exact", RelativeQuality(0.9), usd_per_second=1.0, max_spend=0.1, **options
    )
    assert "time at $1 a second included" in found.certificate.sentence
    llm.policy = found.policy
    record = llm.chat([ChatMessage("4+5?")]).additional_kwargs["cascade"]
    call = record["calls"][0]
    assert record["usd_per_second"] == 1.0
    assert call["cost"] == pytest.approx(call["billed"] + call["latency"])
    assert call["billed"] == pytest.approx(PRICES[call["model"]].dollars(Usage(**call["usage"])))


def test_a_policy_fitted_here_works_in_langchain(
    server: OpenAIServer, cascade: CascadeOf, options: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("langchain_openai")
    from langchain_openai import ChatOpenAI

    from cascade_langchain import ChatCascade

    found = calibrate(cascade(), prompts(120), "exact", RelativeQuality(0.97, of="large"), **options)
    found.policy.save(tmp_path / "policy.json")
    there = ChatCascade(
        [
            ChatOpenAI(model=name, base_url=server.base_url, api_key="none", logprobs=True, top_logprobs=2)
            for name in ("small", "large")
        ],
        policy=tmp_path / "policy.json",
    )
    here = CascadeLLM(cascade().llms, tmp_path / "policy.json")
    for text in ("4+5?", "41+52?", "3+3?", "19+21?"):
        from_langchain = there.invoke(text).response_metadata["cascade"]
        from_llamaindex = here.chat([ChatMessage(text)]).additional_kwargs["cascade"]
        assert from_langchain["model"] == from_llamaindex["model"]


async def test_nothing_is_asked_twice(
    server: OpenAIServer, cascade: CascadeOf, options: dict[str, Any]
) -> None:
    target = Budget(0.001)
    await acalibrate(cascade(), prompts(60), "exact", target, **options)
    asked = len(server.requests)
    await acalibrate(cascade(), prompts(60), "exact", target, **options)
    assert len(server.requests) == asked


def test_a_model_set_otherwise_is_another(
    server: OpenAIServer, member: MemberOf, options: dict[str, Any]
) -> None:
    target = Budget(0.001)
    calibrate([member("small"), member("large")], prompts(60), "exact", target, **options)
    before = len(server.requests_to("small")), len(server.requests_to("large"))
    calibrate([member("small", temperature=1.0), member("large")], prompts(60), "exact", target, **options)
    assert len(server.requests_to("small")) == 2 * before[0]
    assert len(server.requests_to("large")) == before[1]


def test_a_model_that_keeps_failing_is_named(
    server: OpenAIServer, cascade: CascadeOf, options: dict[str, Any]
) -> None:
    server.models["large"] = HttpError(500)
    with pytest.raises(CalibrationError, match=r"'large' failed \d+ times in a row"):
        calibrate(cascade(), prompts(60), "exact", Budget(0.001), **options)


def test_what_is_sent_can_be_made_of_the_prompt(
    server: OpenAIServer, cascade: CascadeOf, options: dict[str, Any]
) -> None:
    found = calibrate(
        cascade(),
        prompts(60),
        "exact",
        Budget(0.001),
        make_input=lambda prompt: [
            ChatMessage(role="system", content="Add."),
            ChatMessage(f"Sum:\n{prompt.text}"),
        ],
        **options,
    )
    first = server.requests[0].messages
    assert [message["role"] for message in first] == ["system", "user"]
    assert found.table.queries[0].prompt_chars == len(found.table.queries[0].text) + len("Add.Sum:\n")


# -- evaluators as scorers -------------------------------------------------------------------------------------------


def case(answer: str) -> Case:
    given = Answer(text=answer)
    return Case(Prompt(text="2+2?", reference="4"), "small", given, {"small": given})


async def test_an_evaluators_score_is_mapped_to_one(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": "4.0\nNearly."}
    scorer = scorer_of(CorrectnessEvaluator(llm=cascade()))
    assert await scorer.score(case("four")) == pytest.approx(0.75)  # type: ignore[misc]
    assert "evaluator:CorrectnessEvaluator" in scorer.name


async def test_an_evaluator_gets_the_contexts_it_asks_for(
    openai_server: OpenAIServer, cascade: CascadeOf
) -> None:
    openai_server.models = {"small": "YES"}
    scorer = scorer_of(FaithfulnessEvaluator(llm=cascade()), contexts=lambda prompt: [f"about {prompt.text}"])
    assert await scorer.score(case("four")) == 1.0  # type: ignore[misc]
    assert "about 2+2?" in openai_server.requests[-1].text


async def test_an_evaluator_without_a_model_scores_too() -> None:
    scorer = scorer_of(SemanticSimilarityEvaluator())
    assert await scorer.score(case("4")) == pytest.approx(1.0, abs=1e-3)  # type: ignore[misc]
