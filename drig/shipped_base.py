"""The base rig that drig ships: stage 1 on synthetic people, 64 px (MODEL_CARD.md). `make base` makes it again."""

from pathlib import Path

SHIPPED_BASE = Path(__file__).parent / "assets" / "base.safetensors"
"""Its weights."""
