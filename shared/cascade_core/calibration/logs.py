"""Answers from logs: what tracing tools export as plain JSON, one call a record.

A record is looked through for the fields below by the names that LangSmith runs, Langfuse observations, OpenInference
spans and logged OpenAI requests give them. Records of no model call (chains, tools, retrievers) are passed over.
A query is known by its text, so that several models' answers to it come together; of several answers of one model to
one query the first counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from cascade_core.calibration.table import AnswerTable
from cascade_core.errors import CalibrationError
from cascade_core.values import Price

_FIELDS: dict[str, tuple[str, ...]] = {
    "query": (
        "query",
        "inputs.messages",
        "inputs.input",
        "inputs.prompts",
        "input.messages",
        "input",
        "attributes.llm.input_messages",
        "attributes.input.value",
        "request.messages",
        "request.input",
        "messages",
    ),
    "answer": (
        "answer",
        "outputs.generations",
        "outputs.messages",
        "outputs.output",
        "output",
        "attributes.llm.output_messages",
        "attributes.output.value",
        "response.choices",
        "choices",
    ),
    "model": (
        "extra.metadata.ls_model_name",
        "model",
        "attributes.llm.model_name",
        "response.model",
        "request.model",
    ),
    "quality": ("quality", "score", "feedback_stats.score.avg", "scores.0.value"),
    "cost": ("cost", "total_cost", "calculatedTotalCost", "costDetails.total", "attributes.llm.cost.total"),
    "input_tokens": (
        "input_tokens",
        "prompt_tokens",
        "usage.input",
        "usageDetails.input",
        "attributes.llm.token_count.prompt",
        "response.usage.prompt_tokens",
        "usage.prompt_tokens",
    ),
    "output_tokens": (
        "output_tokens",
        "completion_tokens",
        "usage.output",
        "usageDetails.output",
        "attributes.llm.token_count.completion",
        "response.usage.completion_tokens",
        "usage.completion_tokens",
    ),
    "latency": ("latency",),
}
_KINDS = ("run_type", "type", "attributes.openinference.span.kind")
_CALLS = {"llm", "generation", "chat_model"}
_TIMES = (("start_time", "end_time"), ("startTime", "endTime"))


def read_logs(
    path: str | os.PathLike[str],
    *,
    unit: Literal["usd", "seconds"] = "usd",
    prices: Mapping[str, Price] | None = None,
) -> AnswerTable:
    """Table of the model calls in a log: ``.jsonl``, or ``.json`` with a list of records.

    Args:
        path: the log.
        unit: what costs are counted in: what the log says that calls cost, or how long they took.
        prices: as of :meth:`AnswerTable.from_rows`.

    Raises:
        CalibrationError: not JSON, or no model call with a query, a model and an answer in it.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".json":
            whole = json.loads(text)
            records = whole if isinstance(whole, list) else _first(whole, ("data", "runs", "spans"))
        else:
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{file.name}: cannot be read as JSON: {error}") from error
    rows = list(_rows(records if isinstance(records, list) else []))
    if not rows:
        raise CalibrationError(
            f"{file.name}: no model call found. Expected records with a query, a model and an answer, as exported by "
            "LangSmith, Langfuse or OpenInference, or a table with the columns query_id, query, model, answer"
        )
    return AnswerTable.from_rows(rows, unit=unit, prices=prices)


def _rows(records: Iterable[Any]) -> Iterable[dict[str, Any]]:
    seen = set()
    for record in records:
        if not isinstance(record, Mapping):
            continue
        kind = _first(record, _KINDS)
        if isinstance(kind, str) and kind.lower() not in _CALLS:
            continue
        row = {field: _first(record, names) for field, names in _FIELDS.items()}
        row["query"], row["answer"] = _text(row["query"], last="user"), _text(row["answer"], last="assistant")
        if not (row["query"] and row["model"] and row["answer"]):
            continue
        row["query_id"] = hashlib.sha256(row["query"].encode()).hexdigest()[:16]
        if row["latency"] is None:
            row["latency"] = _seconds(record)
        if (row["query_id"], row["model"]) not in seen:
            seen.add((row["query_id"], row["model"]))
            yield row


def _first(record: Any, names: Iterable[str]) -> Any:
    """Value of the first of these dotted names that is there. A flat key with dots in it counts too."""
    for name in names:
        value = _at(record, name)
        if value is not None:
            return value
    return None


def _at(record: Any, name: str) -> Any:
    if isinstance(record, Mapping):
        if name in record:
            return record[name]
        parts = name.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            inner = record.get(".".join(parts[:cut]))
            if inner is not None:
                return _at(inner, ".".join(parts[cut:]))
    elif isinstance(record, list):
        index, _, rest = name.partition(".")
        if index.isdigit() and int(index) < len(record):
            return record[int(index)] if not rest else _at(record[int(index)], rest)
    return None


def _text(value: Any, *, last: str) -> str | None:
    """The text in a string, a message, or a conversation: there the last message of the role."""
    if isinstance(value, str):
        if value[:1] in "[{":  # a conversation as JSON text
            try:
                return _text(json.loads(value), last=last)
            except ValueError:
                return value
        return value
    if isinstance(value, Mapping):
        for inner in (
            "content",
            "text",
            "message",
            "message.content",
            "kwargs",
            "messages",
            "generations",
            "choices",
        ):
            found = _text(_at(value, inner), last=last)
            if found:
                return found
        return None
    if isinstance(value, list):
        of_role = [item for item in value if isinstance(item, Mapping) and _role(item) in _ROLES[last]]
        for item in reversed(of_role or value):
            found = _text(item, last=last)
            if found:
                return found
    return None


_ROLES = {"user": ("user", "human"), "assistant": ("assistant", "ai")}


def _role(message: Mapping[str, Any]) -> str | None:
    role = _first(message, ("role", "type", "message.role", "kwargs.type", "message.kwargs.type"))
    return role.lower() if isinstance(role, str) else None


def _seconds(record: Mapping[str, Any]) -> float | None:
    for began, ended in _TIMES:
        try:
            start = datetime.fromisoformat(str(record[began]).replace("Z", "+00:00"))
            return (datetime.fromisoformat(str(record[ended]).replace("Z", "+00:00")) - start).total_seconds()
        except (KeyError, ValueError, TypeError):
            continue
    return None
