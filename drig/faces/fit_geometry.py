"""Landmarks -> shape, expression, head rotation and camera of the open head: a bounded least-squares fit.

Minimises, for each face on its own,

    sum_l w_l rho(|project(landmark_l) - observed_l|^2 / sigma^2) + |shape|^2 + exp prior,   exp in [0, limit]

with sigma a share of the inter-ocular distance, rho the pseudo-Huber loss, by Gauss-Newton with step control
(Levenberg-Marquardt) from a closed-form pose. Every Jacobian is analytic; faces are solved in one batch. Where the jaw
line is hidden by the cheek in front of it, the detector marks the cheek: see `fit_contour`.

Legend: N batch, L = 68 landmarks, M points that may stand for landmarks, S shape codes, E expression codes,
D = 6 + S + E unknowns.
"""

from dataclasses import dataclass

import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor

from drig.faces import ibug
from drig.faces.fit_contour import Contour
from drig.faces.open_head import OpenHead

SIGMA = 0.025
"""Expected error of a detected landmark, in inter-ocular distances."""
ROBUST = 3.0
"""Errors beyond this many sigmas count linearly: hands, hair and glasses fool the detector."""
ROUNDS, ITERATIONS = 4, 5
"""In each round the silhouette is looked up anew, then steps are taken."""
EXP_COST = 1.5
"""Cost of each full action, linear, so that those which explain little stay at zero."""
EXP_SPREAD = 0.5
"""Typical size of a facial action that is at work."""
ASYMMETRY = 0.3
"""Typical difference between the two sides of an action."""
UNSEEN = ("eyeLook", "cheek", "tongueOut", "jawForward")
"""Beginnings of the names of the actions that landmarks do not tell; they stay at rest."""
LIMITS = {"jawLeft": 0.3, "jawRight": 0.3, "mouthLeft": 0.4, "mouthRight": 0.4}
"""Largest values of actions that are rarely seen at their full size 1, and then look odd."""


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


@dataclass(frozen=True)
class _Problem:
    """What N faces have to explain, and with which points of the head."""

    observed: Tensor  # (N, L, 2) y up
    sigma: Tensor  # (N, 1, 1)
    template: Tensor  # (N, L, 3) from the pivot
    basis: Tensor  # (N, S + E, L, 3)


