"""The command line: ``cascade-routing``."""

from __future__ import annotations

import typer

from cascade_core.cli._io import EXIT_CODES
from cascade_core.cli.collecting import collect
from cascade_core.cli.demo import demo
from cascade_core.cli.fitting import fit
from cascade_core.cli.looking import check, evaluate, explain, report, show

app = typer.Typer(
    name="cascade-routing",
    help="Answer each query with the cheapest run of your own models that meets your target.\n\n"
    "Start with [bold]cascade-routing demo[/]: it needs no model and no key.\n\n"
    "Then: [bold]collect[/] your models' answers to your prompts, [bold]fit[/] a policy to them, look at its "
    "[bold]report[/], and [bold]check[/] its certificate on new data.\n\n" + EXIT_CODES,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
policy = typer.Typer(help="Look into policy files.", no_args_is_help=True)
policy.command("show")(show)

app.command()(demo)
app.command()(collect)
app.command()(fit)
app.command()(evaluate)
app.command()(check)
app.command()(report)
app.command()(explain)
app.add_typer(policy, name="policy")
