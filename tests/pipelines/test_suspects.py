"""A photo on which every process dies becomes a reject, and its neighbours are found."""

import os
from pathlib import Path

import numpy as np
import pytest

from drig.data.photos import Photo, save_png
from pipelines.extract_buffers import ExtractConfig, extract
from pipelines.suspects import REASON, Begun, CarefulFinder
from tests.pipelines.conftest import heads


def test_what_was_begun_and_not_ended() -> None:
    begun = Begun()
    assert [begun.begin("a"), begun.begin("a"), begun.begin("b")] == [0, 1, 0]
    begun.end("a")
    assert begun.begin("a") == 0


class DyingFinder(CarefulFinder):
    """As a decoder does that a file crashes."""

    def _read(self, source: str) -> Photo:
        if source.endswith("poison.png"):
            os._exit(1)
        return super()._read(source)


def test_a_photo_that_kills_its_process(ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.extract_buffers.CarefulFinder", DyingFinder)
    for i, picture in enumerate(heads(5, 32)):
        save_png(tmp_path / "photos" / f"{i}.png", picture)
    save_png(tmp_path / "photos" / "2poison.png", np.zeros((32, 32, 3), np.uint8))
    config = ExtractConfig(
        photos=str(tmp_path / "photos"),
        store=str(tmp_path / "store"),
        runs=tmp_path,
        size=32,
        aligned=True,
        detect=False,
        batch=3,
        sheet=0,
        finders=1,
        renderers=1,
    )
    result = extract(config)
    assert (result.records, result.rejects) == (5, {"2poison.png": REASON})
