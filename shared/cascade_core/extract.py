"""What an answer comes down to once its wording is taken away: its words, its number, its choice.

Scorers compare these with the right answer, estimators compare them between models.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NOT_WORDS = re.compile(r"[^\w\s]")
_NUMBERS = re.compile(
    r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|(?<![\w.])[-+−]?\.\d+"
)
_MARKED = re.compile(
    r"(?:####|\\boxed\{|\banswer(?:\s+is)?\s*[:=]?|\"answer\"\s*:)\s*(.{1,80})", re.IGNORECASE
)
_LETTER = re.compile(r"(?<![\w'’])\(?\**([A-J])\**\)?(?![\w'’])")
_FENCED = re.compile(r"```[\w+-]*\s*\n(.*?)```", re.DOTALL)


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and repeated spaces.

    Example:
        >>> normalised(" The  Eiffel Tower. ")
        'eiffel tower'
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_ARTICLES.sub(" ", _NOT_WORDS.sub(" ", plain)).split())


def number(text: str) -> float | None:
    """The number an answer ends with: a marked one (``#### 18``, ``"answer": "18"``, a LaTeX box), else the last.

    Example:
        >>> number("2 + 2 = 4, so she earns $1,234.50 a day."), number("no idea")
        (1234.5, None)
    """
    field = _answer_field(text)
    for part in ([] if field is None else [field]) + _MARKED.findall(text)[::-1]:
        found = _NUMBERS.findall(part)
        if found:
            return _value(found[0])
    found = _NUMBERS.findall(text)
    return _value(found[-1]) if found else None


def choice(text: str) -> str | None:
    """The letter, A to J, that an answer to a multiple-choice question names.

    Example:
        >>> choice("The answer is (B)."), choice("C"), choice("A dog barks, so D."), choice("none of them")
        ('B', 'C', 'D', None)
    """
    field = _answer_field(text)
    if field is not None:
        text = field
    marked = [_LETTER.match(part.strip()) for part in _MARKED.findall(text)]
    hits = [match.group(1) for match in marked if match]
    if hits:
        return hits[-1]
    first = re.match(r"\W*([A-Ja-j])(?:\W*$|[).:])", text)
    if first:
        return first.group(1).upper()
    letters: list[str] = _LETTER.findall(text)
    return letters[-1] if letters else None


def code(text: str) -> str:
    """The code of an answer: its fenced blocks, or all of it if it has none."""
    blocks: list[str] = _FENCED.findall(text)
    return "\n".join(blocks) if blocks else text


def _answer_field(text: str) -> str | None:
    """Field ``answer`` of an answer that is a JSON object, perhaps fenced."""
    body = code(text).strip()
    if not body.startswith("{"):
        return None
    try:
        data = json.loads(body)
    except ValueError:
        return None
    value = data.get("answer") if isinstance(data, Mapping) else None
    return None if value is None else str(value)


def _value(digits: str) -> float:
    return float(digits.replace(",", "").replace("−", "-"))
