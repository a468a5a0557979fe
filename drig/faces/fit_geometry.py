"""Landmarks -> shape, expression, head rotation and camera of the open head: a bounded least-squares fit.

Minimises, for each face on its own,

    sum_l w_l rho(|project(landmark_l) - observed_l|^2 / sigma^2) + |shape|^2 + exp prior,   exp in [0, limit]

with sigma a share of the inter-ocular distance, rho the pseudo-Huber loss, by Gauss-Newton with step control
(Levenberg-Marquardt) from a closed-form pose. Every Jacobian is analytic; faces are solved in one batch.

Legend: N batch, L = 68 landmarks, S shape codes, E expression codes, D = 6 + S + E unknowns.
"""

from dataclasses import dataclass

import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor

from drig.faces import ibug
from drig.faces.open_head import OpenHead

SIGMA = 0.025
"""Expected error of a detected landmark, in inter-ocular distances."""
ROBUST = 3.0
"""Errors beyond this many sigmas count linearly: hands, hair and glasses fool the detector."""
ITERATIONS = 25


@dataclass(frozen=True)
class Geometry:
    """What the landmarks tell: shape (N, S), exp (N, E), rotation (N, 3) axis-angle, cam (N, 3)."""

    shape: Tensor
    exp: Tensor
    rotation: Tensor
    cam: Tensor


