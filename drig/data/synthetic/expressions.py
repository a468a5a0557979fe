"""Expressions as combinations of the 52 facial actions that people actually make."""

from collections.abc import Sequence

import numpy as np

from drig.data.synthetic.arrays import Array
from drig.faces.expressions import EXPRESSIONS, both_sides

_CHANCES = {
    **{"rest": 0.15, "smile": 0.2, "grin": 0.15, "laugh": 0.08, "talk a": 0.06, "talk e": 0.05, "talk o": 0.04},
    **{"surprise": 0.05, "frown": 0.04, "anger": 0.02, "sad": 0.03, "squint": 0.02, "pucker": 0.03, "disgust": 0.02},
    **{"smirk": 0.03, "doubt": 0.02, "puff": 0.005, "blink": 0.02, "wink": 0.01},
}
_EYE_TURN = (14.0, 10.0)  # degrees by which a full eyeLook action turns an eye, sideways and up or down


def sample_expression(names: Sequence[str], yaw: float, pitch: float, rng: np.random.Generator) -> Array:
    """(E,) strengths in [0, 1] of the head's actions `names`: a mood, mostly mild, small noise, and a gaze.

    yaw, pitch: of the head in degrees. People mostly look at the camera, as far as their eyes can turn.
    """
    moods = list(_CHANCES)
    chances = np.array(list(_CHANCES.values()))
    strengths: dict[str, float] = {}
    for share in (1.0, 0.25):  # a trace of a second mood keeps one mood from always looking the same
        mood = EXPRESSIONS[moods[rng.choice(len(moods), p=chances / chances.sum())]]
        amount = share * (0.35 + 0.65 * rng.beta(1.6, 1.4))
        for action, strength in mood.items():
            strengths[action] = strengths.get(action, 0.0) + amount * strength * rng.uniform(0.85, 1.15)
    for action, strength in {
        "browInnerUp": 0.12,
        "eyeWide": 0.2,
        "jawOpen": 0.03,
        "mouthPress": 0.1,
        "mouthShrugLower": 0.1,
    }.items():
        for name in both_sides({action: strength}):
            strengths[name] = strengths.get(name, 0.0) + abs(rng.normal(0, strength))
    contact = 1.0 if rng.random() < 0.8 else 0.2
    across = -contact * yaw / _EYE_TURN[0] + rng.normal(0, 0.15 if contact == 1 else 0.5)
    up = -contact * pitch / _EYE_TURN[1] + rng.normal(-0.05, 0.12 if contact == 1 else 0.3)
    for name, strength in _gaze(across, up).items():
        strengths[name] = strengths.get(name, 0.0) + strength
    if rng.random() < 0.15:
        strengths.update({name: strengths.get(name, 0.0) + rng.uniform(0, 0.35) for name in ("eyeBlinkLeft",)})
        strengths["eyeBlinkRight"] = max(strengths.get("eyeBlinkRight", 0.0), strengths["eyeBlinkLeft"])
    return np.array([min(max(strengths.get(name, 0.0), 0.0), 1.0) for name in names], np.float32)


def _gaze(across: float, up: float) -> dict[str, float]:
    """Both eyes towards the image's right (across > 0) and up."""
    look = {"eyeLookOutLeft": across, "eyeLookInRight": across, "eyeLookInLeft": -across, "eyeLookOutRight": -across}
    for side in ("Left", "Right"):
        look |= {f"eyeLookUp{side}": up, f"eyeLookDown{side}": -up}
    return {name: min(strength, 1.0) for name, strength in look.items() if strength > 0}
