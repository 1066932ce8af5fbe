"""Collecting pays for every answer once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import textwrap
import threading

import pytest
import sqlalchemy as sa

from cascade_core import Answer, CalibrationError, ConfigurationError, Price, Query, Usage
from cascade_core.calibration import Prompt, Store, acollect, collect, plan
from cascade_core.calibration.collection import Progress

PROMPTS = [f"question {number}" for number in range(20)]
PRICES = {"small": Price(input=1, output=2), "large": Price(input=10, output=20)}


class Model:
    """Counts its calls, and how many ran at a time."""

    usage = Usage(input_tokens=100, output_tokens=100)

    def __init__(self, say=str.upper):
        self.say = say
        self.asked: list[str] = []
        self.running = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, prompt: Prompt) -> Answer:
        with self.lock:
            self.asked.append(prompt.text)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return Answer(text=self.say(prompt.text), usage=self.usage)
        finally:
            with self.lock:
                self.running -= 1


class AsyncModel(Model):
    async def __call__(self, prompt: Prompt) -> Answer:
        self.asked.append(prompt.text)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return Answer(text=self.say(prompt.text), usage=self.usage)


def failing(text: str) -> str:
    raise ConnectionError("the provider is down")


@pytest.fixture
def store():
    with Store(":memory:") as store:
        yield store


@pytest.mark.parametrize("kind", [Model, AsyncModel])
def test_every_model_answers_every_prompt_once(store, kind):
    models = {"small": kind(), "large": kind(str.lower)}
    first = collect(models, PROMPTS, store, prices=PRICES)
    again = collect(models, [*PROMPTS, "one more"], store, prices=PRICES)
    assert sorted(models["small"].asked) == sorted([*PROMPTS, "one more"])
    assert first.calls == 40
    assert again.calls == 2
    assert first.stopped == "complete"
    assert [row[0].text for row in first.table.answers] == [text.upper() for text in PROMPTS]
    assert first.spent == pytest.approx(20 * 100 * (3 + 30) / 1e6)
    assert first.table.cost[0].tolist() == pytest.approx([0.0003, 0.003])


def test_the_answers_latency_is_measured_where_the_model_does_not_say(store):
    table = collect({"small": Model(), "large": AsyncModel()}, PROMPTS, store).table
    assert all(answer.latency is not None for row in table.answers for answer in row)


@pytest.mark.parametrize("kind", [Model, AsyncModel])
def test_no_more_calls_at_a_time_than_allowed(store, kind):
    models = {"small": kind(), "large": kind()}
    collect(models, PROMPTS, store, concurrency={"small": 3, "large": 1})
    assert models["small"].most <= 3
    assert models["large"].most == 1


async def test_a_blocking_model_does_not_block_an_async_one(store):
    done = threading.Event()

    def waits(prompt):
        assert done.wait(timeout=300)
        return Answer(text="at last")

    async def tells(prompt):
        done.set()
        return Answer(text="now")

    collected = await acollect({"waits": waits, "tells": tells}, ["?"], store)
    assert [answer.text for answer in collected.table.answers[0]] == ["at last", "now"]


async def test_collect_works_inside_a_running_loop_as_in_a_notebook(store):
    assert collect({"a": Model(), "b": AsyncModel()}, ["?"], store).calls == 2


def test_max_spend_stops_before_it_is_passed_and_a_rerun_goes_on(store):
    models = {"small": Model(), "large": Model()}
    limit = 0.0101
    first = collect(models, PROMPTS, store, prices=PRICES, max_spend=limit, concurrency=1)
    assert first.stopped == "max_spend"
    assert 0 < first.spent <= limit
    rest = collect(models, PROMPTS, store, prices=PRICES)
    assert rest.stopped == "complete"
    assert first.calls + rest.calls == 40
    assert len(models["large"].asked) == 20


def test_max_spend_needs_every_price(store):
    with pytest.raises(
        ConfigurationError, match="max_spend needs the price of every model, and 'large' has none"
    ):
        collect(
            {"small": Model(), "large": Model()},
            PROMPTS,
            store,
            prices={"small": PRICES["small"]},
            max_spend=1,
        )


def test_the_plan_says_what_a_run_will_cost_and_learns_from_answers(store):
    queries = [Query(text="x" * 396)]  # 100 tokens of input
    before = plan(["small", "large"], queries, store, prices=PRICES)
    assert before.calls == {"small": 1, "large": 1}
    assert before.dollars == pytest.approx({"small": 100e-6 + 400e-6, "large": 1000e-6 + 4000e-6})
    assert plan(["small", "large"], queries, store, prices={}).total is None
    collect({"small": Model(), "large": Model()}, PROMPTS, store, prices=PRICES)
    after = plan(["small", "large"], [*PROMPTS, "question 99"], store, prices=PRICES)
    assert after.total_calls == 2
    assert after.total == pytest.approx(100e-6 + 200e-6 + 1000e-6 + 2000e-6, rel=0.01)


@pytest.mark.parametrize("kind", [Model, AsyncModel])
def test_a_model_that_dies_is_named_and_the_rest_is_kept(store, kind):
    models = {"small": Model(), "dead": kind(failing) if kind is Model else Model(failing)}
    with pytest.raises(CalibrationError) as caught:
        collect(models, PROMPTS, store)
    message = str(caught.value)
    assert "model 'dead' failed" in message
    assert "ConnectionError: the provider is down" in message
    assert "What was collected is in the store" in message
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert len(store.answered("small")) == len(models["small"].asked)
    assert store.failures()["dead"].keys() == {"ConnectionError"}


def test_one_failed_call_leaves_a_gap_that_the_next_run_fills(store):
    broken = ["question 7"]

    def say(text):
        if text in broken:
            raise ValueError("refused")
        return text

    models = {"small": Model(), "large": Model(say)}
    first = collect(models, PROMPTS, store)
    assert first.failed == {"large": 1}
    assert [row[1] is None for row in first.table.answers] == [text in broken for text in PROMPTS]
    broken.clear()
    assert collect(models, PROMPTS, store).calls == 1


def test_the_store_keeps_no_message_of_a_provider(tmp_path):
    def say(text):
        raise ValueError(f"bad key sk-123 for {text}")

    with Store(tmp_path / "store.sqlite") as store, pytest.raises(CalibrationError):
        collect({"small": Model(), "dead": Model(say)}, PROMPTS, store)
    assert not any(b"sk-123" in path.read_bytes() for path in tmp_path.iterdir())


def test_a_model_that_returns_no_answer_is_told_what_to_return(store):
    with pytest.raises(CalibrationError, match=r"returned str, expected a cascade_core\.Answer"):
        collect({"small": Model(), "text": lambda prompt: "just text"}, PROMPTS, store)


def test_progress_counts_calls_and_money(store):
    seen: list[Progress] = []
    collect({"small": Model(), "large": AsyncModel()}, PROMPTS, store, prices=PRICES, progress=seen.append)
    assert [progress.done for progress in seen] == list(range(41))
    assert {progress.total for progress in seen} == {40}
    assert seen[-1].spent == pytest.approx(seen[-1].expected) == pytest.approx(20 * 100 * 33e-6)
    assert seen[-1].rate > 0


def test_the_bar_draws(store, capsys):
    collect({"small": Model(), "large": Model()}, PROMPTS, store, prices=PRICES, progress=True)
    assert "40/40" in capsys.readouterr().err


def test_a_full_disk_stops_the_run_and_keeps_what_was_collected(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        collect({"small": Model(), "large": Model()}, PROMPTS[:3], store)
        sa.event.listen(store._engine, "begin", lambda c: c.exec_driver_sql("PRAGMA max_page_count=1"))
        long = Model(lambda text: "x" * 100_000)
        with pytest.raises(CalibrationError, match="disk is full"):
            collect({"small": long, "large": Model()}, PROMPTS, store, concurrency=1)
        assert len(long.asked) < 5
    with Store(tmp_path / "store.sqlite") as store:
        assert len(store.answered("small")) >= 3


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "there are no prompts"),
        (["fine", "  "], "prompt 2 is empty"),
        (
            [{"id": "1", "query": "a"}, {"id": "1", "query": "b"}],
            "prompt 2 has the id '1' of an earlier prompt",
        ),
        (["fine", 7], "prompt 2 is of type int"),
        ([{"wrong": "a"}], "prompt 1 has no text"),
        ("one text", "must be a list"),
    ],
)
def test_bad_prompts_are_refused_before_anything_is_paid_for(store, prompts, message):
    model = Model()
    with pytest.raises(CalibrationError, match=message):
        collect({"small": model, "large": model}, prompts, store)
    assert model.asked == []


def test_duplicate_prompts_are_asked_once(store):
    models = {"small": Model(), "large": Model()}
    collected = collect(models, ["same", "same", "other"], store)
    assert models["small"].asked == ["same", "other"]
    assert len(collected.table) == 2


def test_one_model_is_not_enough(store):
    with pytest.raises(ConfigurationError, match="only one model"):
        collect({"small": Model()}, PROMPTS, store)


def test_two_collectors_on_one_store_one_is_told_to_wait(tmp_path):
    path = tmp_path / "store.sqlite"
    model = Model()
    busy = pytest.raises(CalibrationError, match="another collection is running")
    with Store(path) as store, Store(path) as other, other.collecting(), busy:
        collect({"small": model, "large": model}, PROMPTS, store)
    assert model.asked == []


KILLED = """
    import json, os, sys
    from cascade_core import Answer
    from cascade_core.calibration import Store, collect

    where, log, fatal = sys.argv[1], sys.argv[2], int(sys.argv[3])
    calls = 0

    def model(name):
        def ask(prompt):
            global calls
            with open(log, "a") as lines:
                print(json.dumps([name, prompt.text]), file=lines, flush=True)
            calls += 1
            if calls == fatal:
                os.kill(os.getpid(), 9)
            return Answer(text=name + prompt.text)
        return ask

    with Store(where) as store:
        collect({"small": model("small"), "large": model("large")}, [str(n) for n in range(20)], store, concurrency=2)
