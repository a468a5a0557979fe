"""Edits by explicit numbers."""

import pytest
import torch

from drig.errors import DrigError
from drig.faces.codes import FaceCodes
from drig.faces.controls import Controls, apply_controls, head_angles
from drig.faces.expressions import EXPRESSIONS
from drig.faces.head import neutral_codes
from drig.faces.lighting import shade
from drig.faces.open_head import OpenHead

NAMES = ("jawOpen", "mouthSmileLeft")


@pytest.fixture(scope="module")
def codes() -> FaceCodes:
    return neutral_codes(OpenHead.load())


def test_angles_are_set_absolutely_and_the_others_stay(codes: FaceCodes) -> None:
    turned = apply_controls(codes, Controls(yaw=20, pitch=-10, roll=5), ())
    assert head_angles(turned)[0] == pytest.approx([20, -10, 5], abs=1e-3)
    assert head_angles(apply_controls(turned, Controls(yaw=-30), ()))[0] == pytest.approx([-30, -10, 5], abs=1e-3)


def test_positive_yaw_looks_to_the_images_right_and_positive_pitch_up(codes: FaceCodes) -> None:
    head = OpenHead.load()

    def nose_tip(controls: Controls) -> torch.Tensor:
        moved = apply_controls(codes, controls, ())
        return head.landmarks(moved, head.vertices(moved))[0, 30]

    rest = nose_tip(Controls())
    assert nose_tip(Controls(yaw=20))[0] > rest[0] + 0.01
    assert nose_tip(Controls(pitch=20))[1] > rest[1] + 0.01


def test_a_roll_turns_counter_clockwise_in_the_image(codes: FaceCodes) -> None:
    head = OpenHead.load()
    rolled = apply_controls(codes, Controls(roll=20), ())
    eyes = head.landmarks(rolled, head.vertices(rolled))[0, [36, 45]]  # image left, image right
    assert eyes[1, 1] > eyes[0, 1] + 0.01


def test_a_lamp_lights_the_side_it_stands_on(codes: FaceCodes) -> None:
    lit = apply_controls(codes, Controls(light_direction=(1, 0, 0), light_colour=(1, 0.5, 0)), ())
    right, left = shade(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]), lit.light[0])
    assert right[0] > left[0] + 0.5
    assert right[0] > right[1] > right[2]


def test_a_whole_light_replaces_the_sources(codes: FaceCodes) -> None:
    light = torch.linspace(-1, 1, 27).view(9, 3)
    lit = apply_controls(codes, Controls(light_sh=tuple(tuple(row) for row in light.tolist())), ())
    torch.testing.assert_close(lit.light, light.expand_as(codes.light))
    assert torch.equal(lit.pose, codes.pose)


def test_turning_the_light_moves_it_to_the_images_right(codes: FaceCodes) -> None:
    front = apply_controls(codes, Controls(light_direction=(0, 0, 1)), ())
    turned = apply_controls(front, Controls(light_turn=90), ())
    right = torch.tensor([[1.0, 0, 0]])
    assert torch.allclose(shade(right, turned.light[0]), shade(right.roll(2), front.light[0]), atol=1e-5)


def test_named_actions_are_set_and_the_rest_stays(codes: FaceCodes) -> None:
    codes = codes.replace(exp=torch.full((1, 2), 0.25))
    smiling = apply_controls(codes, Controls(expression={"mouthSmileLeft": 1}), NAMES)
    assert smiling.exp.tolist() == [[0.25, 1.0]]
    assert codes.exp.tolist() == [[0.25, 0.25]]


def test_a_mood_replaces_the_expression_but_for_the_gaze(codes: FaceCodes) -> None:
    names = OpenHead.load().expression_names
    codes = codes.replace(exp=torch.full((1, len(names)), 0.25))
    mood = dict(zip(names, apply_controls(codes, Controls(mood="wink"), names).exp[0].tolist(), strict=True))
    assert mood["eyeBlinkLeft"] == pytest.approx(0.95)
    assert mood["jawOpen"] == mood["eyeBlinkRight"] == 0
    assert mood["eyeLookUpLeft"] == 0.25
    both = apply_controls(codes, Controls(mood="rest", expression={"jawOpen": 0.5}), names)
    assert both.exp[0, names.index("jawOpen")] == 0.5


@pytest.mark.parametrize("mood", EXPRESSIONS)
def test_the_open_head_has_every_action_of_every_mood(codes: FaceCodes, mood: str) -> None:
    names = OpenHead.load().expression_names
    made = apply_controls(codes.replace(exp=torch.zeros(1, len(names))), Controls(mood=mood), names)
    assert sum(made.exp[0] > 0) == len(EXPRESSIONS[mood])


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"mood": "happy"}, "choose from rest, smile"),
        ({"expression": {"smile": 0.5}}, "jawOpen, mouthSmileLeft"),
        ({"expression": {"jawOpen": 1.5}}, "0 .rest. to 1"),
        ({"yaw": 120}, "-90 to 90"),
        ({"pitch": float("nan")}, "-90 to 90"),
        ({"light_direction": (0, 0, 0)}, "non-zero"),
        ({"light_direction": (0, 0, 1), "light_turn": 10}, "light_direction and light_turn each say"),
        ({"light_sh": ((0, 0, 0),) * 9, "light_turn": 10}, "light_turn and light_sh each say"),
        ({"light_sh": ((0, 0, 0),) * 8}, "give 9 of 3"),
        ({"light_sh": ((0, 0, float("inf")),) * 9}, "finite"),
        ({"light_intensity": 0.5}, "give light_direction too"),
        ({"light_colour": (1, 0, 0), "light_turn": 10}, "give light_direction too"),
    ],
)
def test_impossible_controls_say_what_is_allowed(codes: FaceCodes, controls: dict[str, object], message: str) -> None:
    with pytest.raises(DrigError, match=message):
        apply_controls(codes.replace(exp=torch.zeros(1, 2)), Controls(**controls), NAMES)  # type: ignore[arg-type]
