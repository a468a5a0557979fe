"""The node provider of cluster.yaml: AWS, where spot machines that are not to be had become machines on demand.

Ray's launcher asks for exactly what a node type says, and for a spot type that AWS is out of it asks again and again.
"""

import logging
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

logger = logging.getLogger(__name__)

SPOT = "InstanceMarketOptions"
_NO_SPOT = {  # what AWS answers -> it has none, or the account may have no more
    "InsufficientInstanceCapacity",
    "InsufficientSpotInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
}


class SpotFirstProvider(AWSNodeProvider):
    """AWS for Ray's launcher and autoscaler."""

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Start `count` machines, in any zone of the cluster; raises NodeLaunchException where there are none."""
        try:
            nodes: dict[str, Any] = super().create_node(node_config, tags, count)
        except NodeLaunchException as error:
            if SPOT not in node_config or error.category not in _NO_SPOT:
                raise
            logger.warning("no spot %s (%s): on demand instead", node_config["InstanceType"], error.category)
            on_demand = {name: value for name, value in node_config.items() if name != SPOT}
            nodes = super().create_node(on_demand, tags, count)
        return nodes
