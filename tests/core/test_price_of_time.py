"""Cost as money and seconds: time is counted once, online as offline, and told from what is billed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cascade_core import (
    Answer,
    CalibrationError,
    Call,
    ConfigurationError,
    Limits,
    ModelSpec,
    Policy,
    Price,
    Query,
    Usage,
)
from cascade_core.calibration import (
    AnswerTable,
    Calibration,
    Prompt,
    RelativeQuality,
    Savings,
    Store,
    calibrate,
    calibrate_table,
    check,
    collect,
    evaluate,
    fit,
)
from cascade_core.cli import app
from cascade_core.cli.sample import MODELS, sample_table
from cascade_core.report import figures
from cascade_core.strategies import SingleModel

RATE = 0.01
WAIT = {"small": 20.0, "medium": 0.5, "large": 1.0}
USAGE = Usage(input_tokens=1000, output_tokens=100)


def queue_for_small(queries: int = 300, seed: int = 0) -> AnswerTable:
    """The sample's answers, but the cheapest model makes its users wait; no answer says what it was billed."""
    rows = []
    for row in sample_table(queries, seed=seed).to_rows():
        del row["cost"]
        rows.append(row | {"latency": WAIT[row["model"]]})
    return AnswerTable.from_rows(rows, prices=MODELS)


@pytest.fixture(scope="module")
def table() -> AnswerTable:
    return queue_for_small()


@pytest.fixture(scope="module")
def by_money(table: AnswerTable) -> Calibration:
    return calibrate_table(table, RelativeQuality(0.9), prices=MODELS)


@pytest.fixture(scope="module")
def timed(table: AnswerTable) -> Calibration:
    return calibrate_table(table.with_time(RATE), RelativeQuality(0.9), prices=MODELS)


# -- the table -----------------------------------------------------------------------------------------------------

CELL = st.fixed_dictionaries(
    {"cost": st.floats(0, 10), "latency": st.one_of(st.none(), st.floats(0, 1e3))},
)
PRICE = st.one_of(st.just(0.0), st.floats(1e-6, 1e3))


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5), PRICE, PRICE)
@settings(max_examples=60, deadline=None)
def test_costs_are_linear_in_the_price_of_time_and_never_negative(
    cells: list, one: float, other: float
) -> None:
    rows = [
        {"query_id": n, "query": "?", "model": model, **cell}
        for n, pair in enumerate(cells)
        for model, cell in zip("ab", pair, strict=True)
    ]
    money = AnswerTable.from_rows(rows)
    assert money.with_time(0.0) is money
    priced = money.with_time(one)
    assert not (priced.cost < 0).any()
    assert not (priced.billed < 0).any()
    expected = money.cost + one * money.latency if one else money.cost
    np.testing.assert_allclose(priced.cost, expected)
    assert priced.with_time(one) is priced  # once, never twice
    if one:
        known = np.isfinite(money.latency)
        np.testing.assert_allclose(priced.billed[known], money.cost[known], atol=1e-9)
        np.testing.assert_allclose(
            priced.with_time(other).cost[known], money.with_time(other).cost[known], atol=1e-9
        )


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_a_file_holds_money_and_seconds_apart(table: AnswerTable, tmp_path: Path, ending: str) -> None:
    table.with_time(RATE).write(tmp_path / f"table{ending}")
    read = AnswerTable.read(tmp_path / f"table{ending}")
    np.testing.assert_allclose(read.cost, table.cost)
    np.testing.assert_allclose(read.with_time(RATE).cost, table.with_time(RATE).cost)


def test_seconds_are_known_without_the_answers_text(tmp_path: Path) -> None:
    rows = [{"query_id": 1, "query": "?", "model": "a", "cost": 0.5, "latency": 3.0}]
    table = AnswerTable.from_rows(rows)
    table.with_time(2.0).write(tmp_path / "table.csv")
    assert AnswerTable.read(tmp_path / "table.csv").with_time(2.0).cost.tolist() == [[6.5]]


def test_a_file_of_dollars_read_in_seconds_is_not_taken_for_one_of_seconds() -> None:
    rows = [{"query_id": 1, "query": "?", "model": "a", "cost": 0.5, "latency": 3.0}]
    assert AnswerTable.from_rows(rows, unit="seconds").cost.tolist() == [[3.0]]


def test_parts_of_a_table_keep_the_price_and_the_seconds(table: AnswerTable) -> None:
    part = table.with_time(RATE).subset([3, 1]).select(["large", "small"])
    assert part.usd_per_second == RATE
    assert part.billed == pytest.approx(table.cost[[3, 1]][:, [2, 0]])


def test_a_store_keeps_money_and_answers_in_either(table: AnswerTable) -> None:
    with Store(":memory:") as store:
        store.add(table.with_time(RATE))
        kept = store.table(list(table.models))
        assert kept.cost == pytest.approx(table.cost)
        assert kept.with_time(RATE).cost == pytest.approx(table.with_time(RATE).cost)


