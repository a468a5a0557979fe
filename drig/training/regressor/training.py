"""The regressor's training: AdamW on a cosine schedule, on random variations of synthetic portraits.

Up to float error the result is a function of the portraits, the seed and the number of samples, however often the
training was interrupted: it goes on from its last checkpoint.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from drig.faces.open_head import OpenHead
from drig.faces.regressor import Regressor, Sizes, to_numbers
from drig.randomness import torch_generator
from drig.training.regressor.objective import Objective
from drig.training.regressor.portraits import Portraits
from drig.training.regressor.variations import Variations

BATCH = 64
RATE, WARM_UP, WEIGHT_DECAY = 1.5e-3, 200, 1e-2
CLIP = 5.0
"""Largest norm of the gradient."""
SAVE_EVERY = 100
"""Steps."""


@dataclass
class _State:
    model: Regressor
    optimizer: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path) -> None:
        moments = {
            f"optimizer.{name}.{key}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }
        model = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        temporary = path.with_suffix(".tmp")
        tensors = {**model, **moments, "step": torch.tensor(self.step)}
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        tensors = load_file(path)
        self.step = int(tensors["step"])
        self.model.load_state_dict({n[6:]: v for n, v in tensors.items() if n.startswith("model.")})
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter] = {
                key: tensors[f"optimizer.{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")
            }


def train(head: OpenHead, portraits: Portraits, samples: int, seed: int, checkpoint: Path) -> Regressor:
    """The network after `samples` random variations of the portraits, in eval mode."""
    torch.manual_seed(seed)
    sizes = Sizes(head.shape_size, head.exp_size, head.tex_size)
    model = Regressor(sizes)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    truth = to_numbers(portraits.codes)
    model.mean.copy_(truth.mean(0))
    model.spread.copy_(truth.std(0).clamp(min=0.01))
    model.mean_points.copy_(portraits.landmarks.nanmean(0))
    state = _State(model, torch.optim.AdamW(model.parameters(), RATE, weight_decay=WEIGHT_DECAY))
    if checkpoint.exists():
        state.restore(checkpoint)
    objective, vary = Objective(head), Variations(head)
    steps = samples // BATCH
    model.train()
    recent: dict[str, float] = {}
    with tqdm(total=steps, initial=state.step, unit="step", desc="regressor") as bar:
        while state.step < steps:
            batch = _batch(portraits, vary, seed, state.step)
            for group in state.optimizer.param_groups:
                group["lr"] = _rate(state.step, steps)
            errors = objective(model(batch.images, batch.landmarks), to_numbers(batch.codes))
            state.optimizer.zero_grad()
            torch.stack(list(errors.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            state.optimizer.step()
            state.step += 1
            recent = {name: 0.98 * recent.get(name, e.item()) + 0.02 * e.item() for name, e in errors.items()}
            if state.step % SAVE_EVERY == 0 or state.step == steps:
                state.save(checkpoint)
                bar.write(f"{state.step:6d}  " + "  ".join(f"{name} {value:.2f}" for name, value in recent.items()))
            bar.update()
    return model.eval()


def _batch(portraits: Portraits, vary: Variations, seed: int, step: int) -> Portraits:
    epoch, place = divmod(step, len(portraits) // BATCH)  # the rest of an epoch is left out
    order = torch.randperm(len(portraits), generator=torch_generator(seed, "order", epoch))
    chosen = portraits[order[place * BATCH : (place + 1) * BATCH]]
    chosen = replace(chosen, images=chosen.images.float() / 255)
    return vary(chosen, torch_generator(seed, "variations", step))


def _rate(step: int, steps: int) -> float:
    return RATE * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-6
