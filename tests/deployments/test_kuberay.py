"""The manifests against KubeRay's own schema, and against what Ray's autoscaler and Serve make of them.

`kuberay_v1.7.0.json.xz` is the openAPIV3Schema of the three custom resources, from helm-chart/kuberay-operator/crds of
github.com/ray-project/kuberay at v1.7.0 (Apache-2.0). Its few rules in CEL are not checked here.
"""

import json
import lzma
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.serve.schema import ServeDeploySchema

from drig import config as configs
from pipelines import stage1

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments/kuberay"
SCHEMAS: dict[str, Any] = json.loads(lzma.decompress(Path(__file__).with_name("kuberay_v1.7.0.json.xz").read_bytes()))


def strict(schema: Any) -> Any:
    """The schema as kubectl applies it: what it does not name is a mistake, and numbers may be quantities, "500m"."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {name: strict(value) for name, value in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def manifests(name: str) -> dict[str, Any]:
    """The objects of a file by kind."""
    return {found["kind"]: found for found in yaml.safe_load_all((FOLDER / name).read_text())}


def check(manifest: dict[str, Any]) -> None:
    schema = strict(SCHEMAS[manifest["kind"]])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own, which the resource leaves open
    jsonschema.Draft4Validator(schema).validate(manifest)


@pytest.mark.parametrize(
    ("name", "kind"), [("cluster.yaml", "RayCluster"), ("stage1.yaml", "RayJob"), ("serve.yaml", "RayService")]
)
def test_matches_the_schema_of_kuberay(name: str, kind: str) -> None:
    check(manifests(name)[kind])


def test_mlflows_pod_matches_the_schema_of_pods() -> None:
    group = SCHEMAS["RayCluster"]["properties"]["spec"]["properties"]["headGroupSpec"]
    schema = strict(group["properties"]["template"]["properties"]["spec"])
    jsonschema.Draft4Validator(schema).validate(manifests("mlflow.yaml")["Deployment"]["spec"]["template"]["spec"])


def test_the_schema_check_can_fail() -> None:
    cluster = manifests("cluster.yaml")["RayCluster"]
    check(cluster)
    cluster["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        check(cluster)
    job = manifests("stage1.yaml")["RayJob"]
    job["spec"]["backoffLimit"] = "three"
    with pytest.raises(jsonschema.ValidationError, match="three"):
        check(job)


def cluster_specs() -> dict[str, Any]:
    """The Ray clusters of the files, by file."""
    job, service = manifests("stage1.yaml")["RayJob"], manifests("serve.yaml")["RayService"]
    return {
        "cluster": manifests("cluster.yaml")["RayCluster"]["spec"],
        "stage1": job["spec"]["rayClusterSpec"],
        "serve": service["spec"]["rayClusterConfig"],
    }


@pytest.mark.parametrize(
    ("name", "groups"),
    [("cluster", {"gpu-worker": (16, 1)}), ("stage1", {"stage1-8gpu": (1, 8)}), ("serve", {"gpu-worker": (8, 1)})],
)
def test_ray_sees_the_groups_as_meant(name: str, groups: dict[str, tuple[int, int]]) -> None:
    cluster = {"metadata": {"name": name, "namespace": "default"}, "spec": cluster_specs()[name]}
    types = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    assert types.pop("headgroup")["resources"]["CPU"] == 0
    assert {kind: (found["max_workers"], found["resources"]["GPU"]) for kind, found in types.items()} == groups
    assert all(found["resources"]["CPU"] >= 4 * found["resources"]["GPU"] for found in types.values())


def test_the_job_runs_a_command_of_the_project_and_is_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    job = manifests("stage1.yaml")["RayJob"]["spec"]
    python, script, *options = shlex.split(job["entrypoint"])
    assert (python, script) == ("python", "pipelines/stage1.py")
    assert stage1.main([*options, "--dry-run"]) == 0
    workers = configs.parse(stage1.Stage1Config, options, prog="-", description="-", presets=stage1.PRESETS)[0].workers
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) == workers
    assert job["backoffLimit"] > 0
    assert "clusterSelector" not in job  # KubeRay refuses it beside a backoffLimit


def test_the_service_is_that_of_serve_yaml() -> None:
    config = yaml.safe_load(manifests("serve.yaml")["RayService"]["spec"]["serveConfigV2"])
    assert config == yaml.safe_load((ROOT / "deployments/serve.yaml").read_text())
    ServeDeploySchema.model_validate(config)


def test_pods_share_account_settings_and_version_of_ray() -> None:
    cluster = manifests("cluster.yaml")
    account, settings = (cluster[kind]["metadata"]["name"] for kind in ("ServiceAccount", "ConfigMap"))
    specs = cluster_specs().values()
    groups = [group for spec in specs for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    pods = [group["template"]["spec"] for group in groups]
    pods.append(manifests("mlflow.yaml")["Deployment"]["spec"]["template"]["spec"])
    for pod in pods:
        assert pod["serviceAccountName"] == account
        (container,) = pod["containers"]
        assert {"configMapRef": {"name": settings}} in container["envFrom"]
        assert container["image"] == "IMAGE"
    assert [spec["rayVersion"] for spec in specs] == [ray.__version__] * 3
