"""The frontier as a static picture: PNG, SVG or PDF. Needs the extra ``report``."""

from __future__ import annotations

import os
from pathlib import Path

from cascade_core.errors import ConfigurationError
from cascade_core.pricing import time_in_words
from cascade_core.report.figures import Figures

_FORMATS = (".png", ".svg", ".pdf")
_COLOURS = ("#0b62d6", "#c2410c", "#0a7d55", "#8b3fc7", "#8a6a00", "#c2185b", "#0e7490", "#5b6472")


def plot(figures: Figures, path: str | os.PathLike[str]) -> None:
    """Draw cost and quality of every strategy, single model and the policy to a file.

    Raises:
        ConfigurationError: the file's name says no known format, or matplotlib is not installed.
    """
    file = Path(path)
    if file.suffix.lower() not in _FORMATS:
        raise ConfigurationError(f"{file.name}: expected a name that ends in one of {list(_FORMATS)}")
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError('plots need a package: pip install "cascade-routing[report]"') from error
    data = figures.data
    scale, unit = (
        (1000.0, "US dollars per 1,000 queries") if data["unit"] == "usd" else (1.0, "seconds per query")
    )
    with rc_context({"font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "cascade-routing"}):
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for colour, strategy in zip(_COLOURS, figures.strategies, strict=False):
            own = strategy["name"] == data["chosen"]["name"]
            axes.plot(
                [cost * scale for cost in strategy["cost"]],
                strategy["quality"],
                color=colour,
                linewidth=2.6 if own else 1.3,
                linestyle="--" if strategy["name"] == "linear" else "-",
                label=strategy["label"],
                zorder=3 if own else 2,
            )
        for model in data["models"]:
            _point(axes, model, scale, marker="D", color="white", edge="#17202b")
            axes.annotate(
                model["name"],
                (model["cost"] * scale, model["quality"]),
                (8, -12),
                textcoords="offset points",
                fontsize=9,
            )
        _point(axes, data["chosen"], scale, marker="o", color="#0b62d6", edge="white")
        axes.set_xlabel(unit + time_in_words(data["usd_per_second"]))
        axes.set_ylabel("quality")
        axes.set_xlim(left=0)
        axes.set_title(data["title"], loc="left", fontweight="bold")
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, loc="lower right")
        figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix.lower() == ".svg" else None)


def _point(axes: object, what: dict[str, float], scale: float, *, marker: str, color: str, edge: str) -> None:
    x, y = what["cost"] * scale, what["quality"]
    error = [[max(y - what["low"], 0)], [max(what["high"] - y, 0)]]
    axes.errorbar(x, y, error, fmt="none", ecolor="#17202b", elinewidth=1, zorder=4)  # type: ignore[attr-defined]
    axes.scatter(x, y, 52, marker=marker, color=color, edgecolors=edge, linewidths=1.5, zorder=5)  # type: ignore[attr-defined]