@pytest.mark.parametrize("price", [-0.1, float("nan"), float("inf")])
def test_a_price_of_time_is_a_number_of_dollars(table: AnswerTable, price: float) -> None:
    with pytest.raises(ConfigurationError, match="usd_per_second"):
        table.with_time(price)
    with pytest.raises(ConfigurationError, match="usd_per_second"):
        policy(usd_per_second=price)


def test_seconds_have_no_price_in_seconds(tmp_path: Path) -> None:
    rows = [{"query_id": 1, "query": "?", "model": "a", "latency": 3.0}]
    with pytest.raises(ConfigurationError, match="counted in seconds already"):
        AnswerTable.from_rows(rows, unit="seconds").with_time(RATE)

    def asked(prompt: Prompt) -> Answer:
        raise AssertionError("nothing may be paid for before the settings are checked")

    with pytest.raises(ConfigurationError, match="counted in seconds already"):
        calibrate(
            {"a": asked, "b": asked},
            ["1+1"],
            "exact",
            Savings(0.5),
            store=tmp_path / "s",
            unit="seconds",
            usd_per_second=RATE,
        )


# -- from answers to a policy --------------------------------------------------------------------------------------


def test_a_slow_cheap_model_loses_to_a_quick_one_once_time_has_a_price(
    table: AnswerTable, by_money: Calibration, timed: Calibration
) -> None:
    def share_of_small(found: Calibration) -> float:
        return float(found.fit.outcome.ran[:, found.policy.names.index("small")].mean())

    assert share_of_small(by_money) > 0.7
    assert share_of_small(timed) == 0
    seconds = {name: WAIT[name] for name in table.models}
    waited = sum(
        float(timed.fit.outcome.ran[:, k].mean()) * seconds[name] for k, name in enumerate(timed.policy.names)
    )
    assert waited < 2


def test_without_a_price_nothing_is_said_of_time(by_money: Calibration) -> None:
    assert by_money.policy.usd_per_second == by_money.certificate.usd_per_second == 0
    assert "time" not in by_money.certificate.sentence + " ".join(by_money.certificate.assumptions)


def test_the_certificate_says_that_time_is_in_the_cost(timed: Calibration, table: AnswerTable) -> None:
    certificate = timed.certificate
    assert "of its cost, time at $0.01 a second included (" in certificate.sentence
    assert any("second that a call takes counts as $0.01" in said for said in certificate.assumptions)
    assert certificate.usd_per_second == RATE
    small = float(table.cost[:, 0].mean())
    assert certificate.cost.measured > 10 * small


def test_whatever_looks_at_the_policy_counts_as_it_does(timed: Calibration, table: AnswerTable) -> None:
    """A table of money and one with time in it already give the same figures."""
    new = queue_for_small(100, seed=5)
    for given_ in (new, new.with_time(RATE)):
        result = evaluate(timed.policy, given_)
        assert result.summary()["usd_per_second"] == RATE
        assert result.cost.mean() == pytest.approx(timed.certificate.cost.measured, rel=0.2)
        assert check(timed.policy, given_).status != "broken"
        shown = figures(timed.policy, given_).data
        assert shown["made"].endswith("Costs in US dollars, time at $0.01 a second included.")
        assert shown["models"][0]["cost"] == pytest.approx(
            new.with_time(RATE).cost.mean(axis=0).min(), rel=0.01
        )


def test_collecting_and_fitting_in_one_call(table: AnswerTable, tmp_path: Path) -> None:
    answers = {query.text: row for query, row in zip(table.queries, table.answers, strict=True)}
    asks = {name: lambda prompt, k=k: answers[prompt.text][k] for k, name in enumerate(table.models)}
    found = calibrate(
        asks,
        [query.text for query in table.queries[:120]],
        "agreement:large",
        RelativeQuality(0.5),
        store=tmp_path / "s",
        prices=MODELS,
        max_spend=1.0,  # dollars: the time of 120 calls to the slow model alone would be worth 24
        usd_per_second=RATE,
    )
    assert found.policy.usd_per_second == RATE
    assert found.table.cost == pytest.approx(table.with_time(RATE).cost[:120])
    with Store(tmp_path / "s") as store:
        assert store.table(list(table.models)).cost == pytest.approx(table.cost[:120])
        again = collect(asks, [query.text for query in table.queries[:120]], store, prices=MODELS)
        assert again.spent == 0


def test_calls_of_unknown_length_are_left_out_and_the_error_says_what_is_missing(table: AnswerTable) -> None:
    timeless = AnswerTable.from_rows([{**row, "latency": None} for row in table.to_rows()], prices=MODELS)
    with pytest.raises(CalibrationError, match=r"0 of 300 queries .* seconds that calls took"):
        fit(timeless.with_time(RATE), RelativeQuality(0.9))


# -- online --------------------------------------------------------------------------------------------------------


def policy(**more: object) -> Policy:
    models = tuple(
        ModelSpec(name=name, price=Price(input=price, output=price))
        for name, price in (("a", 1.0), ("b", 2.0))
    )
    plain = Policy.uncalibrated(models)
    fields = {"estimator": plain.estimator, "strategy": plain.strategy, **more}
    return Policy(models=models, **fields)  # type: ignore[arg-type]


