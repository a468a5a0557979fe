"""Pictures of buffers and meshes, without a rig."""

import numpy as np
import pytest
import torch

from drig.errors import DrigError
from drig.faces.controls import Controls, apply_controls
from drig.faces.head import HeadModel, load_head, neutral_codes
from drig.faces.likeness import NOBODY, Likeness
from drig.faces.portraits import Portrait
from drig.previews import FOUND, LAYERS, found_picture, preview, resized
from drig.reading import Face


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("open")


@pytest.fixture(scope="module")
def face(head: HeadModel) -> Face:
    grey = np.full((64, 64, 3), 90, np.uint8)
    return Face(Portrait(grey, np.zeros((68, 2), np.float32), 1), neutral_codes(head), ())


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_at_every_size(head: HeadModel, face: Face, layer: str) -> None:
    for size in (64, 160):
        shown = preview(head, face, face.codes, layer, size)
        assert shown.shape == (size, size, 3)
        assert shown.dtype == np.uint8
        corner, middle = shown[2, 2], shown[size // 2, size // 2]
        assert not np.array_equal(corner, middle)


def test_the_mesh_is_drawn_over_the_portrait_where_the_head_is(head: HeadModel, face: Face) -> None:
    mesh = preview(head, face, face.codes, "mesh", 128)
    covered = preview(head, face, face.codes, "albedo", 128).any(-1)
    assert (mesh[~covered] == 90).mean() > 0.98  # but for lines along the silhouette
    assert (mesh[covered] != 90).any(-1).mean() > 0.5
    assert (mesh[covered] == 90).all(-1).mean() > 0.02  # lines, no blot


def test_controls_and_the_mean_shape_show(head: HeadModel, face: Face) -> None:
    plain = preview(head, face, face.codes, "rendered", 64)
    turned = apply_controls(face.codes, Controls(yaw=30), head.expression_names)
    known = Likeness(mean_shape=torch.full((1, head.shape_size), 1.0))
    for other in (
        preview(head, face, turned, "rendered", 64),
        preview(head, face, face.codes, "rendered", 64, likeness=known),
    ):
        assert np.abs(other.astype(int) - plain).mean() > 1
    own, mean = (preview(head, face, face.codes, "mesh", 64, likeness=likeness) for likeness in (NOBODY, known))
    assert not np.array_equal(own, mean)


def test_pictures_of_what_was_found(head: HeadModel, face: Face) -> None:
    shown = {kind: found_picture(head, face, kind, 64) for kind in FOUND}
    assert np.array_equal(shown["portrait"], face.portrait.image)
    assert np.array_equal(shown["normal"], preview(head, face, face.codes, "normal", 64))
    marks = np.abs(shown["landmarks"].astype(int) - 90).max(-1) > 60
    assert 20 < marks.sum() < 1500


def test_an_unknown_layer(head: HeadModel, face: Face) -> None:
    with pytest.raises(DrigError, match="choose from rendered, normal, albedo, mesh"):
        preview(head, face, face.codes, "depth", 64)


def test_resizing_leaves_the_right_size_alone() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert resized(picture, 4) is picture
    assert resized(picture, 8).shape == (8, 8, 3)
