"""Reads any table of answers of the kinds in the data folder, whatever its columns are called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cascade_core import Price, Query
from cascade_core.calibration import AnswerTable
from cascade_core.pricing import price_of

_QUERY, _ID = ("query", "prompt", "question"), ("query_id", "id", "sample_id")
_QUALITY, _ANSWER = ("quality", "correct", "score"), ("answer", "output", "response")
_RESPONSE = "_response"
_LIST_PRICES = {  # US dollars per million tokens, of models that the price list does not know by these names
    "gemma-2-2b": 0.10,
    "llama-3.1-8b": 0.18,
    "llama-3.1-70b": 0.88,
}
_OTHER, _ANSWER_CHARS = 0.5, 600


def load(path: str | Path, models: list[str] | None = None) -> AnswerTable:
    """The table's queries whose quality and cost are known for all models, or for the ones named.

    Where the file has no cost, it is a quarter of the characters times the list price of a token.
    """
    file = Path(path)
    if file.suffix == ".npz":
        table = _estimates(file)
    else:
        import pandas as pd

        if file.suffix == ".parquet":
            frame = pd.read_parquet(file)
        elif file.suffix == ".csv":
            frame = pd.read_csv(file)
        else:
            frame = pd.read_json(file, lines=True)
        if any(column.endswith("|total_cost") for column in frame):
            table = AnswerTable.from_frame(frame.drop_duplicates(_column(frame, _ID)))
        else:
            table = AnswerTable.from_rows(_long(frame) if "model" in frame else _wide(frame))
    if models:
        table = table.select(models)
    complete = np.isfinite(table.quality).all(axis=1) & np.isfinite(table.cost).all(axis=1)
    return table.subset(complete)


def _long(frame: Any) -> Iterator[dict[str, Any]]:
    query, ident, quality = (_column(frame, names) for names in (_QUERY, _ID, _QUALITY))
    answer = _column(frame, _ANSWER, needed=False)
    for row in frame.drop_duplicates([ident, "model"]).to_dict("records"):
        said = str(row[answer]) if answer and row[answer] == row[answer] else None
        given = row.get("cost")
        yield {
            "query_id": row[ident],
            "query": row[query],
            "model": row["model"],
            "answer": said,
            "quality": float(row[quality]),
            "cost": given if given == given and given is not None else _cost(row["model"], row[query], said),
        }


def _wide(frame: Any) -> Iterator[dict[str, Any]]:
    query = _column(frame, _QUERY)
    models = [
        column
        for column in frame
        if column not in (*_QUERY, *_ID)
        and not column.endswith(_RESPONSE)
        and frame[column].dtype != object
        and str(frame[column].dtype) not in ("str", "string")
    ]
    for number, row in enumerate(frame.to_dict("records")):
        for model in models:
            said = row.get(model + _RESPONSE)
            yield {
                "query_id": number,
                "query": row[query],
                "model": model,
                "answer": said,
                "quality": float(row[model]),
                "cost": _cost(model, row[query], said),
            }


def _estimates(file: Path) -> AnswerTable:
    """Synthetic queries: no text, their ex-ante estimates for features."""
    data = np.load(file)
    ahead = data["quality_estimate"][:, :, 0]
    names = tuple(f"model {k}" for k in range(ahead.shape[1]))
    queries = tuple(
        Query(id=str(n), text=f"query {n}", features=dict(zip(names, row.tolist(), strict=True)))
        for n, row in enumerate(ahead)
    )
    none = tuple((None,) * len(names) for _ in queries)
    return AnswerTable(queries, names, none, np.clip(data["quality"], 0, 1), np.maximum(data["cost"], 0))


def _cost(model: str, query: str, answer: str | None) -> float:
    price = price_of(model)
    if price is None:
        known = [rate for name, rate in _LIST_PRICES.items() if name in model.lower()]
        price = Price(input=(known or [_OTHER])[0], output=(known or [_OTHER])[0])
    output = _ANSWER_CHARS if answer is None else len(answer)
    return (len(query) * price.input + output * price.output) / 4e6


def _column(frame: Any, names: tuple[str, ...], *, needed: bool = True) -> str:
    found = [name for name in names if name in frame]
    if not found and needed:
        raise SystemExit(f"the table has none of the columns {list(names)}")
    return found[0] if found else ""
