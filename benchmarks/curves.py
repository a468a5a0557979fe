"""The loss of stage 1 over the samples seen: of a run, or of runs that continue each other.

    python benchmarks/curves.py --runs runs/base --only first stage1 --plot docs/base.png
    python benchmarks/curves.py --losses runs/base/known/fourth/losses.jsonl --plot docs/base_known.png

Runs of `drig stage1` are in MLflow; `python -m drig.training.base` leaves a file.
"""

import argparse
import json
from pathlib import Path

from PIL import Image

from drig.errors import DrigError
from drig.report import plot_curves
from drig.tracking import connect, tracking_uri

QUARTERS = [f"loss_quarter_{quarter}" for quarter in range(1, 5)]
History = dict[str, list[tuple[float, float]]]
"""Quarter of the timesteps -> its loss by samples seen."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the MLflow database")
    parser.add_argument("--only", nargs="+", default=["stage1"], help="names of the runs, in their order")
    parser.add_argument("--losses", type=Path, nargs="+", help="instead of runs, files of losses, in their order")
    parser.add_argument("--plot", type=Path, default=Path("curves.png"), help="the picture")
    arguments = parser.parse_args()
    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in QUARTERS}
    before = 0.0
    runs = {str(path): written(path) for path in arguments.losses or ()}
    if not runs:
        runs = {name: newest(tracking_uri(arguments.runs), name) for name in arguments.only}
    for name, run in runs.items():
        for quarter, points in curves.items():
            points += [(before + samples, value) for samples, value in run[quarter]]
        before = curves[QUARTERS[0]][-1][0]
        print(f"{name}: to {before:,.0f} samples, loss by quarter of the timesteps "
              f"{', '.join(f'{points[-1][1]:.4f}' for points in curves.values())}")  # fmt: skip
    Image.fromarray(plot_curves(curves, x="samples seen", y="loss by timestep quarter")).save(arguments.plot)
    print(f"plot: {arguments.plot}")


def written(losses: Path) -> History:
    """What `drig.training.base` wrote; of a part that was interrupted, the line that was written last counts."""
    lines = map(json.loads, losses.read_text().splitlines())
    last = {line["samples"]: line for line in lines}
    return {quarter: [(samples, last[samples][quarter]) for samples in sorted(last)] for quarter in QUARTERS}


def newest(uri: str, name: str) -> History:
    """The history of each quarter's loss in the newest run of stage 1 with that name."""
    client = connect(uri)
    experiment = client.get_experiment_by_name("stage1")
    runs = client.search_runs([experiment.experiment_id], f"tags.`mlflow.runName` = '{name}'") if experiment else []
    if not runs:
        raise DrigError(f"{uri} has no run of stage 1 that is called {name!r}: see --only, and --runs")
    histories = {quarter: client.get_metric_history(runs[0].info.run_id, quarter) for quarter in QUARTERS}
    return {quarter: sorted((m.step, m.value) for m in history) for quarter, history in histories.items()}


if __name__ == "__main__":
    main()
