"""Where paid-for answers are kept: a SQLite file, or PostgreSQL by URL.

Three tables hold prompts, answers and scores. An answer is keyed by its prompt, the model's name and the model's
parameters, so that a changed temperature is another answer and a rerun pays for nothing twice. Each answer is
committed on its own before the next call starts. Texts are kept as JSON with every character escaped that a
database might refuse, so that nothing a model says can be lost on the way in.

The store holds the prompts and answers themselves; protect it as you do those.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from cascade_core.calibration.prompts import Prompt
from cascade_core.calibration.table import AnswerTable
from cascade_core.errors import CalibrationError
from cascade_core.values import Answer, Price, Query, Usage

SCHEMA_VERSION = 1
GIVEN = "given"
"""Name under which scores are kept that came with imported answers."""

_LOCK = 0x63617363  # PostgreSQL's advisory locks are numbers; this one is taken by whoever collects.

_metadata = sa.MetaData()
_meta = sa.Table(
    "cascade_meta", _metadata, sa.Column("name", sa.String, primary_key=True), sa.Column("value", sa.String)
)
_prompts = sa.Table(
    "cascade_prompts",
    _metadata,
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("prompt", sa.Text, nullable=False),
)
_answers = sa.Table(
    "cascade_answers",
    _metadata,
    sa.Column("prompt_id", sa.String, primary_key=True),
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("parameters", sa.String, primary_key=True),
    sa.Column("answer", sa.Text),
    sa.Column("cost", sa.Float),
    sa.Column("error", sa.String),
    sa.Column("at", sa.Float, nullable=False),
)
_scores = sa.Table(
    "cascade_scores",
    _metadata,
    sa.Column("prompt_id", sa.String, primary_key=True),
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("parameters", sa.String, primary_key=True),
    sa.Column("scorer", sa.String, primary_key=True),
    sa.Column("score", sa.Float, nullable=False),
)


class Store:
    """Prompts, answers and scores in a database.

    Args:
        where: path of a SQLite file, or a database URL such as ``postgresql+psycopg://user@host/name``.
        create: make the store if it is not there; False raises instead.

    Raises:
        CalibrationError: the store cannot be opened, is none, or has another schema version.

    Example:
        >>> store = Store(":memory:")
        >>> store.add_prompts([Prompt(id="1", text="2+2?")])
        >>> store.put("1", "small", Answer(text="4"), cost=0.001)
        >>> store.table().answers[0][0].text
        '4'
    """

    def __init__(self, where: str | os.PathLike[str], *, create: bool = True) -> None:
        self._where = os.fspath(where)
        self._file: str | None = None
        if "://" not in self._where:
            self._file = self._where
            if self._file != ":memory:" and not create and not os.path.exists(self._file):
                raise CalibrationError(f"there is no store at {self._file}: collect answers first")
        self._engine = self._open()
        self._memory_lock = threading.Lock()
        # A store in memory is one connection, which threads take in turns.
        self._turn: Any = threading.RLock() if self._file == ":memory:" else nullcontext()
        with self._explained("open"):
            self._prepare()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        """Itself; closed at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()

    # -- writing -------------------------------------------------------------------------------------------------

    def add_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Keep prompts; those already there stay, but for a reference that is new: that takes the old one's place.

        Answers do not depend on references, so that a label may be added or mended at any time. Scores that were kept
        for the old one are dropped.

        Raises:
            CalibrationError: a prompt's id is in the store with another text or other features.
        """
        new = {prompt.key: _dump(prompt) for prompt in prompts}
        mended: list[dict[str, str]] = []
        with self._explained("write to"), self._engine.begin() as connection:
            known = {
                row.id: row.prompt for row in connection.execute(sa.select(_prompts.c.id, _prompts.c.prompt))
            }
            for key, text in new.items():
                if known.get(key, text) == text:
                    continue
                old, own = json.loads(known[key]), json.loads(text)
                before, now = old.pop("reference", None), own.pop("reference", None)
                if old != own:
                    raise CalibrationError(
                        f"the store already has a prompt {key!r} with another text or other features: give the "
                        "prompt another id, or use another store"
                    )
                if now is not None and now != before:
                    mended.append({"key": key, "with_reference": text})
            if mended:
                this: sa.BindParameter[str] = sa.bindparam("key")
                connection.execute(
                    sa.update(_prompts)
                    .where(_prompts.c.id == this)
                    .values(prompt=sa.bindparam("with_reference")),
                    mended,
                )
                connection.execute(
                    sa.delete(_scores).where(_scores.c.prompt_id == this, _scores.c.scorer != GIVEN),
                    [{"key": row["key"]} for row in mended],
                )
            rows = [{"id": key, "prompt": text} for key, text in new.items() if key not in known]
            if rows:
                connection.execute(self._insert(_prompts).on_conflict_do_nothing(), rows)

    def put(
        self, prompt: str, model: str, answer: Answer, *, cost: float | None = None, parameters: str = ""
    ) -> None:
        """Keep an answer, committed when this returns. An answer already there stays; a failure is replaced.

        Args:
            prompt: id of the prompt.
            model: the model's name.
            answer: what it returned.
            cost: what the call cost in US dollars, checks of the answer included; None if not known.
            parameters: fingerprint of the model's parameters, see :func:`fingerprint`.
        """
        self._put(prompt, model, parameters, answer=_dump(answer), cost=cost, error=None)

    def fail(
        self,
        prompt: str,
        model: str,
        error: BaseException,
        *,
        parameters: str = "",
        begun: Answer | None = None,
    ) -> None:
        """Remember that a call failed: the error's type, never its message, which may quote the prompt or a key.

        ``begun`` is an answer that was paid for, where only its check failed; see :meth:`begun`.
        """
        answer = None if begun is None else _dump(begun)
        self._put(prompt, model, parameters, answer=answer, cost=None, error=type(error).__name__)

    def put_scores(
        self,
        scorer: str,
        scores: Mapping[tuple[str, str], float],
        *,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        """Keep scores, by prompt id and model, under the scorer's name."""
        rows = [
            {
                "prompt_id": prompt,
                "model": model,
                "parameters": (parameters or {}).get(model, ""),
                "scorer": scorer,
                "score": float(score),
            }
            for (prompt, model), score in scores.items()
        ]
        if rows:
            with self._explained("write to"), self._engine.begin() as connection:
                connection.execute(self._insert(_scores).on_conflict_do_nothing(), rows)

    def add(self, table: AnswerTable) -> None:
        """Import a table of answers, their costs, and their quality as given scores."""
        self.add_prompts(Prompt(**{**query.model_dump(), "id": query.key}) for query in table.queries)
        scores: dict[tuple[str, str], float] = {}
        rows: list[dict[str, Any]] = []
        for n, query in enumerate(table.queries):
            for k, model in enumerate(table.models):
                answer, cost = table.answers[n][k], float(table.billed[n, k])
                if answer is not None or not math.isnan(cost):
                    text = None if answer is None else _dump(answer)
                    rows.append(_row(query.key, model, "", text, None if math.isnan(cost) else cost, None))
                if not math.isnan(table.quality[n, k]):
                    scores[query.key, model] = float(table.quality[n, k])
        if rows:
            with self._explained("write to"), self._engine.begin() as connection:
                connection.execute(self._insert(_answers).on_conflict_do_nothing(), rows)
        self.put_scores(GIVEN, scores)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Hold the store for collection: one collector at a time, so that no call is paid for twice.

        The lock is the operating system's (SQLite) or the connection's (PostgreSQL): a killed collector leaves
        none behind.

        Raises:
            CalibrationError: another collector holds the store.
        """
        busy = CalibrationError(
            f"another collection is running on the store {self.name}: wait until it ends, or use another store. "
            "Nothing was called"
        )
        if self._engine.dialect.name == "postgresql":
            with self._explained("lock"), self._engine.connect() as connection:
                if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_LOCK))):
                    raise busy
                try:
                    yield
                finally:
                    with suppress(SQLAlchemyError):  # a lost connection has released the lock itself
                        connection.scalar(sa.select(sa.func.pg_advisory_unlock(_LOCK)))
        elif self._file == ":memory:":
            if not self._memory_lock.acquire(blocking=False):
                raise busy
            try:
                yield
            finally:
                self._memory_lock.release()
        else:
            # A file beside the store: a lock on the store itself would keep the answers out.
            lock = sqlite3.connect(f"{self._engine.url.database}.lock", timeout=0, isolation_level=None)
            try:
                try:
                    lock.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError as error:
                    raise busy from error
                yield
            finally:
                lock.close()

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Where the store is, without a password."""
        return self._engine.url.render_as_string(hide_password=True) if self._file is None else self._file

    def prompts(self) -> list[Prompt]:
        """All prompts, in the order they came in."""
        with self._explained("read"), self._engine.connect() as connection:
            texts = connection.scalars(sa.select(_prompts.c.prompt).order_by(_prompts.c.position)).all()
        return [Prompt.model_validate(json.loads(text)) for text in texts]

    def answered(self, model: str, *, parameters: str = "") -> set[str]:
        """Ids of the prompts that a model has answered; failed calls do not count."""
        wanted = sa.select(_answers.c.prompt_id).where(
            _answers.c.model == model, _answers.c.parameters == parameters, _answers.c.error.is_(None)
        )
        with self._explained("read"), self._engine.connect() as connection:
            return set(connection.scalars(wanted))

    def begun(self, model: str, *, parameters: str = "") -> dict[str, Answer]:
        """Answers by prompt id whose check has failed: they need not be asked for again."""
        wanted = sa.select(_answers.c.prompt_id, _answers.c.answer).where(
            _answers.c.model == model,
            _answers.c.parameters == parameters,
            _answers.c.error.is_not(None),
            _answers.c.answer.is_not(None),
        )
        with self._explained("read"), self._engine.connect() as connection:
            rows = connection.execute(wanted).all()
        return {row.prompt_id: Answer.model_validate(json.loads(row.answer)) for row in rows}

    def failures(self) -> dict[str, dict[str, int]]:
        """Number of failed calls by model and type of error."""
        count = sa.select(_answers.c.model, _answers.c.error, sa.func.count()).where(
            _answers.c.error.is_not(None)
        )
        found: dict[str, dict[str, int]] = {}
        with self._explained("read"), self._engine.connect() as connection:
            for model, error, number in connection.execute(
                count.group_by(_answers.c.model, _answers.c.error)
            ):
                found.setdefault(model, {})[error] = number
        return found

    def scores(
        self, scorer: str, *, parameters: Mapping[str, str] | None = None
    ) -> dict[tuple[str, str], float]:
        """Scores kept under a scorer's name, by prompt id and model."""
        wanted = sa.select(_scores.c.prompt_id, _scores.c.model, _scores.c.parameters, _scores.c.score)
        with self._explained("read"), self._engine.connect() as connection:
            rows = connection.execute(wanted.where(_scores.c.scorer == scorer)).all()
        return {
            (prompt, model): score
            for prompt, model, under, score in rows
            if parameters is None or parameters.get(model, "") == under
        }

    def table(
        self,
        models: Sequence[str] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
        prompts: Sequence[Prompt] | None = None,
        prices: Mapping[str, Price | None] | None = None,
        unit: Literal["usd", "seconds"] = "usd",
        scorer: str = GIVEN,
    ) -> AnswerTable:
        """The answers as a table, with the scores kept under ``scorer`` as quality and NaN where there are none.

        Args:
            models: which models, in this order; None for all, in alphabetical order.
            parameters: fingerprint of each model's parameters. Needed where a model has answers under several.
            prompts: which prompts; None for all.
            prices: by model name; costs are reckoned by them rather than those in force when the answers were given.
            unit: ``"usd"`` takes the costs kept with the answers, ``"seconds"`` their latency; checks are in either.
                For both, with a price of time, see :meth:`AnswerTable.with_time`.
            scorer: whose scores.

        Raises:
            CalibrationError: no answer, an unknown model, or a model with several sets of parameters.
        """
        with self._explained("read"), self._engine.connect() as connection:
            rows = connection.execute(
                sa.select(
                    _answers.c.prompt_id,
                    _answers.c.model,
                    _answers.c.parameters,
                    _answers.c.answer,
                    _answers.c.cost,
                ).where(_answers.c.error.is_(None))
            ).all()
        if parameters is not None:
            rows = [row for row in rows if parameters.get(row.model, "") == row.parameters]
        under: dict[str, set[str]] = {}
        for row in rows:
            under.setdefault(row.model, set()).add(row.parameters)
        names = tuple(sorted(under) if models is None else models)
        for model in names:
            if model not in under:
                raise CalibrationError(
                    f"the store has no answer of model {model!r}; it has some of {sorted(under)}"
                )
            if len(under[model]) > 1:
                raise CalibrationError(
                    f"the store has answers of model {model!r} under {len(under[model])} sets of parameters: "
                    "say which one is meant"
                )
        if not names:
            raise CalibrationError(f"the store {self.name} has no answers: collect some first")
        queries = self.prompts() if prompts is None else list(prompts)
        place = {prompt.key: n for n, prompt in enumerate(queries)}
        column = {model: k for k, model in enumerate(names)}
        answers: list[list[Answer | None]] = [[None] * len(names) for _ in queries]
        quality = np.full((len(queries), len(names)), np.nan)
        cost = np.full_like(quality, np.nan)
        for row in rows:
            if row.model not in column or row.prompt_id not in place:
                continue
            n, k = place[row.prompt_id], column[row.model]
            answer = None if row.answer is None else Answer.model_validate(json.loads(row.answer))
            answers[n][k] = answer
            spent = row.cost
            price = (prices or {}).get(row.model)
            if unit == "seconds":
                spent = None if answer is None else answer.seconds
            elif answer is not None and price is not None:
                answer = answers[n][k] = repriced(answer, prices or {})
                spent = dollars(queries[n], answer, price)
            cost[n, k] = np.nan if spent is None else spent
        kept = {model: next(iter(under[model])) for model in names}
        for (prompt, model), score in self.scores(scorer, parameters=kept).items():
            if model in column and prompt in place:
                quality[place[prompt], column[model]] = score
        return AnswerTable(tuple(queries), names, tuple(tuple(row) for row in answers), quality, cost, unit)

    # -- the database --------------------------------------------------------------------------------------------

    def _put(
        self,
        prompt: str,
        model: str,
        parameters: str,
        *,
        answer: str | None,
        cost: float | None,
        error: str | None,
    ) -> None:
        row = _row(prompt, model, parameters, answer, cost, error)
        insert = self._insert(_answers).values(row)
        insert = insert.on_conflict_do_update(
            index_elements=["prompt_id", "model", "parameters"],
            set_={name: insert.excluded[name] for name in ("answer", "cost", "error", "at")},
            where=_answers.c.error.is_not(None),
        )
        with self._explained("write to"), self._engine.begin() as connection:
            connection.execute(insert)

    def _insert(self, table: sa.Table) -> Any:
        return (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)

    def _open(self) -> sa.Engine:
        try:
            url = (
                make_url(self._where) if self._file is None else sa.URL.create("sqlite", database=self._file)
            )
            if url.get_backend_name() not in ("sqlite", "postgresql"):
                raise CalibrationError(
                    f"a store on {url.get_backend_name()!r} is not supported: give a file's path for SQLite, or a "
                    "postgresql:// URL"
                )
            if url.drivername == "postgresql":  # SQLAlchemy's default driver is the older psycopg2
                url = url.set(drivername="postgresql+psycopg")
            if url.get_backend_name() == "postgresql":
                return sa.create_engine(url, pool_pre_ping=True)
            self._file = url.database or ":memory:"
            options: dict[str, Any] = {"connect_args": {"timeout": 30, "check_same_thread": False}}
            if self._file == ":memory:":
                options["poolclass"] = sa.StaticPool
            engine = sa.create_engine(url, **options)
        except (ArgumentError, NoSuchModuleError) as error:
            raise CalibrationError(
                f"{self._where!r} is no store: give a file's path for SQLite, or a postgresql:// URL"
            ) from error
        except ImportError as error:
            raise CalibrationError(
                'a store on PostgreSQL needs a driver: pip install "cascade-routing[postgres]"'
            ) from error
        event.listen(engine, "connect", _durable)
        return engine

    def _prepare(self) -> None:
        for attempt in (1, 2):
            try:
                with self._engine.begin() as connection:
                    if not sa.inspect(connection).has_table(_meta.name):
                        _metadata.create_all(connection)
                        connection.execute(
                            self._insert(_meta).values(name="schema_version", value=str(SCHEMA_VERSION))
                        )
                    found = connection.scalar(
                        sa.select(_meta.c.value).where(_meta.c.name == "schema_version")
                    )
                break
            except DBAPIError:
                if attempt == 2:  # the first time, another process may have made the tables meanwhile
                    raise
        if found != str(SCHEMA_VERSION):
            raise CalibrationError(
                f"the store {self.name} has schema version {found}, this release reads version {SCHEMA_VERSION}: "
                "export it with the release that wrote it, or use another store"
            )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            with self._turn:
                yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            first = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
            raise CalibrationError(
                f"cannot {what} the store {self.name}: {first}. Answers kept before are still there: free space or "
                "repair the connection, and run again"
            ) from error


