"""The Ray Serve application: an HTTP ingress in front of replicas that find faces, keep sources and edit.

    serve run deployments.app:build tracking_uri=sqlite:////data/runs/mlflow.db
    serve deploy deployments/serve.yaml

A request is validated at the ingress, which knows every identity's live version, and goes to a replica that has that
version loaded if there is one. A full queue is answered with 503 at once.
"""

from functools import partial
from pathlib import Path

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from deployments.access.callers import keyed_gate
from deployments.access.door import Door
from deployments.access.keys import KeyRing
from deployments.access.rates import Rates
from deployments.access.uploads import UploadLimits
from deployments.api import studio
from deployments.api.application import MIB, create_app
from deployments.api.options import Limits
from deployments.api.sources import EXPIRES_IN
from deployments.catalogue import Catalogue
from deployments.handles import Handles, JobHandles, VideoHandles
from deployments.replicas.edits import EditReplica
from deployments.replicas.faces import FaceReplica
from deployments.replicas.jobs import VIDEOS, Jobs
from deployments.replicas.sources import Sources
from deployments.settings import ServeConfig
from drig.forgetting import forget
from drig.identities import Identities
from drig.provenance import Marker

GRACE_S = 120.0
"""How long a replica may end what it has when it is replaced; an ingress waits meanwhile for new ones that edit."""


@serve.ingress()
class Ingress:
    """One HTTP front: `deployments.api` over the registry and the replicas."""

    def __init__(
        self,
        edits: DeploymentHandle[EditReplica],
        faces: DeploymentHandle[FaceReplica],
        sources: DeploymentHandle[Sources],
        jobs: DeploymentHandle[Jobs],
        config: ServeConfig,
    ) -> None:
        self._config = config
        self._backend, self._jobs = Handles(edits, faces, sources), JobHandles(jobs)
        self._identities = Identities(config.tracking_uri)
        self._catalogue = Catalogue(self._identities)
        self._keys = None if config.keys is None else KeyRing(config.keys)
        self._marker = None
        if config.mark:
            self._marker = Marker(None if config.credentials is None else Path(config.credentials))
        self._catalogue.start()  # no request waits for imports; a registry that is away is asked again and again

    def __serve_build_asgi_app__(self) -> FastAPI:
        config = self._config
        limits = Limits(
            upload_mib=config.max_upload_mib,
            album_mib=config.max_album_mib,
            pixels=config.max_pixels,
            frames=config.max_frames,
        )
        uploads = UploadLimits(pixels=config.max_pixels, frames=config.max_frames)
        app = create_app(
            self._backend,
            self._jobs,
            self._catalogue,
            limits,
            forget=partial(forget, self._identities),
            gate=keyed_gate(uploads, self._marker),
            auth=self._keys is not None,
            routers=[studio.router()],
        )
        app.add_middleware(Door, keys=self._keys, rates=Rates(share=1 / config.ingresses))
        return app


def build(config: ServeConfig) -> Application:
    """The application; Serve makes `config` from the arguments in serve.yaml or on the command line."""
    sources = _sources().bind(int(config.sources_mib * MIB), float(EXPIRES_IN))
    faces = _faces().bind(config.tracking_uri, sources)
    edits = _edits(config)
    jobs = _jobs().bind(edits, config)
    # The ingress only waits, so it takes many more requests than can be edited: health checks must always get in.
    ingress = serve.deployment(
        name="Ingress",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=256,
        max_queued_requests=256,
        graceful_shutdown_timeout_s=GRACE_S,
    )(Ingress)
    return ingress.bind(edits, faces, sources, jobs, config)


def _edits(config: ServeConfig) -> Application:
    device = "cuda" if config.gpus_per_replica else "cpu"
    batch = config.batch or (8 if device == "cuda" else 1)

    class Editing(EditReplica):
        load_editor = serve.multiplexed(max_num_models_per_replica=config.deltas_per_replica)(EditReplica.load_editor)

    deployment = serve.deployment(
        name="EditReplica",
        # Threads follow CPUs: more replicas on few cores serve more people than one replica on many.
        ray_actor_options={"num_cpus": 1, "num_gpus": config.gpus_per_replica},
        # Who waits at a replica gets their turn. Who waits outside asks again and again, and newcomers come first.
        max_ongoing_requests=max(16, 2 * batch) + VIDEOS,
        max_queued_requests=16,
        graceful_shutdown_timeout_s=GRACE_S,
    )(Editing)
    return deployment.bind(config.tracking_uri, device, rigs=config.editors_per_replica, batch=batch)


def _faces() -> serve.Deployment:
    class Faces(FaceReplica):
        def __init__(self, tracking_uri: str, sources: DeploymentHandle[Sources]) -> None:
            super().__init__(tracking_uri, lambda token: sources.face.remote(token))

    return serve.deployment(
        name="FaceReplica",
        ray_actor_options={"num_cpus": 0.5},
        max_ongoing_requests=8,
        max_queued_requests=64,
        graceful_shutdown_timeout_s=GRACE_S,
    )(Faces)


def _sources() -> serve.Deployment:
    """One, since it is what it remembers; it only hands out what it was given."""
    return serve.deployment(
        name="Sources", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=64, max_queued_requests=1024
    )(Sources)


def _jobs() -> serve.Deployment:
    """One, since it writes the book; it only starts and follows what others do."""

    class LongJobs(Jobs):
        async def __init__(  # type: ignore[misc]  # Serve awaits it, in the loop that the jobs will run in
            self, edits: DeploymentHandle[EditReplica], config: ServeConfig
        ) -> None:
            from pipelines.personalize import PRESETS

            videos = VideoHandles(edits, Identities(config.tracking_uri))
            super().__init__(config.work, config.tracking_uri, videos, PRESETS[config.preset])
            self.resume()

    return serve.deployment(
        name="Jobs", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=64, max_queued_requests=64
    )(LongJobs)
