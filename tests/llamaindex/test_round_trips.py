"""What is stored comes back whole: dictionaries, pickles, copies, and what holds a composite."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.extractors import TitleExtractor
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.node_parser import SentenceSplitter

from cascade_core import ConfigurationError, Policy, PolicyError, Price
from cascade_core.calibration import Savings
from cascade_llamaindex import CascadeLLM, calibrate
from tests.llamaindex.conftest import SECRET, UNSURE, BagOfWords, CascadeOf, uncalibrated
from tests.support.openai_server import OpenAIServer

MESSAGES = [ChatMessage("What colour is the sky?")]
PRICES = {"small": Price(input=1, output=2), "large": Price(input=10, output=20)}

WAYS = {
    "to_dict and from_dict": lambda llm: CascadeLLM.from_dict(llm.to_dict()),
    "to_json and from_json": lambda llm: CascadeLLM.from_json(llm.to_json()),
    "through JSON": lambda llm: CascadeLLM.from_dict(json.loads(json.dumps(llm.to_dict()))),
    "model_dump and model_validate": lambda llm: CascadeLLM.model_validate(llm.model_dump()),
    "pickle": lambda llm: pickle.loads(pickle.dumps(llm)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "model_copy": lambda llm: llm.model_copy(),
}


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("way", WAYS)
def test_a_composite_comes_back_whole(
    way: str, used: bool, openai_server: OpenAIServer, cascade: CascadeOf, caplog: pytest.LogCaptureFixture
) -> None:
    openai_server.models = {"small": UNSURE, "large": "Blue."}
    llm = cascade(context_window=7000, system_prompt="Be brief.")
    if used:
        llm.chat(MESSAGES)
    with caplog.at_level(logging.WARNING):
        back = WAYS[way](llm)
    assert not [record for record in caplog.records if "unpickleable" in record.message]
    assert isinstance(back, CascadeLLM)
    assert list(back.llms) == ["small", "large"]
    assert back.metadata == llm.metadata
    assert back.system_prompt == "Be brief."
    assert back.policy.to_json() == llm.policy.to_json()
    response = back.chat(MESSAGES)
    assert response.message.content == "Blue."
    assert back.to_dict() == llm.to_dict()


@pytest.fixture
def connected(openai_server: OpenAIServer, cascade: CascadeOf, tmp_path: Path) -> CascadeLLM:
    """A composite whose policy was fitted with an embedding of LlamaIndex's."""
    openai_server.models = {"small": "4", "large": "four"}
    prompts = [{"text": f"{n}+{n}?", "reference": "4" if n % 2 else "four"} for n in range(40)]
    options: dict[str, Any] = {"embedding": BagOfWords(), "strategy": "routing", "prices": PRICES}
    found = calibrate(cascade(), prompts, "exact", Savings(0.3), tmp_path / "s.sqlite", **options)
    return cascade(policy=found.policy)


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "copy", "model_copy"])
def test_the_embedding_of_its_policy_goes_with_it(connected: CascadeLLM, way: str) -> None:
    back = WAYS[way](connected)
    assert back.policy.to_json() == connected.policy.to_json()
    assert back.chat(MESSAGES).additional_kwargs["cascade"]["calibrated"] is True


def test_or_is_asked_for_when_it_is_made_anew_and_not_at_its_first_query(
    connected: CascadeLLM, tmp_path: Path
) -> None:
    connected.policy.save(tmp_path / "policy.json")
    stored = connected.to_dict()
    for make in (
        lambda: CascadeLLM.from_dict(stored),
        lambda: CascadeLLM(connected.llms, tmp_path / "policy.json"),
    ):
        with pytest.raises(PolicyError, match=r"your own embedding.*connect\(embedding=...\)"):
            make()
    policy = Policy.load(tmp_path / "policy.json").connect(embedding=BagOfWords())
    for back in (CascadeLLM.from_dict(stored, policy=policy), CascadeLLM(connected.llms, policy)):
        assert back.chat(MESSAGES).additional_kwargs["cascade"]["calibrated"] is True


