"""Which points of the open head the detector takes for its jaw line.

On the side that turns away the jaw is hidden behind the cheek, and the 17 contour landmarks mark the silhouette. So
each of them may slide forward from its place on the jaw, over vertices at the same height, to where the head ends.

Legend: N batch, L = 68 landmarks, M points: the landmarks, then the vertices that may stand for them.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from drig.faces.open_head import OpenHead

SLIDING = (*range(6), *range(11, 17))
"""The chin, 6 to 10, stays a point of the head."""
BAND = 0.004
"""Vertices are at the same height when they differ by less than this, metres."""
FORWARD = 0.07
"""How far in front of the landmark they may be, metres: as far as the cheekbone."""


class Contour:
    """The points that may stand for landmarks, and the choice between them."""

    def __init__(self, head: OpenHead) -> None:
        fixed = (head.template[head.landmark_corners] * head.landmark_weights[..., None]).sum(1)  # (L, 3)
        vertices = head.template[:-1]
        offsets = vertices - fixed[list(SLIDING), None]  # (12, V, 3)
        side = fixed[list(SLIDING), None, 0].sign()
        near = (offsets[..., 1].abs() < BAND) & (offsets[..., 2] > 0) & (offsets[..., 2] < FORWARD)
        near &= vertices[:, 0] * side > 0
        found = [row.nonzero()[:, 0] for row in near]
        # Corners and weights (M, 3) of every point: a vertex is a triangle of its own.
        vertex = torch.cat(found)[:, None].expand(-1, 3)
        self.corners = torch.cat([head.landmark_corners, vertex])
        self.weights = torch.cat([head.landmark_weights, head.landmark_weights.new_full(vertex.shape, 1 / 3)])
        starts = torch.tensor([68, *map(len, found)]).cumsum(0)
        rows = [
            torch.cat([torch.tensor([landmark]), torch.arange(len(row)) + start])
            for landmark, row, start in zip(SLIDING, found, starts.tolist(), strict=False)
        ]
        # (12, C) points of each sliding landmark, itself first and as filling.
        candidates = pad_sequence(rows, batch_first=True, padding_value=-1)
        self.candidates = torch.where(candidates < 0, torch.tensor(SLIDING)[:, None], candidates).to(vertex.device)
        self.side = side[:, 0]  # (12,) -1 in the image's left half

    def choose(self, points: Tensor) -> Tensor:
        """Points (N, M, 3) of turned heads -> (N, L) which of them stand for the landmarks: those furthest out."""
        outward = points[:, self.candidates, 0] * self.side[:, None]  # (N, 12, C)
        best = outward.argmax(2, keepdim=True)
        chosen = torch.arange(68, device=points.device).repeat(len(points), 1)
        chosen[:, list(SLIDING)] = self.candidates.expand(len(points), -1, -1).gather(2, best)[..., 0]
        return chosen
