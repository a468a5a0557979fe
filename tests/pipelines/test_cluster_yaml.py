"""cluster.yaml against Ray's own launcher code and a fake AWS: what `ray up` does before it starts a machine."""

import copy
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from cfnlint.api import lint
from cfnlint.decode import decode
from moto import mock_aws
from ray.autoscaler._private.providers import _clear_provider_cache, _get_node_provider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.node_launch_exception import NodeLaunchException

from deployments.spot import SpotFirstProvider

ROOT = Path(__file__).parents[2]
REGION = "us-west-2"


@pytest.fixture
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account in which deployments/aws.yaml was deployed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("HOME", str(tmp_path))  # the launcher writes the key pair to ~/.ssh
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # it waits 15 s for a real IAM
    with mock_aws():
        boto3.client("cloudformation").create_stack(
            StackName="drig",
            TemplateBody=(ROOT / "deployments/aws.yaml").read_text(),
            Parameters=[{"ParameterKey": "Bucket", "ParameterValue": "lab"}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        yield
    _clear_provider_cache()  # type: ignore[no-untyped-call]


@pytest.fixture
def launched(cluster: dict[str, Any], aws: None) -> dict[str, Any]:
    """The configuration with which machines are started."""
    for node_type in cluster["available_node_types"].values():
        node_type.pop("resources", None)
    config: dict[str, Any] = SpotFirstProvider.bootstrap_config(prepare_config(cluster))  # type: ignore[no-untyped-call]
    return config


def test_matches_rays_schema(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_the_schema_check_can_fail(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["gpu_worker"]["max_wokers"] = 3
    with pytest.raises(Exception, match="max_wokers"):
        validate_config(prepare_config(cluster))


def test_launcher_resolves_every_node_type(launched: dict[str, Any]) -> None:
    """Key, subnets and security group are found or made, and the resources written down are those of the machines."""
    declared = yaml.safe_load((ROOT / "cluster.yaml").read_text())["available_node_types"]
    detected = SpotFirstProvider.fillout_available_node_types_resources(launched)["available_node_types"]
    for name in ("stage1_8gpu", "gpu_worker"):
        assert detected[name]["node_config"]["SecurityGroupIds"]
        for resource, amount in declared[name]["resources"].items():
            assert detected[name]["resources"][resource] == amount, (name, resource)
    assert declared["stage1_8gpu"]["resources"]["GPU"] == 8
    assert declared["gpu_worker"]["max_workers"] > declared["gpu_worker"]["min_workers"]


def test_machines_have_the_roles_of_the_template(launched: dict[str, Any]) -> None:
    iam, types = boto3.client("iam"), launched["available_node_types"]
    roles = {}
    for name, node_type in types.items():
        profile = iam.get_instance_profile(InstanceProfileName=node_type["node_config"]["IamInstanceProfile"]["Name"])
        roles[name] = [role["RoleName"] for role in profile["InstanceProfile"]["Roles"]]
    assert roles == {"head": ["drig-head"], "stage1_8gpu": ["drig-node"], "gpu_worker": ["drig-node"]}
    (attached,) = iam.list_attached_role_policies(RoleName="drig-node")["AttachedPolicies"]
    policy = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId="v1")["PolicyVersion"]["Document"]
    assert {statement["Resource"] for statement in policy["Statement"]} == {"arn:aws:s3:::lab", "arn:aws:s3:::lab/*"}


def test_the_template_is_what_cloudformation_takes() -> None:
    assert lint((ROOT / "deployments/aws.yaml").read_text()) == []


def test_the_bucket_forgets_uploads_that_were_broken_off() -> None:
    template, _ = decode(str(ROOT / "deployments/aws.yaml"))
    (rule,) = template["Resources"]["Data"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


@pytest.mark.parametrize("there_is_spot", [True, False])
def test_without_spot_machines_workers_are_on_demand(
    launched: dict[str, Any], there_is_spot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = _get_node_provider(launched["provider"], launched["cluster_name"])
    assert type(provider) is SpotFirstProvider
    if not there_is_spot:
        refuse(monkeypatch, provider, "InsufficientInstanceCapacity", only_spot=True)
    provider.create_node(copy.deepcopy(launched["available_node_types"]["gpu_worker"]["node_config"]), {}, 1)
    found = boto3.client("ec2").describe_instances()["Reservations"]
    machines = [instance for reservation in found for instance in reservation["Instances"]]
    assert [machine["InstanceType"] for machine in machines] == ["g5.2xlarge"]
    assert [machine.get("InstanceLifecycle") for machine in machines] == ["spot" if there_is_spot else None]


@pytest.mark.parametrize(
    ("code", "only_spot"), [("UnauthorizedOperation", True), ("InsufficientInstanceCapacity", False)]
)
def test_what_another_machine_would_not_mend_is_an_error(
    launched: dict[str, Any], code: str, only_spot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = _get_node_provider(launched["provider"], launched["cluster_name"])
    refuse(monkeypatch, provider, code, only_spot=only_spot)
    with pytest.raises(NodeLaunchException) as raised:
        provider.create_node(copy.deepcopy(launched["available_node_types"]["gpu_worker"]["node_config"]), {}, 1)
    assert raised.value.category == code


def refuse(monkeypatch: pytest.MonkeyPatch, provider: SpotFirstProvider, code: str, *, only_spot: bool) -> None:
    """AWS answers requests for machines with an error."""
    start = provider.ec2_fail_fast.create_instances

    def create_instances(**request: Any) -> Any:
        if only_spot and "InstanceMarketOptions" not in request:
            return start(**request)
        raise ClientError({"Error": {"Code": code, "Message": "made up by the test"}}, "RunInstances")

    monkeypatch.setattr(provider.ec2_fail_fast, "create_instances", create_instances)


def test_setup_installs_the_lock_and_the_package(cluster: dict[str, Any]) -> None:
    setup = " ".join(cluster["setup_commands"])
    assert "requirements.lock" in setup
    assert "-e ~/drig" in setup
    assert "RAY_AUTH_MODE=token" in setup  # head, workers and drivers read one .bashrc


def test_commands_are_shell_and_name_files_of_the_project(cluster: dict[str, Any]) -> None:
    commands = [
        command
        for name in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
        for command in cluster[name]
    ]
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    named = re.findall(r"~/drig/(\S+)", " ".join(commands))
    assert named
    assert all((ROOT / name).exists() for name in named)


def test_no_file_of_a_cluster_holds_a_secret() -> None:
    """Keys of AWS, passwords in addresses, private keys, and values of whatever is called a secret."""
    secret = re.compile(
        r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:$]+:(?!PASSWORD@)[^@\s$]+@|"
        r"(?i:secret|password|token)[a-z_]*\s*[:=]\s*[\"'][^\"'$]+"
    )
    files = [ROOT / "cluster.yaml", *(path for path in (ROOT / "deployments").rglob("*") if path.suffix != ".py")]
    found = {path.name: secret.findall(path.read_text()) for path in files if path.is_file() and path.suffix != ".pyc"}
    assert {name: values for name, values in found.items() if values} == {}
