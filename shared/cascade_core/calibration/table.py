"""The answer table: what every model answered to every query, how good it was and what it cost.

Everything that is fitted or evaluated starts from one. The long format has one row per query and model:

===================  ==================================================================================
column               meaning (``query_id``, ``query`` and ``model`` must be there, others where they are known)
===================  ==================================================================================
``query_id``         names the query; a table has one row per query and model
``query``            the query's text
``reference``        what answers are compared with to score them
``model``            the model's name
``answer``           the answer's text
``quality``          score of the answer, higher is better
``cost``             what the call cost, in the table's unit; money alone, whatever time is worth. In
                     seconds, ``latency`` says it where it is there
``input_tokens``     tokens sent; ``cached_input_tokens`` of them served from a cache
``output_tokens``    tokens received
``latency``          seconds the call took
``logprobs``         natural logarithm of each output token's probability; ``top_logprobs`` those of the
                     likeliest alternatives at each token, best first
``finish_reason``    as the provider says it
``parse_error``      whether a structured answer could not be parsed
``check``            what a check of the answer came to, from 0 to 1
``check_calls``      calls that the check took: mappings with ``model``, ``usage``, ``latency`` and ``cost``. They are
                     part of ``cost`` and ``latency``
``prompt_chars``     characters sent, where that is more than the query's text
``features``         mapping from name to number: further signals known before any model runs
===================  ==================================================================================

Lists and mappings are JSON text in a CSV file. Other columns are ignored.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from cascade_core.belief import BoolArray, FloatArray
from cascade_core.calibration.prompts import Prompt
from cascade_core.errors import CalibrationError
from cascade_core.pricing import check_price_of_time, prices_of
from cascade_core.values import Answer, CheckCall, Price, Query, Usage

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "query_id",
    "query",
    "reference",
    "model",
    "answer",
    "quality",
    "cost",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "latency",
    "logprobs",
    "top_logprobs",
    "finish_reason",
    "parse_error",
    "check",
    "check_calls",
    "prompt_chars",
    "features",
)
"""Columns of the long format, in the order they are written."""

_WIDE_ANSWER, _WIDE_COST = "|model_response", "|total_cost"


@dataclass(frozen=True, eq=False)
class AnswerTable:
    """Answers of K models to N queries.

    Attributes:
        queries: the N queries, each with an id of its own.
        models: names of the K models.
        answers: ``answers[n][k]``; None where the text of an answer is not known.
        quality: ``(N, K)`` score of each answer, NaN where there is none.
        cost: ``(N, K)`` cost of each call in ``unit``, NaN where it is not known.
        unit: what costs are counted in: US dollars or seconds.
        latency: ``(N, K)`` seconds each call took, NaN where they are not known; by default those of the answers and
            their checks.
        usd_per_second: price of time that is in the costs, see :meth:`with_time`.

    Raises:
        CalibrationError: shapes that do not fit, a query or model that is there twice, a cost under zero.
        ConfigurationError: a price of time that is no price.

    Example:
        >>> table = AnswerTable.from_rows(
        ...     [
        ...         {"query_id": 1, "query": "2+2?", "model": "small", "answer": "4", "cost": 0.001},
        ...         {"query_id": 1, "query": "2+2?", "model": "large", "answer": "4", "cost": 0.02},
        ...     ]
        ... )
        >>> table.models, table.cost.tolist()
        (('small', 'large'), [[0.001, 0.02]])
    """

    queries: tuple[Query, ...]
    models: tuple[str, ...]
    answers: tuple[tuple[Answer | None, ...], ...]
    quality: FloatArray
    cost: FloatArray
    unit: Literal["usd", "seconds"] = "usd"
    latency: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    usd_per_second: float = 0.0

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        shape = (len(self.queries), len(self.models))
        check_price_of_time(self.usd_per_second, self.unit)
        if len(self.answers) != shape[0] or any(len(row) != shape[1] for row in self.answers):
            raise CalibrationError(f"answers must be {shape[0]} rows of {shape[1]}: one per query and model")
        if not self.latency.size:
            seconds = [None if answer is None else answer.seconds for row in self.answers for answer in row]
            object.__setattr__(self, "latency", np.array(seconds, dtype=float).reshape(shape))
        for name in ("quality", "cost", "latency"):
            array = np.asarray(getattr(self, name), dtype=float)
            object.__setattr__(self, name, array)
            if array.shape != shape:
                raise CalibrationError(
                    f"{name} has shape {array.shape}, expected (queries, models) = {shape}"
                )
            if np.isinf(array).any():
                raise CalibrationError(f"{name} is infinite for query {self._where(np.isinf(array))}")
        for name, array in (("cost", self.cost), ("latency", self.latency)):
            if (array < 0).any():
                raise CalibrationError(f"{name} is under zero for query {self._where(array < 0)}")
        if len(set(self.models)) != shape[1]:
            raise CalibrationError(f"a model is there twice in {list(self.models)}")
        if len({query.key for query in self.queries}) != shape[0]:
            raise CalibrationError("a query is there twice: each needs an id of its own")

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.queries)

    @property
    def labelled(self) -> BoolArray:
        """``(N,)`` queries for which the quality of every model's answer is known."""
        known: BoolArray = np.isnan(self.quality).sum(axis=1) == 0
        return known

    @property
    def ids(self) -> tuple[str, ...]:
        """The queries' keys, as used in random draws."""
        return tuple(query.key for query in self.queries)

    # -- parts -----------------------------------------------------------------------------------------

    def subset(self, rows: Iterable[int] | BoolArray) -> AnswerTable:
        """The queries at these positions, or where a boolean ``(N,)`` array is true."""
        wanted = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows))
        positions = np.flatnonzero(wanted) if wanted.dtype == bool else wanted.astype(np.intp)
        return replace(
            self,
            queries=tuple(self.queries[row] for row in positions),
            answers=tuple(self.answers[row] for row in positions),
            quality=self.quality[positions],
            cost=self.cost[positions],
            latency=self.latency[positions],
        )

    def select(self, models: Sequence[str]) -> AnswerTable:
        """These models, in this order.

        Raises:
            CalibrationError: naming a model that the table has not.
        """
        unknown = [model for model in models if model not in self.models]
        if unknown:
            raise CalibrationError(f"model {unknown[0]!r} is not in the table, which has {list(self.models)}")
        columns = [self.models.index(model) for model in models]
        return replace(
            self,
            models=tuple(models),
            answers=tuple(tuple(row[column] for column in columns) for row in self.answers),
            quality=self.quality[:, columns],
            cost=self.cost[:, columns],
            latency=self.latency[:, columns],
        )

    def split(self, fraction: float, *, seed: int = 0) -> tuple[AnswerTable, AnswerTable]:
        """Two tables, ``fraction`` of the queries (at random) in the first and the others in the second."""
        order = np.random.default_rng(seed).permutation(len(self))
        cut = round(fraction * len(self))
        return self.subset(np.sort(order[:cut])), self.subset(np.sort(order[cut:]))

    def with_quality(self, quality: FloatArray) -> AnswerTable:
        """The same answers with other scores, ``(N, K)``."""
        return replace(self, quality=np.asarray(quality, dtype=float))

    # -- time ------------------------------------------------------------------------------------------

    @property
    def billed(self) -> FloatArray:
        """``(N, K)`` the costs without the time in them: what the calls were billed."""
        if not self.usd_per_second:
            return self.cost
        return np.maximum(self.cost - self.usd_per_second * self.latency, 0.0)

    def with_time(self, usd_per_second: float) -> AnswerTable:
        """The same answers, their costs in US dollars with every second they took at this price.

        However often it is called, time is in the costs once, at the price given last; at 0 they are money alone. A
        cost whose latency is not known becomes unknown.

        Raises:
            ConfigurationError: the price is negative or not finite, or the table's costs are in seconds.

        Example:
            >>> row = {"query_id": 1, "query": "2+2?", "model": "small", "cost": 0.001, "latency": 3.0}
            >>> AnswerTable.from_rows([row]).with_time(0.01).cost.tolist()
            [[0.031]]
        """
        if usd_per_second == self.usd_per_second:
            return self
        time = usd_per_second * self.latency if usd_per_second else 0.0
        return replace(self, cost=self.billed + time, usd_per_second=usd_per_second)

    # -- checks ----------------------------------------------------------------------------------------

    @property
    def checked(self) -> bool:
        """Whether answers were checked by further calls."""
        return any(answer is not None and bool(answer.check_calls) for row in self.answers for answer in row)

    @property
    def check_cost(self) -> FloatArray:
        """``(N, K)`` the part of the costs that checks of the answers are."""
        cost = np.zeros_like(self.cost)
        for n, row in enumerate(self.answers):
            for k, answer in enumerate(row):
                if answer is not None and answer.check_calls:
                    price_of_time = 1.0 if self.unit == "seconds" else self.usd_per_second
                    dollars = 0.0 if self.unit == "seconds" else answer.check_dollars
                    cost[n, k] = dollars + price_of_time * answer.check_seconds
        return np.minimum(cost, np.where(np.isnan(self.cost), 0.0, self.cost))

    @property
    def alone(self) -> FloatArray:
        """``(N, K)`` what each model costs alone: without the checks, which nobody makes who has one model."""
        return self.cost - self.check_cost if self.checked else self.cost

    def unchecked(self) -> AnswerTable:
        """The same answers as if none had been checked."""
        if not self.checked:
            return self
        seconds = [
            [0.0 if answer is None else answer.check_seconds for answer in row] for row in self.answers
        ]
        bare = {"check": None, "check_calls": ()}
        return replace(
            self,
            answers=tuple(
                tuple(None if answer is None else answer.model_copy(update=bare) for answer in row)
                for row in self.answers
            ),
            cost=self.alone,
            latency=np.maximum(self.latency - np.array(seconds), 0.0),
        )

    # -- rows ------------------------------------------------------------------------------------------

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        unit: Literal["usd", "seconds"] = "usd",
        prices: Mapping[str, Price] | None = None,
    ) -> AnswerTable:
        """Table from rows in the long format.

        Args:
            rows: one mapping per query and model, in any order; queries and models keep that of their
                first row.
            unit: what ``cost`` is counted in.
            prices: prices by model name, used before list prices where a row has tokens but no cost. In
                seconds, the cost is the ``latency`` where there is one.

        Raises:
            CalibrationError: naming the row (the first is 1) and the column.
        """
        queries: dict[str, Query] = {}
        models: dict[str, int] = {}
        cells: dict[tuple[str, str], tuple[Answer | None, Usage | None, float, float, float]] = {}
        for number, row in enumerate(rows, start=1):
            cell = _Row(row, number)
            query = cell.query()
            known = queries.setdefault(query.id, query)
            if known.text != query.text:
                raise cell.error("query", f"query {query.id!r} had another text before: give it its own id")
            model = cell.text("model")
            models.setdefault(model, len(models))
            if (query.id, model) in cells:
                raise cell.error("model", f"query {query.id!r} has a row for {model!r} already")
            cells[query.id, model] = cell.outcome()
        if not cells:
            raise CalibrationError("the table has no rows: expected one per query and model")
        answers, quality, cost, latency = _grid(list(queries), list(models), cells, unit, prices)
        return cls(tuple(queries.values()), tuple(models), answers, quality, cost, unit, latency)

    def to_rows(self) -> Iterator[dict[str, Any]]:
        """Rows in the long format with all columns, None where there is no value; empty rows are left out."""
        for query, answers, *numbers in zip(
            self.queries, self.answers, self.quality, self.billed, self.latency, strict=True
        ):
            for model, answer, quality, cost, latency in zip(self.models, answers, *numbers, strict=True):
                if answer is None and math.isnan(quality) and math.isnan(cost):
                    continue
                row: dict[str, Any] = dict.fromkeys(COLUMNS)
                row.update(query_id=query.key, query=query.text, model=model, prompt_chars=query.prompt_chars)
                row["reference"] = query.reference if isinstance(query, Prompt) else None
                row["features"] = dict(query.features) or None
                row["quality"] = None if math.isnan(quality) else float(quality)
                row["cost"] = None if math.isnan(cost) else float(cost)
                row["latency"] = None if math.isnan(latency) else float(latency)
                if answer is not None:
                    row.update(
                        answer=answer.text,
                        logprobs=None if answer.logprobs is None else list(answer.logprobs),
                        top_logprobs=None
                        if answer.top_logprobs is None
                        else [list(t) for t in answer.top_logprobs],
                        finish_reason=answer.finish_reason,
                        parse_error=answer.parse_error,
                        check=answer.check,
                        check_calls=[call.model_dump(exclude_none=True) for call in answer.check_calls]
                        or None,
                    )
                    if answer.usage is not None:
                        row.update(answer.usage.model_dump())
                yield row

    # -- files -----------------------------------------------------------------------------------------

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        unit: Literal["usd", "seconds"] = "usd",
        prices: Mapping[str, Price] | None = None,
    ) -> AnswerTable:
        """Table from a file: ``.parquet`` (needs the extra ``tables``), ``.csv``, ``.jsonl`` or ``.ndjson``.

        RouterBench's wide format is recognised by its ``<model>|total_cost`` columns.

        Raises:
            CalibrationError: the file's name says another format, or a row is not valid.
        """
        file = Path(path)
        try:
            rows = _READERS[file.suffix.lower()](file)
        except KeyError:
            raise CalibrationError(
                f"{file.name}: expected a file that ends in one of {sorted(_READERS)}"
            ) from None
        try:
            if rows and any(column.endswith(_WIDE_COST) for column in rows[0]):
                return cls.from_rows(_unfold(rows), unit=unit, prices=prices)
            return cls.from_rows(rows, unit=unit, prices=prices)
        except CalibrationError as error:
            raise CalibrationError(f"{file.name}: {error}") from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the long format to a file; the format is that of the name, as for :meth:`read`."""
        file = Path(path)
        try:
            writer = _WRITERS[file.suffix.lower()]
        except KeyError:
            raise CalibrationError(
                f"{file.name}: expected a name that ends in one of {sorted(_WRITERS)}"
            ) from None
        writer(file, self.to_rows())

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        unit: Literal["usd", "seconds"] = "usd",
        prices: Mapping[str, Price] | None = None,
    ) -> AnswerTable:
        """Table from a pandas frame in the long format, or RouterBench's wide one."""
        rows = frame.to_dict("records")
        if any(str(column).endswith(_WIDE_COST) for column in frame.columns):
            rows = list(_unfold(rows))
        return cls.from_rows(rows, unit=unit, prices=prices)

    def to_frame(self) -> pd.DataFrame:
        """The long format as a pandas frame."""
        import pandas as pd

        return pd.DataFrame(list(self.to_rows()), columns=list(COLUMNS))

    def _where(self, wrong: BoolArray) -> str:
        row, column = np.argwhere(wrong)[0]
        return f"{self.queries[row].key!r} and model {self.models[column]!r}"


