"""cluster.yaml against Ray's own launcher code and a fake AWS: what `ray up` does before it starts a machine."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws import config as aws_config
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


def test_matches_rays_schema(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_the_schema_check_can_fail(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["gpu_worker"]["max_wokers"] = 3
    with pytest.raises(Exception, match="max_wokers"):
        validate_config(prepare_config(cluster))


def test_launcher_resolves_every_node_type(
    cluster: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IAM role, key, subnets and security group are made, and the resources written down are those of the machines."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("HOME", str(tmp_path))  # the launcher writes the key pair to ~/.ssh
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # it waits 15 s for a real IAM
    declared = copy.deepcopy(cluster["available_node_types"])
    for node_type in cluster["available_node_types"].values():
        node_type.pop("resources", None)
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        launched = aws_config.bootstrap_aws(prepare_config(cluster))  # type: ignore[no-untyped-call]
        detected = AWSNodeProvider.fillout_available_node_types_resources(launched)["available_node_types"]
    assert launched["head_node"]["IamInstanceProfile"]["Arn"].endswith("ray-autoscaler-v1")
    for name in ("stage1_8gpu", "gpu_worker"):
        assert detected[name]["node_config"]["SecurityGroupIds"]
        for resource, amount in declared[name]["resources"].items():
            assert detected[name]["resources"][resource] == amount, (name, resource)
    assert declared["stage1_8gpu"]["resources"]["GPU"] == 8
    assert declared["gpu_worker"]["max_workers"] > declared["gpu_worker"]["min_workers"]


def test_setup_installs_the_lock_and_the_package(cluster: dict[str, Any]) -> None:
    setup = " ".join(cluster["setup_commands"])
    assert "requirements.lock" in setup
    assert "-e ~/drig" in setup
    assert "RAY_AUTH_MODE=token" in setup  # head, workers and drivers read one .bashrc
