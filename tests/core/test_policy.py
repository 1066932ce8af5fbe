"""A policy is one JSON file; a file that cannot be used says why."""

from __future__ import annotations

import json

import pytest

from cascade_core import ConfigurationError, Limits, ModelSpec, Policy, PolicyError, Price
from cascade_core.policy import SCHEMA_VERSION
from cascade_core.strategies import SingleModel


@pytest.fixture
def policy() -> Policy:
    return Policy.uncalibrated(
        [
            ModelSpec(name="small", price=Price(input=1, output=2)),
            ModelSpec(name="large", price=Price(input=5, output=9)),
        ]
    )


def test_save_and_load_give_the_same_policy(policy, tmp_path):
    policy.save(tmp_path / "policy.json")
    loaded = Policy.load(tmp_path / "policy.json", models=["large", "small"])
    assert loaded.to_json() == policy.to_json()
    assert loaded.start("q").next() == policy.start("q").next()


def test_every_field_survives_the_file(policy, tmp_path):
    whole = Policy(
        models=policy.models,
        estimator=policy.estimator,
        strategy=policy.strategy,
        alternative=SingleModel(model=1),
        gamma=0.25,
        unit="usd",
        limits=Limits(max_calls=2, max_cost=0.01),
        provenance={"queries": 300},
        certificate={"confidence": 0.95},
    )
    whole.save(tmp_path / "p.json")
    loaded = Policy.load(tmp_path / "p.json")
    assert (loaded.gamma, loaded.limits, loaded.provenance, loaded.certificate) == (
        0.25,
        Limits(max_calls=2, max_cost=0.01),
        {"queries": 300},
        {"confidence": 0.95},
    )
    assert loaded.alternative.to_dict() == SingleModel(model=1).to_dict()


def test_a_save_that_fails_leaves_the_old_file(policy, tmp_path, monkeypatch):
    target = tmp_path / "policy.json"
    policy.save(target)
    before = target.read_text()
    monkeypatch.setattr(Policy, "to_json", lambda self: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        policy.save(target)
    assert target.read_text() == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_truncated_file_is_refused(policy, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(policy.to_json()[:-40])
    with pytest.raises(PolicyError, match=r"policy\.json: .*truncated or damaged"):
        Policy.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PolicyError, match=r"nowhere\.json: No such file.*Policy\.save"):
        Policy.load(tmp_path / "nowhere.json")


def test_another_schema_version_is_refused_with_both_versions(policy):
    data = json.loads(policy.to_json())
    data["schema_version"] = SCHEMA_VERSION + 1
    with pytest.raises(PolicyError, match=rf"version {SCHEMA_VERSION + 1}.*reads version {SCHEMA_VERSION}"):
        Policy.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": {"name": "oracle"}}, "unknown strategy 'oracle'"),
        ({"estimator": {"name": "tarot"}}, "unknown estimator 'tarot'"),
        ({"gamma": 2}, "'gamma' is not valid"),
        ({"unit": "euros"}, "'unit' is not valid"),
        ({"surprise": 1}, "'surprise' is not valid"),
        ({"format": "recipe"}, "not a policy"),
        ({"estimator": {"name": "uncalibrated"}}, "damaged"),
    ],
)
def test_a_damaged_part_is_named(policy, change, message):
    data = {**json.loads(policy.to_json()), **change}
    with pytest.raises(PolicyError, match=message):
        Policy.from_json(json.dumps(data))


def test_a_policy_for_other_models_is_refused(policy, tmp_path):
    policy.save(tmp_path / "p.json")
    with pytest.raises(PolicyError, match=r"\['small', 'large'\].*given \['small', 'huge'\].*fit a policy"):
        Policy.load(tmp_path / "p.json", models=["small", "huge"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no models"),
        (["a"], "only one model, 'a'"),
        (["a", "b", "a"], "two models are named 'a'.*dictionary"),
    ],
)
def test_the_models_names_are_checked(names, message):
    with pytest.raises(ConfigurationError, match=message):
        Policy.uncalibrated([ModelSpec(name=name) for name in names])


def test_a_model_that_is_down_is_left_out_unless_nothing_else_is_left(policy):
    assert policy.start("q", down={"small"}).next().model == "large"
    assert policy.start("q", only=["small"], down={"small"}).next().model == "small"
    assert policy.start("q", down={"small", "large"}).next().model == "small"
    with pytest.raises(ConfigurationError, match="'huge'"):
        policy.start("q", down={"huge"})
