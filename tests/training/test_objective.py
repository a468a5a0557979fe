import torch
from torch import Tensor

from drig.diffusion.deltas import Delta, attached
from drig.diffusion.loss import p2_loss
from drig.training.objective import Objective, frozen_codes
from tests.training.conftest import small_dataset, small_rig


def batch() -> dict[str, Tensor]:
    items = small_dataset(4)
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.stack([item["image"] for item in items]),
        "buffers": torch.stack([item["buffers"] for item in items]),
        "noise": torch.randn(4, 3, 8, 8, generator=generator),
        "timestep": torch.tensor([0, 300, 600, 999]),
    }


def test_it_is_the_weighted_error_of_the_predicted_noise() -> None:
    objective = Objective(small_rig(), train_encoder=True, autocast=None).eval()
    items, rig, schedule = batch(), objective.rig, objective.schedule
    torch.nn.init.normal_(rig.get_parameter("denoisingUNet.out.2.weight"))  # zero at first, which predicts no noise
    x_t = schedule.q_sample(items["image"], items["timestep"], items["noise"])
    predicted = rig(x_t, items["timestep"], items["buffers"], items["image"])  # the code is that of the clean photo
    expected = p2_loss(schedule, items["noise"], predicted, items["timestep"])
    losses = objective(**items)
    assert losses.shape == (4,)
    torch.testing.assert_close(losses, expected)


def test_the_background_may_count_less_than_the_head() -> None:
    """A head over the upper half: its error counts whole, that of the rest a quarter, and both are one mean."""
    items = batch()
    items["buffers"][:, 3:6] = 0
    items["buffers"][:, 5, :4] = 1
    objective = Objective(small_rig(), train_encoder=True, autocast=None, p2_k=0, background_weight=0.25).eval()
    alpha_bar = objective.schedule.at(items["timestep"])
    error = items["noise"].square().mean(1)  # (N, H, W): a fresh rig predicts no noise
    mean = (error[:, :4].mean((1, 2)) + 0.25 * error[:, 4:].mean((1, 2))) / 1.25
    torch.testing.assert_close(objective(**items), ((1 - alpha_bar) / alpha_bar).float() * mean)


def test_a_borrowed_code_answers_for_the_head_alone() -> None:
    items = batch()
    items["buffers"][:, 3:6] = 0
    items["buffers"][:, 5, :4] = 1
    objective = Objective(small_rig(), train_encoder=False, autocast=None, p2_k=0, background_weight=0.25).eval()
    alpha_bar = objective.schedule.at(items["timestep"])
    error = items["noise"].square().mean(1)  # (N, H, W)
    head, beside = error[:, :4].mean((1, 2)), error[:, 4:].mean((1, 2))
    borrowed = torch.tensor([True, False, True, False])
    expected = ((1 - alpha_bar) / alpha_bar).float() * head.where(borrowed, (head + 0.25 * beside) / 1.25)
    torch.testing.assert_close(objective(**items, borrowed=borrowed), expected)
    items["buffers"][0, 3:6] = 0  # no head to answer for
    assert objective(**items, borrowed=borrowed)[0] == 0


def test_a_frozen_encoder_is_in_eval_mode_and_has_no_gradient() -> None:
    objective = Objective(small_rig(), train_encoder=False, autocast=None).train()
    encoder = objective.rig.encoder
    assert objective.rig.denoisingUNet.training
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    objective(**batch()).sum().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_an_encoder_frozen_before_trains_again() -> None:
    rig = small_rig()
    Objective(rig, train_encoder=False, autocast=None).train()
    Objective(rig, train_encoder=True, autocast=None).train()
    assert all(module.training for module in rig.encoder.modules())
    assert all(parameter.requires_grad for parameter in rig.encoder.parameters())


def test_with_a_delta_nothing_else_has_a_gradient() -> None:
    """Neither time nor memory goes into gradients of the base."""
    rig = small_rig()
    delta = Delta.start(rig, 2, torch.Generator().manual_seed(0))
    objective = Objective(rig, train_encoder=False, autocast=None, delta=delta).train()
    torch.nn.init.normal_(rig.get_parameter("denoisingUNet.out.2.weight"))
    with attached(rig, delta):
        objective(**batch()).sum().backward()
    assert {p for p in objective.parameters() if p.grad is not None} == set(delta.parameters())


def test_codes_known_beforehand_give_the_same_losses() -> None:
    rig = small_rig().train()
    codes = frozen_codes(rig, small_dataset(4), batch=3)  # type: ignore[arg-type]
    objective = Objective(rig, train_encoder=False, autocast=None).eval()
    torch.nn.init.normal_(rig.get_parameter("denoisingUNet.out.2.weight"))
    torch.testing.assert_close(objective(**batch(), code=codes), objective(**batch()))
