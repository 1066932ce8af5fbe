"""What the commands share: output, errors as exit codes, and finding tables, models and targets by what was typed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from cascade_core.calibration import (
    AnswerTable,
    Ask,
    Budget,
    Quality,
    RelativeQuality,
    Savings,
    Store,
    Target,
    as_scorer,
    score_table,
)
from cascade_core.calibration.certificate import Certificate
from cascade_core.calibration.store import GIVEN
from cascade_core.errors import CascadeError, ConfigurationError, InfeasibleTargetError
from cascade_core.policy import check_names
from cascade_core.values import Price

FAILED, USAGE, INFEASIBLE, BROKEN, INCOMPLETE, INTERRUPTED = 1, 2, 3, 4, 5, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 the data, models or files cannot be used (the message says why); 2 wrong usage; 3 the "
    "target is beyond reach; 4 the certificate does not hold on the new data; 5 stopped by --max-spend before all "
    "were collected; 130 interrupted."
)

MODELS_GROUP = "cascade_routing.models"
"""Entry points that make a callable of a framework's model; see :func:`find_model`."""

console = Console(stderr=True)


def emit(result: Mapping[str, Any], as_json: bool, show: Callable[[Console], None]) -> None:
    """Print a result: one JSON object on standard output, or what ``show`` draws there."""
    if as_json:
        print(json.dumps(result, allow_nan=False))
    else:
        show(Console())


@contextmanager
def exit_codes(as_json: bool) -> Iterator[None]:
    """Errors of this project as a message on standard error and an exit code."""
    try:
        yield
    except (CascadeError, OSError) as error:
        code = INFEASIBLE if isinstance(error, InfeasibleTargetError) else FAILED
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        if as_json:
            print(json.dumps({"error": type(error).__name__, "message": said}))
        else:
            console.print(f"[bold red]error:[/] {_plain(said)}", highlight=False)
        raise typer.Exit(code) from error


def grid(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table; all columns but the first are numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table


def load_table(
    where: str, *, unit: Literal["usd", "seconds"] = "usd", prices: Mapping[str, Price] | None = None
) -> AnswerTable:
    """Table from a store, a table's file, or a log of a tracing tool."""
    path = Path(where)
    suffix = path.suffix.lower()
    if is_store(where):
        with Store(where, create=False) as store:
            return store.table(prices=prices, unit=unit)
    if suffix == ".json" or (suffix in (".jsonl", ".ndjson") and not _is_table(path)):
        from cascade_core.calibration.logs import read_logs

        return read_logs(path, unit=unit, prices=prices)
    return AnswerTable.read(path, unit=unit, prices=prices)


def load_scored(
    where: str,
    scorer: str | None,
    *,
    unit: Literal["usd", "seconds"] = "usd",
    prices: Mapping[str, Price] | None = None,
) -> tuple[AnswerTable, str]:
    """Table with quality, its own or by a scorer with the references of the store; and the name of what scored it."""
    table = load_table(where, unit=unit, prices=prices)
    if scorer is None:
        return table, GIVEN
    found = find_attribute(scorer)
    try:
        scoring = as_scorer(scorer if found is None else found)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}, or MODULE:ATTRIBUTE for your own ({_absent(scorer)})") from error
    with Store(where, create=False) if is_store(where) else Store(":memory:") as store:
        return asyncio.run(score_table(table, None, scoring, store=store)), scoring.name


def is_store(where: str) -> bool:
    """Whether a place is a store rather than a file of answers."""
    return "://" in where or Path(where).suffix.lower() in (".sqlite", ".sqlite3", ".db")


