"""Training for as long as photos that it does not see are reconstructed better."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drig import storage
from drig.training.loop import TrainingResult


def train_while_better(
    train_to: Callable[[int], TrainingResult],
    measure: Callable[[Path], float],
    *,
    total: int,
    every: int,
    folder: Path,
) -> TrainingResult:
    """Train in stretches of `every` samples until one makes the weights no better, or `total` is reached.

    The result is that of the best stretch, its weights in `folder`/best.safetensors.

    train_to(samples): train on, to so many samples in all, or less when time is up, which is then the end.
    measure(weights): larger is better.
    Called again after an interruption it goes on: `folder`/curve.json has the stretches that were measured.
    """
    record, weights = folder / "curve.json", folder / "best.safetensors"
    curve: list[dict[str, Any]] = json.loads(record.read_text()) if record.exists() else []
    cut_short = False
    while True:
        best = max(curve, key=lambda point: point["value"], default=None)
        if best and (best is not curve[-1] or best["samples"] >= total or cut_short):
            return TrainingResult(weights, best["samples"], best["metrics"])
        samples = min((len(curve) + 1) * every, total)
        result = train_to(samples)
        cut_short = result.samples_seen < samples
        assert result.weights is not None, "nothing asks the loop to stop in between"
        value = measure(result.weights)
        if best is None or value > best["value"]:
            storage.upload_file(result.weights, weights)
        curve.append({"samples": result.samples_seen, "value": value, "metrics": result.metrics})
        storage.write_bytes(record, json.dumps(curve, indent=2).encode())
