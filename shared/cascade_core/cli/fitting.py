"""``cascade-routing fit``: from answers to a policy with a certificate."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cascade_core.calibration import (
    AnswerTable,
    Calibration,
    Prompt,
    Store,
    as_scorer,
    calibrate_table,
    score_table,
)
from cascade_core.calibration.store import GIVEN
from cascade_core.cli._io import (
    console,
    cost_head,
    emit,
    exit_codes,
    find_attribute,
    grid,
    is_store,
    load_table,
    money,
    parse_prices,
    parse_target,
    percent,
)
from cascade_core.cli._options import Json, Prices, Seed, TableFile, TimePrice, Unit


def fit(
    table: TableFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the policy is written.")] = Path(
        "policy.json"
    ),
    budget: Annotated[float | None, typer.Option(help="Target: at most this cost per query.")] = None,
    quality: Annotated[float | None, typer.Option(help="Target: at least this mean quality.")] = None,
    relative_quality: Annotated[
        float | None, typer.Option(help="Target: at least this share of a model's quality, such as 0.98.")
    ] = None,
    savings: Annotated[
        float | None, typer.Option(help="Target: this share less than a model costs, such as 0.6.")
    ] = None,
    of: Annotated[
        str | None,
        typer.Option(help="That model; by default the best one for quality, the dearest one for savings."),
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            help="How answers are scored: exact, normalised, numeric, choice, contains, contains:TEXT, "
            "regex:PATTERN, agreement:MODEL, or MODULE:ATTRIBUTE for your own. By default the table's own quality."
        ),
    ] = None,
    strategy: Annotated[str, typer.Option(help="Strategy, or auto to choose by cross-validation.")] = "auto",
    confidence: Annotated[float, typer.Option(help="Confidence of the certificate.")] = 0.95,
    guarantee: Annotated[
        bool,
        typer.Option(
            help="Choose the policy so that its certified bound, not only its mean, reaches the target."
        ),
    ] = True,
    holdout: Annotated[float, typer.Option(help="Share of the queries kept for the certificate.")] = 0.3,
    price: Prices = None,
    unit: Unit = "usd",
    usd_per_second: TimePrice = 0.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Fit a policy to answers, for one target, and certify it on answers held out of the fit."""
    with exit_codes(json):
        target = parse_target(budget, quality, relative_quality, savings, of)
        prices = parse_prices(price or [])
        answers = load_table(table, unit=unit, prices=prices).with_time(usd_per_second)
        name = GIVEN
        if scorer is not None:
            answers, name = scored(answers, table, scorer)
        calibration = calibrate_table(
            answers,
            target,
            scorer=name,
            confidence=confidence,
            guarantee=guarantee,
            strategy=strategy,
            holdout=holdout,
            prices=prices,
            seed=seed,
        )
        calibration.policy.save(out)
        emit(summary(calibration, out), json, lambda screen: show(screen, calibration, out))


def scored(table: AnswerTable, where: str, scorer: str) -> tuple[AnswerTable, str]:
    """The table, scored with the references of the store it came from; and the scorer's name."""
    found = find_attribute(scorer)
    scoring = as_scorer(scorer if found is None else found)
    with Store(where, create=False) if is_store(where) else Store(":memory:") as store:
        references = {prompt.key: prompt.reference for prompt in store.prompts()}
        prompts = [
            Prompt(**{**query.model_dump(exclude={"reference"}), "reference": references.get(query.key)})
            for query in table.queries
        ]
        return asyncio.run(score_table(table, prompts, scoring, store=store)), scoring.name


def summary(calibration: Calibration, out: Path) -> dict[str, Any]:
    """The result as plain JSON values."""
    policy = calibration.policy
    return {
        "policy": str(out),
        "strategy": policy.strategy.name,
        "models": list(policy.names),
        "sentence": calibration.certificate.sentence,
        "certificate": calibration.certificate.model_dump(mode="json"),
    }


def show(screen: Console, calibration: Calibration, out: Path) -> None:
    """Draw the result."""
    certificate, frontier = calibration.certificate, calibration.frontier
    unit = certificate.unit
    rows = [
        (name, percent(float(quality)), money(float(cost), unit))
        for name, quality, cost in zip(
            frontier.models, frontier.model_quality, frontier.model_cost, strict=True
        )
    ]
    rows.append(
        (
            f"[bold]policy[/] ({calibration.policy.strategy.name})",
            f"[bold]{percent(certificate.quality.measured)}[/]",
            f"[bold]{money(certificate.cost.measured, unit)}[/]",
        )
    )
    head = ("", "quality", cost_head(certificate.usd_per_second))
    screen.print(grid(f"On {certificate.prompts} held-out queries", head, rows))
    screen.print(f"\n[bold green]{certificate.sentence}[/]\n", highlight=False)
    if certificate.reached is False:
        console.print(
            f"[yellow]The target, {certificate.target}, is reached on average but not certain. More prompts make it "
            "surer:[/] "
            + ", ".join(f"{s.prompts} held-out ones about {percent(s.bound)}" for s in certificate.sharper),
            highlight=False,
        )
    screen.print(f"Policy written to [bold]{out}[/]. Look at it with: cascade-routing report {out} TABLE")
