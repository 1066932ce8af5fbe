"""A composite's policy: the one given, the one in a file, or the uncalibrated default, which says so."""

from __future__ import annotations

import pytest

from cascade_core import ConfigurationError, ModelSpec, Policy, PolicyError, Price
from cascade_core.default_policy import UncalibratedWarning, policy_for

NAMES = ["small", "large"]


def test_without_a_policy_the_default_is_taken_with_a_warning():
    with pytest.warns(UncalibratedWarning, match="Fit a policy with calibrate"):
        policy = policy_for(NAMES, None, {"small": Price(input=1, output=2)})
    assert policy.names == ("small", "large")
    assert policy.models[0].price == Price(input=1, output=2)
    assert not policy.priced, "the other has no price"


def test_list_prices_are_found_by_name():
    with pytest.warns(UncalibratedWarning):
        policy = policy_for(["gpt-4o-mini", "gpt-4o"], None)
    assert policy.unit == "usd"


def test_a_policy_or_its_file_must_be_for_these_models(tmp_path):
    policy = Policy.uncalibrated([ModelSpec(name=name) for name in NAMES])
    policy.save(tmp_path / "policy.json")
    assert policy_for(NAMES, policy) is policy
    assert policy_for(NAMES, tmp_path / "policy.json").to_json() == policy.to_json()
    for given in (policy, tmp_path / "policy.json"):
        with pytest.raises(PolicyError, match="made for the models"):
            policy_for(["small", "huge"], given)


@pytest.mark.parametrize(
    ("policy", "prices", "said"),
    [
        (7, None, "of type int"),
        (Policy.uncalibrated([ModelSpec(name=name) for name in NAMES]), {}, "part of the policy"),
    ],
)
def test_what_cannot_be_is_said(policy, prices, said):
    with pytest.raises(ConfigurationError, match=said):
        policy_for(NAMES, policy, prices)


@pytest.mark.parametrize(
    ("prices", "said"), [({"huge": Price(input=1, output=1)}, "none of"), ({"small": 3}, "expected a Price")]
)
@pytest.mark.filterwarnings("ignore::cascade_core.default_policy.UncalibratedWarning")
def test_prices_are_checked(prices, said):
    with pytest.raises(ConfigurationError, match=said):
        policy_for(NAMES, None, prices)
