"""The page that `evaluate` leaves: tables and plots of the measures, and the edits themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from drig.evaluation.measures import HIGHER_IS_BETTER, MEASURES
from drig.evaluation.methods import METHODS
from drig.evaluation.subjects import KINDS
from drig.evaluation.summary import EDITS, Change, Gains, Summary
from drig.evaluation.trials import RECONSTRUCTION, SWEEP
from drig.pictures import Picture, contact_sheet
from drig.report import Point, Section, render_figure, render_report

Pictures = Mapping[str, np.ndarray]
"""Method, `source` or `target` -> (T, S, S, 3)."""
SHOWN = ("source", "target", "buffers", "own_buffers", "base", "personalised", "truth")
PHOTOS = {"base": "none", "1_photo": "1", "5_photos": "5", "10_photos": "10", "personalised": "all"}
COMPARED = tuple(name for name in MEASURES if not name.startswith("asked_"))
"""Measures of the answer; the others are of what was asked for."""
WORST = 4
"""Edits on the sheet of the worst."""


def evaluation_report(
    rows: pd.DataFrame,
    summary: Summary,
    real: Summary,
    gains: Gains,
    *,
    pictures: Callable[[str], Pictures],
    about: Mapping[str, str],
    config: str,
    changes: Sequence[Change],
) -> str:
    """The page's HTML.

    rows: of `evaluate`, with its columns `real` and `folder`. pictures: of a folder, trial by trial. about: what made
    them, by name.
    """
    synthetic, photos = rows[~rows["real"]], rows[rows["real"]]
    sections: list[Section] = []
    if changes:
        points = [Point(str(change), "bad" if change.worse else "good") for change in changes]
        sections.append(Section("Against the earlier result", points=points))
    if summary:
        sections += [
            _table("Edits of synthetic people", summary, EDITS),
            _asked(summary),
            *_gains(gains),
            _table("Reconstructions", summary, RECONSTRUCTION),
        ]
        sections += [_by_edit(summary), _curves(summary), *_sheets(synthetic, pictures)]
    if real:
        sections += [_table("A real person, each photo left out once", real, EDITS), *_sheets(photos, pictures)]
    people = synthetic["subject"].nunique()
    counts = f"{people} synthetic people, {photos['subject'].nunique()} real photos left out, {len(rows):,} answers"
    lead = " · ".join([counts, *(f"{name} {value}" for name, value in about.items())])
    return render_report(title="evaluation", lead=lead, sections=sections, config=config)


def _table(heading: str, summary: Summary, edit: str) -> Section:
    """Methods over measures."""
    names = [name for name in COMPARED if any(name in edits.get(edit, {}) for edits in summary.values())]
    table = [["method", *names]]
    for method, edits in summary.items():
        if edit in edits:
            table.append([method, *(str(edits[edit].get(name, "-")) for name in names)])
    text = "Means over people with 95% confidence. " + "; ".join(f"{name}: {MEASURES[name]}" for name in names) + ". "
    text += "Methods: " + "; ".join(f"{name}: {METHODS[name].text}" for name in summary) + "."
    if edit == EDITS and any(SWEEP in edits for edits in summary.values()):
        sweeps = (f"{m} {edits[SWEEP]['flicker']}" for m, edits in summary.items() if SWEEP in edits)
        text += (
            f" A head that turns, {MEASURES['flicker'].removeprefix('of a head that turns: ')}: {'; '.join(sweeps)}."
        )
    return Section(heading, text, table=table)


def _asked(summary: Summary) -> Section:
    """The paper's measure of control."""
    names = [name for name in MEASURES if name not in COMPARED]
    table = [["method", *names]]
    for method, edits in summary.items():
        table.append([method, *(str(edits[EDITS].get(name, "-")) for name in names)])
    text = (
        "Light, expression and pose estimated again, against the codes that the edit was asked for and not against the "
        "truth: what a rig makes of its orders, the estimator's error in them left out."
    )
    return Section("Against what was asked for", text, table=table)


def _gains(gains: Gains) -> Iterator[Section]:
    """What personalisation has more of, person by person."""
    if gains:
        names = [name for name in COMPARED if any(name in gained for gained in gains.values())]
        table = [["against", *names]]
        for other, gained in gains.items():
            table.append([other, *(f"{gained[name]:+}" if name in gained else "-" for name in names)])
        text = "Of the same edits of the same people, mean difference with 95% confidence."
        yield Section("What personalisation gains", text, table=table)


def _by_edit(summary: Summary) -> Section:
    """What each kind of edit does, method by method: the edited attribute's error and the others' drift."""
    kinds = ["+".join(modes) or RECONSTRUCTION for modes in KINDS]
    table = [["measure", "method", *kinds]]
    for measure in ("face_psnr", "light", "exp", "pose", "identity"):
        for method, edits in summary.items():
            means = (edits[kind][measure].mean if measure in edits.get(kind, {}) else None for kind in kinds)
            table.append([measure, method, *("-" if mean is None else f"{mean:.3g}" for mean in means)])
    return Section(
        "By kind of edit", "In a column, the attributes that the edit does not name should not move.", table=table
    )


def _curves(summary: Summary) -> Section:
    """Quality over the number of photos."""
    figure = Figure(figsize=(9, 3.2), dpi=110, layout="constrained")
    for axes, measure in zip(figure.subplots(1, 3), ("face_psnr", "features", "identity"), strict=True):
        found = {
            label: summary[method][EDITS][measure]
            for method, label in PHOTOS.items()
            if measure in summary.get(method, {}).get(EDITS, {})
        }
        reach = [[v.mean - v.low for v in found.values()], [v.high - v.mean for v in found.values()]]
        axes.errorbar(list(found), [v.mean for v in found.values()], yerr=reach, marker="o", capsize=3)
        axes.set(xlabel="photos", title=measure + (", higher is better" if measure in HIGHER_IS_BETTER else ""))
        axes.grid(alpha=0.3)
    text = "Mean of all edits; none: stage 1 alone."
    return Section("How many photos", text, images=[("quality over photos", render_figure(figure))])


def _sheets(rows: pd.DataFrame, pictures: Callable[[str], Pictures]) -> Iterator[Section]:
    """The median edit of each kind, and the worst of all, by the face's PSNR of the best method there is."""
    judge = "personalised" if "personalised" in set(rows["method"]) else str(rows["method"].iloc[-1])
    judged = rows[(rows["method"] == judge) & (rows["edit"] != SWEEP)].copy()
    judged["place"] = judged.groupby("subject").cumcount()
    ordered = judged.sort_values("face_psnr")
    middle = [group.iloc[len(group) // 2] for _, group in ordered.groupby("edit", sort=False)]
    worst = [row for _, row in ordered[ordered["edit"] != RECONSTRUCTION].head(WORST).iterrows()]
    for heading, chosen in (("The median edit of each kind", middle), ("The worst edits", worst)):
        text = f"By the PSNR of the face, {judge}."
        yield Section(heading, text, images=[(heading, _sheet(chosen, pictures))])


def _sheet(chosen: Sequence["pd.Series[float]"], pictures: Callable[[str], Pictures]) -> Picture:
    cells, labels = [], []
    for row in chosen:
        made = pictures(str(row["folder"]))
        cells.append([made[name][int(row["place"])] if name in made else None for name in SHOWN])
        labels.append(f"{row['edit']}\n{row['face_psnr']:.1f} dB")
    return contact_sheet(cells, columns=SHOWN, labels=labels)
