import copy
from typing import Any

import pytest
import torch

from drig.diffusion.deltas import Delta, attached, merged
from drig.diffusion.deltas.changes import LowRank
from drig.diffusion.network import Rig
from drig.errors import DrigError
from tests import parity
from tests.diffusion.deltas.conftest import Inputs, random_delta, tuned_rig


def hooks(rig: Rig) -> int:
    return sum(len(module._forward_hooks) for module in rig.modules())


def test_a_fresh_delta_changes_nothing_and_can_learn(rig: Rig, inputs: Inputs) -> None:
    delta, before = Delta.start(rig, 4, torch.Generator().manual_seed(0)), rig.denoise(*inputs)
    with attached(rig, delta):
        after = rig.denoise(*inputs)
    assert torch.equal(before, after)
    after.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in delta.named_parameters()}
    assert all(grad is not None for grad in gradients.values())
    assert all(bool(grad.any()) for name, grad in gradients.items() if grad is not None and name.endswith("up"))
    assert all(parameter.grad is None for parameter in rig.parameters())  # what makes training it cheap


def test_every_number_of_the_unet_can_change(rig: Rig) -> None:
    changed = Delta.start(rig, 1, torch.Generator()).changes
    names = {f"{layer}.{part}" for layer in changed for part in ("weight", "bias")}
    assert names == {name for name, _ in rig.denoisingUNet.named_parameters()}


def test_merged_and_attached_are_the_same(rig: Rig, inputs: Inputs) -> None:
    delta, merged = random_delta(rig, 1), copy.deepcopy(rig)
    delta.merge_into(merged)
    with attached(rig, delta):
        expected = rig.denoise(*inputs)
    assert (expected - rig.denoise(*inputs)).abs().max() > 0.1
    torch.testing.assert_close(merged.denoise(*inputs), expected, atol=1e-4, rtol=1e-4)


def test_the_rig_is_left_as_it_was(rig: Rig, inputs: Inputs) -> None:
    before = {name: tensor.clone() for name, tensor in rig.state_dict().items()}
    base = rig.denoise(*inputs)
    with attached(rig, random_delta(rig, 1)):
        assert rig.state_dict().keys() == before.keys()
    with pytest.raises(ZeroDivisionError), attached(rig, random_delta(rig, 1)):
        raise ZeroDivisionError
    assert hooks(rig) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in rig.state_dict().items())
    with attached(rig, None):
        assert torch.equal(rig.denoise(*inputs), base)


def test_a_batch_may_mix_people(rig: Rig, inputs: Inputs) -> None:
    """Of different ranks; each sample is as it is with its own person's delta alone."""
    ann, bob, cut = random_delta(rig, 1), random_delta(rig, 2, rank=7), Delta.between(rig, tuned_rig(rig), rank=2)
    people = [ann, bob, cut]
    alone = []
    for i, delta in enumerate(people):
        with attached(rig, delta):
            alone.append(rig.denoise(*(tensor[i : i + 1] for tensor in inputs)))
    with attached(rig, people):
        mixed = rig.denoise(*inputs)
    torch.testing.assert_close(mixed, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_merged_for_a_while_it_is_the_same_and_leaves_no_trace(rig: Rig, inputs: Inputs) -> None:
    delta, before = random_delta(rig, 1), {name: tensor.clone() for name, tensor in rig.state_dict().items()}
    places = {name: tensor.data_ptr() for name, tensor in rig.state_dict().items()}
    with attached(rig, delta):
        expected = rig.denoise(*inputs)
    with torch.no_grad(), merged(rig, delta):
        torch.testing.assert_close(rig.denoise(*inputs), expected, atol=1e-4, rtol=1e-4)
        with pytest.raises(DrigError, match="attached already"), attached(rig, delta):
            pass
    with pytest.raises(DrigError, match="give one of each"), merged(rig, delta):
        rig.denoise(*(each[: i + 1] for i, each in enumerate(inputs)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in rig.state_dict().items())
    assert places == {name: tensor.data_ptr() for name, tensor in rig.state_dict().items()}
    with merged(rig, None):
        assert not torch.allclose(rig.denoise(*inputs), expected, atol=0.1)


def test_a_mixed_batch_has_a_delta_for_each_sample(rig: Rig, inputs: Inputs) -> None:
    deltas = [random_delta(rig, 1)] * (len(inputs[0]) + 1)
    with attached(rig, deltas), pytest.raises(DrigError, match=f"for {len(deltas)} deltas"):
        rig.denoise(*inputs)


def test_it_can_be_compiled(rig: Rig) -> None:
    """A part of the UNet, which has all kinds of layers: the whole takes a minute."""
    part = rig.denoisingUNet.middle_block
    given = (parity.randn("features", 2, 64, 4, 4), parity.randn("embedding", 2, 128), parity.randn("code", 2, 8))
    with attached(rig, random_delta(rig, 1)), torch.no_grad():
        compiled: Any = torch.compile(part, backend="eager", fullgraph=True)
        expected = part(*given)
        torch.testing.assert_close(compiled(*given), expected)
    assert not torch.allclose(part(*given), expected, atol=0.1)


def test_autocast_keeps_its_type(rig: Rig, inputs: Inputs) -> None:
    with attached(rig, random_delta(rig, 1)), torch.autocast("cpu", torch.bfloat16):
        assert rig.denoise(*inputs).dtype == torch.bfloat16


def test_one_delta_at_a_time(rig: Rig) -> None:
    delta = random_delta(rig, 1)
    with attached(rig, delta), pytest.raises(DrigError, match="attached already"), attached(rig, delta):
        pass
    other = Rig(rig.config.__class__(**(vars(rig.config) | {"base_channels": 64})))
    with pytest.raises(DrigError, match="Use it with its own base"), attached(other, delta):
        pass
    with pytest.raises(DrigError, match="Use it with its own base"):
        delta.merge_into(other)
    with attached(rig, delta):  # a failed attempt left nothing behind
        pass


def test_a_difference_at_full_rank_is_exact(rig: Rig, inputs: Inputs) -> None:
    tuned, merged = tuned_rig(rig), copy.deepcopy(rig)
    Delta.between(rig, tuned, rank=10_000).merge_into(merged)
    for name, tensor in tuned.denoisingUNet.state_dict().items():
        torch.testing.assert_close(merged.denoisingUNet.state_dict()[name], tensor, atol=1e-6, rtol=0)


def test_a_difference_cut_to_a_rank_is_the_nearest_of_that_rank(rig: Rig) -> None:
    tuned = tuned_rig(rig)
    delta, before, after = Delta.between(rig, tuned, rank=3), rig.denoisingUNet, tuned.denoisingUNet
    assert delta.rank == 3
    for name, change in delta.changes.items():
        names = [f"{name}.{part}" for part in ("weight", "bias")]
        weight, bias = (after.get_parameter(each) - before.get_parameter(each) for each in names)
        assert torch.equal(change.bias, bias)
        if isinstance(change, LowRank):
            difference = weight.flatten(1)
            singular = torch.linalg.svdvals(difference)
            error = (difference - change.up @ change.down.flatten(1)).norm()
            torch.testing.assert_close(error, singular[3:].norm(), atol=1e-5, rtol=1e-4)


def test_what_cannot_be_cut_to_a_delta(rig: Rig) -> None:
    with pytest.raises(DrigError, match="give 1 or more"):
        Delta.between(rig, rig, rank=0)
    drifted = copy.deepcopy(rig)
    drifted.get_buffer("encoder.bn1.running_mean").add_(1e-3)
    with pytest.raises(DrigError, match="differ in more than their UNets"):
        Delta.between(rig, drifted, rank=1)
