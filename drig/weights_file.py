"""What a weights file says of itself, in its header: found without PyTorch."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from drig.errors import DrigError


def rig_size(weights: Path) -> int:
    """Side of its portraits in pixels, of a rig or a delta. Raises DrigError for any other file."""
    try:
        return int(json.loads(_header(weights)["config"])["size"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise DrigError(
            f"{weights} is not the weights of a rig ({type(error).__name__}: {error}); give the .safetensors file that "
            f"training wrote"
        ) from None


def base_of(weights: Path) -> str | None:
    """`content_hash` of the base rig that a delta is over; None for a whole rig."""
    return _header(weights).get("base")


def _header(weights: Path) -> dict[str, str]:
    with safe_open(weights, framework="np") as file:
        return dict(file.metadata())
