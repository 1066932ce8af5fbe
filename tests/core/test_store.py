"""The store keeps what was paid for: the same claims for SQLite and PostgreSQL."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade_core import Answer, CalibrationError, Usage
from cascade_core.calibration import AnswerTable, Prompt, Store
from cascade_core.calibration.store import GIVEN, fingerprint
from tests.support.postgres import NoPostgresError, postgres

PROMPTS = [Prompt(id="a", text="2+2?", reference="4"), Prompt(id="b", text="3+3?", reference="6")]


@pytest.fixture(scope="module")
def server():
    try:
        with postgres() as url:
            yield url
    except NoPostgresError as why:
        pytest.skip(str(why))


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """A place for an empty store."""
    if request.param == "sqlite":
        return str(tmp_path / "store.sqlite")
    url = request.getfixturevalue("server")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture
def store(where):
    with Store(where) as store:
        store.add_prompts(PROMPTS)
        yield store


def test_an_answer_comes_back_whole(store):
    answer = Answer(
        text="four",
        usage=Usage(input_tokens=5, output_tokens=1),
        latency=0.25,
        logprobs=(-0.5, -math.inf),
        top_logprobs=((-0.5, -1.0), (-0.1,)),
        finish_reason="stop",
        tool_calls=1,
    )
    store.put("a", "small", answer, cost=0.01)
    table = store.table()
    assert table.answers == ((answer,), (None,))
    assert table.cost[0, 0] == 0.01
    assert math.isnan(table.cost[1, 0])
    assert store.prompts() == PROMPTS


def test_any_text_can_be_kept(where):
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.text(st.characters(codec=None), max_size=20), st.integers(0, 10**9))
    def check(text, key):
        with Store(where) as store:
            store.add_prompts([Prompt(id=f"{key}", text="?")])
            store.put(f"{key}", f"{text!r}", Answer(text=text), parameters="x")
            table = store.table([f"{text!r}"], parameters={f"{text!r}": "x"})
            assert Answer(text=text) in [row[0] for row in table.answers]

    check()


def test_an_answer_outlives_its_process(where):
    code = f"""
        import os
        from cascade_core import Answer
        from cascade_core.calibration import Prompt, Store
        store = Store({where!r})
        store.add_prompts([Prompt(id="a", text="2+2?")])
        store.put("a", "small", Answer(text="4"))
        os.kill(os.getpid(), 9)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)])
    assert killed.returncode == -9
    with Store(where, create=False) as store:
        assert store.answered("small") == {"a"}


def test_the_first_answer_stays_and_a_failure_gives_way(store):
    store.fail("a", "small", TimeoutError("said something private"))
    assert store.answered("small") == set()
    assert store.failures() == {"small": {"TimeoutError": 1}}
    store.put("a", "small", Answer(text="first"))
    store.put("a", "small", Answer(text="second"))
    store.fail("a", "small", TimeoutError())
    assert store.table().answers[0][0].text == "first"
    assert store.failures() == {}


def test_other_parameters_are_another_answer(store):
    cold, hot = fingerprint({"temperature": 0}), fingerprint({"temperature": 1})
    store.put("a", "small", Answer(text="cold"), parameters=cold)
    store.put("a", "small", Answer(text="hot"), parameters=hot)
    assert store.table(["small"], parameters={"small": hot}).answers[0][0].text == "hot"
    with pytest.raises(CalibrationError, match="under 2 sets of parameters"):
        store.table(["small"])