class _Row:
    """One row of the long format, read column by column, so that an error can name both."""

    def __init__(self, row: Mapping[str, Any], number: int) -> None:
        self._row = row
        self._number = number

    def query(self) -> Query:
        given = self._row.get("features")
        features = self._json("features") if isinstance(given, str) else given
        if _missing(features):
            features = {}
        if not isinstance(features, Mapping):
            got = type(features).__name__
            raise self.error("features", f"expected a mapping from name to number, got {got}")
        query = Query(
            id=self.text("query_id"),
            text=self.text("query"),
            prompt_chars=self._count("prompt_chars"),
            features={name: float(x) for name, x in features.items() if not _missing(x)},
        )
        reference = self._row.get("reference")
        return query if _missing(reference) else Prompt(**query.model_dump(), reference=str(reference))

    def outcome(self) -> tuple[Answer | None, Usage | None, float, float, float]:
        """Answer, usage, quality, cost and latency; NaN for a number that is not there."""
        sent, received = self._count("input_tokens"), self._count("output_tokens")
        usage = None
        if sent is not None and received is not None:
            cached = self._count("cached_input_tokens") or 0
            usage = Usage(input_tokens=sent, output_tokens=received, cached_input_tokens=cached)
        latency, check = self._number_in("latency"), self._number_in("check")
        text = self._row.get("answer")
        answer = None
        if not _missing(text):
            reason = self._row.get("finish_reason")
            top = self._list("top_logprobs")
            try:
                answer = Answer(
                    text=str(text),
                    usage=usage,
                    latency=None if math.isnan(latency) else latency,
                    logprobs=self._list("logprobs"),
                    top_logprobs=None if top is None else tuple(tuple(token) for token in top),
                    finish_reason=None if _missing(reason) else str(reason),
                    parse_error=self._flag("parse_error"),
                    check=None if math.isnan(check) else check,
                    check_calls=tuple(
                        CheckCall.model_validate(call) for call in self._list("check_calls") or ()
                    ),
                )
                if answer.latency is not None:  # that of the answer alone
                    left = max(answer.latency - answer.check_seconds, 0.0)
                    answer = answer.model_copy(update={"latency": left})
            except ValidationError as problem:
                first = problem.errors()[0]
                column = "check_calls" if problem.title == "CheckCall" else str(first["loc"][0])
                raise self.error(column, first["msg"]) from problem
        return answer, usage, self._number_in("quality"), self._number_in("cost"), latency

    def text(self, column: str) -> str:
        value = self._row.get(column)
        if _missing(value):
            have = "" if column in self._row else f"; it has the columns {sorted(map(str, self._row))}"
            raise self.error(column, f"there is no value{have}")
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # a column of whole numbers with gaps
        return str(value)

    def error(self, column: str, problem: str) -> CalibrationError:
        return CalibrationError(f"row {self._number}, column {column!r}: {problem}")

    def _number_in(self, column: str) -> float:
        value = self._row.get(column)
        if _missing(value):
            return math.nan
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self.error(column, f"{str(value)[:40]!r} is not a number") from None
        if math.isinf(number):
            raise self.error(column, "an infinite number means nothing here")
        return number

    def _count(self, column: str) -> int | None:
        number = self._number_in(column)
        if math.isnan(number):
            return None
        if number < 0 or not number.is_integer():
            raise self.error(column, f"{number} is not a number of things")
        return int(number)

    def _flag(self, column: str) -> bool:
        value = self._row.get(column)
        if isinstance(value, str):
            return value.strip().lower() in ("true", "1", "yes")
        return not _missing(value) and bool(value)

    def _list(self, column: str) -> tuple[Any, ...] | None:
        value = self._row.get(column)
        if isinstance(value, str) and value.strip():
            value = self._json(column)
        if _missing(value) or isinstance(value, str):
            return None
        if not isinstance(value, (list, tuple, np.ndarray)):
            raise self.error(column, f"expected a list, got {type(value).__name__}")
        return tuple(value)

    def _json(self, column: str) -> Any:
        try:
            return json.loads(self._row[column]) if self._row[column].strip() else None
        except json.JSONDecodeError as problem:
            raise self.error(column, f"not valid JSON: {problem}") from None


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == "" or _is_na(value)


