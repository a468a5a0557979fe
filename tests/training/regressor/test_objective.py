"""The errors that the regressor is trained on."""

import torch

from drig.faces.open_head import OpenHead
from drig.faces.regressor import Sizes, to_numbers
from drig.training.regressor.objective import GOOD, Objective
from drig.training.regressor.portraits import Portraits


def test_the_truth_has_no_error_and_each_part_has_its_own(head: OpenHead, portraits: Portraits) -> None:
    objective = Objective(head)
    truth = to_numbers(portraits.codes)
    for name, error in objective(truth, truth).items():
        assert error * GOOD[name] < 1e-3, name
    sizes = Sizes(head.shape_size, head.exp_size, head.tex_size)
    starts = dict(zip(sizes.parts, torch.tensor([0, *sizes.parts.values()]).cumsum(0).tolist(), strict=False))
    expected = {
        "rotation": {"rotation", "place"},
        "cam": {"place"},
        "shape": {"place", "form", "face", "codes"},
        "exp": {"place", "face", "actions"},
        "light": {"shading"},
        "tex": {"albedo", "codes"},
    }
    for part, raised in expected.items():
        wrong = truth.clone()
        wrong[:, starts[part] : starts[part] + 2] += 0.2
        errors = objective(wrong, truth)
        assert {name for name, error in errors.items() if error * GOOD[name] > 1e-3} == raised, part


def test_an_error_of_a_tenth_of_a_radian_is_that(head: OpenHead, portraits: Portraits) -> None:
    codes = portraits.codes.replace(pose=torch.zeros(len(portraits), 6))
    truth = to_numbers(codes)
    wrong = truth.clone()
    wrong[:, 1] += 0.1
    torch.testing.assert_close(
        Objective(head)(wrong, truth)["rotation"], torch.tensor(0.1 / GOOD["rotation"]), rtol=0.01, atol=0
    )
