"""``cascade-routing fit``: from answers to a policy with a certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cascade_core.calibration import Calibration, calibrate_table
from cascade_core.cli._io import (
    console,
    cost_head,
    emit,
    exit_codes,
    grid,
    load_scored,
    money,
    parse_prices,
    parse_target,
    percent,
    quality_head,
)
from cascade_core.cli._options import Json, Prices, ScoredBy, Seed, TableFile, TimePrice, Unit


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
    scorer: ScoredBy = None,
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
        answers, name = load_scored(table, scorer, unit=unit, prices=prices)
        calibration = calibrate_table(
            answers.with_time(usd_per_second),
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
        emit(summary(calibration, out), json, lambda screen: show(screen, calibration, out, table, scorer))


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


def show(screen: Console, calibration: Calibration, out: Path, table: str, scorer: str | None) -> None:
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
    head = ("", quality_head(certificate), cost_head(certificate.usd_per_second))
    screen.print(grid(f"On {certificate.prompts} held-out queries", head, rows))
    screen.print(f"\n[bold green]{certificate.sentence}[/]\n", highlight=False)
    if certificate.reached is False:
        console.print(
            f"[yellow]The target, {certificate.target}, is reached on average but not certain. More prompts make it "
            "surer:[/] "
            + ", ".join(f"{s.prompts} held-out ones about {percent(s.bound)}" for s in certificate.sharper),
            highlight=False,
        )
    command = f"cascade-routing report {out} {table}" + (f" --scorer {scorer}" if scorer else "")
    screen.print(f"Policy written to [bold]{out}[/]. Look at it with: {command}", highlight=False)
