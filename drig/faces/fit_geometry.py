"""Landmarks -> shape, expression, head rotation and camera of the open head: a bounded least-squares fit.

Minimises, for each face on its own,

    sum_l w_l rho(|project(landmark_l) - observed_l|^2 / sigma^2) + d^T P d + c sum exp,   exp in [0, limit]

with sigma a share of the inter-ocular distance, rho the pseudo-Huber loss, d the difference from what was believed
before (a `GeometryPrior`: of heads in general, or of this one by the regressor), by Gauss-Newton with step control
(Levenberg-Marquardt). Every Jacobian is analytic; faces are solved in one batch. Where the jaw line is hidden by the
cheek in front of it, the detector marks the cheek: see `fit_contour`.

Legend: N batch, L = 68 landmarks, M points that may stand for landmarks, S shape codes, E facial actions,
D = 6 + S + E unknowns: rotation, camera (log scale, tx, ty), shape, exp.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor

from drig.faces import ibug
from drig.faces.fit_contour import Contour
from drig.faces.open_head import OpenHead

SIGMA, SIGMA_REFINED = 0.025, 0.04
"""Expected error of a detected landmark, in inter-ocular distances; greater where the head is known roughly, because
the detector's errors are the same from photo to photo, and the regressor has seen them."""
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
    """The unknowns of N faces."""

    rotation: Tensor
    """(N, 3, 3)"""
    cam: Tensor
    """(N, 3)"""
    shape: Tensor
    """(N, S)"""
    exp: Tensor
    """(N, E)"""

    def step_from(self, other: "Geometry") -> Tensor:
        """(N, D): the step by which `other` becomes this state."""
        turn = matrix_to_axis_angle(self.rotation @ other.rotation.mT)
        zoom = (self.cam[:, :1] / other.cam[:, :1]).log()
        return torch.cat(
            [turn, zoom, self.cam[:, 1:] - other.cam[:, 1:], self.shape - other.shape, self.exp - other.exp], 1
        )

    def moved(self, step: Tensor, limit: Tensor) -> "Geometry":
        """After a step (N, D) of rotation, camera, shape, exp; actions stay within their bounds."""
        turn, cam, shape, exp = torch.split(step, [3, 3, self.shape.shape[1], self.exp.shape[1]], 1)
        scale = self.cam[:, :1] * torch.exp(cam[:, :1])
        return Geometry(
            axis_angle_to_matrix(turn) @ self.rotation,
            torch.cat([scale, self.cam[:, 1:] + cam[:, 1:]], 1),
            self.shape + shape,
            (self.exp + exp).clamp(min=0).minimum(limit),
        )

    def where(self, mask: Tensor, other: "Geometry") -> "Geometry":
        """Faces of this geometry where mask (N,) holds, of the other elsewhere."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Geometry(*(torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


@dataclass(frozen=True)
class GeometryPrior:
    """What is believed of N faces before their landmarks are looked at."""

    mean: Geometry
    """Where the fit starts, too."""
    precision: Tensor
    """(D, D) of a step from there."""
    exp_cost: float = 0.0
    """Cost of each full action, linear."""


@dataclass(frozen=True)
class _Problem:
    """What N faces have to explain, and with which points of the head."""

    observed: Tensor  # (N, L, 2) y up
    sigma: Tensor  # (N, 1, 1)
    weights: Tensor  # (L,)
    template: Tensor  # (N, L, 3) from the pivot
    basis: Tensor  # (N, S + E, L, 3)


class GeometryFit:
    """Fits the open head to landmarks."""

    def __init__(self, head: OpenHead) -> None:
        names = head.expression_names
        self.limit = head.template.new_tensor([LIMITS.get(name, 1.0) for name in names])
        self.unseen = torch.tensor([name.startswith(UNSEEN) for name in names]).to(head.faces.device)
        general = torch.block_diag(torch.zeros(6, 6), torch.eye(head.shape_size), _expression_precision(names))
        self.general = general.to(head.template)  # (D, D)
        self.contour = Contour(head)
        corners, weights = self.contour.corners, self.contour.weights[:, :, None]

        def at_points(points: Tensor) -> Tensor:  # (..., V, 3) -> (..., M, 3)
            return (points[..., corners, :] * weights).sum(-2)

        # Everything is measured from the pivot of the head's rotation, the template's last point.
        self.pivot = head.template[-1]
        self.pivot_basis = head.shape_basis[:, -1]  # (S, 3)
        self.template = at_points(head.template) - self.pivot  # (M, 3)
        shape_basis = at_points(head.shape_basis) - self.pivot_basis[:, None]
        self.basis = torch.cat([shape_basis, at_points(head.expression_basis)])  # (S + E, M, 3)
        self.weights = _landmark_weights(head.template)  # (L,)
        self.inner_weights = self.weights.clone()
        self.inner_weights[ibug.CONTOUR] = 0

    def fit(self, landmarks: Tensor, prior: GeometryPrior | None = None) -> Geometry:
        """Observed landmarks (N, L, 2), image NDC, y down -> the geometry that explains them.

        Without a prior of these faces, that of heads in general: actions that landmarks do not tell stay at rest. With
        one, the contour is left out: where a head ends is what the detector knows least, and then it harms.
        """
        observed = landmarks * landmarks.new_tensor([1, -1])  # y up, as the world
        if prior is not None:
            problem = self._problem(prior.mean, observed, SIGMA_REFINED, self.inner_weights)
            return self._descend(prior.mean, problem, prior, self.limit)
        prior = GeometryPrior(self._upright(observed), self.general, EXP_COST)
        state = prior.mean
        for _ in range(ROUNDS):
            problem = self._problem(state, observed, SIGMA, self.weights)
            state = self._descend(state, problem, prior, torch.where(self.unseen, 0, self.limit))
        return state

    def _problem(self, state: Geometry, observed: Tensor, sigma: float, weights: Tensor) -> _Problem:
        """What to explain, with the points that stand for the landmarks at the pose of `state`."""
        local = self.template + torch.einsum("nk,kmc->nmc", torch.cat([state.shape, state.exp], 1), self.basis)
        points = self.contour.choose(local @ state.rotation.mT)  # (N, L)
        left, right, _ = ibug.eyes_and_mouth(observed)
        spread = sigma * (left - right).norm(dim=1)
        basis = self.basis[:, points].transpose(0, 1)
        return _Problem(observed, spread[:, None, None], weights, self.template[points], basis)

    def _descend(self, state: Geometry, problem: _Problem, prior: GeometryPrior, limit: Tensor) -> Geometry:
        """Steps that never raise the cost."""
        damping = state.cam.new_full((len(state.cam),), 1e-3)
        cost, gradient, hessian = self._evaluate(state, problem, prior)
        for _ in range(ITERATIONS):
            trial = state.moved(bounded_step(state.exp, gradient, hessian, damping, limit), limit)
            trial_cost, trial_gradient, trial_hessian = self._evaluate(trial, problem, prior)
            better = trial_cost < cost
            state = trial.where(better, state)
            cost = torch.where(better, trial_cost, cost)
            gradient = torch.where(better[:, None], trial_gradient, gradient)
            hessian = torch.where(better[:, None, None], trial_hessian, hessian)
            damping = torch.where(better, damping / 4, damping * 8).clamp(1e-6, 1e6)
        return state

    def _upright(self, observed: Tensor) -> Geometry:
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
        return Geometry(
            rotation,
            torch.cat([scale, shift], 1),
            observed.new_zeros(n, len(self.pivot_basis)),
            observed.new_zeros(n, len(self.limit)),
        )

    def _evaluate(self, state: Geometry, problem: _Problem, prior: GeometryPrior) -> tuple[Tensor, Tensor, Tensor]:
        """Cost (N,), half its gradient (N, D) and half its Gauss-Newton Hessian (N, D, D)."""
        codes = torch.cat([state.shape, state.exp], 1)  # (N, S + E)
        local = problem.template + torch.einsum("nk,nklc->nlc", codes, problem.basis)
        turned = local @ state.rotation.mT  # (N, L, 3) about the pivot
        pivot = self.pivot + state.shape @ self.pivot_basis
        scale, shift = state.cam[:, None, :1], state.cam[:, None, 1:]
        projected = scale * (turned[..., :2] + pivot[:, None, :2] + shift)
        error = (projected - problem.observed) / problem.sigma  # (N, L, 2)
        robust = (1 + error.square().sum(-1) / ROBUST**2).sqrt()
        cost = (problem.weights * 2 * ROBUST**2 * (robust - 1)).sum(1)
        weight = (problem.weights / robust).sqrt()[..., None]  # of iteratively reweighted least squares

        turn = scale[..., None] * _cross_columns(turned)  # (N, L, 2, 3)
        move = scale[..., None] * torch.eye(2).to(turn).expand(*error.shape, 2)
        by_code = torch.einsum("nrc,nklc->nlrk", state.rotation[:, :2], problem.basis)
        by_code[..., : state.shape.shape[1]] += self.pivot_basis.T[:2]
        jacobian = torch.cat([turn, projected[..., None], move, scale[..., None] * by_code], -1)  # (N, L, 2, D)
        jacobian = (jacobian * (weight / problem.sigma)[..., None]).flatten(1, 2)
        gradient = (jacobian.mT @ (weight * error).flatten(1)[..., None])[..., 0]

        change = state.step_from(prior.mean)
        pull = change @ prior.precision
        cost = cost + (pull * change).sum(1) + 2 * prior.exp_cost * state.exp.sum(1)
        gradient = gradient + pull
        gradient[:, -state.exp.shape[1] :] += prior.exp_cost
        return cost, gradient, jacobian.mT @ jacobian + prior.precision


def bounded_step(exp: Tensor, gradient: Tensor, hessian: Tensor, damping: Tensor, limit: Tensor) -> Tensor:
    """The damped Gauss-Newton step (N, D), whose last E unknowns are the actions `exp` (N, E) between 0 and limit (E,):
    those at a bound that push outwards are held."""
    hessian = hessian + torch.diag_embed(damping[:, None] * hessian.diagonal(dim1=1, dim2=2))
    e = exp.shape[1]
    push = gradient[:, -e:]
    held = ((exp <= 0) & (push > 0)) | ((exp >= limit) & (push < 0))
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


def _expression_precision(names: Sequence[str]) -> Tensor:
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
