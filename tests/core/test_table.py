"""The answer table: read from anywhere, written anywhere, and errors that name the row and the column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_core import Answer, Price, Query, Usage
from cascade_core.calibration.table import AnswerTable
from cascade_core.errors import CalibrationError
from tests.core.answers import PRICES, sums


def row(**more: Any) -> dict[str, Any]:
    return {"query_id": "1", "query": "2+2?", "model": "small", **more}


def alike(one: AnswerTable, other: AnswerTable) -> bool:
    return (
        one.queries == other.queries
        and one.models == other.models
        and one.answers == other.answers
        and np.array_equal(one.quality, other.quality, equal_nan=True)
        and np.array_equal(one.cost, other.cost, equal_nan=True)
    )


@pytest.fixture
def full() -> AnswerTable:
    """Every kind of value, and gaps in every column."""
    rich = Answer(
        text='[0.5, "not a list"], she said',
        usage=Usage(input_tokens=7, output_tokens=2, cached_input_tokens=3),
        latency=0.25,
        logprobs=(-0.5, -0.25),
        top_logprobs=((-0.5, -1.0), (-0.25,)),
        finish_reason="stop",
        parse_error=True,
    )
    queries = (
        Query(id="a", text="Grüße, 世界\n", features={"score": 0.5}),
        Query(id="b", text="?", prompt_chars=90),
    )
    return AnswerTable(
        queries,
        ("x", "y"),
        ((rich, None), (Answer(text="plain"), Answer(text="two"))),
        np.array([[1.0, np.nan], [0.25, 0.0]]),
        np.array([[1e-7, 2.0], [np.nan, 0.0]]),
    )


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_a_table_survives_every_file_format(full: AnswerTable, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"table{ending}"
    full.write(file)
    assert alike(AnswerTable.read(file), full)


def test_a_table_survives_a_pandas_frame(full: AnswerTable) -> None:
    assert alike(AnswerTable.from_frame(full.to_frame()), full)


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.text(min_size=1), st.floats(0, 1)),
        min_size=1,
        max_size=8,
        unique_by=lambda cell: cell[0],
    )
)
def test_rows_survive_whatever_the_texts_are(cells: list[tuple[str, str, float]]) -> None:
    rows = [
        {"query_id": str(n), "query": query, "model": "m", "answer": answer, "quality": quality, "cost": 0.0}
        for n, (query, answer, quality) in enumerate(cells)
    ]
    table = AnswerTable.from_rows(rows)
    assert alike(AnswerTable.from_rows(table.to_rows()), table)


def test_only_three_columns_are_needed() -> None:
    table = AnswerTable.from_rows([row()])
    assert table.answers == ((None,),)
    assert np.isnan(table.quality).all()
    assert np.isnan(table.cost).all()


def test_a_missing_cost_is_tokens_times_price() -> None:
    table = AnswerTable.from_rows([row(input_tokens=1000, output_tokens=500, answer="4")], prices=PRICES)
    assert table.cost[0, 0] == pytest.approx(1000 * 0.1e-6 + 500 * 0.2e-6)


def test_the_users_price_comes_before_the_list_price() -> None:
    rows = [row(model="gpt-4o-mini", input_tokens=1000, output_tokens=0, answer="4")]
    own = {"gpt-4o-mini": Price(input=1, output=1)}
    assert AnswerTable.from_rows(rows).cost[0, 0] == pytest.approx(0.15e-3)
    assert AnswerTable.from_rows(rows, prices=own).cost[0, 0] == pytest.approx(1e-3)


def test_in_seconds_a_missing_cost_is_the_latency() -> None:
    assert AnswerTable.from_rows([row(latency=0.7)], unit="seconds").cost[0, 0] == 0.7


def test_the_wide_format_of_routerbench_is_recognised(tmp_path: Path) -> None:
    import pandas as pd

    wide = pd.DataFrame(
        {
            "sample_id": ["s1", "s2"],
            "prompt": ["['Question one?']", "two"],
            "eval_name": ["arc", "arc"],
            "big": [1.0, 0.0],
            "big|model_response": ["['A\\n']", "B"],
            "big|total_cost": [0.1, 0.2],
        }
    )
    wide.to_parquet(tmp_path / "wide.parquet")
    table = AnswerTable.read(tmp_path / "wide.parquet")
    assert [query.text for query in table.queries] == ["Question one?", "two"]
    assert [answers[0].text for answers in table.answers if answers[0]] == ["A\n", "B"]
    assert table.quality.tolist() == [[1.0], [0.0]]
    assert table.cost.tolist() == [[0.1], [0.2]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{"query_id": "1", "query": "?"}], r"row 1, column 'model'.*\['query', 'query_id'\]"),
        ([row(), row(model="b", quality="good")], "row 2, column 'quality': 'good' is not a number"),
        ([row(quality=float("inf"))], "row 1, column 'quality'"),
        ([row(), row()], "row 2, column 'model'.*already"),
        ([row(), row(query="3+3?", model="b")], "row 2, column 'query'.*another text"),
        ([row(input_tokens=1.5, output_tokens=2)], "row 1, column 'input_tokens'"),
        ([row(answer="4", logprobs="[-0.1,")], "row 1, column 'logprobs': not valid JSON"),
        ([row(answer="4", latency=-1)], "row 1, column 'latency'"),
        ([row(features=[1])], "row 1, column 'features'"),
        ([row(cost=-1)], "under zero"),
    ],
)
def test_an_error_names_the_row_and_the_column(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        AnswerTable.from_rows(rows)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "logs.jsonl"
    file.write_text('{"query_id": 1}\n{"query"')
    with pytest.raises(CalibrationError, match=r"logs\.jsonl: line 2"):
        AnswerTable.read(file)
    with pytest.raises(CalibrationError, match=r"table\.xlsx: expected a file"):
        AnswerTable.read(tmp_path / "table.xlsx")


def test_parts_keep_rows_together() -> None:
    table = sums(20)
    part = table.subset([3, 1]).select(["large", "small"])
    assert part.ids == (table.ids[3], table.ids[1])
    assert part.quality.tolist() == table.quality[[3, 1]][:, [2, 0]].tolist()
    assert part.answers[0] == (table.answers[3][2], table.answers[3][0])
    with pytest.raises(CalibrationError, match="'tiny' is not in the table"):
        table.select(["tiny"])


def test_a_split_has_every_query_once() -> None:
    table = sums(21)
    first, second = table.split(0.4, seed=3)
    assert len(first) == 8
    assert sorted(first.ids + second.ids) == sorted(table.ids)
