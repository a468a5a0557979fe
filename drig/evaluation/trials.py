"""One person's trials, answered by every method and measured."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from drig.evaluation.measures import Measures, flicker
from drig.evaluation.methods import Maker
from drig.metrics import Picture

RECONSTRUCTION, SWEEP = "reconstruction", "sweep"
"""What the table calls a trial without modes, and a head that turns."""
STILL = ("truth", "copy", "told")
"""Methods that nobody asks for a sweep."""


@dataclass(frozen=True, eq=False)
class Answered:
    """What became of one subject's trials."""

    rows: pd.DataFrame
    """A row for each method and trial (subject, method, edit, source, target and the measures), and for each sweep."""
    pictures: dict[str, NDArray[np.uint8]]
    """Method -> (T, S, S, 3), and `source` and `target` likewise, in the order of the trials."""


def answer(
    maker: Maker, measures: Measures, methods: Iterable[str], on_method: Callable[[str], None] | None = None
) -> Answered:
    """Let every method answer the trials of the maker's subject. Deterministic; minutes for each that trains.

    on_method: called with each method's name when it is done.
    """
    subject, rows = maker.subject, []
    pictures: dict[str, Sequence[Picture]] = {
        "source": [subject.unseen[trial.source].portrait.image for trial in subject.trials],
        "target": [subject.unseen[trial.target].portrait.image for trial in subject.trials],
    }
    for method in methods:
        pictures[method] = maker.answers(method)
        asked = [maker.asked(method, trial) for trial in subject.trials]
        found = measures(pictures[method], [trial.answer for trial in subject.trials], asked)
        for trial, values in zip(subject.trials, found, strict=True):
            edit = "+".join(trial.modes) or RECONSTRUCTION
            rows.append({"method": method, "edit": edit, "source": trial.source, "target": trial.target, **values})
        if method not in STILL:
            rows.append({"method": method, "edit": SWEEP, "flicker": flicker(maker.sweep(method))})
        if on_method:
            on_method(method)
    table = pd.DataFrame(rows)
    table.insert(0, "subject", subject.name)
    return Answered(table, {name: np.stack(made) for name, made in pictures.items()})
