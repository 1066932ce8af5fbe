"""``cascade-routing demo``: everything once, without a model or a key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cascade_core.calibration import RelativeQuality, calibrate_table
from cascade_core.calibration.replay import complete, unseen
from cascade_core.cli._io import emit, exit_codes
from cascade_core.cli._options import Json
from cascade_core.cli.fitting import show, summary
from cascade_core.cli.sample import MODELS, sample_table


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what it writes.")] = Path("cascade-demo"),
    queries: Annotated[int, typer.Option(help="Number of made-up word problems.", min=100, max=20000)] = 800,
    json: Json = False,
) -> None:
    """A quick tour on made-up answers of three imaginary models: fit, certify, report. Needs no model and no key."""
    with exit_codes(json):
        from cascade_core.report import figures, write_page

        out.mkdir(parents=True, exist_ok=True)
        table = sample_table(queries)
        answers, policy, page = out / "answers.jsonl", out / "policy.json", out / "report.html"
        table.write(answers)
        calibration = calibrate_table(
            table, RelativeQuality(0.95, of="large"), scorer="numeric", prices=dict(MODELS)
        )
        calibration.policy.save(policy)
        write_page(
            figures(
                calibration.policy, unseen(calibration.policy, complete(table, calibration.policy.names))
            ),
            page,
        )
        result = {**summary(calibration, policy), "answers": str(answers), "report": str(page)}

        def draw(screen: Console) -> None:
            screen.print(
                f"Three imaginary models answered {queries} word problems. The target: at least 95 % of the large "
                "one's quality, for as little as possible.\n"
            )
            show(screen, calibration, policy, str(answers), None)
            question = table.queries[-1].text
            screen.print(
                f"Report written to [bold]{page}[/]: open it in a browser.\n\nThen try, on the same files:"
            )
            for line in (
                f"cascade-routing evaluate {policy} {answers}",
                f"cascade-routing explain {policy} --table {answers} {question!r}",
                f"cascade-routing check {policy} {answers}",
                f"cascade-routing fit {answers} --budget 0.0003",
            ):
                screen.print(f"  [bold]{line}[/]", soft_wrap=True, highlight=False)

        emit(result, json, draw)
