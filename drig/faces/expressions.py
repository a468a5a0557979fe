"""Whole expressions by name, as strengths of the 52 facial actions that ARKit names and the open head has."""

from collections.abc import Mapping
from types import MappingProxyType

# Strengths at full expression. A name without a side stands for its Left and Right twins.
_ACTIONS: dict[str, dict[str, float]] = {
    "rest": {},
    "smile": {"mouthSmile": 0.75, "cheekSquint": 0.35, "eyeSquint": 0.2, "mouthDimple": 0.2},
    "grin": {"mouthSmile": 0.9, "cheekSquint": 0.5, "eyeSquint": 0.3, "mouthUpperUp": 0.5, "mouthLowerDown": 0.4},
    "laugh": {"mouthSmile": 0.9, "cheekSquint": 0.7, "eyeSquint": 0.5, "jawOpen": 0.4, "mouthUpperUp": 0.4},
    "talk a": {"jawOpen": 0.4, "mouthLowerDown": 0.25, "mouthUpperUp": 0.15},
    "talk e": {"jawOpen": 0.18, "mouthStretch": 0.4, "mouthLowerDown": 0.3},
    "talk o": {"jawOpen": 0.3, "mouthFunnel": 0.6},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.7, "jawOpen": 0.45},
    "frown": {"browDown": 0.8, "eyeSquint": 0.3, "mouthFrown": 0.4, "mouthPress": 0.3},
    "anger": {"browDown": 0.9, "noseSneer": 0.5, "eyeSquint": 0.3, "mouthUpperUp": 0.35, "mouthLowerDown": 0.3},
    "sad": {"browInnerUp": 0.8, "mouthFrown": 0.7, "mouthShrugLower": 0.4, "eyeSquint": 0.15},
    "squint": {"eyeSquint": 0.9, "cheekSquint": 0.5, "browDown": 0.3},
    "pucker": {"mouthPucker": 0.8, "mouthFunnel": 0.15},
    "disgust": {"noseSneer": 0.8, "mouthUpperUp": 0.4, "browDown": 0.4, "cheekSquint": 0.3},
    "smirk": {"mouthSmileLeft": 0.7, "mouthDimpleLeft": 0.3, "cheekSquintLeft": 0.2, "browOuterUpRight": 0.2},
    "doubt": {"browOuterUpLeft": 0.7, "browDownRight": 0.4, "mouthLeft": 0.3, "mouthPress": 0.3},
    "puff": {"cheekPuff": 0.8, "mouthPress": 0.3},
    "blink": {"eyeBlink": 0.95},
    "wink": {"eyeBlinkLeft": 0.95, "mouthSmile": 0.5, "cheekSquintLeft": 0.6},
}


def both_sides(actions: Mapping[str, float]) -> dict[str, float]:
    """Actions, those that the head has a left and a right of named without a side -> the names of the head."""
    paired = ("mouthSmile", "cheekSquint", "eyeSquint", "mouthDimple", "mouthUpperUp", "mouthLowerDown", "mouthStretch",
              "browOuterUp", "browDown", "eyeWide", "mouthFrown", "mouthPress", "noseSneer", "eyeBlink")  # fmt: skip
    both: dict[str, float] = {}
    for action, strength in actions.items():
        for name in (action + "Left", action + "Right") if action in paired else (action,):
            both[name] = strength
    return both


EXPRESSIONS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {name: both_sides(actions) for name, actions in _ACTIONS.items()}
)
"""Name -> action -> strength, 0 (rest) .. 1 (full). An action that is not named is at rest."""
GAZE = "eyeLook"
"""How the actions begin that turn the eyes: where somebody looks is not part of an expression."""
