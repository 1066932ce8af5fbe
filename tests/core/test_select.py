"""Choosing the prompts to pay for."""

from __future__ import annotations

import numpy as np
import pytest

from cascade_core import ConfigurationError
from cascade_core.calibration import Prompt, choose_prompts

PROMPTS = [Prompt(id=str(n), text=f"{'sum' if n % 4 else 'poem'} number {n}") for n in range(40)]
POINTS = {prompt.text: [float(n // 10), 0.001 * n] for n, prompt in enumerate(PROMPTS)}


def embed(texts):
    return [POINTS[text] for text in texts]


@pytest.mark.parametrize("method", ["random", "k-center", "leverage"])
@pytest.mark.parametrize("vectors", [None, embed], ids=["words", "embeddings"])
def test_the_wanted_number_is_chosen_in_order_and_reproducibly(method, vectors):
    chosen = choose_prompts(PROMPTS, 12, method=method, embed=vectors, seed=3)
    places = [PROMPTS.index(prompt) for prompt in chosen]
    assert len(set(places)) == 12
    assert places == sorted(places)
    assert chosen == choose_prompts(PROMPTS, 12, method=method, embed=vectors, seed=3)
    assert chosen != choose_prompts(PROMPTS, 12, method="random", seed=4)


def test_k_center_reaches_every_group():
    for seed in range(5):
        chosen = choose_prompts(PROMPTS, 4, method="k-center", embed=embed, seed=seed)
        assert {POINTS[prompt.text][0] for prompt in chosen} == {0.0, 1.0, 2.0, 3.0}


def test_leverage_prefers_what_is_unusual():
    odd = Prompt(id="odd", text="odd")
    points = {**{prompt.text: [1.0, 0.0] for prompt in PROMPTS}, "odd": [0.0, 5.0]}
    hits = [
        odd
        in choose_prompts(
            [*PROMPTS, odd], 3, method="leverage", embed=lambda t: [points[x] for x in t], seed=s
        )
        for s in range(20)
    ]
    assert np.mean(hits) > 0.7


def test_all_are_taken_when_there_are_no_more():
    assert choose_prompts(PROMPTS, 40) == PROMPTS
    assert choose_prompts(PROMPTS, 99, method="k-center") == PROMPTS


def test_nonsense_is_refused():
    with pytest.raises(ConfigurationError, match="at least 1"):
        choose_prompts(PROMPTS, 0)
    with pytest.raises(ConfigurationError, match="random, k-center or leverage"):
        choose_prompts(PROMPTS, 3, method="magic")