@dataclass
class _State:
    """The unknowns of N faces."""

    rotation: Tensor  # (N, 3, 3)
    cam: Tensor  # (N, 3)
    shape: Tensor  # (N, S)
    exp: Tensor  # (N, E)

    def moved(self, step: Tensor, limit: Tensor) -> "_State":
        """After a step (N, D) of rotation, camera, shape, exp; actions stay within their bounds."""
        turn, cam, shape, exp = torch.split(step, [3, 3, self.shape.shape[1], self.exp.shape[1]], 1)
        scale = self.cam[:, :1] * torch.exp(cam[:, :1])
        return _State(
            axis_angle_to_matrix(turn) @ self.rotation,
            torch.cat([scale, self.cam[:, 1:] + cam[:, 1:]], 1),
            self.shape + shape,
            (self.exp + exp).clamp(min=0).minimum(limit),
        )

    def where(self, mask: Tensor, other: "_State") -> "_State":
        """Faces of this state where mask (N,) holds, of the other elsewhere."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _State(*(torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


class GeometryFit:
    """Fits the open head to landmarks."""

    def __init__(self, head: OpenHead) -> None:
        corners, weights = head.landmark_corners, head.landmark_weights[:, :, None]

        def at_landmarks(points: Tensor) -> Tensor:  # (..., V, 3) -> (..., L, 3)
            return (points[..., corners, :] * weights).sum(-2)

        self.template = at_landmarks(head.template) - head.template[-1]  # (L, 3) from the pivot
        self.pivot = head.template[-1]
        self.pivot_basis = head.shape_basis[:, -1]  # (S, 3)
        self.shape_basis = at_landmarks(head.shape_basis) - self.pivot_basis[:, None]  # (S, L, 3)
        self.exp_basis = at_landmarks(head.expression_basis)  # (E, L, 3)
        self.weights = _landmark_weights(head.template)  # (L,)
        self.exp_prior, self.exp_limit = _expression_prior(head)  # (E,), (E,)

    def fit(self, landmarks: Tensor) -> Geometry:
        """Observed landmarks (N, L, 2), image NDC, y down -> the geometry that explains them."""
        observed = landmarks * landmarks.new_tensor([1, -1])  # y up, as the world
        left, right, _ = ibug.eyes_and_mouth(observed)
        eyes = (left - right).norm(dim=1)  # (N,)
        sigma = SIGMA * eyes[:, None, None]
        state = self._start(observed)
        damping = torch.full_like(eyes, 1e-2)
        cost, residual, jacobian = self._evaluate(state, observed, sigma)
        for _ in range(ITERATIONS):
            step = self._step(state, residual, jacobian, damping)
            trial = state.moved(step, self.exp_limit)
            trial_cost, trial_residual, trial_jacobian = self._evaluate(trial, observed, sigma)
            better = trial_cost < cost
            state = trial.where(better, state)
            cost = torch.where(better, trial_cost, cost)
            residual = torch.where(better[:, None], trial_residual, residual)
            jacobian = torch.where(better[:, None, None], trial_jacobian, jacobian)
            damping = torch.where(better, damping / 4, damping * 8).clamp(1e-6, 1e6)
        return Geometry(state.shape, state.exp, matrix_to_axis_angle(state.rotation), state.cam)

    def _start(self, observed: Tensor) -> _State:
        """Scaled orthography of the mean head in closed form: an affine camera by least squares, then its rotation."""
        rigid = slice(ibug.BROWS.start, 68)  # the contour slides over the head as it turns
        points = self.template[rigid]
        centred = points - points.mean(0)
        target = observed[:, rigid]
        affine = (torch.linalg.pinv(centred) @ (target - target.mean(1, keepdim=True))).mT  # (N, 2, 3)
        u, values, v = torch.linalg.svd(affine, full_matrices=False)
        rows = u @ v  # (N, 2, 3) the nearest orthonormal pair
        rotation = torch.cat([rows, torch.linalg.cross(rows[:, 0], rows[:, 1])[:, None]], 1)
        scale = values.mean(1, keepdim=True)
        middle = (points.mean(0) @ rotation.mT)[:, :2] + self.pivot[:2]
        shift = target.mean(1) / scale - middle
        n = len(observed)
        return _State(
            rotation,
            torch.cat([scale, shift], 1),
            observed.new_zeros(n, len(self.shape_basis)),
            observed.new_zeros(n, len(self.exp_basis)),
        )

    def _evaluate(self, state: _State, observed: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cost (N,), weighted residuals (N, 2 L) and their Jacobian (N, 2 L, D)."""
        local = (
            self.template
            + torch.einsum("ns,slc->nlc", state.shape, self.shape_basis)
            + torch.einsum("ne,elc->nlc", state.exp, self.exp_basis)
        )
        turned = local @ state.rotation.mT  # (N, L, 3) about the pivot
        pivot = self.pivot + state.shape @ self.pivot_basis
        scale, shift = state.cam[:, None, :1], state.cam[:, None, 1:]
        projected = scale * (turned[..., :2] + pivot[:, None, :2] + shift)
        error = (projected - observed) / sigma  # (N, L, 2)
        squared = error.square().sum(-1)
        robust = (1 + squared / ROBUST**2).sqrt()
        cost = (self.weights * 2 * ROBUST**2 * (robust - 1)).sum(1)
        cost = cost + state.shape.square().sum(1) + self._prior_cost(state.exp)
        weight = (self.weights / robust).sqrt()[..., None]  # of iteratively reweighted least squares

        rows = state.rotation[:, :2]
        turn = scale[..., None] * _cross_columns(turned)  # (N, L, 2, 3)
        camera = torch.cat(
            [projected[..., None], scale[..., None] * torch.eye(2).expand(*error.shape, 2)], -1
        )  # (N, L, 2, 3)
        by_shape = torch.einsum("nrc,slc->nlrs", rows, self.shape_basis) + self.pivot_basis.T[None, None, :2]
        by_exp = torch.einsum("nrc,elc->nlre", rows, self.exp_basis)
        scaled = scale[..., None]
        jacobian = torch.cat([turn, camera, scaled * by_shape, scaled * by_exp], -1) / sigma[..., None]
        return cost, (weight * error).flatten(1), (weight[..., None] * jacobian).flatten(1, 2)

    def _step(self, state: _State, residual: Tensor, jacobian: Tensor, damping: Tensor) -> Tensor:
        """The damped Gauss-Newton step (N, D); actions at a bound that push outwards are held."""
        n = len(jacobian)
        s, e = state.shape.shape[1], state.exp.shape[1]
        gradient = (jacobian.mT @ residual[..., None])[..., 0]
        prior_gradient = torch.cat([residual.new_zeros(n, 6), state.shape, self._prior_gradient(state.exp)], 1)
        curvature = torch.cat([residual.new_zeros(6), residual.new_ones(s), 1 / EXP_SPREAD**2 * residual.new_ones(e)])
        gradient = gradient + prior_gradient
        hessian = jacobian.mT @ jacobian + torch.diag(curvature)
        hessian = hessian + torch.diag_embed(damping[:, None] * hessian.diagonal(dim1=1, dim2=2))
        push = gradient[:, -e:]
        held = ((state.exp <= 0) & (push > 0)) | ((state.exp >= self.exp_limit) & (push < 0))
        free = torch.cat([torch.ones_like(gradient[:, :-e]), (~held).float()], 1)  # (N, D)
        hessian = hessian * free[:, :, None] * free[:, None, :] + torch.diag_embed(1 - free)
        step: Tensor = torch.linalg.solve(hessian, -gradient * free)
        return step

    def _prior_cost(self, exp: Tensor) -> Tensor:
        return (exp / EXP_SPREAD).square().sum(1) + 2 * (self.exp_prior * exp).sum(1)

    def _prior_gradient(self, exp: Tensor) -> Tensor:
        """Half the gradient of the cost, as J^T r is."""
        return exp / EXP_SPREAD**2 + self.exp_prior


EXP_SPREAD = 0.5
"""Typical size of a facial action that is at work."""


def _landmark_weights(like: Tensor) -> Tensor:
    """(68,) The contour is where the head ends, not a point of it; lips and lids carry the expression."""
    weights = like.new_ones(68)
    weights[ibug.CONTOUR] = 0.15
    weights[6:11] = 0.4  # the chin stays a point of the head
    weights[ibug.MOUTH] = 1.5
    weights[ibug.RIGHT_EYE] = weights[ibug.LEFT_EYE] = 1.5
    return weights


def _expression_prior(head: OpenHead) -> tuple[Tensor, Tensor]:
    """(E,) linear cost of each action, which keeps unneeded ones at zero, and (E,) its upper limit."""
    prior = head.template.new_full((head.exp_size,), 0.5)
    limit = head.template.new_ones(head.exp_size)
    return prior, limit


def _cross_columns(points: Tensor) -> Tensor:
    """d(turned.xy)/d(turn): the first two rows of -[p]x, for points (..., 3) -> (..., 2, 3)."""
    x, y, z = points.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([torch.stack([zero, z, -y], -1), torch.stack([-z, zero, x], -1)], -2)
