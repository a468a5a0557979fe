"""What the quickstart's report says, section by section."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from drig.data.albums import Album
from drig.report import Section, plot_curves
from drig.tracking import connect
from pipelines.edit_sheet import EditSheet
from pipelines.identity_training import SHEET, IdentityResult
from pipelines.stage1 import Stage1Result


@dataclass(frozen=True)
class Served:
    """One edit through the HTTP API beside the same one made here."""

    seconds: float
    """From request to answer, the identity loaded on the way."""
    again: float
    """The same request again, the identity in memory."""
    largest_difference: int
    """Grey levels between the two pictures."""


def edits_section(sheets: Sequence[EditSheet]) -> Section:
    """Every edit, and how far it is from the truth where that is known."""
    found = [(sheet.identity, made.mode, values) for sheet in sheets for made in sheet.edits if (values := made.psnr())]
    rows = [[name, mode, *_in_db(values)] for name, mode, values in found]
    if found:
        means = [float(np.mean(each)) for each in zip(*(values for *_, values in found), strict=True)]
        columns = ["person", "edit", "PSNR of the face to the true answer, stage 1 alone", "personalised"]
        rows = [columns, *rows, ["all", "mean", *_in_db(means)]]
    return Section(
        "Edits",
        "Each row takes one thing (light, expression or pose) from another photo of the person. Neither photo was in "
        "the training of the column 'stage 1 alone'; the source, where photos were held out, was in no training.",
        table=rows,
        images=[(sheet.identity, sheet.picture) for sheet in sheets],
    )


def _in_db(values: Sequence[float]) -> list[str]:
    return [f"{value:.2f} dB" for value in values]


def people_section(people: Sequence[IdentityResult], own_album: Album | None) -> Section:
    """What personalisation gained, and which photos of the user's were left out."""
    rows = [["person", "photos", "held out", "PSNR before", "after", "SSIM before", "after", "seconds"]]
    pictures = []
    for person in people:
        numbers = ["-"] * 4  # of an album too small to hold photos out
        if person.before and person.after:
            numbers = _in_db((person.before.psnr, person.after.psnr))
            numbers += [f"{person.before.ssim:.3f}", f"{person.after.ssim:.3f}"]
        photos = [str(person.album["trained_on"]), str(len(person.album["held_out"]))]
        rows.append([person.name, *photos, *numbers, f"{person.seconds:.0f}"])
        pictures.append((person.name, np.asarray(Image.open(Path(person.folder) / SHEET))))
    text = (
        "Reconstructions of photos that were held out, by stage 1 alone (before) and by the person's rig (after); "
        "the numbers are of the face, brows to chin."
    )
    if own_album is not None and own_album.rejects:
        text += f" Of your photos, rejected: {'; '.join(f'{k}: {why}' for k, why in own_album.rejects.items())}."
    return Section("Personalisation", text, table=rows, images=pictures)


def buffers_section(sheet: str | None) -> Section:
    """Samples of the store."""
    pictures = [] if sheet is None else [("random faces of the store", np.asarray(Image.open(sheet)))]
    text = "What the network is told of a face: the fitted head, rendered; its normals; its albedo."
    return Section("Physical buffers", text, images=pictures)


def stage1_section(folder: Path, base: Stage1Result, tracking_uri: str) -> Section:
    """The numbers at the end, and the last sample grid."""
    rows = [["samples", *base.metrics], [f"{base.samples_seen:,}", *(f"{v:.4g}" for v in base.metrics.values())]]
    grid = max((folder / "samples").glob("*.png"))
    text = (
        "The base rig that drig ships, continued. Portraits, their rendered buffers, and what the rig makes of these."
    )
    names = [f"loss_quarter_{quarter}" for quarter in range(1, 5)]
    client = connect(tracking_uri)
    curves = {name: [(m.step, m.value) for m in client.get_metric_history(base.run_id, name)] for name in names}
    plot = plot_curves(curves, x="samples seen", y="loss by timestep quarter")
    pictures = [("stage 1", np.asarray(Image.open(grid))), ("loss", plot)]
    return Section("Stage 1, continued", text, table=rows, images=pictures)


def serving_section(served: Served) -> Section:
    """The edit over HTTP."""
    return Section(
        "Serving",
        f"The same edit over HTTP and in the process that wrote this: {served.largest_difference} of 255 grey levels "
        f"apart at most. The first request took {served.seconds:.2f} s (loading the person), "
        f"the next {served.again:.2f} s.",
    )


def time_section(seconds: Mapping[str, float]) -> Section:
    """Wall time of the steps."""
    rows = [["step", "seconds"], *([name, f"{value:.0f}"] for name, value in seconds.items())]
    return Section("Time", table=[*rows, ["all", f"{sum(seconds.values()):.0f}"]])