def _is_table(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        record = json.loads(first)
    except ValueError:
        return True  # the table's reader says what is wrong with it
    return isinstance(record, dict) and (
        {"query_id", "query", "model"} <= record.keys() or any(key.endswith("|total_cost") for key in record)
    )


def parse_target(
    budget: float | None, quality: float | None, relative: float | None, savings: float | None, of: str | None
) -> Target:
    """The one target that was given.

    Raises:
        ConfigurationError: none or several were, or one that ``of`` says nothing about.
    """
    given: list[Target] = []
    if budget is not None:
        given.append(Budget(budget))
    if quality is not None:
        given.append(Quality(quality))
    if relative is not None:
        given.append(RelativeQuality(relative, of))
    if savings is not None:
        given.append(Savings(savings, of))
    if len(given) != 1:
        raise ConfigurationError(
            f"{'no target' if not given else 'several targets'}: give one of --budget, --quality, --relative-quality "
            "or --savings"
        )
    if of is not None and not isinstance(given[0], (RelativeQuality, Savings)):
        raise ConfigurationError(
            "--of names the model that --relative-quality or --savings is about: leave it out"
        )
    return given[0]


def parse_prices(texts: Sequence[str]) -> dict[str, Price]:
    """Prices from ``MODEL=INPUT,OUTPUT`` in US dollars per million tokens."""
    prices = {}
    for text in texts:
        model, _, numbers = text.rpartition("=")
        try:
            input_, output = (float(number) for number in numbers.split(","))
            prices[model] = Price(input=input_, output=output)
        except ValueError:
            model = ""
        if not model:
            raise ConfigurationError(
                f"price {text!r}: expected MODEL=INPUT,OUTPUT in US dollars per million tokens, as in small=0.1,0.6"
            )
    return prices


def named_models(texts: Sequence[str]) -> dict[str, str]:
    """What names each model: its own name, or the whole text of ``[NAME=]WHAT``."""
    parts = [text.rpartition("=") for text in texts]
    names = [name or what for name, _, what in parts]
    twice = [name for n, name in enumerate(names) if name in names[:n]]
    if twice:
        raise ConfigurationError(
            f"two models are named {twice[0]!r}: give each a name of its own, as in {twice[0]}-2=WHAT"
        )
    check_names(names)
    return {name: what for name, (_, _, what) in zip(names, parts, strict=True)}


def find_model(what: str) -> tuple[Ask, str]:
    """A model by ``module:attribute`` or by a provider string, and the name by which price lists know it.

    The attribute may be a function from a prompt to an answer, or a framework's model. The latter is made callable by
    the wrapper package that says so: an entry point of the group ``cascade_routing.models``, named after the package
    that the framework's models derive from. Provider strings are LangChain's.

    Raises:
        ConfigurationError: it is not found, or nothing installed can call it.
    """
    found = find_attribute(what)
    if found is None:
        found = _by_provider(what)
    families = {base.__module__.split(".")[0] for base in type(found).__mro__}
    for entry in entry_points(group=MODELS_GROUP):
        if entry.name in families:
            own = (getattr(found, name, None) for name in ("model_name", "model"))
            return entry.load()(found), next((name for name in own if isinstance(name, str)), what)
    if not callable(found):
        raise ConfigurationError(
            f"model {what!r} is of type {type(found).__name__}: expected a function from a prompt to a "
            "cascade_core.Answer, or a model of LangChain or LlamaIndex"
        )
    return found, what


def find_attribute(what: str) -> Any:
    """What ``module:attribute`` names; None where there is no such module or attribute."""
    module, _, attribute = what.partition(":")
    if not attribute.isidentifier():
        return None
    sys.path.insert(0, "")  # a module in the current folder, as with python -m
    try:
        return getattr(import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name and module.split(".")[0] != error.name.split(".")[0]:
            raise ConfigurationError(f"importing {module!r} failed: {error}") from error
        return None
    finally:
        sys.path.remove("")


def _by_provider(what: str) -> Any:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise ConfigurationError(
            f"model {what!r}: {_absent(what)}, and for a provider string such as openai:gpt-5 "
            'LangChain is needed: pip install "cascade-routing[langchain]" langchain and the provider\'s package'
        ) from error
    try:
        return init_chat_model(what)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"model {what!r}: {_absent(what)}, and as a provider string it says: {error}"
        ) from error


def _absent(what: str) -> str:
    module, _, attribute = what.partition(":")
    known = [name for name in getattr(sys.modules.get(module), "__dict__", {}) if not name.startswith("_")]
    near = get_close_matches(attribute, known, n=1)
    if known:
        return f"module {module!r} has no {attribute!r}" + (f" (but {near[0]!r})" if near else "")
    return "there is no such MODULE:ATTRIBUTE"


def percent(share: float) -> str:
    """In percent."""
    return f"{100 * share:.1f} %"


def money(cost: float, unit: str) -> str:
    """A cost per query: US dollars for a thousand of them, which can be read."""
    return f"${1000 * cost:,.4g} / 1,000" if unit == "usd" else f"{cost:,.3g} s"


def quality_head(certificate: Certificate | None) -> str:
    """Head of a column of qualities: what they measure where that is not quality."""
    agreed = None if certificate is None else certificate.agreement_with
    return "quality" if agreed is None else f"agreement with {_plain(agreed)}"


def cost_head(usd_per_second: float) -> str:
    """Head of a column of costs."""
    return "cost with time" if usd_per_second else "cost"


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
