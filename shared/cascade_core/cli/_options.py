"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
PolicyFile = Annotated[
    Path, typer.Argument(help="Policy file (JSON), as written by fit.", show_default=False)
]
TableFile = Annotated[
    str,
    typer.Argument(
        help="Answers: a store (.sqlite or a postgresql:// URL), a table (.parquet, .csv, .jsonl), or a log exported "
        "from a tracing tool (.json, .jsonl).",
        show_default=False,
    ),
]
Prices = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        help="MODEL=INPUT,OUTPUT in US dollars per million tokens, once for each model; list prices by name where "
        "there is none.",
    ),
]
Unit = Annotated[
    Literal["usd", "seconds"],
    typer.Option(help="What costs are counted in: US dollars, or the answers' latency."),
]
ScoredBy = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        help="How answers are scored: exact, normalised, numeric, choice, contains, contains:TEXT, regex:PATTERN, "
        "agreement:MODEL (no right answers needed), or MODULE:ATTRIBUTE for your own. By default the table's own "
        "quality.",
    ),
]
TimePrice = Annotated[
    float,
    typer.Option(
        "--usd-per-second",
        help="What a second of waiting is worth in US dollars: each second of a call costs this, beside its dollars.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of whatever is drawn.")]
