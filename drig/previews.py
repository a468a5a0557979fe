"""Pictures of what an edit would follow, in milliseconds and without a rig; and of what was found in a photo."""

from types import MappingProxyType

import numpy as np
import torch
from PIL import Image

from drig.errors import DrigError
from drig.faces.buffers import Buffers, centre_shift
from drig.faces.camera import project
from drig.faces.codes import FaceCodes
from drig.faces.head import HeadModel
from drig.faces.likeness import NOBODY, Likeness
from drig.inspection import landmark_picture, mesh_picture
from drig.pictures import Picture, buffer_pictures
from drig.reading import Face

BUFFERS = ("rendered", "normal", "albedo")
LAYERS = (*BUFFERS, "mesh")
"""What a preview can show."""
FOUND = ("portrait", "landmarks", *LAYERS)
"""What there is to see of a photo that was read."""


@torch.inference_mode()
def preview(
    head: HeadModel, face: Face, edited: FaceCodes, layer: str, size: int, *, likeness: Likeness = NOBODY
) -> Picture:
    """One layer of the buffers of a person's edited codes, size x size; `mesh` = its triangles over the portrait."""
    if layer == "mesh":
        shaped = likeness.shaped(edited)
        vertices = head.vertices(shaped) + centre_shift(head, face.codes, shaped)[:, None]
        return mesh_picture(resized(face.portrait.image, size), project(vertices, shaped)[0], head.faces)
    if layer not in BUFFERS:
        raise DrigError(f"layer {layer!r} is unknown; choose from {', '.join(LAYERS)}")
    buffers = likeness.buffers(head, face.codes, edited, size)
    return buffer_layers(buffers)[layer]


def buffer_layers(buffers: Buffers) -> MappingProxyType[str, Picture]:
    """The pictures of one face's buffers by layer."""
    return MappingProxyType(dict(zip(BUFFERS, buffer_pictures(buffers.stacked()[0]), strict=True)))


@torch.inference_mode()
def found_picture(head: HeadModel, face: Face, kind: str, size: int) -> Picture:
    """One of FOUND of a photo that was read, size x size."""
    if kind == "portrait":
        return resized(face.portrait.image, size)
    if kind == "landmarks":
        fitted = project(head.landmarks(face.codes, head.vertices(face.codes)), face.codes)[0, :, :2]
        return landmark_picture(face.portrait, fitted, size)
    return preview(head, face, face.codes, kind, size)


def resized(picture: Picture, size: int) -> Picture:
    """The picture at size x size, by Lanczos."""
    if len(picture) == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS))
