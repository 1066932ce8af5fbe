"""Every place in LlamaIndex where a user puts a language model, as a function of that model.

A scenario takes a :class:`Lab`, uses LlamaIndex as its documentation does, and returns what a user would look at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any

from llama_index.core import (
    Document,
    DocumentSummaryIndex,
    KeywordTableIndex,
    PromptTemplate,
    Settings,
    SummaryIndex,
    VectorStoreIndex,
)
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.evaluation import (
    AnswerRelevancyEvaluator,
    ContextRelevancyEvaluator,
    CorrectnessEvaluator,
    FaithfulnessEvaluator,
    GuidelineEvaluator,
    RelevancyEvaluator,
)
from llama_index.core.extractors import (
    KeywordExtractor,
    PydanticProgramExtractor,
    QuestionsAnsweredExtractor,
    SummaryExtractor,
    TitleExtractor,
)
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.memory import ChatSummaryMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor import LLMRerank, StructuredLLMRerank
from llama_index.core.postprocessor.rankGPT_rerank import RankGPTRerank
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.query_engine import (
    RouterQueryEngine,
    SubQuestionQueryEngine,
    TransformQueryEngine,
)
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.selectors import LLMSingleSelector, PydanticSingleSelector
from llama_index.core.tools import FunctionTool, QueryEngineTool
from pydantic import BaseModel

QUESTION = "What did the fox jump over?"
TALES = [
    "The quick fox jumped over the lazy dog.",
    "A raven let the cheese fall.",
    "The tortoise won the race.",
]


class Animal(BaseModel):
    """An animal."""

    name: str
    legs: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Lab:
    """The model under test and what is built with it."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.documents = [Document(text=text, doc_id=str(number)) for number, text in enumerate(TALES)]
        self.nodes = [TextNode(text=text, id_=str(number)) for number, text in enumerate(TALES)]
        self.found = [NodeWithScore(node=node, score=0.5) for node in self.nodes]

    @cached_property
    def index(self) -> VectorStoreIndex:
        return VectorStoreIndex.from_documents(self.documents)

    @cached_property
    def tool(self) -> FunctionTool:
        return FunctionTool.from_defaults(add)

    def engine_tool(self, name: str = "tales") -> QueryEngineTool:
        engine = self.index.as_query_engine(llm=self.llm)
        return QueryEngineTool.from_defaults(engine, name=name, description="Tales of animals.")


Scenario = Callable[[Lab], Any | Awaitable[Any]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    def register(function: Scenario) -> Scenario:
        assert name not in SCENARIOS
        SCENARIOS[name] = function
        return function

    return register


# -- the model itself ------------------------------------------------------------------------------------------------

MESSAGES = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content=QUESTION)]
PROMPT = PromptTemplate("Name the animal called {name}, with its 4 legs.")


@scenario("chat")
def _(lab: Lab) -> Any:
    return lab.llm.chat(MESSAGES).message.content


@scenario("achat")
async def _(lab: Lab) -> Any:
    return (await lab.llm.achat(MESSAGES)).message.content


@scenario("stream_chat")
def _(lab: Lab) -> Any:
    return "".join(chunk.delta for chunk in lab.llm.stream_chat(MESSAGES))


@scenario("astream_chat")
async def _(lab: Lab) -> Any:
    return "".join([chunk.delta async for chunk in await lab.llm.astream_chat(MESSAGES)])


@scenario("complete")
def _(lab: Lab) -> Any:
    return lab.llm.complete(QUESTION).text


@scenario("acomplete")
async def _(lab: Lab) -> Any:
    return (await lab.llm.acomplete(QUESTION)).text


@scenario("stream_complete")
def _(lab: Lab) -> Any:
    return "".join(chunk.delta for chunk in lab.llm.stream_complete(QUESTION))


@scenario("astream_complete")
async def _(lab: Lab) -> Any:
    return "".join([chunk.delta async for chunk in await lab.llm.astream_complete(QUESTION)])


@scenario("predict")
def _(lab: Lab) -> Any:
    return lab.llm.predict(PROMPT, name="Rex")


@scenario("apredict")
async def _(lab: Lab) -> Any:
    return await lab.llm.apredict(PROMPT, name="Rex")


@scenario("stream")
def _(lab: Lab) -> Any:
    return "".join(lab.llm.stream(PROMPT, name="Rex"))


@scenario("astream")
async def _(lab: Lab) -> Any:
    return "".join([token async for token in await lab.llm.astream(PROMPT, name="Rex")])


