"""Prompts come in many forms and leave in one."""

from __future__ import annotations

import json

import pytest

from cascade_core import CalibrationError, Query
from cascade_core.calibration import Prompt, read_prompts
from cascade_core.calibration.prompts import checked_prompts

ROWS = [
    {"query": "2+2?", "reference": 4, "id": "a"},
    {"query": "Say hi, please", "reference": None, "id": "b"},
]
PROMPTS = [Prompt(id="a", text="2+2?", reference="4"), Prompt(id="b", text="Say hi, please")]


def write(path, name):
    file = path / name
    if name.endswith(".txt"):
        file.write_text("2+2?\n\nSay hi, please\n")
    elif name.endswith(".jsonl"):
        file.write_text("\n".join(map(json.dumps, ROWS)))
    elif name.endswith(".json"):
        file.write_text(json.dumps(ROWS))
    elif name.endswith(".csv"):
        file.write_text('\ufeffid,query,reference\na,2+2?,4\nb,"Say hi, please",\n', encoding="utf-8")
    else:
        pd = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pd.DataFrame(
            [{**row, "reference": row["reference"] and str(row["reference"])} for row in ROWS]
        ).to_parquet(file)
    return file


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv", "p.parquet"])
def test_files_of_every_kind_hold_the_same_prompts(tmp_path, name):
    assert read_prompts(write(tmp_path, name)) == PROMPTS


def test_a_text_file_has_one_prompt_a_line(tmp_path):
    prompts = read_prompts(write(tmp_path, "p.txt"))
    assert [prompt.text for prompt in prompts] == ["2+2?", "Say hi, please"]
    assert all(prompt.id for prompt in prompts)


@pytest.mark.parametrize("names", [("query", "reference"), ("text", "answer"), ("prompt", "gold")])
def test_columns_have_several_names(names):
    [prompt] = checked_prompts([{names[0]: "2+2?", names[1]: 4}])
    assert (prompt.text, prompt.reference) == ("2+2?", "4")


def test_queries_keep_what_they_know():
    query = Query(text="2+2?", id="q", prompt_chars=99, features={"hits": 1.5})
    [prompt] = checked_prompts([query])
    assert (prompt.id, prompt.prompt_chars, prompt.features) == ("q", 99, {"hits": 1.5})


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(CalibrationError, match=r"p\.xml: expected a file that ends in"):
        read_prompts(tmp_path / "p.xml")
    with pytest.raises(CalibrationError, match=r"p\.csv: No such file"):
        read_prompts(tmp_path / "p.csv")
    (tmp_path / "p.jsonl").write_text('{"query": "fine"}\nnot json')
    with pytest.raises(CalibrationError, match=r"p\.jsonl: "):
        read_prompts(tmp_path / "p.jsonl")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(CalibrationError, match=r"empty\.txt: there are no prompts"):
        read_prompts(tmp_path / "empty.txt")


def test_the_same_text_with_another_reference_is_a_contradiction():
    with pytest.raises(CalibrationError, match="give each prompt an id of its own"):
        checked_prompts([{"query": "2+2?", "reference": 4}, {"query": "2+2?", "reference": 5}])
