"""Settings of the application: `args` in serve.yaml, or key=value after `serve run deployments.app:build`."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from drig.errors import DrigError
from drig.tracking import URI_VARIABLE

TrainingPreset = Literal["tiny", "tiny-full", "paper", "paper-delta"]
"""Of `drig personalize`."""


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
    """Whole rigs that a replica keeps loaded; the least recently used one makes room for the next."""
    deltas_per_replica: int = Field(default=64, ge=1)
    """Identities that a replica has at hand, those that are deltas over a base in memory: some MB each."""
    batch: int = Field(default=0, ge=0)
    """The most edits that a replica samples together: on a GPU whosever they are, on a CPU of one person. Pictures then
    differ by some grey levels of 255 with who else is waiting. 0 = 8 on a GPU, 1 on a CPU."""
    sources_mib: float = Field(default=512, gt=0)
    """Memory for uploaded photos, MiB; those used least recently make room."""
    ingresses: int = Field(default=1, ge=1)
    """How many replicas the ingress has: each counts its share of a key's requests a minute."""
    keys: str | None = None
    """File of API keys that `drig keys` makes, a path or s3:// URI. None = no keys, and only this machine may ask."""
    work: str = Field(default_factory=lambda: str(Path.home() / ".local" / "share" / "drig" / "jobs"))
    """Folder or s3:// prefix of the jobs: uploads until a job has ended, results for a day."""
    preset: TrainingPreset = "tiny"
    """Of `drig personalize`, for identities that are made here."""
    mark: bool = True
    """Sign every edit, as a C2PA manifest in the file that says what it is."""
    credentials: str | None = None
    """Folder of chain.pem and key.pem to sign with. None = a certificate of each machine's own, which nobody trusts."""
    max_upload_mib: float = Field(default=24, gt=0)
    """Largest request in MiB, all its files together."""
    max_album_mib: float = Field(default=256, gt=0)
    """The same for albums and videos."""
    max_pixels: int = Field(default=50_000_000, gt=0)
    """Largest photo."""
    max_frames: int = Field(default=1000, gt=0)
    """Longest video."""
