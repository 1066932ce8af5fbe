"""A model that keeps failing is left out for a while, and tried again by one query at a time."""

from __future__ import annotations

import copy
import pickle

from cascade_core import Health


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_two_failures_do_not_take_a_model_down():
    health = Health(Clock())
    health.failed("a")
    health.failed("a")
    assert health.down() == frozenset()


def test_three_failures_in_a_row_do_and_only_that_model():
    health = Health(Clock())
    for _ in range(3):
        health.failed("a")
    health.failed("b")
    assert health.down() == {"a"}


def test_a_success_in_between_starts_the_count_again():
    health = Health(Clock())
    for outcome in (health.failed, health.failed, health.succeeded, health.failed, health.failed):
        outcome("a")
    assert health.down() == frozenset()


def test_after_the_pause_one_query_tries_again_and_a_success_heals():
    clock = Clock()
    health = Health(clock)
    for _ in range(3):
        health.failed("a")
    clock.now = 11.0
    assert health.down() == frozenset()
    assert health.down() == {"a"}
    health.succeeded("a")
    assert health.down() == frozenset()


def test_the_pause_doubles_up_to_five_minutes():
    clock = Clock()
    health = Health(clock)
    for _ in range(3):
        health.failed("a")
    clock.now = 10.5
    health.failed("a")
    clock.now = 30.0
    assert health.down() == {"a"}
    for _ in range(50):
        health.failed("a")
    clock.now = 30.0 + 301.0
    assert health.down() == frozenset()


def test_a_copy_starts_without_failures():
    health = Health()
    for _ in range(3):
        health.failed("a")
    assert health.down() == {"a"}
    for twin in (copy.deepcopy(health), pickle.loads(pickle.dumps(health))):
        assert twin.down() == frozenset()
        twin.failed("a")
