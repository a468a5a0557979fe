"""Extraction on clusters of 1 to 64 nodes, simulated by the stages as measured: speed, bottleneck and cost.

python benchmarks/extraction.py stages      measures them
python benchmarks/extraction_on_clusters.py [--plot docs/extraction.png]
"""

import argparse
import heapq
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
from extraction import BATCH, STAGES, Stages

from drig.randomness import numpy_generator
from pipelines.extract_buffers import ExtractConfig, count_blocks, plan_pools

NODES = (1, 2, 4, 8, 16, 32, 64)
LARGEST_BLOCK = 640
"""Photos: portraits of 128 MiB, beyond which Ray Data passes a block on in parts."""


@dataclass(frozen=True)
class Assumptions:
    """What was not measured: AWS's c7i.4xlarge, each of its vCPUs as fast as a CPU here; prices of us-east-1."""

    cpus: int = 16
    node_dollars_an_hour: float = 0.714
    first_byte_s: float = 0.03
    """Of a photo on S3."""
    stream_bytes_s: float = 90e6
    """Of one request to S3."""
    head_bytes_s: float = 1.25e9
    """Into and out of the head."""
    get_dollars: float = 0.4e-6
    month_dollars_a_byte: float = 0.023e-9
    start_s: float = 180.0
    """Nodes, Ray and actors."""


@dataclass(frozen=True)
class Station:
    """Servers in parallel, and what a block of photos takes at one of them."""

    name: str
    servers: int
    seconds: float
    room: int
    """Blocks that may wait here; then the station before stops, as Ray Data's backpressure does."""


def simulate(stations: Sequence[Station], blocks: int, spread: float = 0.25) -> tuple[float, dict[str, float]]:
    """Blocks a second through a row of stations, and the share of its time that each is busy.

    Times at a station are log-normal, of this relative spread.
    """
    rng, last = numpy_generator(0, "simulation"), len(stations) - 1
    sigma = np.sqrt(np.log1p(spread**2))
    waiting, busy, used = [blocks, *[0] * last], [0] * len(stations), [0.0] * len(stations)
    events: list[tuple[float, int]] = []
    now, finished = 0.0, 0
    while finished < blocks:
        for i in range(last, -1, -1):
            station = stations[i]
            while waiting[i] and busy[i] < station.servers:
                if i < last and waiting[i + 1] + busy[i] >= stations[i + 1].room + station.servers:
                    break
                seconds = station.seconds * float(rng.lognormal(-(sigma**2) / 2, sigma))
                waiting[i], busy[i], used[i] = waiting[i] - 1, busy[i] + 1, used[i] + seconds
                heapq.heappush(events, (now + seconds, i))
        now, i = heapq.heappop(events)
        busy[i] -= 1
        if i == last:
            finished += 1
        else:
            waiting[i + 1] += 1
    shares = {s.name: u / (now * s.servers) for s, u in zip(stations, used, strict=True)}
    return blocks / now, shares


def stations(measured: Stages, assumed: Assumptions, pools: tuple[int, int], block: int) -> list[Station]:
    """Extraction from S3 to S3 with so many finders and renderers, and a head for the driver."""
    finders, renderers = pools
    read = assumed.first_byte_s + measured.photo_bytes / assumed.stream_bytes_s
    network = block * measured.record_bytes / assumed.head_bytes_s
    return [
        Station("finders", finders, block * (read + measured.find), 0),
        Station("renderers", renderers, block * measured.render, 2 * renderers),
        Station("head's network", 1, network, 2 * renderers),
        Station("driver", 1, measured.schedule + block * measured.write + network, 64),
    ]


def block_of(photos: int, finders: int) -> int:
    """Photos in a block, as drig chooses them; Ray Data passes larger ones on in parts."""
    return min(LARGEST_BLOCK, photos // count_blocks(photos // BATCH, finders))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    options = parser.parse_args()
    measured, assumed = Stages(**json.loads(STAGES.read_text())), Assumptions()
    print(f"SIMULATED with the stages measured on {measured.date}. Assumed: {json.dumps(asdict(assumed))}")
    curves: dict[str, list[float]] = {}
    for photos, fixed in ((70_000, None), (100_000_000, None), (100_000_000, BATCH)):
        title = f"{photos:,} photos" + (f" if a block were {fixed} photos" if fixed else "")
        print(f"\n{title}\n{'nodes':>5}{'block':>7}{'photos/s':>10}{'hours':>9}{'dollars':>10}  busiest")
        for nodes in NODES:
            pools = plan_pools(ExtractConfig(photos="-", store="-"), cpus=nodes * assumed.cpus, gpus=0)
            block = fixed or block_of(photos, pools[0])
            blocks_s, shares = simulate(stations(measured, assumed, pools, block), blocks=30 * sum(pools))
            rate = blocks_s * block
            curves.setdefault(title, []).append(rate)
            hours, dollars = cost(photos, rate, nodes, assumed)
            busiest = max(shares, key=lambda name: shares[name])
            told = f"{busiest} {shares[busiest]:.0%}"
            print(f"{nodes:>5}{block:>7}{rate:>10,.0f}{hours:>9,.2f}{dollars:>10,.2f}  {told}")
        bytes_ = photos * measured.record_bytes
        print(f"the store: {bytes_ / 2**30:,.0f} GiB, {bytes_ * assumed.month_dollars_a_byte:,.2f} dollars a month")
    if options.plot:
        draw(curves, options.plot)


def cost(photos: int, rate: float, nodes: int, assumed: Assumptions) -> tuple[float, float]:
    """Hours and dollars, the head being a node more."""
    hours = (assumed.start_s + photos / rate) / 3600
    return hours, hours * (nodes + 1) * assumed.node_dollars_an_hour + photos * assumed.get_dollars


def draw(curves: dict[str, list[float]], path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.5, 4), layout="constrained")
    for title, rates in curves.items():
        axes.loglog(NODES, rates, marker="o", label=title)
    first = next(iter(curves.values()))[0]
    axes.loglog(NODES, [first * n for n in NODES], color="grey", linestyle=":", label="n nodes, n times the speed")
    axes.set_xticks(NODES, [str(n) for n in NODES])
    axes.minorticks_off()
    axes.set(xlabel="nodes of 16 vCPUs", ylabel="photos/s", title="extraction, simulated")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
