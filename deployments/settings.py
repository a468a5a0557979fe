"""Settings of the application: `args` in serve.yaml, or key=value after `serve run deployments.app:build`."""

import os

from pydantic import BaseModel, ConfigDict, Field

from drig.errors import DrigError
from drig.tracking import URI_VARIABLE


def _store_of_this_node() -> str:
    uri = os.environ.get(URI_VARIABLE)
    if not uri:
        raise DrigError(
            f"no MLflow store: give tracking_uri=http(s)://<server> to the application, or set {URI_VARIABLE}"
        )
    return uri


class ServeConfig(BaseModel):
    """Settings of the application.

    How many replicas run, on what, and how long a queue they have is set under `deployments` in serve.yaml.
    """

    model_config = ConfigDict(extra="forbid")

    tracking_uri: str = Field(default_factory=_store_of_this_node)
    """The MLflow store with the identities: http(s)://<server>, or sqlite:///<absolute path> on one machine. Left out =
    MLFLOW_TRACKING_URI, as the nodes of cluster.yaml have it."""
    gpus_per_replica: float = Field(default=0, ge=0)
    """GPUs of an edit replica, or a share of one. 0 = edit on the CPU."""
    editors_per_replica: int = Field(default=4, ge=1)
    """Identities that a replica keeps loaded; the least recently used one makes room for the next."""
    max_upload_mib: float = Field(default=24, gt=0)
    """Largest request in MiB, both photos together."""