def test_scores_are_kept_under_the_scorers_name(store):
    store.put("a", "small", Answer(text="4"))
    store.put_scores("judge", {("a", "small"): 0.5})
    assert store.scores("judge") == {("a", "small"): 0.5}
    assert store.scores("another") == {}
    assert store.table(scorer="judge").quality[0, 0] == 0.5


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl", "answers.parquet"])
def test_export_and_import_round_trip(store, where, tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    store.put("a", "small", Answer(text="4", usage=Usage(input_tokens=3, output_tokens=1)), cost=0.5)
    store.put("b", "large", Answer(text='six, "6"\n', logprobs=(-0.25,)), cost=2)
    store.put_scores(GIVEN, {("a", "small"): 1.0, ("b", "large"): 0.0})
    store.table().write(tmp_path / name)
    read = AnswerTable.read(tmp_path / name)
    with Store(tmp_path / "other.sqlite") as other:
        other.add(read)
        back = other.table(["large", "small"])
    first = store.table(["large", "small"])
    assert back.answers == first.answers
    assert back.queries == first.queries == tuple(PROMPTS)
    assert str(back.quality) == str(first.quality)
    assert str(back.cost) == str(first.cost)


def test_one_id_is_one_prompt(store):
    store.add_prompts(PROMPTS)
    with pytest.raises(CalibrationError, match="'a' with another text or other features"):
        store.add_prompts([Prompt(id="a", text="something else")])


def test_a_reference_can_be_added_and_mended_without_paying_again(store):
    store.put("a", "small", Answer(text="4"))
    store.put("b", "small", Answer(text="6"))
    store.put_scores("judge", {("a", "small"): 0.0, ("b", "small"): 1.0})
    store.put_scores(GIVEN, {("a", "small"): 1.0})
    mended = [Prompt(id="a", text="2+2?", reference="four"), Prompt(id="b", text="3+3?"), Prompt(text="new")]
    store.add_prompts(mended)
    assert [prompt.reference for prompt in store.prompts()] == ["four", "6", None]
    assert store.answered("small") == {"a", "b"}
    assert store.scores("judge") == {("b", "small"): 1.0}, "what was scored by the old reference is forgotten"
    assert store.scores(GIVEN) == {("a", "small"): 1.0}
    store.add_prompts([Prompt(text="new", reference="known now")])
    assert store.prompts()[-1].reference == "known now"


def test_two_collectors_do_not_share_a_store(store, where):
    busy = pytest.raises(CalibrationError, match=r"another collection is running.*Nothing was called")
    with Store(where) as other, store.collecting(), busy, other.collecting():
        pass
    with Store(where) as other, other.collecting():
        pass


def test_a_store_of_another_schema_version_is_refused(store, where):
    engine = sa.create_engine(where if "://" in where else f"sqlite:///{where}")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE cascade_meta SET value = '99'"))
    engine.dispose()
    with pytest.raises(CalibrationError, match=r"schema version 99, this release reads version 1: export it"):
        Store(where)


def test_a_store_without_answers_says_so(store):
    with pytest.raises(CalibrationError, match="no answers: collect some first"):
        store.table()
    with pytest.raises(CalibrationError, match="no answer of model 'large'"):
        store.table(["large"])


def test_a_full_disk_is_an_error_that_says_so_and_keeps_the_rest(tmp_path):
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.add_prompts(PROMPTS)
        store.put("a", "small", Answer(text="kept"))
        sa.event.listen(
            store._engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1")
        )
        with pytest.raises(
            CalibrationError, match=r"database or disk is full.*Answers kept before are still there"
        ):
            store.put("b", "small", Answer(text="x" * 1_000_000))
    with Store(path) as store:
        assert store.answered("small") == {"a"}


def test_a_file_that_is_no_store_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look like one " * 100)
    with pytest.raises(CalibrationError, match="file is not a database"):
        Store(path)
    with pytest.raises(CalibrationError, match="there is no store at"):
        Store(tmp_path / "absent.sqlite", create=False)
    with pytest.raises(CalibrationError, match="not supported"):
        Store("mysql://host/name")
    with pytest.raises(CalibrationError, match="cannot open the store"):
        Store(tmp_path / "no" / "such" / "folder.sqlite")


def test_a_password_is_not_in_any_message(tmp_path):
    with pytest.raises(CalibrationError) as caught:
        Store("postgresql://user:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


def test_the_lock_of_a_killed_collector_is_gone(tmp_path):
    path = str(tmp_path / "store.sqlite")
    code = f"""
        import os
        from cascade_core.calibration import Store
        with Store({path!r}).collecting():
            os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)])
    with Store(path) as store, store.collecting():
        pass


def test_the_store_is_a_plain_database(store, where):
    store.put("a", "small", Answer(text="4"))
    engine = sa.create_engine(where if "://" in where else f"sqlite:///{where}")
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT prompt_id, model FROM cascade_answers")).all()
    engine.dispose()
    assert rows == [("a", "small")]
