"""Without right answers a model's own stand in for them, and whoever looks is told that it is agreement they see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cascade_core import CalibrationError, Policy
from cascade_core.calibration import (
    Agreement,
    AnswerTable,
    Calibration,
    Numeric,
    Quality,
    RelativeQuality,
    Savings,
    Store,
    calibrate_table,
    check,
    evaluate,
)
from cascade_core.calibration.certificate import certificate_of
from cascade_core.cli import app
from cascade_core.cli.sample import MODELS, sample_table
from cascade_core.report import figures, write_page

PROMISE = "agreement with large's answers, right or wrong, at no more than"


def unlabelled(queries: int = 400, seed: int = 0) -> AnswerTable:
    """The sample's answers, of which nobody knows which are right."""
    table = sample_table(queries, seed=seed)
    return table.with_quality(np.full(table.quality.shape, np.nan))


@pytest.fixture(scope="module")
def found() -> Calibration:
    return calibrate_table(
        unlabelled(), RelativeQuality(0.8), scorer=Agreement("large", by=Numeric()), prices=MODELS
    )


def test_one_line_makes_a_policy_of_answers_alone(found: Calibration) -> None:
    certificate = found.certificate
    assert PROMISE in certificate.sentence
    assert "quality" not in certificate.sentence
    assert certificate.agreement_with == certificate.reference == "large"
    assert certificate.target == "at least 80 % agreement with large's answers"
    assert "not the same as being right" in str(certificate)
    assert str(certificate).startswith(certificate.sentence)
    assert certificate_of(Policy.from_json(found.policy.to_json()).certificate) == certificate


def test_agreement_is_not_quality(found: Calibration) -> None:
    """The truth, which this test knows, is another number: large is wrong on some queries, and agrees with itself."""
    held_out = found.fit.held_out
    truth = sample_table(400)
    rows = [truth.ids.index(key) for key in held_out.ids]
    large, names = found.policy.names.index("large"), list(truth.models)
    assert held_out.quality[:, large].min() == 1
    assert truth.quality[rows, names.index("large")].mean() < 0.95
    agreeing = held_out.quality[:, found.policy.names.index("medium")].mean()
    assert agreeing != pytest.approx(truth.quality[rows, names.index("medium")].mean(), abs=1e-9)


def test_the_savings_are_those_over_the_model_that_is_agreed_with(found: Calibration) -> None:
    held_out, outcome = found.fit.held_out, evaluate(found.policy, found.fit.held_out)
    alone = held_out.cost[:, found.policy.names.index("large")]
    certificate = found.certificate
    assert certificate.relative_cost.measured == pytest.approx(outcome.cost.sum() / alone.sum())
    assert certificate.relative_quality.measured == pytest.approx(outcome.quality.mean())
    assert certificate.relative_quality.measured == pytest.approx(certificate.quality.measured)


@pytest.mark.parametrize("target", [RelativeQuality(0.5), Quality(0.5)])
def test_a_model_that_always_agrees_does_not_become_the_reference(target: Any) -> None:
    """A cheaper model with the same answers is as good by this measure; the comparison stays with the one named."""
    table = unlabelled(120)
    same = AnswerTable(
        table.queries,
        table.models,
        tuple((small, large, large) for small, _, large in table.answers),
        table.quality,
        table.cost,
    )
    found = calibrate_table(same, target, scorer=Agreement("large"), strategy="routing")
    assert found.certificate.reference == "large"
    assert found.certificate.relative_cost.measured < 0.2


def test_savings_are_over_the_dearest_model_and_say_whose_answers_count() -> None:
    found = calibrate_table(
        unlabelled(120), Savings(0.3), scorer=Agreement("medium", by=Numeric()), strategy="routing"
    )
    assert found.certificate.reference == "large"
    assert " of large's agreement with medium's answers, right or wrong, at " in found.certificate.sentence


def test_new_answers_are_checked_for_the_same_agreement(found: Calibration) -> None:
    new = calibrate_table(
        unlabelled(200, seed=7), RelativeQuality(0.5), scorer=Agreement("large", by=Numeric())
    ).table
    assert check(found.policy, new).status != "broken"


def test_a_scorer_needs_its_model_and_a_name_alone_scores_nothing() -> None:
    with pytest.raises(CalibrationError, match="needs answers of 'huge'"):
        calibrate_table(unlabelled(40), RelativeQuality(0.5), scorer=Agreement("huge"))
    with pytest.raises(CalibrationError, match="0 of 40 queries"):
        calibrate_table(unlabelled(40), RelativeQuality(0.5))


def test_the_report_says_it_at_its_head(found: Calibration, tmp_path: Path) -> None:
    shown = figures(found.policy, found.fit.held_out)
    said = "Quality is agreement with large's answers, right or wrong."
    assert shown.data["lede"].endswith(said)
    assert PROMISE in shown.data["certificate"]["sentence"]
    write_page(shown, tmp_path / "report.html")
    assert "right or wrong" in (tmp_path / "report.html").read_text()
    labelled = calibrate_table(sample_table(120), RelativeQuality(0.5), strategy="routing")
    assert "right or wrong" not in figures(labelled.policy, labelled.fit.held_out).data["lede"]


def test_the_command_line_goes_all_the_way_without_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store("answers.sqlite") as store:
        store.add(unlabelled(150))

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return " ".join(result.output.replace("│", " ").split())  # the frame of a panel

    scored = ("answers.sqlite", "--scorer", "agreement:large")
    fitted = said("fit", *scored, "--relative-quality", "0.6")
    assert "agreement with large" in fitted
    assert "right or wrong" in fitted
    assert "report policy.json answers.sqlite --scorer agreement:large" in fitted
    as_json = json.loads(said("fit", *scored, "--relative-quality", "0.6", "--json"))
    assert as_json["certificate"]["agreement_with"] == "large"
    assert PROMISE in as_json["sentence"]
    assert "right or wrong" in said("policy", "show", "policy.json")
    assert "agreement with large" in said("evaluate", "policy.json", *scored)
    assert "report.html" in said("report", "policy.json", *scored)
    assert "new queries" in said("check", "policy.json", *scored)
    refused = CliRunner().invoke(app, ["evaluate", "policy.json", "answers.sqlite"])
    assert refused.exit_code == 1
    assert "--scorer" in refused.output
