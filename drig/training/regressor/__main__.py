"""Trains the network that the `fit` estimator starts from, and writes the file that the package ships.

    python -m drig.training.regressor --folder runs/regressor

Renders synthetic people (the longest part), trains on all but the last of them, and measures on those how sure the
network may be. It goes on where it stopped.
"""

import argparse
import os
from pathlib import Path

from drig.faces import regressor
from drig.faces.open_head import OpenHead
from drig.training.regressor.certainty import measure
from drig.training.regressor.portraits import load, render
from drig.training.regressor.training import train

HELD_OUT = 0.08
"""Share of the people, the last ones, on whom the certainty is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for portraits and checkpoints")
    parser.add_argument("--people", type=int, default=2000, help="synthetic people")
    parser.add_argument("--samples", type=int, default=320_000, help="variations of their portraits to train on")
    parser.add_argument("--seed", type=int, default=2026, help="of the people and the training")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that render")
    parser.add_argument("--output", type=Path, default=Path(regressor.__file__).parent / regressor.ASSET)
    options = parser.parse_args()
    portraits = load(render(options.folder / "portraits", options.people, options.seed, options.workers))
    held_out = int(HELD_OUT * len(portraits))
    model = train(
        OpenHead.load(), portraits[:-held_out], options.samples, options.seed, options.folder / "checkpoint.safetensors"
    )
    measure(model, portraits[-held_out:])
    model.save(options.output)
    print(f"{options.output}: {options.output.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