def test_a_policy_that_cannot_be_pickled_is_not_left_behind_in_silence(connected: CascadeLLM) -> None:
    size = len(BagOfWords().get_text_embedding("?"))
    connected.policy = connected.policy.connect(embedding=lambda texts: [[1.0] * size for _ in texts])
    with pytest.raises(PolicyError, match="cannot be pickled"):
        pickle.dumps(connected)


def test_a_copys_failures_are_its_own(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    llm = cascade()
    back = pickle.loads(pickle.dumps(llm))
    for _ in range(3):
        llm._health.failed("small")
    assert llm._health.down() == {"small"}
    assert not back._health.down()
    assert not copy.deepcopy(llm)._health.down()


def test_pickling_leaves_the_original_as_it_is(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"small": "Blue."}
    counter = TokenCountingHandler(tokenizer=lambda text: text.split())  # a lambda cannot be pickled
    llm = cascade(callback_manager=CallbackManager([counter]))
    back = pickle.loads(pickle.dumps(llm))
    back.chat(MESSAGES)
    llm.chat(MESSAGES)
    assert len(counter.llm_token_counts) == 1


def test_members_keep_all_their_fields(cascade: CascadeOf) -> None:
    stored = cascade().to_dict()
    assert stored["class_name"] == "CascadeLLM"
    assert stored["llms"]["small"]["class_name"] == "OpenAILike"
    assert stored["llms"]["small"]["model"] == "small"
    assert SECRET not in json.dumps(stored["policy"])


def test_a_member_of_a_class_that_is_not_imported_is_named(cascade: CascadeOf) -> None:
    stored = cascade().to_dict()
    stored["llms"]["small"]["class_name"] = "BedrockConverse_LLM"
    with pytest.raises(ConfigurationError, match=r"'BedrockConverse_LLM', which is not imported: import the"):
        CascadeLLM.from_dict(stored)


def test_a_composite_in_a_composite(openai_server: OpenAIServer, cascade: CascadeOf) -> None:
    openai_server.models = {"a": UNSURE, "b": UNSURE, "large": "Blue."}
    inner = cascade("a", "b")
    outer = CascadeLLM(
        {"inner": inner, "large": cascade("large", "spare")},
        uncalibrated("inner", "large"),
    )
    assert outer.chat(MESSAGES).message.content == "Blue."
    back = CascadeLLM.from_dict(outer.to_dict())
    assert list(back.llms["inner"].llms) == ["a", "b"]  # type: ignore[attr-defined]


def test_an_extractor_and_its_pipeline_are_stored_and_loaded(
    openai_server: OpenAIServer, cascade: CascadeOf, tmp_path: Path
) -> None:
    openai_server.models = {"small": "Of Foxes"}
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), TitleExtractor(llm=cascade())])
    documents = [Document(text="The quick fox jumped.", doc_id="1")]
    (node,) = pipeline.run(documents=documents)
    assert node.metadata == {"document_title": "Of Foxes"}
    pipeline.persist(str(tmp_path))

    stored = json.loads(json.dumps(pipeline.transformations[1].to_dict()))
    extractor = TitleExtractor.from_dict(stored)
    assert isinstance(extractor.llm, CascadeLLM)
    assert list(extractor.llm.llms) == ["small", "large"]
    again = IngestionPipeline(transformations=[SentenceSplitter(), extractor])
    again.load(str(tmp_path))
    asked = len(openai_server.requests)
    (node,) = again.run(documents=documents)
    assert node.metadata == {"document_title": "Of Foxes"}
    assert len(openai_server.requests) == asked, (
        "what is restored has the same fingerprint, so the cache answers"
    )


def test_a_fresh_process_restores_an_extractor(tmp_path: Path) -> None:
    members: dict[str, Any] = {"a": MockLLM(max_tokens=2), "b": MockLLM(max_tokens=3)}
    extractor = TitleExtractor(llm=CascadeLLM(members, uncalibrated("a", "b")))
    (tmp_path / "extractor.json").write_text(json.dumps(extractor.to_dict()))
    program = (
        "import json, sys, cascade_llamaindex\n"
        "from llama_index.core.extractors import TitleExtractor\n"
        "extractor = TitleExtractor.from_dict(json.load(open(sys.argv[1])))\n"
        "print(type(extractor.llm).__name__, extractor.llm.complete('Hello').text)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "extractor.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[0] == "CascadeLLM text text"
