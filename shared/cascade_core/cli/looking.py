"""The commands that look at a policy: evaluate, check, report, explain, policy show."""

from __future__ import annotations

import csv
import json as json_
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel

from cascade_core.calibration import Check, Evaluation, check_served
from cascade_core.calibration import check as check_table
from cascade_core.calibration import evaluate as evaluate_table
from cascade_core.calibration.certificate import certificate_of
from cascade_core.calibration.replay import complete, unseen
from cascade_core.cli._io import (
    BROKEN,
    cost_head,
    emit,
    exit_codes,
    grid,
    load_scored,
    load_table,
    money,
    parse_prices,
    percent,
    quality_head,
)
from cascade_core.cli._options import Json, PolicyFile, Prices, ScoredBy, TableFile
from cascade_core.errors import CalibrationError, ConfigurationError
from cascade_core.policy import Policy
from cascade_core.pricing import time_in_words
from cascade_core.values import Answer, Call, DecisionRecord, Query

All = Annotated[bool, typer.Option("--all", help="Also the queries that the policy was fitted on.")]


def evaluate(
    policy: PolicyFile,
    table: TableFile,
    all_: All = False,
    scorer: ScoredBy = None,
    price: Prices = None,
    json: Json = False,
) -> None:
    """Compare a policy with every strategy and every single model, on queries it was not fitted on."""
    with exit_codes(json):
        loaded = Policy.load(policy)
        answers, _ = load_scored(table, scorer, unit=loaded.unit, prices=parse_prices(price or []))
        result = evaluate_table(loaded, answers if all_ else unseen(loaded, complete(answers, loaded.names)))
        emit(result.summary(), json, lambda screen: _show_evaluation(screen, result, loaded))


def check(
    policy: PolicyFile,
    table: Annotated[
        str | None,
        typer.Argument(help="New answers of all the policy's models, as for fit.", show_default=False),
    ] = None,
    served: Annotated[
        Path | None,
        typer.Option(
            help="Instead: a .csv or .jsonl with the quality and cost of each query that was served."
        ),
    ] = None,
    scorer: ScoredBy = None,
    price: Prices = None,
    json: Json = False,
) -> None:
    """Check a policy's certificate on new data. Exits with 4 if the data contradict it."""
    with exit_codes(json):
        if (table is None) == (served is None):
            raise ConfigurationError("give either a table of new answers or --served FILE")
        loaded = Policy.load(policy)
        if table is not None:
            answers, _ = load_scored(table, scorer, unit=loaded.unit, prices=parse_prices(price or []))
            result = check_table(loaded, answers)
        else:
            assert served is not None
            result = check_served(loaded, *_served(served))
        emit(result.to_dict(), json, lambda screen: _show_check(screen, result, loaded))
    if result.status == "broken":
        raise typer.Exit(BROKEN)


def report(
    policy: PolicyFile,
    table: TableFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the page is written.")] = Path(
        "report.html"
    ),
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the frontier to this .png, .svg or .pdf.")
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Model selection report",
    all_: All = False,
    scorer: ScoredBy = None,
    price: Prices = None,
    json: Json = False,
) -> None:
    """Write a report as one HTML page that loads nothing from anywhere."""
    with exit_codes(json):
        from cascade_core.report import figures, write_page
        from cascade_core.report import plot as draw

        loaded = Policy.load(policy)
        answers, _ = load_scored(table, scorer, unit=loaded.unit, prices=parse_prices(price or []))
        found = figures(
            loaded, answers if all_ else unseen(loaded, complete(answers, loaded.names)), title=title
        )
        write_page(found, out)
        if plot is not None:
            draw(found, plot)
        written = {"report": str(out), **({"plot": str(plot)} if plot else {})}
        emit(
            written,
            json,
            lambda screen: screen.print(
                "Written: " + ", ".join(f"[bold]{file}[/]" for file in written.values())
            ),
        )