class GeometryFit:
    """Fits the open head to landmarks."""

    def __init__(self, head: OpenHead) -> None:
        names = [name for name in head.expression_names if not name.startswith(UNSEEN)]
        index = torch.tensor([head.expression_names.index(name) for name in names])
        self.exp_index = index.to(head.faces.device)  # (E,) among all actions
        self.exp_size = head.exp_size
        self.exp_limit = head.template.new_tensor([LIMITS.get(name, 1.0) for name in names])
        prior = torch.block_diag(torch.zeros(6, 6), torch.eye(head.shape_size), _expression_precision(names))
        self.prior = prior.to(head.template)  # (D, D)
        self.contour = Contour(head)
        corners, weights = self.contour.corners, self.contour.weights[:, :, None]

        def at_points(points: Tensor) -> Tensor:  # (..., V, 3) -> (..., M, 3)
            return (points[..., corners, :] * weights).sum(-2)

        # Everything is measured from the pivot of the head's rotation, the template's last point.
        self.pivot = head.template[-1]
        self.pivot_basis = head.shape_basis[:, -1]  # (S, 3)
        self.template = at_points(head.template) - self.pivot  # (M, 3)
        shape_basis = at_points(head.shape_basis) - self.pivot_basis[:, None]
        self.basis = torch.cat([shape_basis, at_points(head.expression_basis[self.exp_index])])  # (S + E, M, 3)
        self.weights = _landmark_weights(head.template)  # (L,)

    def fit(self, landmarks: Tensor) -> Geometry:
        """Observed landmarks (N, L, 2), image NDC, y down -> the geometry that explains them."""
        observed = landmarks * landmarks.new_tensor([1, -1])  # y up, as the world
        state = self._start(observed)
        for _ in range(ROUNDS):
            state = self._descend(state, self._problem(state, observed))
        exp = state.exp.new_zeros(len(landmarks), self.exp_size).index_copy(1, self.exp_index, state.exp)
        return Geometry(state.shape, exp, matrix_to_axis_angle(state.rotation), state.cam)

    def _problem(self, state: _State, observed: Tensor) -> _Problem:
        """What to explain, with the points that stand for the landmarks at the pose of `state`."""
        local = self.template + torch.einsum("nk,kmc->nmc", torch.cat([state.shape, state.exp], 1), self.basis)
        points = self.contour.choose(local @ state.rotation.mT)  # (N, L)
        left, right, _ = ibug.eyes_and_mouth(observed)
        sigma = SIGMA * (left - right).norm(dim=1)
        return _Problem(observed, sigma[:, None, None], self.template[points], self.basis[:, points].transpose(0, 1))

    def _descend(self, state: _State, problem: _Problem) -> _State:
        """Steps that never raise the cost."""
        damping = state.cam.new_full((len(state.cam),), 1e-3)
        cost, gradient, hessian = self._evaluate(state, problem)
        for _ in range(ITERATIONS):
            trial = state.moved(self._step(state, gradient, hessian, damping), self.exp_limit)
            trial_cost, trial_gradient, trial_hessian = self._evaluate(trial, problem)
            better = trial_cost < cost
            state = trial.where(better, state)
            cost = torch.where(better, trial_cost, cost)
            gradient = torch.where(better[:, None], trial_gradient, gradient)
            hessian = torch.where(better[:, None, None], trial_hessian, hessian)
            damping = torch.where(better, damping / 4, damping * 8).clamp(1e-6, 1e6)
        return state

    def _start(self, observed: Tensor) -> _State:
        """Scaled orthography of the mean head in closed form: an affine camera by least squares, then its rotation."""
        rigid = slice(ibug.BROWS.start, 68)  # the contour slides over the head as it turns
        points = self.template[rigid]  # the first L points are the landmarks themselves
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
            observed.new_zeros(n, len(self.pivot_basis)),
            observed.new_zeros(n, len(self.exp_limit)),
        )

    def _evaluate(self, state: _State, problem: _Problem) -> tuple[Tensor, Tensor, Tensor]:
        """Cost (N,), half its gradient (N, D) and half its Gauss-Newton Hessian (N, D, D)."""
        codes = torch.cat([state.shape, state.exp], 1)  # (N, S + E)
        local = problem.template + torch.einsum("nk,nklc->nlc", codes, problem.basis)
        turned = local @ state.rotation.mT  # (N, L, 3) about the pivot
        pivot = self.pivot + state.shape @ self.pivot_basis
        scale, shift = state.cam[:, None, :1], state.cam[:, None, 1:]
        projected = scale * (turned[..., :2] + pivot[:, None, :2] + shift)
        error = (projected - problem.observed) / problem.sigma  # (N, L, 2)
        robust = (1 + error.square().sum(-1) / ROBUST**2).sqrt()
        cost = (self.weights * 2 * ROBUST**2 * (robust - 1)).sum(1)
        weight = (self.weights / robust).sqrt()[..., None]  # of iteratively reweighted least squares

        turn = scale[..., None] * _cross_columns(turned)  # (N, L, 2, 3)
        move = scale[..., None] * torch.eye(2).to(turn).expand(*error.shape, 2)
        by_code = torch.einsum("nrc,nklc->nlrk", state.rotation[:, :2], problem.basis)
        by_code[..., : state.shape.shape[1]] += self.pivot_basis.T[:2]
        jacobian = torch.cat([turn, projected[..., None], move, scale[..., None] * by_code], -1)  # (N, L, 2, D)
        jacobian = (jacobian * (weight / problem.sigma)[..., None]).flatten(1, 2)
        gradient = (jacobian.mT @ (weight * error).flatten(1)[..., None])[..., 0]

        pull = torch.cat([torch.zeros_like(codes[:, :6]), codes], 1) @ self.prior
        cost = cost + (pull[:, 6:] * codes).sum(1) + 2 * EXP_COST * state.exp.sum(1)
        gradient = gradient + pull
        gradient[:, -state.exp.shape[1] :] += EXP_COST
        return cost, gradient, jacobian.mT @ jacobian + self.prior

    def _step(self, state: _State, gradient: Tensor, hessian: Tensor, damping: Tensor) -> Tensor:
        """The damped Gauss-Newton step (N, D); actions at a bound that push outwards are held."""
        hessian = hessian + torch.diag_embed(damping[:, None] * hessian.diagonal(dim1=1, dim2=2))
        e = state.exp.shape[1]
        push = gradient[:, -e:]
        held = ((state.exp <= 0) & (push > 0)) | ((state.exp >= self.exp_limit) & (push < 0))
        free = torch.cat([torch.ones_like(gradient[:, :-e]), (~held).float()], 1)  # (N, D)
        hessian = hessian * free[:, :, None] * free[:, None, :] + torch.diag_embed(1 - free)
        step: Tensor = torch.linalg.solve(hessian, -gradient * free)
        return step


def _landmark_weights(like: Tensor) -> Tensor:
    """(68,) The contour is where the head ends, not quite a point of it; lips and lids carry the expression."""
    weights = like.new_ones(68)
    weights[ibug.CONTOUR] = 0.3
    weights[ibug.MOUTH] = 1.5
    weights[ibug.RIGHT_EYE] = weights[ibug.LEFT_EYE] = 1.5
    return weights


def _expression_precision(names: list[str]) -> Tensor:
    """(E, E) of the Gaussian part of the actions' prior: each is small, and much the same on both sides."""
    precision = torch.eye(len(names)) / EXP_SPREAD**2
    for left, name in enumerate(names):
        other = name.removesuffix("Left") + "Right"
        if name.endswith("Left") and name not in LIMITS and other in names:
            pair = torch.tensor([left, names.index(other)])
            precision[pair[:, None], pair] += torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / ASYMMETRY**2
    return precision


def _cross_columns(points: Tensor) -> Tensor:
    """d(turned.xy)/d(turn): the first two rows of -[p]x, for points (..., 3) -> (..., 2, 3)."""
    x, y, z = points.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([torch.stack([zero, z, -y], -1), torch.stack([-z, zero, x], -1)], -2)
