"""What an answer shows of itself: how sure its tokens were, what form it has, whether it declines or breaks off.

A feature that a provider does not give is NaN, which is no error: a reasoning model returns no log-probabilities.
"""

from __future__ import annotations

import re

import numpy as np

from cascade_core.belief import FloatArray
from cascade_core.estimation.text import FORM, Reading
from cascade_core.estimation.uncalibrated import cut_off, refuses
from cascade_core.values import Answer

FIGURES = 14 + FORM
"""Number of figures about an answer, see :func:`figures`."""

_HEDGE = re.compile(
    r"\b(?:not sure|unsure|uncertain|i think|maybe|perhaps|probably|it seems|cannot determine|can't determine|"
    r"not enough information|however|assum\w+|approximately|unclear|ambiguous)\b",
    re.IGNORECASE,
)


def figures(answer: Answer, reading: Reading) -> FloatArray:
    """``(FIGURES,)`` numbers about an answer, NaN where there is nothing to tell.

    Of the log-probabilities: mean, least, 10 % and 25 % quantile, that of the first token, their sum over the root of
    their number (the sum alone would say how long the answer is); of the likeliest alternatives: margin of the
    first token, mean and least margin, mean entropy. Then: cut off, refusal, unparsed, hedges; and the text's form.
    """
    row = np.full(FIGURES, np.nan)
    if answer.logprobs:
        logprobs = np.maximum(np.asarray(answer.logprobs), -20.0)
        row[0], row[1], row[4] = logprobs.mean(), logprobs.min(), logprobs[0]
        row[2:4] = np.quantile(logprobs, (0.1, 0.25))
        row[5] = logprobs.sum() / np.sqrt(logprobs.size)
    if answer.top_logprobs:
        margins, entropies = _alternatives(answer.top_logprobs)
        if margins.size:
            row[6], row[7], row[8], row[9] = margins[0], margins.mean(), margins.min(), entropies.mean()
    row[10] = cut_off(answer)
    row[11] = refuses(answer.text)
    row[12] = answer.parse_error
    row[13] = min(len(_HEDGE.findall(answer.text[:4096])), 5)
    row[14:] = reading.form
    return row


def _alternatives(top: tuple[tuple[float, ...], ...]) -> tuple[FloatArray, FloatArray]:
    """Margin between the first and second probability, and entropy of the alternatives, of each token."""
    margins, entropies = [], []
    for token in top:
        if not token:
            continue
        p = np.sort(np.exp(np.maximum(token, -50.0)))[::-1]
        margins.append(p[0] - (p[1] if p.size > 1 else 0.0))
        entropies.append(float(-(p * np.log(np.maximum(p, 1e-12))).sum()))
    return np.array(margins), np.array(entropies)
