"""The Ray Serve application: an HTTP ingress in front of replicas that find faces, keep sources and edit.

    serve run deployments.app:build tracking_uri=sqlite:////data/runs/mlflow.db
    serve deploy deployments/serve.yaml

A request is validated at the ingress, which knows every identity's live version, and goes to a replica that has that
version loaded if there is one. A full queue is answered with 503 at once.
"""

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from deployments.api import studio
from deployments.api.application import MIB, create_app
from deployments.api.options import Limits
from deployments.api.sources import EXPIRES_IN
from deployments.catalogue import Catalogue
from deployments.handles import Handles
from deployments.replicas.edits import EditReplica
from deployments.replicas.faces import FaceReplica
from deployments.replicas.sources import Sources
from deployments.settings import ServeConfig
from drig.identities import Identities


@serve.ingress()
class Ingress:
    """One HTTP front: `deployments.api` over the registry and the replicas."""

    def __init__(
        self,
        edits: DeploymentHandle[EditReplica],
        faces: DeploymentHandle[FaceReplica],
        sources: DeploymentHandle[Sources],
        config: ServeConfig,
    ) -> None:
        self._config = config
        self._backend = Handles(edits, faces, sources)
        self._catalogue = Catalogue(Identities(config.tracking_uri))
        self._catalogue.start()  # no request waits for imports; a registry that is away is asked again and again

    def __serve_build_asgi_app__(self) -> FastAPI:
        config = self._config
        limits = Limits(upload_mib=config.max_upload_mib, pixels=config.max_pixels, frames=config.max_frames)
        return create_app(self._backend, self._catalogue, limits, routers=[studio.router()])


def build(config: ServeConfig) -> Application:
    """The application; Serve makes `config` from the arguments in serve.yaml or on the command line."""
    device = "cuda" if config.gpus_per_replica else "cpu"
    batch = config.batch or (8 if device == "cuda" else 1)

    class Editing(EditReplica):
        load_editor = serve.multiplexed(max_num_models_per_replica=config.deltas_per_replica)(EditReplica.load_editor)

    class Faces(FaceReplica):
        def __init__(self, tracking_uri: str, sources: DeploymentHandle[Sources]) -> None:
            super().__init__(tracking_uri, lambda token: sources.face.remote(token))

    edits = serve.deployment(
        name="EditReplica",
        # Threads follow CPUs: more replicas on few cores serve more people than one replica on many.
        ray_actor_options={"num_cpus": 1, "num_gpus": config.gpus_per_replica},
        max_ongoing_requests=2 * batch,  # one batch runs, the next is there already when it ends
        max_queued_requests=16,
    )(Editing)
    faces = serve.deployment(
        name="FaceReplica", ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=8, max_queued_requests=64
    )(Faces)
    # One, since it is what it remembers; it only hands out what it was given.
    sources = serve.deployment(
        name="Sources", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=64, max_queued_requests=1024
    )(Sources)
    # The ingress only waits, so it takes many more requests than can be edited: health checks must always get in.
    ingress = serve.deployment(
        name="Ingress", ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=256, max_queued_requests=256
    )(Ingress)
    kept = sources.bind(int(config.sources_mib * MIB), float(EXPIRES_IN))
    return ingress.bind(
        edits.bind(config.tracking_uri, device, rigs=config.editors_per_replica, batch=batch),
        faces.bind(config.tracking_uri, kept),
        kept,
        config,
    )
