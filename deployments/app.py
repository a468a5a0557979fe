"""The Ray Serve application: an HTTP ingress in front of replicas that edit.

    serve run deployments.app:build tracking_uri=sqlite:////data/runs/mlflow.db
    serve deploy deployments/serve.yaml

A request is validated at the ingress, which looks the identity's live version up, and goes to a replica that has that
version loaded if there is one. A full queue is answered with 503 at once.
"""

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.api.application import create_app
from deployments.api.errors import Overloaded
from deployments.messages import Edited, EditJob, Refused
from deployments.replicas.edits import EditReplica
from deployments.settings import ServeConfig
from drig.identities import Identities, IdentityInfo


@serve.ingress()
class Ingress:
    """One HTTP front: `deployments.api` over the registry and the replicas."""

    def __init__(self, replicas: DeploymentHandle[EditReplica], config: ServeConfig) -> None:
        self._replicas = replicas
        self._config = config
        self._identities = Identities(config.tracking_uri)
        self._identities.check()  # ready means ready: no request waits for imports, or for a store that is not there

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._identities, self._edit, max_upload_mib=self._config.max_upload_mib)

    async def _edit(self, identity: IdentityInfo, job: EditJob) -> Edited | Refused:
        key = f"{identity.name}@{identity.version}"
        try:
            answer: Edited | Refused = await self._replicas.options(multiplexed_model_id=key).edit.remote(key, job)
        except (BackPressureError, DeploymentUnavailableError) as error:
            raise Overloaded from error
        return answer


def build(config: ServeConfig) -> Application:
    """The application; Serve makes `config` from the arguments in serve.yaml or on the command line."""

    class Replica(EditReplica):
        load_editor = serve.multiplexed(max_num_models_per_replica=config.editors_per_replica)(EditReplica.load_editor)

    replicas = serve.deployment(
        name="EditReplica",
        # Threads follow CPUs: more replicas on few cores serve more people than one replica on many.
        ray_actor_options={"num_cpus": 1, "num_gpus": config.gpus_per_replica},
        max_ongoing_requests=2,  # one runs, the next is there already when it ends
        max_queued_requests=16,
    )(Replica)
    # The ingress only waits, so it takes many more requests than can be edited: health checks must always get in.
    ingress = serve.deployment(
        name="Ingress", ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=256, max_queued_requests=256
    )(Ingress)
    device = "cuda" if config.gpus_per_replica else "cpu"
    return ingress.bind(replicas.bind(config.tracking_uri, device), config)
