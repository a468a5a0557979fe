"""A video drives a portrait: which frame tells what, and how it is smoothed, written and read."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from drig.data.photos import Photo, steady_frames, video_rate
from drig.data.video_writing import write_mp4
from drig.driving import BATCH, Drive, DriveReader, edit_frames, smooth
from drig.editing import Editor
from drig.errors import DrigError, PhotoRejected
from drig.faces.codes import FaceCodes
from drig.faces.controls import Controls, head_angles
from drig.faces.head import neutral_codes
from drig.faces.open_head import OpenHead
from drig.reading import Face
from tests.deployments.test_app import photo_of_a_head, random_editor


@pytest.fixture(scope="module")
def editor() -> Editor:
    return random_editor(0)


@pytest.fixture(scope="module")
def source(editor: Editor) -> Face:
    from drig.data.photos import read_photo

    return editor.read(read_photo(photo_of_a_head(0)))


def turning(frames: int) -> FaceCodes:
    """(T, ...) codes of a head that turns to the side, as a trembling estimator sees it."""
    codes = FaceCodes.cat([neutral_codes(OpenHead.load())] * frames)
    pose = codes.pose.clone()
    pose[:, 1] = torch.linspace(0, 0.5, frames) + 0.02 * (-1.0) ** torch.arange(frames)
    return codes.replace(pose=pose)


def test_smoothing_takes_the_trembling_and_leaves_the_turn() -> None:
    codes = turning(50)
    smoothed = smooth(codes, fps=25.0)
    assert head_angles(smoothed)[25, 0] == pytest.approx(head_angles(turning(50))[25:27, 0].mean(), abs=0.5)
    trembling = [np.abs(np.diff(head_angles(c)[:, 0], 2)).mean() for c in (codes, smoothed)]
    assert trembling[1] < 0.1 * trembling[0]


def test_frames_without_a_face_follow_their_neighbours(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = turning(5)

    def read(photo: Photo) -> Face:
        if photo[0, 0, 0] in (1, 2):
            raise PhotoRejected("no face found")
        return Face(None, codes[int(photo[0, 0, 0])], ())  # type: ignore[arg-type]

    monkeypatch.setattr(editor, "read", read)
    monkeypatch.setattr("drig.driving.SMOOTH_S", 1e-9)
    reader = DriveReader(editor)
    for i in range(5):
        reader.add(np.full((2, 2, 3), i, np.uint8))
    drive = reader.drive(25.0)
    assert (len(drive), drive.unseen) == (5, 2)
    torch.testing.assert_close(drive.codes.pose, codes.pose[[0, 0, 3, 3, 4]])


def test_a_video_without_a_face(editor: Editor) -> None:
    reader = DriveReader(editor)
    reader.add(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(PhotoRejected, match="none of the 1 frames"):
        reader.drive(25.0)


def test_a_frame_is_the_edit_of_a_photo(editor: Editor, source: Face) -> None:
    codes = turning(BATCH + 1)
    frames = list(edit_frames(editor, source, Drive(codes, 0), modes=("pose",), steps=2, seed=5))
    assert len(frames) == BATCH + 1
    last = Face(source.portrait, codes[BATCH], ())
    wanted = editor.edit(source, last, modes=("pose",), steps=2, seed=5).image
    np.testing.assert_allclose(frames[BATCH], wanted, atol=1)
    assert np.abs(frames[0].astype(int) - frames[BATCH]).max() > 1
    turned = next(edit_frames(editor, source, Drive(codes, 0), modes=("light",), controls=Controls(yaw=30), steps=2))
    assert np.abs(turned.astype(int) - frames[0]).max() > 1


@pytest.mark.parametrize("modes", [(), ("latent",), ("light", "hair")])
def test_modes_that_a_video_cannot_give(editor: Editor, source: Face, modes: tuple[str, ...]) -> None:
    with pytest.raises(DrigError, match="a video gives any of"):
        next(edit_frames(editor, source, Drive(turning(1), 0), modes=modes))


def grey(levels: range, size: int = 64) -> list[Photo]:
    return [np.full((size, size, 3), level, np.uint8) for level in levels]


@pytest.mark.parametrize(("fps", "size", "side"), [(24.0, None, 256), (29.97, 64, 64), (10.0, 101, 100)])
def test_an_mp4_holds_the_frames(fps: float, size: int | None, side: int) -> None:
    content = write_mp4(grey(range(0, 200, 20)), fps=fps, size=size)
    assert video_rate(content) == pytest.approx(fps, rel=1e-3)
    with av.open(io.BytesIO(content), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(side, side, 3)] * 10
    np.testing.assert_allclose([frame.mean() for frame in frames], range(0, 200, 20), atol=3)


def test_no_frames_are_no_mp4() -> None:
    with pytest.raises(DrigError, match="at least one"):
        write_mp4([], fps=24)


@pytest.mark.parametrize("fps", [5.0, 10.0, 20.0])
def test_frames_at_a_steady_rate(fps: float) -> None:
    """Half a second of each level; whatever the rate, the same level is seen at the same time."""
    content = write_mp4([frame for level in (0, 80, 160) for frame in grey(range(level, level + 1)) * 5], fps=10.0)
    levels = [round(float(frame.mean()) / 80) for frame in steady_frames(content, fps)]
    expected = [min(2, int(Fraction(i) / Fraction(fps) / Fraction(1, 2))) for i in range(len(levels))]
    assert levels == expected
    assert abs(len(levels) - 1.5 * fps) <= 1
    assert len(list(steady_frames(content, fps, limit=3))) == 3