# -- query engines, every response mode ------------------------------------------------------------------------------


_WHOLE_ONLY = {  # modes that LlamaIndex does not stream
    ResponseMode.ACCUMULATE,
    ResponseMode.COMPACT_ACCUMULATE,
    ResponseMode.NO_TEXT,
    ResponseMode.CONTEXT_ONLY,
}


def _query_scenarios(mode: ResponseMode) -> None:
    def engine(lab: Lab, **options: Any) -> Any:
        return lab.index.as_query_engine(llm=lab.llm, response_mode=mode, **options)

    @scenario(f"query engine, {mode.value}")
    def _(lab: Lab) -> Any:
        return engine(lab).query(QUESTION).response

    @scenario(f"query engine, {mode.value}, async")
    async def _(lab: Lab) -> Any:
        return (await engine(lab).aquery(QUESTION)).response

    if mode in _WHOLE_ONLY:
        return

    @scenario(f"query engine, {mode.value}, streaming")
    def _(lab: Lab) -> Any:
        return "".join(engine(lab, streaming=True).query(QUESTION).response_gen)

    @scenario(f"query engine, {mode.value}, async streaming")
    async def _(lab: Lab) -> Any:
        response = await engine(lab, streaming=True).aquery(QUESTION)
        return "".join([token async for token in response.async_response_gen()])


for _mode in ResponseMode:
    _query_scenarios(_mode)


@scenario("query engine, structured answer")
def _(lab: Lab) -> Any:
    return lab.index.as_query_engine(llm=lab.llm, output_cls=Animal).query("Name 'Rex' with 4 legs").response


@scenario("query engine, structured answer, async")
async def _(lab: Lab) -> Any:
    engine = lab.index.as_query_engine(llm=lab.llm, output_cls=Animal)
    return (await engine.aquery("Name 'Rex' with 4 legs")).response


@scenario("response synthesizer, structured answer filtering")
def _(lab: Lab) -> Any:
    synthesizer = get_response_synthesizer(
        llm=lab.llm, response_mode=ResponseMode.REFINE, structured_answer_filtering=True
    )
    return synthesizer.synthesize(QUESTION, nodes=lab.found).response


@scenario("summary index")
def _(lab: Lab) -> Any:
    engine = SummaryIndex.from_documents(lab.documents).as_query_engine(
        llm=lab.llm, response_mode="tree_summarize", use_async=True
    )
    return engine.query(QUESTION).response


@scenario("document summary index")
def _(lab: Lab) -> Any:
    index = DocumentSummaryIndex.from_documents(lab.documents, llm=lab.llm)
    return index.get_document_summary("0")


@scenario("keyword table index")
def _(lab: Lab) -> Any:
    index = KeywordTableIndex.from_documents(lab.documents, llm=lab.llm)
    return sorted(index.index_struct.table)


@scenario("HyDE")
def _(lab: Lab) -> Any:
    engine = lab.index.as_query_engine(llm=lab.llm)
    return TransformQueryEngine(engine, HyDEQueryTransform(llm=lab.llm)).query(QUESTION).response


@scenario("Settings.llm")
def _(lab: Lab) -> Any:
    Settings.llm = lab.llm
    return lab.index.as_query_engine().query(QUESTION).response


@scenario("Settings.llm, async")
async def _(lab: Lab) -> Any:
    Settings.llm = lab.llm
    return (await lab.index.as_query_engine().aquery(QUESTION)).response


@scenario("RouterQueryEngine")
def _(lab: Lab) -> Any:
    engine = RouterQueryEngine.from_defaults(
        [lab.engine_tool("tales"), lab.engine_tool("more")],
        llm=lab.llm,
        selector=LLMSingleSelector.from_defaults(llm=lab.llm),
    )
    return engine.query(QUESTION).response


@scenario("RouterQueryEngine, async")
async def _(lab: Lab) -> Any:
    engine = RouterQueryEngine.from_defaults(
        [lab.engine_tool("tales"), lab.engine_tool("more")],
        llm=lab.llm,
        selector=LLMSingleSelector.from_defaults(llm=lab.llm),
    )
    return (await engine.aquery(QUESTION)).response


@scenario("PydanticSingleSelector")
def _(lab: Lab) -> Any:
    selector = PydanticSingleSelector.from_defaults(llm=lab.llm)
    return selector.select([lab.engine_tool("tales").metadata], QUESTION).selections[0].reason


