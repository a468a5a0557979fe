"""Trains base rigs on one machine with a GPU, from synthetic people that it renders itself.

    python -m drig.training.base render --folder runs/base128 --people 8000
    python -m drig.training.base train --folder runs/base128 --size 128 --people 8000 --samples 1000000 --out first

Both go on where they stopped. A training reads the people that are rendered so far, so the two may run side by side,
and a later part may learn from more of them. `errors` makes again the file of a detector's errors that the recipe uses.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from drig.data.synthetic import write_people
from drig.training.base import detection, people
from drig.training.base.training import default_device, settings, train_part

_SHOTS = 4  # of each person that the detector is measured on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("render", help="people -> stores of portraits and buffers")
    verb.add_argument("--folder", type=Path, required=True, help="for the stores")
    verb.add_argument("--first", type=int, default=0, help="number of the first person")
    verb.add_argument("--people", type=int, default=8000, help="how many")
    verb.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    verb.add_argument("--sizes", type=int, nargs="+", choices=people.SIZES, default=people.SIZES, help="of the stores")
    verb.set_defaults(call=_render)
    verb = verbs.add_parser("train", help="one part of a base's training")
    verb.add_argument("--folder", type=Path, required=True, help="with the stores; the parts go there too")
    verb.add_argument("--size", type=int, choices=people.SIZES, default=128, help="side in pixels")
    verb.add_argument("--people", type=int, default=8000, help="of the store, the first, to learn from")
    verb.add_argument("--samples", type=int, default=1_000_000, help="budget")
    verb.add_argument(
        "--cooldown", type=int, help="samples over which the rate falls to zero; half of them if not given"
    )
    verb.add_argument("--rate", type=float, help="the learning rate, at most; the preset's if not given")
    verb.add_argument(
        "--painted", type=float, default=0.0, help="share of the photos of people whose skin is known, to be painted"
    )
    verb.add_argument("--start", type=Path, help="weights to go on from; fresh ones if not given")
    verb.add_argument("--out", default="first", help="name of this part's folder")
    verb.add_argument("--compile", action="store_true", help="compile the network: a minute, for faster steps")
    verb.add_argument("--seed", type=int, default=0, help="of this part's order, noise and fresh weights")
    verb.add_argument("--device", default=default_device())
    verb.set_defaults(call=_train)
    verb = verbs.add_parser("errors", help="measure the detector's errors again (needs dlib and its predictor)")
    verb.add_argument("--folder", type=Path, required=True, help="for the portraits")
    verb.add_argument("--people", type=int, default=500, help="how many to look at")
    verb.set_defaults(call=_errors)
    options = parser.parse_args()
    options.call(options)


def _render(options: argparse.Namespace) -> None:
    chosen = range(options.first, options.first + options.people)
    with tqdm(total=len(chosen), unit="person", desc="people") as bar:
        people.render(options.folder, chosen, options.workers, sizes=options.sizes, on_person=bar.update)


def _train(options: argparse.Namespace) -> None:
    config = settings(
        options.samples,
        options.cooldown,
        fresh=options.start is None,
        compiled=options.compile,
        seed=options.seed,
        device=options.device,
    )
    if options.rate is not None:
        config = replace(config, learning_rate=options.rate)
    store = people.store_of(options.folder, options.size)
    out = options.folder / options.out
    start, device = options.start, options.device
    print(train_part(out, store, options.people, options.size, config, start, device, options.painted))


def _errors(options: argparse.Namespace) -> None:
    chosen = range(options.people)
    made = write_people(options.folder, people=chosen, photos=_SHOTS, size=people.DRAWN, seed=people.SEED)
    bank = detection.DetectorErrors.measure(list(tqdm(made, total=len(chosen) * _SHOTS, unit="portrait")))
    bank.save(Path(detection.__file__).parent / detection.ASSET)
    print(f"{len(bank.errors)} portraits in {detection.ASSET}")


if __name__ == "__main__":
    main()
