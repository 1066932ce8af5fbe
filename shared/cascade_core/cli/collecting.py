"""``cascade-routing collect``: run models on prompts, and keep every answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade_core.calibration import Plan, Store, choose_prompts, plan, read_prompts
from cascade_core.calibration import collect as collect_answers
from cascade_core.calibration.job import STORE
from cascade_core.calibration.select import Method
from cascade_core.cli._io import (
    INCOMPLETE,
    INTERRUPTED,
    console,
    emit,
    exit_codes,
    find_model,
    grid,
    named_models,
    parse_prices,
)
from cascade_core.cli._options import Json, Prices, Seed
from cascade_core.pricing import price_of, prices_of


def collect(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Models, each as [NAME=]MODULE:ATTRIBUTE (a function from a prompt to an answer, or a framework's "
            "model) or [NAME=]PROVIDER:MODEL, such as openai:gpt-4o-mini.",
            show_default=False,
        ),
    ],
    prompts: Annotated[
        Path,
        typer.Option(
            help="Prompts: .txt (one a line), .jsonl, .json, .csv or .parquet with query and reference."
        ),
    ],
    store: Annotated[
        str, typer.Option(help="Where answers are kept: a file for SQLite, or a postgresql:// URL.")
    ] = STORE,
    limit: Annotated[int | None, typer.Option(help="Most prompts to run, chosen from the file.")] = None,
    choose: Annotated[Method, typer.Option(help="How they are chosen.")] = "random",
    concurrency: Annotated[int, typer.Option(help="Calls at a time, for each model.")] = 8,
    max_spend: Annotated[float | None, typer.Option(help="Most US dollars that this run may cost.")] = None,
    price: Prices = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Also write all answers as .parquet, .csv or .jsonl.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Run models on prompts and keep the answers. A rerun goes on where the last run stopped, and pays once."""
    with exit_codes(json):
        found = {name: find_model(what) for name, what in named_models(models).items()}
        asks = {name: ask for name, (ask, _) in found.items()}
        wanted = read_prompts(prompts)
        if limit is not None:
            wanted = choose_prompts(wanted, limit, method=choose, seed=seed)
        prices = prices_of(asks, parse_prices(price or []))
        prices |= {name: price_of(found[name][1]) for name, known in prices.items() if known is None}
        unpriced = [name for name, known in prices.items() if known is None]
        with Store(store) as opened:
            _agree(plan(asks, wanted, opened, prices=prices), yes or json)
            try:
                result = collect_answers(
                    asks,
                    wanted,
                    opened,
                    prices=prices,
                    concurrency=concurrency,
                    max_spend=max_spend,
                    progress=not json,
                )
            except KeyboardInterrupt:
                console.print(
                    f"[yellow]Interrupted. What was answered is in {store}: run the same command again to go on.[/]"
                )
                raise typer.Exit(INTERRUPTED) from None
            if export is not None:
                opened.table().write(export)
        summary = {
            "store": str(store),
            "prompts": len(result.prompts),
            "calls": result.calls,
            "failed": dict(result.failed),
            "spent": result.spent,
            "stopped": result.stopped,
        }
        emit(
            summary,
            json,
            lambda screen: screen.print(
                f"{result.calls} calls for ${result.spent:.4f}"
                + (f" and what {', '.join(unpriced)} costs" if unpriced else "")
                + f"; answers to {len(result.prompts)} prompts are in [bold]{store}[/].\n"
                f"Next: cascade-routing fit {store} --scorer … --relative-quality 0.98"
            ),
        )
    for name, calls in result.failed.items():
        console.print(
            f"[yellow]{calls} calls of {name} failed. Run the same command again to repeat them.[/]"
        )
    if result.stopped == "max_spend":
        console.print("[yellow]Stopped by --max-spend. Run the same command again to go on.[/]")
        raise typer.Exit(INCOMPLETE)


def _agree(planned: Plan, yes: bool) -> None:
    """Show what the run will cost, and ask."""
    rows = [
        (
            model,
            str(calls),
            f"no price known: --price {model}=…"
            if planned.dollars[model] is None
            else f"${planned.dollars[model]:.4f}",
        )
        for model, calls in planned.calls.items()
    ]
    console.print(grid("To do", ("", "calls", "about"), rows))
    if planned.total_calls and planned.total != 0 and not yes:
        typer.confirm("Go on?", abort=True, err=True)
