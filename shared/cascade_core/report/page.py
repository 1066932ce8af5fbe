"""The report as one HTML file that loads nothing from anywhere."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path

from cascade_core.report.figures import Figures

_HERE = Path(__file__).parent


def page(figures: Figures) -> str:
    """The page's text. Style, script and data are inside; a policy in it forbids loading anything else."""
    # "<" never appears inside the data, so that no text of a prompt can end the element it is in.
    data = json.dumps(figures.data, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
    parts = {
        "style": (_HERE / "page.css").read_text(encoding="utf-8"),
        "script": (_HERE / "page.js").read_text(encoding="utf-8"),
        "title": html.escape(str(figures.data["title"])),
        "data": data,
    }
    before, *rest = (_HERE / "page.html").read_text(encoding="utf-8").split("{{")
    return before + "".join(
        parts[name] + after for name, _, after in (piece.partition("}}") for piece in rest)
    )


def write_page(figures: Figures, path: str | os.PathLike[str]) -> None:
    """Write the page to a file."""
    Path(path).write_text(page(figures), encoding="utf-8")
