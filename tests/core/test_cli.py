"""The command line, as a newcomer and as a script would use it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from cascade_core.calibration import AnswerTable, Store
from cascade_core.cli import app
from cascade_core.cli.sample import MODELS, sample_table
from cascade_core.policy import Policy


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """What ``demo`` wrote, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    done = CliRunner().invoke(app, ["demo", "--out", str(folder), "--queries", "800", "--json"])
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout)


def run(*arguments: object, input: str | None = None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)


def said(*arguments: object, code: int = 0) -> dict:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_the_demo_needs_nothing_and_ends_with_a_certificate(tour):
    folder, result = tour
    assert {path.name for path in folder.iterdir()} == {"answers.jsonl", "policy.json", "report.html"}
    assert result["sentence"].startswith(
        "With 95 % confidence, at least 95 % of large's quality at no more than "
    )
    assert result["certificate"]["reached"] is True


def test_the_demo_speaks_to_people(tmp_path):
    done = run("demo", "--out", tmp_path / "tour", "--queries", 300)
    assert done.exit_code == 0
    for part in ("With 95 % confidence", "Report written to", "cascade-routing explain"):
        assert part in done.output


def test_the_command_works_without_any_framework(tmp_path):
    """On a table, with both frameworks and everything optional made impossible to import."""
    absent = ("langchain", "langchain_core", "llama_index", "pandas", "pyarrow", "matplotlib", "wordllama")
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {absent!r}:\n"
        "            raise ModuleNotFoundError(f'no module {name}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from cascade_core.cli import app\n"
        "app(['demo', '--queries', '200', '--json'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["strategy"]


def test_help_names_the_commands_and_the_exit_codes():
    done = run("--help")
    for word in (
        "demo",
        "collect",
        "fit",
        "evaluate",
        "check",
        "report",
        "explain",
        "policy",
        "Exit codes: 0 done",
    ):
        assert word in done.output


# -- collect -------------------------------------------------------------------------------------------------------