def _is_na(value: Any) -> bool:
    return type(value).__name__ in ("NAType", "NaTType")  # pandas' own, without importing pandas


def _grid(
    ids: list[str],
    models: list[str],
    cells: Mapping[tuple[str, str], tuple[Answer | None, Usage | None, float, float, float]],
    unit: Literal["usd", "seconds"],
    prices: Mapping[str, Price] | None,
) -> tuple[tuple[tuple[Answer | None, ...], ...], FloatArray, FloatArray, FloatArray]:
    """Answers, quality, cost, latency ``(N, K)``; a missing cost in dollars is reckoned from the tokens."""
    quality, cost, latency = (np.full((len(ids), len(models)), np.nan) for _ in range(3))
    answers: list[list[Answer | None]] = [[None] * len(models) for _ in ids]
    to_price = unit == "usd" and any(math.isnan(c[3]) and c[1] is not None for c in cells.values())
    price = prices_of(models, prices) if to_price else {}
    for row, key in enumerate(ids):
        for column, model in enumerate(models):
            cell = cells.get((key, model))
            if cell is None:
                continue
            answers[row][column], usage, quality[row, column], cost[row, column], latency[row, column] = cell
            if unit == "seconds" and not math.isnan(latency[row, column]):
                cost[row, column] = latency[row, column]  # what the column "cost" says may be dollars
            if math.isnan(cost[row, column]) and usage is not None and (per_token := price.get(model)):
                answer = answers[row][column]
                cost[row, column] = per_token.dollars(usage) + (answer.check_dollars if answer else 0.0)
    return tuple(map(tuple, answers)), quality, cost, latency