def explain(
    policy: PolicyFile,
    query: Annotated[
        str, typer.Argument(help="A query's text; with --table, its id or text.", show_default=False)
    ],
    table: Annotated[
        str | None, typer.Option(help="Answers to take from, so that the whole decision can be followed.")
    ] = None,
    json: Json = False,
) -> None:
    """Say why a query is answered by which model: what is believed and paid at every step."""
    with exit_codes(json):
        loaded = Policy.load(policy)
        asked, answers = Query(text=query), None
        if table is not None:
            known = load_table(table, unit=loaded.unit).select(loaded.names)
            rows = [n for n, each in enumerate(known.queries) if query in (each.key, each.text)]
            if not rows:
                raise CalibrationError(f"no query in {table} has the id or text {query[:80]!r}")
            asked = known.queries[rows[0]]
            answers = dict(zip(known.models, known.answers[rows[0]], strict=True))
        steps, record = _steps(loaded, asked, answers)
        result = {"query": asked.key, "steps": steps, "record": None if record is None else record.payload()}
        emit(result, json, lambda screen: _show_steps(screen, loaded, asked, steps, record))


def show(policy: PolicyFile, json: Json = False) -> None:
    """Show what a policy file holds: models, strategy, limits, where it comes from, and its certificate."""
    with exit_codes(json):
        loaded = Policy.load(policy)
        certificate = certificate_of(loaded.certificate)
        provenance = {key: value for key, value in loaded.provenance.items() if key != "fitted_on"}
        result = {
            "models": [model.model_dump(mode="json") for model in loaded.models],
            "unit": loaded.unit,
            "usd_per_second": loaded.usd_per_second,
            "estimator": loaded.estimator.name,
            "strategy": loaded.strategy.to_dict(),
            "alternative": None if loaded.alternative is None else loaded.alternative.to_dict(),
            "gamma": loaded.gamma,
            "limits": loaded.limits.model_dump(mode="json"),
            "check": None if loaded.check is None else loaded.check.model_dump(mode="json"),
            "provenance": provenance,
            "certificate": loaded.certificate,
        }

        def draw(screen: Console) -> None:
            prices = [
                (
                    model.name,
                    "–" if model.price is None else f"${model.price.input:g}",
                    "–" if model.price is None else f"${model.price.output:g}",
                )
                for model in loaded.models
            ]
            screen.print(grid("Models", ("", "input / 1M tokens", "output / 1M tokens"), prices))
            if loaded.usd_per_second:
                screen.print(f"Cost: what is billed{time_in_words(loaded.usd_per_second)}", highlight=False)
            strategy = _listed({k: v for k, v in loaded.strategy.to_dict().items() if k != "name" and v})
            screen.print(
                f"\nStrategy: [bold]{loaded.strategy.name}[/]" + (f" ({strategy})" if strategy else "")
            )
            if loaded.alternative is not None:
                screen.print(
                    f"For {percent(loaded.gamma)} of the queries: {loaded.alternative.name} at another setting"
                )
            if loaded.check is not None:
                told = loaded.check.model_dump(exclude={"kind", "question"})
                screen.print(f"Answers are checked: {loaded.check.kind} ({_listed(told)})", highlight=False)
            for key, value in provenance.items():
                screen.print(f"[dim]{key}:[/] {value}", highlight=False)
            said = "No certificate." if certificate is None else certificate.sentence
            screen.print(Panel(said, title="Certificate", title_align="left"))

        emit(result, json, draw)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {' + '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in values.items()
    )


# -- drawing -------------------------------------------------------------------------------------------------------


def _show_evaluation(screen: Console, result: Evaluation, policy: Policy) -> None:
    summary, unit = result.summary(), policy.unit
    rows = [
        (name, percent(each["quality"]), money(each["cost"], unit), f"{summary['calls'][name]:.2f}")
        for name, each in summary["models"].items()
    ]
    own = summary["policy"]
    calls = f"[bold]{sum(summary['calls'].values()):.2f}[/]"
    rows.append(
        (
            "[bold]policy[/]",
            f"[bold]{percent(own['quality'])}[/]",
            f"[bold]{money(own['cost'], unit)}[/]",
            calls,
        )
    )
    measured = quality_head(certificate_of(policy.certificate))
    head = ("", measured, cost_head(policy.usd_per_second), "calls by policy")
    screen.print(grid(f"On {summary['queries']} queries", head, rows))
    areas = sorted(summary["auc"].items(), key=lambda item: -item[1])
    if areas:
        screen.print(
            grid(
                "Area under the curve",
                ("strategy", "× 100"),
                [(name, f"{100 * auc:.2f}") for name, auc in areas],
            )
        )


_COLOURS = {"holds": "green", "doubtful": "yellow", "broken": "red"}
_SAID = {
    "holds": "The certificate holds on the new data.",
    "doubtful": "The new data miss a bound, but by no more than chance explains. Check again on more.",
    "broken": "The certificate is broken: traffic, models or prices have changed. Collect again and fit.",
}