def estimated_usage(prompt: Query, answer: Answer) -> Usage:
    """The answer's usage, or four characters a token where the provider does not report it."""
    return answer.usage or Usage.estimated(prompt.sent_chars, answer.text)


def dollars(prompt: Query, answer: Answer, price: Price) -> float:
    """What an answer cost, by its model's price and the tokens; with what checking it cost."""
    return price.dollars(estimated_usage(prompt, answer)) + answer.check_dollars


def repriced(answer: Answer, prices: Mapping[str, Price | None]) -> Answer:
    """The answer with the calls that checked it at these prices."""
    if not answer.check_calls:
        return answer
    calls = []
    for call in answer.check_calls:
        price = prices.get(call.model)
        if price is not None and call.usage is not None:
            call = call.model_copy(update={"cost": price.dollars(call.usage)})
        calls.append(call)
    return answer.model_copy(update={"check_calls": tuple(calls)})


def input_tokens(prompt: Query) -> int:
    """A token for every four characters sent."""
    return Usage.estimated(prompt.sent_chars, "").input_tokens


def fingerprint(parameters: Mapping[str, Any] | None) -> str:
    """Short stable name of a model's parameters, as part of an answer's key; empty for none.

    Example:
        >>> fingerprint({"temperature": 0}) == fingerprint({"temperature": 1}), fingerprint({})
        (False, '')
    """
    import hashlib

    if not parameters:
        return ""
    text = json.dumps(parameters, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _row(
    prompt: str, model: str, parameters: str, answer: str | None, cost: float | None, error: str | None
) -> dict[str, Any]:
    return {
        "prompt_id": prompt,
        "model": model,
        "parameters": parameters,
        "answer": answer,
        "cost": cost,
        "error": error,
        "at": time.time(),
    }


def _dump(value: Prompt | Answer) -> str:
    return json.dumps(value.model_dump(exclude_defaults=True), sort_keys=True)


def _durable(connection: Any, _record: object) -> None:
    """SQLite: readers beside the one writer, and every commit on the disk."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