def _unfold(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of the long format from RouterBench's wide one."""
    for number, row in enumerate(rows):
        models = [column[: -len(_WIDE_COST)] for column in row if str(column).endswith(_WIDE_COST)]
        for model in models:
            yield {
                "query_id": row.get("sample_id", number),
                "query": _unwrapped(row.get("prompt")),
                "model": model,
                "answer": _unwrapped(row.get(model + _WIDE_ANSWER)),
                "quality": row.get(model),
                "cost": row.get(model + _WIDE_COST),
            }


def _unwrapped(turns: Any) -> Any:
    """RouterBench keeps the turns of a conversation as a list, or as the text of a Python list."""
    if isinstance(turns, str) and turns[:2] in ("['", '["'):
        try:
            turns = ast.literal_eval(turns)
        except (ValueError, SyntaxError):
            return turns
    return "\n".join(map(str, turns)) if isinstance(turns, (list, tuple)) else turns


def _read_parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise CalibrationError(
            f"{file.name}: reading Parquet needs pyarrow; python -m pip install 'cascade-routing[tables]'"
        ) from error
    rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return rows


def _read_csv(file: Path) -> list[dict[str, Any]]:
    csv.field_size_limit(1 << 30)  # an answer may be longer than the reader's default of 128 kB
    with file.open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


def _read_jsonl(file: Path) -> list[dict[str, Any]]:
    rows = []
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as problem:
                raise CalibrationError(
                    f"{file.name}: line {number} is not valid JSON: {problem.msg} at its character {problem.pos}"
                ) from None
            if not isinstance(row, dict):
                raise CalibrationError(f"{file.name}: line {number} is not a JSON object")
            rows.append(row)
    return rows


def _write_parquet(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise CalibrationError(
            f"{file.name}: writing Parquet needs pyarrow; python -m pip install 'cascade-routing[tables]'"
        ) from error
    text, number, count = arrow.string(), arrow.float64(), arrow.int64()
    kinds = dict.fromkeys(COLUMNS, text) | dict.fromkeys(("quality", "cost", "latency", "check"), number)
    kinds |= {name: count for name in COLUMNS if name.endswith("tokens") or name == "prompt_chars"}
    kinds |= {
        "logprobs": arrow.list_(number),
        "top_logprobs": arrow.list_(arrow.list_(number)),
        "parse_error": arrow.bool_(),
    }
    # features differ from query to query, which a Parquet structure would turn into one wide column each
    as_text = ("features", "check_calls")
    plain = [
        row | {name: None if row[name] is None else json.dumps(row[name]) for name in as_text} for row in rows
    ]
    parquet.write_table(arrow.Table.from_pylist(plain, schema=arrow.schema(list(kinds.items()))), file)


def _write_csv(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in row.items()})


def _write_jsonl(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(
                json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False) + "\n"
            )


_READERS = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}
_WRITERS = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl, ".ndjson": _write_jsonl}
