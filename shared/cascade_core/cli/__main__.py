"""``python -m cascade_core.cli``."""

from cascade_core.cli import app

app()