@scenario("SubQuestionQueryEngine")
def _(lab: Lab) -> Any:
    engine = SubQuestionQueryEngine.from_defaults(
        [lab.engine_tool("tales")],
        llm=lab.llm,
        question_gen=LLMQuestionGenerator.from_defaults(llm=lab.llm),
        use_async=False,
    )
    return engine.query(QUESTION).response


@scenario("SubQuestionQueryEngine, async")
async def _(lab: Lab) -> Any:
    engine = SubQuestionQueryEngine.from_defaults(
        [lab.engine_tool("tales")],
        llm=lab.llm,
        question_gen=LLMQuestionGenerator.from_defaults(llm=lab.llm),
    )
    return (await engine.aquery(QUESTION)).response


# -- chat engines ----------------------------------------------------------------------------------------------------


def _simple(lab: Lab) -> Any:
    return SimpleChatEngine.from_defaults(llm=lab.llm)


def _condense(lab: Lab) -> Any:
    return CondenseQuestionChatEngine.from_defaults(lab.index.as_query_engine(llm=lab.llm), llm=lab.llm)


def _condense_streaming(lab: Lab) -> Any:
    engine = lab.index.as_query_engine(llm=lab.llm, streaming=True)
    return CondenseQuestionChatEngine.from_defaults(engine, llm=lab.llm)


def _context(lab: Lab) -> Any:
    return ContextChatEngine.from_defaults(lab.index.as_retriever(), llm=lab.llm)


def _condense_plus_context(lab: Lab) -> Any:
    return CondensePlusContextChatEngine.from_defaults(lab.index.as_retriever(), llm=lab.llm)


def _summarised_memory(lab: Lab) -> Any:
    memory = ChatSummaryMemoryBuffer.from_defaults(llm=lab.llm, token_limit=20)
    return SimpleChatEngine.from_defaults(llm=lab.llm, memory=memory)


def _chat_scenarios(kind: str, make: Callable[[Lab], Any], make_streaming: Callable[[Lab], Any]) -> None:
    @scenario(f"chat engine, {kind}")
    def _(lab: Lab) -> Any:
        engine = make(lab)
        return [engine.chat(QUESTION).response, engine.chat("And then?").response, _history(engine)]

    @scenario(f"chat engine, {kind}, async")
    async def _(lab: Lab) -> Any:
        engine = make(lab)
        first, second = await engine.achat(QUESTION), await engine.achat("And then?")
        return [first.response, second.response, _history(engine)]

    @scenario(f"chat engine, {kind}, streaming")
    def _(lab: Lab) -> Any:
        engine = make_streaming(lab)
        return ["".join(engine.stream_chat(QUESTION).response_gen), _history(engine)]

    @scenario(f"chat engine, {kind}, async streaming")
    async def _(lab: Lab) -> Any:
        engine = make_streaming(lab)
        response = await engine.astream_chat(QUESTION)
        return ["".join([token async for token in response.async_response_gen()]), _history(engine)]


def _history(engine: Any) -> list[tuple[str, str]]:
    return [(message.role.value, message.content) for message in engine.chat_history]


_chat_scenarios("simple", _simple, _simple)
_chat_scenarios("condense_question", _condense, _condense_streaming)
_chat_scenarios("context", _context, _context)
_chat_scenarios("condense_plus_context", _condense_plus_context, _condense_plus_context)
_chat_scenarios("summarising memory", _summarised_memory, _summarised_memory)


# -- tools and agents ------------------------------------------------------------------------------------------------

SUM = "Please add 2 and 3."


@scenario("chat_with_tools")
def _(lab: Lab) -> Any:
    response = lab.llm.chat_with_tools([lab.tool], user_msg=SUM)  # type: ignore[attr-defined]
    return _calls(lab, response)


@scenario("achat_with_tools")
async def _(lab: Lab) -> Any:
    response = await lab.llm.achat_with_tools([lab.tool], user_msg=SUM)  # type: ignore[attr-defined]
    return _calls(lab, response)


@scenario("stream_chat_with_tools")
def _(lab: Lab) -> Any:
    *_, last = lab.llm.stream_chat_with_tools([lab.tool], user_msg=SUM)  # type: ignore[attr-defined]
    return _calls(lab, last)


@scenario("astream_chat_with_tools")
async def _(lab: Lab) -> Any:
    stream = await lab.llm.astream_chat_with_tools([lab.tool], user_msg=SUM)  # type: ignore[attr-defined]
    return _calls(lab, [chunk async for chunk in stream][-1])


