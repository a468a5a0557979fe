from pathlib import Path

import av
import numpy as np
import pytest

from drig.data.photos import save_png, split_frame_name, video_frame
from drig.errors import DrigError
from pipelines.photo_sources import find_sources, groups
from tests.pipelines.conftest import heads


def write_video(path: Path, seconds: int) -> None:
    """A head that turns, ten frames a second, a key frame in ten."""
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 256
        stream.pix_fmt, stream.gop_size = "yuv420p", 10
        for picture in heads(10 * seconds, 256):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        video.mux(stream.encode(None))


def test_sources_are_named_by_their_place_below_the_folder(photos: Path) -> None:
    sources = find_sources(f"{photos}/", 1.0)
    assert sources["person_1/a.png"] == str(photos / "person_1/a.png")
    assert len(sources) == 5


def test_a_list_of_photos_is_relative_to_itself(photos: Path) -> None:
    (photos / "list.txt").write_text("person_1/a.png\n\ns3://bucket/b.png\n")
    assert find_sources(str(photos / "list.txt"), 1.0) == {
        "person_1/a.png": str(photos / "person_1/a.png"),
        "s3://bucket/b.png": "s3://bucket/b.png",
    }


def test_a_video_is_its_frames_wherever_it_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 2)
    save_png(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "list.txt").write_text("clip.mp4\n")
    frames = {f"clip.mp4#t={second}": f"{tmp_path}/clip.mp4#t={second}" for second in ("0.000", "0.750", "1.500")}
    assert find_sources(str(tmp_path), 0.75) == {"a.png": str(tmp_path / "a.png"), **frames}
    assert find_sources(str(tmp_path / "clip.mp4"), 0.75) == frames
    assert find_sources(str(tmp_path / "list.txt"), 0.75) == frames


def test_a_file_that_is_no_video_still_counts_as_one_source(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert list(find_sources(str(tmp_path), 1.0)) == ["text.mp4#t=0.000"]


def test_a_frame_has_the_same_pixels_whatever_was_read_before(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 2)
    names = list(find_sources(str(tmp_path / "clip.mp4"), 0.3).values())
    places = [place for name in names if (place := split_frame_name(name)) is not None]
    forward = [video_frame(*place) for place in places]
    backward = [video_frame(*place) for place in reversed(places)][::-1]
    assert len(forward) == 7
    np.testing.assert_array_equal(forward, backward)
    assert len({frame.tobytes() for frame in forward}) == 7


def test_a_source_without_photos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(DrigError, match="lists no photo"):
        find_sources(str(tmp_path / "list.txt"), 1.0)
    with pytest.raises(DrigError, match="holds no photo and no video"):
        find_sources(str(tmp_path), 1.0)


def test_a_photo_has_the_same_company_in_every_run() -> None:
    keys = list("abcdefgh")
    sources = {key: f"/{key}" for key in keys}
    whole = groups(keys, sources, set(keys), 3)
    assert [group["key"] for group in whole] == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]
    assert whole[2]["source"] == ["/g", "/h"]
    assert groups(keys, sources, {"e", "h"}, 3) == whole[1:]


def test_one_video_that_cannot_be_read_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DrigError, match="not a video"):
        find_sources(str(tmp_path / "text.mp4"), 1.0)
    with pytest.raises(DrigError, match="does not exist"):
        find_sources(str(tmp_path / "gone.mp4"), 1.0)
