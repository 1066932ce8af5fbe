"""A progress bar for collection, drawn on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from cascade_core.calibration.collection import Progress


class Bar:
    """Shows calls made, calls per second, and what was spent of what the run will cost."""

    def __init__(self) -> None:
        self._rich = RichProgress(
            TextColumn("collecting"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._rich.add_task("collecting", total=None, detail="")

    def __enter__(self) -> Bar:
        """Start drawing."""
        self._rich.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop drawing."""
        self._rich.stop()

    def __call__(self, progress: Progress) -> None:
        """Draw."""
        detail = f"{progress.rate:.1f}/s"
        if progress.expected is not None:
            detail += f" · ${progress.spent:.4f} of about ${progress.expected:.4f}"
        if progress.failed:
            detail += f" · {progress.failed} failed"
        self._rich.update(self._task, total=progress.total, completed=progress.done, detail=detail)