"""


def test_kill_9_at_random_points_loses_only_the_calls_in_flight(tmp_path):
    where, log = tmp_path / "store.sqlite", tmp_path / "calls.jsonl"
    draw = random.Random(0)
    kills = 0
    for _ in range(40):
        fatal = draw.randint(1, 16)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(where), str(log), str(fatal)]
        )
        if done.returncode == 0:
            break
        assert done.returncode == -9
        kills += 1
    assert kills >= 3
    calls = [tuple(json.loads(line)) for line in log.read_text().splitlines()]
    with Store(where) as store:
        table = store.table(["small", "large"])
    assert [[answer.text for answer in row] for row in table.answers] == [
        [f"small{n}", f"large{n}"] for n in range(20)
    ]
    # 40 answers; each kill may have cost the four calls in flight, and no answer was paid for twice otherwise.
    assert set(calls) == {(name, str(n)) for name in ("small", "large") for n in range(20)}
    assert len(calls) - 40 <= 4 * kills


def test_ctrl_c_keeps_the_answers_of_calls_in_flight(tmp_path):
    code = """
        import os, signal, sys
        from cascade_core import Answer
        from cascade_core.calibration import Store, collect
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with `&` ignores Ctrl-C
        interrupted = False

        def ask(prompt):
            global interrupted
            if not interrupted:
                interrupted = True
                os.kill(os.getpid(), signal.SIGINT)
            return Answer(text="paid for")

        with Store(sys.argv[1]) as store:
            collect({"small": ask, "large": ask}, [str(n) for n in range(200)], store, concurrency=2)
    """
    where = tmp_path / "store.sqlite"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(where)], stderr=subprocess.PIPE)
    assert b"KeyboardInterrupt" in done.stderr
    with Store(where) as store:
        kept = len(store.answered("small")) + len(store.answered("large"))
    assert 1 <= kept < 400
