"""What a stage 1 run shows of itself on the way."""

from collections.abc import Sequence
from pathlib import Path

import torch

from drig import logs, storage
from drig.data.items import Item
from drig.data.photos import save_png, to_photo
from drig.diffusion.samplers import ddim
from drig.diffusion.weights import load_weights
from drig.pictures import contact_sheet, to_picture
from drig.randomness import torch_generator
from drig.tracking import Run
from drig.training.config import TrainingConfig
from drig.training.objective import Objective
from pipelines.progress import Board
from pipelines.ray_checkpoints import CheckpointUpload

GRID_TIMESTEPS = (125, 375, 625, 875)
"""The middle of each quarter: where checkpoints are measured."""


class Reporter:
    """Where the loop's reports go: the progress bar and MLflow, sample grids, checkpoints to the run's folder."""

    def __init__(
        self,
        place: str,
        training: TrainingConfig,
        run: Run,
        board: Board,
        fixed: Sequence[Item],
        device: torch.device,
    ) -> None:
        """place: the run's folder. fixed: the portraits that every checkpoint reconstructs and is measured on."""
        self.place, self.training = place, training
        self.run, self.board = run, board
        self.fixed, self.device = fixed, device
        self.upload = CheckpointUpload(place)

    def progress(self, samples: int, metrics: dict[str, float]) -> None:
        self.board.put({"stage1": samples}, {"loss": f"{metrics['loss']:.4f}"})
        self.run.log_metrics(metrics, samples=samples)

    def checkpoint(self, folder: Path | None, samples: int, metrics: dict[str, float]) -> None:
        """Called on every rank, since Ray Train waits for all; `folder` is rank 0's alone."""
        loss = self._look(folder, samples) if folder is not None and self.fixed else None
        measured = metrics if loss is None else {**metrics, "loss_grid": loss}
        self.upload.report(folder, f"checkpoint_{samples:012d}", {**measured, "samples_seen": samples}, loss)

        if folder is not None:
            logs.event("checkpoint", place=self.place, samples=samples, loss=metrics.get("loss"))

    @torch.no_grad()
    def _look(self, folder: Path, samples: int) -> float:
        """Log what the weights that a user would get make of the fixed portraits, from the same noise every time.

        Returns their loss, at the same timesteps every time.
        """
        averaged, config = folder / "ema.safetensors", self.training
        rig = load_weights(averaged if averaged.exists() else folder / "rig.safetensors").rig.to(self.device)
        objective = Objective(
            rig, train_encoder=False, autocast=None, p2_k=config.p2_k, background_weight=config.background_weight
        ).eval()
        image = torch.stack([item["image"] for item in self.fixed]).to(self.device)  # (N, 3, S, S)
        buffers = torch.stack([item["buffers"] for item in self.fixed]).to(self.device)  # (N, 9, S, S)
        noise = torch.randn(image.shape, generator=torch_generator(config.seed, "grid")).to(self.device)
        code = rig.encode(image)  # (N, Z)
        losses = [
            objective(image, buffers, noise, torch.full((len(image),), t, device=self.device), code)
            for t in GRID_TIMESTEPS
        ]
        loss = torch.stack(losses).mean().item()
        self.run.log_metrics({"loss_grid": loss}, samples=samples)
        made = ddim(rig, noise, buffers, code)  # (N, 3, S, S)
        rows = [[*to_photo(image)], [to_picture(b[:3]) for b in buffers], [*to_photo(made)]]
        sheet = contact_sheet(rows, labels=["portrait", "rendered", "reconstruction"])
        save_png(storage.join(self.place, "samples", f"{samples:012d}.png"), sheet)
        self.run.log_image(f"samples/{samples:012d}", sheet)
        return loss
