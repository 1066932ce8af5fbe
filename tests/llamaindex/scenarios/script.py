"""What the server's models say in the scenarios: the formats that LlamaIndex's prompts ask for."""

from __future__ import annotations

import json

from tests.support.openai_server import Reply, Request, _obey


def reply(request: Request) -> Reply | str:
    """An answer in the format that the prompt asks for, the same for every model and every time."""
    if request.body.get("tools"):
        return _obey(request)
    everything = " ".join(str(message.get("content") or "") for message in request.messages)
    for words, said in _FORMATS:
        if words in everything:
            return said
    if "Action Input:" in everything:
        return _react(request)
    if "<execute>" in everything:
        return _code_act(request)
    return _obey(request)


def _react(request: Request) -> str:
    if "Observation:" in str(request.messages[-1].get("content")):
        return "Thought: I can answer without using any more tools.\nAnswer: The sum is 5."
    return 'Thought: I need a tool.\nAction: add\nAction Input: {"a": 2, "b": 3}'


def _code_act(request: Request) -> str:
    if "result of executing" in str(request.messages[-1].get("content")).lower():
        return "The sum is 5."
    return "I compute it.\n<execute>\nprint(add(2, 3))\n</execute>"


_QUESTIONS = {"items": [{"sub_question": "What is in the tale of the fox?", "tool_name": "tales"}]}

_FORMATS: list[tuple[str, str]] = [
    ("Some choices are given below", json.dumps([{"choice": 1, "reason": "it fits"}])),
    ("output a list of relevant sub-questions", f"```json\n{json.dumps(_QUESTIONS)}\n```"),
    ("expert evaluation system for a question answering chatbot", "4.0\nIt is right."),
    ("Please tell if a given piece of information", "YES"),
    ("Your task is to evaluate if the response for the query", "YES"),
    ("[RESULT]", "It fits. [RESULT] 2.0"),
    ("Critique the following response", json.dumps({"passing": True, "feedback": "fine"})),
    ("Say a word.", json.dumps({"name": "Rex", "legs": 4})),
    ("Each document has a number next to it", "Doc: 1, Relevance: 9\nDoc: 2, Relevance: 3"),
    ("A list of documents is shown below", "Doc: 1, Relevance: 9\nDoc: 2, Relevance: 3"),
    ("relevance to query", "[1] > [2]"),
]
