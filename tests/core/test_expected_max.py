"""E[max]: exact to the digits its docstring states, deterministic, and the same whichever way it is computed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import norm

from cascade_core._normal import cdf, inverse_loss, loss
from cascade_core.errors import ArrayError
from cascade_core.expected_max import expected_max, prefixes_expected_max, subsets_expected_max


def fine_quadrature(mean: np.ndarray, sd: np.ndarray, floor: float) -> float:
    """The same expectation by 40 nodes in each of many narrow panels."""
    sd = np.maximum(sd, 1e-12)
    low = floor if np.isfinite(floor) else float((mean - 9 * sd).min())
    high = max(float((mean + 9 * sd).max()), low)
    cuts = np.unique(np.clip(np.r_[low, high, (mean + sd * np.arange(-9, 10)[:, None]).ravel()], low, high))
    x, weight = np.polynomial.legendre.leggauss(40)
    total = low
    for left, right in pairwise(cuts):
        points = (left + right) / 2 + (right - left) / 2 * x
        below = ndtr((points[:, None] - mean) / sd).prod(axis=1)
        total += float(((1 - below) * weight).sum()) * (right - left) / 2
    return total


@pytest.mark.parametrize(("nodes", "error"), [(3, 1e-4), (6, 1e-6)])
@pytest.mark.parametrize("models", [1, 2, 3, 5, 11])
def test_independent_estimates_are_exact_to_the_stated_error(models: int, nodes: int, error: float) -> None:
    random = np.random.default_rng(models)
    for spread in ("alike", "mixed", "widest"):
        mean = random.uniform(0, 1, models)
        sd = {
            "alike": random.uniform(0.05, 0.4, models),
            "mixed": 0.5 * 10 ** random.uniform(-3, 0, models),
            "widest": np.full(models, 0.5),
        }[spread]
        for floor in (-np.inf, 0.6):
            table = subsets_expected_max(mean[None], sd[None], np.array([floor]), nodes)[0]
            for subset in {1, (1 << models) - 1, int(random.integers(1, 1 << models))}:
                chosen = [m for m in range(models) if subset >> m & 1]
                assert table[subset] == pytest.approx(
                    fine_quadrature(mean[chosen], sd[chosen], floor), abs=error
                )


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_prefixes_are_those_subsets(data: st.DataObject) -> None:
    models = data.draw(st.integers(1, 6))
    numbers = st.lists(st.floats(0, 1), min_size=models, max_size=models)
    mean, sd = np.array([data.draw(numbers)]), np.array([data.draw(numbers)]) / 2
    floor = np.array([data.draw(st.sampled_from([-np.inf, 0.0, 0.5, 2.0]))])
    subsets = subsets_expected_max(mean, sd, floor)[0]
    prefixes = prefixes_expected_max(mean, sd, floor)[0]
    np.testing.assert_allclose(prefixes, subsets[[(2 << i) - 1 for i in range(models)]], atol=1e-12)
    assert (np.diff(np.r_[subsets[1], prefixes]) >= -1e-9).all()  # one more model never makes the best worse


def test_without_spread_it_is_the_maximum() -> None:
    table = subsets_expected_max(np.array([[0.2, 0.7, 0.5]]), np.zeros((1, 3)), np.array([0.3]))[0]
    np.testing.assert_allclose(table, [0.3, 0.3, 0.7, 0.7, 0.5, 0.5, 0.7, 0.7], atol=1e-9)


@pytest.mark.parametrize("models", [2, 3, 5, 11])
def test_correlated_estimates_agree_with_a_million_samples(models: int) -> None:
    random = np.random.default_rng(models)
    sd = random.uniform(0.05, 0.5, models)
    root = random.normal(size=(models, models))
    covariance = root @ root.T
    scale = sd / np.sqrt(np.diag(covariance))
    covariance *= np.outer(scale, scale)
    mean = random.uniform(0.3, 0.9, models)
    samples = random.multivariate_normal(mean, covariance, size=1_000_000, method="cholesky")
    sampled = (samples.max(axis=1) + (2 * mean - samples).max(axis=1)) / 2  # each with its mirror image
    assert expected_max(mean, covariance) == pytest.approx(sampled.mean(), abs=1e-3)
    assert expected_max(mean, covariance) == expected_max(mean, covariance)


def test_correlated_shapes_are_checked() -> None:
    with pytest.raises(ArrayError, match=r"covariance \(3, 3\)"):
        expected_max(np.zeros(2), np.eye(3))


def test_normal_tables_are_as_exact_as_they_say() -> None:
    x = np.linspace(-9, 9, 20_001)
    np.testing.assert_allclose(cdf(x), ndtr(x), atol=1e-9)
    t = np.geomspace(1e-11, 100, 5_001)
    u = inverse_loss(t)
    np.testing.assert_allclose(norm.pdf(u) - u * ndtr(-u), t, rtol=1e-7)
    np.testing.assert_allclose(loss(u[t > 1e-6]), t[t > 1e-6], rtol=1e-3)
