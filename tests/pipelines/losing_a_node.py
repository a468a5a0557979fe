"""Extraction on three nodes of this machine, of which one that works is lost on the way.

python -m tests.pipelines.losing_a_node CONFIG; a program of its own, since pytest's process has a Ray already.
"""

import sys
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from drig import config as configs
from pipelines.extract_buffers import ExtractConfig, extract
from tests.pipelines.test_extract_faults import committed, meanwhile, wait, workers


def works(node: Any) -> bool:
    raylet: int = node.all_processes["raylet"][0].process.pid
    return any(workers(raylet, mapper) for mapper in ("CarefulFinder", "BufferRenderer"))


def main(file: Path) -> None:
    config, _ = configs.parse(ExtractConfig, ["--config", str(file)], prog="losing_a_node", description="")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)

    def lose_one() -> None:
        wait(lambda: committed(config) > 0)
        busy = next(node for node in nodes if works(node))
        before = committed(config)
        cluster.remove_node(busy, allow_graceful=False)
        print(f"a node was lost after {before} records", flush=True)

    try:
        with meanwhile(lose_one):
            extract(config)
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