def _calls(lab: Lab, response: Any) -> Any:
    calls = lab.llm.get_tool_calls_from_response(response)  # type: ignore[attr-defined]
    return [(call.tool_name, call.tool_kwargs) for call in calls]


@scenario("predict_and_call")
def _(lab: Lab) -> Any:
    return lab.llm.predict_and_call([lab.tool], user_msg=SUM).response


@scenario("apredict_and_call")
async def _(lab: Lab) -> Any:
    return (await lab.llm.apredict_and_call([lab.tool], user_msg=SUM)).response


async def _run(agent: Any) -> Any:
    handler = agent.run(user_msg=SUM)
    streamed = [event async for event in handler.stream_events()]
    output = await handler
    assert streamed
    return str(output)


for _streaming in (True, False):

    @scenario(f"FunctionAgent, streaming {_streaming}")
    async def _(lab: Lab, streaming: bool = _streaming) -> Any:
        return await _run(FunctionAgent(tools=[lab.tool], llm=lab.llm, streaming=streaming))

    @scenario(f"ReActAgent, streaming {_streaming}")
    async def _(lab: Lab, streaming: bool = _streaming) -> Any:
        return await _run(ReActAgent(tools=[lab.tool], llm=lab.llm, streaming=streaming))

    @scenario(f"CodeActAgent, streaming {_streaming}")
    async def _(lab: Lab, streaming: bool = _streaming) -> Any:
        def execute(code: str) -> str:
            assert "add(2, 3)" in code
            return "5"

        agent = CodeActAgent(tools=[add], llm=lab.llm, code_execute_fn=execute, streaming=streaming)
        return await _run(agent)


@scenario("AgentWorkflow with hand-off")
async def _(lab: Lab) -> Any:
    clerk = FunctionAgent(
        name="clerk", description="Takes orders.", llm=lab.llm, tools=[], can_handoff_to=["adder"]
    )
    adder = FunctionAgent(name="adder", description="Adds numbers.", llm=lab.llm, tools=[lab.tool])
    workflow = AgentWorkflow(agents=[clerk, adder], root_agent="clerk")
    handler = workflow.run(user_msg="hand over to 'adder' to add 2 and 3")
    names = {getattr(event, "current_agent_name", None) async for event in handler.stream_events()}
    return [str(await handler), sorted(name for name in names if name)]


# -- structured prediction -------------------------------------------------------------------------------------------

NAMED = PromptTemplate("Name the animal called '{name}', with its 4 legs.")


@scenario("structured_predict")
def _(lab: Lab) -> Any:
    return lab.llm.structured_predict(Animal, NAMED, name="Rex")


@scenario("astructured_predict")
async def _(lab: Lab) -> Any:
    return await lab.llm.astructured_predict(Animal, NAMED, name="Rex")


@scenario("stream_structured_predict")
def _(lab: Lab) -> Any:
    *_, last = lab.llm.stream_structured_predict(Animal, NAMED, name="Rex")
    return last.model_dump()


@scenario("astream_structured_predict")
async def _(lab: Lab) -> Any:
    objects = await lab.llm.astream_structured_predict(Animal, NAMED, name="Rex")
    return [partial async for partial in objects][-1].model_dump()


@scenario("as_structured_llm, chat")
def _(lab: Lab) -> Any:
    return lab.llm.as_structured_llm(Animal).chat([ChatMessage("Name 'Rex', 4 legs")]).raw


@scenario("as_structured_llm, achat")
async def _(lab: Lab) -> Any:
    return (await lab.llm.as_structured_llm(Animal).achat([ChatMessage("Name 'Rex', 4 legs")])).raw


@scenario("as_structured_llm, complete")
def _(lab: Lab) -> Any:
    return lab.llm.as_structured_llm(Animal).complete("Name 'Rex', 4 legs").raw


@scenario("as_structured_llm, stream_chat")
def _(lab: Lab) -> Any:
    *_, last = lab.llm.as_structured_llm(Animal).stream_chat([ChatMessage("Name 'Rex', 4 legs")])
    return last.raw.model_dump()


@scenario("as_structured_llm, astream_chat")
async def _(lab: Lab) -> Any:
    stream = await lab.llm.as_structured_llm(Animal).astream_chat([ChatMessage("Name 'Rex', 4 legs")])
    return [chunk async for chunk in stream][-1].raw.model_dump()


@scenario("FunctionCallingProgram")
def _(lab: Lab) -> Any:
    return FunctionCallingProgram.from_defaults(Animal, prompt=NAMED, llm=lab.llm)(name="Rex")


