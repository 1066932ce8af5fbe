"""Python snippets of documentation, fenced by three backticks."""

from __future__ import annotations

import re
import textwrap

_FENCED = re.compile(r"^ *```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def python_snippets(text: str) -> list[str]:
    """Code of every ``python`` block, without the block's indent."""
    return [textwrap.dedent(code) for code in _FENCED.findall(text)]
