"""Areas under the cost-quality curve, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cascade_core.errors import ArrayError
from cascade_core.evaluation import aiq, area, area_difference, hull, max_gain

SINGLE = np.array([1.0, 3.0]), np.array([0.4, 0.8])


def curve(*points: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    cost, quality = zip(*points, strict=True)
    return np.array(cost), np.array(quality)


def test_the_linear_interpolation_has_the_mean_of_its_ends() -> None:
    assert area(*SINGLE, *SINGLE) == pytest.approx(0.6)
    assert max_gain(*SINGLE, *SINGLE) == pytest.approx(0.0)


def test_a_curve_that_ends_early_goes_on_flat() -> None:
    assert area(*curve((1, 0.4), (2, 0.8)), *SINGLE) == pytest.approx((0.6 + 0.8) / 2)


def test_a_curve_that_starts_late_begins_at_the_worst_models_quality() -> None:
    assert area(*curve((2, 0.6), (3, 0.8)), *SINGLE) == pytest.approx(((0.4 + 0.6) / 2 + (0.6 + 0.8) / 2) / 2)


def test_what_lies_outside_the_range_of_costs_does_not_count() -> None:
    assert area(*curve((0, 0.4), (2, 0.6), (4, 1.0)), *SINGLE) == pytest.approx((0.55 + 0.7) / 2)


def test_the_order_of_the_points_does_not_matter() -> None:
    points = [(1.0, 0.4), (1.5, 0.7), (3.0, 0.8)]
    assert area(*curve(*points), *SINGLE) == area(*curve(*reversed(points)), *SINGLE)


def test_the_hull_is_concave_and_never_falls() -> None:
    cost, quality = hull(*curve((1, 0.4), (1.5, 0.3), (2, 0.7), (2.5, 0.65), (3, 0.8), (4, 0.8)))
    assert cost.tolist() == [1, 2, 3]
    assert quality.tolist() == [0.4, 0.7, 0.8]


def test_the_areas_of_curve_and_hull() -> None:
    points = curve((1, 0.4), (1.5, 0.3), (2, 0.7), (3, 0.8))
    assert aiq(*points, SINGLE[0]) == pytest.approx((0.55 + 0.75) / 2)
    assert area(*points, *SINGLE) < aiq(*points, SINGLE[0])
    assert aiq(*curve((2, 0.7)), SINGLE[0]) == pytest.approx(0.7)


def test_the_greatest_gain_over_the_linear_interpolation() -> None:
    assert max_gain(*curve((1, 0.4), (2, 0.75), (3, 0.8)), *SINGLE) == pytest.approx(0.15)


def test_the_paired_bootstrap_covers_the_difference_and_is_sharper_than_each_area() -> None:
    random = np.random.default_rng(0)
    single = (
        random.lognormal(0, 0.1, (500, 2)) * SINGLE[0],
        (random.random((500, 2)) < SINGLE[1]).astype(float),
    )
    worse = single[0].T, single[1].T
    better = worse[0], worse[1] + 0.05
    difference, low, high = area_difference(better, worse, single)
    assert low - 1e-9 <= difference <= high + 1e-9
    assert difference == pytest.approx(0.05, abs=1e-9)
    assert high - low < 1e-6
    assert area_difference(better, worse, single) == (difference, low, high)
    wide = area_difference(better, (worse[0], random.permuted(worse[1], axis=1)), single)
    assert wide[1] < wide[0] < wide[2]


def test_what_is_no_curve_is_refused() -> None:
    with pytest.raises(ArrayError, match=r"cost has shape \(2,\) and quality \(3,\)"):
        hull(np.zeros(2), np.zeros(3))
    with pytest.raises(ArrayError, match="finite"):
        area(np.array([1.0, np.nan]), np.zeros(2), *SINGLE)
    with pytest.raises(ArrayError, match="different mean cost"):
        area(*SINGLE, np.ones(2), SINGLE[1])
    with pytest.raises(ArrayError, match=r"one has arrays of shape \(3, 4\)"):
        area_difference(
            (np.zeros((3, 4)), np.zeros((3, 4))), (np.zeros((3, 5)),) * 2, (np.zeros((5, 2)),) * 2
        )