def _show_check(screen: Console, result: Check, policy: Policy) -> None:
    def number(name: str, value: float) -> str:
        return money(value, policy.unit) if name == "cost" else percent(value)

    rows = [
        (
            each.number.replace("_", " "),
            f"{'at least' if 'quality' in each.number else 'at most'} {number(each.number, each.promised)}",
            number(each.number, each.measured),
            f"{number(each.number, each.low)} – {number(each.number, each.high)}",
            f"[{_COLOURS[each.status]}]{each.status}[/]",
        )
        for each in result.numbers
    ]
    head = ("", "promised", "measured", "interval", "")
    screen.print(grid(f"On {result.queries} new queries", head, rows))
    screen.print(f"[bold {_COLOURS[result.status]}]{_SAID[result.status]}[/]")


def _served(file: Path) -> tuple[list[float], list[float]]:
    """Quality and cost of each query of a file."""
    if file.suffix.lower() == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows: list[Any] = list(csv.DictReader(lines))
    else:
        rows = [
            json_.loads(line) for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()
        ]
    try:
        return [float(row["quality"]) for row in rows], [float(row["cost"]) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"{file}: every row needs a number in quality and in cost: {error}") from error


def _steps(
    policy: Policy, query: Query, answers: dict[str, Answer | None] | None
) -> tuple[list[dict[str, Any]], DecisionRecord | None]:
    """What was believed before each step, and the record; without answers only the first step is known."""
    episode = policy.start(query)
    evidence = policy.estimator.start(query)
    steps: list[dict[str, Any]] = []
    while True:
        step = episode.next()
        belief = evidence.belief()
        costs = evidence.costs()[0]
        believed = {
            name: {"quality": float(belief.mean[0, k]), "sd": float(belief.sd[0, k]), "cost": float(costs[k])}
            for k, name in enumerate(policy.names)
        }
        told = step.model_dump(exclude={"prompt"}, exclude_none=True)
        steps.append({**told, "kind": type(step).__name__.lower(), "believed": believed})
        if not isinstance(step, Call):
            return steps, episode.record
        if answers is None:
            return steps, None
        if step.checks is not None:
            episode.fail(CalibrationError("the table does not say how the answer was checked"))
            continue
        answer = answers[step.model]
        if answer is None:
            raise CalibrationError(f"the table has no answer of {step.model!r} to this query")
        episode.observe(answer)
        if answer.usable:  # the episode takes any other for a failure
            evidence.observe(policy.names.index(step.model), answer)


_REASONS = {
    "good_enough": "no further call is worth its cost",
    "exhausted": "every model has run or failed",
    "limit": "a limit forbids the next call",
    "failed": "the models worth running failed",
    "released": "it was shown already",
}


def _show_steps(
    screen: Console, policy: Policy, query: Query, steps: list[dict[str, Any]], record: DecisionRecord | None
) -> None:
    text = " ".join(query.text.split())
    screen.print(f"[bold]{text[:200]}{'…' if len(text) > 200 else ''}[/]\n", highlight=False)
    ran: set[str] = set()
    for number, step in enumerate(steps, start=1):
        head = ("", "expected quality", "could move by", cost_head(policy.usd_per_second))
        rows = [
            (
                f"[bold]{name}[/]" if name == step["model"] else name,
                percent(each["quality"]),
                "has answered" if name in ran else f"± {percent(each['sd'])}",
                "paid" if name in ran else money(each["cost"], policy.unit),
            )
            for name, each in step["believed"].items()
        ]
        screen.print(grid(f"Step {number}", head, rows))
        if step["kind"] == "call":
            final = ", and its answer will be returned" if step["final"] else ""
            checks = f" to check the answer of {step['checks']}" if "checks" in step else ""
            screen.print(f"→ call [bold]{step['model']}[/]{checks}{final}\n")
            ran.add(step["model"])
        else:
            screen.print(f"→ return the answer of [bold]{step['model']}[/]: {_REASONS[step['reason']]}\n")
    if record is not None:
        spent = money(record.cost, policy.unit) + time_in_words(policy.usd_per_second)
        screen.print(f"Cost: {spent}; strategy: {record.strategy}", highlight=False)
    else:
        screen.print("What follows depends on the answer: name a table with --table to follow it to the end.")
