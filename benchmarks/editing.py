"""What choices of editing do: how many steps the sampler takes, one or both ways round, and whose skin a person has.

    python benchmarks/editing.py [--first 2] [--people 2] [--steps 2 4 8 20] [--folder runs/editing]

People of `drig evaluate`, personalised over the shipped base three times: with the mean skin of their album and the
detail that its photos show (`drig.faces.likeness`), without this detail, and with every photo's own albedo, as in the
paper. Means over their edits, person by person and together; a training takes a minute or two, and what is trained is
kept in the folder.
"""

import argparse
from pathlib import Path

import numpy as np

from drig.editing import Editor
from drig.evaluation.measures import Measures
from drig.evaluation.methods import Maker
from drig.evaluation.subjects import Subject, synthetic_subject
from drig.evaluation.trials import answer
from drig.faces.likeness import Likeness
from drig.shipped_base import SHIPPED_BASE
from drig.training.config import TRAINING_PRESETS

METHOD = "personalised"
SHOWN = ("face_psnr", "face_ssim", "features", "light", "pose", "identity")
Row = dict[str, float]


class OfShapes(Editor):
    """An editor to whom every photo has a skin of its own, as in the paper."""

    @property
    def likeness(self) -> Likeness:  # type: ignore[override]
        return self._likeness

    @likeness.setter
    def likeness(self, given: Likeness) -> None:
        self._likeness = Likeness(mean_shape=given.mean_shape)


def measured(
    base: Editor, subject: Subject, folder: Path, steps: list[int], *, mirrored: bool = True
) -> dict[int, Row]:
    """The means of a person's edits by number of steps. mirrored: sampled both ways round."""
    delta, whole = TRAINING_PRESETS["tiny-stage2-delta"], TRAINING_PRESETS["tiny-stage2"]
    maker = Maker(base, subject, delta, whole, folder, mirror=True, steps=None, sampler="ddim")
    measures = Measures(base, [face.portrait for face in subject.album])
    maker.editor(METHOD).mirrored = mirrored
    found = {}
    for count in steps:
        maker.steps = count
        rows = answer(maker, measures, [METHOD]).rows
        edits = rows[~rows["edit"].isin(["reconstruction", "sweep"])]
        found[count] = {name: float(edits[name].mean()) for name in SHOWN}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=2, help="number of the first person")
    parser.add_argument("--people", type=int, default=2, help="how many")
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 4, 8, 20], help="of the sampler")
    parser.add_argument("--folder", type=Path, default=Path("runs/editing"), help="for what is trained")
    options = parser.parse_args()
    base = Editor.load(SHIPPED_BASE)
    usual = base.rig.config.steps
    table: dict[str, list[Row]] = {}
    for index in range(options.first, options.first + options.people):
        subject = synthetic_subject(base, index, album=20, unseen=12)
        folder = options.folder / subject.name
        rows = {
            f"{count} steps, {name}": row
            for name, mirrored in (("both ways", True), ("one way", False))
            for count, row in measured(base, subject, folder, options.steps, mirrored=mirrored).items()
        }
        for name, kind in (("without detail", Editor), ("every photo's albedo", OfShapes)):
            editor = kind(base.rig, base.head, base.estimator)
            rows[f"{usual} steps, {name}"] = measured(editor, subject, folder / name, [usual])[usual]
        for name, row in rows.items():
            table.setdefault(name, []).append(row)
            print(f"{subject.name}  {name:<32}" + "".join(f"{row[key]:11.3f}" for key in SHOWN), flush=True)
    print(f"{'means':<45}" + "".join(f"{key:>11}" for key in SHOWN))
    for name, each in table.items():
        print(f"{name:<45}" + "".join(f"{np.mean([row[key] for row in each]):11.3f}" for key in SHOWN))


if __name__ == "__main__":
    main()
