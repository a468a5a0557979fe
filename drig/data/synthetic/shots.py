"""One photo of a person: pose, expression, light, camera, clothes and background."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from drig.data.synthetic.arrays import Array
from drig.data.synthetic.backgrounds import Background, sample_background
from drig.data.synthetic.bodies import Clothing, sample_clothing
from drig.data.synthetic.expressions import sample_expression
from drig.data.synthetic.lights import Light, sample_light
from drig.errors import DrigError
from drig.faces.codes import EDIT_MODES
from drig.randomness import numpy_generator

if TYPE_CHECKING:
    from drig.data.synthetic.people import Person


@dataclass(frozen=True)
class Camera:
    """Lens, framing and sensor."""

    distance: float
    """From the face, metres: the nearer, the larger the nose."""
    shift: tuple[float, float]
    """Error of the framing, in half crop sides: landmarks that frame a photo are never exact."""
    scale: float
    """Error of the framing's size, a factor."""
    turn: float
    """Error of its angle, radians."""
    blur: float
    """Standard deviation of the lens's blur, in pixels of a 256 px portrait."""
    noise: float
    """Standard deviation of the sensor's noise in the dark, of the display range."""
    vignette: float
    """Loss of light in the corners."""


@dataclass(frozen=True, eq=False)
class Shot:
    """What differs between two photos of one person."""

    index: int
    seed: int
    """Of the sensor's noise."""
    pose: tuple[float, float, float]
    """Yaw to the image's right, pitch up and roll counter-clockwise, in degrees, before the crop takes the roll out."""
    torso: float
    """Yaw of the shoulders, degrees."""
    expression: Array
    """(E,) strengths of the head's actions."""
    light: Light
    camera: Camera
    clothing: Clothing
    background: Background
    upright_from: "Shot | None" = None
    """The photo whose crop says how far the head is turned in the picture; None: this one."""
    sized_from: "Shot | None" = None
    """The photo whose crop says how large the head is in the picture; None: this one."""

    def with_attributes(self, other: "Shot", modes: Collection[str]) -> Self:
        """This photo with another's light, exp or pose: what an edit with these modes should look like (SPEC 6).

        An edit leaves the camera alone, so the head keeps the size it has in this photo. It takes over the codes' head
        rotation, so with `pose` the head leans in the picture as it does in the other photo.
        """
        unknown = sorted(set(modes) - set(EDIT_MODES))
        if unknown or isinstance(modes, str):
            raise DrigError(f"cannot take {modes} from another shot; give a list with any of {', '.join(EDIT_MODES)}")
        posed = other if "pose" in modes else self
        return replace(
            self,
            pose=posed.pose,
            upright_from=posed.upright_from or posed,
            sized_from=self.sized_from or self,
            expression=(other if "exp" in modes else self).expression,
            light=(other if "light" in modes else self).light,
        )


def sample_shot(person: "Person", index: int) -> Shot:
    """Photo `index` of a person: the same whichever other photos are made."""
    rng = numpy_generator(person.seed, "shot", person.index, index)
    # Most people look at the camera; few turn far away.
    yaw = float(np.clip(rng.normal(0, 15), -36, 36)) if rng.random() < 0.8 else float(rng.uniform(-36, 36))
    pitch = float(np.clip(rng.normal(0, 7), -18, 18))
    roll = float(np.clip(rng.normal(0, 6), -18, 18))
    expression = sample_expression(person.expression_names, yaw, pitch, rng)
    return Shot(
        index=index,
        seed=int(rng.integers(1 << 31)),
        pose=(yaw, pitch, roll),
        torso=yaw * float(rng.uniform(0.1, 0.6)) + float(rng.normal(0, 8)),
        expression=expression,
        light=sample_light(rng),
        camera=_sample_camera(rng),
        clothing=sample_clothing(rng),
        background=sample_background(rng),
    )


def _sample_camera(rng: np.random.Generator) -> Camera:
    x, y = rng.normal(0, 0.008, 2)
    return Camera(
        distance=float(rng.uniform(1.2, 3.0)),
        shift=(float(x), float(y)),
        scale=float(np.exp(rng.normal(0, 0.012))),
        turn=float(rng.normal(0, 0.012)),
        blur=float(rng.uniform(0.25, 0.7)),
        noise=float(0.003 + 0.012 * rng.random() ** 3),
        vignette=float(rng.uniform(0, 0.2)),
    )