@scenario("FunctionCallingProgram, async")
async def _(lab: Lab) -> Any:
    return await FunctionCallingProgram.from_defaults(Animal, prompt=NAMED, llm=lab.llm).acall(name="Rex")


@scenario("LLMTextCompletionProgram")
def _(lab: Lab) -> Any:
    return LLMTextCompletionProgram.from_defaults(
        output_cls=Animal, prompt_template_str="Say a {word}.", llm=lab.llm
    )(word="word")


# -- evaluators, extractors, rerankers -------------------------------------------------------------------------------

CONTEXTS = TALES[:1]


def _evaluator_scenarios(kind: str, make: Callable[[LLM], Any], **given: Any) -> None:
    given = {"query": QUESTION, **given}

    @scenario(f"{kind}")
    def _(lab: Lab) -> Any:
        result = make(lab.llm).evaluate(**given)
        return [result.score, result.passing]

    @scenario(f"{kind}, async")
    async def _(lab: Lab) -> Any:
        result = await make(lab.llm).aevaluate(**given)
        return [result.score, result.passing]


_evaluator_scenarios(
    "CorrectnessEvaluator", lambda llm: CorrectnessEvaluator(llm=llm), response="A dog.", reference="The dog."
)
_evaluator_scenarios(
    "FaithfulnessEvaluator", lambda llm: FaithfulnessEvaluator(llm=llm), response="A dog.", contexts=CONTEXTS
)
_evaluator_scenarios(
    "RelevancyEvaluator", lambda llm: RelevancyEvaluator(llm=llm), response="A dog.", contexts=CONTEXTS
)
_evaluator_scenarios(
    "AnswerRelevancyEvaluator", lambda llm: AnswerRelevancyEvaluator(llm=llm), response="A dog."
)
_evaluator_scenarios(
    "ContextRelevancyEvaluator", lambda llm: ContextRelevancyEvaluator(llm=llm), contexts=CONTEXTS
)
_evaluator_scenarios(
    "GuidelineEvaluator", lambda llm: GuidelineEvaluator(llm=llm), response="A dog.", contexts=CONTEXTS
)


def _extractor_scenarios(kind: str, make: Callable[[LLM], Any]) -> None:
    @scenario(kind)
    def _(lab: Lab) -> Any:
        return make(lab.llm).extract(lab.nodes)

    @scenario(f"{kind}, async")
    async def _(lab: Lab) -> Any:
        return await make(lab.llm).aextract(lab.nodes)


_extractor_scenarios("TitleExtractor", lambda llm: TitleExtractor(llm=llm))
_extractor_scenarios("SummaryExtractor", lambda llm: SummaryExtractor(llm=llm))
_extractor_scenarios("KeywordExtractor", lambda llm: KeywordExtractor(llm=llm))
_extractor_scenarios("QuestionsAnsweredExtractor", lambda llm: QuestionsAnsweredExtractor(llm=llm))
_extractor_scenarios(
    "PydanticProgramExtractor",
    lambda llm: PydanticProgramExtractor(
        program=FunctionCallingProgram.from_defaults(Animal, prompt_template_str="Name it: {input}", llm=llm)
    ),
)


@scenario("ingestion pipeline")
def _(lab: Lab) -> Any:
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), TitleExtractor(llm=lab.llm)])
    return [node.metadata for node in pipeline.run(documents=lab.documents)]


@scenario("ingestion pipeline, async")
async def _(lab: Lab) -> Any:
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), TitleExtractor(llm=lab.llm)])
    return [node.metadata for node in await pipeline.arun(documents=lab.documents)]


@scenario("LLMRerank")
def _(lab: Lab) -> Any:
    nodes = LLMRerank(llm=lab.llm, top_n=2).postprocess_nodes(lab.found, query_str=QUESTION)
    return [(node.node.node_id, node.score) for node in nodes]


@scenario("StructuredLLMRerank")
def _(lab: Lab) -> Any:
    nodes = StructuredLLMRerank(llm=lab.llm, top_n=2).postprocess_nodes(lab.found, query_str=QUESTION)
    return [(node.node.node_id, node.score) for node in nodes]


@scenario("RankGPTRerank")
def _(lab: Lab) -> Any:
    nodes = RankGPTRerank(llm=lab.llm, top_n=2).postprocess_nodes(lab.found, query_str=QUESTION)
    return [node.node.node_id for node in nodes]
