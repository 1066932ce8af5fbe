"""The prompts to calibrate on: queries, with the right answer where the user knows it."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cascade_core.errors import CalibrationError
from cascade_core.values import Query


class Prompt(Query):
    """A query to calibrate on.

    Attributes:
        reference: the right answer, or what else the scorer compares with; None where there is none.
    """

    reference: str | None = None


def checked_prompts(prompts: Iterable[str | Query | Mapping[str, Any]]) -> list[Prompt]:
    """Prompts from texts, queries or mappings (``text`` or ``query``, ``reference``, ``id``, ``features``).

    A prompt that is there twice, with the same text and reference, is kept once.

    Raises:
        CalibrationError: no prompt at all, an empty one, or one id for two different prompts; says which.

    Example:
        >>> [prompt.reference for prompt in checked_prompts([{"query": "2+2?", "reference": 4}])]
        ['4']
    """
    if isinstance(prompts, (str, Query, Mapping)):
        raise CalibrationError("prompts must be a list of prompts, not a single one")
    kept: dict[str, Prompt] = {}
    for number, given in enumerate(prompts, start=1):
        prompt = _prompt(given, number)
        if not prompt.text.strip():
            raise CalibrationError(f"prompt {number} is empty: remove it")
        known = kept.setdefault(prompt.key, prompt)
        if known != prompt:
            raise CalibrationError(
                f"prompt {number} has the id {prompt.key!r} of an earlier prompt, but not its text and reference: "
                "give each prompt an id of its own, or one reference"
            )
    if not kept:
        raise CalibrationError("there are no prompts: hand over the queries to calibrate on")
    return list(kept.values())


def read_prompts(path: str | os.PathLike[str]) -> list[Prompt]:
    """Prompts from a file: ``.txt`` (one a line), ``.jsonl``, ``.json`` (a list), ``.csv`` or ``.parquet``.

    Columns: ``query``, ``text`` or ``prompt``; optional ``reference`` (or ``answer``, ``gold``) and ``id`` (or
    ``query_id``). Others are ignored.

    Raises:
        CalibrationError: the format is not known, or a prompt is not valid; names the file.
    """
    file = Path(path)
    try:
        read = _READERS[file.suffix.lower()]
    except KeyError:
        raise CalibrationError(
            f"{file.name}: expected a file that ends in one of {sorted(_READERS)}"
        ) from None
    try:
        return checked_prompts(read(file))
    except OSError as error:
        raise CalibrationError(f"{file}: {error.strerror or error}") from error
    except (CalibrationError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file.name}: {error}") from error


_TEXT, _REFERENCE, _ID = ("query", "text", "prompt"), ("reference", "answer", "gold"), ("id", "query_id")


def _prompt(given: str | Query | Mapping[str, Any], number: int) -> Prompt:
    if isinstance(given, Prompt):
        prompt = given
    elif isinstance(given, Query):
        prompt = Prompt(**given.model_dump())
    elif isinstance(given, str):
        prompt = Prompt(text=given)
    elif isinstance(given, Mapping):
        text, reference, key = _first(given, _TEXT), _first(given, _REFERENCE), _first(given, _ID)
        if not isinstance(text, str):
            raise CalibrationError(f"prompt {number} has no text: expected one of the columns {list(_TEXT)}")
        features = _first(given, ("features",)) or {}
        if not isinstance(features, Mapping):
            got = type(features).__name__
            raise CalibrationError(
                f"prompt {number} has features of type {got}: expected a mapping to numbers"
            )
        prompt = Prompt(
            text=text,
            reference=None if reference is None else str(reference),
            id="" if key is None else str(key),
            features={str(name): float(value) for name, value in features.items()},
        )
    else:
        raise CalibrationError(
            f"prompt {number} is of type {type(given).__name__}: expected a text, a Prompt or a mapping"
        )
    # The id is written down, so that a prompt and what is read back from a store are equal.
    return prompt if prompt.id else prompt.model_copy(update={"id": prompt.key})


def _first(given: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        value = given.get(name)
        if value is not None and value == value and value != "":  # NaN is how a frame says that there is none
            return value
    return None


def _parquet(file: Path) -> list[dict[str, Any]]:
    import pandas as pd

    return [dict(row) for row in pd.read_parquet(file).to_dict("records")]


def _csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _json(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise CalibrationError(
            f"record {number} is not JSON: {error.msg} at its character {error.pos}"
        ) from error


_READERS: dict[str, Any] = {
    ".txt": _lines,
    ".jsonl": lambda file: [_json(line, number) for number, line in enumerate(_lines(file), start=1)],
    ".json": lambda file: json.loads(file.read_text(encoding="utf-8-sig")),
    ".csv": _csv,
    ".parquet": _parquet,
}
