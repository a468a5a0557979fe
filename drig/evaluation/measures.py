"""What is measured on one made portrait, against the answer that is known.

Errors of light, expression and pose are those of codes estimated again from the portrait (the paper's re-inference):
against the truth, which has the estimator's errors of source and target in it too, and against the codes that the edit
was asked for, as in the paper.
"""

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor

from drig.data.synthetic.lights import fibonacci_sphere
from drig.editing import Editor
from drig.evaluation.features import FaceFeatures
from drig.evaluation.subjects import Answer
from drig.faces import ibug
from drig.faces.codes import FaceCodes
from drig.faces.head import neutral_codes
from drig.faces.identity_embedding import IdentityEmbedder, distances
from drig.faces.lighting import shade
from drig.faces.portraits import Portrait
from drig.metrics import Picture, psnr, ssim

MEASURES = MappingProxyType(
    {
        "face_psnr": "PSNR of the face, dB",
        "psnr": "PSNR of the whole portrait, dB",
        "face_ssim": "SSIM of the face",
        "ssim": "SSIM of the whole portrait",
        "features": "distance of the face in the features of the estimator's network",
        "light": "light estimated again: RMSE of the shading of a sphere's front",
        "exp": "expression estimated again: % of the eye distance that landmarks are off on the same head",
        "pose": "pose estimated again: degrees",
        "asked_light": "the same against the light that was asked for",
        "asked_exp": "the same against the expression that was asked for",
        "asked_pose": "the same against the pose that was asked for",
        "identity": "mean distance to the person's photos in dlib's re-identification network",
        "flicker": "of a head that turns: mean change of a pixel's change from frame to frame, % of the range",
    }
)
HIGHER_IS_BETTER = frozenset({"face_psnr", "psnr", "face_ssim", "ssim"})


class Measures:
    """Measures portraits of one person: `photos`, real ones, say who that is.

    editor: of any rig with the size, head and estimator of those that made the portraits.
    """

    def __init__(self, editor: Editor, photos: Sequence[Portrait]) -> None:
        self.head, self.estimator = editor.head, editor.estimator
        self.features, self.embedder = FaceFeatures(), IdentityEmbedder()
        self.person = self.embedder.embed_portraits(photos)  # (A, 128)
        self.sphere = _front()

    def __call__(
        self, made: Sequence[Picture], answers: Sequence[Answer], asked: Sequence[FaceCodes]
    ) -> list[dict[str, float]]:
        """One dict for each picture, by the names of MEASURES. asked: what each edit was to render, a face each."""
        truth, wish = FaceCodes.cat([answer.codes for answer in answers]), FaceCodes.cat(asked)
        images, true_images = _stack(made), _stack([answer.picture for answer in answers])
        found = self.estimator.fit(images, None)  # they are taken for the exact FFHQ crops that they should be
        errors: dict[str, Tensor] = {
            "features": self.features.distance(images, true_images),
            "light": self.light(found, truth),
            "exp": self.expression(found, truth),
            "pose": turn(found, truth),
            "asked_light": self.light(found, wish),
            "asked_exp": self.expression(found, wish),
            "asked_pose": turn(found, wish),
            "identity": torch.from_numpy(self.identity(made, answers)),
        }
        return [
            {
                "face_psnr": psnr(picture, answer.picture, answer.face),
                "psnr": psnr(picture, answer.picture),
                "face_ssim": ssim(picture, answer.picture, answer.face),
                "ssim": ssim(picture, answer.picture),
                **{name: float(values[i]) for name, values in errors.items()},
            }
            for i, (picture, answer) in enumerate(zip(made, answers, strict=True))
        ]

    def identity(self, made: Sequence[Picture], answers: Sequence[Answer]) -> NDArray[np.float32]:
        """(N,) mean distance to the person's photos."""
        portraits = [Portrait(p, a.landmarks.astype(np.float32), 1) for p, a in zip(made, answers, strict=True)]
        found: NDArray[np.float32] = distances(self.embedder.embed_portraits(portraits), self.person).mean(1)
        return found

    def light(self, a: FaceCodes, b: FaceCodes) -> Tensor:
        """(N,) RMSE of what a sphere's front looks like in the two lights."""
        return (shade(self.sphere, a.light) - shade(self.sphere, b.light)).square().mean((1, 2)).sqrt()

    def expression(self, a: FaceCodes, b: FaceCodes) -> Tensor:
        """(N,) mean distance of the inner landmarks of a mean head that makes both faces, in % of the eye distance."""
        points = [self._inner_landmarks(codes) for codes in (a, b)]
        eyes = ibug.eyes_and_mouth(self._landmarks(neutral_codes(self.head)))[:2]
        distance: Tensor = 100 * (points[0] - points[1]).norm(dim=2).mean(1) / (eyes[0] - eyes[1]).norm()
        return distance

    def _inner_landmarks(self, codes: FaceCodes) -> Tensor:
        pose = codes.pose.clone()
        pose[:, :3] = 0
        still = neutral_codes(self.head, len(codes)).replace(exp=codes.exp, pose=pose)
        return self._landmarks(still)[:, ibug.CONTOUR.stop :]

    def _landmarks(self, codes: FaceCodes) -> Tensor:
        return self.head.landmarks(codes, self.head.vertices(codes))


def flicker(frames: Sequence[Picture]) -> float:
    """Mean absolute second difference over time, of frames (S, S, 3), in % of the range."""
    film = np.stack(frames).astype(np.float64)  # (F, S, S, 3)
    return float(100 * np.abs(film[2:] - 2 * film[1:-1] + film[:-2]).mean() / 255)


def turn(a: FaceCodes, b: FaceCodes) -> Tensor:
    """(N,) degrees between two heads' rotations."""
    between = axis_angle_to_matrix(a.pose[:, :3]) @ axis_angle_to_matrix(b.pose[:, :3]).mT
    degrees: Tensor = matrix_to_axis_angle(between).norm(dim=1).rad2deg()
    return degrees


def _stack(pictures: Sequence[Picture]) -> Tensor:
    """(N, 3, S, S) in [0, 1]"""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255


def _front() -> Tensor:
    """(P, 3) directions towards the viewer, evenly spread."""
    points = torch.from_numpy(fibonacci_sphere(800).astype(np.float32))
    return points[points[:, 2] > 0]