def test_the_record_tells_the_cost_from_the_bill() -> None:
    episode = policy(usd_per_second=RATE).start("2+2?")
    for sure in (-3.0, -0.01):
        assert isinstance(episode.next(), Call)
        episode.observe(Answer(text="4", usage=USAGE, latency=2.0, logprobs=(sure,)))
    episode.next()
    record = episode.record
    assert [call.billed for call in record.calls] == pytest.approx([0.0011, 0.0022])
    assert [call.cost for call in record.calls] == pytest.approx([0.0211, 0.0222])
    assert record.cost == pytest.approx(0.0433)
    assert record.payload()["usd_per_second"] == RATE


def test_without_a_price_of_time_the_record_is_as_before() -> None:
    episode = policy().start("2+2?")
    episode.next()
    episode.observe(Answer(text="4", usage=USAGE, latency=2.0))
    episode.next()
    payload = episode.record.payload()
    assert payload["cost"] == pytest.approx(0.0011)
    assert "usd_per_second" not in payload
    assert "billed" not in payload["calls"][0]


@given(st.floats(0, 1e3), st.floats(0, 1e4))
def test_an_answer_costs_its_tokens_and_its_seconds(price: float, latency: float) -> None:
    answer = Answer(text="4", usage=USAGE, latency=latency)
    assert policy(usd_per_second=price).cost_of(0, answer) == pytest.approx(0.0011 + price * latency)
    assert policy(usd_per_second=price).billed(0, answer) == pytest.approx(0.0011)


def test_a_call_of_unknown_length_is_booked_as_expected(timed: Calibration) -> None:
    assert timed.policy.cost_of(0, Answer(text="4", usage=USAGE)) is None
    episode = timed.policy.start(Query(text="Ada had 3 coins and spent 2. Add up what comes out."))
    assert isinstance(episode.next(), Call)
    episode.observe(Answer(text="That makes 1.", usage=USAGE))
    episode.next()
    first = episode.record.calls[0]
    assert first.cost == pytest.approx(first.expected_cost)


def test_the_limit_on_a_querys_cost_counts_its_time(timed: Calibration) -> None:
    """What the first call has cost in time leaves nothing to pay a second one with."""
    calls = {}
    for price in (0.0, RATE):
        spare = policy(usd_per_second=price, limits=Limits(max_cost=0.02))
        episode = spare.start("2+2?")
        while isinstance(episode.next(), Call):
            episode.observe(Answer(text="4", usage=USAGE, latency=3.0, logprobs=(-3.0,)))
        calls[price] = len(episode.record.calls)
    assert calls == {0.0: 2, RATE: 1}


def test_expected_costs_online_are_those_that_were_paid_offline(
    timed: Calibration, table: AnswerTable
) -> None:
    priced = table.with_time(RATE)
    held_out = [priced.ids.index(key) for key in timed.fit.held_out.ids]
    expected = [timed.policy.start(priced.queries[n])._costs[0] for n in held_out]
    by_name = dict(zip(timed.policy.names, np.mean(expected, axis=0), strict=True))
    paid = dict(zip(priced.models, priced.cost[held_out].mean(axis=0), strict=True))
    for name in priced.models:
        assert by_name[name] == pytest.approx(paid[name], rel=0.1)


# -- files and the command line ------------------------------------------------------------------------------------


def test_the_policy_keeps_the_price_and_older_files_have_none(timed: Calibration) -> None:
    text = timed.policy.to_json()
    assert Policy.from_json(text).usd_per_second == RATE
    data = json.loads(policy(strategy=SingleModel(model=0)).to_json())
    del data["usd_per_second"]
    assert Policy.from_json(json.dumps(data)).usd_per_second == 0.0
    certificate = dict(timed.certificate.model_dump(mode="json"))
    del certificate["usd_per_second"]
    assert type(timed.certificate).model_validate(certificate).usd_per_second == 0.0


def test_the_command_line_prices_time(table: AnswerTable, tmp_path: Path) -> None:
    table.write(tmp_path / "answers.jsonl")
    run = CliRunner().invoke
    files = [str(tmp_path / "answers.jsonl"), "--out", str(tmp_path / "policy.json")]
    done = run(
        app, ["fit", *files, "--relative-quality", "0.9", "--usd-per-second", "0.01", "--strategy", "routing"]
    )
    assert done.exit_code == 0, done.output
    assert "cost with time" in done.output
    assert "time at $0.01 a second" in " ".join(done.output.split())
    shown = run(app, ["policy", "show", str(tmp_path / "policy.json"), "--json"])
    assert json.loads(shown.output)["usd_per_second"] == 0.01
    judged = run(app, ["evaluate", str(tmp_path / "policy.json"), str(tmp_path / "answers.jsonl")])
    assert "cost with time" in judged.output
    refused = run(app, ["fit", *files, "--savings", "0.5", "--usd-per-second", "0.01", "--unit", "seconds"])
    assert refused.exit_code == 1
