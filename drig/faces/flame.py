"""FLAME (Li et al. 2017, "Learning a model of facial shape and expression from 4D scans") from the user's own files.

Codes are DECA's (SPEC 4): 100 shape and 50 expression components, axis-angle of head and jaw, 50 texture components.
Neck and eyes stay at rest. `generic_model.pkl` gives the mesh, `head_template.obj` its UVs, `landmark_embedding.npy`
the landmarks, `FLAME_texture.npz` the albedo.

Parity fixtures cover vertices, landmarks and buffers of yaws up to 39 degrees. They do not cover larger yaws and the
texture file: what they give follows SPEC 4 alone.

Legend: N batch, V vertices, F triangles, U texture coordinates, T texture size, J = 5 joints (root, neck, jaw, eyes).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch3d.transforms import axis_angle_to_matrix
from torch import Tensor

from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.linear_head import LinearHead
from drig.foreign.arrays import read_npz, read_object
from drig.foreign.obj import Mesh, read_obj
from drig.foreign.pickles import read_pickle
from drig.foreign.rebuild import as_array
from drig.foreign.source import intact

FOLDER_VARIABLE = "DRIG_FACE_FILES"
"""The environment variable that names the folder wherever none is given."""
MODEL, TEXTURE, LANDMARKS, TEMPLATE = (
    "generic_model.pkl",
    "FLAME_texture.npz",
    "landmark_embedding.npy",
    "head_template.obj",
)
WHERE_TO_GET_THEM = (
    f"{MODEL} (FLAME), {TEXTURE} (its texture space) and {LANDMARKS} are at https://flame.is.tue.mpg.de, "
    f"{TEMPLATE} and deca_model.tar come with DECA, https://github.com/yfeng95/DECA. Their licences exclude commercial "
    "use and are yours to accept; drig ships none of them."
)

_SHAPES, _EXPRESSIONS, _TEXTURES = 100, 50, 50  # DECA's codes
_FIRST_EXPRESSION = 300  # shapedirs holds 300 shape components before the expressions
_JOINTS, _JAW = 5, 2
_TEXTURE_SIZE, _ALBEDO_SIZE = 512, 256
_CONTOURS = 79  # rows of the contour table: yaw 0..39, then -1..-39 degrees
_MOST_YAW = 39


@dataclass(frozen=True, eq=False, kw_only=True)
class FlameHead(LinearHead):
    """Implements HeadModel; float32 and differentiable in the codes, but for the choice of the contour."""

    pose_basis: Tensor
    """(36, V, 3) correctives for the entries of R_j - I, joints 1..4, row by row."""
    joint_regressor: Tensor
    """(J, V)"""
    skinning: Tensor
    """(V, J)"""
    contour_corners: Tensor
    """(79, 17, 3) int64 vertices around each contour landmark, for each yaw."""
    contour_weights: Tensor
    """(79, 17, 3)"""
    inner_corners: Tensor
    """(51, 3) int64 vertices around the other landmarks."""
    inner_weights: Tensor
    """(51, 3)"""
    parents: tuple[int, ...]
    """(J) the joint above each; the root's is -1."""
    folder: Path
    """Where its files lie, and DECA's beside them."""
    expression_names: tuple[str, ...] = ()
    name: str = "flame"

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Reads the user's files, on the CPU. None = the folder that DRIG_FACE_FILES names.

        Raises one DrigError that says of every file whether it is there and what is wrong with it.
        """
        folder = folder or _folder_from_environment()
        parts: dict[str, Any] = {}
        found, problems = [], []
        for name, read in _READERS.items():
            try:
                if not (folder / name).is_file():
                    raise DrigError(f"{name} is missing")
                with intact(name):
                    read(folder / name, parts)
                found.append(name)
            except DrigError as error:
                problems.append(str(error))
        if problems:
            wrong = "\n  ".join(problems)
            raise DrigError(
                f"no FLAME head in {folder}. Found: {', '.join(found) or 'nothing'}. Missing or wrong:\n  {wrong}\n"
                f"{WHERE_TO_GET_THEM}"
            )
        return cls(**parts, folder=folder)

    def vertices(self, codes: FaceCodes) -> Tensor:
        """(N, V, 3) posed, by linear blend skinning (Li et al. 2017, equations 1 to 5)."""
        shaped = (
            self.template
            + torch.einsum("ns,svc->nvc", codes.shape, self.shape_basis)
            + torch.einsum("ne,evc->nvc", codes.exp, self.expression_basis)
        )
        joints = self.joint_regressor @ shaped  # (N, J, 3)
        rotations = self._rotations(codes)
        bends = (rotations[:, 1:] - torch.eye(3).to(rotations)).flatten(1)  # (N, 36)
        posed = shaped + torch.einsum("np,pvc->nvc", bends, self.pose_basis)
        turns, shifts = self._chain(rotations, joints)
        turn = torch.einsum("vj,njab->nvab", self.skinning, turns)  # (N, V, 3, 3)
        shift = torch.einsum("vj,nja->nva", self.skinning, shifts)
        vertices: Tensor = (turn @ posed[..., None])[..., 0] + shift
        return vertices

    def landmarks(self, codes: FaceCodes, vertices: Tensor) -> Tensor:
        """(N, 68, 3) iBUG points on the surface of `vertices`; the contour's are those that this yaw shows (SPEC 4)."""
        row = _contour_row(axis_angle_to_matrix(codes.pose[:, :3]))
        n = len(vertices)
        corners = torch.cat([self.contour_corners[row], self.inner_corners.expand(n, -1, -1)], 1)  # (N, 68, 3)
        weights = torch.cat([self.contour_weights[row], self.inner_weights.expand(n, -1, -1)], 1)
        points = vertices[torch.arange(n, device=vertices.device)[:, None, None], corners]  # (N, 68, 3, 3)
        return (points * weights[..., None]).sum(2)

    def albedo(self, codes: FaceCodes) -> Tensor:
        """(N, 3, T, T) mean + components. As released, it is not clipped; extreme codes leave [0, 1]."""
        return self.albedo_mean + torch.einsum("nk,kcij->ncij", codes.tex, self.albedo_basis)

    def _rotations(self, codes: FaceCodes) -> Tensor:
        """(N, J, 3, 3) of each joint against the one above it."""
        rotations = torch.eye(3).to(codes.pose).repeat(len(codes), _JOINTS, 1, 1)
        head, jaw = axis_angle_to_matrix(codes.pose.view(-1, 2, 3)).unbind(1)
        rotations[:, 0], rotations[:, _JAW] = head, jaw
        return rotations

    def _chain(self, rotations: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """What each joint does to a point of the head at rest: turns (N, J, 3, 3) and shifts (N, J, 3)."""
        turns, places = [rotations[:, 0]], [joints[:, 0]]
        for joint in range(1, _JOINTS):
            parent = self.parents[joint]
            step = joints[:, joint] - joints[:, parent]
            places.append((turns[parent] @ step[..., None])[..., 0] + places[parent])
            turns.append(turns[parent] @ rotations[:, joint])
        turn, place = torch.stack(turns, 1), torch.stack(places, 1)
        return turn, place - (turn @ joints[..., None])[..., 0]


def _contour_row(rotation: Tensor) -> Tensor:
    """(N,) row of the contour table for head rotations (N, 3, 3): y for a yaw of y = 0..39 degrees, 39 - y below 0."""
    yaw = torch.atan2(-rotation[:, 2, 0], rotation[:, :2, 0].norm(dim=1)).rad2deg()
    degrees = yaw.clamp(max=_MOST_YAW).round().long()
    below = torch.where(degrees < -_MOST_YAW, _CONTOURS - 1, _MOST_YAW - degrees)
    return torch.where(degrees < 0, below, degrees)


def _folder_from_environment() -> Path:
    if not os.environ.get(FOLDER_VARIABLE):
        raise DrigError(
            "head flame needs the folder with your FLAME files: give it (--head_folder), or set the environment "
            f"variable {FOLDER_VARIABLE}, which is not set. {WHERE_TO_GET_THEM}"
        )
    return Path(os.environ[FOLDER_VARIABLE])


def _read_model(path: Path, parts: dict[str, Any]) -> None:
    """The mesh and its movements."""
    content = read_pickle(path)
    arrays = {
        name: as_array(content[name])
        for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
    }
    v = len(arrays["v_template"])
    components = arrays["shapedirs"].shape[-1]
    expected = {
        "v_template": (v, 3),
        "shapedirs": (v, 3, max(components, _FIRST_EXPRESSION + _EXPRESSIONS)),
        "posedirs": (v, 3, 9 * (_JOINTS - 1)),
        "J_regressor": (_JOINTS, v),
        "weights": (v, _JOINTS),
        "kintree_table": (2, _JOINTS),
        "f": (len(arrays["f"]), 3),
    }
    for name, shape in expected.items():
        _check_shape(name, arrays[name], shape)
    basis = arrays["shapedirs"]
    parts["template"] = _floats(arrays["v_template"])
    parts["shape_basis"] = _floats(np.moveaxis(basis[..., :_SHAPES], 2, 0))
    expressions = basis[..., _FIRST_EXPRESSION : _FIRST_EXPRESSION + _EXPRESSIONS]
    parts["expression_basis"] = _floats(np.moveaxis(expressions, 2, 0))
    parts["pose_basis"] = _floats(np.moveaxis(arrays["posedirs"], 2, 0))
    parts["joint_regressor"] = _floats(arrays["J_regressor"])
    parts["skinning"] = _floats(arrays["weights"])
    parts["parents"] = _parents(arrays["kintree_table"])
    parts["faces"] = _indices(arrays["f"], v)


def _parents(tree: NDArray[Any]) -> tuple[int, ...]:
    """The joint above each. The root's is written as -1, which is 4294967295 in the released file's type."""
    parents = (-1, *map(int, tree[0, 1:]))
    if any(not 0 <= parent < joint for joint, parent in enumerate(parents) if joint):
        raise ValueError(f"joints {list(parents)} in an order that no tree has")
    return parents


def _read_template(path: Path, parts: dict[str, Any]) -> None:
    """The UVs of the mesh's faces."""
    mesh: Mesh = read_obj(path)
    if "faces" in parts and not np.array_equal(mesh.faces, parts["faces"].numpy()):
        raise ValueError(f"its {len(mesh.faces)} faces are not the {len(parts['faces'])} of {MODEL}")
    parts["uvs"], parts["uv_faces"] = torch.from_numpy(mesh.uvs), torch.from_numpy(mesh.uv_faces)


def _read_landmarks(path: Path, parts: dict[str, Any]) -> None:
    """The contour for each yaw, and the other landmarks."""
    content = read_object(path)
    sizes = {"contour": ("dynamic_lmk_{}", (_CONTOURS, 17)), "inner": ("static_lmk_{}", (51,))}
    for part, (key, shape) in sizes.items():
        on_face = as_array(content[key.format("faces_idx")])
        weights = as_array(content[key.format("bary_coords")])
        _check_shape(key.format("faces_idx"), on_face, shape)
        _check_shape(key.format("bary_coords"), weights, (*shape, 3))
        parts[f"{part}_weights"] = _floats(weights)
        if "faces" in parts:  # otherwise there is no mesh, and the report says so
            parts[f"{part}_corners"] = parts["faces"][_indices(on_face, len(parts["faces"]))]


def _read_texture(path: Path, parts: dict[str, Any]) -> None:
    """The albedo in [0, 1], RGB, of half the file's resolution: every second texel (SPEC 4)."""
    for part, name, last in (("albedo_mean", "mean", None), ("albedo_basis", "tex_dir", _TEXTURES)):
        texels = read_npz(path, name, last)
        tail = () if last is None else (last,)
        _check_shape(name, texels, (_TEXTURE_SIZE, _TEXTURE_SIZE, 3, *tail))
        step = _TEXTURE_SIZE // _ALBEDO_SIZE
        rgb = texels[::step, ::step, ::-1].astype(np.float32) / 255  # (T, T, 3, ...)
        parts[part] = _floats(np.moveaxis(rgb.reshape(_ALBEDO_SIZE, _ALBEDO_SIZE, 3, -1), (3, 2), (0, 1)))
    parts["albedo_mean"] = parts["albedo_mean"][0]


_READERS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    MODEL: _read_model,
    TEMPLATE: _read_template,
    LANDMARKS: _read_landmarks,
    TEXTURE: _read_texture,
}


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} is {array.shape}, not {shape}")


def _floats(array: NDArray[Any]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    if not tensor.isfinite().all():
        raise ValueError("numbers that are not finite")
    return tensor


def _indices(array: NDArray[Any], count: int) -> Tensor:
    """Indices of `count` things."""
    if array.dtype.kind not in "iu" or not array.size or array.min() < 0 or array.max() >= count:
        raise ValueError(f"indices outside 0..{count - 1}")
    return torch.from_numpy(array.astype(np.int64))