MODULE = """
from cascade_core import Answer, Usage

def small(prompt):
    return Answer(text="4", usage=Usage(input_tokens=100, output_tokens=10))

async def large(prompt):
    return Answer(text=str(eval(prompt.text)), usage=Usage(input_tokens=100, output_tokens=10))

def broken(prompt):
    raise RuntimeError("no key")

number = 7
"""
PRICES = ("--price", "small=1,2", "--price", "large=10,20")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a module of models and a file of prompts, as the current folder."""
    monkeypatch.chdir(tmp_path)
    for module in ("my_models", "framework_models", "priced_models"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / "my_models.py").write_text(MODULE)
    lines = [{"query": f"{n} + {n % 7}", "reference": str(n + n % 7)} for n in range(60)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


BOTH = ("small=my_models:small", "large=my_models:large")


def test_collect_then_fit_scores_by_the_references(project):
    result = said("collect", *BOTH, "--prompts", "prompts.jsonl", "--store", "s.sqlite", *PRICES, "--yes")
    assert result["calls"] == 120
    assert result["stopped"] == "complete"
    assert result["spent"] == pytest.approx(60 * (100 * 11 + 10 * 22) / 1e6)
    assert said("collect", *BOTH, "--prompts", "prompts.jsonl", "--store", "s.sqlite", *PRICES)["calls"] == 0
    fitted = said("fit", "s.sqlite", "--scorer", "numeric", "--relative-quality", 0.9)
    assert fitted["certificate"]["scorer"] == "numeric"
    assert Policy.load("policy.json").names == ("small", "large")
    run("collect", *BOTH, "--prompts", "prompts.jsonl", "--store", "s.sqlite", *PRICES, "--export", "all.csv")
    exported = said("fit", "all.csv", "--scorer", "numeric", "--relative-quality", 0.9)
    assert exported["certificate"]["quality"] == fitted["certificate"]["quality"]


def test_a_scorer_of_ones_own_is_named_like_a_model(project):
    (project / "my_models.py").write_text(MODULE + "\ndef short(answer):\n    return len(answer) < 2\n")
    said("collect", *BOTH, "--prompts", "prompts.jsonl", "--store", "s.sqlite", *PRICES)
    fitted = said("fit", "s.sqlite", "--scorer", "my_models:short", "--savings", 0.1, "--of", "large")
    assert fitted["certificate"]["scorer"] == "short"


def test_collect_shows_the_price_and_asks_before_it_spends(project):
    refused = run("collect", *BOTH, "--prompts", "prompts.jsonl", "--store", "s.sqlite", *PRICES, input="n\n")
    assert refused.exit_code == 1
    assert "$" in refused.output
    assert "Go on?" in refused.output
    with Store("s.sqlite") as store:
        assert store.answered("small") == set()
    agreed = run("collect", *BOTH, "--prompts", "prompts.jsonl", "--store", "s.sqlite", *PRICES, input="y\n")
    assert agreed.exit_code == 0
    with Store("s.sqlite") as store:
        assert len(store.answered("small")) == 60


def test_collect_stops_at_max_spend_with_its_own_exit_code(project):
    arguments = (
        "collect",
        *BOTH,
        "--prompts",
        "prompts.jsonl",
        "--store",
        "s.sqlite",
        *PRICES,
        "--max-spend",
        0.02,
    )
    assert said(*arguments, code=5)["stopped"] == "max_spend"


def test_ctrl_c_says_how_to_go_on(project):
    (project / "interrupting.py").write_text(
        "import os, signal\n"
        "from cascade_core import Answer\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what a shell starts with `&`
        "def one(prompt):\n"
        "    if prompt.text == '7 + 0':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return Answer(text='kept')\n"
    )
    models = ("one=interrupting:one", "two=my_models:small")
    arguments = ("collect", *models, "--prompts", "prompts.jsonl", "--store", "s.sqlite", "--yes")
    done = subprocess.run(
        [sys.executable, "-m", "cascade_core.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130, done.stderr
    assert "Interrupted. What was answered is in s.sqlite" in done.stderr
    with Store("s.sqlite") as store:
        assert store.answered("one")


def test_calls_that_failed_are_told(project):
    at_times = "\ndef at_times(prompt):\n    return small(prompt) if prompt.text != '7 + 0' else 1 / 0\n"
    (project / "my_models.py").write_text(MODULE + at_times)
    models = (BOTH[0], "large=my_models:at_times")
    done = run("collect", *models, "--prompts", "prompts.jsonl", "--store", "s.sqlite", *PRICES, "--yes")
    assert done.exit_code == 0
    assert "1 calls of large failed. Run the same command again" in done.output


def test_collect_takes_a_choice_of_prompts_and_exports(project):
    result = said(
        *("collect", *BOTH, "--prompts", "prompts.jsonl", "--store", "s.sqlite", *PRICES),
        *("--limit", 12, "--choose", "k-center", "--export", "all.csv"),
    )
    assert result["prompts"] == 12
    assert len(AnswerTable.read("all.csv")) == 12


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("broken=my_models:broken", "model 'broken' failed"),
        ("other=my_models:number", "is of type int: expected a function"),
        ("other=my_models:larg", "module 'my_models' has no 'larg' (but 'large')"),
        ("other=nowhere:absent", "there is no such MODULE:ATTRIBUTE"),
        ("other=noprovider:gpt-x", "there is no such MODULE:ATTRIBUTE"),
    ],
)
def test_a_model_that_cannot_be_used_is_an_error(project, model, message):
    result = said("collect", BOTH[0], model, "--prompts", "prompts.jsonl", "--store", "s.sqlite", code=1)
    assert message in result["message"]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (BOTH[:1], "only one model, 'small'"),
        ((BOTH[0], "small=my_models:large"), "two models are named 'small'"),
    ],
)
def test_models_that_are_too_few_or_share_a_name_are_refused_at_once(project, models, message):
    result = said("collect", *models, "--prompts", "prompts.jsonl", "--store", "s.sqlite", code=1)
    assert message in result["message"]
    assert not (project / "s.sqlite").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.jsonl", "", "empty.jsonl: there are no prompts"),
        ("absent.jsonl", None, "absent.jsonl: No such file"),
        (
            "cut.jsonl",
            '{"query": "1 + 1"}\n{"query": "1',
            "cut.jsonl: record 2 is not JSON: Unterminated string",
        ),
        (
            "other.csv",
            "question,gold\n1 + 1,2\n",
            "other.csv: prompt 1 has no text: expected one of the columns",
        ),
        ("prompts.xlsx", "", "prompts.xlsx: expected a file that ends in one of"),
    ],
)
def test_prompts_that_cannot_be_read_are_named(project, name, text, message):
    if text is not None:
        (project / name).write_text(text)
    result = said("collect", *BOTH, "--prompts", name, "--store", "s.sqlite", code=1)
    assert message in result["message"]


def test_frameworks_models_and_provider_strings_are_called_by_their_wrappers(project):
    pytest.importorskip("langchain_core")
    pytest.importorskip("llama_index.core")
    (project / "framework_models.py").write_text(
        "from langchain_core.language_models.fake_chat_models import FakeListChatModel\n"
        "from llama_index.core.llms import MockLLM\n"
        "one = FakeListChatModel(responses=['from LangChain'])\n"
        "two = MockLLM()\n"
    )
    models = ("one=framework_models:one", "two=framework_models:two")
    said("collect", *models, "--prompts", "prompts.jsonl", "--store", "s.sqlite", "--limit", 2)
    with Store("s.sqlite") as store:
        answers = store.table(["one", "two"]).answers
    assert any(row[0] is not None and row[0].text == "from LangChain" for row in answers)


def test_a_provider_string_reaches_the_provider(project, openai_server, monkeypatch):
    pytest.importorskip("langchain_openai")
    monkeypatch.setenv("OPENAI_BASE_URL", openai_server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    models = ("openai:gpt-4o-mini", "big=openai:gpt-4o")
    result = said("collect", *models, "--prompts", "prompts.jsonl", "--store", "s.sqlite", "--limit", 3)
    assert result["calls"] == 6
    assert {request.model for request in openai_server.requests} == {"gpt-4o-mini", "gpt-4o"}
    with Store("s.sqlite") as store:
        small, big = store.table(["openai:gpt-4o-mini", "big"]).cost.sum(axis=0)
    assert 0 < small < big  # by the price list, from the tokens that the provider reports


def test_a_frameworks_model_is_priced_by_its_own_name(project, openai_server):
    pytest.importorskip("langchain_openai")
    (project / "priced_models.py").write_text(
        "from langchain_openai import ChatOpenAI\n"
        f"settings = dict(base_url={openai_server.base_url!r}, api_key='none')\n"
        "one, two = (ChatOpenAI(model=name, **settings) for name in ('gpt-4o-mini', 'my-own'))\n"
    )
    models = ("cheap=priced_models:one", "own=priced_models:two")
    done = run("collect", *models, "--prompts", "prompts.jsonl", "--store", "s.sqlite", "--limit", 3, "--yes")
    assert done.exit_code == 0, done.output
    assert "no price known: --price own=…" in done.output
    assert "and what own costs" in done.output
    with Store("s.sqlite") as store:
        cost = store.table(["cheap", "own"]).cost
    assert (cost[:3, 0] > 0).all()
    assert np.isnan(cost[:3, 1]).all()


# -- fit -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 1, "no target: give one of"),
        (("--budget", 1, "--quality", 0.5), 1, "several targets"),
        (("--budget", 1, "--of", "large"), 1, "--of names the model that"),
        (("--budget", 1e-9), 3, "cheapest way to answer"),
        (("--quality", 0.9999), 3, "the best"),
        (("--relative-quality", 0.9, "--of", "huge"), 1, "'huge'"),
        (("--relative-quality", 0.9, "--strategy", "magic"), 1, "unknown strategy 'magic'"),
        (("--relative-quality", 0.9, "--scorer", "magic"), 1, "unknown scorer 'magic'"),
        (
            ("--relative-quality", 0.9, "--scorer", "math:sine"),
            1,
            "(module 'math' has no 'sine' (but 'sin'))",
        ),
        (("--relative-quality", 0.9, "--price", "small"), 1, "expected MODEL=INPUT,OUTPUT"),
    ],
)
def test_fit_says_what_is_wrong(tour, arguments, code, message):
    folder, _ = tour
    assert message in said("fit", folder / "answers.jsonl", *arguments, code=code)["message"]


def test_wrong_usage_has_the_usual_exit_code():
    assert run("fit").exit_code == 2
    assert run("nonsense").exit_code == 2


@pytest.mark.parametrize("name", ["absent.jsonl", "absent.csv", "absent.sqlite", "absent.xyz"])
def test_an_absent_table_is_an_error_and_no_traceback(tmp_path, name):
    done = run("fit", tmp_path / name, "--budget", 1)
    assert done.exit_code == 1
    assert "error:" in done.output
    assert "Traceback" not in done.output


def test_too_few_answers_are_refused(tmp_path):
    sample_table(20).write(tmp_path / "few.jsonl")
    message = said("fit", tmp_path / "few.jsonl", "--relative-quality", 0.9, code=1)["message"]
    assert "20 of 20 queries" in message
    assert "at least 30" in message


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_all_right_and_all_wrong_are_documented_results(tmp_path, score):
    table = sample_table(120)
    table.with_quality(table.quality * 0 + score).write(tmp_path / "flat.jsonl")
    arguments = ("fit", tmp_path / "flat.jsonl", "--out", tmp_path / "policy.json", "--relative-quality", 0.9)
    result = said(*arguments)
    # models that are equally good are told apart by price alone
    assert result["certificate"]["relative_cost"]["measured"] == pytest.approx(1) or (
        result["certificate"]["cost"]["measured"] < 2 * float(table.cost[:, 0].mean())
    )


def test_equal_prices_are_no_obstacle(tmp_path):
    table = sample_table(120)
    rows = [{**row, "cost": 0.001} for row in table.to_rows()]
    AnswerTable.from_rows(rows).write(tmp_path / "equal.jsonl")
    arguments = (
        "fit",
        tmp_path / "equal.jsonl",
        "--out",
        tmp_path / "policy.json",
        "--relative-quality",
        0.9,
    )
    assert said(*arguments)["certificate"]["quality"]["measured"] > 0.5


def test_seconds_are_a_unit_too(tour, tmp_path):
    folder, _ = tour
    rows = [{**row, "cost": None} for row in AnswerTable.read(folder / "answers.jsonl").to_rows()]
    AnswerTable.from_rows(rows, unit="seconds").write(tmp_path / "timed.jsonl")
    arguments = ("--unit", "seconds", "--out", tmp_path / "policy.json", "--savings", 0.3)
    assert said("fit", tmp_path / "timed.jsonl", *arguments)["certificate"]["unit"] == "seconds"


# -- looking -------------------------------------------------------------------------------------------------------


def test_evaluate_compares_with_every_strategy_on_unseen_queries(tour):
    folder, _ = tour
    result = said("evaluate", folder / "policy.json", folder / "answers.jsonl")
    assert result["queries"] == 240
    assert said("evaluate", folder / "policy.json", folder / "answers.jsonl", "--all")["queries"] == 800
    assert {"linear", "routing", "threshold", "cascading", "cascade_routing", "index"} <= result["auc"].keys()
    assert "quality" in run("evaluate", folder / "policy.json", folder / "answers.jsonl").output


def test_a_certificate_holds_on_data_of_its_kind_and_breaks_on_worse(tour, tmp_path):
    folder, _ = tour
    new = sample_table(500, seed=5)
    new.write(tmp_path / "same.jsonl")
    result = said("check", folder / "policy.json", tmp_path / "same.jsonl")
    assert result["status"] != "broken"
    assert set(result["numbers"]) == {"quality", "relative_quality", "cost", "relative_cost"}
    worse = new.quality.copy()
    worse[:, :2] = 0.0
    new.with_quality(worse).write(tmp_path / "worse.jsonl")
    broken = run("check", folder / "policy.json", tmp_path / "worse.jsonl")
    assert broken.exit_code == 4
    assert "The certificate is broken" in broken.output


def test_served_answers_can_be_checked_without_the_other_models(tour, tmp_path):
    folder, result = tour
    cost = result["certificate"]["cost"]["measured"]
    good = tmp_path / "good.csv"
    good.write_text("quality,cost\n" + f"1,{cost}\n" * 200)
    assert said("check", folder / "policy.json", "--served", good)["status"] == "holds"
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"quality": 0.2, "cost": cost}) + "\n")
    assert "too few" in said("check", folder / "policy.json", "--served", bad, code=1)["message"]
    bad.write_text((json.dumps({"quality": 0.2, "cost": cost}) + "\n") * 200)
    assert said("check", folder / "policy.json", "--served", bad, code=4)["status"] == "broken"
    bad.write_text('{"quality": "good"}\n')
    assert (
        "every row needs a number"
        in said("check", folder / "policy.json", "--served", bad, code=1)["message"]
    )
    assert "either a table" in said("check", folder / "policy.json", code=1)["message"]


def test_explain_follows_a_decision_to_its_end(tour):
    folder, _ = tour
    table = AnswerTable.read(folder / "answers.jsonl")
    query = table.queries[0]
    result = said("explain", folder / "policy.json", query.text, "--table", folder / "answers.jsonl")
    assert [step["kind"] for step in result["steps"]][-1] == "stop"
    assert result["record"]["model"] == result["steps"][-1]["model"]
    assert set(result["steps"][0]["believed"]) == set(MODELS)
    shown = run("explain", folder / "policy.json", query.key, "--table", folder / "answers.jsonl").output
    assert "Step 1" in shown
    assert "→ return the answer of" in shown


def test_explain_learns_nothing_from_an_answer_that_could_not_be_used(tour, tmp_path):
    folder, _ = tour
    table = AnswerTable.read(folder / "answers.jsonl")
    key = table.queries[0].key
    first = said("explain", folder / "policy.json", key, "--table", folder / "answers.jsonl")["steps"][0]
    broken = [
        row | {"parse_error": row["model"] == first["model"]}
        for row in table.to_rows()
        if row["query_id"] == key
    ]
    file = tmp_path / "broken.jsonl"
    file.write_text("\n".join(map(json.dumps, broken)))
    steps = said("explain", folder / "policy.json", key, "--table", file)["steps"]
    assert steps[1]["believed"] == first["believed"]
    assert steps[1]["model"] != first["model"]


def test_explain_without_answers_tells_the_first_step(tour):
    folder, _ = tour
    result = said("explain", folder / "policy.json", "Ada sells 3 apples and 4 pears.")
    assert [step["kind"] for step in result["steps"]] == ["call"]
    assert "depends on the answer" in run("explain", folder / "policy.json", "Ada sells 3 apples.").output
    missing = said("explain", folder / "policy.json", "nope", "--table", folder / "answers.jsonl", code=1)
    assert "no query in" in missing["message"]


def test_policy_show_holds_no_prompt(tour):
    folder, _ = tour
    result = said("policy", "show", folder / "policy.json")
    assert [model["name"] for model in result["models"]] == list(MODELS)
    assert result["certificate"]["sharper"]
    assert "fitted_on" not in result["provenance"]
    text = (folder / "policy.json").read_text()
    assert not any(query.text in text for query in sample_table(400).queries)
    assert "With 95 %" in run("policy", "show", folder / "policy.json").output


def test_a_damaged_policy_is_an_error(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text("{")
    assert "truncated or damaged" in said("policy", "show", path, code=1)["message"]


def test_logs_of_a_tracing_tool_can_be_fitted(tmp_path):
    rows = [
        {
            "type": "GENERATION",
            "model": row["model"],
            "input": row["query"],
            "output": row["answer"],
            "scores": [{"value": row["quality"]}],
            "calculatedTotalCost": row["cost"],
        }
        for row in sample_table(100).to_rows()
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert said("fit", path, "--out", tmp_path / "policy.json", "--savings", 0.2)["models"] == list(MODELS)
