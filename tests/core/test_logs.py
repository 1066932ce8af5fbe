"""Logs of several kinds come in as one table; what is no model call stays out."""

from __future__ import annotations

import json

import pytest

from cascade_core import CalibrationError
from cascade_core.calibration.logs import read_logs

LANGSMITH = {
    "run_type": "llm",
    "extra": {"metadata": {"ls_model_name": "small"}},
    "inputs": {
        "messages": [
            [
                {"kwargs": {"type": "system", "content": "Be brief."}},
                {"kwargs": {"type": "human", "content": "2+2?"}},
            ]
        ]
    },
    "outputs": {"generations": [[{"text": "4", "message": {"kwargs": {"type": "ai", "content": "4"}}}]]},
    "prompt_tokens": 9,
    "completion_tokens": 1,
    "total_cost": 0.001,
    "start_time": "2025-05-01T10:00:00.000Z",
    "end_time": "2025-05-01T10:00:00.500Z",
}
LANGFUSE = {
    "type": "GENERATION",
    "model": "small",
    "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}],
    "output": {"role": "assistant", "content": "4"},
    "usageDetails": {"input": 9, "output": 1},
    "costDetails": {"total": 0.001},
    "latency": 0.5,
}
OPENINFERENCE = {
    "attributes.openinference.span.kind": "LLM",
    "attributes.llm.model_name": "small",
    "attributes.input.value": '{"messages": [{"role": "user", "content": "2+2?"}]}',
    "attributes.llm.output_messages": [{"message.role": "assistant", "message.content": "4"}],
    "attributes.llm.token_count.prompt": 9,
    "attributes.llm.token_count.completion": 1,
    "attributes.llm.cost.total": 0.001,
    "startTime": "2025-05-01T10:00:00.000+00:00",
    "endTime": "2025-05-01T10:00:00.500+00:00",
}
OPENAI = {
    "request": {"model": "small", "messages": [{"role": "user", "content": "2+2?"}]},
    "response": {
        "model": "small",
        "choices": [{"message": {"role": "assistant", "content": "4"}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1},
    },
    "latency": 0.5,
    "cost": 0.001,
}


@pytest.mark.parametrize("record", [LANGSMITH, LANGFUSE, OPENINFERENCE, OPENAI])
@pytest.mark.parametrize("form", ["lines", "list", "wrapped"])
def test_a_call_is_read_whoever_logged_it(tmp_path, record, form):
    other = json.loads(json.dumps(record).replace('"small"', '"large"'))
    records = [record, other, {"run_type": "chain", "inputs": {"input": "2+2?"}}, record]
    path = tmp_path / ("log.jsonl" if form == "lines" else "log.json")
    if form == "lines":
        path.write_text("\n".join(map(json.dumps, records)))
    else:
        path.write_text(json.dumps(records if form == "list" else {"data": records}))
    table = read_logs(path)
    assert table.models == ("small", "large")
    assert [query.text for query in table.queries] == ["2+2?"]
    answer = table.answers[0][0]
    assert (answer.text, answer.usage.input_tokens, answer.usage.output_tokens) == ("4", 9, 1)
    assert answer.latency == 0.5
    assert table.cost.tolist() == [[0.001, 0.001]]
    assert read_logs(path, unit="seconds").cost.tolist() == [[0.5, 0.5]]


def test_a_log_without_calls_says_what_was_expected(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"run_type": "chain"}\n')
    with pytest.raises(CalibrationError, match=r"log\.jsonl: no model call found\. Expected records with"):
        read_logs(path)
    path.write_text("not json")
    with pytest.raises(CalibrationError, match="cannot be read as JSON"):
        read_logs(path)
