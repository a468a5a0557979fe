"""From the tables of many people to means with confidence intervals, and to a verdict against an earlier result."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from drig.evaluation.measures import HIGHER_IS_BETTER, MEASURES
from drig.evaluation.trials import RECONSTRUCTION, SWEEP

CONFIDENCE = 0.95
EDITS = "edits"
"""All edits together: neither reconstructions nor sweeps."""

Summary = dict[str, dict[str, dict[str, "Interval"]]]
"""Method -> edit -> measure -> interval."""

Gains = dict[str, dict[str, "Interval"]]
"""Other method -> measure -> interval of the difference."""


@dataclass(frozen=True)
class Interval:
    """A mean over people, and where that of all people is with 95% confidence (Student's t)."""

    mean: float
    low: float
    high: float
    """low = high = mean where there is one person."""

    def __format__(self, sign: str) -> str:
        """sign: of the mean, as in numbers' own formats."""
        digits = 2 if abs(self.mean) >= 1 else 3
        return f"{self.mean:{sign}.{digits}f} ± {(self.high - self.low) / 2:.{digits}f}"

    def __str__(self) -> str:
        return format(self)


def summarise(rows: pd.DataFrame) -> Summary:
    """Means over each person's trials first, then over people: a person counts once, whatever was asked of them."""
    people, found = _people(rows), dict[str, dict[str, dict[str, Interval]]]()
    for key, values in people.groupby(["method", "edit"], sort=False):
        assert isinstance(key, tuple)
        method, edit = map(str, key)
        found.setdefault(method, {})[edit] = {name: interval(v) for name, v in _known(values).items() if len(v)}
    return found


def gains(rows: pd.DataFrame, method: str) -> Gains:
    """Other method -> measure -> how much more `method` has of it, over all edits, person by person.

    People differ more than methods do, so these intervals are narrower than those of the two means.
    """
    if method not in set(rows["method"]):
        return {}
    people = _people(rows).xs(EDITS, level="edit").reset_index("method")
    edits = {str(name): values.drop(columns="method") for name, values in people.groupby("method", sort=False)}
    own = edits.pop(method)
    return {
        other: {name: interval(v) for name, v in _known(own - values).items() if len(v)}
        for other, values in edits.items()
    }


def _people(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of every measure by (method, edit, subject), all edits together among the edits."""
    measures = [name for name in MEASURES if name in rows]
    edits = rows[~rows["edit"].isin([RECONSTRUCTION, SWEEP])].assign(edit=EDITS)
    finite = pd.concat([rows, edits]).replace([np.inf, -np.inf], np.nan)  # a copy is a perfect reconstruction
    return finite.groupby(["method", "edit", "subject"], sort=False)[measures].mean()


def _known(values: pd.DataFrame) -> dict[str, "np.ndarray"]:
    """Each column without its gaps."""
    return {str(name): column.dropna().to_numpy() for name, column in values.items()}


def interval(values: "np.ndarray") -> Interval:
    """Of the mean of one value a person."""
    mean = float(np.mean(values))
    reach = 0.0
    if len(values) > 1:
        reach = float(stats.sem(values) * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Interval(mean, mean - reach, mean + reach)


@dataclass(frozen=True)
class Change:
    """A measure that left the interval of an earlier result."""

    method: str
    edit: str
    measure: str
    before: Interval
    now: float
    worse: bool

    def __str__(self) -> str:
        direction = "worse" if self.worse else "better"
        return f"{self.method}, {self.edit}, {self.measure}: {self.now:.3f}, {direction} than {self.before}"


def changes(now: Summary, before: Summary) -> Iterator[Change]:
    """Every mean of `now` outside the interval that `before` has for it. What only one of them has is left out."""
    for method, edits in before.items():
        for edit, measures in edits.items():
            for measure, earlier in measures.items():
                found = now.get(method, {}).get(edit, {}).get(measure)
                if found and not earlier.low <= found.mean <= earlier.high:
                    worse = (found.mean < earlier.mean) == (measure in HIGHER_IS_BETTER)
                    yield Change(method, edit, measure, earlier, found.mean, worse)
